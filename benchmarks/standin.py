# SPDX-License-Identifier: Apache-2.0
"""Make a stand-in of the whole benchmark, with the real numbers and layout and drawn pictures.

14,930 yes/no and 7,510 open questions about 7,510 pictures: Visual Genome's as 800 x 600 JPEG in
two zip files, SPEC's as 512 x 512 JPEG in one, DALL-E's as 1024 x 1024 PNG in a folder. About 3 GB;
20 MB if small. With `padded` 10, ten members that no question needs follow each picture in
the zip files, about as in the published ones: 56,000 members of Visual Genome and 13,000 of SPEC,
9 GB. They are zeros, as holes of sparse files, which take little of the disk.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from itertools import chain, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from PIL import Image

import mmrel
from benchmarks.draw_data import ask
from mmrel_kit.questions.published import read_published
from mmrel_kit.questions.records import Triplet

# Corrections to the paper's rounded numbers of yes/no and open questions, so that its sums hold.
ROUNDED = {("dalle", "spatial"): (10, 0), ("dalle", "action"): (0, -20)}
STYLES = ("", "_photo-realistic", "_watercolor", "_abstract", "_oil-painting")
# 12 kinds of 67 things make the paper's 804 objects.
KINDS = """
red blue old small wooden wet young wild striped bright broken plain
""".split()
THINGS = """
airplane apple bag ball banana bear bed bench bicycle bird boat book bottle bowl box bridge bus cake
camel candle car cat chair clock cow crab cup desk dog door duck elephant fish flower fork fox frog
giraffe goat guitar hat horse kite knife lamp lion man monkey mouse orange owl panda pencil piano
pizza plate rabbit robot shark sheep shoe snake sofa table tiger tree truck
""".split()
VERBS = """
bite carry catch chase climb draw drink drive eat feed fight follow hold hug jump kick kiss lift
paint play pull push read ride shake sniff throw touch wash wear
""".split()
OPPOSITES = {
    "spatial": (("left", "right"), ("right", "left"), ("above", "under"), ("on", "under")),
    "comparative": (("bigger", "smaller"), ("smaller", "bigger")),
}
NAMES = [f"{kind} {thing}" for kind, thing in product(KINDS, THINGS)]
PIXELS = {"real": (800, 600), "sdxl": (512, 512), "dalle": (1024, 1024)}
SMALL = {"real": (40, 30), "sdxl": (32, 32), "dalle": (32, 32)}
CANVAS = 2400  # pixels of a texture's side; pictures are cut from textures
BATCH = 50  # pictures that a worker draws at once


class PictureToDraw(NamedTuple):
    """A picture to draw: its path, which is also its seed, and its width and height in pixels."""

    path: str
    pixels: tuple[int, int]


def make_standin(
    folder: Path, copies: int = 1, small: bool = False, workers: int = 2, padded: int = 0
) -> list[str]:
    """Make the stand-in in a folder.

    `copies` multiplies the numbers of questions and pictures; `small` pictures have about 1 kB.
    In the zip files, `padded` members that no question needs follow each picture.

    Returns:
        The arguments of `mmrel build --images`.
    """
    (folder / "json").mkdir(parents=True, exist_ok=True)
    drawn = list(_write_questions(folder / "json", copies, SMALL if small else PIXELS))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        batches = [drawn[start : start + BATCH] for start in range(0, len(drawn), BATCH)]
        _write_pictures(folder, chain.from_iterable(pool.map(draw_batch, batches)), padded)
    return list_images(folder)


def list_images(folder: Path) -> list[str]:
    """Return the arguments of `mmrel build --images` for a stand-in."""
    return [
        f"real={folder / 'images.zip'}",
        f"real={folder / 'images2.zip'}",
        f"sdxl={folder / 'data.zip'}",
        f"dalle={folder}",
    ]


def count_questions(domain: str, category: str) -> list[int]:
    """Return the numbers of yes/no and of open questions of a cell."""
    whole = read_published().whole
    counts = []
    for task, more in zip(mmrel.TASKS, ROUNDED.get((domain, category), (0, 0)), strict=True):
        counts.append(round(whole[task][domain][category] * 1000) + more)
    return counts


def draw_batch(batch: Sequence[PictureToDraw]) -> list[tuple[str, bytes]]:
    """Draw pictures, each a part of a texture; the path seeds it, so that no two are the same."""
    made = []
    for path, (width, height) in batch:
        rng = random.Random(path)
        is_png = path.endswith(".png")
        canvas = _make_canvas(rng.randrange(4), is_png)
        x, y = rng.randrange(CANVAS - width), rng.randrange(CANVAS - height)
        picture = canvas.crop((x, y, x + width, y + height))
        picture = picture.transpose(Image.Transpose(rng.randrange(5)))
        if picture.size != (width, height):
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        picture.putpixel((0, 0), tuple(rng.randbytes(3)))
        buffer = io.BytesIO()
        if is_png:
            picture.save(buffer, "PNG", compress_level=1)
        else:
            picture.save(buffer, "JPEG", quality=88)
        made.append((path, buffer.getvalue()))
    return made


@cache
def _make_canvas(seed: int, is_png: bool) -> Image.Image:
    """Make a texture that compresses about like photographs, or for PNG like DALL-E's pictures."""
    rng = random.Random(seed)
    canvas = Image.new("RGB", (CANVAS, CANVAS), "gray")
    fine = ((1200, 0.1), (CANVAS, 0.012)) if is_png else ((1200, 0.16), (CANVAS, 0.05))
    for cells, weight in ((12, 0.9), (60, 0.5), (300, 0.35), *fine):
        layer = Image.frombytes("RGB", (cells, cells), rng.randbytes(cells * cells * 3))
        layer = layer.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)
        canvas = Image.blend(canvas, layer, weight)
    return canvas


def _write_questions(
    folder: Path, copies: int, pixels: dict[str, tuple[int, int]]
) -> Iterator[PictureToDraw]:
    """Write the questions of all cells; yield their pictures."""
    with ExitStack() as stack:
        files: dict[str, TextIO] = {}
        for split in mmrel.SPLITS:
            file = open(folder / f"{split}.jsonl", "w", encoding="utf-8")  # noqa: SIM115
            files[split] = stack.enter_context(file)
        for domain, categories in read_published().whole["discriminative"].items():
            for category in categories:
                for path in _write_cell(files, domain, category, copies):
                    yield PictureToDraw(path, pixels[domain])


def _write_cell(files: dict[str, TextIO], domain: str, category: str, copies: int) -> Iterator[str]:
    """Write the questions of a cell; yield the paths of its pictures."""
    closed, opened = (number * copies for number in count_questions(domain, category))
    for number in range(opened):
        path = _make_path(domain, category, number)
        rng = random.Random(path)
        split = _choose_split(number)
        count = (number + 1) * closed // opened - number * closed // opened
        for record in _ask_about(domain, category, count, rng):
            line = {**record, "image": path, "split": split}
            files[split].write(json.dumps(line) + "\n")
        yield path


def _choose_split(number: int) -> str:
    if number % 20 == 0:
        return "adversarial"
    return "test" if number % 4 == 1 else "train"


def _ask_about(
    domain: str, category: str, count: int, rng: random.Random
) -> Iterator[dict[str, Any]]:
    """Yield the open question about a picture and `count` yes/no questions, the true one first."""
    true, *false = _draw_triplets(category, rng)
    yield ask(rng, domain, category, true, true.relation, "generative")
    if count:
        yield ask(rng, domain, category, true, "yes")
    for triplet in false[: max(0, count - 1)]:
        yield ask(rng, domain, category, triplet, "no")


def _draw_triplets(category: str, rng: random.Random) -> list[Triplet]:
    """Draw a true triplet and two false ones: one with another relation, one turned around."""
    subject, object_ = rng.sample(NAMES, 2)
    if category == "action":
        relation, other = rng.sample(VERBS, 2)
    else:
        relation, other = rng.choice(OPPOSITES[category])
    true = Triplet(subject, relation, object_)
    exchanged = Triplet(object_, relation, subject)
    reworded = Triplet(subject, other, object_)
    if category == "action":
        return [true, reworded, exchanged]
    return [true, exchanged, reworded]


def _make_path(domain: str, category: str, number: int) -> str:
    if domain == "real":
        start = {"spatial": 1, "action": 1_000_000, "comparative": 2_000_000}[category]
        return f"vg/VG_100K{'_2' if number % 3 == 0 else ''}/{start + number}.jpg"
    if domain == "sdxl":
        subset = "relative_spatial" if category == "spatial" else "relative_size"
        return f"SPEC/{subset}/{number // 4:08d}/{number % 4}.jpg"
    return f"Dall-E_generated/{category}/{number // 5:05d}{STYLES[number % 5]}.png"


def _write_pictures(folder: Path, pictures: Iterable[tuple[str, bytes]], padded: int) -> None:
    """Write each picture to the archive or folder in which its project publishes it."""
    with (
        zipfile.ZipFile(folder / "images.zip", "w") as first,
        zipfile.ZipFile(folder / "images2.zip", "w") as second,
        zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as third,
    ):
        archives = {"VG_100K": first, "VG_100K_2": second, "SPEC": third}
        for path, data in pictures:
            root, _, rest = path.partition("/")
            if root == "Dall-E_generated":
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
                continue
            member = f"data/{rest}" if root == "SPEC" else rest
            archive = archives[root if root == "SPEC" else rest.partition("/")[0]]
            archive.writestr(member, data)
            stem, _, suffix = member.rpartition(".")
            for number in range(padded):
                _add_hole(archive, f"{stem}{number:08}.{suffix}", len(data))


def _add_hole(archive: zipfile.ZipFile, name: str, size: int) -> None:
    """Add a member of zero bytes, as a hole: a header is written, and its bytes are skipped."""
    member = zipfile.ZipInfo(name)
    member.file_size = member.compress_size = size
    member.CRC = _sum_zeros(size)
    member.header_offset = archive.start_dir
    file = archive.fp
    assert file is not None, "the archive is open"
    file.seek(archive.start_dir)
    file.write(member.FileHeader())
    archive.start_dir = file.seek(size, io.SEEK_CUR)
    archive.filelist.append(member)
    archive.NameToInfo[name] = member


@cache
def _sum_zeros(size: int) -> int:
    """Return the CRC-32 of zero bytes."""
    return zlib.crc32(bytes(size))

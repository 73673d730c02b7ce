# SPDX-License-Identifier: Apache-2.0
"""Makes a stand-in of the whole benchmark: true in number, shape and layout, with pictures of nothing.

14,930 yes/no and 7,510 open questions about 7,510 pictures: Visual Genome's as 800 x 600 JPEG in two zip files, SPEC's
as 512 x 512 JPEG in one, DALL-E's as 1024 x 1024 PNG in a folder. About 3 GB; `--small` gives the same in 20 MB.

    python benchmarks/standin.py /tmp/standin
"""

from __future__ import annotations

import argparse
import io
import json
import random
import zipfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from PIL import Image

import mmrel
from mmrel_kit.questions.records import Triplet, make_question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Questions per cell: yes/no, open. The paper's, but for two cells whose rounding is evened out to its sums.
CELLS = {
    ("real", "spatial"): (4860, 2430),
    ("real", "action"): (4620, 2350),
    ("real", "comparative"): (660, 320),
    ("sdxl", "spatial"): (1750, 870),
    ("sdxl", "comparative"): (650, 330),
    ("dalle", "spatial"): (1210, 610),
    ("dalle", "action"): (1180, 600),
}
STYLES = ("", "_photo-realistic", "_watercolor", "_abstract", "_oil-painting")
# 12 kinds of 67 things are the paper's 804 objects.
KINDS = "red blue old small wooden wet young wild striped bright broken plain".split()
THINGS = """
airplane apple bag ball banana bear bed bench bicycle bird boat book bottle bowl box bridge bus cake camel candle car
cat chair clock cow crab cup desk dog door duck elephant fish flower fork fox frog giraffe goat guitar hat horse kite
knife lamp lion man monkey mouse orange owl panda pencil piano pizza plate rabbit robot shark sheep shoe snake sofa
table tiger tree truck
""".split()
VERBS = """
bite carry catch chase climb draw drink drive eat feed fight follow hold hug jump kick kiss lift paint play pull push
read ride shake sniff throw touch wash wear
""".split()
INSTRUCTION = "Please answer with one word."
PIXELS = {"real": (800, 600), "sdxl": (512, 512), "dalle": (1024, 1024)}
SMALL = {"real": (40, 30), "sdxl": (32, 32), "dalle": (32, 32)}
CANVAS = 2400  # pixels of a texture from which pictures are cut
BATCH = 50


class Drawn(NamedTuple):
    """A picture to draw: its path, its size, what seeds it."""

    path: str
    pixels: tuple[int, int]


def make_standin(folder: Path, copies: int = 1, small: bool = False, workers: int = 2) -> list[str]:
    """Make the stand-in in a folder.

    Args:
        folder: gets json/, images.zip, images2.zip, data.zip and Dall-E_generated/.
        copies: how many times as many questions and pictures.
        small: pictures of about 1 kB.
        workers: processes that draw.

    Returns:
        What `upload.py build --images` takes.
    """
    (folder / "json").mkdir(parents=True, exist_ok=True)
    drawn = list(_write_questions(folder / "json", copies, SMALL if small else PIXELS))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        batches = [drawn[start : start + BATCH] for start in range(0, len(drawn), BATCH)]
        _write_pictures(folder, (picture for batch in pool.map(draw_batch, batches) for picture in batch))
    return [
        *(f"real={folder / name}" for name in ("images.zip", "images2.zip")),
        f"sdxl={folder / 'data.zip'}",
        f"dalle={folder}",
    ]


def draw_batch(batch: Sequence[Drawn]) -> list[tuple[str, bytes]]:
    """Draw pictures: cut from a texture at a place that their path tells, so that each is another."""
    made = []
    for path, (width, height) in batch:
        rng = random.Random(path)
        is_png = path.endswith(".png")
        canvas = _make_canvas(rng.randrange(4), is_png)
        x, y = rng.randrange(CANVAS - width), rng.randrange(CANVAS - height)
        picture = canvas.crop((x, y, x + width, y + height)).transpose(Image.Transpose(rng.randrange(5)))
        if picture.size != (width, height):
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        picture.putpixel((0, 0), tuple(rng.randbytes(3)))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1) if is_png else picture.save(buffer, "JPEG", quality=88)
        made.append((path, buffer.getvalue()))
    return made


@cache
def _make_canvas(seed: int, is_png: bool) -> Image.Image:
    """A texture with coarse and fine detail, about as hard to compress as photographs (or DALL-E's pictures)."""
    rng = random.Random(seed)
    canvas = Image.new("RGB", (CANVAS, CANVAS), "gray")
    for cells, weight in (
        (12, 0.9),
        (60, 0.5),
        (300, 0.35),
        (1200, 0.1 if is_png else 0.16),
        (CANVAS, 0.012 if is_png else 0.05),
    ):
        layer = Image.frombytes("RGB", (cells, cells), rng.randbytes(cells * cells * 3))
        canvas = Image.blend(canvas, layer.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), weight)
    return canvas


def _write_questions(folder: Path, copies: int, pixels: dict[str, tuple[int, int]]) -> Iterator[Drawn]:
    names = [f"{kind} {thing}" for kind, thing in product(KINDS, THINGS)]
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(open(folder / f"{split}.jsonl", "w", encoding="utf-8")) for split in mmrel.SPLITS
        }
        for domain, category in CELLS:
            yield from _write_cell(files, domain, category, copies, names, pixels[domain])


def _write_cell(
    files: dict[str, TextIO], domain: str, category: str, copies: int, names: list[str], pixels: tuple[int, int]
) -> Iterator[Drawn]:
    closed, opened = (number * copies for number in CELLS[domain, category])
    for number in range(opened):
        path = _make_path(domain, category, number)
        rng = random.Random(path)
        split = "adversarial" if number % 20 == 0 else "test" if number % 4 == 1 else "train"
        count = (number + 1) * closed // opened - number * closed // opened
        for record in _ask(domain, category, names, count, rng):
            files[split].write(json.dumps({**record, "image": path, "split": split}) + "\n")
        yield Drawn(path, pixels)


def _ask(domain: str, category: str, names: list[str], count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """A picture's open question and `count` yes/no questions: the true one, then false ones."""
    subject, object_ = rng.sample(names, 2)
    if category == "action":
        relation, other = rng.sample(VERBS, 2)
        triplets = [(subject, relation, object_), (subject, other, object_), (object_, relation, subject)]
    elif category == "spatial":
        relation, other = rng.choice((("left", "right"), ("right", "left"), ("above", "under"), ("on", "under")))
        triplets = [(subject, relation, object_), (object_, relation, subject), (subject, other, object_)]
    else:
        relation, other = rng.choice((("bigger", "smaller"), ("smaller", "bigger")))
        triplets = [(subject, relation, object_), (object_, relation, subject), (subject, other, object_)]
    asked = [(Triplet(*triplets[0]), "generative", relation)]
    asked += [(Triplet(*triplet), "discriminative", "no") for triplet in triplets[:count]]
    if count:
        asked[1] = (asked[1][0], "discriminative", "yes")
    for triplet, task, label in asked:
        text = f"{make_question(domain, category, triplet, task)} {INSTRUCTION}"
        yield {"question_id": f"{rng.getrandbits(75):015x}", "text": text, "label": label}


def _make_path(domain: str, category: str, number: int) -> str:
    if domain == "real":
        start = {"spatial": 1, "action": 1_000_000, "comparative": 2_000_000}[category]
        return f"vg/VG_100K{'_2' if number % 3 == 0 else ''}/{start + number}.jpg"
    if domain == "sdxl":
        subset = "relative_spatial" if category == "spatial" else "relative_size"
        return f"SPEC/{subset}/{number // 4:08d}/{number % 4}.jpg"
    return f"Dall-E_generated/{category}/{number // 5:05d}{STYLES[number % 5]}.png"


def _write_pictures(folder: Path, pictures: Iterator[tuple[str, bytes]]) -> None:
    """Put each picture where its project publishes it."""
    with (
        zipfile.ZipFile(folder / "images.zip", "w") as first,
        zipfile.ZipFile(folder / "images2.zip", "w") as second,
        zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as third,
    ):
        for path, data in pictures:
            root, _, rest = path.partition("/")
            if root == "vg":
                (second if rest.startswith("VG_100K_2") else first).writestr(rest, data)
            elif root == "SPEC":
                third.writestr(f"data/{rest}", data)
            else:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    print(*make_standin(args.folder, args.copies, args.small))

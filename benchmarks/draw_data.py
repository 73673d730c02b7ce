# SPDX-License-Identifier: Apache-2.0
"""Draw the data of the benchmarks: pictures with their questions, and triplets to verify.

In `real`, 800 x 600 JPEG of about 100 kB; in `dalle`, 1024 x 1024 PNG of about 1.5 MB. The pictures
are noise, which compresses worst, so neither a disk nor a reader can take a short cut.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mmrel_kit.build.job import Job, build_release
from mmrel_kit.questions.records import Triplet, make_question
from mmrel_kit.semidc.items import Proposal
from mmrel_kit.sources.local import PictureFolder

PICTURES = 600
# 600 pictures fill 9 archives, enough for any number of workers that is measured.
SHARD_BYTES = 8 << 20
# All questions about a picture have one category, so that filters skip pictures.
TRIPLETS = {
    "spatial": (("cat", "above", "orange"), ("orange", "above", "cat")),
    "action": (("man", "look at", "dog"), ("man", "kick", "dog")),
    "comparative": (("bus", "bigger", "cup"), ("cup", "bigger", "bus")),
}
DrawPicture = Callable[[random.Random], bytes]
INSTRUCTION = "Please answer with one word."
# Words of the triplets to verify.
THINGS = ("person", "dog", "cup", "chair", "panda bear", "car", "horse", "cat")
VERBS = ("hold", "ride", "push", "pull", "look", "carry", "juggle", "feed", "touch", "kick")


# --- Pictures ---


def draw_jpeg(draw: random.Random, width: int = 800) -> bytes:
    """Draw a JPEG: coarse noise under fine noise, like a photograph.

    Its size is about 100 kB at a width of 800 pixels, and 20 kB at 260.
    """
    pixels = width, width * 3 // 4
    coarse = _draw_noise(draw, 100, 75).resize(pixels, Image.Resampling.BICUBIC)
    fine = _draw_noise(draw, pixels[0] // 2, pixels[1] // 2).resize(pixels)
    buffer = io.BytesIO()
    Image.blend(coarse, fine, 0.19).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def draw_png(draw: random.Random) -> bytes:
    """Draw a 1024 x 1024 PNG of about 1.5 MB: noise of three bits a channel."""
    three_bits = bytes(128 + (value >> 5) for value in range(256))
    pixels = draw.randbytes(1024 * 1024 * 3).translate(three_bits)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (1024, 1024), pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _draw_noise(draw: random.Random, width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), draw.randbytes(width * height * 3))


# Domain -> template of a picture's path, and the function that draws it.
DOMAINS: dict[str, tuple[str, DrawPicture]] = {
    "real": ("vg/VG_100K/{number:07d}.jpg", draw_jpeg),
    "dalle": ("Dall-E_generated/{category}/{number:05d}_watercolor.png", draw_png),
}


# --- Questions ---


def ask(
    draw: random.Random,
    domain: str,
    category: str,
    triplet: Triplet,
    label: str,
    task: str = "discriminative",
) -> dict[str, Any]:
    """Return a question in the layout of the source's annotation files, without its picture."""
    text = f"{make_question(domain, category, triplet, task)} {INSTRUCTION}"
    return {"question_id": f"{draw.getrandbits(75):015x}", "text": text, "label": label}


def draw_sources(
    folder: Path, counts: dict[str, int], draw_picture: DrawPicture | None = None
) -> None:
    """Draw pictures, `counts` by domain, with three questions each, in the source's layout.

    `draw_picture` draws others than the usual ones of the domain.
    """
    draw = random.Random(0)
    lines = []
    for domain, count in counts.items():
        template, draw_usual = DOMAINS[domain]
        for number in range(count):
            category = tuple(TRIPLETS)[number % len(TRIPLETS)]
            path = template.format(category=category, number=number)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((draw_picture or draw_usual)(draw))
            true, false = (Triplet(*words) for words in TRIPLETS[category])
            yes = ask(draw, domain, category, true, "yes")
            no = ask(draw, domain, category, false, "no")
            opened = ask(draw, domain, category, true, true.relation, "generative")
            for question in (yes, no, opened):
                lines.append(json.dumps({**question, "image": path, "split": "test"}) + "\n")
    (folder / "json").mkdir(parents=True, exist_ok=True)
    (folder / "json" / "test.jsonl").write_text("".join(lines))


def draw_release(folder: Path, counts: dict[str, int], shard_bytes: int = SHARD_BYTES) -> Path:
    """Build `folder/release` from drawn sources, unless it exists."""
    out = folder / "release"
    if not (out / "checksums.json").exists():
        sources = folder / "sources"
        if not (sources / "json").exists():
            draw_sources(sources, counts)
        pictures = PictureFolder(sources)
        build_release(Job([sources / "json"], pictures, out, shard_bytes=shard_bytes))
    return out


# --- Triplets to verify ---


def draw_items(items: int, pictures: int) -> Iterator[Proposal]:
    """Draw action triplets, grouped by picture; each picture gets the same number, or one less."""
    draw = random.Random(20261126)
    most = -(-items // pictures)
    for number in range(items):
        picture = f"vg/VG_100K/{number * pictures // items + 1}.jpg"
        subject, object_ = draw.sample(THINGS, 2)
        # The number makes the triplets of a picture differ.
        triplet = Triplet(subject, draw.choice(VERBS), f"{object_} {number % most}")
        yield Proposal(picture, "action", triplet, 0.5, None, "model", "drawn")

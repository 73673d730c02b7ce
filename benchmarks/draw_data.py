# SPDX-License-Identifier: Apache-2.0
"""Draws what the benchmarks read: pictures of noise at realistic bytes, three questions each, built into a release.

In `real`, 800 x 600 JPEG of about 100 kB; in `dalle`, 1024 x 1024 PNG of about 1.5 MB. Noise is the hardest to
compress, so neither a disk nor a reader can cheat.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from mmrel_kit.build.job import Job, build_release
from mmrel_kit.pictures.sources import PictureFolder
from mmrel_kit.questions.records import Triplet, make_question

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURES = 600
SHARD_BYTES = 8 << 20  # then 600 pictures fill 9 archives: enough for every worker and node that is tried
# Words by category, so that every picture asks of one category and the filters have something to pass over.
TRIPLETS = {
    "spatial": (("cat", "above", "orange"), ("orange", "above", "cat")),
    "action": (("man", "look at", "dog"), ("man", "kick", "dog")),
    "comparative": (("bus", "bigger", "cup"), ("cup", "bigger", "bus")),
}
INSTRUCTION = "Please answer with one word."


def draw_jpeg(draw: random.Random) -> bytes:
    """An 800 x 600 JPEG of about 100 kB: coarse noise under fine noise, as a photograph has it."""
    coarse = Image.frombytes("RGB", (100, 75), draw.randbytes(100 * 75 * 3)).resize(
        (800, 600), Image.Resampling.BICUBIC
    )
    fine = Image.frombytes("RGB", (400, 300), draw.randbytes(400 * 300 * 3)).resize((800, 600))
    buffer = io.BytesIO()
    Image.blend(coarse, fine, 0.19).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def draw_png(draw: random.Random) -> bytes:
    """A 1024 x 1024 PNG of about 1.5 MB: noise of three bits a channel."""
    pixels = draw.randbytes(1024 * 1024 * 3).translate(bytes(128 + (value >> 5) for value in range(256)))
    buffer = io.BytesIO()
    Image.frombytes("RGB", (1024, 1024), pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


# Template of the path, and how it is drawn, by domain.
DOMAINS: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "real": ("vg/VG_100K/{:07d}.jpg", draw_jpeg),
    "dalle": ("Dall-E_generated/{}/{:05d}_watercolor.png", draw_png),
}


def draw_sources(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Draw `counts` pictures by domain with their questions, as upstream gives them.

    Args:
        folder: where `json/test.jsonl` and the pictures go.
        counts: pictures by domain.
        seed: the same seed draws the same bytes.
    """
    draw = random.Random(seed)
    lines = []
    for domain, count in counts.items():
        template, picture = DOMAINS[domain]
        for number in range(count):
            category = tuple(TRIPLETS)[number % len(TRIPLETS)]
            path = template.format(category, number) if domain == "dalle" else template.format(number)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture(draw))
            true, false = (Triplet(*words) for words in TRIPLETS[category])
            asked = [(make_question(domain, category, true), "yes"), (make_question(domain, category, false), "no")]
            asked.append((make_question(domain, category, true, "generative"), true.relation))
            for text, label in asked:
                name = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=15))
                line = {"question_id": name, "image": path, "text": f"{text} {INSTRUCTION}", "label": label}
                lines.append(json.dumps({**line, "split": "test"}) + "\n")
    (folder / "json").mkdir(parents=True, exist_ok=True)
    (folder / "json" / "test.jsonl").write_text("".join(lines))
    return folder


def draw_release(folder: Path, counts: dict[str, int], shard_bytes: int = SHARD_BYTES) -> Path:
    """Draw `folder/release` unless it stands there already."""
    if not (folder / "release" / "checksums.json").exists():
        sources = draw_sources(folder / "sources", counts)
        build_release(Job([sources / "json"], PictureFolder(sources), folder / "release", shard_bytes=shard_bytes))
    return folder / "release"

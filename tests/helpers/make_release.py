# SPDX-License-Identifier: Apache-2.0
"""Releases that the tests of publishing build for themselves."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image

from mmrel_kit.build.job import Job, build_release
from mmrel_kit.sources.local import PictureFolder
from tests.conftest import make_sources


def make_release(root: Path, seed: int) -> Path:
    """Build a small release in `root`; the seed decides its pictures and questions."""
    sources = make_sources(root.with_name(f"{root.name}-sources"), copies=2, seed=seed)
    build_release(Job([sources / "json"], PictureFolder(sources), root, shard_bytes=6000))
    return root


def make_large_release(root: Path, pictures: int, side: int = 1000) -> Path:
    """Build a release of one archive, real/test, with pictures of noise.

    Args:
        root: the folder of the release.
        pictures: how many pictures it has.
        side: width and height of a picture in pixels; a picture has 3 * side² bytes.
    """
    sources = root.with_name(f"{root.name}-sources")
    (sources / "vg").mkdir(parents=True)
    rng = random.Random(0)
    lines = []
    for number in range(pictures):
        name = f"vg/{number}.png"
        picture = Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side))
        picture.save(sources / name, compress_level=0)
        question = {
            "question_id": number,
            "image": name,
            "text": "Is there a cat on to a mat in the image?",
            "label": "yes",
        }
        lines.append(json.dumps(question) + "\n")
    (sources / "test.jsonl").write_text("".join(lines))
    build_release(Job([sources / "test.jsonl"], PictureFolder(sources), root))
    return root

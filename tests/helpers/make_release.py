# SPDX-License-Identifier: Apache-2.0
"""Releases for the tests of publishing, beside the one that all tests share."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image

from mmrel_kit.build.job import Job, build_release
from mmrel_kit.pictures.sources import PictureFolder
from tests.conftest import make_sources


def make_release(root: Path, seed: int) -> Path:
    """Build a small release in `root`; another seed gives other pictures and questions."""
    sources = make_sources(root.with_name(f"{root.name}-sources"), copies=2, seed=seed)
    build_release(Job([sources / "json"], PictureFolder(sources), root, shard_bytes=6000))
    return root


def make_large_release(root: Path, pictures: int, side: int = 1000) -> Path:
    """Build a release whose one archive, of real/test, holds so many pictures of 3 MB of noise."""
    sources, draw = root.with_name(f"{root.name}-sources"), random.Random(0)
    (sources / "vg").mkdir(parents=True)
    lines = []
    for number in range(pictures):
        name = f"vg/{number}.png"
        Image.frombytes("RGB", (side, side), draw.randbytes(3 * side * side)).save(
            sources / name, compress_level=0
        )
        asked = {"image": name, "text": "Is there a cat on to a mat in the image?", "label": "yes"}
        lines.append(json.dumps({"question_id": number, **asked}) + "\n")
    (sources / "test.jsonl").write_text("".join(lines))
    build_release(Job([sources / "test.jsonl"], PictureFolder(sources), root))
    return root

# SPDX-License-Identifier: Apache-2.0
"""Builds small drawn releases for the tests of publishing, with the project's own builder."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from release.build import INDEX, build_release, describe_file
from release.records import Triplet, make_question
from release.sources import PictureFolder

SPLITS = {"real": ("train", "test", "adversarial"), "dalle": ("test",), "sdxl": ("test",)}
FOLDERS = {"real": "vg/VG_100K_2", "dalle": "Dall-E_generated", "sdxl": "SPEC/relative_spatial"}


def make_release(
    root: Path,
    pictures: int = 3,
    seed: int = 0,
    side: int = 24,
    shard_bytes: int = 4000,
    parts: Mapping[str, Sequence[str]] = SPLITS,
) -> Path:
    """Build a release in `root` with so many pictures in each domain and split, two questions each.

    Pictures are noise of `side` by `side` pixels; archives hold `shard_bytes` of them.
    """
    drawn, source = random.Random(seed), root.with_name(f"{root.name}-source")
    for domain, splits in parts.items():
        for place, split in enumerate(splits):
            names = [f"{FOLDERS[domain]}/{place * 1000 + number}.png" for number in range(pictures)]
            for name in names:
                draw(source / name, drawn, side)
            lines = [json.dumps(line) for name in names for line in ask(domain, split, name)]
            annotations = source / "json" / f"{domain}_{split}.jsonl"
            annotations.parent.mkdir(exist_ok=True)
            annotations.write_text("\n".join(lines))
    build_release([source / "json"], PictureFolder(source), root, note="Drawn.", shard_bytes=shard_bytes)
    return root


def draw(path: Path, drawn: random.Random, side: int) -> None:
    """Write a picture of noise, which no packer makes smaller."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("RGB", (side, side), drawn.randbytes(3 * side * side)).save(path)


def ask(domain: str, split: str, image_id: str) -> list[dict[str, str]]:
    """A question with the answer yes and its counterpart with no, as upstream writes them down."""
    questions = [make_question(domain, "spatial", Triplet("cat", relation, "mat")) for relation in ("on", "under")]
    stem = f"{domain}-{split}-{Path(image_id).stem}"
    return [
        {"question_id": f"{stem}-{label}", "image": image_id, "text": f"{text} Answer yes or no.", "label": label}
        for text, label in zip(questions, ("yes", "no"), strict=True)
    ]


def seal(root: Path) -> Path:
    """Write checksums.json anew, for a release that a test has changed."""
    index = json.loads((root / INDEX).read_text())
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.name != INDEX)
    index["files"] = {path.relative_to(root).as_posix(): describe_file(path) for path in paths}
    (root / INDEX).write_text(json.dumps(index))
    return root

# SPDX-License-Identifier: Apache-2.0
"""Check that the card, dataset_infos.json and croissant.json match the data files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrel_kit.card import croissant
from mmrel_kit.card.hub_eval import find_splits
from mmrel_kit.card.readme import make_dataset_infos, make_front_matter
from mmrel_kit.card.stats import SplitStats
from mmrel_kit.check.layout import is_data_file
from mmrel_kit.files import Problem

CARD = "README.md"
INFOS = "dataset_infos.json"
STALE = "expected what the data files hold; build the release again"
CHECKED_KEYS = ("configs", "dataset_info")  # of the YAML; the others do not depend on the data
_FRONT_MATTER = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)
# The Hub's viewer is off for datasets with one of these tags.
_ADULT_TAGS = {"not-for-all-audiences", "nsfw", "porn", "hentai", "inappropriate"}


def check_card(root: Path, index: Mapping[str, Any], stats: list[SplitStats]) -> Iterator[Problem]:
    """Compare the files that describe a release with its index and the statistics of all splits."""
    yield from _check_text(root, INFOS, make_dataset_infos(stats))
    files = {name: file for name, file in index["files"].items() if is_data_file(name)}
    text = croissant.make_croissant(stats, files, index.get("note"))
    yield from _check_text(root, croissant.NAME, text)
    yield from _check_front_matter(root, stats)


def _check_text(root: Path, name: str, expected: str) -> Iterator[Problem]:
    """Check a generated file; it may be missing."""
    path = root / name
    if path.is_file() and path.read_bytes() != expected.encode():
        yield Problem(name, STALE)


def _check_front_matter(root: Path, stats: list[SplitStats]) -> Iterator[Problem]:
    """Check the YAML at the top of the card, which can also turn the viewer off."""
    import yaml

    try:
        match = _FRONT_MATTER.match((root / CARD).read_text("utf-8"))
        front_matter = yaml.safe_load(match[1]) if match else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        yield Problem(CARD, f"expected a card with YAML at the top: {error}")
        return
    if not isinstance(front_matter, dict):
        yield Problem(f"{CARD}:1", "expected YAML between two lines ---, got none")
        return
    expected = make_front_matter(stats, find_splits(root))
    for key in CHECKED_KEYS:
        if front_matter.get(key) != expected[key]:
            yield Problem(CARD, f"{key} in the YAML: {STALE}")
    tags = {str(tag) for tag in front_matter.get("tags") or []}
    if front_matter.get("viewer") is False or tags & _ADULT_TAGS:
        message = "the YAML turns the Hub's viewer off (viewer: false, or a tag for adult content)"
        yield Problem(CARD, message)

# SPDX-License-Identifier: Apache-2.0
"""Check that the card, dataset_infos.json and croissant.json say what the files hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mmrel_kit.card import croissant
from mmrel_kit.card.hub_eval import find_splits
from mmrel_kit.card.readme import make_dataset_infos, make_front_matter
from mmrel_kit.check.layout import is_data_file
from mmrel_kit.files import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mmrel_kit.card.stats import SplitStats

CARD = "README.md"
INFOS = "dataset_infos.json"
STALE = "expected what the files hold; build the release again"
CHECKED_KEYS = ("configs", "dataset_info")  # of the YAML; the others do not depend on the files
_FRONT = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)
_ADULT_TAGS = {"not-for-all-audiences", "nsfw", "porn", "hentai", "inappropriate"}


def check_card(root: Path, index: Mapping[str, Any], facts: list[SplitStats]) -> Iterator[Problem]:
    """Compare what describes a release with the facts of its splits.

    Args:
        root: folder of the release.
        index: its checksums.json.
        facts: of all splits.
    """
    yield from _check_text(root, INFOS, make_dataset_infos(facts))
    files = {name: file for name, file in index["files"].items() if is_data_file(name)}
    text = croissant.make_croissant(facts, files, index.get("note"))
    yield from _check_text(root, croissant.NAME, text)
    yield from _check_front_matter(root, facts)


def _check_text(root: Path, name: str, expected: str) -> Iterator[Problem]:
    """Check a generated file, where there is one."""
    path = root / name
    if path.is_file() and path.read_bytes() != expected.encode():
        yield Problem(name, STALE)


def _check_front_matter(root: Path, facts: list[SplitStats]) -> Iterator[Problem]:
    """Check the YAML on top of the card, which also turns the viewer on or off."""
    import yaml

    try:
        match = _FRONT.match((root / CARD).read_text("utf-8"))
        front = yaml.safe_load(match[1]) if match else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        yield Problem(CARD, f"expected a card with YAML on top: {error}")
        return
    if not isinstance(front, dict):
        yield Problem(f"{CARD}:1", "expected YAML between two lines ---, found none")
        return
    expected = make_front_matter(facts, find_splits(root))
    for key in CHECKED_KEYS:
        if front.get(key) != expected[key]:
            yield Problem(CARD, f"{key} in the YAML: {STALE}")
    if front.get("viewer") is False or _ADULT_TAGS & set(map(str, front.get("tags") or [])):
        message = "the YAML turns the Hub's viewer off (viewer: false, or a tag for adults)"
        yield Problem(CARD, message)

# SPDX-License-Identifier: Apache-2.0
"""Check that a release has the files of checksums.json, unchanged, at the contract's paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.card.readme import EXAMPLE
from mmrel_kit.files import INDEX, PROJECT, SCHEMAS, Problem

REQUIRED = ("README.md", "dataset_infos.json", *SCHEMAS, "loader/mmrel.py")
_DATA_FILE = re.compile(
    rf"data/({'|'.join(mmrel.DOMAINS)})/({'|'.join(mmrel.SPLITS)})"
    r"(?:\.jsonl|-[0-9]{5}\.tar|-[0-9]{5}-of-[0-9]{5}\.parquet)"
)


def find_files(root: Path) -> set[str]:
    """Return the relative paths of all files in a folder but checksums.json and hidden files."""
    names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(".") and name != INDEX}


def group_splits(names: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Return the sorted data files of each domain and split; ignore other files."""
    splits: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        match = _DATA_FILE.fullmatch(name)
        if match:
            splits.setdefault((match[1], match[2]), []).append(name)
    return dict(sorted(splits.items()))


def is_data_file(name: str) -> bool:
    """Return whether a path names the JSON lines, an archive or a table of a split."""
    return _DATA_FILE.fullmatch(name) is not None


def check_layout(
    root: Path, listed: Mapping[str, Mapping[str, Any]], existing: set[str]
) -> Iterator[Problem]:
    """Compare the names of the files of a release, `existing`, with checksums.json and the layout.

    `listed` has the entries of checksums.json. Of the files, only the schemas are read.
    """
    for name in existing - listed.keys():
        yield Problem(name, f"{INDEX} does not list it; delete it or build the release again")
    for name in (set(REQUIRED) - listed.keys()) | (listed.keys() - existing):
        yield Problem(name, f"missing; {INDEX} or the layout of a release requires it")
    for name in existing & listed.keys():
        yield from _check_path(name)
    for name in SCHEMAS:
        if name in existing and (root / name).read_bytes() != (PROJECT / name).read_bytes():
            message = f"differs from the contract of this package ({mmrel.__version__})"
            yield Problem(name, message)


def check_content(name: str, entry: Mapping[str, Any], got: Mapping[str, Any]) -> Iterator[Problem]:
    """Compare the sha256 and size of a file with its entry in checksums.json."""
    size, sha256 = entry["size"], entry["sha256"]
    if (got["sha256"], got["size"]) != (sha256, size):
        yield Problem(name, f"expected {size} bytes, sha256 {sha256}; got {got}")


def _check_path(name: str) -> Iterator[Problem]:
    if name.startswith("data/") and name != EXAMPLE and not is_data_file(name):
        expected = "data/<domain>/<split>.jsonl, -00000.tar or -00000-of-00001.parquet"
        yield Problem(name, f"expected {expected}")
    if "/" not in name and name.endswith(".py"):
        message = "a script at the top stops load_dataset on datasets >= 4; move it to loader/"
        yield Problem(name, message)

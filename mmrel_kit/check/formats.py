# SPDX-License-Identifier: Apache-2.0
"""Read the JSON lines and the archives of a split, picture by picture.

A release stores each split in three formats; `tables` reads the third, Parquet. Each reader yields
a `PictureEntry` for each picture, a `Problem` for each fault, and an `Unreadable` as its last item
if it cannot read on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import mmrel
from mmrel_kit.card.stats import list_categories
from mmrel_kit.check.records import RecordChecker
from mmrel_kit.files import INDEX, RELEASE_RULES, Problem, Value, make_problem, scan_json
from mmrel_kit.questions.records import check_record


class PictureEntry(NamedTuple):
    """A picture in one format of a split.

    Attributes:
        where: file and line, archive member or row group.
        records: the records about the picture; in a table, its rows.
        data: bytes of the picture; None in JSON lines, and in tables, whose rows hold them.
    """

    where: str
    records: list[dict[str, Any]]
    data: bytes | None = None


class Unreadable(NamedTuple):
    """The reason why a format cannot be read any further."""

    problem: Problem


ReadItem: TypeAlias = "PictureEntry | Problem | Unreadable"


class FormatReader:
    """Reads one format of a split, one picture at a time.

    Attributes:
        name: its first file.
        entry: the current picture; None before the first one and at the end.
        is_broken: whether reading stopped early.
    """

    def __init__(self, name: str, items: Iterator[ReadItem]) -> None:
        self.name = name
        self.entry: PictureEntry | None = None
        self.is_broken = False
        self._items = items

    def advance(self) -> Iterator[Problem]:
        """Read the next picture; yield the problems before it."""
        self.entry = None
        for item in self._items:
            if isinstance(item, PictureEntry):
                self.entry = item
                return
            if isinstance(item, Unreadable):
                self.is_broken = True
                yield item.problem
            else:
                yield item


def read_lines(root: Path, name: str, checker: RecordChecker) -> Iterator[ReadItem]:
    """Read the JSON lines of a split and check each record."""
    group: list[Value] = []
    for item in _read_records(root, name):
        if isinstance(item, Unreadable):
            # The current group is incomplete, so comparing it would only repeat the problem.
            yield item
            return
        yield from checker.check(item.where, item.value)
        if group and group[0].value["image_id"] != item.value["image_id"]:
            yield _make_entry(group)
            group = []
        group.append(item)
    if group:
        yield _make_entry(group)


def read_archives(
    root: Path, names: Sequence[str], files: Mapping[str, Mapping[str, Any]]
) -> Iterator[ReadItem]:
    """Read the archives of a split; `files` has the entries of checksums.json by path."""
    for name in names:
        path = root / name
        kinds: set[str] = set()
        try:
            with open(path, "rb") as file:
                for records, data in mmrel.read_archive(file, name, path.stat().st_size):
                    kinds.update(str(record.get("category")) for record in records)
                    yield PictureEntry(f"{name}:{records[0].get('image_id')}", records, data)
        except mmrel.ReleaseError as error:
            yield Unreadable(make_problem(error))
            return
        expected = files[name].get("categories")
        got = list_categories(kinds)
        if expected != got:
            message = f"expected the categories {expected} that {INDEX} lists, got {got}"
            yield Problem(name, message)


def _read_records(root: Path, name: str) -> Iterator[Value | Unreadable]:
    """Yield the records of a file, up to the first line that is not one."""
    for item in scan_json(root / name, name, rules=RELEASE_RULES):
        if isinstance(item, Problem):
            yield Unreadable(item)
            return
        if isinstance(item.value, dict):
            message = check_record(item.value)
        else:
            message = "expected a JSON object"
        if message:
            yield Unreadable(Problem(item.where, message))
            return
        yield item


def _make_entry(group: list[Value]) -> PictureEntry:
    return PictureEntry(group[0].where, [item.value for item in group])

# SPDX-License-Identifier: Apache-2.0
"""Read the JSON lines and the archives of a split, picture by picture.

A release stores each split in three formats; `tables` reads the third, Parquet. Each reader yields
a `PictureEntry` for each picture, a `Problem` for each fault, and an `Unreadable` as its last item
if it cannot read on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

import mmrel
from mmrel_kit.card.stats import list_categories
from mmrel_kit.check.records import RecordChecker
from mmrel_kit.files import INDEX, RELEASE_RULES, Problem, Value, make_problem, scan_json
from mmrel_kit.questions.records import check_record


class PictureEntry(NamedTuple):
    """A picture in one format of a split.

    Attributes:
        where: file and line, archive member or row group.
        records: the records about the picture; in a table, its rows, whose `image` has the bytes
            of the picture as an Arrow buffer.
        data: bytes of the picture; None in JSON lines, and in tables, whose rows hold them.
    """

    where: str
    records: list[dict[str, Any]]
    data: bytes | None = None


class Unreadable(NamedTuple):
    """The reason why a format cannot be read any further."""

    problem: Problem


ReadItem: TypeAlias = "PictureEntry | Problem | Unreadable"


class LineRange(NamedTuple):
    """Some lines of a file: the number of the first, and the positions of their bytes.

    `end` is None for the end of the file.
    """

    name: str
    first: int = 1
    start: int = 0
    end: int | None = None


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


def read_lines(root: Path, lines: LineRange, checker: RecordChecker) -> Iterator[ReadItem]:
    """Read JSON lines of a split and check each record."""
    group: list[Value] = []
    for item in _read_records(root, lines):
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
    root: Path,
    names: Sequence[str],
    files: Mapping[str, Mapping[str, Any]],
    described: dict[str, dict[str, Any]],
) -> Iterator[ReadItem]:
    """Read the archives of a split; `files` has the entries of checksums.json by path.

    The sha256 and size of each archive that is read to its end are added to `described`.
    """
    for name in names:
        path = root / name
        kinds: set[str] = set()
        try:
            with open(path, "rb") as opened, mmrel.HashedFile(opened) as file:
                for records, data in mmrel.read_archive(file, name, path.stat().st_size):
                    kinds.update(str(record.get("category")) for record in records)
                    yield PictureEntry(f"{name}:{records[0].get('image_id')}", records, data)
                described[name] = {"sha256": file.compute_sha256(), "size": file.tell()}
        except mmrel.ReleaseError as error:
            yield Unreadable(make_problem(error))
            return
        expected = files[name].get("categories")
        got = list_categories(kinds)
        if expected != got:
            message = f"expected the categories {expected} that {INDEX} lists, got {got}"
            yield Problem(name, message)


class _LineFile:
    """Some lines of an open file, as a file."""

    def __init__(self, file: BinaryIO, lines: LineRange) -> None:
        file.seek(lines.start)
        self._file = file
        self._end = lines.end

    def readline(self, size: int) -> bytes:
        """Read a line of at most `size` bytes."""
        if self._end is not None:
            size = min(size, self._end - self._file.tell())
        return self._file.readline(size)


def _read_records(root: Path, lines: LineRange) -> Iterator[Value | Unreadable]:
    """Yield the records of some lines, up to the first line that is not one."""
    with open(root / lines.name, "rb") as file:
        source = cast(BinaryIO, _LineFile(file, lines))
        # Each line is one item.
        for number, item in enumerate(scan_json(source, lines.name, RELEASE_RULES), lines.first):
            numbered = item._replace(where=f"{lines.name}:{number}")
            checked = _check_line(numbered)
            yield checked
            if isinstance(checked, Unreadable):
                return


def _check_line(item: Value | Problem) -> Value | Unreadable:
    if isinstance(item, Problem):
        return Unreadable(item)
    if not isinstance(item.value, dict):
        return Unreadable(Problem(item.where, "expected a JSON object"))
    message = check_record(item.value)
    return Unreadable(Problem(item.where, message)) if message else item


def _make_entry(group: list[Value]) -> PictureEntry:
    return PictureEntry(group[0].where, [item.value for item in group])

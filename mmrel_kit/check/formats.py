# SPDX-License-Identifier: Apache-2.0
"""Read two of the three faces of a split, picture by picture: the JSON lines and the archives.

`tables` reads the third. Each reader yields an `PictureEntry` for each picture and a `Problem` for what is
wrong on the way. What it cannot read beyond is a `Unreadable`, the last that it yields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import mmrel
from mmrel_kit.card.stats import list_categories
from mmrel_kit.files import INDEX, RELEASE, Problem, Value, scan_json
from mmrel_kit.questions.records import check_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mmrel_kit.check.records import QuestionChecks


class PictureEntry(NamedTuple):
    """A picture in one face of a split.

    Attributes:
        where: file and line, member or row group.
        records: the records about it, or the rows.
        data: its bytes; None where they are not read apart from the rows.
    """

    where: str
    records: list[dict[str, Any]]
    data: bytes | None = None


class Unreadable(NamedTuple):
    """Why a face cannot be read any further."""

    problem: Problem


ReadItem: TypeAlias = "PictureEntry | Problem | Unreadable"


class FormatReader:
    """One face of a split, read one picture at a time.

    Attributes:
        name: its first file.
        entry: the picture that was read last; None before the first one and at the end.
        is_broken: whether reading broke off.
    """

    def __init__(self, name: str, found: Iterator[ReadItem]) -> None:
        self.name = name
        self.entry: PictureEntry | None = None
        self.is_broken = False
        self._found = found

    def advance(self) -> Iterator[Problem]:
        """Read the next picture; yield what is wrong on the way there."""
        self.entry = None
        for found in self._found:
            if isinstance(found, PictureEntry):
                self.entry = found
                return
            if isinstance(found, Unreadable):
                self.is_broken = True
                yield found.problem
            else:
                yield found


def read_lines(root: Path, name: str, questions: QuestionChecks) -> Iterator[ReadItem]:
    """Read the JSON lines of a split and check each record.

    Args:
        root: folder of the release.
        name: the file, from there.
        questions: those that were checked so far.
    """
    group: list[Value] = []
    for found in _read_records(root, name):
        if isinstance(found, Unreadable):
            # The picture that it stopped in is not compared: that would only show the same again.
            yield found
            return
        yield from questions.check(found.where, found.value)
        if group and group[0].value["image_id"] != found.value["image_id"]:
            yield _make_entry(group)
            group = []
        group.append(found)
    if group:
        yield _make_entry(group)


def read_archives(
    root: Path,
    names: Sequence[str],
    files: Mapping[str, Mapping[str, Any]],
) -> Iterator[ReadItem]:
    """Read the archives of a split.

    Args:
        root: folder of the release.
        names: the archives, from there.
        files: what checksums.json says of each file.
    """
    for name in names:
        path = root / name
        kinds: set[str] = set()
        try:
            with open(path, "rb") as file:
                for records, data in mmrel.read_archive(file, name, path.stat().st_size):
                    kinds.update(str(record.get("category")) for record in records)
                    yield PictureEntry(f"{name}:{records[0].get('image_id')}", records, data)
        except mmrel.ReleaseError as error:
            where, _, message = str(error).partition(": ")
            yield Unreadable(Problem(where, message))
            return
        listed, held = files[name].get("categories"), list_categories(kinds)
        if listed != held:
            message = f"{INDEX} says that it holds the categories {listed}, it holds {held}"
            yield Problem(name, message)


def _read_records(root: Path, name: str) -> Iterator[Value | Unreadable]:
    """Yield the records of a file, up to the first line that is not one."""
    for found in scan_json(root / name, name, rules=RELEASE):
        if isinstance(found, Problem):
            yield Unreadable(found)
            return
        is_object = isinstance(found.value, dict)
        message = check_record(found.value) if is_object else "expected a JSON object"
        if message:
            yield Unreadable(Problem(found.where, message))
            return
        yield found


def _make_entry(group: list[Value]) -> PictureEntry:
    return PictureEntry(group[0].where, [value for _, value in group])

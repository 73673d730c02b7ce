# SPDX-License-Identifier: Apache-2.0
"""Compare the three formats of a split row by row, and check the data of each of its pictures.

A split is checked as one part, or shard by shard in several processes: an archive, its table and
their lines are a part.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from mmrel_kit.build.archive import describe_key_clash, make_sample_key
from mmrel_kit.card.stats import count_picture
from mmrel_kit.check.formats import (
    FormatReader,
    LineRange,
    PictureEntry,
    read_archives,
    read_lines,
)
from mmrel_kit.check.records import RecordChecker
from mmrel_kit.check.tables import read_tables
from mmrel_kit.check.viewer import ViewerStatistics
from mmrel_kit.files import Problem, describe_file
from mmrel_kit.pictures.archives import Sample
from mmrel_kit.pictures.validate import verify_picture
from mmrel_kit.questions.records import Record

EXIF_ORIENTATION = 0x0112
Advance = Callable[[int], object]
Listed = Mapping[str, Mapping[str, Any]]


class SplitPart(NamedTuple):
    """A part of a split of a domain: some archives, their tables, and the lines of both."""

    domain: str
    split: str
    lines: LineRange
    archives: Sequence[str]
    tables: Sequence[str]


@dataclasses.dataclass
class CheckedPart:
    """The outcome of a check of a part.

    Attributes:
        is_complete: whether all formats were read to their ends without a difference.
        files: sha256 and size of the archives and tables that were hashed.
        images: id of each picture that is the same in all formats, with file and line.
        sizes: bytes of each of these pictures.
        counts: what `count_picture` has counted of them.
    """

    part: SplitPart
    problems: list[Problem] = dataclasses.field(default_factory=list)
    is_complete: bool = False
    files: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    records: RecordChecker = dataclasses.field(default_factory=RecordChecker)
    statistics: ViewerStatistics = dataclasses.field(default_factory=ViewerStatistics)
    images: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    sizes: list[int] = dataclasses.field(default_factory=list)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)


def plan_split(domain: str, split: str, files: Sequence[str]) -> SplitPart | Problem:
    """Return the whole of a split as one part, or a problem if it lacks files or has others."""
    stem = f"data/{domain}/{split}"
    count = max(1, sum(file.endswith(".tar") for file in files))
    archives = [f"{stem}-{number:05d}.tar" for number in range(count)]
    tables = [f"{stem}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
    expected = [f"{stem}.jsonl", *archives, *tables]
    if sorted(expected) != sorted(files):
        return Problem(stem, f"expected the files {', '.join(expected)}, got {', '.join(files)}")
    return SplitPart(domain, split, LineRange(expected[0]), archives, tables)


def cut_split(root: Path, whole: SplitPart) -> list[SplitPart]:
    """Cut a split into its shards; return the whole if its tables do not have as many rows as it.

    The number of rows of a table gives the lines of its shard.
    """
    if len(whole.tables) == 1:
        return [whole]
    try:
        rows = [pq.read_metadata(root / name).num_rows for name in whole.tables]
        ranges = _cut_lines(root, whole.lines.name, rows)
    except (pa.ArrowException, OSError):
        return [whole]
    if not ranges:
        return [whole]
    parts = []
    for lines, archive, table in zip(ranges, whole.archives, whole.tables, strict=True):
        parts.append(whole._replace(lines=lines, archives=[archive], tables=[table]))
    return parts


def check_part(
    root: Path, listed: Listed, part: SplitPart, advance: Advance = lambda size: None
) -> CheckedPart:
    """Read a part, one picture in memory.

    `listed` has the entries of checksums.json. `advance` is called with the bytes of each checked
    picture.
    """
    checked = CheckedPart(part)
    checked.problems += _compare_formats(root, listed, checked, advance)
    for name in part.tables:
        checked.files[name] = describe_file(root / name)
    return checked


def is_joined(parts: Sequence[CheckedPart]) -> bool:
    """Return whether checking a split in these parts has found what checking the whole finds."""
    if len(parts) == 1:
        return True
    if not all(part.is_complete and part.images for part in parts):
        return False
    return all(one.images[-1][0] != next_.images[0][0] for one, next_ in pairwise(parts))


def check_keys(parts: Sequence[CheckedPart]) -> Iterator[Problem]:
    """Check that WebDataset readers do not merge two pictures of a split."""
    images: dict[str, str] = {}  # image_id by the key that these readers use
    for part in parts:
        for image_id, where in part.images:
            key = make_sample_key(image_id)
            earlier = images.get(key)
            if earlier is None:
                images[key] = image_id
            elif earlier == image_id:
                message = f"expected the questions of {image_id!r} in consecutive lines"
                yield Problem(where, message)
            else:
                yield Problem(where, describe_key_clash(image_id, earlier))


def _cut_lines(root: Path, name: str, counts: Sequence[int]) -> list[LineRange]:
    """Return the lines that follow each other in these numbers; none if these are not all lines."""
    ranges = []
    first = 1
    with open(root / name, "rb") as file:
        for count in counts:
            start = file.tell()
            for _ in range(count):
                if not file.readline():
                    return []
            ranges.append(LineRange(name, first, start, file.tell()))
            first += count
        return [] if file.read(1) else ranges


def _compare_formats(
    root: Path, listed: Listed, checked: CheckedPart, advance: Advance
) -> Iterator[Problem]:
    part = checked.part
    lines = FormatReader(part.lines.name, read_lines(root, part.lines, checked.records))
    archives = FormatReader(
        part.archives[0], read_archives(root, part.archives, listed, checked.files)
    )
    tables = FormatReader(part.tables[0], read_tables(root, part.tables))
    readers = (lines, archives, tables)
    while True:
        for reader in readers:
            yield from reader.advance()
        if not (lines.entry and archives.entry and tables.entry):
            break
        difference = _find_difference(lines.entry, archives.entry, tables.entry)
        if difference:
            yield difference
            return
        yield from _check_picture(checked, lines.entry, archives.entry)
        advance(checked.sizes[-1])
    if any(reader.is_broken for reader in readers):
        return
    ended = [reader.name for reader in readers if reader.entry is None]
    checked.is_complete = len(ended) == len(readers)
    if not checked.is_complete:
        message = "expected the same pictures in all three formats, got fewer in"
        yield Problem(f"data/{part.domain}/{part.split}", f"{message} {', '.join(ended)}")


def _check_picture(
    checked: CheckedPart, lines: PictureEntry, archived: PictureEntry
) -> Iterator[Problem]:
    """Check a picture that is the same in all formats, and count it."""
    domain, split = checked.part[:2]
    if any(record["domain"] != domain for record in lines.records):
        yield Problem(lines.where, f"field domain: expected {domain!r}")
    records = [Record(**record) for record in lines.records]
    picture = Sample(records[0].image_id, archived.data or b"", records)
    checked.images.append((picture.image_id, lines.where))
    checked.sizes.append(len(picture.data))
    count_picture(picture, checked.counts)
    for record in records:
        checked.statistics.add_row(domain, split, record)
    verified = verify_picture(picture.data, archived.where)
    if isinstance(verified, Problem):
        yield verified
        return
    checked.statistics.add_width(domain, split, "image", verified.width)
    if verified.image.getexif().get(EXIF_ORIENTATION, 1) != 1:
        message = "turned by EXIF orientation, which the Hub's viewer ignores; turn the pixels"
        yield Problem(archived.where, message, is_warning=True)


def _find_difference(
    lines: PictureEntry, archived: PictureEntry, rows: PictureEntry
) -> Problem | None:
    """Return the first difference between the three formats of a picture, or None."""
    if lines.records != archived.records:
        return Problem(archived.where, f"the records differ from {lines.where}")
    picture = pa.py_buffer(archived.data or b"")
    for record, row in zip_longest(lines.records, rows.records):
        if record is None:
            expected, got = len(lines.records), len(rows.records)
            message = f"expected {expected} rows as {lines.where} has records, got {got}"
            return Problem(rows.where, message)
        differing = [name for name in mmrel.COLUMNS if not row or record[name] != row[name]]
        if not differing and not _is_image(row["image"], picture, record["image_id"]):
            differing = ["image"]
        if differing:
            return Problem(rows.where, f"column {', '.join(differing)} differs from {lines.where}")
    return None


def _is_image(image: Mapping[str, Any] | None, picture: pa.Buffer, path: str) -> bool:
    """Return whether the image of a row has these bytes and this path."""
    if image is None or image["bytes"] is None:
        return False
    return bool(image["path"] == path and picture.equals(image["bytes"]))

# SPDX-License-Identifier: Apache-2.0
"""Compare the three formats of a split row by row, and decode each of its pictures once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.build.archive import describe_key_clash, make_sample_key
from mmrel_kit.card.stats import SplitStats, count_picture, make_stats
from mmrel_kit.check.formats import FormatReader, PictureEntry, read_archives, read_lines
from mmrel_kit.check.records import RecordChecker
from mmrel_kit.check.tables import read_tables
from mmrel_kit.check.viewer import ViewerStatistics
from mmrel_kit.files import Problem
from mmrel_kit.pictures.archives import Sample
from mmrel_kit.pictures.validate import decode_picture
from mmrel_kit.questions.records import Record

EXIF_ORIENTATION = 0x0112


class SplitChecker:
    """Checks a split of a domain: its JSON lines, archives and tables, read side by side.

    Attributes:
        is_complete: whether `check` has read all formats to their ends without a difference.
    """

    def __init__(self, domain: str, name: str, root: Path, files: Sequence[str]) -> None:
        self.domain = domain
        self.name = name
        self.is_complete = False
        self._root = root
        self._stem = f"data/{domain}/{name}"
        self._files = files
        self._archives = [file for file in files if file.endswith(".tar")]
        self._tables = [file for file in files if file.endswith(".parquet")]
        self._counts: Counter[str] = Counter()
        self._images: dict[str, str] = {}  # image_id by the key that WebDataset readers use

    def check(
        self,
        listed: Mapping[str, Mapping[str, Any]],
        records: RecordChecker,
        statistics: ViewerStatistics,
        advance: Callable[[int], object],
    ) -> Iterator[Problem]:
        """Read the split, one picture in memory, and yield its problems.

        All splits share `records`; the rows of this one are added to `statistics`. `advance` is
        called with the bytes of each checked picture.
        """
        expected = self._list_files()
        if sorted(expected) != sorted(self._files):
            message = f"expected the files {', '.join(expected)}, got {', '.join(self._files)}"
            yield Problem(self._stem, message)
            return
        lines = FormatReader(expected[0], read_lines(self._root, expected[0], records))
        archives = FormatReader(
            self._archives[0], read_archives(self._root, self._archives, listed)
        )
        tables = FormatReader(self._tables[0], read_tables(self._root, self._tables))
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
            yield from self._check_picture(lines.entry, archives.entry, statistics)
            advance(len(archives.entry.data or b""))
        if any(reader.is_broken for reader in readers):
            return
        ended = [reader.name for reader in readers if reader.entry is None]
        self.is_complete = len(ended) == len(readers)
        if not self.is_complete:
            message = "expected the same pictures in all three formats, got fewer in"
            yield Problem(self._stem, f"{message} {', '.join(ended)}")

    def make_stats(self) -> SplitStats:
        """Return the statistics of the split, which `check` has counted."""
        table_bytes = sum((self._root / name).stat().st_size for name in self._tables)
        return make_stats(self.domain, self.name, self._counts, table_bytes)

    def _list_files(self) -> list[str]:
        """Return the files that a split with so many archives has."""
        count = max(1, len(self._archives))
        archives = [f"{self._stem}-{number:05d}.tar" for number in range(count)]
        tables = [f"{self._stem}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
        return [f"{self._stem}.jsonl", *archives, *tables]

    def _check_picture(
        self, lines: PictureEntry, archived: PictureEntry, statistics: ViewerStatistics
    ) -> Iterator[Problem]:
        """Check a picture that is the same in all formats, and count it."""
        if any(record["domain"] != self.domain for record in lines.records):
            yield Problem(lines.where, f"field domain: expected {self.domain!r}")
        records = [Record(**record) for record in lines.records]
        picture = Sample(records[0].image_id, archived.data or b"", records)
        yield from self._check_key(lines.where, picture.image_id)
        yield from self._check_pixels(archived.where, picture.data, statistics)
        for record in records:
            statistics.add_row(self.domain, self.name, record)
        count_picture(picture, self._counts)

    def _check_key(self, where: str, image_id: str) -> Iterator[Problem]:
        """Check that WebDataset readers do not merge the picture with an earlier one."""
        key = make_sample_key(image_id)
        earlier = self._images.get(key)
        if earlier is None:
            self._images[key] = image_id
        elif earlier == image_id:
            yield Problem(where, f"expected the questions of {image_id!r} in consecutive lines")
        else:
            yield Problem(where, describe_key_clash(image_id, earlier))

    def _check_pixels(
        self, where: str, data: bytes, statistics: ViewerStatistics
    ) -> Iterator[Problem]:
        image = decode_picture(data, where)
        if isinstance(image, Problem):
            yield image
            return
        statistics.add_width(self.domain, self.name, "image", image.width)
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            message = "turned by EXIF orientation, which the Hub's viewer ignores; turn the pixels"
            yield Problem(where, message, is_warning=True)


def _find_difference(
    lines: PictureEntry, archived: PictureEntry, rows: PictureEntry
) -> Problem | None:
    """Return the first difference between the three formats of a picture, or None."""
    if lines.records != archived.records:
        return Problem(archived.where, f"the records differ from {lines.where}")
    for record, row in zip_longest(lines.records, rows.records):
        if record is None:
            expected, got = len(lines.records), len(rows.records)
            message = f"expected {expected} rows as {lines.where} has records, got {got}"
            return Problem(rows.where, message)
        texts = {column: record[column] for column in mmrel.COLUMNS}
        image = {"bytes": archived.data, "path": record["image_id"]}
        if row == {"image": image, **texts}:
            continue
        differing = [name for name in texts if not row or texts[name] != row[name]] or ["image"]
        return Problem(rows.where, f"column {', '.join(differing)} differs from {lines.where}")
    return None

# SPDX-License-Identifier: Apache-2.0
"""Compare the three faces of a split row for row, and look at each of its pictures once."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import mmrel
from mmrel_kit.build.archive import describe_key_clash, make_sample_key
from mmrel_kit.card.stats import SplitStats, count_picture, make_stats
from mmrel_kit.check.formats import FormatReader, PictureEntry, read_archives, read_lines
from mmrel_kit.check.tables import read_tables
from mmrel_kit.files import Problem
from mmrel_kit.pictures.archives import Sample
from mmrel_kit.pictures.whole import decode_picture
from mmrel_kit.questions.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mmrel_kit.check.records import QuestionChecks
    from mmrel_kit.check.viewer import ViewerStatistics

EXIF_ORIENTATION = 0x0112


class Split:
    """A split of a domain: its JSON lines, archives and tables, read side by side.

    Attributes:
        domain: of the pictures.
        name: of the split.
        is_whole: whether `check` has read all faces to their ends and found the same in them.
    """

    def __init__(self, domain: str, name: str, root: Path, names: Sequence[str]) -> None:
        self.domain = domain
        self.name = name
        self.is_whole = False
        self._root = root
        self._stem = f"data/{domain}/{name}"
        self._names = names
        self._archives = [file for file in names if file.endswith(".tar")]
        self._tables = [file for file in names if file.endswith(".parquet")]
        self._counts: Counter[str] = Counter()
        self._images: dict[str, str] = {}  # by their names to WebDataset readers

    def check(
        self,
        files: Mapping[str, Mapping[str, Any]],
        questions: QuestionChecks,
        statistics: ViewerStatistics,
        advance: Callable[[int], object],
    ) -> Iterator[Problem]:
        """Read the split, one picture in memory, and yield what is wrong in it.

        Args:
            files: what checksums.json says of each file of the release.
            questions: those of other splits that were checked; these are added.
            statistics: of the columns; the rows of this split are added.
            advance: is called with the bytes of each picture that was checked.
        """
        expected = self._list_faces()
        if sorted(expected) != sorted(self._names):
            message = f"expected the faces {', '.join(expected)}, got {', '.join(self._names)}"
            yield Problem(self._stem, message)
            return
        lines = FormatReader(expected[0], read_lines(self._root, expected[0], questions))
        archives = FormatReader(self._archives[0], read_archives(self._root, self._archives, files))
        tables = FormatReader(self._tables[0], read_tables(self._root, self._tables))
        faces = (lines, archives, tables)
        while True:
            for face in faces:
                yield from face.advance()
            if not (lines.entry and archives.entry and tables.entry):
                break
            difference = _find_difference(lines.entry, archives.entry, tables.entry)
            if difference:
                yield difference
                return
            yield from self._check_picture(lines.entry, archives.entry, statistics)
            advance(len(archives.entry.data or b""))
        if any(face.is_broken for face in faces):
            return
        ended = [face.name for face in faces if face.entry is None]
        self.is_whole = len(ended) == len(faces)
        if not self.is_whole:
            expectation = "expected the same pictures in all three faces"
            yield Problem(self._stem, f"{expectation}, {', '.join(ended)} ends before")

    def make_stats(self) -> SplitStats:
        """Return what the card says of the split, once it was checked."""
        table_bytes = sum((self._root / name).stat().st_size for name in self._tables)
        return make_stats(self.domain, self.name, self._counts, table_bytes)

    def _list_faces(self) -> list[str]:
        count = max(1, len(self._archives))
        archives = [f"{self._stem}-{number:05d}.tar" for number in range(count)]
        tables = [f"{self._stem}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
        return [f"{self._stem}.jsonl", *archives, *tables]

    def _check_picture(
        self,
        lines: PictureEntry,
        archived: PictureEntry,
        statistics: ViewerStatistics,
    ) -> Iterator[Problem]:
        """Check a picture that all faces agree on, and count it."""
        if any(record["domain"] != self.domain for record in lines.records):
            yield Problem(lines.where, f"field domain: expected {self.domain!r}")
        records = [Record(**record) for record in lines.records]
        picture = Sample(records[0].image_id, archived.data or b"", records)
        yield from self._check_name(lines.where, picture.image_id)
        yield from self._check_pixels(archived.where, picture.data, statistics)
        for record in records:
            statistics.add_row(self.domain, self.name, record)
        count_picture(picture, self._counts)

    def _check_name(self, where: str, image_id: str) -> Iterator[Problem]:
        key = make_sample_key(image_id)
        twin = self._images.get(key)
        if twin is None:
            self._images[key] = image_id
        elif twin == image_id:
            yield Problem(where, f"expected all questions of {image_id!r} to stand together")
        else:
            yield Problem(where, describe_key_clash(image_id, twin))

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
    """Return where the faces say something else of a picture, or None."""
    if lines.records != archived.records:
        return Problem(archived.where, f"the records differ from {lines.where}")
    for record, row in zip_longest(lines.records, rows.records):
        if record is None:
            expected, got = len(lines.records), len(rows.records)
            message = f"expected {expected} rows as {lines.where} has records, got {got}"
            return Problem(rows.where, message)
        wanted = {column: record[column] for column in mmrel.COLUMNS}
        image = {"bytes": archived.data, "path": record["image_id"]}
        if row == {"image": image, **wanted}:
            continue
        differing = [name for name in wanted if not row or wanted[name] != row[name]] or ["image"]
        message = f"column {', '.join(differing)} differs from {lines.where}"
        return Problem(rows.where, message)
    return None

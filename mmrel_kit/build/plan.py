# SPDX-License-Identifier: Apache-2.0
"""Plan a release: the location of each picture, and the shard that it goes into.

The plan is an SQLite file, so memory does not grow with the questions, and other processes can read
it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.build.archive import describe_key_clash, make_sample_key
from mmrel_kit.files import MAX_LISTED_PROBLEMS, InputError, Problem, raise_problems
from mmrel_kit.pictures.index import Location
from mmrel_kit.questions.records import Record
from mmrel_kit.questions.table import FIELDS, QuestionTable, make_order, read_record
from mmrel_kit.sources.local import Pictures

# Limits of a shard.
SHARD_BYTES = 256 << 20  # of pictures in an archive
SHARD_DECODED_BYTES = 1 << 30  # of pictures, one copy per row; some readers fail from 2 GiB on
SHARD_ROWS = 50_000  # reached with small pictures; a record takes about 500 bytes
# A shard also ends where the categories of the pictures change, if it is at least this part full.
MIN_FILL = 1 / 8

# A row per picture, in the order of the release. `member` is its key to WebDataset readers, `rows`
# the number of questions, `size` its bytes, `location` a `Location` as JSON. The last three columns
# are null if no source has the picture.
_TABLES = """
create table pictures (
    domain, split, image_id, member, rows integer, size integer, shard integer, location
);
create unique index by_member on pictures (domain, split, member, image_id);
"""
_INSERT_PICTURE = "insert into pictures values (?, ?, ?, sample_key(?3), ?, ?, ?, ?)"
# Needed once all pictures are inserted.
_INDEXES = """
create index by_picture on questions (domain, split, image_id);
create index by_shard on pictures (domain, split, shard);
"""
# The pictures that questions are about, with the number of questions and a 0 or 1 per category.
# Pictures with the same categories are adjacent: first those with only spatial questions.
_HAS_CATEGORY = ", ".join(f"max(category = '{name}')" for name in reversed(mmrel.CATEGORIES))
_PICTURES = f"""
select domain, split, image_id, count(*), {_HAS_CATEGORY} from questions
group by domain, split, image_id order by domain, split, {_HAS_CATEGORY}, image_id
"""
# The questions of a shard, with the location of their pictures. Those about one picture are sorted
# by category and `pair_id`, yes before no.
_ROWS = f"""
select p.image_id, p.location, {", ".join(f"q.{name}" for name in FIELDS)}
from pictures p join questions q using (domain, split, image_id)
where domain = ? and split = ? and shard = ?
order by p.rowid, {make_order("q.category", mmrel.CATEGORIES)},
    q.pair_id is null, q.pair_id, q.answer != 'yes', q.question_id
"""
_SHARDS = """
select domain, split, shard, max(shard) over (partition by domain, split) + 1, sum(size)
from pictures where shard is not null
group by domain, split, shard order by domain, split, shard
"""
_LOCATIONS = "select location from pictures where domain = ? and split = ? and shard = ?"
_COUNTS = "select coalesce(sum(rows), 0), count(*) from pictures where shard is not null"
# Missing pictures, each with the source of its first question: with min(), SQLite takes the other
# columns from the row of the minimum.
_MISSING = """
select domain, split, image_id, rows, q.source, min(q.rowid)
from pictures p join questions q using (domain, split, image_id) where shard is null
group by domain, split, image_id order by domain, split, image_id
"""
_FIRST_MISSING = "select image_id from pictures where shard is null order by rowid limit ?"
# Numbers of missing pictures and their questions, by domain and annotation file.
_MISSING_TOTALS = """
select q.domain, q.file, count(distinct q.image_id), count(*)
from questions q join pictures p using (domain, split, image_id) where p.shard is null
group by q.domain, q.file order by q.domain, q.file
"""
# Questions of the release without a triplet, by category.
_COUNT_UNPARSED = f"""
select category, count(*)
from questions join pictures using (domain, split, image_id)
where subject is null and shard is not null
group by category order by {make_order("category", mmrel.CATEGORIES)}
"""
# Pairs of pictures with the same key to WebDataset readers.
_KEY_CLASHES = """
select a.image_id, b.image_id
from pictures a join pictures b using (domain, split, member)
where a.image_id < b.image_id limit 100
"""
_FIRST_LINE = "select line from questions where image_id = ? order by rowid"


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard of a split: its `index` of `count`, and `size`, the bytes of its pictures."""

    domain: str
    split: str
    index: int
    count: int
    size: int

    @property
    def name(self) -> str:
        """Name of the shard during a build."""
        return f"{self.domain}-{self.split}-{self.index:05d}"


class MissingPicture(NamedTuple):
    """A picture that no source has, and the number of questions about it."""

    domain: str
    split: str
    image_id: str
    questions: int
    source: str


class PlannedPicture(NamedTuple):
    """A picture of a shard: its location, and the records about it."""

    image_id: str
    location: Location
    records: list[Record]


class BuildPlan(QuestionTable):
    """The questions of a release, with their pictures and shards.

    `resume` opens the existing SQLite file read-only, instead of a new one.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        super().__init__(path, resume)
        if not resume:
            self.db.create_function("sample_key", 1, make_sample_key, deterministic=True)
            self.db.executescript(_TABLES)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path: each process opens the file itself."""
        return BuildPlan, (self.path, True)

    def assign_shards(self, pictures: Pictures, shard_bytes: int, allow_missing: bool) -> None:
        """Locate every picture and assign it to a shard.

        Raises:
            InputError: no source has any picture, some pictures are missing without
                `allow_missing`, or WebDataset readers would merge two of them.
        """
        self.db.executemany(_INSERT_PICTURE, self._locate_pictures(pictures, shard_bytes))
        raise_problems(list(self._find_key_clashes()))
        if not allow_missing and self.db.execute(_FIRST_MISSING, (1,)).fetchone():
            self._raise_missing(pictures)
        self.db.executescript(_INDEXES)
        if not self.list_shards():
            raise InputError(
                f"expected pictures in {pictures.describe()}, got none that a question is about"
            )
        self.db.commit()

    def list_image_ids(self) -> list[str]:
        """Return the pictures that questions are about."""
        rows = self.db.execute("select distinct image_id from questions order by image_id")
        return [image_id for (image_id,) in rows]

    def count_contents(self) -> tuple[int, int]:
        """Return the numbers of questions and pictures that the release will have."""
        questions, pictures = self.db.execute(_COUNTS).fetchone()
        return int(questions), int(pictures)

    def count_unparsed(self) -> dict[str, int]:
        """Count the questions of the release that no grammar parses, by category."""
        return dict(self.db.execute(_COUNT_UNPARSED).fetchall())

    def missing_pictures(self) -> Iterator[MissingPicture]:
        """Yield the pictures that no source has."""
        for *row, _ in self.db.execute(_MISSING):
            yield MissingPicture(*row)

    def list_shards(self) -> list[Shard]:
        """Return the shards of the release, by domain, split and index."""
        return [Shard(*row) for row in self.db.execute(_SHARDS)]

    def is_current(self, pictures: Pictures, shards: Iterable[Shard]) -> bool:
        """Return whether the pictures of some shards are unchanged since they were planned."""
        for shard in shards:
            for (text,) in self.db.execute(_LOCATIONS, (shard.domain, shard.split, shard.index)):
                if not pictures.is_current(Location(*json.loads(text))):
                    return False
        return True

    def read(self, shard: Shard) -> Iterator[PlannedPicture]:
        """Yield the pictures of a shard with their records, in the order of the release."""
        for (image_id, text), rows in groupby(self._rows(shard), key=lambda row: row[:2]):
            records = [read_record(row[2:]) for row in rows]
            yield PlannedPicture(image_id, Location(*json.loads(text)), records)

    def make_fingerprint(self, shard: Shard) -> str:
        """Return a hash of the whole input of a shard."""
        digest = hashlib.sha256(repr(shard).encode())
        for row in self._rows(shard):
            digest.update(repr(row).encode())
        return digest.hexdigest()

    def _locate_pictures(
        self, pictures: Pictures, shard_bytes: int
    ) -> Iterator[tuple[str, str, str, int, int | None, int | None, str | None]]:
        """Yield the rows of the table of pictures, without `member`."""
        cutter = _ShardCutter(shard_bytes)
        for domain, split, image_id, rows, *categories in self.db.execute(_PICTURES):
            location = pictures.find(image_id)
            if location is None:
                yield domain, split, image_id, rows, None, None, None
                continue
            shard = cutter.assign((domain, split), categories, location.size, rows)
            yield domain, split, image_id, rows, location.size, shard, json.dumps(location)

    def _find_key_clashes(self) -> Iterator[Problem]:
        """Yield pictures that WebDataset readers would merge with another one."""
        for image_id, other in self.db.execute(_KEY_CLASHES).fetchall():
            yield Problem(self._find_line(other), describe_key_clash(other, image_id))

    def _raise_missing(self, pictures: Pictures) -> None:
        """Raise an error with the first missing pictures, and counts by domain and file."""
        lines = []
        for (image_id,) in self.db.execute(_FIRST_MISSING, (MAX_LISTED_PROBLEMS,)).fetchall():
            lines.append(f"{self._find_line(image_id)}: picture {image_id!r} is missing")
        missing = 0
        for domain, file, count, rows in self.db.execute(_MISSING_TOTALS):
            lines.append(f"{domain}: {count} pictures of {rows} questions in {file}")
            missing += count
        lines.append(
            f"{missing} pictures are missing in {pictures.describe()}; fetch them (mmrel "
            "fetch), or build without their questions: --allow-missing"
        )
        raise InputError("\n".join(lines))

    def _find_line(self, image_id: str) -> str:
        """Return file and line of the first question about a picture."""
        return str(self.db.execute(_FIRST_LINE, (image_id,)).fetchone()[0])

    def _rows(self, shard: Shard) -> sqlite3.Cursor:
        return self.db.execute(_ROWS, (shard.domain, shard.split, shard.index))


class _ShardCutter:
    """Assigns pictures to shards, one after another.

    A shard ends when the next picture would exceed a limit. It also ends where the categories of
    the pictures change, unless the shard is small, so that a user of some categories need not read
    the others.
    """

    def __init__(self, shard_bytes: int) -> None:
        self._shard_bytes = shard_bytes
        self._split: tuple[str, str] | None = None
        self._categories: list[int] = []
        self._shard = 0
        self._empty()

    def assign(self, split: tuple[str, str], categories: list[int], size: int, rows: int) -> int:
        """Return the index of the shard for the next picture.

        Args:
            split: domain and split of the picture.
            categories: 0 or 1 for each category, whether a question about the picture has it.
            size: bytes of the picture.
            rows: number of questions about it.
        """
        if split != self._split:
            self._split, self._shard = split, 0
            self._empty()
        is_full = (
            self._stored + size > self._shard_bytes
            or self._decoded + size * rows > SHARD_DECODED_BYTES
            or self._rows + rows > SHARD_ROWS
        )
        is_small = self._stored < self._shard_bytes * MIN_FILL
        ends_here = categories != self._categories and not is_small
        if self._rows and (is_full or ends_here):
            self._shard += 1
            self._empty()
        self._categories = categories
        self._stored += size
        self._decoded += size * rows
        self._rows += rows
        return self._shard

    def _empty(self) -> None:
        self._stored = self._decoded = self._rows = 0

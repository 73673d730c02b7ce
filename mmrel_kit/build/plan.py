# SPDX-License-Identifier: Apache-2.0
"""Plans a release: every question in its place, cut into shards of bounded size, on disk rather than in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from mmrel_kit.build.archive import describe_merge, sample_key
from mmrel_kit.files import SHOWN_PROBLEMS, InputError, raise_problems
from mmrel_kit.pictures.sources import Place
from mmrel_kit.questions.records import Record
from mmrel_kit.questions.table import QuestionTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mmrel_kit.pictures.sources import Pictures

SHARD_BYTES = 256 << 20  # of pictures in an archive
SHARD_DECODED_BYTES = 1 << 30  # once each row has its own copy; some readers fail from 2 GiB on
SHARD_ROWS = 50_000  # of small pictures; a record is about 500 bytes
CUT_SHARE = 8  # an archive with an eighth of its size ends where the categories of its pictures change
_TABLES = """
create table pictures (domain, split, kinds, image_id, member, rows integer, size integer, shard integer, place);
create unique index by_member on pictures (domain, split, member, image_id);
"""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a split: `index` of `count`, and the bytes of its pictures."""

    domain: str
    split: str
    index: int
    count: int
    size: int

    @property
    def name(self) -> str:
        """What the shard is called while a release is built."""
        return f"{self.domain}-{self.split}-{self.index:05d}"


class Missing(NamedTuple):
    """A picture that no source has, and how many questions are about it."""

    domain: str
    split: str
    image_id: str
    questions: int
    source: str


class Plan(QuestionTable):
    """The questions of a release in their order, with its pictures and shards.

    Args:
        path: the file.
        resume: open the file as it stands, to read it, instead of making it anew.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        super().__init__(path, resume)
        if not resume:
            self.db.create_function("sample_key", 1, sample_key, deterministic=True)
            self.db.executescript(_TABLES)

    def place_pictures(self, pictures: Pictures, shard_bytes: int = SHARD_BYTES, allow_missing: bool = False) -> None:
        """Find every picture and cut the splits into shards.

        Raises:
            InputError: pictures are missing and that is not allowed; it lists them.
        """
        self.db.executemany(
            "insert into pictures values (?,?,?,?,sample_key(?4),?,?,?,?)",
            self._place_each(pictures, shard_bytes),
        )
        self._check_members()
        if not allow_missing and self.db.execute("select 1 from pictures where shard is null").fetchone():
            self._raise_missing(pictures)
        self.db.execute("create index by_picture on questions (domain, split, image_id)")
        self.db.execute("create index by_shard on pictures (domain, split, shard)")
        if not self.db.execute("select 1 from pictures where shard is not null").fetchone():
            raise InputError(f"expected pictures in {pictures.describe()}, found none of those asked about")
        self.db.commit()

    def count_placed(self) -> tuple[int, int]:
        """Return how many questions and how many pictures the release will have."""
        query = "select coalesce(sum(rows), 0), count(*) from pictures where shard is not null"
        questions, pictures = self.db.execute(query).fetchone()
        return int(questions), int(pictures)

    def missing(self) -> Iterator[Missing]:
        """The pictures that no source has."""
        rows = self.db.execute(
            "select domain, split, image_id, rows, json_extract(record, '$.source'), min(q.rowid) from pictures p "
            "join questions q using (domain, split, image_id) where shard is null "
            "group by domain, split, image_id order by domain, split, image_id"
        )
        return (Missing(*row) for *row, _ in rows)  # SQLite takes what stands beside a minimum from its row

    def shards(self) -> list[Shard]:
        """The shards of the release, by domain, split and index."""
        found = self.db.execute(
            "select domain, split, shard, max(shard) over (partition by domain, split) + 1, sum(size) from pictures "
            "where shard is not null group by domain, split, shard order by domain, split, shard"
        )
        return [Shard(*row) for row in found]

    def is_current(self, pictures: Pictures, shards: Iterable[Shard]) -> bool:
        """Whether the pictures of some shards are still as they were planned."""
        for shard in shards:
            wanted = (shard.domain, shard.split, shard.index)
            query = "select place from pictures where domain = ? and split = ? and shard = ?"
            if not all(pictures.is_current(Place(*json.loads(place))) for (place,) in self.db.execute(query, wanted)):
                return False
        return True

    def read(self, shard: Shard) -> Iterator[tuple[str, Place, list[Record]]]:
        """Each picture of a shard with its place and records, in the order of the release."""
        for (image_id, place), group in groupby(self._rows(shard), key=lambda row: row[:2]):
            yield image_id, Place(*json.loads(place)), [Record(**json.loads(record)) for _, _, record in group]

    def make_fingerprint(self, shard: Shard) -> str:
        """A hash of everything that goes into a shard."""
        digest = hashlib.sha256(repr(shard).encode())
        for row in self._rows(shard):
            digest.update(repr(row).encode())
        return digest.hexdigest()

    def _place_each(self, pictures: Pictures, shard_bytes: int) -> Iterator[tuple[object, ...]]:
        """Rows of the table of pictures.

        A shard ends where the next picture would be too much for it; or is of other categories, so that who wants only
        these need not read it, unless it would be a small one.
        """
        split_now: tuple[str, str] | None = None
        shard = stored = decoded = questions = kinds_now = 0
        for domain, split, kinds, image_id, rows in self.db.execute(
            "select domain, split, sum(distinct 1 << category) as kinds, image_id, count(*) from questions "
            "group by domain, split, image_id order by domain, split, kinds, image_id"
        ):
            if (domain, split) != split_now:
                split_now, shard, stored, decoded, questions = (domain, split), 0, 0, 0, 0
            if (place := pictures.find(image_id)) is None:
                yield domain, split, kinds, image_id, rows, None, None, None
                continue
            turns, kinds_now = kinds != kinds_now and stored * CUT_SHARE >= shard_bytes, kinds
            stored, decoded, questions = stored + place.size, decoded + place.size * rows, questions + rows
            full = stored > shard_bytes or decoded > SHARD_DECODED_BYTES or questions > SHARD_ROWS
            if (full or turns) and questions > rows:
                shard, stored, decoded, questions = shard + 1, place.size, place.size * rows, rows
            yield domain, split, kinds, image_id, rows, place.size, shard, json.dumps(place)

    def _check_members(self) -> None:
        """Raise where WebDataset readers would take two pictures for one."""
        twins = self.db.execute(
            "select a.image_id, b.image_id from pictures a join pictures b using (domain, split, member) "
            "where a.image_id < b.image_id limit 100"
        ).fetchall()
        merges = ((self._place(other), describe_merge(other, image_id)) for image_id, other in twins)
        raise_problems([f"{place}: {merge}" for place, merge in merges])

    def _raise_missing(self, pictures: Pictures) -> None:
        """List the pictures that are missing: the first ones, then their number by domain and annotation file."""
        first = self.db.execute(
            f"select image_id from pictures where shard is null order by rowid limit {SHOWN_PROBLEMS}"
        ).fetchall()
        shown = [f"{self._place(image_id)}: picture {image_id!r} is missing" for (image_id,) in first]
        totals = self.db.execute(
            "select q.domain, rtrim(rtrim(q.place, '0123456789'), ':') as file, count(distinct q.image_id), count(*) "
            "from questions q join pictures p using (domain, split, image_id) where p.shard is null "
            "group by q.domain, file order by q.domain, file"
        ).fetchall()
        counts = [f"{domain}: {n} pictures of {rows} questions in {file}" for domain, file, n, rows in totals]
        number = sum(row[2] for row in totals)
        raise InputError(
            "\n".join(shown + counts) + f"\n{number} pictures are missing in {pictures.describe()}; fetch them "
            "(python upload.py sources tells from where), or build without their questions: --allow-missing"
        )

    def _place(self, image_id: str) -> str:
        found = self.db.execute("select place from questions where image_id = ? order by rowid", (image_id,)).fetchone()
        return str(found[0])

    def _rows(self, shard: Shard) -> sqlite3.Cursor:
        return self.db.execute(
            "select p.image_id, p.place, q.record from pictures p join questions q using (domain, split, image_id) "
            "where domain = ? and split = ? and shard = ? "
            "order by p.kinds, p.image_id, q.category, q.pair_id is null, q.pair_id, q.answer != 'yes', q.question_id",
            (shard.domain, shard.split, shard.index),
        )

# SPDX-License-Identifier: Apache-2.0
"""Plans a release: every question in its place, cut into shards of bounded size, on disk rather than in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from release.annotations import SHOWN_PROBLEMS, raise_problems
from release.archives import make_json, records_member
from release.records import InputError, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from release.annotations import Question
    from release.sources import PictureFolder

SHARD_BYTES = 256 << 20  # of pictures in an archive
SHARD_DECODED_BYTES = 1 << 30  # once each row has its own copy; some readers fail from 2 GiB on
_TABLES = """
create table questions (
    domain, split, image_id, category integer, pair_id, task integer, answer, question_id, record, place, counter
);
create table pictures (domain, split, kinds, image_id, member, rows integer, size integer, shard integer);
create unique index by_member on pictures (domain, split, member, image_id);
"""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a split: `index` of `count`, and the hash of what goes into it."""

    domain: str
    split: str
    index: int
    count: int
    fingerprint: str


class Partners(NamedTuple):
    """How a category's yes/no questions stand together by `pair_id` within a split."""

    groups: int
    complete: int
    no_partner_yes: int
    no_partner_no: int
    without_yes: int
    without_no: int


class Plan:
    """The questions of a release in their order, in an SQLite file, so that memory does not grow with them.

    Args:
        path: the file, made anew.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path)
        # The plan is made anew in each run: nothing is lost with it.
        self._db.execute("pragma journal_mode = off")
        self._db.execute("pragma synchronous = off")
        self._db.create_function("member", 1, records_member, deterministic=True)
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, questions: Iterable[Question], problems: list[str]) -> None:
        """Take in all questions; raises `InputError` with all problems, those met before and double ids."""
        self._db.executemany("insert into questions values (?,?,?,?,?,?,?,?,?,?,?)", map(_question_row, questions))
        self._rename_counters()
        doubles = self._db.execute(
            "select question_id, place, first from (select question_id, place, "
            "first_value(place) over same as first, row_number() over same as nth from questions "
            "window same as (partition by question_id order by rowid)) where nth > 1"
        )
        problems.extend(
            f"{place}: expected each question once, question_id {id_!r} stands already at {first}"
            for id_, place, first in doubles
        )
        raise_problems(problems)
        if not self._db.execute("select 1 from questions").fetchone():
            raise InputError("expected questions about MMRel's pictures in the annotations, found none")

    def place_pictures(self, pictures: PictureFolder, shard_bytes: int = SHARD_BYTES) -> None:
        """Find every picture and cut the splits into shards; raises `InputError` with those that are missing."""
        self._db.execute(
            "insert into pictures select domain, split, sum(distinct 1 << category), image_id, member(image_id), "
            "count(*), null, null from questions group by domain, split, image_id"
        )
        self._check_members()
        places: dict[tuple[str, str], tuple[int, int, int]] = {}
        missing: list[str] = []
        updates = []
        for row, domain, split, image_id, rows in self._db.execute(
            "select rowid, domain, split, image_id, rows from pictures order by domain, split, kinds, image_id"
        ):
            if (size := pictures.size(image_id)) is None:
                missing.append(image_id)
                continue
            shard, stored, decoded = places.get((domain, split), (0, 0, 0))
            stored, decoded = stored + size, decoded + size * rows
            if stored > size and (stored > shard_bytes or decoded > SHARD_DECODED_BYTES):
                shard, stored, decoded = shard + 1, size, size * rows
            places[domain, split] = shard, stored, decoded
            updates.append((size, shard, row))
        if missing:
            self._raise_missing(missing, pictures)
        self._db.executemany("update pictures set size = ?, shard = ? where rowid = ?", updates)
        self._db.execute("create index by_picture on questions (domain, split, image_id)")
        self._db.commit()

    def shards(self) -> list[Shard]:
        """The shards of the release, by domain, split and index."""
        counts = self._db.execute(
            "select domain, split, max(shard) + 1 from pictures group by domain, split order by domain, split"
        ).fetchall()
        return [
            Shard(domain, split, index, count, self._fingerprint(domain, split, index))
            for domain, split, count in counts
            for index in range(count)
        ]

    def read(self, domain: str, split: str, index: int) -> Iterator[tuple[str, list[Record]]]:
        """Each picture of a shard with its records, in the order of the release."""
        rows = self._rows(domain, split, index)
        for image_id, group in groupby(rows, key=lambda row: row[0]):
            yield image_id, [Record(**json.loads(record)) for _, _, record in group]

    def count_partners(self) -> dict[tuple[str, str], Partners]:
        """By split and category: groups with a yes and a no, single questions, larger groups that lack one."""
        found = self._db.execute(
            "select split, category, count(*), sum(yes and no), sum(yes = 1 and no = 0), sum(yes = 0 and no = 1), "
            "sum(yes = 0 and no > 1), sum(yes > 1 and no = 0) from (select split, category, "
            "sum(answer = 'yes') as yes, sum(answer = 'no') as no from questions where pair_id is not null "
            "group by split, pair_id) group by split, category"
        )
        return {(split, mmrel.CATEGORIES[category]): Partners(*counts) for split, category, *counts in found}

    def _rename_counters(self) -> None:
        """Ids that count from the start again in each file get a name of their own, file and line."""
        self._db.execute("create index by_id on questions (question_id)")
        self._db.execute(
            "update questions set question_id = json_extract(record, '$.source'), "
            "record = json_set(record, '$.question_id', json_extract(record, '$.source')) where counter is not null "
            "and question_id in (select question_id from questions where counter is not null "
            "group by question_id having count(distinct counter) > 1)"
        )

    def _check_members(self) -> None:
        """An archive holds a picture's records under the picture's name without its ending, so that must be unique."""
        twins = self._db.execute(
            "select a.image_id, b.image_id from pictures a join pictures b using (domain, split, member) "
            "where a.image_id < b.image_id"
        ).fetchall()
        raise_problems(
            [f"{self._place(b)}: picture {b!r} differs from {a!r} by its ending alone; rename one" for a, b in twins]
        )

    def _raise_missing(self, missing: list[str], pictures: PictureFolder) -> None:
        shown = "\n".join(f"{self._place(name)}: picture {name!r} is missing" for name in missing[:SHOWN_PROBLEMS])
        raise InputError(f"{shown}\n{len(missing)} pictures are missing under {pictures.root}; fetch them")

    def _place(self, image_id: str) -> str:
        found = self._db.execute(
            "select place from questions where image_id = ? order by rowid", (image_id,)
        ).fetchone()
        return str(found[0])

    def _rows(self, domain: str, split: str, index: int) -> sqlite3.Cursor:
        return self._db.execute(
            "select p.image_id, p.size, q.record from pictures p join questions q using (domain, split, image_id) "
            "where domain = ? and split = ? and shard = ? "
            "order by p.kinds, p.image_id, q.category, q.pair_id is null, q.pair_id, q.answer != 'yes', q.question_id",
            (domain, split, index),
        )

    def _fingerprint(self, domain: str, split: str, index: int) -> str:
        digest = hashlib.sha256()
        for row in self._rows(domain, split, index):
            digest.update(repr(row).encode())
        return digest.hexdigest()


def _question_row(question: Question) -> tuple[object, ...]:
    record = question.record
    return (
        record.domain, question.split, record.image_id, mmrel.CATEGORIES.index(record.category), record.pair_id,
        mmrel.TASKS.index(record.task), record.answer, record.question_id, make_json(record.to_json()), question.where,
        question.where.rpartition(":")[0] if record.question_id.isdigit() else None,
    )  # fmt: skip

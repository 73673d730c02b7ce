# SPDX-License-Identifier: Apache-2.0
"""Plans a release: every question in its place, cut into shards of bounded size, on disk rather than in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sqlite3
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from mmrel_kit.files import MAX_PROBLEMS, SHOWN_PROBLEMS, InputError, make_json, raise_problems
from mmrel_kit.pictures.archives import describe_merge, sample_key
from mmrel_kit.pictures.sources import Place
from mmrel_kit.questions.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mmrel_kit.pictures.sources import Pictures
    from mmrel_kit.questions.annotations import Question

SHARD_BYTES = 256 << 20  # of pictures in an archive
SHARD_DECODED_BYTES = 1 << 30  # once each row has its own copy; some readers fail from 2 GiB on
SHARD_ROWS = 50_000  # of small pictures; a record is about 500 bytes
CUT_SHARE = 8  # an archive with an eighth of its size ends where the categories of its pictures change
# The number of a source: the line of a file, or the item of a labelling project (see semidc).
_NUMBER = re.compile(r"(?<=^semidc item )[0-9]+|(?<=:)[0-9]+\Z")
_TABLES = """
create table told (name primary key, value);
create table questions (
    domain, split, image_id, category integer, task integer, subject, relation, object, question, answer, pair_id,
    question_id, record, place, counter
);
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


class Partners(NamedTuple):
    """How a category's yes/no questions stand together by `pair_id` within a split."""

    groups: int
    complete: int
    no_partner_yes: int
    no_partner_no: int
    without_yes: int
    without_no: int


class Missing(NamedTuple):
    """A picture that no source has, and how many questions are about it."""

    domain: str
    split: str
    image_id: str
    questions: int
    source: str


class Plan:
    """The questions of a release in their order, in an SQLite file, so that memory does not grow with them.

    Args:
        path: the file.
        resume: open the file as it stands, to read it, instead of making it anew.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path = path
        if resume:
            self.db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            return
        path.unlink(missing_ok=True)
        self.db = sqlite3.connect(path)
        # A plan that is not finished is made anew: nothing is lost with it.
        self.db.execute("pragma journal_mode = off")
        self.db.execute("pragma synchronous = off")
        self.db.create_function("sample_key", 1, sample_key, deterministic=True)
        self.db.create_function("pad_source", 2, pad_source, deterministic=True)
        self.db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def tell(self, name: str, value: object) -> None:
        """Keep something beside the questions: what the plan was made from, what was left out."""
        self.db.execute("insert or replace into told values (?, ?)", (name, json.dumps(value)))
        self.db.commit()

    def told(self, name: str) -> object:
        """What `tell` has kept, or null."""
        found = self.db.execute("select value from told where name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found else None

    def add(self, questions: Iterable[Question], problems: list[str]) -> None:
        """Take in all questions; raises `InputError` with all problems, those met before and double ids."""
        marks = ",".join("?" * 15)
        lengths: dict[str, int] = {}
        assumed: dict[str, int] = {}
        passing = _note(questions, lengths, assumed)
        self.db.executemany(f"insert into questions values ({marks})", map(_question_row, passing))
        self._rename_counters()
        self._pad_sources(lengths)
        self.tell("assumed", assumed)
        doubles = self.db.execute(
            "select question_id, place, first from (select question_id, place, "
            "first_value(place) over same as first, row_number() over same as nth from questions "
            f"window same as (partition by question_id order by rowid)) where nth > 1 limit {MAX_PROBLEMS}"
        )
        problems.extend(
            f"{place}: expected each question once, question_id {id_!r} stands already at {first}"
            for id_, place, first in doubles
        )
        raise_problems(problems)
        if not self.db.execute("select 1 from questions").fetchone():
            raise InputError("expected questions about MMRel's pictures in the annotations, found none")

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

    def count_questions(self) -> int:
        """Return how many questions there are, with those whose picture is missing."""
        return int(self.db.execute("select count(*) from questions").fetchone()[0])

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

    def count_partners(self) -> dict[tuple[str, str], Partners]:
        """By split and category: groups with a yes and a no, single questions, larger groups that lack one."""
        found = self.db.execute(
            "select split, category, count(*), sum(yes and no), sum(yes = 1 and no = 0), sum(yes = 0 and no = 1), "
            "sum(yes = 0 and no > 1), sum(yes > 1 and no = 0) from (select split, category, "
            "sum(answer = 'yes') as yes, sum(answer = 'no') as no from questions where pair_id is not null "
            "group by split, pair_id) group by split, category"
        )
        return {(split, mmrel.CATEGORIES[category]): Partners(*counts) for split, category, *counts in found}

    def _rename_counters(self) -> None:
        """Ids that count from the start again in each file get a name of their own, file and line."""
        self.db.execute("create index by_id on questions (question_id)")
        self.db.execute(
            "update questions set question_id = json_extract(record, '$.source'), "
            "record = json_set(record, '$.question_id', json_extract(record, '$.source')) where counter is not null "
            "and question_id in (select question_id from questions where counter is not null "
            "group by question_id having count(distinct counter) > 1)"
        )

    def _pad_sources(self, lengths: dict[str, int]) -> None:
        """Make the sources of each split as long as its longest, as the Hub's viewer needs them."""
        for split, length in lengths.items():
            self.db.execute(
                "update questions set record = json_set(record, '$.source', "
                "pad_source(json_extract(record, '$.source'), ?)) "
                "where split = ? and length(json_extract(record, '$.source')) < ?",
                (length, split, length),
            )

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


def pad_source(source: str, length: int) -> str:
    """Pad a source to a length, in characters: its number with zeros; its end, if it has none.

    A source that is long enough stays as it is, so that a release which is built from its own
    records has the same ones.

    >>> pad_source("json/test.jsonl:7", 19)
    'json/test.jsonl:007'
    >>> pad_source("semidc item 7: propose spatial-1 some-model", 45)
    'semidc item 007: propose spatial-1 some-model'
    """
    missing = length - len(source)
    number = _NUMBER.search(source)
    if missing <= 0:
        return source
    if number is None:
        return source + " " * missing
    return source[: number.start()] + "0" * missing + source[number.start() :]


def _note(questions: Iterable[Question], lengths: dict[str, int], assumed: dict[str, int]) -> Iterator[Question]:
    """Pass questions on; note the longest source of each split, and the questions that name none.

    Args:
        questions: what is read.
        lengths: is given the length of the longest source, in characters, by split.
        assumed: is given the number of questions whose split nothing names, by annotation file.
    """
    for question in questions:
        lengths[question.split] = max(lengths.get(question.split, 0), len(question.record.source))
        if question.is_assumed:
            file = question.where.rpartition(":")[0]
            assumed[file] = assumed.get(file, 0) + 1
        yield question


def _question_row(question: Question) -> tuple[object, ...]:
    record = question.record
    return (
        record.domain, question.split, record.image_id, mmrel.CATEGORIES.index(record.category),
        mmrel.TASKS.index(record.task), record.subject, record.relation, record.object, record.question, record.answer,
        record.pair_id, record.question_id, make_json(record.to_json()), question.where,
        question.where.rpartition(":")[0] if record.question_id.isdigit() else None,
    )  # fmt: skip

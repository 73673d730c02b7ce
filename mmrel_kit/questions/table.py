# SPDX-License-Identifier: Apache-2.0
"""Store the questions of a release in an SQLite file, which a build and an audit query.

Memory does not grow with the questions. Each field of a record is a column of text.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.files import (
    MAX_LISTED_PROBLEMS,
    MAX_PROBLEMS,
    InputError,
    Problem,
    make_json,
    raise_problems,
)
from mmrel_kit.questions.annotations import Annotation, LeftOut
from mmrel_kit.questions.records import Record


def make_order(column: str, values: Sequence[str]) -> str:
    """Return an SQL expression that sorts a column of text in the order of its values.

    >>> make_order("answer", ("yes", "no"))
    "case answer when 'yes' then 0 when 'no' then 1 end"
    """
    cases = " ".join(f"when '{value}' then {number}" for number, value in enumerate(values))
    return f"case {column} {cases} end"


def rank_split(column: str) -> str:
    """Return an SQL expression that ranks a split: the rarest keeps what several splits have."""
    return f"({make_order(column, ('adversarial', 'test', 'train'))})"


# The fields of a record are columns; `verification`, the only object among them, is JSON text.
FIELDS = tuple(field.name for field in dataclasses.fields(Record))
_get_fields = operator.attrgetter(*FIELDS)

# Columns beside the fields: `split`; `line`, file and line of the record; `file`; `is_assumed`, 1
# if the split is only the default; `place`, an id from the place of the record.
_CREATE = f"""
create table meta (name primary key, value);
create table questions (split, line, file, is_assumed, place, {", ".join(FIELDS)});
"""
_INSERT = f"insert into questions values ({', '.join('?' * (5 + len(FIELDS)))})"
_COUNT = "select count(*) from questions"
_SET_META = "insert or replace into meta values (?, ?)"
_GET_META = "select value from meta where name = ?"

# The questions by annotation file whose split is only the default.
_COUNT_ASSUMED = """
select file, count(*) from questions where is_assumed group by file order by file
"""

# Two questions that are equal in this ask the same about one picture and have the same answer.
_CONTENT = "image_id || char(10) || lower(question) || char(10) || task || lower(answer)"

# Questions whose split is only the default, while another one with the same content states a split.
_DROP_ASSUMED = f"""
delete from questions where rowid in (
    select id from (
        select rowid as id, is_assumed, min(is_assumed) over (partition by {_CONTENT}) as stated
        from questions
    ) where is_assumed > stated
)
"""

# Questions that an earlier file of the same split has, and exact repetitions within a file.
_DROP_REPEATED = f"""
delete from questions where rowid in (
    select id from (
        select rowid as id, file,
            first_value(file) over (partition by split, {_CONTENT} order by rowid) as first_file,
            row_number() over (partition by split, {_CONTENT}, question_id order by rowid) as nth
        from questions
    ) where file != first_file or nth > 1
)
"""

# An id that different questions have becomes the place of each. Of the same question in several
# splits, the one of the rarest split keeps the id.
_RENAME = f"""
create index by_id on questions (question_id);
update questions set question_id = place where question_id in (
    select question_id from questions group by question_id having count(distinct {_CONTENT}) > 1
);
update questions set question_id = place where rowid in (
    select id from (
        select rowid as id, row_number() over (
            partition by question_id order by {rank_split("split")}, rowid
        ) as nth from questions
    ) where nth > 1
);
"""

# The length of the longest source of each split, to which the others are padded: the Hub's viewer
# needs sources of one length.
_LONGEST_SOURCES = "select split, max(length(source)) from questions group by split"
_PAD_SOURCES = """
update questions set source = pad_source(source, :length)
where split = :split and length(source) < :length
"""

# Questions whose id an earlier one still has, with the place of the first.
_FIND_REPEATED = """
select question_id, line, first from (
    select question_id, line, first_value(line) over same_id as first,
        row_number() over same_id as nth
    from questions window same_id as (partition by question_id order by rowid)
) where nth > 1 limit ?
"""

# Groups of yes/no questions by split and category: the columns of `PairCounts`.
_COUNT_PAIRS = """
select split, category, count(*), sum(yes and no), sum(yes = 1 and no = 0),
    sum(yes = 0 and no = 1), sum(yes = 0 and no > 1), sum(yes > 1 and no = 0)
from (
    select split, category, sum(answer = 'yes') as yes, sum(answer = 'no') as no
    from questions where pair_id is not null group by split, pair_id
) group by split, category
"""

# The number of a source: the line of a file, or the item of a labelling project (see semidc).
_NUMBER = re.compile(r"(?<=^semidc item )[0-9]+|(?<=:)[0-9]+\Z")


class PairCounts(NamedTuple):
    """Groups of the yes/no questions of a split and category; a group has one `pair_id`.

    Attributes:
        complete: groups with a yes and a no.
        no_partner_yes: groups of a single yes.
        no_partner_no: groups of a single no.
        without_yes: groups of several no.
        without_no: groups of several yes.
    """

    groups: int
    complete: int
    no_partner_yes: int
    no_partner_no: int
    without_yes: int
    without_no: int


class QuestionTable:
    """The questions of a release, and metadata values, in an SQLite file.

    `resume` opens the file read-only instead of creating it anew.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path = path
        if resume:
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            self.db = sqlite3.connect(uri, uri=True)
            return
        path.unlink(missing_ok=True)
        self.db = sqlite3.connect(path)
        # An unfinished table is created anew, so nothing is lost without a journal.
        self.db.execute("pragma journal_mode = off")
        self.db.execute("pragma synchronous = off")
        self.db.create_function("pad_source", 2, pad_source, deterministic=True)
        self.db.executescript(_CREATE)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def set_meta(self, name: str, value: object) -> None:
        """Store a metadata value, as JSON."""
        self.db.execute(_SET_META, (name, json.dumps(value)))
        self.db.commit()

    def get_meta(self, name: str) -> Any:
        """Return a metadata value; None if `set_meta` has stored none."""
        row = self.db.execute(_GET_META, (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def add(
        self, annotations: Iterable[Annotation | Problem | LeftOut], strict: bool = False
    ) -> Counter[str]:
        """Store all questions; count by reason what is left out.

        Args:
            annotations: what `read_annotations` yields.
            strict: a question that no grammar parses is a problem too.

        Raises:
            InputError: there are no questions, or there are problems; the first ones are listed.
        """
        problems: list[Problem] = []
        left_out: Counter[str] = Counter()
        total = unreadable = 0
        for item in annotations:
            problem = _find_problem(item, strict)
            if problem:
                total += 1
                if total <= MAX_LISTED_PROBLEMS:
                    problems.append(problem)
            if isinstance(item, Annotation):
                self.db.execute(_INSERT, _make_row(item))
            elif isinstance(item, LeftOut):
                left_out[item.reason] += 1
            else:
                unreadable += 1
            if unreadable >= MAX_PROBLEMS:
                break
        raise_problems(problems, total)
        self.db.commit()
        if not self.count_questions():
            reasons = ", ".join(f"{count} left out ({name})" for name, count in left_out.items())
            raise InputError(
                "expected questions about MMRel's pictures in the annotations, found none"
                + (f"; {reasons}" if reasons else "")
            )
        return left_out

    def merge_files(self) -> int:
        """Make one set of the questions of all files; return the number of dropped repetitions.

        A question whose split is only the default is dropped if another file states its split, as
        is one that an earlier file of the same split has. A question whose id is not unique gets
        one from its file and line. Sources are padded.

        Raises:
            InputError: an id is still not unique.
        """
        dropped = self.db.execute(_DROP_ASSUMED).rowcount
        dropped += self.db.execute(_DROP_REPEATED).rowcount
        self.db.executescript(_RENAME)
        for split, length in self.db.execute(_LONGEST_SOURCES).fetchall():
            self.db.execute(_PAD_SOURCES, {"split": split, "length": length})
        self.db.commit()
        raise_problems(list(self._find_repeated()))
        return dropped

    def count_assumed(self) -> dict[str, int]:
        """Count the questions whose split is only the default, by annotation file."""
        return dict(self.db.execute(_COUNT_ASSUMED).fetchall())

    def count_questions(self) -> int:
        """Return the number of questions."""
        return int(self.db.execute(_COUNT).fetchone()[0])

    def count_pairs(self) -> dict[tuple[str, str], PairCounts]:
        """Count the groups of yes/no questions by split and category."""
        counts = {}
        for split, category, *numbers in self.db.execute(_COUNT_PAIRS):
            counts[split, category] = PairCounts(*numbers)
        return counts

    def _find_repeated(self) -> Iterator[Problem]:
        """Yield a problem for each question whose id an earlier question has."""
        for id_, line, first in self.db.execute(_FIND_REPEATED, (MAX_PROBLEMS,)):
            yield Problem(
                line, f"expected each question once, question_id {id_!r} is already at {first}"
            )


def read_record(columns: Sequence[Any]) -> Record:
    """Return the record of a row whose columns are `FIELDS`."""
    values = list(columns)
    if values[-1] is not None:
        values[-1] = json.loads(values[-1])
    return Record(*values)


def pad_source(source: str, length: int) -> str:
    """Pad a source to a length, in characters: its number with zeros, or its end with spaces.

    A longer source stays unchanged, so that a release rebuilt from its own records has the same.

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


def _make_row(annotation: Annotation) -> tuple[object, ...]:
    """Return the row of a question, in the order of the table's columns."""
    split, record, where, is_assumed, name = annotation
    *texts, verification = _get_fields(record)
    if verification is not None:
        verification = make_json(verification)
    place = name or record.source
    return (split, where, annotation.file, is_assumed, place, *texts, verification)


def _find_problem(item: Annotation | Problem | LeftOut, strict: bool) -> Problem | None:
    """Return the problem of an item; `strict` requires that a grammar parses its question."""
    if isinstance(item, Problem):
        return item
    if not strict:
        return None
    if isinstance(item, LeftOut):
        return Problem(item.where, item.message) if item.message else None
    if item.record.subject is None:
        got = repr(item.record.question[:200])
        return Problem(item.where, f"expected a question that a grammar parses, got {got}")
    return None

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

from mmrel_kit.files import MAX_PROBLEMS, InputError, Problem, make_json, raise_problems
from mmrel_kit.questions.annotations import Annotation
from mmrel_kit.questions.records import Record

# The fields of a record are columns; `verification`, the only object among them, is JSON text.
FIELDS = tuple(field.name for field in dataclasses.fields(Record))
_get_fields = operator.attrgetter(*FIELDS)

# Columns beside the fields: `split`; `line`, file and line of the record; `counter`, the file of a
# record whose id is a number, since such ids may start again in each file.
_CREATE = f"""
create table meta (name primary key, value);
create table questions (split, line, counter, {", ".join(FIELDS)});
"""
_INSERT = f"insert into questions values ({', '.join('?' * (3 + len(FIELDS)))})"
_COUNT = "select count(*) from questions"
_SET_META = "insert or replace into meta values (?, ?)"
_GET_META = "select value from meta where name = ?"

# A question is named by its file and line if its id is a number that several files use.
_RENAME_COUNTERS = """
create index by_id on questions (question_id);
update questions set question_id = source where counter is not null and question_id in (
    select question_id from questions where counter is not null
    group by question_id having count(distinct counter) > 1
);
"""

# The length of the longest source of each split, to which the others are padded: the Hub's viewer
# needs sources of one length.
_LONGEST_SOURCES = "select split, max(length(source)) from questions group by split"
_PAD_SOURCES = """
update questions set source = pad_source(source, :length)
where split = :split and length(source) < :length
"""

# Questions whose id an earlier one has, with the place of the first.
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

    def add(self, annotations: Iterable[Annotation | Problem]) -> None:
        """Store all questions, rename ids that restart in each file, and pad sources.

        The metadata value `assumed` is set to the number of questions by annotation file whose
        split is `test` by default.

        Raises:
            InputError: there are no questions, or there are problems (all of them are listed):
                those among `annotations`, and ids that occur twice.
        """
        problems: list[Problem] = []
        assumed: Counter[str] = Counter()
        for item in annotations:
            if isinstance(item, Problem):
                problems.append(item)
                continue
            self.db.execute(_INSERT, _make_row(item))
            if item.is_assumed:
                assumed[item.file] += 1
        self.db.executescript(_RENAME_COUNTERS)
        for split, length in self.db.execute(_LONGEST_SOURCES).fetchall():
            self.db.execute(_PAD_SOURCES, {"split": split, "length": length})
        self.set_meta("assumed", assumed)
        problems.extend(self._find_repeated())
        raise_problems(problems)
        if not self.count_questions():
            raise InputError(
                "expected questions about MMRel's pictures in the annotations, found none"
            )

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


def make_order(column: str, values: Sequence[str]) -> str:
    """Return an SQL expression that sorts a column of text in the order of its values.

    >>> make_order("answer", ("yes", "no"))
    "case answer when 'yes' then 0 when 'no' then 1 end"
    """
    cases = " ".join(f"when '{value}' then {number}" for number, value in enumerate(values))
    return f"case {column} {cases} end"


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
    record = annotation.record
    counter = annotation.file if record.question_id.isdigit() else None
    *texts, verification = _get_fields(record)
    if verification is not None:
        verification = make_json(verification)
    return (annotation.split, annotation.where, counter, *texts, verification)

# SPDX-License-Identifier: Apache-2.0
"""Keep the questions of a release in an SQLite file, which a build and an audit query.

Memory does not grow with the questions. Each field of a record is a column of text.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import re
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.files import MAX_PROBLEMS, InputError, Problem, make_json, raise_problems
from mmrel_kit.questions.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mmrel_kit.questions.annotations import Annotation

# The fields of a record are columns; `verification`, the only object among them, is JSON text.
FIELDS = tuple(field.name for field in dataclasses.fields(Record))
_get_fields = operator.attrgetter(*FIELDS)
# Beside them stand the split, the file and line, and the file alone where the id is a number:
# such ids may count from the start again in each file.
_TABLES = f"""
create table meta (name primary key, value);
create table questions (split, line, counter, {", ".join(FIELDS)});
"""
_INSERT = f"insert into questions values ({', '.join('?' * (3 + len(FIELDS)))})"
# The number of a source: the line of a file, or the item of a labelling project (see semidc).
_NUMBER = re.compile(r"(?<=^semidc item )[0-9]+|(?<=:)[0-9]+\Z")


class PairCounts(NamedTuple):
    """How many yes/no questions of a category and split have a partner, by `pair_id`."""

    groups: int
    complete: int
    no_partner_yes: int
    no_partner_no: int
    without_yes: int
    without_no: int


class QuestionTable:
    """The questions of a release, and values beside them, in an SQLite file.

    Args:
        path: the file.
        resume: open the file read-only instead of making it anew.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path = path
        if resume:
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            self.db = sqlite3.connect(uri, uri=True)
            return
        path.unlink(missing_ok=True)
        self.db = sqlite3.connect(path)
        # A table that is not finished is made anew: nothing is lost with it.
        self.db.execute("pragma journal_mode = off")
        self.db.execute("pragma synchronous = off")
        self.db.create_function("pad_source", 2, pad_source, deterministic=True)
        self.db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def set_meta(self, name: str, value: object) -> None:
        """Store a value beside the questions, as JSON."""
        row = name, json.dumps(value)
        self.db.execute("insert or replace into meta values (?, ?)", row)
        self.db.commit()

    def get_meta(self, name: str) -> Any:
        """Return a value that `set_meta` has stored; None if there is none."""
        row = self.db.execute("select value from meta where name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def add(self, found: Iterable[Annotation | Problem]) -> None:
        """Store all questions, rename ids that several files count, and pad sources.

        The metadata value `assumed` is then the number of questions whose split nothing names, by
        annotation file.

        Raises:
            InputError: with every problem among `found` and every id that occurs twice; or there
                are no questions.
        """
        problems: list[Problem] = []
        assumed: Counter[str] = Counter()
        for item in found:
            if isinstance(item, Problem):
                problems.append(item)
                continue
            self.db.execute(_INSERT, _make_row(item))
            if item.is_assumed:
                assumed[item.file] += 1
        self._rename_counters()
        self._pad_sources()
        self.set_meta("assumed", assumed)
        problems.extend(self._find_doubles())
        raise_problems(problems)
        if not self.count_questions():
            wanted = "expected questions about MMRel's pictures in the annotations"
            raise InputError(f"{wanted}, found none")

    def count_questions(self) -> int:
        """Return the number of questions."""
        return int(self.db.execute("select count(*) from questions").fetchone()[0])

    def count_pairs(self) -> dict[tuple[str, str], PairCounts]:
        """Count groups of yes/no questions by split and category.

        Counted are all groups, those with a yes and a no, questions that are alone in theirs, and
        groups of several that lack a yes or a no.
        """
        rows = self.db.execute(
            "select split, category, count(*), sum(yes and no), sum(yes = 1 and no = 0), "
            "sum(yes = 0 and no = 1), sum(yes = 0 and no > 1), sum(yes > 1 and no = 0) "
            "from (select split, category, sum(answer = 'yes') as yes, sum(answer = 'no') as no "
            "from questions where pair_id is not null group by split, pair_id) "
            "group by split, category"
        )
        return {(split, category): PairCounts(*counts) for split, category, *counts in rows}

    def _rename_counters(self) -> None:
        """Name a question by file and line where its id is a number that several files use."""
        self.db.execute("create index by_id on questions (question_id)")
        self.db.execute(
            "update questions set question_id = source where counter is not null "
            "and question_id in (select question_id from questions where counter is not null "
            "group by question_id having count(distinct counter) > 1)"
        )

    def _pad_sources(self) -> None:
        """Make the sources of each split as long as its longest, as the Hub's viewer needs them."""
        longest = "select split, max(length(source)) from questions group by split"
        pad = "update questions set source = pad_source(source, ?) where split = ?"
        for split, length in self.db.execute(longest).fetchall():
            self.db.execute(f"{pad} and length(source) < ?", (length, split, length))

    def _find_doubles(self) -> Iterator[Problem]:
        rows = self.db.execute(
            "select question_id, line, first from (select question_id, line, "
            "first_value(line) over same as first, row_number() over same as nth from questions "
            "window same as (partition by question_id order by rowid)) where nth > 1 limit ?",
            (MAX_PROBLEMS,),
        )
        for id_, line, first in rows:
            message = f"expected each question once, question_id {id_!r} stands already at {first}"
            yield Problem(line, message)


def read_record(columns: Sequence[Any]) -> Record:
    """Return the record whose `FIELDS` are the columns of a row."""
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


def _make_row(annotation: Annotation) -> tuple[object, ...]:
    """Return the columns of a question, in the order of the table."""
    record = annotation.record
    counter = annotation.file if record.question_id.isdigit() else None
    *texts, verification = _get_fields(record)
    if verification is not None:
        verification = make_json(verification)
    return (annotation.split, annotation.where, counter, *texts, verification)

# SPDX-License-Identifier: Apache-2.0
"""Keep the questions of a release in an SQLite file, where a build and an audit ask about them."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from mmrel_kit.files import MAX_PROBLEMS, InputError, make_json, raise_problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mmrel_kit.questions.annotations import Question

# The number of a source: the line of a file, or the item of a labelling project (see semidc).
_NUMBER = re.compile(r"(?<=^semidc item )[0-9]+|(?<=:)[0-9]+\Z")
_TABLES = """
create table told (name primary key, value);
create table questions (
    domain, split, image_id, category integer, task integer, subject, relation, object, question, answer, pair_id,
    question_id, record, place, counter
);
"""


class Partners(NamedTuple):
    """How a category's yes/no questions stand together by `pair_id` within a split."""

    groups: int
    complete: int
    no_partner_yes: int
    no_partner_no: int
    without_yes: int
    without_no: int


class QuestionTable:
    """The questions of a release, in an SQLite file, so that memory does not grow with them.

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

    def count_questions(self) -> int:
        """Return how many questions there are, with those whose picture is missing."""
        return int(self.db.execute("select count(*) from questions").fetchone()[0])

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

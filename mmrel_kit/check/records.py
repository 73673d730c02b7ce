# SPDX-License-Identifier: Apache-2.0
"""Check what a schema cannot say of a record: unique ids, its group, its question, its relation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmrel_kit.files import InputError, Problem
from mmrel_kit.questions.records import make_pair_id, parse_question
from mmrel_kit.questions.taxonomy import find_misfit

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = 3  # of the warning that counts questions


class QuestionChecks:
    """The questions of a release that were checked so far: their ids, and impossible relations."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}
        self._misfits = 0
        self._examples: list[str] = []

    def check(self, where: str, record: dict[str, Any]) -> Iterator[Problem]:
        """Yield what is wrong with a record that follows the schema.

        Args:
            where: file and line of the record.
            record: its JSON object.
        """
        first = self._places.setdefault(record["question_id"], where)
        if first != where:
            message = f"question_id {record['question_id']!r} stands already at {first}"
            yield Problem(where, message)
        self._count_misfit(where, record)
        if record["task"] == "discriminative":
            yield from _check_group(where, record)
            yield from _check_question(where, record)

    def find_misfits(self) -> Iterator[Problem]:
        """Warn of relations that their category cannot have; `audit` counts the same ones."""
        if self._misfits:
            message = f"{self._misfits} questions with a relation of another category, for example "
            message += ", ".join(self._examples)
            message += "; mmrel build --drop impossible_triplet leaves them out"
            yield Problem("data", message, is_warning=True)

    def _count_misfit(self, where: str, record: dict[str, Any]) -> None:
        relation = record["relation"]
        if relation is None or not find_misfit(record["category"], relation):
            return
        self._misfits += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(f"{where}: {record['question'][:120]!r}")


def _check_group(where: str, record: dict[str, Any]) -> Iterator[Problem]:
    subject, object_ = record["subject"], record["object"]
    expected = make_pair_id(record["image_id"], record["category"], subject, object_)
    if record["pair_id"] != expected:
        message = f"field pair_id: expected {expected!r} for this picture and objects"
        yield Problem(where, message)


def _check_question(where: str, record: dict[str, Any]) -> Iterator[Problem]:
    triplet = record["subject"], record["relation"], record["object"]
    try:
        reading = parse_question(record["question"])
    except InputError as error:
        yield Problem(where, f"field question: {error}")
        return
    read = (reading.category, reading.subject, reading.relation, reading.object)
    if read != (record["category"], *triplet):
        message = f"field question: reads as {tuple(reading)}, the record says {triplet}"
        yield Problem(where, message)

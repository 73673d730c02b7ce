# SPDX-License-Identifier: Apache-2.0
"""Check what a schema cannot express: unique ids, pair ids, questions that match their fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from mmrel_kit.files import InputError, Problem
from mmrel_kit.questions.records import make_pair_id, parse_question
from mmrel_kit.questions.taxonomy import find_misfit

EXAMPLES = 3  # questions that the warning about relations quotes


class RecordChecker:
    """Checks the records of a part of a release one by one, and counts impossible relations.

    Attributes:
        places: id of each question with its file and line.
    """

    def __init__(self) -> None:
        self.places: list[tuple[str, str]] = []
        self.misfits = 0
        self.examples: list[str] = []

    def check(self, where: str, record: dict[str, Any]) -> Iterator[Problem]:
        """Yield the problems of a record that follows the schema."""
        self.places.append((record["question_id"], where))
        self._count_misfit(where, record)
        if record["task"] == "discriminative":
            yield from _check_pair_id(where, record)
            yield from _check_question(where, record)

    def _count_misfit(self, where: str, record: dict[str, Any]) -> None:
        relation = record["relation"]
        if relation is None or not find_misfit(record["category"], relation):
            return
        self.misfits += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{where}: {record['question'][:120]!r}")


def check_ids(parts: Sequence[RecordChecker]) -> Iterator[Problem]:
    """Check that no two questions of a release have the same id."""
    places: dict[str, str] = {}
    for part in parts:
        for id_, where in part.places:
            first = places.setdefault(id_, where)
            if first != where:
                yield Problem(where, f"question_id {id_!r} is already used at {first}")


def warn_misfits(parts: Sequence[RecordChecker]) -> Iterator[Problem]:
    """Warn about relations that are impossible in their category, as `audit` counts them."""
    misfits = sum(part.misfits for part in parts)
    if misfits:
        examples = list(chain.from_iterable(part.examples for part in parts))[:EXAMPLES]
        message = (
            f"{misfits} questions with a relation of another category, for example "
            f"{', '.join(examples)}; "
            "mmrel build --drop impossible_triplet leaves them out"
        )
        yield Problem("data", message, is_warning=True)


def _check_pair_id(where: str, record: dict[str, Any]) -> Iterator[Problem]:
    expected = make_pair_id(
        record["image_id"], record["category"], record["subject"], record["object"]
    )
    if record["pair_id"] != expected:
        yield Problem(where, f"field pair_id: expected {expected!r} for this picture and objects")


def _check_question(where: str, record: dict[str, Any]) -> Iterator[Problem]:
    """Compare a question, parsed, with category and triplet of its record."""
    try:
        parsed = parse_question(record["question"])
    except InputError as error:
        yield Problem(where, f"field question: {error}")
        return
    got = (parsed.category, parsed.subject, parsed.relation, parsed.object)
    triplet = (record["subject"], record["relation"], record["object"])
    if got != (record["category"], *triplet):
        message = f"field question: reads as {tuple(parsed)}, the record has {triplet}"
        yield Problem(where, message)

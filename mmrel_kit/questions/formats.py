# SPDX-License-Identifier: Apache-2.0
"""Parse the formats of annotation files into raw questions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mmrel_kit.files import InputError
from mmrel_kit.questions.declarations import Declaration
from mmrel_kit.questions.records import parse_image_path
from mmrel_kit.questions.rerelease import RereleaseRow


class RawQuestion(NamedTuple):
    """A question as an annotation file has it.

    Attributes:
        question_id: id of any type, None for none.
        text: the question, which may end with an instruction.
        fields: further fields, which may name split and category.
        turn: number of the question in a conversation of several; 0 otherwise.
        declared: what the row of the re-release states.
    """

    question_id: Any
    image_id: str
    text: str
    answer: str
    fields: Mapping[str, Any]
    turn: int = 0
    declared: Declaration = Declaration()


def from_pope(value: dict[str, Any]) -> Iterator[RawQuestion]:
    """Yield the question of a POPE/VCD-shaped record.

    Raises:
        InputError: a field is not text.
    """
    yield RawQuestion(
        question_id=value.get("question_id"),
        image_id=get_text(value, "image"),
        text=get_text(value, "text"),
        answer=get_text(value, "label"),
        fields=value,
    )


def from_llava(value: dict[str, Any]) -> Iterator[RawQuestion]:
    """Yield each question of a LLaVA conversation with its answer.

    Raises:
        InputError: it is not an alternation of a human's and gpt's texts.
    """
    turns = value["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError("expected conversations to be an array of objects")
    turns = [turn for turn in turns if turn.get("from") != "system"]
    # A last turn without an answer is left out.
    for number, (human, gpt) in enumerate(zip(turns[::2], turns[1::2], strict=False), 1):
        if (human.get("from"), gpt.get("from")) != ("human", "gpt"):
            raise InputError(
                f"expected alternating turns of human and gpt, got {human.get('from')!r}"
            )
        yield RawQuestion(
            question_id=value.get("id"),
            image_id=value["image"],
            text=get_text(human, "value").replace("<image>", ""),
            answer=get_text(gpt, "value"),
            fields=value,
            turn=number if len(turns) > 2 else 0,
        )


def from_row(row: RereleaseRow) -> Iterator[RawQuestion]:
    """Yield the question of a row of the re-release.

    Raises:
        InputError: a field is not text.
    """
    yield RawQuestion(
        question_id=row.question_id,
        image_id=row.image_id,
        text=_check_text(row.question, "question"),
        answer=_check_text(row.answer, "answer"),
        fields={},
        declared=Declaration(task=row.task, category=row.category),
    )


def find_domain(image: Any) -> str | None:
    """Return the domain of a conversation's picture; None if it is not one of MMRel's."""
    try:
        return parse_image_path(image)[0] if isinstance(image, str) else None
    except InputError:
        return None


def get_text(value: dict[str, Any], key: str) -> str:
    """Return a field, which must be text.

    Raises:
        InputError: it is not text.
    """
    return _check_text(value.get(key), key)


def _check_text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"expected text in {key!r}, got {json.dumps(value)[:80]}")
    return value

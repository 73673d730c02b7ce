# SPDX-License-Identifier: Apache-2.0
"""Reading answers: golden lists of every reader, open-ended answers, long ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import relation_accuracy as metric
from mmrel_kit.scoring.open_ended import load_taxonomy, read_relation
from mmrel_kit.scoring.readers import READERS
from tests.helpers.metric import ROOT

DATA = Path(__file__).parent / "data" / "relation_accuracy"
COLUMNS = {
    "words": ("words", ""),
    "pope": ("pope", "yes"),
    "vcd_if_yes": ("vcd", "yes"),
    "vcd_if_no": ("vcd", "no"),
    "amber": ("amber", "yes"),
    "lmms_eval": ("lmms-eval", "yes"),
    "vlmevalkit": ("vlmevalkit", "yes"),
}


def golden(name: str) -> list[dict[str, Any]]:
    """Reads a golden list."""
    rows: list[dict[str, Any]] = json.loads((DATA / name).read_text(encoding="utf-8"))
    return rows


@pytest.mark.parametrize("row", golden("readers.json"), ids=lambda row: ascii(row["answer"]))
def test_readers(row: dict[str, Any]) -> None:
    for column, (reader, label) in COLUMNS.items():
        assert READERS[reader].read(row["answer"], label) == row[column], column


@pytest.mark.parametrize("row", golden("words.json"), ids=lambda row: ascii(row["answer"]))
def test_words(row: dict[str, Any]) -> None:
    result = metric.compute([row["answer"]], ["yes"])
    said = {(1, 0): "yes", (0, 1): "no", (0, 0): None}[result["tp"], result["fn"]]
    assert said == row["verdict"]


@pytest.mark.parametrize(
    "row", golden("open_ended.json"), ids=lambda row: f"{row['relation']}: {row['answer']}"
)
def test_open_ended(row: dict[str, Any]) -> None:
    assert read_relation(row["answer"], row, load_taxonomy()) == row["verdict"]


def test_the_card_shows_what_the_readers_say() -> None:
    card = (ROOT / "docs" / "metric.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in card.splitlines()]
    start = next(at for at, row in enumerate(rows) if row[:2] == ["answer", "`words`"])
    shown = rows[start + 2 : rows.index([""], start)]
    assert len(shown) == 9
    for answer, *verdicts in shown:
        text = "" if answer == "(nothing)" else answer
        read = [READERS[reader].read(text, label) or "\u2013" for reader, label in COLUMNS.values()]
        assert verdicts == read, answer


def test_vlmevalkit_looks_at_the_marks_as_they_were_given() -> None:
    # Whether a mark touches a space was looked up in the text without the marks before it, and
    # "a_no/_" lost its underscores. A comparison with the original on 300,000 random answers
    # showed it.
    assert [READERS["vlmevalkit"].read(text, "") for text in ("a_no/_", "no!3(!")] == ["no", "no"]


def test_open_ended_without_triplet_reads_the_reference() -> None:
    bare = {
        "category": "spatial",
        "subject": None,
        "relation": None,
        "object": None,
        "answer": "It is above the car.",
    }
    taxonomy = load_taxonomy()
    assert [read_relation(text, bare, taxonomy) for text in ("over", "under", "red")] == [
        "correct",
        "incorrect",
        None,
    ]
    unlisted = {"answer": "juggling"}
    assert read_relation("He is juggling.", unlisted, taxonomy) == "correct"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "answer",
    [
        None,
        "[LMMS_EVAL_REQUEST_FAILED after 5 retries] no yes",
        " Failed to obtain answer via API.",
    ],
)
def test_null_and_failed_requests_are_no_answer(reader: str, answer: str | None) -> None:
    # They never reach a reader: POPE's would take a failed request for a yes.
    result = metric.compute([answer, answer], ["yes", "no"], reader=reader)
    assert (result["no_answer"], result["accuracy"], result["coverage"]["silent"]) == (2, 0, 2)


@pytest.mark.parametrize(
    "text", ["no " * 3_500_000, "a" + "\u0301\u0316" * 100_000, "<a" * 500_000, "1 " * 500_000]
)
def test_long_answers_are_read(text: str) -> None:
    # Unicode normalisation of one run of combining marks took minutes, being quadratic.
    assert metric.read_words(text) in ("no", None)
    assert read_relation(text, {"answer": "above", "category": "spatial"}, load_taxonomy()) is None

# SPDX-License-Identifier: Apache-2.0
"""Score files of answers against a release, and put the report together."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
import relation_accuracy
from mmrel_kit.files import ANSWER_RULES, Value, read_json, write_bytes
from mmrel_kit.questions.published import read_published
from mmrel_kit.scoring.compare import LEARN_FROM, score_baselines
from mmrel_kit.scoring.open_ended import TaxonomyJudge, name_judge
from mmrel_kit.scoring.release import TAXONOMY, load_release
from relation_accuracy import (
    LABELS,
    AnswerError,
    Question,
    Scores,
    collect_answers,
    find_reader,
    make_figures,
    match,
)


class Selection(NamedTuple):
    """Which questions are asked, and how answers to them are read.

    Attributes:
        config: a domain, or all.
        split: a split, or all.
        task: discriminative, generative or both.
        reader: how a yes/no answer is read.
        partial: score what is there, where answers are missing or belong to no known question.
    """

    config: str = "all"
    split: str = "test"
    task: str = relation_accuracy.TASKS[0]
    reader: str = "words"
    partial: bool = False

    def holds(self, question: Question) -> bool:
        """Return whether a question is asked."""
        is_of_config = self.config in ("all", question.record.get("domain"))
        is_of_split = self.split in ("all", question.record.get("split"))
        return is_of_config and is_of_split and question.label in LABELS[self.task]


class Scored(NamedTuple):
    """Answers to the questions of a release, scored.

    Attributes:
        release: the release.
        questions: its questions, by question_id.
        chosen: which of them are asked.
        scores: the verdicts.
        result: the report.
    """

    release: mmrel.Release
    questions: dict[str, Question]
    chosen: Selection
    scores: Scores
    result: dict[str, Any]


def read_answers(*paths: str | Path) -> dict[str, str | None]:
    """Read files of answers, the shards of one; "-" is standard input.

    Raises:
        OSError: a file cannot be opened or read.
        InputError: a file is neither JSON lines nor an array.
        AnswerError: see `relation_accuracy.collect_answers`.
    """
    rows: list[Value] = []
    for path in paths:
        if str(path) == "-":
            rows += read_json(sys.stdin.buffer, "standard input", rules=ANSWER_RULES)
        else:
            rows += read_json(Path(path), rules=ANSWER_RULES)
    return collect_answers(rows)


def score_release(
    release: mmrel.Release,
    paths: Sequence[str | Path],
    chosen: Selection,
    run: Mapping[str, Any] | None = None,
) -> Scored:
    """Score files of answers against a release.

    Args:
        release: the release.
        paths: see `read_answers`.
        chosen: which questions are asked, and how answers are read.
        run: what is stated of `model`, `prompt` and `decoding`.
    """
    questions, info = load_release(release, chosen.config, chosen.split)
    scores = score_answers(read_answers(*paths), questions, release, chosen)
    result = relation_accuracy.report(scores, info, run)
    return Scored(release, questions, chosen, scores, result)


def score_answers(
    answers: Mapping[str, str | None],
    questions: Mapping[str, Question],
    release: mmrel.Release,
    chosen: Selection,
) -> Scores:
    """Score answers; open-ended ones by the taxonomy of the release.

    Args:
        answers: by question_id; None where none came.
        questions: of the release, by question_id.
        release: the release.
        chosen: which questions are asked, and how answers are read.
    """
    judge = None
    if chosen.task != relation_accuracy.TASKS[0]:
        judge = TaxonomyJudge(release.fetch(TAXONOMY))
    scores = Scores(find_reader(chosen.reader), judge)
    match(answers, questions, scores, chosen.holds, chosen.partial)
    return scores


def merge_scores(parts: Iterable[Scores]) -> Scores:
    """Return the scores of all parts of a run, of which there is one at least.

    Raises:
        AnswerError: a question is in two parts, or they were not read alike.
    """
    first, *others = parts
    merged = dataclasses.replace(first, rows=dict(first.rows))
    for part in others:
        mine, theirs = ((scores.reader.name, name_judge(scores.judge)) for scores in (merged, part))
        if mine != theirs:
            raise AnswerError(
                f"expected parts that were read alike; got {mine} and {theirs}: read them again"
            )
        both = sorted(merged.rows.keys() & part.rows.keys())
        if both:
            got = f"{len(both):,} in both, such as {both[0]!r}"
            raise AnswerError(f"expected each question in one part; got {got}: leave one of each")
        merged.rows.update(part.rows)
        merged.asked += part.asked
        merged.unknown += part.unknown
        merged.set_aside += part.set_aside
    return merged


def score_blind(scored: Scored) -> dict[str, dict[str, Any]]:
    """Return the figures of answers that need no picture, by name.

    Where no other split is there to learn from, a note in the report says so.
    """
    chosen, questions = scored.chosen, scored.questions
    split = LEARN_FROM.get(chosen.split)
    learnt = []
    if split:
        others = chosen._replace(task="both", split=split)
        learnt = [question for question in questions.values() if others.holds(question)]
    if not learnt:
        missing = "there is no other split here to learn it from"
        scored.result["notes"].append(f"no majority by relation: {missing}")
    asked = [row.question for row in scored.scores.rows.values()]
    return {name: make_figures(scores) for name, scores in score_baselines(asked, learnt).items()}


def describe_published() -> dict[str, Any]:
    """Return the rows of the paper by model and cell, and what to know about them."""
    paper = read_published()
    return {"rows": paper.scores, "notes": list(paper.notes)}


def write_report(result: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON, the file whole.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A lone surrogate, such as a byte of --model that is not UTF-8, becomes an escape of JSON.
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))

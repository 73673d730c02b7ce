# SPDX-License-Identifier: Apache-2.0
"""Compare a model with another one, and with answers that need no picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmrel_kit.scoring.intervals import (
    COMPARED,
    Interval,
    count_by_picture,
    freeze,
    resample,
    sum_counts,
)
from relation_accuracy import (
    AnswerError,
    Question,
    Row,
    Scores,
    is_correct,
    yes_no_figures,
)

# The split from which a blind guesser may learn when another is scored.
LEARN_FROM = {"train": "test", "test": "train", "adversarial": "train"}


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test, from what only one of two models got right.

    >>> mcnemar(0, 0), round(mcnemar(1, 9), 6)
    (1.0, 0.021484)
    """
    n, few = only_first + only_second, min(only_first, only_second)
    log = math.lgamma(n + 1) - math.lgamma(few + 1) - math.lgamma(n - few + 1) - n * math.log(2)
    term = total = 1.0  # of the binomial distribution, in units of the term at `few`, downwards
    for number in range(few, 0, -1):
        term *= number / (n - number + 1)
        total += term
    return min(1.0, 2 * math.exp(log) * total)


def compare(first: Scores, second: Scores) -> dict[str, Any]:
    """Compare two models on the same yes/no questions.

    Args:
        first: one model's verdicts.
        second: the other's, of the same questions, by the same reader.

    Returns:
        accuracy, f1, pair_accuracy -> difference (first - second) and its 95 % interval, pictures
        being drawn for both at once; and mcnemar: only_first, only_second (questions that only one
        got right), p. McNemar's test takes questions as independent; the intervals do not.

    Raises:
        AnswerError: the questions or the readers differ.
    """
    differing = first.rows.keys() ^ second.rows.keys()
    if differing or first.reader.name != second.reader.name:
        readers = f"readers {first.reader.name} and {second.reader.name}"
        got = f"{len(differing):,} questions of one, {readers}"
        wanted = "expected two models on the same questions, read alike"
        raise AnswerError(f"{wanted}; got {got}: compare what both have answered")
    mine = count_by_picture(first.rows.values())
    theirs = count_by_picture(second.rows.values())
    clusters = []
    for image, tallies in mine.items():
        both = (tallies["all", "all"], theirs[image]["all", "all"])
        clusters.append(tuple(map(freeze, both)))

    def differences(drawn: Mapping[Any, int]) -> list[float | None]:
        figures = []
        for model in (0, 1):
            total = sum_counts((both[model], number) for both, number in drawn.items())
            figures.append(yes_no_figures(total, first.reader))
        return [_subtract(figures[0][name], figures[1][name]) for name in COMPARED]

    intervals: list[Interval | None] = [None] * len(COMPARED)
    if None not in mine:  # every picture is named
        intervals = resample(clusters, differences)
    whole = differences(Counter(clusters))
    compared: dict[str, Any] = {}
    for name, difference, interval in zip(COMPARED, whole, intervals, strict=True):
        compared[name] = {"difference": difference, "interval": interval}
    only_first, only_second = _count_differing(first, second)
    p = mcnemar(only_first, only_second)
    compared["mcnemar"] = {"only_first": only_first, "only_second": only_second, "p": p}
    return compared


def _subtract(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _count_differing(first: Scores, second: Scores) -> tuple[int, int]:
    """Return how many yes/no questions only the first got right, and only the second."""
    only_first = only_second = 0
    for name, (question, reply) in first.rows.items():
        if question.label != "open":
            is_first = is_correct(question.label, reply)
            is_second = is_correct(question.label, second.rows[name].reply)
            only_first += is_first and not is_second
            only_second += is_second and not is_first
    return only_first, only_second


def score_baselines(
    asked: Iterable[Question],
    learnt: Sequence[Question] = (),
) -> dict[str, Scores]:
    """Score answers without a picture: always yes, always no, each relation's majority answer.

    Args:
        asked: the questions; open-ended ones are passed over.
        learnt: questions of another split, from which the majority answer of each relation is
            learnt. A relation that is not among them, or is even, gets the majority of all, and
            yes where that is even too. Without `learnt` there is no third baseline.

    Returns:
        "always yes", "always no", "majority by relation" -> scores.
    """
    questions = [question for question in asked if question.label != "open"]
    guesses = {
        "always yes": ["yes"] * len(questions),
        "always no": ["no"] * len(questions),
    }
    if learnt:
        guesses["majority by relation"] = _guess_by_relation(questions, learnt)
    baselines = {}
    for name, replies in guesses.items():
        rows = map(Row, questions, replies)
        numbered = {str(number): row for number, row in enumerate(rows)}
        baselines[name] = Scores(rows=numbered, asked=len(numbered))
    return baselines


def _guess_by_relation(questions: Sequence[Question], learnt: Iterable[Question]) -> list[str]:
    """Return the answer that most of the learnt questions about the same relation have."""
    balance: Counter[str | None] = Counter()  # more than 0: yes; None counts all relations
    for question in learnt:
        if question.label != "open":
            vote = 1 if question.label == "yes" else -1
            balance[question.record.get("relation")] += vote
            balance[None] += vote
    guesses = []
    for question in questions:
        votes = balance[question.record.get("relation")] or balance[None]
        guesses.append("yes" if votes >= 0 else "no")
    return guesses

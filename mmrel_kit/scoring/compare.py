# SPDX-License-Identifier: Apache-2.0
"""Compare two models on the same questions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmrel_kit.scoring.intervals import COMPARED, Interval, picture_tallies, resample, sum_tallies
from relation_accuracy import LABELS, RIGHT, AnswerError, Scores, yes_no_figures


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
    other = first.codes.keys() ^ second.codes.keys()
    if other or first.reader.name != second.reader.name:
        readers = f"readers {first.reader.name} and {second.reader.name}"
        got = f"{len(other):,} questions of one, {readers}"
        wanted = "expected two models on the same questions, read alike"
        raise AnswerError(f"{wanted}; got {got}: compare what both have answered")
    mine = picture_tallies(first, bool)
    theirs = picture_tallies(second, bool)
    clusters = [(tuple(tally), tuple(theirs[image])) for image, tally in mine.items()]

    def differences(drawn: Mapping[Any, int]) -> list[float | None]:
        figures = []
        for at in (0, 1):
            total = sum_tallies((both[at], number) for both, number in drawn.items())
            figures.append(yes_no_figures(total, first.reader))
        return [_subtract(figures[0][name], figures[1][name]) for name in COMPARED]

    found: list[Interval | None] = [None] * len(COMPARED)
    if None not in mine:  # every picture is named
        found = resample(clusters, differences)
    whole = differences(Counter(clusters))
    compared: dict[str, Any] = {}
    for name, difference, interval in zip(COMPARED, whole, found, strict=True):
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
    for name, code in first.codes.items():
        if code < LABELS["open"]:
            is_first, is_second = code in RIGHT, second.codes[name] in RIGHT
            only_first += is_first and not is_second
            only_second += is_second and not is_first
    return only_first, only_second

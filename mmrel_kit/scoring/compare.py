# SPDX-License-Identifier: Apache-2.0
"""Comparison of a model with another one, and with answers that need no picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmrel_kit.scoring.intervals import COMPARED, _sum, picture_tallies, resample
from relation_accuracy import RIGHT, SAID, MatchError, Question, Scores, yes_no_figures

# The split from which a blind guesser may learn when another is scored.
LEARN_FROM = {"train": "test", "test": "train", "adversarial": "train"}


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the exact two-sided p of McNemar's test, from what only one of two models got right.

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
    """Compares two models on the same yes/no questions.

    Args:
        first: one model's verdicts.
        second: the other's, of the same questions, by the same reader.

    Returns:
        accuracy, f1, pair_accuracy -> difference (first - second) and its 95 % interval, pictures being drawn
        for both at once; and mcnemar: only_first, only_second (questions that only one got right), p.
        McNemar's test takes questions as independent; the intervals do not.

    Raises:
        MatchError: the questions or the readers differ.
    """
    other = first.codes.keys() ^ second.codes.keys()
    if other or first.reader.name != second.reader.name:
        raise MatchError(
            f"expected two models on the same questions, read alike; got {len(other):,} questions of one,"
            f" readers {first.reader.name} and {second.reader.name}: compare what both have answered"
        )
    mine, theirs = (picture_tallies(scores, bool) for scores in (first, second))

    def differences(drawn: Mapping[Any, int]) -> list[float | None]:
        a, b = (
            yes_no_figures(_sum((both[at], number) for both, number in drawn.items()), first.reader) for at in (0, 1)
        )
        return [None if a[name] is None or b[name] is None else a[name] - b[name] for name in COMPARED]

    clusters = [(tuple(tally), tuple(theirs[image])) for image, tally in mine.items()]
    found = [None] * len(COMPARED) if None in mine else resample(clusters, differences)
    whole = differences(Counter(clusters))
    pairs = Counter((code in RIGHT, second.codes[name] in RIGHT) for name, code in first.codes.items() if code < 8)
    only_first, only_second = pairs[True, False], pairs[False, True]
    return {
        **{name: {"difference": d, "interval": i} for name, d, i in zip(COMPARED, whole, found, strict=False)},
        "mcnemar": {
            "only_first": only_first,
            "only_second": only_second,
            "p": mcnemar(only_first, only_second),
        },
    }


def blind_baselines(asked: Mapping[str, Question], learnt: Mapping[str, Question] | None = None) -> dict[str, Scores]:
    """Scores answers without a picture: always yes, always no, each relation's majority answer.

    Args:
        asked: the questions; open-ended ones are passed over.
        learnt: questions of another split, from which the majority answer of each relation is learnt (a
            relation
            that is not there, or is even: the majority of all; even there: yes). Without it there is no third
                one.

    Returns:
        "always yes", "always no", "majority by relation" -> scores.
    """
    questions = {name: question for name, question in asked.items() if question.label != "open"}
    guesses = {"always yes": ["yes"] * len(questions), "always no": ["no"] * len(questions)}
    if learnt:
        balance: Counter[str | None] = Counter()
        for question in learnt.values():
            if question.label != "open":
                vote = 1 if question.label == "yes" else -1
                balance[question.place.relation] += vote
                balance[None] += vote
        majority = "yes" if balance[None] >= 0 else "no"
        guesses["majority by relation"] = [
            "yes" if balance[relation] > 0 else "no" if balance[relation] < 0 else majority
            for relation in (question.place.relation for question in questions.values())
        ]
    baselines = {}
    for name, said in guesses.items():
        baselines[name] = Scores()
        baselines[name].keep(list(questions), list(questions.values()), [SAID[word] for word in said])
    return baselines

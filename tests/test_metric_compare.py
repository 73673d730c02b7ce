# SPDX-License-Identifier: Apache-2.0
"""Comparison with another model, and with answers that need no picture."""

from __future__ import annotations

import pytest

import relation_accuracy as metric
from mmrel_kit.scoring import compare
from tests.helpers.metric import draw_pairs, make_scores, record


def test_scipy_agrees_on_mcnemar() -> None:
    stats = pytest.importorskip("scipy.stats")
    for first in (0, 1, 5, 40, 1000, 100_000):
        for second in (0, 1, 6, 40, 1100, 100_300):
            if first + second:
                expected = stats.binomtest(min(first, second), first + second, 0.5).pvalue
                assert compare.mcnemar(first, second) == pytest.approx(
                    expected, rel=1e-7, abs=1e-300
                )
    assert compare.mcnemar(0, 0) == 1.0


def test_comparison() -> None:
    good, bad = make_scores(draw_pairs(200, 0.8, seed=5)), make_scores(draw_pairs(200, 0.5, seed=6))
    compared = compare.compare(good, bad)
    difference = metric.make_figures(good)["accuracy"] - metric.make_figures(bad)["accuracy"]
    assert compared["accuracy"]["difference"] == pytest.approx(difference)
    low, high = compared["accuracy"]["interval"]
    assert 0 < low < difference < high
    mirrored = compare.compare(bad, good)
    assert mirrored["accuracy"]["difference"] == pytest.approx(-difference)
    assert mirrored["mcnemar"]["p"] == compared["mcnemar"]["p"]
    same = compare.compare(good, good)
    assert same["f1"] == {"difference": 0.0, "interval": [0.0, 0.0]}
    assert (same["mcnemar"]["only_first"], same["mcnemar"]["p"]) == (0, 1.0)
    with pytest.raises(metric.AnswerError, match="same questions"):
        compare.compare(good, make_scores(draw_pairs(199, 0.5, seed=6)))


def test_blind_baselines_by_hand() -> None:
    def questions(*rows: tuple[str, str | None]) -> list[metric.Question]:
        made = (
            record(at, label, relation=relation, pair_id="a")
            for at, (label, relation) in enumerate(rows)
        )
        return list(metric.index_questions(("", row) for row in made).values())

    learnt = questions(
        ("yes", "on"),
        ("yes", "on"),
        ("no", "bite"),
        ("no", "eat"),
        ("yes", "eat"),
        ("no", "bite"),
        ("no", None),
    )
    asked = questions(("yes", "on"), ("no", "bite"), ("yes", "eat"), ("no", "fly"))
    baselines = compare.score_baselines(asked, learnt)
    found = {name: metric.make_figures(scores) for name, scores in baselines.items()}
    assert found["always yes"]["recall"] == 1.0
    assert found["always no"]["accuracy"] == 0.5
    # "eat" is even and "fly" unknown: the majority of all, which is no.
    assert (
        found["majority by relation"]["accuracy"],
        found["majority by relation"]["pair_accuracy"],
    ) == (
        0.75,
        0.0,
    )
    assert list(compare.score_baselines(asked)) == ["always yes", "always no"]

# SPDX-License-Identifier: Apache-2.0
"""Intervals: oracles not written here, and what theory says."""

from __future__ import annotations

import pytest

import relation_accuracy as metric
from mmrel_kit.scoring import intervals
from tests.helpers.metric import draw_pairs, make_scores


def test_statsmodels_agrees_on_wilson() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for n in (1, 2, 7, 100, 3000, 10**6):
        for right in {0, 1, n // 3, n - 1, n}:
            expected = proportion.proportion_confint(right, n, method="wilson")
            assert intervals.wilson(right, n) == pytest.approx(expected, abs=1e-12)
    assert intervals.wilson(0, 0) is None


def test_bootstrap_is_as_wide_as_theory_says() -> None:
    # A picture is right as a whole: pair accuracy varies like a share of 400 pictures, not of 800
    # pairs.
    scores = make_scores(draw_pairs(400, 0.7, seed=3))
    low, high = intervals.all_intervals(scores)["all"]["pair_accuracy"]  # type: ignore[misc]
    share = metric.make_figures(scores)["pair_accuracy"]
    half = 1.96 * (share * (1 - share) / 400) ** 0.5
    assert low < share < high
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_bootstrap_covers_the_truth() -> None:
    covered = 0
    for seed in range(40):
        low, high = intervals.all_intervals(make_scores(draw_pairs(60, 0.6, seed, each=2)))["all"][
            "pair_accuracy"
        ]  # type: ignore[misc]
        covered += low <= 0.6 <= high
    assert (
        covered >= 34
    )  # 95 % of 40 is 38; fewer than 34 has a chance of 2 in 1,000 if the intervals are right


def test_intervals_do_not_depend_on_the_order_and_are_null_without_pictures() -> None:
    rows = draw_pairs(30, 0.5, seed=1)
    assert (
        intervals.all_intervals(make_scores(rows))["all"]
        == intervals.all_intervals(make_scores(rows[::-1]))["all"]
    )
    bare = [({**row, "image_id": None}, answer) for row, answer in rows]
    found = intervals.all_intervals(make_scores(bare))["all"]
    assert (found["f1"], found["pair_accuracy"]) == (None, None)
    assert found["accuracy"] is not None
    one = [({**row, "image_id": "0"}, answer) for row, answer in rows]
    assert intervals.all_intervals(make_scores(one))["all"]["f1"] is None


def test_the_counts_of_pictures_add_up() -> None:
    scores = make_scores(draw_pairs(30, 0.5, seed=2))
    pictures = intervals.count_by_picture(scores.rows.values()).values()
    frozen = [intervals.freeze(tallies["all", "all"]) for tallies in pictures]
    total = intervals.sum_counts((counts, 1) for counts in frozen)
    figures = metric.make_figures(scores)
    assert metric.yes_no_figures(total).items() <= figures.items()
    assert figures["pairs"] == 60

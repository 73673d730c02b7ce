"""Agreement of people against outside implementations, and the report."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import krippendorff
import pytest
from sklearn import metrics

from mmrel_kit.semidc.people import agree
from tests.helpers.labelling import (
    FIRST,
    SECOND,
    decide,
    make_project,
)


@pytest.fixture(params=range(20))
def units(request: pytest.FixtureRequest) -> Iterator[list[dict[str, str]]]:
    chance = random.Random(request.param)
    people = ["ann", "ben", "cy", "dan"][: chance.choice((2, 3, 4))]
    yield [
        {name: chance.choice("aaabbc") for name in people if chance.random() < 0.8}
        for _ in range(chance.choice((5, 60)))
    ]


def test_alpha_equals_an_outside_implementation(units: list[dict[str, str]]) -> None:
    names = sorted({name for unit in units for name in unit})
    table = [
        ["abc".index(unit[name]) if name in unit else float("nan") for unit in units]
        for name in names
    ]
    expected = krippendorff.alpha(table, level_of_measurement="nominal")
    assert agree.krippendorff_alpha(units) == pytest.approx(expected)


def test_kappa_equals_an_outside_implementation(units: list[dict[str, str]]) -> None:
    pairs = [(unit["ann"], unit["ben"]) for unit in units if {"ann", "ben"} <= set(unit)]
    expected = metrics.cohen_kappa_score(*zip(*pairs, strict=True))
    assert agree.cohen_kappa(pairs) == pytest.approx(expected)
    raw = metrics.accuracy_score(*zip(*pairs, strict=True))
    assert agree.raw_agreement(
        [dict(zip("ab", pair, strict=True)) for pair in pairs]
    ) == pytest.approx(raw)


def test_agreement_is_undefined_where_nothing_can_disagree() -> None:
    assert agree.raw_agreement([{"ann": "a"}]) is None
    assert agree.cohen_kappa([]) is None
    assert agree.cohen_kappa([("a", "a")]) is None
    assert agree.krippendorff_alpha([{"ann": "a", "ben": "a"}]) is None


def test_the_report_tells_people_categories_and_the_model_s_precision(tmp_path: Path) -> None:
    project = make_project(
        tmp_path,
        (FIRST, "action", "man push cart", None),
        (FIRST, "spatial", "cat left dog", None),
        (SECOND, "spatial", "cat left dog", None),
    )
    project.set_people(2)
    for verdicts in (("ann", "accept", "reject", "accept"), ("ben", "accept", "reject", "skip")):
        for verdict in verdicts[1:]:
            decide(project, verdicts[0], verdict)
    lines = [line.split() for line in agree.make_report(project).splitlines()]
    assert ["all", "2", "1.000", "1.000"] in lines
    assert ["ben", "3", "1", "0", "1", "1", "1.000", "2.0"] in lines
    assert ["ann", "/", "ben", "2", "1.000", "1.000"] in lines
    assert ["action", "1", "1", "1.000", "0.207", "–", "1.000"] in lines
    assert ["spatial", "0", "1", "0.000", "0.000", "–", "0.793"] in lines

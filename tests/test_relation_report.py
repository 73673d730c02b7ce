"""Tests of the report: oracles not written here, blind baselines by hand, published rows, the command."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import relation_accuracy as metric
from mmrel_kit.scoring import report
from tests.test_relation_accuracy import answers_at, record, release_at


def scores_of(rows: list[tuple[dict[str, Any], str]]) -> metric.Scores:
    """Scores references with their answers."""
    questions = metric.index_questions((str(at), row) for at, (row, _) in enumerate(rows))
    scores = metric.Scores()
    metric.match({row["question_id"]: answer for row, answer in rows}, questions, scores)
    return scores


def drawn(pictures: int, right: float, seed: int, each: int = 4) -> list[tuple[dict[str, Any], str]]:
    """Draws pairs of questions; a picture is answered right as a whole or not at all."""
    rng = random.Random(seed)
    rows = []
    for picture in range(pictures):
        is_right = rng.random() < right
        for at in range(each):
            label = ("yes", "no")[at % 2]
            row = record(each * picture + at, label, image_id=str(picture), pair_id=f"{picture}-{at // 2}")
            rows.append((row | {"domain": "real", "category": "spatial"}, label if is_right else "yes"))
    return rows


def test_statsmodels_agrees_on_wilson() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for n in (1, 2, 7, 100, 3000, 10**6):
        for right in {0, 1, n // 3, n - 1, n}:
            expected = proportion.proportion_confint(right, n, method="wilson")
            assert report.wilson(right, n) == pytest.approx(expected, abs=1e-12)
    assert report.wilson(0, 0) is None


def test_scipy_agrees_on_mcnemar() -> None:
    stats = pytest.importorskip("scipy.stats")
    for first in (0, 1, 5, 40, 1000, 100_000):
        for second in (0, 1, 6, 40, 1100, 100_300):
            if first + second:
                expected = stats.binomtest(min(first, second), first + second, 0.5).pvalue
                assert report.mcnemar(first, second) == pytest.approx(expected, rel=1e-7, abs=1e-300)
    assert report.mcnemar(0, 0) == 1.0


def test_bootstrap_is_as_wide_as_theory_says() -> None:
    # A picture is right as a whole, so pair accuracy spreads like a share of 400 pictures, not of 800 pairs.
    scores = scores_of(drawn(400, 0.7, seed=3))
    low, high = report.intervals(scores)["pair_accuracy"]  # type: ignore[misc]
    share = scores.figures()["pair_accuracy"]
    half = 1.96 * (share * (1 - share) / 400) ** 0.5
    assert low < share < high
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_bootstrap_covers_the_truth() -> None:
    covered = 0
    for seed in range(40):
        low, high = report.intervals(scores_of(drawn(60, 0.6, seed, each=2)))["pair_accuracy"]  # type: ignore[misc]
        covered += low <= 0.6 <= high
    assert covered >= 34  # 95 % of 40 is 38; fewer than 34 has a chance of 2 in 1,000 if the intervals are right


def test_intervals_do_not_depend_on_the_order_and_are_null_without_pictures() -> None:
    rows = drawn(30, 0.5, seed=1)
    assert report.intervals(scores_of(rows)) == report.intervals(scores_of(rows[::-1]))
    bare = [({**row, "image_id": None}, answer) for row, answer in rows]
    found = report.intervals(scores_of(bare))
    assert (found["f1"], found["pair_accuracy"]) == (None, None)
    assert found["accuracy"] is not None
    one = [({**row, "image_id": "0"}, answer) for row, answer in rows]
    assert report.intervals(scores_of(one))["f1"] is None


def test_picture_tallies_add_up() -> None:
    scores = scores_of(drawn(30, 0.5, seed=2))
    total = [sum(column) for column in zip(*report.picture_tallies(scores, bool).values(), strict=False)]
    figures = scores.figures()
    assert {name: figures[name] for name in metric.yes_no_figures(total)} == metric.yes_no_figures(total)
    assert figures["pairs"] == 60


def test_comparison() -> None:
    good, bad = scores_of(drawn(200, 0.8, seed=5)), scores_of(drawn(200, 0.5, seed=6))
    compared = report.compare(good, bad)
    difference = good.figures()["accuracy"] - bad.figures()["accuracy"]
    assert compared["accuracy"]["difference"] == pytest.approx(difference)
    low, high = compared["accuracy"]["interval"]
    assert 0 < low < difference < high
    mirrored = report.compare(bad, good)
    assert mirrored["accuracy"]["difference"] == pytest.approx(-difference)
    assert mirrored["mcnemar"]["p"] == compared["mcnemar"]["p"]
    same = report.compare(good, good)
    assert same["f1"] == {"difference": 0.0, "interval": [0.0, 0.0]}
    assert (same["mcnemar"]["only_first"], same["mcnemar"]["p"]) == (0, 1.0)
    with pytest.raises(metric.MatchError, match="same questions"):
        report.compare(good, scores_of(drawn(199, 0.5, seed=6)))


def test_blind_baselines_by_hand() -> None:
    def questions(*rows: tuple[str, str | None]) -> dict[str, metric.Question]:
        made = (record(at, label, relation=relation, pair_id="a") for at, (label, relation) in enumerate(rows))
        return metric.index_questions(("", row) for row in made)

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
    found = {name: scores.figures() for name, scores in report.blind_baselines(asked, learnt).items()}
    assert found["always yes"]["recall"] == 1.0
    assert found["always no"]["accuracy"] == 0.5
    # "eat" is even and "fly" unknown: the majority of all, which is no.
    assert (found["majority by relation"]["accuracy"], found["majority by relation"]["pair_accuracy"]) == (
        0.75,
        0.0,
    )
    assert list(report.blind_baselines(asked)) == ["always yes", "always no"]


def test_published_rows() -> None:
    for model, cells in report.PUBLISHED.items():
        assert len(cells) == 7, model
        for cell, (_, precision, recall, f1) in cells.items():
            if (model, cell) != ("GPT-4o", "sdxl/spatial"):
                assert 2 * precision * recall / (precision + recall) == pytest.approx(f1, abs=0.011), (
                    model,
                    cell,
                )
    assert report.PUBLISHED["GPT-4o"]["sdxl/spatial"] == report.PUBLISHED["GPT-4o"]["real/action"]
    assert "misprint" in report.PUBLISHED_NOTES[1]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of 40 questions in test and in train."""
    files = {}
    for split, seed in (("test", 1), ("train", 2)):
        rows = [row | {"relation": ("on", "left")[at % 2]} for at, (row, _) in enumerate(drawn(10, 1, seed))]
        files[f"data/real/{split}.jsonl"] = [{**row, "question_id": split + row["question_id"]} for row in rows]
    return release_at(tmp_path / "release", files)


def test_command(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = answers_at(tmp_path / "good", {f"testq{at}": ("yes", "no")[at % 2] for at in range(40)})
    yes = answers_at(tmp_path / "yes", {f"testq{at}": "Yes" for at in range(40)})
    target = str(tmp_path / "f.json")
    options = ["--against", yes, "--baselines", "--published", "--json", target]
    assert report.main([good, "--root", str(release), *options]) == 0
    out = capsys.readouterr().out
    assert "+50.00" in out
    assert "misprint" in out
    result = json.loads(Path(target).read_text())
    assert result["intervals"]["real/spatial"] == result["intervals"]["all"]
    assert result["against"]["mcnemar"]["only_first"] == 20
    # Each relation stands in one kind of question here: what it gives away, a blind guesser learns.
    assert result["baselines"]["majority by relation"]["accuracy"] == 1.0
    assert report.main([good, "--root", str(release)]) == 0
    assert report.main([good, "--root", str(release), "--against", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_plot(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    answers = answers_at(tmp_path / "a", {f"testq{at}": "Yes" for at in range(40)})
    picture = tmp_path / "f.png"
    assert report.main([answers, "--root", str(release), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert report.main([answers, "--root", str(release), "--plot", str(tmp_path / "f.nothing")]) == 1
    assert "name of a picture" in capsys.readouterr().err

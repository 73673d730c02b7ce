# SPDX-License-Identifier: Apache-2.0
"""The report: published rows, the command, the plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmrel_kit.questions.published import read_published
from tests.helpers.metric import draw_pairs, report, write_answers, write_release


def test_published_rows() -> None:
    paper = read_published()
    for model, cells in paper.scores.items():
        assert len(cells) == 7, model
        for cell, (_, precision, recall, f1) in cells.items():
            if (model, cell) != ("GPT-4o", "sdxl/spatial"):
                assert 2 * precision * recall / (precision + recall) == pytest.approx(
                    f1, abs=0.011
                ), (
                    model,
                    cell,
                )
    assert paper.scores["GPT-4o"]["sdxl/spatial"] == paper.scores["GPT-4o"]["real/action"]
    assert "misprint" in paper.notes[1]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of 40 questions in test and in train."""
    files = {}
    for split, seed in (("test", 1), ("train", 2)):
        rows = [
            row | {"relation": ("on", "left")[at % 2]}
            for at, (row, _) in enumerate(draw_pairs(10, 1, seed))
        ]
        files[f"data/real/{split}.jsonl"] = [
            {**row, "question_id": split + row["question_id"]} for row in rows
        ]
    return write_release(tmp_path / "release", files)


def test_command(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_answers(
        tmp_path / "good", {f"testq{at}": ("yes", "no")[at % 2] for at in range(40)}
    )
    yes = write_answers(tmp_path / "yes", {f"testq{at}": "Yes" for at in range(40)})
    target = str(tmp_path / "f.json")
    options = ["--against", yes, "--baselines", "--published", "--json", target]
    assert report(good, "--root", str(release), *options) == 0
    out = capsys.readouterr().out
    assert "+50.00" in out
    assert "misprint" in out
    result = json.loads(Path(target).read_text())
    assert result["intervals"]["real/spatial"] == result["intervals"]["all"]
    assert result["against"]["mcnemar"]["only_first"] == 20
    # Each relation stands in one kind of question here: what it gives away, a blind guesser learns.
    assert result["baselines"]["majority by relation"]["accuracy"] == 1.0
    assert report(good, "--root", str(release)) == 0
    assert report(good, "--root", str(release), "--against", str(tmp_path / "none")) == 1
    assert "No such file" in capsys.readouterr().err


def test_plot(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    answers = write_answers(tmp_path / "a", {f"testq{at}": "Yes" for at in range(40)})
    picture = tmp_path / "f.png"
    assert report(answers, "--root", str(release), "--plot", str(picture)) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert report(answers, "--root", str(release), "--plot", str(tmp_path / "f.nothing")) == 1
    assert "name of a picture" in capsys.readouterr().err

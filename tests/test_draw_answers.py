"""Check the answers of the made-up models, and score them as a new user would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.drawing.draw_answers import DOMAINS, FOLDER, MODELS, REPOSITORY, draw_answers
from tests.helpers.metric import report, score


@pytest.mark.parametrize("name", MODELS)
def test_the_answers_are_not_stale(name: str) -> None:
    hint = "run: python tests/drawing/draw_answers.py"
    assert (FOLDER / name).read_text("utf-8") == draw_answers(name), hint


def test_the_folder_holds_only_small_answer_files() -> None:
    files = sorted(path.name for path in FOLDER.iterdir())
    assert files == sorted(MODELS)
    assert sum((FOLDER / name).stat().st_size for name in files) < 50_000


def test_the_answers_do_not_depend_on_the_source_of_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for domain in DOMAINS:
        lines = (REPOSITORY / "data" / domain / "test.jsonl").read_text("utf-8").splitlines()
        (tmp_path / "data" / domain).mkdir(parents=True)
        moved = [json.dumps({**json.loads(line), "source": "elsewhere"}) + "\n" for line in lines]
        (tmp_path / "data" / domain / "test.jsonl").write_text("".join(moved), "utf-8")
    monkeypatch.setattr("tests.drawing.draw_answers.REPOSITORY", tmp_path)
    for name in MODELS:
        assert (FOLDER / name).read_text("utf-8") == draw_answers(name)


def test_scoring_in_a_clone_uses_the_sample_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # --root used to be required, and no answer file was in the clone.
    monkeypatch.chdir(tmp_path)
    for name, share in MODELS.items():
        arguments = [str(FOLDER / name), "--task", "both", "--json", "report.json"]
        assert score(*arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("Scored on the drawn sample, not on the benchmark")
        result = json.loads(Path("report.json").read_text("utf-8"))
        assert result["accuracy"] == pytest.approx(share, abs=0.05)
        assert result["open_ended"]["accuracy"] == pytest.approx(share, abs=0.05)
        assert result["no_answer"] > 0
        assert result["coverage"]["share"] == 1
    better, worse = [str(FOLDER / name) for name in MODELS]
    assert report(better, "--against", worse, "--baselines", "--published") == 0
    assert capsys.readouterr().out.splitlines()[0] == lines[0]


def test_scoring_without_a_sample_asks_for_a_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmrel.HERE", str(tmp_path))
    assert score(str(FOLDER / "made_up_80.jsonl")) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert (
        "name the folder of one (root=, --root) or its repository on the Hub (repo_id=, --repo-id)"
        in captured.err
    )

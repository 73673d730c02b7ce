"""The demonstration: all steps in an empty folder, each verb in the same process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.labelling import run_label


def test_the_demonstration_runs_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # It called scripts of a clone in processes of their own, so an installed wheel had none.
    monkeypatch.chdir(tmp_path)
    status, out, _ = run_label(capsys, "demo", "--out", "demo")
    assert status == 0
    verbs = re.findall(r"^\$ mmrel (\w+)", out, re.MULTILINE)
    assert verbs == ["build", "check", "show", "score"]
    assert "demo/release: 0 problems, 0 warnings" in out
    assert "25 of 25 questions answered" in out
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    status, _, err = run_label(capsys, "demo", "--out", "demo")
    told = "mmrel label demo: demo: expected an empty folder or none; name another --out\n"
    assert (status, err) == (1, told)

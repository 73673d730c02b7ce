"""A training repository that knows MMRel by its name alone trains on a release beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.fake_model import read_records

pytestmark = pytest.mark.recipes
REPOSITORY_BELOW = REPOSITORY / "tests" / "downstream"


def test_it_trains_and_evaluates_with_two_workers(built: Path, tmp_path: Path) -> None:
    (tmp_path / "mmrel").symlink_to(built)
    done = subprocess.run(
        [sys.executable, str(REPOSITORY_BELOW / "train.py")],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", done.stdout)]
    assert len(losses) == 8
    asked = [
        record
        for record in read_records(built, "test", "real")
        if record["task"] == "discriminative"
    ]
    assert f"of {len(asked)} right" in done.stdout
    assert "Too many dataloader workers" not in done.stdout + done.stderr


def test_it_knows_nothing_of_this_package() -> None:
    text = (REPOSITORY_BELOW / "train.py").read_text()
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported == {"numpy", "torch", "datasets"}
    assert 'load_dataset("mmrel", "real", split=split, streaming=True)' in text

# SPDX-License-Identifier: Apache-2.0
"""What the tests of the metric share: drawn references, answers, releases, and the command."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import relation_accuracy as metric
from mmrel_kit import cli
from mmrel_kit.files import SCHEMAS, describe_file, write_json_lines
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import LoopbackHub

ROOT = Path(metric.__file__).resolve().parent
ANSWERS = ROOT / "mmrel_kit" / "recipes" / "sample_answers" / "made_up_80.jsonl"
Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
Done = subprocess.CompletedProcess[str]
GOOD = {"q0": "Yes", "q1": "No", "q2": "Yes.", "q3": "yes"}
NOWHERE = "http://127.0.0.1:9"


def record(number: int, answer: str, **keys: Any) -> dict[str, Any]:
    """Make a reference."""
    return {"question_id": f"q{number}", "answer": answer, **keys}


def release_at(
    root: Path, records: dict[str, list[dict[str, Any]]], note: str | None = None
) -> Path:
    """Write a release: name of a file -> records."""
    files = {}
    for name, rows in records.items():
        write_json_lines(root / name, rows)
        files[name] = describe_file(root / name)
    (root / "schema").mkdir(exist_ok=True)
    for name in SCHEMAS:
        shutil.copyfile(ROOT / name, root / name)
        files[name] = describe_file(root / name)
    sums = {"name": "mmrel", "version": "1.0.0", "note": note, "written_by": {}, "files": files}
    (root / "checksums.json").write_text(json.dumps(sums))
    return root


def make_small_release(tmp_path: Path) -> Path:
    """Write a release of four yes/no questions and an open-ended one in test, and two in adversarial."""
    real = [
        record(
            at,
            label,
            domain="real",
            category="spatial",
            relation="above",
            pair_id=f"p{at // 2}",
            image_id="vg/1.jpg",
        )
        for at, label in enumerate(("yes", "no", "yes", "no"))
    ]
    opened = record(
        9,
        "above",
        domain="real",
        category="spatial",
        task="generative",
        relation="above",
        pair_id=None,
    )
    dalle = [
        record(
            at,
            label,
            domain="dalle",
            category="action",
            relation="bite",
            pair_id="p0",
            style="abstract",
        )
        for at, label in ((20, "yes"), (21, "no"))
    ]
    files = {"data/real/test.jsonl": [*real, opened], "data/dalle/adversarial.jsonl": dalle}
    return release_at(tmp_path / "release", files, "A drawn sample, not the benchmark")


def answers_at(path: Path, answers: dict[Any, Any], key: str = "answer") -> str:
    """Write answers as JSON lines."""
    path.write_text(
        "".join(
            json.dumps({"question_id": name, key: text}) + "\n" for name, text in answers.items()
        )
    )
    return str(path)


def predictions(*numbers: int, answer: Any = "yes") -> list[dict[str, Any]]:
    """Make answers."""
    return [{"question_id": f"q{number}", "answer": answer} for number in numbers]


def score(*arguments: str) -> int:
    """Run `mmrel score` in this process."""
    return cli.main(["score", *arguments])


def report(*arguments: str) -> int:
    """Run `mmrel report` in this process."""
    return cli.main(["report", *arguments])


def run(release: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run `mmrel score` on a release; return the exit status, the output and the errors."""
    status = score(*arguments, "--root", str(release))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def as_files(release: Path) -> dict[str, bytes | None]:
    """Path to content of a release's files, and of one picture that scoring must not ask for."""
    files = {}
    for path in release.rglob("*.json*"):
        files[path.relative_to(release).as_posix()] = path.read_bytes()
    return {**files, "data/real/test-00000.tar": b"pictures", "README.md": b"a card"}


def start(hub: LoopbackHub, tmp_path: Path, *arguments: str, **settings: str) -> Done:
    """Run relation_accuracy.py in a process of its own, from an empty folder."""
    client = Client(hub, tmp_path / "home", settings=settings)
    return python(client.home, client.environment(), str(ROOT / "relation_accuracy.py"), *arguments)


def python(folder: Path, environment: dict[str, str], *arguments: str) -> Done:
    """Run Python in a folder."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def scores_of(rows: list[tuple[dict[str, Any], str]]) -> metric.Scores:
    """Score references with their answers."""
    questions = metric.index_questions((str(at), row) for at, (row, _) in enumerate(rows))
    scores = metric.Scores()
    answers = {row["question_id"]: answer for row, answer in rows}
    metric.match(answers, questions, scores, lambda question: True)
    return scores


def draw_pairs(
    pictures: int, right: float, seed: int, each: int = 4
) -> list[tuple[dict[str, Any], str]]:
    """Draw pairs of questions; a picture is answered right as a whole or not at all."""
    rng = random.Random(seed)
    rows = []
    for picture in range(pictures):
        is_right = rng.random() < right
        for at in range(each):
            label = ("yes", "no")[at % 2]
            row = record(
                each * picture + at, label, image_id=str(picture), pair_id=f"{picture}-{at // 2}"
            )
            rows.append(
                (row | {"domain": "real", "category": "spatial"}, label if is_right else "yes")
            )
    return rows

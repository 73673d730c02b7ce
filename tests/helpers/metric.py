# SPDX-License-Identifier: Apache-2.0
"""References, answers and releases for the tests of the metric, and its command."""

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
    """Return a reference; its `question_id` is made of the number."""
    return {"question_id": f"q{number}", "answer": answer, **keys}


def write_release(
    root: Path, records: dict[str, list[dict[str, Any]]], note: str | None = None
) -> Path:
    """Write the record files of a release, its schemas and its checksums.json.

    Args:
        root: the folder of the release.
        records: the records of each file by the file's name.
        note: the release's note.
    """
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
    """Write a release of five questions in test, one of them open-ended, and two in adversarial."""
    above = {"domain": "real", "category": "spatial", "relation": "above"}
    real = [
        record(0, "yes", **above, pair_id="p0", image_id="vg/1.jpg"),
        record(1, "no", **above, pair_id="p0", image_id="vg/1.jpg"),
        record(2, "yes", **above, pair_id="p1", image_id="vg/1.jpg"),
        record(3, "no", **above, pair_id="p1", image_id="vg/1.jpg"),
        record(9, "above", **above, pair_id=None, task="generative"),
    ]
    bite = {"domain": "dalle", "category": "action", "relation": "bite", "style": "abstract"}
    dalle = [
        record(20, "yes", **bite, pair_id="p0"),
        record(21, "no", **bite, pair_id="p0"),
    ]
    files = {"data/real/test.jsonl": real, "data/dalle/adversarial.jsonl": dalle}
    return write_release(tmp_path / "release", files, "A drawn sample, not the benchmark")


def write_answers(path: Path, answers: dict[Any, Any], key: str = "answer") -> str:
    """Write answers by question id as JSON lines, and return the path."""
    rows = [{"question_id": name, key: answer} for name, answer in answers.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def predictions(*numbers: int, answer: Any = "yes") -> list[dict[str, Any]]:
    """Return one and the same answer to several questions."""
    return [{"question_id": f"q{number}", "answer": answer} for number in numbers]


def score(*arguments: str) -> int:
    """Run `mmrel score` in this process."""
    return cli.main(["score", *arguments])


def report(*arguments: str) -> int:
    """Run `mmrel report` in this process."""
    return cli.main(["report", *arguments])


def run(release: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run `mmrel score` on a release; return exit status, standard output and standard error."""
    status = score(*arguments, "--root", str(release))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def read_release_files(release: Path) -> dict[str, bytes | None]:
    """Return the files of a release by path, with an archive that scoring must not download."""
    files: dict[str, bytes | None] = {
        "README.md": b"a card",
        "data/real/test-00000.tar": b"pictures",
    }
    for path in release.rglob("*.json*"):
        files[path.relative_to(release).as_posix()] = path.read_bytes()
    return files


def start(hub: LoopbackHub, tmp_path: Path, *arguments: str, **settings: str) -> Done:
    """Run relation_accuracy.py in another process, from a folder that holds no code."""
    client = Client(hub, tmp_path / "home", settings=settings)
    return python(client.home, client.environment(), str(ROOT / "relation_accuracy.py"), *arguments)


def python(folder: Path, environment: dict[str, str], *arguments: str) -> Done:
    """Run Python in a folder and capture its output."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def make_scores(rows: list[tuple[dict[str, Any], str]]) -> metric.Scores:
    """Score references with their answers."""
    questions = metric.index_questions((str(at), row) for at, (row, _) in enumerate(rows))
    scores = metric.Scores()
    answers = {row["question_id"]: answer for row, answer in rows}
    metric.match(answers, questions, scores, lambda question: True)
    return scores


def draw_pairs(
    pictures: int, right: float, seed: int, each: int = 4
) -> list[tuple[dict[str, Any], str]]:
    """Draw references with answers.

    The questions of a picture are all answered correctly, or all with yes.

    Args:
        pictures: how many pictures there are.
        right: the probability that a picture is answered correctly, between 0 and 1.
        seed: the seed of the draw.
        each: how many questions a picture has; they alternate between yes and no.
    """
    rng = random.Random(seed)
    rows = []
    for picture in range(pictures):
        is_right = rng.random() < right
        for at in range(each):
            label = "yes" if at % 2 == 0 else "no"
            row = record(
                each * picture + at,
                label,
                image_id=str(picture),
                pair_id=f"{picture}-{at // 2}",
                domain="real",
                category="spatial",
            )
            rows.append((row, label if is_right else "yes"))
    return rows

"""inspect_ai on a release: by the local task with our metric, and by eval.yaml as the Hub runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import relation_accuracy
import upload
from tests.conftest import REPOSITORY
from tests.drawing.draw_sample import build_sample, draw_sources
from tests.helpers.fake_model import answer_prompt, make_answers, read_records
from tests.helpers.stub_endpoint import StubEndpoint
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import LoopbackHub

pytestmark = pytest.mark.recipes
PROGRAM = str(Path(sys.executable).with_name("inspect"))


def evaluate(folder: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """The logs of a run of inspect against an endpoint, by task."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    with StubEndpoint(lambda request: answer_prompt(request.prompt)) as stub:
        environment = {
            **os.environ,
            **environment,
            "STUB_BASE_URL": stub.url,
            "STUB_API_KEY": "none",
        }
        options = [
            "--model",
            "openai-api/stub/m",
            "--display",
            "none",
            "--log-dir",
            str(folder / "logs"),
        ]
        command = [PROGRAM, "eval", *arguments, *options]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert all(
        request.picture and request.prompt.endswith("one word.") for request in stub.requests
    )
    logs = [read_eval_log(info) for info in list_eval_logs(str(folder / "logs"))]
    assert [log.error.traceback for log in logs if log.error] == []
    return {log.eval.task: log for log in logs}


def test_the_local_task_gives_the_report_of_the_metric(tmp_path: Path) -> None:
    release = build_sample(tmp_path)
    (log,) = evaluate(
        tmp_path, "mmrel_kit/recipes/inspect_task.py", "-T", f"root={release}", "-T", "task=both"
    ).values()
    answers, records = make_answers(release, "test"), read_records(release, "test")
    expected = relation_accuracy.compute(answers, records, task="both")
    metrics = {name: metric.value for name, metric in log.results.scores[0].metrics.items()}
    for name in (
        "accuracy",
        "pair_accuracy",
        "precision",
        "recall",
        "f1",
        "yes_ratio",
        "no_answer_share",
    ):
        assert metrics[name] == expected[name]
    for cell, figures in expected["by"]["cell"].items():
        assert metrics[f"{cell} accuracy"] == figures["accuracy"]
    assert metrics["open-ended accuracy"] == expected["open_ended"]["accuracy"]
    kept = [(sample.metadata, next(iter(sample.scores.values())).answer) for sample in log.samples]
    rows = [{"question_id": record["question_id"], "answer": answer} for record, answer in kept]
    assert relation_accuracy.compute(rows, [record for record, _ in kept], task="both") == expected


def test_the_hub_s_own_evaluation_runs_every_task_of_eval_yaml(tmp_path: Path) -> None:
    draw_sources(tmp_path / "sources")
    arguments = [
        "--annotations",
        str(tmp_path / "sources" / "json"),
        "--images",
        str(tmp_path / "sources"),
    ]
    release = tmp_path / "release"
    assert upload.main(["build", *arguments, "--out", str(release), "--hub-eval"]) == 0
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.publish("NS/MMRel", release)
        logs = evaluate(tmp_path, "hf/NS/MMRel", **Client(hub, tmp_path / "home").environment())
        assert hub.external == []
    assert sorted(name.rpartition("/")[2] for name in logs) == ["adversarial", "test"]
    for name, log in logs.items():
        split = name.rpartition("/")[2]
        records = [
            record for record in read_records(release, split) if record["task"] == "discriminative"
        ]
        assert len(log.samples) == len(records)
        right = {
            sample.metadata["question_id"]: sample.scores["pattern"].value == "C"
            for sample in log.samples
        }
        for record in records:
            said = answer_prompt(f"{record['question']} {record['instruction']}").strip("*").lower()
            assert right[record["question_id"]] == said.startswith(record["answer"])
        assert log.results.scores[0].metrics["accuracy"].value == sum(right.values()) / len(right)


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the local task from a folder, without an endpoint."""
    task = f"{REPOSITORY / 'mmrel_kit' / 'recipes' / 'inspect_task.py'}@mmrel_questions"
    options = ["--model", "mockllm/model", "--limit", "2", "--log-dir", str(folder / "logs")]
    command = [PROGRAM, "eval", task, *options, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_relative_root_is_the_shells_folder(tmp_path: Path) -> None:
    # inspect stands in the task's folder while it makes the task, where a relative root used to be looked for.
    (tmp_path / "work").mkdir()
    build_sample(tmp_path)
    done = start(tmp_path / "work", "-T", "root=../release", "--display", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "work" / "logs").iterdir())) == 1


@pytest.mark.parametrize("display", ["none", "plain"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "root=recipes",
            "-T root=recipes: expected the folder of a release, found none at {folder}/recipes",
        ),
        (
            "root=[red]x",
            "-T root=[red]x: expected the folder of a release, found none at {folder}/[red]x",
        ),
        ("root=.", "{folder}"),
        (
            "split=tset",
            "expected discriminative questions of config 'all' in split 'tset', found none",
        ),
    ],
)
def test_a_bad_root_is_one_line(tmp_path: Path, given: str, expected: str, display: str) -> None:
    # It was a traceback.
    if given == "root=[red]x":
        given = "root='[red]x'"  # inspect reads the values of -T as YAML
    done = start(tmp_path, "-T", given, "--display", display)
    told = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in told
    # A terminal of 80 columns wraps the line.
    assert expected.format(folder=tmp_path).replace(" ", "") in "".join(told.split())

"""The tasks for lmms-eval, run by its own command: numbers equal to `relation_accuracy` on the same answers."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mmrel
import relation_accuracy
from tests.conftest import REPOSITORY
from tests.helpers.fake_model import answer_prompt, make_answers, read_records
from tests.helpers.stub_endpoint import Fault, StubEndpoint, StubRequest
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import LoopbackHub

pytestmark = pytest.mark.recipes
TASKS = REPOSITORY / "mmrel_kit" / "recipes" / "lmms_eval"


def run(
    folder: Path, model: str, model_args: str, tasks: str = "mmrel", **environment: str
) -> dict[str, Any]:
    """Results by task, and the logged samples by task, of a run of lmms-eval somewhere outside the repository."""
    command = [
        "-m",
        "lmms_eval",
        "--model",
        model,
        "--model_args",
        model_args,
        "--include_path",
        str(TASKS),
    ]
    command += ["--tasks", tasks, "--output_path", str(folder / "out"), "--log_samples"]
    command += ["--gen_kwargs", "max_new_tokens=4"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    written = list((folder / "out").rglob("*_results.json"))
    assert len(written) == 1, done.stderr[-3000:]  # its exit status is 0 where a model fails
    return dict(json.loads(written[0].read_text())["results"])


def hold_against(
    results: dict[str, Any],
    task: str,
    answers: list[dict[str, Any]],
    split: str,
    root: Path = REPOSITORY,
) -> dict[str, Any]:
    """Compare every number of a task with the report of the metric on the same answers."""
    report = relation_accuracy.compute(answers, read_records(root, split), task="both")
    is_open = task.endswith("_open")
    figures = report["open_ended"] if is_open else report
    expected = {
        f"{domain}_{category}": None for domain in mmrel.DOMAINS for category in mmrel.CATEGORIES
    }
    expected |= {name: figures[name] for name in figures if name != "by"}
    expected |= {
        cell.replace("/", "_"): found["accuracy"] for cell, found in figures["by"]["cell"].items()
    }
    numbers = {
        key.partition(",")[0].removeprefix("mmrel_open_" if is_open else "mmrel_"): value
        for key, value in results[task].items()
        if key.startswith("mmrel") and "stderr" not in key
    }
    assert len(numbers) == (9 if is_open else 14)
    for name, value in numbers.items():
        assert value == expected[name] or (math.isnan(value) and expected[name] is None), name
    return numbers


def test_the_dummy_model(tmp_path: Path) -> None:
    results = run(tmp_path, "dummy", "response=Yes")
    for task, split in (("mmrel_test", "test"), ("mmrel_adversarial_open", "adversarial")):
        records = read_records(REPOSITORY, split)
        answers = [{"question_id": record["question_id"], "answer": "Yes"} for record in records]
        hold_against(results, task, answers, split)
    assert results["mmrel"]["mmrel_accuracy,none"] == 0.5
    assert results["mmrel_test"]["mmrel_pair_accuracy,none"] == 0
    assert results["mmrel_test"]["mmrel_accuracy_stderr_clustered,none"] > 0


def test_an_endpoint_that_answers_in_every_way_and_fails_once(tmp_path: Path) -> None:
    def talk(request: StubRequest) -> str:
        return answer_prompt(request.prompt)

    def fail(request: StubRequest) -> Fault | None:
        return Fault(400) if request.prompt == failing else None

    failing = next(r["question"] + " " + r["instruction"] for r in read_records(REPOSITORY, "test"))
    with StubEndpoint(talk, fail) as stub:
        arguments = f"base_url={stub.url},api_key=none,model_version=m,max_retries=1,retry_backoff_s=0.1,num_concurrent=4"
        results = run(tmp_path, "openai", arguments, "mmrel_test,mmrel_test_open")
    answers = make_answers(REPOSITORY, "test", failing)
    assert sum(row["answer"] is None for row in answers) >= 1
    numbers = hold_against(results, "mmrel_test", answers, "test")
    hold_against(results, "mmrel_test_open", answers, "test")
    assert 0 < numbers["accuracy"] < 1
    assert numbers["no_answer_share"] > 0
    prompts = {
        record["question"] + " " + record["instruction"]
        for record in read_records(REPOSITORY, "test")
    }
    assert {request.prompt for request in stub.requests} == prompts
    assert all(request.picture for request in stub.requests)


def test_a_tiny_llava_on_a_release_in_a_folder_called_mmrel(tmp_path: Path, built: Path) -> None:
    from tests.helpers.tiny_models import make_model

    model = make_model("llava", tmp_path / "llava")
    (tmp_path / "mmrel").symlink_to(built)
    arguments = f"pretrained={model},device=cpu,device_map=cpu,attn_implementation=sdpa"
    results = run(tmp_path, "llava_hf", arguments, "mmrel_adversarial", MMREL_RELEASE="mmrel")
    (samples,) = (tmp_path / "out").rglob("*_samples_mmrel_adversarial.jsonl")
    logged = [json.loads(line) for line in samples.read_text().splitlines()]
    answers = [sample["mmrel_accuracy"] for sample in logged]
    answers = [{name: item[name] for name in ("question_id", "answer")} for item in answers]
    records = [
        record
        for record in read_records(built, "adversarial")
        if record["task"] == "discriminative"
    ]
    assert len(answers) == len(records)
    report = relation_accuracy.compute(answers, records)
    for name in ("accuracy", "pair_accuracy", "no_answer_share"):
        assert results["mmrel_adversarial"][f"mmrel_{name},none"] == report[name]


def test_a_repository_on_the_hub_by_its_id(tmp_path: Path, built: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.publish("NS/MMRel", built)
        environment = Client(hub, tmp_path / "home").environment()
        results = run(
            tmp_path, "dummy", "response=Yes", "mmrel_test", **environment, MMREL_RELEASE="NS/MMRel"
        )
        assert hub.external == []
    answers = [
        {"question_id": record["question_id"], "answer": "Yes"}
        for record in read_records(built, "test")
    ]
    hold_against(results, "mmrel_test", answers, "test", built)


def test_every_task_is_listed() -> None:
    from lmms_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    kinds = [
        f"mmrel_{split}{kind}"
        for split in ("train", "test", "adversarial")
        for kind in ("", "_open")
    ]
    assert sorted(manager.all_tasks) == sorted(["mmrel", *kinds])

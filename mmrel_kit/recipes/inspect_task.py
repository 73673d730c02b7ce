# SPDX-License-Identifier: Apache-2.0
"""A task for inspect_ai on a release on disk (or hf://…), scored by `relation_accuracy`.

    inspect eval "$(mmrel path inspect)" --model openai/NAME -T root=RELEASE -T split=test

It reports the figures of `relation_accuracy` under the same names. `inspect eval hf/NS/MMRel`, by
the eval.yaml of a release on the Hub, reports accuracy only.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# inspect loads this file by its path. Import the metric of the same clone or package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inspect_ai import Task, task
from inspect_ai._util.error import PrerequisiteError
from inspect_ai._util.path import chdir_python
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText, GenerateConfig
from inspect_ai.scorer import (
    CORRECT,
    INCORRECT,
    NOANSWER,
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    metric,
    scorer,
)
from inspect_ai.solver import TaskState, generate
from inspect_ai.util import display_type
from rich.markup import escape

import mmrel
import relation_accuracy
from mmrel_kit.failures import redact
from mmrel_kit.files import PROJECT, InputError
from mmrel_kit.questions.records import make_prompt
from mmrel_kit.recipes.questions import matches_task, read_pictures

FIGURES = ("accuracy", "pair_accuracy", "precision", "recall", "f1", "yes_ratio", "no_answer_share")
VALUES = {"correct": CORRECT, "incorrect": INCORRECT, None: NOANSWER}
_PICTURES = tempfile.TemporaryDirectory(prefix="mmrel-inspect-")  # deleted when the process ends


@task
def mmrel_questions(
    root: str = str(PROJECT),
    config: str = "all",
    split: str = "test",
    task: str = relation_accuracy.TASKS[0],
) -> Task:
    """Ask the questions of a split.

    Args:
        root: folder of a release, absolute or relative to the folder in which inspect was started,
            or hf://datasets/NS/NAME; default: the sample.
        config: all, or a domain.
        split: train, test or adversarial.
        task: discriminative, generative or both.

    Raises:
        PrerequisiteError: there is no such release or question; inspect prints it in one line.
    """
    try:
        samples = list(_read_samples(mmrel.Release(_find_root(root)), config, split, task))
    except (InputError, mmrel.ReleaseError, OSError) as error:
        raise _refuse(redact(str(error))) from None
    if not samples:
        wanted = f"{task} questions of config {config!r} in split {split!r}"
        raise _refuse(f"{root}: expected {wanted}, found none")
    return Task(
        name=f"mmrel_{config}_{split}",
        dataset=MemoryDataset(samples, name=f"mmrel {config} {split}"),
        solver=generate(),
        scorer=relation_scorer(),
        config=GenerateConfig(temperature=0, max_tokens=128),
    )


@metric
def figures() -> Metric:
    """Return all figures of `relation_accuracy`: overall, by cell, and of open-ended questions."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        report = make_report(scores)
        values: dict[str, float | None] = {}
        if report["n"]:
            for name in FIGURES:
                values[name] = report[name]
        for cell, figures in report["by"]["cell"].items():
            values[f"{cell} accuracy"] = figures["accuracy"]
        open_ended = report["open_ended"] or {}
        for name in FIGURES:
            if name in open_ended:
                values[f"open-ended {name}"] = open_ended[name]
        return {name: float("nan") if value is None else value for name, value in values.items()}

    return compute


@scorer(metrics=[figures()])
def relation_scorer() -> Scorer:
    """Score each answer with `relation_accuracy`."""

    async def score(state: TaskState, target: Target) -> Score:
        answer = state.output.completion if state.output.choices else None
        verdict = relation_accuracy.judge_answer(answer, state.metadata)
        return Score(value=VALUES[verdict], answer=answer)

    return score


def make_report(scores: list[SampleScore]) -> dict[str, Any]:
    """Return the report of `relation_accuracy` on the samples that inspect scored."""
    records = [score.sample_metadata or {} for score in scores]
    answers = [
        {"question_id": record["question_id"], "answer": score.score.answer}
        for record, score in zip(records, scores, strict=True)
    ]
    return relation_accuracy.compute(answers, records, task="both")


def _find_root(root: str) -> str:
    """Return the absolute path of a release, or its URL.

    Raises:
        InputError: there is no such folder.
    """
    if "://" in root:
        return root
    folder = _find_start_folder() / Path(root).expanduser()
    if not folder.is_dir():
        wanted = "expected the folder of a release"
        raise InputError(f"-T root={root}: {wanted}, found none at {folder}")
    return str(folder)


def _find_start_folder() -> Path:
    """Return the folder in which inspect was started.

    While inspect creates a task, the current folder is that of the task's file. Only the active
    context manager that will change it back has the original one.
    """
    for active in gc.get_objects():
        if type(active) is chdir_python and active._old_cwd:
            return Path(active._old_cwd[0])
    return Path.cwd()


def _refuse(message: str) -> PrerequisiteError:
    """Return the error whose message inspect prints without a traceback."""
    if display_type() == "none":  # inspect would exit without a message
        sys.stderr.write(f"{message}\n")
    return PrerequisiteError(escape(message))  # rich parses [words] as markup


def _read_samples(release: mmrel.Release, config: str, split: str, task: str) -> Iterator[Sample]:
    """Yield a sample for each question; its picture is a temporary file that inspect encodes."""
    for records, data in read_pictures(release, config, split):
        asked = [record for record in records if matches_task(record, task)]
        if not asked:
            continue
        path = Path(_PICTURES.name, records[0]["image_id"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        for record in asked:
            content = [ContentImage(image=str(path)), ContentText(text=make_prompt(record))]
            yield Sample(
                input=[ChatMessageUser(content=content)],
                target=record["answer"],
                id=record["question_id"],
                metadata={**record, "split": split},
            )


if __name__ == "__main__":
    sys.exit(f"run it with: inspect eval {__file__} -T root=RELEASE")

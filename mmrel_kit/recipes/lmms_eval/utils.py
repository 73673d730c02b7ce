# SPDX-License-Identifier: Apache-2.0
"""Functions of the tasks for lmms-eval: the data set, the prompt, and the figures of the metric.

The environment variable MMREL_RELEASE names the release, a folder or a repository on the Hub
(NS/MMRel); default: the drawn sample of this package. lmms-eval loads this file by its path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Import the metric of the same clone or package.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import relation_accuracy  # noqa: E402
from mmrel_kit.files import PROJECT  # noqa: E402
from mmrel_kit.questions.records import make_prompt  # noqa: E402

RELEASE = os.environ.get("MMREL_RELEASE") or str(PROJECT)
SPLITS = ("train", "test", "adversarial")
# Load a folder by its Parquet files, because datasets >= 4 refuses a folder called mmrel with an
# mmrel.py in it.
_tables = {}
for _split in SPLITS:
    _paths = sorted(map(str, Path(RELEASE).resolve().glob(f"data/*/{_split}-*.parquet")))
    if _paths:
        _tables[_split] = _paths
DATASET_PATH = "parquet" if _tables else RELEASE
DATASET_KWARGS = {"data_files": _tables} if _tables else {}
CELLS = (
    *("real_spatial", "real_action", "real_comparative"),
    *("sdxl_spatial", "sdxl_comparative"),
    *("dalle_spatial", "dalle_action"),
)
UNSCORED = ("image", "question", "instruction", "source")  # columns that no figure needs
# Figures of relation_accuracy in lmms-eval's table.
YES_NO = ("accuracy", "pair_accuracy", "precision", "recall", "f1", "yes_ratio", "no_answer_share")
OPEN = ("accuracy", "no_answer_share")


def keep_yes_no(dataset: Any) -> Any:
    """Return the yes/no questions of a split, with the split as a column."""
    return _keep(dataset, "discriminative")


def keep_open(dataset: Any) -> Any:
    """Return the open-ended questions of a split, with the split as a column."""
    return _keep(dataset, "generative")


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """Return the picture."""
    return [doc["image"].convert("RGB")]


def doc_to_text(
    doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None
) -> str:
    """Return the question and its instruction; lmms-eval's own prompts are ignored."""
    return make_prompt(doc)


def process_yes_no(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Return an item of each metric for an answer to a yes/no question."""
    return _process(doc, results[0], "mmrel", YES_NO)


def process_open(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Return an item of each metric for an answer to an open-ended question."""
    return _process(doc, results[0], "mmrel_open", OPEN)


def count(items: list[dict[str, Any]]) -> relation_accuracy.Scores:
    """Score the answers in a metric's items; a failed request is no answer."""
    scores = relation_accuracy.Scores()
    questions = relation_accuracy.index_questions(
        (item["question_id"], item["record"]) for item in items
    )
    for item in items:
        name = item["question_id"]
        scores.rows[name] = scores.read(questions[name], item["answer"])
    return scores


def _keep(dataset: Any, task: str) -> Any:
    rows = dataset.filter(lambda row_task: row_task == task, input_columns="task")
    return rows.add_column("split", [str(dataset.split)] * len(rows))


def _process(
    doc: dict[str, Any], answer: str, prefix: str, figures: tuple[str, ...]
) -> dict[str, Any]:
    """Return an item for every metric, because lmms-eval weights tasks by the last metric's items.

    An item has a `score` only if the figure is a mean of scores that includes this question;
    lmms-eval computes standard errors from it, clustered by picture.
    """
    item = {
        "question_id": doc["question_id"],
        "image_id": doc["image_id"],
        "answer": answer,
        "record": {key: value for key, value in doc.items() if key not in UNSCORED},
    }
    verdict = relation_accuracy.judge_answer(answer, item["record"])
    scored = {**item, "score": float(verdict == "correct")}
    cell = f"{doc['domain']}_{doc['category']}"
    kept = {f"{prefix}_{name}": scored if name == "accuracy" else item for name in figures}
    return kept | {f"{prefix}_{name}": scored if name == cell else item for name in CELLS}


def _make_aggregation(name: str, is_open: bool = False) -> Callable[[list[dict[str, Any]]], float]:
    """Return a function that computes a figure, or the accuracy of a cell; NaN if undefined."""

    def aggregate(items: list[dict[str, Any]]) -> float:
        figures: Any = relation_accuracy.make_figures(count(items))
        figures = figures["open_ended"] if is_open else figures
        if name in CELLS:
            value = figures["by"]["cell"].get(name.replace("_", "/"), {}).get("accuracy")
        else:
            value = figures[name]
        return float("nan") if value is None else value

    return aggregate


# lmms-eval looks up aggregations by name in this module, such as accuracy and open_accuracy.
for _name in (*YES_NO, *CELLS):
    globals()[_name] = _make_aggregation(_name)
for _name in (*OPEN, *CELLS):
    globals()[f"open_{_name}"] = _make_aggregation(_name, is_open=True)

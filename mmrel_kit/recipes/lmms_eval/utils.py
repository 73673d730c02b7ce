# SPDX-License-Identifier: Apache-2.0
"""What the tasks for lmms-eval refer to: the release, the prompt, and `relation_accuracy` as their metric.

The release is the environment variable MMREL_RELEASE, a folder or a repository on the Hub (NS/MMRel); without it, the
drawn sample that this package brings. lmms-eval loads this file by its path, apart from any package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The metric is to be the one beside this folder, whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import relation_accuracy  # noqa: E402
from mmrel_kit.files import PROJECT  # noqa: E402
from mmrel_kit.questions.records import make_prompt  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

RELEASE = os.environ.get("MMREL_RELEASE") or str(PROJECT)
SPLITS = ("train", "test", "adversarial")
# A folder is read by its tables, because datasets >= 4 refuses one called mmrel that holds a mmrel.py.
_tables = {
    split: sorted(map(str, Path(RELEASE).resolve().glob(f"data/*/{split}-*.parquet")))
    for split in SPLITS
}
_tables = {split: names for split, names in _tables.items() if names}
DATASET_PATH = "parquet" if _tables else RELEASE
DATASET_KWARGS = {"data_files": _tables} if _tables else {}
CELLS = ("real_spatial", "real_action", "real_comparative", "sdxl_spatial", "sdxl_comparative", "dalle_spatial",
         "dalle_action")  # fmt: skip
UNSCORED = ("image", "question", "instruction", "source")  # columns that no figure needs
# Names of the metrics in lmms-eval's table -> figures of relation_accuracy.
YES_NO = ("accuracy", "pair_accuracy", "precision", "recall", "f1", "yes_ratio", "no_answer_share")
OPEN = ("accuracy", "no_answer_share")


def keep_yes_no(dataset: Any) -> Any:
    """The yes/no questions of a split, which is added as a column."""
    return _keep(dataset, "discriminative")


def keep_open(dataset: Any) -> Any:
    """The open-ended questions of a split, which is added as a column."""
    return _keep(dataset, "generative")


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """The picture."""
    return [doc["image"].convert("RGB")]


def doc_to_text(
    doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None
) -> str:
    """The question and its instruction, once; nothing of lmms-eval is put around them."""
    return make_prompt(doc)


def process_yes_no(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """What each metric keeps of an answer to a yes/no question."""
    return _process(doc, results[0], "mmrel", YES_NO)


def process_open(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """What each metric keeps of an answer to an open-ended question."""
    return _process(doc, results[0], "mmrel_open", OPEN)


def count(items: list[dict[str, Any]]) -> relation_accuracy.Scores:
    """All verdicts on the answers that a metric kept; a failed request is no answer."""
    scores = relation_accuracy.Scores()
    questions = relation_accuracy.index_questions(
        (item["question_id"], item["record"]) for item in items
    )
    for item in items:
        name = item["question_id"]
        scores.rows[name] = scores.read(questions[name], item["answer"])
    return scores


def _keep(dataset: Any, task: str) -> Any:
    chosen = dataset.filter(lambda found: found == task, input_columns="task")
    return chosen.add_column("split", [str(dataset.split)] * len(chosen))


def _process(
    doc: dict[str, Any], answer: str, prefix: str, figures: tuple[str, ...]
) -> dict[str, Any]:
    """One item for each metric: of every question, because lmms-eval weighs tasks by the items of the last metric.

    `score` stands only where the figure is a mean of scores over this question; lmms-eval makes the standard errors
    from it, clustered by picture.
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


def _figure(name: str, is_open: bool = False) -> Callable[[list[dict[str, Any]]], float]:
    """The aggregation that gives a figure, or the accuracy of a cell; not a number where it is undefined."""

    def aggregate(items: list[dict[str, Any]]) -> float:
        figures: Any = relation_accuracy.make_figures(count(items))
        figures = figures["open_ended"] if is_open else figures
        if name in CELLS:
            value = figures["by"]["cell"].get(name.replace("_", "/"), {}).get("accuracy")
        else:
            value = figures[name]
        return float("nan") if value is None else value

    return aggregate


accuracy, pair_accuracy, precision, recall, f1, yes_ratio, no_answer_share = map(_figure, YES_NO)
(
    real_spatial,
    real_action,
    real_comparative,
    sdxl_spatial,
    sdxl_comparative,
    dalle_spatial,
    dalle_action,
) = map(_figure, CELLS)
open_accuracy, open_no_answer_share = (_figure(name, is_open=True) for name in OPEN)
(
    open_real_spatial,
    open_real_action,
    open_real_comparative,
    open_sdxl_spatial,
    open_sdxl_comparative,
    open_dalle_spatial,
    open_dalle_action,
) = (_figure(name, is_open=True) for name in CELLS)

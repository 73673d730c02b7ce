# SPDX-License-Identifier: Apache-2.0
"""Describe the Hub's own evaluation of a release: eval.yaml (inspect-ai), the config `hub_eval`.

inspect-ai reads a picture from a column of data URIs and scores with a scorer of a fixed list. So
hub_eval/ holds the yes/no questions once more, with pictures of at most 768 pixels. The reference
metric remains `relation_accuracy`; the pattern here reads the answers that begin with yes or no.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import mmrel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CONFIG = "hub_eval"
SPLITS = ("test", "adversarial")
MAX_SIDE = 768  # pixels
CARD_WIDTH = 120  # characters of a line of the card
METADATA = ("question_id", "image_id", "pair_id", "domain", "category", "relation")
PATTERN = r"^\W*(?:(?:the )?answer(?: is)?\W*)?(yes|no)\b"


def make_eval(splits: Iterable[str]) -> dict[str, Any]:
    """Return what eval.yaml says: a task for each split."""
    return {
        "name": "MMRel",
        "description": mmrel.DESCRIPTION,
        "evaluation_framework": "inspect-ai",
        "tasks": [_make_task(split) for split in splits],
    }


def describe_evaluation(splits: Sequence[str]) -> str:
    """Return what the card says of eval.yaml and hub_eval/; nothing if there are no splits."""
    if not splits:
        return ""
    asked = (
        "`eval.yaml` describes an evaluation that [inspect](https://inspect.aisi.org.uk) runs "
        "straight from the Hub: `inspect eval hf/NS/MMRel --model openai/NAME` asks a model the "
        "yes/no questions of this repository, one task for each split "
        f"({', '.join(splits)}), and prints its accuracy. `NS/MMRel` is the name of this "
        "repository."
    )
    held = (
        f"The config `{CONFIG}` (folder `{CONFIG}/`) is what that command reads: the same yes/no "
        f"questions once more, each picture as text (a data URI) of at most {MAX_SIDE} pixels a "
        "side. It is not more data: do not train on it, and do not add it to the counts above. An "
        "answer counts where it begins with yes or no. For precision, recall, F1 and pair "
        "accuracy, and for answers in other words, score with `relation_accuracy`, as above."
    )
    wrapper = textwrap.TextWrapper(CARD_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n\n".join(["### Evaluation from the Hub", wrapper.fill(asked), wrapper.fill(held)])


def make_config(splits: Iterable[str]) -> list[dict[str, Any]]:
    """Return the config as the card's YAML lists it; nothing if there are no splits."""
    files = [{"split": split, "path": f"{CONFIG}/{split}-*.parquet"} for split in splits]
    return [{"config_name": CONFIG, "data_files": files}] if files else []


def find_splits(root: Path) -> list[str]:
    """Return the splits of `hub_eval` that a release has."""
    return [split for split in SPLITS if any(root.glob(f"{CONFIG}/{split}-*.parquet"))]


def _make_task(split: str) -> dict[str, Any]:
    scorer = {"name": "pattern", "args": {"pattern": PATTERN, "ignore_case": True}}
    return {
        "id": split,
        "config": CONFIG,
        "split": split,
        "field_spec": {
            "input": "input",
            "input_image": "image",
            "target": "target",
            "metadata": list(METADATA),
        },
        "solvers": [{"name": "generate"}],
        "scorers": [scorer],
    }

# SPDX-License-Identifier: Apache-2.0
"""Describe the Hub's own evaluation of a release: eval.yaml (inspect-ai), the config `hub_eval`.

inspect-ai reads pictures from a column of data URIs and offers a fixed list of scorers. Therefore
hub_eval/ contains the yes/no questions again, with pictures of at most 768 pixels a side, and its
scorer is a pattern that reads answers which begin with yes or no. The reference metric remains
`relation_accuracy`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import mmrel

CONFIG = "hub_eval"
SPLITS = ("test", "adversarial")
MAX_SIDE = 768  # pixels
CARD_WIDTH = 100  # characters, limit of a line of the card
METADATA = ("question_id", "image_id", "pair_id", "domain", "category", "relation")
PATTERN = r"^\W*(?:(?:the )?answer(?: is)?\W*)?(yes|no)\b"


def make_eval(splits: Iterable[str]) -> dict[str, Any]:
    """Return the content of eval.yaml: one task per split."""
    return {
        "name": "MMRel",
        "description": mmrel.DESCRIPTION,
        "evaluation_framework": "inspect-ai",
        "tasks": [_make_task(split) for split in splits],
    }


def describe_evaluation(splits: Sequence[str]) -> str:
    """Return the section of the card on eval.yaml and hub_eval/; empty if there are no splits."""
    if not splits:
        return ""
    evaluation = (
        "`eval.yaml` describes an evaluation that [inspect](https://inspect.aisi.org.uk) runs "
        "straight from the Hub: `inspect eval hf/NS/MMRel --model openai/NAME` asks a model the "
        "yes/no questions of this repository, one task for each split "
        f"({', '.join(splits)}), and prints its accuracy. `NS/MMRel` is the name of this "
        "repository."
    )
    data = (
        f"That command reads the config `{CONFIG}` (folder `{CONFIG}/`): the same yes/no questions "
        f"again, each picture as text (a data URI) of at most {MAX_SIDE} pixels a side. It is not "
        "more data: do not train on it, and do not add it to the counts of this card. Only answers "
        "that begin with yes or no count. For precision, recall, F1 and pair accuracy, and for "
        "answers in other words, score with `relation_accuracy`, as above."
    )
    wrapper = textwrap.TextWrapper(CARD_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n\n".join(
        ["### Evaluation from the Hub", wrapper.fill(evaluation), wrapper.fill(data)]
    )


def make_config(splits: Iterable[str]) -> list[dict[str, Any]]:
    """Return the config as the YAML of the card lists it; empty if there are no splits."""
    files = [{"split": split, "path": f"{CONFIG}/{split}-*.parquet"} for split in splits]
    if not files:
        return []
    return [{"config_name": CONFIG, "data_files": files}]


def find_splits(root: Path) -> list[str]:
    """Return the splits that hub_eval/ of a release has."""
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

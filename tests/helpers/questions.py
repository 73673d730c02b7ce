# SPDX-License-Identifier: Apache-2.0
"""Annotation files, read and written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mmrel_kit.files import Problem, raise_problems
from mmrel_kit.questions.annotations import Annotation, read_annotations

if TYPE_CHECKING:
    from pathlib import Path

# A line of upstream's file of adversarial questions.
POPE = {
    "question_id": "b3yiuvb1pl35riq",
    "image": "vg/VG_100K_2/3122.jpg",
    "text": "Is there a flower above to a car in the image? Please answer with one word.",
    "label": "yes",
}
# An open-ended question in words that no grammar knows.
OPEN = {
    "question_id": "o1",
    "image": "vg/VG_100K/1.jpg",
    "text": "Where is the cup relative to the plate? Answer in a phrase.",
    "label": "on top of it",
}


def read(*paths: Path, split: str | None = None, mapping: Path | None = None) -> list[Annotation]:
    """Read annotation files; raise an error with all their problems."""
    results = list(read_annotations(paths, split, mapping))
    raise_problems([result for result in results if isinstance(result, Problem)])
    return [result for result in results if isinstance(result, Annotation)]


def write(path: Path, *values: Any) -> Path:
    """Write values as JSON lines and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")
    return path

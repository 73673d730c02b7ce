"""What all routes are asked in the tests: one model that says the same to the same prompt, and what that scores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mmrel_kit.questions.records import make_prompt

# Answers of every kind: bare, in a sentence, marked up, of no class, none.
SAYINGS = (
    "Yes.",
    "no",
    "**No**",
    "Yes, there is no doubt",
    "There is no such thing",
    "I cannot tell",
    "",
    "left",
    "ride",
)


def say(prompt: str) -> str:
    """What the model says to a prompt."""
    return SAYINGS[hashlib.sha256(prompt.encode()).digest()[0] % len(SAYINGS)]


def read_lines(root: Path, split: str, config: str = "all") -> list[dict[str, Any]]:
    """Records of a split, read without the package."""
    paths = sorted(root.glob(f"data/{'*' if config == 'all' else config}/{split}.jsonl"))
    return [
        json.loads(line) | {"split": split}
        for path in paths
        for line in path.read_text("utf-8").splitlines()
    ]


def answers_to(root: Path, split: str, failing: str | None = None) -> list[dict[str, Any]]:
    """The rows of an answer file; null where the prompt fails."""
    prompts = {record["question_id"]: make_prompt(record) for record in read_lines(root, split)}
    return [
        {"question_id": name, "answer": None if p == failing else say(p)}
        for name, p in prompts.items()
    ]

"""The records of a release, and the answers of a fake model that answers a prompt always alike."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mmrel_kit.questions.records import make_prompt

# Answers of every kind: bare, in a sentence, with markup, a relation, and none that can be read.
ANSWERS = (
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


def answer_prompt(prompt: str) -> str:
    """Return the fake model's answer to a prompt."""
    return ANSWERS[hashlib.sha256(prompt.encode()).digest()[0] % len(ANSWERS)]


def read_records(root: Path, split: str, config: str = "all") -> list[dict[str, Any]]:
    """Read the records of a split without the package."""
    folder = "*" if config == "all" else config
    records = []
    for path in sorted(root.glob(f"data/{folder}/{split}.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            records.append(json.loads(line) | {"split": split})
    return records


def make_answers(root: Path, split: str, failing: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of an answer file; the answer to the prompt `failing` is None."""
    prompts = {record["question_id"]: make_prompt(record) for record in read_records(root, split)}
    answers = []
    for question_id, prompt in prompts.items():
        answer = None if prompt == failing else answer_prompt(prompt)
        answers.append({"question_id": question_id, "answer": answer})
    return answers

"""Draw the answers of two made-up models to the sample's test split, to try scoring on.

`python tests/drawing/draw_answers.py` writes recipes/sample_answers/. An answer depends on the question's id,
task, category and reference answer, and on the other reference answers of its category; on nothing else.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "mmrel_kit" / "recipes" / "sample_answers"
DOMAINS = ("real", "sdxl", "dalle")
# Of each model, the share of its answers that is right; one in twenty says nothing that can be read.
MODELS = {"made_up_80.jsonl": 0.8, "made_up_60.jsonl": 0.6}
READABLE = 0.95
SEED = 4  # of the first few, the one whose models come closest to their shares
WORDINGS = ("{}", "{}.", "Answer: {}", "**{}**")
UNREADABLE = ("I cannot tell.", "The picture is too small to say.", "Please show it larger.", "")


def read_questions() -> list[dict[str, Any]]:
    """Read the records of the sample's test split, in the order of its files."""
    questions = []
    for domain in DOMAINS:
        lines = (REPOSITORY / "data" / domain / "test.jsonl").read_text("utf-8").splitlines()
        questions += [json.loads(line) for line in lines]
    return questions


def draw_answer(question: dict[str, Any], others: list[str], right: float, model: str) -> str:
    """Draw what a model says to one question.

    Args:
        question: its record.
        others: the wrong answers to choose from.
        right: the share of right answers, between 0 and READABLE.
        model: the name of its file; with SEED and the question's id it decides the answer.
    """
    rng = random.Random(f"{SEED} {model} {question['question_id']}")
    luck = rng.random()
    if luck > READABLE:
        return rng.choice(UNREADABLE)
    word = question["answer"] if luck < right else rng.choice(others)
    return rng.choice(WORDINGS).format(word.capitalize())


def draw_answers(name: str) -> str:
    """Draw the file of one model: an object with question_id and answer a line."""
    questions = read_questions()
    known: dict[tuple[str, str], set[str]] = {}
    for question in questions:
        known.setdefault((question["task"], question["category"]), set()).add(question["answer"])
    lines = []
    for question in questions:
        others = sorted(known[question["task"], question["category"]] - {question["answer"]})
        answer = draw_answer(question, others, MODELS[name], name)
        row = {"question_id": question["question_id"], "answer": answer}
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for model in MODELS:
        (FOLDER / model).write_text(draw_answers(model), "utf-8", newline="\n")

"""Draw the answers of two made-up models to the sample's test split, to try scoring on.

`python tests/drawing/draw_answers.py` writes recipes/sample_answers/. An answer depends on nothing
but its question's id, task, category and reference answer, and on the reference answers of the
other questions of that task and category.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "mmrel_kit" / "recipes" / "sample_answers"
DOMAINS = ("real", "sdxl", "dalle")
# The share of correct answers of each model.
MODELS = {"made_up_80.jsonl": 0.8, "made_up_60.jsonl": 0.6}
READABLE = 0.95  # the share of answers that can be read
SEED = 4  # of the first few seeds, the one whose models come closest to their shares
WORDINGS = ("{}", "{}.", "Answer: {}", "**{}**")
UNREADABLE = ("I cannot tell.", "The picture is too small to say.", "Please show it larger.", "")


def read_questions() -> list[dict[str, Any]]:
    """Read the records of the sample's test split in the order of its files."""
    questions = []
    for domain in DOMAINS:
        lines = (REPOSITORY / "data" / domain / "test.jsonl").read_text("utf-8").splitlines()
        questions += [json.loads(line) for line in lines]
    return questions


def draw_answer(question: dict[str, Any], wrong: list[str], right: float, model: str) -> str:
    """Draw a model's answer to a question.

    Args:
        question: its record.
        wrong: the wrong answers to choose from.
        right: the share of correct answers, between 0 and READABLE.
        model: the name of the model's file; it is part of the seed.
    """
    rng = random.Random(f"{SEED} {model} {question['question_id']}")
    chance = rng.random()
    if chance > READABLE:
        return rng.choice(UNREADABLE)
    word = question["answer"] if chance < right else rng.choice(wrong)
    return rng.choice(WORDINGS).format(word.capitalize())


def draw_answers(model: str) -> str:
    """Return the file of a model: JSON lines of question_id and answer."""
    questions = read_questions()
    answers: dict[tuple[str, str], set[str]] = {}
    for question in questions:
        answers.setdefault((question["task"], question["category"]), set()).add(question["answer"])
    lines = []
    for question in questions:
        wrong = answers[question["task"], question["category"]] - {question["answer"]}
        answer = draw_answer(question, sorted(wrong), MODELS[model], model)
        row = {"question_id": question["question_id"], "answer": answer}
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for model in MODELS:
        (FOLDER / model).write_text(draw_answers(model), "utf-8", newline="\n")

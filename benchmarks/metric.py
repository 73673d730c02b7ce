# SPDX-License-Identifier: Apache-2.0
"""Time the metric beside scikit-learn and lmms-eval's pope functions, on 1,000,000 read answers.

    pip install scikit-learn
    pip install --no-deps lmms-eval
    PYTHONPATH=. python benchmarks/metric.py

Each gets answers and labels in its own input format, with the members of each group, and computes
the same table: accuracy, precision, recall, F1 and yes ratio of every cell, domain, category,
split, style and relation, and overall. The other two are called for each group; ours also counts
the pairs. The tables are compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import relation_accuracy
from benchmarks.measuring import time_cpu
from mmrel_kit.files import format_table
from mmrel_kit.questions.published import read_published
from relation_accuracy import Question, Row, Scores, index_questions

PAPER = read_published()
# Thousands of yes/no questions in the paper's cells and in its splits.
CELLS = {
    f"{domain}/{category}": number
    for domain, counts in PAPER.whole["discriminative"].items()
    for category, number in counts.items()
}
SPLITS = {
    split: round(sum(chain.from_iterable(counts.values() for counts in domains.values())), 2)
    for split, domains in PAPER.splits.items()
}
STYLES = ("photo-realistic", "watercolor", "abstract", "oil-painting", None)
VERBS = [f"verb{number}" for number in range(380)]
RELATIONS = {
    "spatial": ["above", "on", "in", "under", "left", "right"],
    "comparative": ["bigger", "smaller"],
}

Members = dict[tuple[str, str], list[int]]  # (grouping, name) -> row numbers of its questions
Count = Callable[[], dict[Any, Any]]


class DrawnAnswers(NamedTuple):
    """Questions with their ids and answers."""

    identifiers: list[str]
    questions: list[Question]
    answers: list[str]


def draw(number: int) -> DrawnAnswers:
    """Draw questions, two or three per pair and six per picture, and answers, as in MMRel."""
    rng = random.Random(20261124)
    records: list[dict[str, str | None]] = []
    answers = []
    while len(records) < number:
        start = len(records)
        pair, picture = f"{start:016x}", f"vg/VG_100K/{start // 6}.jpg"
        for record in _draw_pair(rng):
            name = f"q{len(records):08d}"
            records.append({**record, "question_id": name, "pair_id": pair, "image_id": picture})
            right = str(record["answer"])
            answers.append(right if rng.random() < 0.8 else rng.choice(("yes", "no")))
    questions = index_questions(("drawn", record) for record in records)
    return DrawnAnswers(list(questions), list(questions.values()), answers)


def _draw_pair(rng: random.Random) -> Iterator[dict[str, str | None]]:
    """Yield the records of a pair of questions, without their ids."""
    domain, category = rng.choices(list(CELLS), list(CELLS.values()))[0].split("/")
    split = rng.choices(list(SPLITS), list(SPLITS.values()))[0]
    style = rng.choice(STYLES) if domain == "dalle" else None
    verb = min(int(rng.paretovariate(0.6)), len(VERBS)) - 1  # a few verbs are frequent
    relation = VERBS[verb] if category == "action" else rng.choice(RELATIONS[category])
    labels = ("yes", "no", "no") if category == "comparative" else ("yes", "no")
    common = {"split": split, "domain": domain, "category": category, "style": style}
    for label in labels:
        named = relation
        if label == "no" and category == "action":
            named = VERBS[verb - rng.randint(1, 3)]
        yield {**common, "answer": label, "relation": named}


def list_members(questions: Sequence[Question]) -> Members:
    """List the questions of every group."""
    members: Members = {}
    for row, question in enumerate(questions):
        for group in question.groups:
            members.setdefault(group, []).append(row)
    return members


def prepare_scikit_learn(drawn: DrawnAnswers, members: Members) -> Count:
    """Prepare scikit-learn's table, from arrays of small integers, its fastest form."""
    import numpy as np
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    labels = np.array([question.label == "yes" for question in drawn.questions], np.int8)
    answers = np.array([answer == "yes" for answer in drawn.answers], np.int8)
    rows = {key: np.array(group) for key, group in members.items()}

    options: dict[str, Any] = {"average": "binary", "zero_division": 0}

    def count() -> dict[Any, Any]:
        result = {}
        for key, group in rows.items():
            truth, given = labels[group], answers[group]
            ratios = precision_recall_fscore_support(truth, given, **options)
            matrix = confusion_matrix(truth, given, labels=[0, 1])
            accuracy = accuracy_score(truth, given)
            result[key] = (accuracy, *map(float, ratios[:3]), given.mean(), matrix)
        return result

    return count


def prepare_lmms_eval(drawn: DrawnAnswers, members: Members) -> Count:
    """Prepare the table of lmms-eval's pope, from what its process_results returns."""
    package = importlib.util.find_spec("lmms_eval")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'lmms_eval'")
    # Run by its path: importing the package needs torch and the rest of a harness.
    utils = runpy.run_path(f"{package.submodule_search_locations[0]}/tasks/pope/utils.py")
    names = ("accuracy", "precision", "recall", "f1_score", "yes_ratio")
    aggregates = [utils[f"pope_aggregate_{name}"] for name in names]
    results: list[dict[str, Any]] = []
    for question, answer in zip(drawn.questions, drawn.answers, strict=True):
        result = {"prediction": answer, "ground_truth": question.label}
        results.append({**result, "score": float(question.label == answer)})
    groups = {key: [results[row] for row in rows] for key, rows in members.items()}

    def count() -> dict[Any, Any]:
        result = {}
        for key, rows in groups.items():
            result[key] = tuple(aggregate(rows) for aggregate in aggregates)
        return result

    return count


PEERS = {"scikit-learn": prepare_scikit_learn, "lmms-eval's pope": prepare_lmms_eval}


def compare(ours: dict[str, Any], theirs: dict[Any, Any]) -> None:
    """Compare two tables; an undefined figure is None in ours and 0 in theirs.

    Raises:
        ValueError: a figure differs.
    """
    for (grouping, name), row in theirs.items():
        figures = ours if grouping == "all" else ours["by"][grouping][name]
        for key, value in zip(("accuracy", "precision", "recall", "f1"), row[:4], strict=True):
            if abs((figures[key] or 0) - value) > 1e-12:
                got = f"{figures[key]} here and {value} there"
                raise ValueError(f"{grouping} {name} {key}: {got}")


def main() -> int:
    """Print times and ratios, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--number", type=int, default=1_000_000, help="answers (1,000,000)")
    parser.add_argument("--repeats", type=int, default=5, help="the best of so many runs (5)")
    args = parser.parse_args()
    drawn = draw(args.number)
    answered = map(Row, drawn.questions, drawn.answers)
    scores = Scores(rows=dict(zip(drawn.identifiers, answered, strict=True)), asked=args.number)
    own, ours = time_cpu(lambda: relation_accuracy.report(scores), args.repeats)
    rows = [["", "s", "times as long"], ["relation_accuracy", f"{own:.2f}", ""]]
    notes = []
    members = list_members(drawn.questions)
    for name, prepare in PEERS.items():
        try:
            count = prepare(drawn, members)
        except ImportError as error:
            notes.append(f"{name} is not timed: {error}; {__file__} says what to install")
            continue
        seconds, theirs = time_cpu(count, args.repeats)
        compare(ours, theirs)
        rows.append([f"{name}, the same figures", f"{seconds:.2f}", f"{seconds / own:.1f}"])
    groups = sum(map(len, ours["by"].values())) + 1
    counts = f"{ours['n']:,} answers, {groups} groups, {ours['pairs']:,} pairs"
    print(f"{counts}; best of {args.repeats} runs\n{format_table(rows)}")
    print("\n".join(notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())

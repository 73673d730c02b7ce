# SPDX-License-Identifier: Apache-2.0
"""CPU time of the metric on 1,000,000 read answers, beside scikit-learn and lmms-eval's pope.

Each gets answers and labels in its own input format, with the members of each group, and computes
the same table: accuracy, precision, recall, F1 and yes ratio of every cell, domain, category,
split, style and relation, and overall. The other two are called for each group; ours also counts
the pairs. The tables are compared. `pip install scikit-learn`, and `pip install --no-deps
lmms-eval`, beside this package; a peer that is not installed is not timed.
"""

from __future__ import annotations

import importlib.util
import random
import runpy
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import relation_accuracy
from benchmarks.measuring import Setup, measure_in_turns, say, time_cpu
from benchmarks.results import Measurement, compare
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


OURS = "relation_accuracy"
PEERS = {"scikit-learn": prepare_scikit_learn, "lmms-eval's pope": prepare_lmms_eval}


def compare_tables(ours: dict[str, Any], theirs: dict[Any, Any]) -> None:
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


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield CPU seconds of each, and ratios."""
    number = setup.choose(1_000_000, 2_000)
    drawn = draw(number)
    answered = map(Row, drawn.questions, drawn.answers)
    scores = Scores(rows=dict(zip(drawn.identifiers, answered, strict=True)), asked=number)
    ours = relation_accuracy.report(scores)
    counts: dict[str, Count] = {OURS: lambda: relation_accuracy.report(scores)}
    members = list_members(drawn.questions)
    for name, prepare in PEERS.items():
        try:
            counts[name] = prepare(drawn, members)
        except ImportError as error:
            say(f"  {name} is not timed: {error}")
            continue
        compare_tables(ours, counts[name]())
    seconds = measure_in_turns(list(counts), setup.runs, lambda name: time_cpu(counts[name])[0])
    for name, values in seconds.items():
        if name != OURS:
            yield compare(f"{name} / {OURS}", "CPU time", values, seconds[OURS], OURS)
        yield Measurement(name, "CPU time", values, "s")

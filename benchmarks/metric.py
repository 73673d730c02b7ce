"""Times the metric beside scikit-learn and lmms-eval's pope functions, on 1,000,000 answers already read.

Each starts from answers and labels in the form it wants, its groups at hand, and makes the same table:
accuracy, precision, recall, F1 and yes ratio of every cell, domain, category, split, style and relation, and
of all; the other two by calls for each group. Ours counts the pairs besides. The tables are compared.

    pip install scikit-learn
    pip install --no-deps lmms-eval
    PYTHONPATH=. python benchmarks/metric.py
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any

import relation_accuracy
from mmrel_kit.questions.published import read_paper
from relation_accuracy import GROUPINGS, SAID, Group, Question, Scores

PAPER = read_paper()
# Thousands of yes/no questions in the paper's cells and in its splits.
CELLS = {
    f"{domain}/{category}": number
    for domain, counts in PAPER.whole["discriminative"].items()
    for category, number in counts.items()
}
SPLITS = {
    split: round(sum(sum(counts.values()) for counts in domains.values()), 2) for split, domains in PAPER.splits.items()
}
STYLES = ("photo-realistic", "watercolor", "abstract", "oil-painting", None)
VERBS = [f"verb{number}" for number in range(380)]
RELATIONS = {"spatial": ["above", "on", "in", "under", "left", "right"], "comparative": ["bigger", "smaller"]}


def draw(number: int) -> tuple[list[str], list[Question], list[str]]:
    """Draws questions (two or three a pair, six a picture) and answers, in the proportions of MMRel."""
    rng = random.Random(20261124)
    groups: dict[Group, Group] = {}
    identifiers: list[str] = []
    questions: list[Question] = []
    answers: list[str] = []
    while len(questions) < number:
        pair, picture = f"{len(questions):016x}", f"vg/VG_100K/{len(questions) // 6}.jpg"
        domain, category = rng.choices(list(CELLS), list(CELLS.values()))[0].split("/")
        split = rng.choices(list(SPLITS), list(SPLITS.values()))[0]
        style = rng.choice(STYLES) if domain == "dalle" else None
        at = min(int(rng.paretovariate(0.6)), 380) - 1  # a few verbs are frequent
        relation = VERBS[at] if category == "action" else rng.choice(RELATIONS[category])
        for label in ("yes", "no", "no")[: 3 if category == "comparative" else 2]:
            named = VERBS[at - rng.randint(1, 3)] if label == "no" and category == "action" else relation
            group = Group(split, domain, category, style, named)
            identifiers.append(f"q{len(questions):08d}")
            questions.append(Question(label, groups.setdefault(group, group), picture, pair, {}))
            answers.append(label if rng.random() < 0.8 else rng.choice(("yes", "no")))
    return identifiers, questions, answers


def members_of(questions: list[Question]) -> dict[tuple[str, str], list[int]]:
    """Lists the questions of every group."""
    members: dict[tuple[str, str], list[int]] = {("all", "all"): list(range(len(questions)))}
    for grouping in GROUPINGS:
        for row, question in enumerate(questions):
            name = getattr(question.group, grouping)
            if name is not None:
                members.setdefault((grouping, name), []).append(row)
    return members


def scikit_learn(
    questions: list[Question], answers: list[str], members: dict[tuple[str, str], list[int]]
) -> Callable[[], dict[Any, Any]]:
    """Prepares scikit-learn's table, from arrays of small integers, its fastest form."""
    import numpy as np
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    labels = np.array([question.label == "yes" for question in questions], np.int8)
    said = np.array([answer == "yes" for answer in answers], np.int8)
    rows = {key: np.array(group) for key, group in members.items()}

    def count() -> dict[Any, Any]:
        result = {}
        for key, group in rows.items():
            truth, given = labels[group], said[group]
            ratios = precision_recall_fscore_support(truth, given, average="binary", zero_division=0)[:3]
            matrix = confusion_matrix(truth, given, labels=[0, 1])
            result[key] = (accuracy_score(truth, given), *map(float, ratios), given.mean(), matrix)
        return result

    return count


def lmms_eval(
    questions: list[Question], answers: list[str], members: dict[tuple[str, str], list[int]]
) -> Callable[[], dict[Any, Any]]:
    """Prepares the table by lmms-eval's aggregations of pope, from what its process_results returns."""
    package = importlib.util.find_spec("lmms_eval")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'lmms_eval'")
    # Run by its path: importing the package needs torch and the rest of a harness.
    utils = runpy.run_path(f"{package.submodule_search_locations[0]}/tasks/pope/utils.py")
    names = ("accuracy", "precision", "recall", "f1_score", "yes_ratio")
    results = [
        {"score": float(question.label == answer), "prediction": answer, "ground_truth": question.label}
        for question, answer in zip(questions, answers, strict=False)
    ]
    groups = {key: [results[row] for row in rows] for key, rows in members.items()}
    return lambda: {key: tuple(utils[f"pope_aggregate_{name}"](rows) for name in names) for key, rows in groups.items()}


def timed(make: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Returns the best processor time of some runs, in seconds, and the result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = make()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def check(ours: dict[str, Any], theirs: dict[Any, Any]) -> None:
    """Raises ValueError where a figure that both know differs (their 0 stands for undefined)."""
    for (grouping, name), row in theirs.items():
        figures = ours if grouping == "all" else ours["by"][grouping][name]
        for key, value in zip(("accuracy", "precision", "recall", "f1"), row, strict=False):
            if abs((figures[key] or 0) - value) > 1e-12:
                raise ValueError(f"{grouping} {name} {key}: {figures[key]} here and {value} there")


def main() -> int:
    """Prints times and ratios; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--number", type=int, default=1_000_000, help="answers (1,000,000)")
    parser.add_argument("--repeats", type=int, default=5, help="the best of so many runs (5)")
    args = parser.parse_args()
    identifiers, questions, answers = draw(args.number)
    scores = Scores()
    said = [SAID[answer] for answer in answers]
    kept, _ = timed(lambda: scores.keep(identifiers, questions, said), 1)
    own, ours = timed(lambda: relation_accuracy.report(scores, len(scores.codes)), args.repeats)
    groups = sum(map(len, ours["by"].values())) + 1
    print(f"{ours['n']:,} answers, {groups} groups, {ours['pairs']:,} pairs; best of {args.repeats} runs")
    print(f"relation_accuracy  {own:6.2f} s  (and {kept:.2f} s once, to keep the verdicts)")
    members = members_of(questions)
    for name, prepare in (("scikit-learn", scikit_learn), ("lmms-eval's pope", lmms_eval)):
        try:
            count = prepare(questions, answers, members)
        except ImportError as error:
            print(f"{name:18} not timed: {error} (the top of this file says what to install)")
            continue
        seconds, theirs = timed(count, args.repeats)
        check(ours, theirs)
        print(f"{name:18} {seconds:6.2f} s, {seconds / own:.1f} times as long; the same figures")
    state = sum(map(sys.getsizeof, (scores.codes, scores.where, scores.images, scores.pairs))) / ours["n"]
    print(f"state: {state:.0f} bytes a question, besides the ids, which it shares with the records")
    return 0


if __name__ == "__main__":
    sys.exit(main())

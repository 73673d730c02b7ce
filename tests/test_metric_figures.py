# SPDX-License-Identifier: Apache-2.0
"""Figures, pairs and merging: oracles not written here, and cases by hand."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

import relation_accuracy as metric
from mmrel_kit.scoring.open_ended import TaxonomyJudge
from mmrel_kit.scoring.readers import READERS
from mmrel_kit.scoring.report import merge_scores
from mmrel_kit.scoring.text import table
from tests.helpers.metric import record


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            (358, 204, 174, 34),
            (0.6909, 0.6370, 0.9133, 0.7505, 0.7299),
        ),  # Qwen2.5-VL-3B, adversarial without SPEC
        (
            (1094, 633, 540, 126),
            (0.6828, 0.6335, 0.8967, 0.7424, 0.7217),
        ),  # dalle; by hand from its counts
    ],
)
def test_published_tables(table: tuple[int, int, int, int], expected: tuple[float, ...]) -> None:
    tp, fp, tn, fn = table
    predictions = ["yes"] * (tp + fp) + ["no"] * (tn + fn)
    references = ["yes"] * tp + ["no"] * (fp + tn) + ["yes"] * fn
    result = metric.compute(predictions, references)
    assert (result["tp"], result["fp"], result["tn"], result["fn"]) == table
    names = ("accuracy", "precision", "recall", "f1", "yes_ratio")
    assert tuple(round(result[name], 4) for name in names) == expected


@pytest.mark.parametrize("reader", READERS)
def test_real_answers(reader: str) -> None:
    folder = os.environ.get("MMREL_REAL_DATA")
    if not folder:
        pytest.skip("MMREL_REAL_DATA is not set: it names the folder of real records and answers")
    with open(
        Path(folder) / "answers" / "llava-1.5-13b.pope-adversarial.jsonl", encoding="utf-8"
    ) as lines:
        rows = [json.loads(line) for line in lines]
    predictions = [
        {"question_id": str(row["question_id"]), "answer": row["answer"]} for row in rows
    ]
    references = [{"question_id": row["question_id"], "answer": row["label"]} for row in rows]
    result = metric.compute(predictions, references, reader=reader)
    counts = tuple(result[name] for name in ("tp", "fp", "tn", "fn"))
    assert counts == ((1383, 318, 1182, 117) if reader == "amber" else (1182, 117, 1383, 318))
    assert result["accuracy"] == 0.855
    if reader != "amber":
        ratios = tuple(result[name] for name in ("precision", "recall", "f1"))
        assert ratios == (0.9099307159353349, 0.788, 0.8445873526259379)


def test_scikit_learn_agrees() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = random.Random(1)
    words = ("no", "yes", "cannot tell")  # no answer is a third class there
    for _ in range(1000):
        truth = [rng.randint(0, 1) for _ in range(rng.randint(1, 40))]
        said = [rng.choice((0, 0, 1, 2)) for _ in truth]
        result = metric.compute([words[value] for value in said], [words[value] for value in truth])
        matrix = sklearn.confusion_matrix(truth, said, labels=[0, 1, 2])
        assert [result["tn"], result["fp"], result["fn"], result["tp"]] == [
            *matrix[0][:2],
            *matrix[1][:2],
        ]
        assert (result["no_answer"], result["accuracy"]) == (
            matrix[:, 2].sum(),
            sklearn.accuracy_score(truth, said),
        )
        # Undefined is nan there and null here.
        ratios = sklearn.precision_recall_fscore_support(
            truth, said, labels=[1], zero_division=float("nan")
        )[:3]
        for name, (value,) in zip(("precision", "recall", "f1"), ratios, strict=False):
            assert result[name] is None if value != value else abs(result[name] - value) < 1e-12


def test_no_answer_in_each_reader() -> None:
    # Labels yes yes no no; the second and fourth answer are unreadable for all three.
    for reader, recall in (("words", 0.5), ("vlmevalkit", 0.5), ("lmms-eval", 1.0)):
        result = metric.compute(
            ["yes", "maybe", "no", "maybe"], ["yes", "yes", "no", "no"], reader=reader
        )
        assert (result["accuracy"], result["precision"], result["recall"]) == (0.5, 1.0, recall)
        assert (result["yes_ratio"], result["no_answer_share"]) == (0.5, 0.5)
    amber = metric.compute(
        ["Yes", "maybe", "No", "maybe"], ["yes", "yes", "no", "no"], reader="amber"
    )
    assert (amber["tp"], amber["precision"], amber["recall"]) == (1, 1.0, 0.5)
    assert "the positive class is no" in amber["notes"]


def test_undefined_is_null_and_a_dash() -> None:
    result = metric.compute([], [])
    assert result["n"] == 0
    assert {result[name] for name in (*metric.MEANS, "yes_ratio", "no_answer_share")} == {None}
    json.dumps(result, allow_nan=False)
    only_no = metric.compute(["no"], ["no"])
    assert (only_no["accuracy"], only_no["precision"], only_no["recall"], only_no["f1"]) == (
        1.0,
        None,
        None,
        None,
    )
    assert table(only_no).splitlines()[-1].split()[3:6] == ["\u2014"] * 3
    assert table(result) == ""


def test_groups() -> None:
    references = [
        record(0, "yes", domain="sdxl", category="spatial", split="test", relation="above"),
        record(1, "no", domain="real", category="action", split="test", relation="bite"),
        record(
            2, "yes", domain="real", category="spatial", split="train", relation="above", style=None
        ),
        record(3, "No ", domain="dalle", category="action", style="abstract"),
        record(4, "yes"),
    ]
    result = metric.compute(["yes", "yes", "no", "no", "yes"], references)
    by = result["by"]
    assert list(by["cell"]) == ["real/spatial", "real/action", "sdxl/spatial", "dalle/action"]
    assert list(by["domain"]) == ["real", "sdxl", "dalle"]
    assert list(by["split"]) == ["train", "test"]
    assert list(by["style"]) == ["abstract"]
    assert (by["relation"]["above"]["n"], by["relation"]["above"]["accuracy"]) == (2, 0.5)
    assert (result["n"], result["accuracy"], result["macro"]["accuracy"]) == (5, 0.6, 0.5)
    assert result["macro"]["recall"] is None  # real/action has no yes


def pair_figures(labels: str, answers: str, pairs: str, splits: str = "") -> tuple[Any, ...]:
    """Scores questions given letter by letter."""
    word = {"y": "yes", "n": "no", "?": "maybe"}
    references = [
        record(at, word[label], pair_id=pair.strip() or None, split=splits[at] if splits else None)
        for at, (label, pair) in enumerate(zip(labels, pairs, strict=False))
    ]
    result = metric.compute([word[answer] for answer in answers], references)
    return result["pairs"], result["pair_accuracy"], result["unpaired"]


def test_pair_accuracy() -> None:
    assert pair_figures("ynyn", "ynyy", "aabb") == (2, 0.5, 0)
    assert pair_figures("ynnn", "ynnn", "aabb") == (1, 1.0, 2)  # b has no yes
    assert pair_figures("ynn", "yny", "aaa") == (1, 0.0, 0)  # one of three is wrong
    assert pair_figures("yn", "y?", "aa") == (1, 0.0, 0)
    assert pair_figures("ynyn", "ynyn", "aa  ") == (1, 1.0, 2)
    assert pair_figures("yn", "yn", "ab") == (0, None, 2)
    assert pair_figures("ynyn", "ynyy", "aaaa", "ssTT") == (
        2,
        0.5,
        0,
    )  # the same pair_id in two splits


def test_a_pair_counts_where_its_yes_is() -> None:
    references = [
        record(0, "yes", relation="chase", pair_id="a"),
        record(1, "no", relation="bite", pair_id="a"),
        record(2, "yes", relation="bite", pair_id="b"),
        record(3, "yes", relation="push", pair_id="b"),
        record(4, "no", relation="pull", pair_id="b"),
    ]
    result = metric.compute(["yes", "no", "yes", "yes", "yes"], references)
    found = {
        name: (row["pairs"], row["pair_accuracy"]) for name, row in result["by"]["relation"].items()
    }
    assert found == {"bite": (1, 0.0), "chase": (1, 1.0), "pull": (0, None), "push": (1, 0.0)}
    assert (result["pairs"], result["pair_accuracy"]) == (2, 0.5)


def test_always_yes_is_said() -> None:
    references = [record(at, ("yes", "no")[at % 2], pair_id=str(at // 2)) for at in range(10)]
    result = metric.compute(["Yes."] * 10, references)
    assert (result["recall"], result["pair_accuracy"], result["yes_ratio"]) == (1.0, 0.0, 1.0)
    assert any(note.startswith("always yes") for note in result["notes"])


def drawn(number: int) -> tuple[dict[str, metric.Question], dict[str, str | None]]:
    """Draws questions of both tasks in all groups, and answers, some of them none."""
    rng = random.Random(number)
    rows = []
    for at in range(number):
        keys = {"domain": rng.choice(metric.DOMAINS), "category": rng.choice(metric.CATEGORIES)}
        keys |= {
            "split": rng.choice(metric.SPLITS),
            "relation": rng.choice(("on", "bite", "bigger")),
        }
        row = record(
            at, rng.choice(("yes", "no")), pair_id=str(at // 3), image_id=str(at // 5), **keys
        )
        if rng.random() < 0.1:
            row |= {"answer": keys["relation"], "task": "generative", "pair_id": None}
        rows.append((str(at), row))
    words = ("Yes", "No", "no, it is not", "on", "maybe", None)
    return metric.index_questions(rows), {f"q{at}": rng.choice(words) for at in range(number)}


def partition(file: Any, parts: int, seed: int) -> dict[str, Any]:
    """Scores a drawn file in parts, merged in some order."""
    questions, answers = file
    rng = random.Random(seed)
    shards: list[dict[str, str | None]] = [{} for _ in range(parts)]
    for name in rng.sample(sorted(answers), len(answers)):
        rng.choice(shards)[name] = answers[name]
    taxonomy = TaxonomyJudge()
    scores = [metric.Scores(judge=taxonomy) for _ in shards]
    for part, shard in zip(scores, shards, strict=False):
        if shard:
            metric.match(shard, questions, part, lambda question: True, partial=True)
    rng.shuffle(scores)
    whole = merge_scores(pickle.loads(pickle.dumps(part)) for part in scores)
    whole.asked = len(questions)  # each part was matched with all of them
    return metric.report(whole)


@pytest.mark.parametrize(
    ("number", "examples", "parts"), [(120, 60, (1, 9)), (100_000, 3, (2, 40))]
)
def test_any_partition_gives_the_same_report(
    number: int, examples: int, parts: tuple[int, int]
) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    strategies = hypothesis.strategies
    file = drawn(number)
    expected = json.dumps(partition(file, 1, 0))
    assert json.loads(expected)["coverage"]["share"] == 1

    @hypothesis.settings(max_examples=examples, deadline=None, derandomize=True)
    @hypothesis.given(strategies.integers(*parts), strategies.integers(0, 10**6))
    def check(parts: int, seed: int) -> None:
        assert json.dumps(partition(file, parts, seed)) == expected

    check()


def test_merging_a_question_twice_or_other_readers_is_an_error() -> None:
    questions, answers = drawn(30)
    first, second = metric.Scores(), metric.Scores()
    for scores in (first, second):
        metric.match(answers, questions, scores, lambda question: True)
    with pytest.raises(metric.AnswerError, match=r"30 in both, such as 'q0'"):
        merge_scores([first, second])
    with pytest.raises(metric.AnswerError, match="read alike"):
        merge_scores([first, metric.Scores(READERS["vcd"])])
    named = metric.Scores(judge=lambda answer, row: "correct")
    other = metric.Scores(judge=TaxonomyJudge())
    with pytest.raises(metric.AnswerError, match="read alike.*<lambda>.*taxonomy 1.0"):
        merge_scores([named, other])
    # A part without an open-ended answer has not loaded the taxonomy; it was read alike.
    assert merge_scores([metric.Scores(), other]).rows == {}
    with pytest.raises(metric.AnswerError, match="none that was scored before"):
        metric.match(answers, questions, first, lambda question: True)

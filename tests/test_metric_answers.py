# SPDX-License-Identifier: Apache-2.0
"""Answers and references: matching, bad input, files, data sets, the command."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

import mmrel
import relation_accuracy as metric
from mmrel_kit import cli
from mmrel_kit.scoring.report import read_answers
from tests.helpers.metric import (
    ANSWERS,
    GOOD,
    ROOT,
    Captured,
    Patch,
    make_small_release,
    predictions,
    python,
    record,
    run,
    score,
    write_answers,
)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of four yes/no questions and an open-ended one in test, and two in adversarial."""
    return make_small_release(tmp_path)


REFERENCES = [record(at, "yes") for at in range(20)]
SNIPPET = """
from datasets import load_dataset
from relation_accuracy import compute

questions = load_dataset(RELEASE, "real", split="test", streaming=STREAMING)
answers = [{"question_id": row["question_id"], "answer": "Yes"} for row in questions]
report = compute(predictions=answers, references=questions)
print(report["n"], report["accuracy"], report["pair_accuracy"], list(report["by"]["split"]))
"""


def test_ids_match_as_text_in_any_order() -> None:
    references = [{"question_id": 1, "answer": "yes"}, {"question_id": "2", "answer": "no"}]
    answers = [{"question_id": 2, "response": "no"}, {"question_id": "1", "prediction": "no"}]
    result = metric.compute(answers, references)
    assert (result["tn"], result["fn"]) == (1, 1)


def test_missing_and_unknown_are_listed() -> None:
    listed = r"missing 18 \('q2', .*'q11', \.\.\.\); unknown 1 \('q99'\)"
    with pytest.raises(metric.AnswerError, match=listed) as caught:
        metric.compute(predictions(0, 1, 99), REFERENCES)
    assert "'q12'" not in str(caught.value)
    result = metric.compute(predictions(0, 1, 99), REFERENCES, partial=True)
    coverage = result["coverage"]
    assert (coverage["answered"], coverage["missing"], coverage["unknown"], coverage["share"]) == (
        2,
        18,
        1,
        0.1,
    )
    assert (result["n"], result["accuracy"]) == (2, 1.0)
    assert any(note.startswith("partial") for note in result["notes"])


@pytest.mark.parametrize("partial", [False, True])
def test_twice_and_another_benchmark_are_errors(partial: bool) -> None:
    with pytest.raises(metric.AnswerError, match=r"predictions\[2\]: .* no second answer .* 'q1'"):
        metric.compute(predictions(0, 1, 1), REFERENCES[:2], partial=partial)
    with pytest.raises(metric.AnswerError, match="give the answers to these questions"):
        metric.compute(predictions(77, 78), REFERENCES, partial=partial)


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (predictions(0, answer=1), r"predictions\[0\]: expected .* got int 1"),
        (predictions(0, answer=["Yes"]), "text, or null"),
        (predictions(0, answer=float("nan")), "float nan"),
        (predictions(0, answer=True), "bool True"),
        ([{"question_id": "q0"}], "expected question_id and one of answer"),
        ([{"answer": "yes"}], "expected question_id and one of answer"),
        ([{"question_id": 1.0, "answer": "yes"}], "whole number"),
        (
            [{"question_id": "q0", "answer": "yes", "prediction": "no"}],
            "question_id and one of answer, .*; got 3 .*'prediction'",
        ),
        ([{"question_id": "q0", "answer": "yes"}, "no"], "expected an object"),
        ("yes", "expected lists"),
    ],
)
def test_answers_of_no_use(answers: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        metric.compute(answers, REFERENCES[:1])


@pytest.mark.parametrize(
    ("references", "match"),
    [
        ([record(0, "maybe")], "the label yes or no"),
        ([record(0, "open")], "the label yes or no"),
        ([{"question_id": "q0", "answer": 1}], "as text, answer"),
        ([{"answer": "yes"}], "question_id"),
        ([record(0, "yes", domain=["real"])], "as domain"),
        ([record(0, "yes"), record(0, "yes")], r"references\[1\]: expected no question_id twice"),
        ([3], "expected a record"),
    ],
)
def test_references_of_no_use(references: Any, match: str) -> None:
    with pytest.raises(metric.AnswerError, match=match):
        metric.compute(predictions(0), references)


def test_plain_lists() -> None:
    assert metric.compute(["yes", None], ["Yes", "no"])["no_answer"] == 1
    assert metric.compute(["yes"], REFERENCES[:1])["tp"] == 1
    with pytest.raises(metric.AnswerError, match="as many"):
        metric.compute(["yes"], REFERENCES)
    with pytest.raises(metric.AnswerError, match="reader"):
        metric.compute(["yes"], ["yes"], reader="llava")


def test_tasks_are_never_mixed() -> None:
    references = [
        record(0, "yes"),
        record(1, "above", task="generative", category="spatial", relation="above"),
    ]
    answers = [*predictions(0), *predictions(1, answer="under")]
    one, other, both = (
        metric.compute(answers, references, task=task)
        for task in ("discriminative", "generative", "both")
    )
    assert (one["n"], one["open_ended"], one["coverage"]["set_aside"]) == (1, None, 1)
    assert (other["n"], other["open_ended"]["incorrect"], other["open_ended"]["accuracy"]) == (
        0,
        1,
        0.0,
    )
    assert (both["n"], both["accuracy"], both["open_ended"]["n"]) == (1, 1.0, 1)
    with pytest.raises(metric.AnswerError, match="task"):
        metric.compute(predictions(0), references[:1], task="generative")
    # A mistyped task was taken for yes/no questions, later it was a KeyError.
    with pytest.raises(metric.AnswerError, match="task: expected one of discriminative"):
        metric.compute(predictions(0), references[:1], task="generativ")


def test_judge_is_named_and_checked() -> None:
    references = [record(0, "above", task="generative")]

    def lenient(answer: str, row: Any) -> str | None:
        return "correct"

    result = metric.compute(
        predictions(0, answer="?"), references, task="generative", judge=lenient
    )
    assert (result["open_ended"]["accuracy"], result["open_reader"]) == (1.0, "lenient")
    with pytest.raises(
        metric.AnswerError, match="judge <lambda>: expected correct, incorrect or None"
    ):
        metric.compute(
            predictions(0), references, task="generative", judge=lambda answer, row: "fine"
        )


def test_command(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = write_answers(tmp_path / "a.jsonl", {**GOOD, "q9": "above"}, key="text")
    target = str(tmp_path / "f.json")
    status, out, err = run(
        release, answers, "--json", target, "--model", "M", "--decoding", "greedy", capsys=capsys
    )
    assert (status, err) == (0, "")
    assert "A drawn sample, not the benchmark" in out
    assert "1 answers are to questions of another task" in out
    assert "model: M" in out
    assert out.splitlines()[-1].split()[:5] == ["mean", "of", "the", "cells", "75.00"]
    result = json.loads(Path(target).read_text())
    sums = (release / "checksums.json").read_bytes()
    assert result["release"]["sha256"] == hashlib.sha256(sums).hexdigest()
    assert result["release"]["version"] == "1.0.0"
    assert result["run"] == {"model": "M", "prompt": None, "decoding": "greedy"}
    assert result["reader"] == {"name": "words", "version": "1.0", "positive": "yes"}
    assert (result["accuracy"], result["pair_accuracy"]) == (0.75, 0.5)


def test_all_splits_keep_their_pairs_apart(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = write_answers(
        tmp_path / "a.jsonl", {**GOOD, "q9": "over", "q20": "yes", "q21": "yes"}
    )
    target = str(tmp_path / "f.json")
    status, out, _ = run(
        release, answers, "--split", "all", "--task", "both", "--json", target, capsys=capsys
    )
    result = json.loads(Path(target).read_text())
    assert status == 0
    assert (result["n"], result["pairs"], result["open_ended"]["correct"]) == (6, 3, 1)
    assert "open-ended" in out


def test_shapes_of_files(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": name, "response": text} for name, text in GOOD.items()]
    lines = "\r\n".join(json.dumps(row) for row in rows)
    files = {
        "array": json.dumps(rows, indent=1),
        "bom": "\ufeff" + lines,
        "blank": "\n\n" + lines + "\r\n\r\n",
    }
    tables = set()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        status, out, _ = run(release, str(tmp_path / name), capsys=capsys)
        assert status == 0, name
        tables.add(out)
    halves = [
        write_answers(tmp_path / half, dict(part))
        for half, part in zip("ab", (list(GOOD.items())[:1], list(GOOD.items())[1:]), strict=False)
    ]
    tables.add(run(release, *halves, capsys=capsys)[1])
    assert len(tables) == 1


def test_files_of_answers_may_hold_what_other_programs_write(
    release: Path, tmp_path: Path, capsys: Captured
) -> None:
    # A shard without a question, NaN beside the answer, a reply of millions of characters.
    (tmp_path / "empty.jsonl").write_text("")
    rows = [
        {"question_id": name, "answer": text, "score": float("nan")} for name, text in GOOD.items()
    ]
    rows[0]["answer"] = "Yes. " + "So it is. " * 300_000
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = run(release, write_answers(tmp_path / "b.jsonl", GOOD), capsys=capsys)
    assert (
        run(release, str(tmp_path / "empty.jsonl"), str(tmp_path / "a.jsonl"), capsys=capsys)
        == plain
    )
    (tmp_path / "array.json").write_text(json.dumps(rows))
    assert run(release, str(tmp_path / "array.json"), capsys=capsys) == plain


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "expected UTF-8"),
        (b"yes\nno\n", r"answers:1"),
        (b"[1, 2]", r"answers:1"),
        (b'{"question_id": "q0", "answer": "yes"}\n{"question_id": "q1"}\n', "answers:2"),
        (b'{"question_id": "q0", "answer": NaN}', "float nan"),
        (b"[" * 200_000, "nested too deeply"),
        (b"", "such as 'q0'; got 0 ()"),
        (b'{"question_id": "other", "answer": "yes"}', "give the answers to these questions"),
        (b'{"question_id": "q0", "answer": "' + b"no " * 3_500_000 + b'"}', "missing 3"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_bad_files(
    data: bytes, message: str, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answers").write_bytes(data)
    status, out, err = run(release, str(tmp_path / "answers"), capsys=capsys)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_bad_paths(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = write_answers(tmp_path / "a.jsonl", GOOD)
    for arguments, message in (
        ((str(tmp_path / "none"),), "No such file"),
        ((str(tmp_path),), "directory"),
        ((answers, "--json", str(tmp_path / "no" / "f.json")), "No such file"),
        ((answers, "--split", "train"), "expected records of config all and split train"),
        ((answers, "--config", "dalle"), "config dalle"),
        ((answers, "--task", "generative"), "give the answers to these questions"),
    ):
        status, out, err = run(release, *arguments, capsys=capsys)
        assert (status, out) == (1, ""), arguments
        assert message in err
    assert score(answers, "--root", str(tmp_path)) == 1
    assert "check its path" in capsys.readouterr().err


def test_standard_input_and_a_closed_pipe(release: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "relation_accuracy.py"), "-", "--root", str(release)]
    text = "".join(
        json.dumps({"question_id": name, "answer": answer}) + "\n" for name, answer in GOOD.items()
    )
    done = subprocess.run(command, input=text.encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.write(text.encode())
    process.stdin.close()
    assert (process.stderr.read(), process.wait()) == (b"", 1)
    process.stderr.close()


def test_an_interrupt_is_one_line(monkeypatch: Patch, capsys: Captured) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmrel_kit.scoring.report.read_answers", interrupt)
    assert score(str(ANSWERS)) == 130
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_the_commands_of_the_card_run_in_a_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # They named files that no clone has: ANSWERS, RELEASE, OTHER.
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(ROOT)
    card = (ROOT / "docs" / "metric.md").read_text("utf-8").replace("\\\n", " ")
    card = card.replace("$(mmrel path answers)", str(ANSWERS.parent)).replace(
        "$(mmrel path sample)", str(ROOT)
    )
    commands = [shlex.split(line) for line in card.splitlines() if line.startswith("mmrel ")]
    assert len(commands) == 2
    for _, *arguments in commands:
        names = [name.replace("figure.png", str(tmp_path / "figure.png")) for name in arguments]
        assert cli.main(names) == 0, capsys.readouterr().err


def test_imports_nothing_heavy() -> None:
    heavy = "{'datasets', 'torch', 'numpy', 'asyncio'}"
    code = f"import sys, relation_accuracy; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_evaluate_loads_the_wrapper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path))
    evaluate = pytest.importorskip("evaluate")
    loaded = evaluate.load(str(ROOT / "mmrel_kit" / "recipes" / "mmrel_accuracy"))
    answers = [*predictions(0, 1), {"question_id": "q2", "answer": None}]
    references = [{**row, "domain": "real", "category": "spatial"} for row in REFERENCES[:3]]
    result = loaded.compute(predictions=answers, references=references, reader="words")
    assert (result["tp"], result["no_answer"], result["by"]["cell"]["real/spatial"]["n"]) == (
        2,
        1,
        3,
    )
    assert loaded.compute(predictions=["Yes."], references=["yes"])["accuracy"] == 1.0


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
def test_references_are_what_load_dataset_returns(
    tmp_path: Path, monkeypatch: Patch, capsys: Captured, streaming: bool
) -> None:
    # Every picture was decoded, and the questions had no split.
    target = tmp_path / "f.json"
    options = ["--config", "real", "--task", "both", "--json", str(target)]
    assert score(str(ANSWERS), *options) == 0
    found = json.loads(target.read_text())
    answers = read_answers(str(ANSWERS))
    rows = [{"question_id": name, "answer": text} for name, text in answers.items()]
    how: dict[str, Any] = {"split": "test", "streaming": streaming, "cache_dir": str(tmp_path)}
    by_builder = mmrel.load("real", root=ROOT, **how)
    by_table = datasets.load_dataset(str(ROOT), "real", **how)
    references = [by_builder, by_table, by_table.with_format("numpy")]

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(datasets.Image, "decode_example", decode)
    for given in references:
        result = metric.compute(predictions=rows, references=given, task="both", partial=True)
        for key in ("accuracy", "pair_accuracy", "pairs", "by", "open_ended"):
            assert result[key] == found[key], key
        assert list(result["by"]["split"]) == ["test"]
        assert result["notes"] == found["notes"]


def test_references_of_several_splits(tmp_path: Path) -> None:
    def load(split: str | None = None) -> Any:
        return datasets.load_dataset(str(ROOT), "real", split=split, cache_dir=str(tmp_path))

    splits = load()
    rows = [record for part in splits.values() for record in part.remove_columns("image")]
    answers = [{"question_id": row["question_id"], "answer": "Yes"} for row in rows]
    apart = metric.compute(predictions=answers, references=splits)
    assert list(apart["by"]["split"]) == ["train", "test", "adversarial"]
    assert not any("do not say the split" in note for note in apart["notes"])
    joined = load("train+test+adversarial")
    for references in (joined, datasets.concatenate_datasets(list(splits.values()))):
        result = metric.compute(predictions=answers, references=references)
        assert result["n"] == apart["n"]
        assert any("do not say the split" in note for note in result["notes"])
    part = metric.compute(answers, load("test[:6]"), partial=True)
    assert list(part["by"]["split"]) == ["test"]
    with pytest.raises(metric.AnswerError, match="expected lists"):
        metric.compute(predictions=answers, references={"test": rows})


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
def test_the_snippet_of_the_readme_from_an_empty_folder(tmp_path: Path, streaming: bool) -> None:
    code = SNIPPET.replace("RELEASE", repr(str(ROOT))).replace("STREAMING", str(streaming))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf")}
    done = python(tmp_path, environment, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "28 0.5 0.0 ['test']\n"


# --- The file on its own ---

ALONE = """
from relation_accuracy import compute

print(compute(["Yes.", None], ["yes", "no"])["accuracy"])
for arguments in ({"reader": "pope"}, {"task": "generative"}):
    record = {"question_id": "q", "answer": "above", "task": "generative"}
    try:
        compute([{"question_id": "q", "answer": "over"}], [record], **arguments)
    except ModuleNotFoundError as error:
        print(error)
"""


def test_the_file_alone_in_a_folder(tmp_path: Path) -> None:
    shutil.copy(ROOT / "relation_accuracy.py", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # Without site-packages, where the package may be installed.
    done = python(tmp_path, environment, "-S", "-c", ALONE)
    assert (done.returncode, done.stderr) == (0, "")
    where = "needs the package mmrel_kit, which is not beside relation_accuracy.py"
    advice = "use a clone of MMRel, or run 'pip install .' in one"
    assert done.stdout.splitlines() == [
        "0.5",
        f"the reader 'pope' {where}: {advice}",
        f"an open-ended answer {where}: {advice}",
    ]
    done = python(tmp_path, environment, "-S", "relation_accuracy.py", "answers.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"relation_accuracy.py: the command {where}: {advice}\n"


def test_the_first_word_chooses_the_verb(tmp_path: Path) -> None:
    # `python relation_accuracy.py ANSWERS` is `score`, as it always was.
    command = [str(ROOT / "relation_accuracy.py"), str(ANSWERS)]
    plain = python(tmp_path, dict(os.environ), *command)
    named = python(tmp_path, dict(os.environ), command[0], "score", command[1])
    assert (plain.returncode, plain.stdout) == (0, named.stdout), plain.stderr
    other = python(tmp_path, dict(os.environ), command[0], "report", command[1])
    assert "95 % intervals" in other.stdout
    assert "95 % intervals" not in plain.stdout

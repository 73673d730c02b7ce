"""Asking a model behind an endpoint: what is sent, what is written, faults, resuming, and the score."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from routes import answers_to, read_lines, say
from stub_endpoint import Asked, Fault, StubEndpoint

import endpoint
import mmrel
import relation_accuracy
from recipes import answer
from recipes.questions import read_pictures


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)


def command(stub: StubEndpoint, root: Path, folder: Path, *more: str) -> list[str]:
    files = ["--out", str(folder / "answers.jsonl"), "--store", str(folder / "store.sqlite")]
    files += ["--json", str(folder / "report.json"), "--task", "both", "--root", str(root)]
    return [*files, "--base-url", stub.url, "--model", "tiny", "--timeout", "2", *more]


def read(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text("utf-8").splitlines()]


def talk(asked: Asked) -> str:
    return say(asked.prompt)


def test_every_question_is_asked_once_with_its_picture(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk) as stub:
        assert answer.main(command(stub, built, tmp_path)) == 0
    records = read_lines(built, "test")
    expected = sorted(f"{record['question']} {record['instruction']}" for record in records)
    assert sorted(asked.prompt for asked in stub.asked) == expected
    assert all(asked.picture for asked in stub.asked)
    assert len({asked.picture for asked in stub.asked}) == len({record["image_id"] for record in records})
    assert all("Please answer" not in asked.prompt.partition("?")[0] for asked in stub.asked)


def test_the_answer_file_says_how_it_came_about(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk) as stub:
        answer.main(command(stub, built, tmp_path, "--parameter", "max_tokens=9"))
    rows = read(tmp_path)
    assert [row["question_id"] for row in rows] == [record["question_id"] for record in read_lines(built, "test")]
    assert rows[0]["answer"] == say(str(rows[0]["prompt"]))
    assert (rows[0]["model"], rows[0]["decoding"]) == ("tiny", {"temperature": 0, "max_tokens": 9})
    assert stub.asked[0].body["max_tokens"] == 9


def test_the_report_is_that_of_the_metric_s_own_command(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk) as stub:
        answer.main(command(stub, built, tmp_path))
    own = tmp_path / "own.json"
    arguments = [str(tmp_path / "answers.jsonl"), "--root", str(built), "--task", "both", "--json", str(own)]
    assert relation_accuracy.main(arguments) == 0
    here, there = json.loads((tmp_path / "report.json").read_text()), json.loads(own.read_text())
    assert here.pop("run")["model"] == "tiny"
    there.pop("run")
    assert here == there
    plain = relation_accuracy.compute(answers_to(built, "test"), read_lines(built, "test"), task="both")
    assert {name: here[name] for name in ("n", "accuracy", "f1", "pair_accuracy", "by", "open_ended")} == {
        name: plain[name] for name in ("n", "accuracy", "f1", "pair_accuracy", "by", "open_ended")
    }


def test_every_fault_ends_in_an_answer_or_in_no_answer(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = [
        Fault(429, {"Retry-After": "0.1"}),
        Fault(500),
        Fault(delay=2.5),
        Fault(body=b'{"choices": []}'),
        Fault(body=b" " * (20 << 20)),
        Fault(cut=True),
    ]

    def fail(asked: Asked) -> Fault | None:
        return faults[asked.number - 1] if asked.number <= len(faults) else None

    with StubEndpoint(talk, fail) as stub:
        assert answer.main(command(stub, built, tmp_path, "--prices", "1", "2")) == 0
    rows = read(tmp_path)
    failures = sorted(str(row["failure"]) for row in rows if row["answer"] is None)
    assert failures == ["reply of more than 16 MiB", "reply without a choice"]
    cost = (stub.tokens[0] + 2 * stub.tokens[1]) / 1e6
    told = capsys.readouterr().out
    assert f"this run: {len(stub.asked)} requests, {stub.tokens[0]} + {stub.tokens[1]} tokens" in told
    assert f"cost {cost:.4f}" in told
    assert json.loads((tmp_path / "report.json").read_text())["coverage"]["silent"] == 2
    # What failed is asked again, and only that.
    before = len(stub.asked)
    with StubEndpoint(talk) as stub:
        assert answer.main(command(stub, built, tmp_path)) == 0
    assert (len(stub.asked), before) == (2, 96 + 4)
    assert all(row["answer"] is not None for row in read(tmp_path))


def test_an_endpoint_that_is_down_leaves_what_can_be_gone_on_with(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def down_after_forty(asked: Asked) -> Fault | None:
        return Fault(503) if asked.number > 40 else None

    more = ("--retries", "0", "--concurrency", "1")
    with StubEndpoint(talk, down_after_forty) as stub:
        assert answer.main(command(stub, built, tmp_path, *more)) == 1
    answered = [row for row in read(tmp_path) if row["answer"] is not None]
    assert len(answered) == 40
    assert "the same command goes on where this one stopped" in capsys.readouterr().err
    with StubEndpoint(talk) as stub:
        assert answer.main(command(stub, built, tmp_path, *more)) == 0
        assert len(stub.asked) == len(read_lines(built, "test")) - 40
    assert {row["question_id"]: row["answer"] for row in read(tmp_path)} == {
        row["question_id"]: row["answer"] for row in answers_to(built, "test")
    }


def test_a_budget_stops_cleanly(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StubEndpoint(talk) as stub:
        assert answer.main(command(stub, built, tmp_path, "--max-requests", "10")) == 1
    assert (len(stub.asked), len(read(tmp_path))) == (10, 10)
    assert "the budget of 10 requests is spent" in capsys.readouterr().out


def test_after_kill_9_the_same_command_goes_on(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk, lambda asked: Fault(delay=0.02)) as stub:
        arguments = command(stub, built, tmp_path, "--concurrency", "4")
        process = subprocess.Popen([sys.executable, "-m", "recipes.answer", *arguments], cwd=REPOSITORY, env=os.environ)
        with process:
            while len(stub.asked) < 30:
                time.sleep(0.002)  # a loop without a rest would starve the stub, which runs in this process
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "answers.jsonl").exists()
        assert len(stub.asked) < len(read_lines(built, "test"))
        assert answer.main(arguments) == 0
        assert len(stub.asked) - len(read_lines(built, "test")) <= 4
    assert [row["answer"] for row in read(tmp_path)] == [row["answer"] for row in answers_to(built, "test")]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "train", "--config", "dalle"], "it lists none"),
        (["--concurrency", "0"], "expected concurrency >= 1"),
        (["--parameter", "temperature"], "expected --parameter NAME=VALUE"),
        (["--out", "nowhere/answers.jsonl"], "expected its folder to exist"),
        (["--out", "pyproject.toml"], "name another --out"),
        (["--root", "tests/data"], "expected a release"),
    ],
)
def test_bad_input_is_one_line(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    with StubEndpoint() as stub:
        assert answer.main(command(stub, built, tmp_path, *more)) == 1
        assert not stub.asked
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_another_model_s_answers_are_not_written_over(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk) as stub:
        assert answer.main(command(stub, built, tmp_path)) == 0
        before = read(tmp_path)
        assert answer.main(command(stub, built, tmp_path, "--model", "other")) == 1
    assert read(tmp_path) == before


def test_a_path_that_leads_out_of_its_folder_is_refused(release: Path) -> None:
    """Inspect's task writes pictures where their image_id says, and the record comes from an archive."""
    path = release / "data" / "real" / "test-00000.tar"
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members:
            member.name = member.name.replace("vg/", "../")
            changed = data.replace(b'"vg/', b'"../') if member.name.endswith(".json") else data
            archive.addfile(member, io.BytesIO(changed))
    index = json.loads((release / "checksums.json").read_text())
    index["files"]["data/real/test-00000.tar"]["size"] = path.stat().st_size
    (release / "checksums.json").write_text(json.dumps(index))
    with pytest.raises(mmrel.ReleaseError, match="field image_id"):
        list(read_pictures(mmrel.Release(str(release)), "real", "test"))

"""Ask a model behind an endpoint: requests, files, faults, resuming, and the score."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mmrel
import relation_accuracy
from mmrel_kit import cli
from mmrel_kit.recipes.questions import read_pictures
from mmrel_kit.scoring.report import read_answers
from tests.conftest import REPOSITORY
from tests.helpers.edit_release import edit_index, read_tar, write_tar
from tests.helpers.fake_model import answer_prompt, make_answers, read_records
from tests.helpers.stub_endpoint import Fault, StubEndpoint, StubReply, StubRequest
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import LoopbackHub

pytestmark = pytest.mark.usefixtures("no_waiting")


def run(arguments: list[str]) -> int:
    return cli.main(["answer", *arguments])


def command(stub: StubEndpoint, root: Path, folder: Path, *more: str) -> list[str]:
    files = ["--out", str(folder / "answers.jsonl"), "--store", str(folder / "store.sqlite")]
    files += ["--json", str(folder / "report.json"), "--task", "both", "--root", str(root)]
    return [*files, "--base-url", stub.url, "--model", "tiny", "--timeout", "2", *more]


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text("utf-8").splitlines()]


def coverage(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())["coverage"]


def rewrite_archive(release: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> None:
    """Change the members of real/test's archive; the index states the new size."""
    path = release / "data" / "real" / "test-00000.tar"
    write_tar(path, [change(name, data) for name, data in read_tar(path)])
    size = path.stat().st_size
    edit_index(release, lambda index: index["files"]["data/real/test-00000.tar"].update(size=size))


def talk(request: StubRequest) -> str:
    return answer_prompt(request.prompt)


def test_every_question_is_asked_once_with_its_picture(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk) as stub:
        assert run(command(stub, built, tmp_path)) == 0
    records = read_records(built, "test")
    expected = sorted(f"{record['question']} {record['instruction']}" for record in records)
    assert sorted(request.prompt for request in stub.requests) == expected
    assert all(request.picture for request in stub.requests)
    assert len({request.picture for request in stub.requests}) == len(
        {record["image_id"] for record in records}
    )
    assert all("Please answer" not in request.prompt.partition("?")[0] for request in stub.requests)


def test_questions_of_a_release_on_the_hub(built: Path, tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub, StubEndpoint(talk) as stub:
        hub.publish("NS/MMRel", built)
        client = Client(hub, tmp_path / "home")
        options = ["--repo-id", "NS/MMRel", "--out", str(tmp_path / "answers.jsonl")]
        done = subprocess.run(
            [sys.executable, "-m", "mmrel_kit.cli", "answer", *options]
            + ["--task", "both", "--base-url", stub.url, "--model", "tiny"],
            env={**client.environment(), "PYTHONPATH": str(REPOSITORY)},
            cwd=tmp_path,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    expected = [record["question_id"] for record in read_records(built, "test")]
    assert [row["question_id"] for row in read(tmp_path)] == expected


def test_the_answer_file_says_how_it_came_about(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk) as stub:
        run(command(stub, built, tmp_path, "--parameter", "max_tokens=9"))
    rows = read(tmp_path)
    assert [row["question_id"] for row in rows] == [
        record["question_id"] for record in read_records(built, "test")
    ]
    assert rows[0]["answer"] == answer_prompt(str(rows[0]["prompt"]))
    assert (rows[0]["model"], rows[0]["endpoint"]) == ("tiny", stub.url)
    assert rows[0]["decoding"] == {"temperature": 0, "max_tokens": 9, "seed": None}
    assert {row["finish_reason"] for row in rows} == {"stop"}
    assert stub.requests[0].body["max_tokens"] == 9
    assert "seed" not in stub.requests[0].body
    sent = {request.prompt: request.picture for request in stub.requests if request.picture}
    with Image.open(io.BytesIO(sent[str(rows[0]["prompt"])])) as image:
        assert (rows[0]["picture"]["width"], rows[0]["picture"]["height"]) == image.size
    assert {row["picture"]["sent"] for row in rows} == {"as in the release"}
    lengths = {len(request.picture or b"") for request in stub.requests}
    assert {row["picture"]["bytes"] for row in rows} == lengths


def test_a_seed_is_sent_and_stated_where_it_is_given(built: Path, tmp_path: Path) -> None:
    null = ("--parameter", "max_tokens=null", "--parameter", "max_completion_tokens=99")
    with StubEndpoint(talk) as stub:
        assert run(command(stub, built, tmp_path, "--seed", "7", *null)) == 0
        assert run(command(stub, built, tmp_path, "--seed", "8", *null)) == 0
    stated = {"temperature": 0, "max_tokens": None, "seed": 8, "max_completion_tokens": 99}
    assert {json.dumps(row["decoding"]) for row in read(tmp_path)} == {json.dumps(stated)}
    assert {request.body["seed"] for request in stub.requests} == {7, 8}
    assert not any("max_tokens" in request.body for request in stub.requests)


def test_the_report_is_that_of_the_metric_s_own_command(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk) as stub:
        run(command(stub, built, tmp_path))
    own = tmp_path / "own.json"
    arguments = [
        str(tmp_path / "answers.jsonl"),
        "--root",
        str(built),
        "--task",
        "both",
        "--json",
        str(own),
    ]
    assert cli.main(["score", *arguments]) == 0
    here, there = json.loads((tmp_path / "report.json").read_text()), json.loads(own.read_text())
    assert here.pop("run")["model"] == "tiny"
    there.pop("run")
    assert here == there
    plain = relation_accuracy.compute(
        make_answers(built, "test"), read_records(built, "test"), task="both"
    )
    assert {
        name: here[name] for name in ("n", "accuracy", "f1", "pair_accuracy", "by", "open_ended")
    } == {
        name: plain[name] for name in ("n", "accuracy", "f1", "pair_accuracy", "by", "open_ended")
    }


def test_every_fault_ends_in_an_answer_or_in_no_answer(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = [
        Fault(429, {"Retry-After": "0.1"}),
        Fault(500),
        Fault(delay=30),  # far beyond --timeout: the stub counts the tokens of what it sends
        Fault(body=b'{"choices": []}'),
        Fault(body=b" " * (20 << 20)),
        Fault(cut=True),
    ]

    def fail(request: StubRequest) -> Fault | None:
        return faults[request.number - 1] if request.number <= len(faults) else None

    with StubEndpoint(talk, fail) as stub:
        assert run(command(stub, built, tmp_path, "--prices", "1", "2")) == 0
        told, silent = capsys.readouterr().out, coverage(tmp_path)["silent"]
        before, tokens, rows = len(stub.requests), list(stub.tokens), read(tmp_path)
        assert run(command(stub, built, tmp_path)) == 0
    failures = sorted(str(row["failure"]) for row in rows if row["answer"] is None)
    assert failures == ["reply of more than 16 MiB", "reply without a choice"]
    cost = (tokens[0] + 2 * tokens[1]) / 1e6
    assert told.startswith("94 of 96 answered, 2 failed\n")
    assert f"this run: {before} requests, {tokens[0]} + {tokens[1]} tokens" in told
    assert f"cost {cost:.4f}" in told
    assert silent == 2
    # What failed is asked again, and only that.
    assert (len(stub.requests) - before, before) == (2, 96 + 4)
    assert all(row["answer"] is not None for row in read(tmp_path))


def test_an_endpoint_that_is_down_leaves_what_can_be_gone_on_with(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def down_after_forty(request: StubRequest) -> Fault | None:
        return Fault(503) if request.number > 40 else None

    more = ("--retries", "0", "--concurrency", "1")
    with StubEndpoint(talk, down_after_forty) as stub:
        assert run(command(stub, built, tmp_path, *more)) == 1
        answered = [row for row in read(tmp_path) if row["answer"] is not None]
        assert len(answered) == 40
        err = capsys.readouterr().err
        assert f"HTTP 503: fault; the endpoint is {stub.url}; the same command resumes" in err
        before, stub.fault = len(stub.requests), lambda request: None
        assert run(command(stub, built, tmp_path, *more)) == 0
        assert len(stub.requests) - before == len(read_records(built, "test")) - 40
        told = capsys.readouterr().out.splitlines()
        kept = f"40 of 96 replies come from {tmp_path / 'store.sqlite'} (asked before)"
        assert told[0] == f"{kept}; 56 are to be asked"
        assert told[1] == "96 of 96 answered, 0 failed (40 replies kept from before)"
    assert {row["question_id"]: row["answer"] for row in read(tmp_path)} == {
        row["question_id"]: row["answer"] for row in make_answers(built, "test")
    }


def test_a_budget_stops_cleanly(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StubEndpoint(talk) as stub:
        assert run(command(stub, built, tmp_path, "--max-requests", "10")) == 1
    assert (len(stub.requests), len(read(tmp_path))) == (10, 10)
    assert "stopped: the budget of 10 requests is spent" in capsys.readouterr().err


def test_after_kill_9_the_same_command_goes_on(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk, lambda request: Fault(delay=0.02)) as stub:
        arguments = command(stub, built, tmp_path, "--concurrency", "4")
        process = subprocess.Popen(
            [sys.executable, "-m", "mmrel_kit.cli", "answer", *arguments],
            cwd=REPOSITORY,
            env=os.environ,
        )
        with process:
            while len(stub.requests) < 30:
                assert process.poll() is None  # it used to be waited for without an end
                time.sleep(
                    0.002
                )  # a loop without a rest would starve the stub, which runs in this process
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "answers.jsonl").exists()
        assert len(stub.requests) < len(read_records(built, "test"))
        assert run(arguments) == 0
        assert len(stub.requests) - len(read_records(built, "test")) <= 4
    assert [row["answer"] for row in read(tmp_path)] == [
        row["answer"] for row in make_answers(built, "test")
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "train", "--config", "dalle"], "lists none: choose others"),
        (["--concurrency", "0"], "expected concurrency >= 1"),
        (["--parameter", "temperature"], "expected --parameter NAME=VALUE"),
        (["--out", "nowhere/answers.jsonl"], "expected its folder to exist"),
        (["--out", "pyproject.toml"], "name another --out"),
        (["--root", "tests/data"], "expected a release"),
        (["--model", "m\udcff"], "in valid text, got 'm\\udcff'; 0 of 96 answered"),
        (["--base-url", "127.0.0.1:8000/v1"], "got '127.0.0.1:8000/v1'; 0 of 96 answered"),
        (["--base-url", "http:///v1"], "got 'http:///v1'; 0 of 96 answered"),
        (["--seed", "1", "--parameter", "seed=2"], "expected one seed, got --seed 1 and"),
        (["--json", "{}/answers.jsonl"], "expected --json and --out to be two files, got one"),
        (["--store", "{}/answers.jsonl"], "expected --store and --out to be two files, got one"),
    ],
)
def test_bad_input_is_one_line(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    more = [word.format(tmp_path) for word in more]
    with StubEndpoint() as stub:
        assert run(command(stub, built, tmp_path, *more)) == 1
        assert not stub.requests
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_another_model_s_answers_are_not_written_over(built: Path, tmp_path: Path) -> None:
    with StubEndpoint(talk) as stub:
        assert run(command(stub, built, tmp_path)) == 0
        before = read(tmp_path)
        assert run(command(stub, built, tmp_path, "--model", "other")) == 1
    assert read(tmp_path) == before


def test_another_endpoint_s_answers_are_neither_taken_nor_written_over(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second endpoint's answers were those of the first, from the store, with exit 0."""
    with StubEndpoint(lambda request: "yes") as first, StubEndpoint(lambda request: "no") as second:
        assert run(command(first, built, tmp_path)) == 0
        before = (tmp_path / "answers.jsonl").read_bytes()
        assert run(command(second, built, tmp_path)) == 1
        assert (tmp_path / "answers.jsonl").read_bytes() == before
        told = capsys.readouterr().err
        assert f"expected answers of 'tiny' at {second.url}, or no file" in told
        assert f"it holds answers of 'tiny' at {first.url}; name another --out" in told
        assert not second.requests
        other = ("--out", str(tmp_path / "other.jsonl"))
        assert run(command(second, built, tmp_path, *other)) == 0
    answers = read_answers(str(tmp_path / "other.jsonl"))
    assert (len(answers), set(answers.values())) == (96, {"no"})


@pytest.mark.parametrize(
    "line",
    ['{"question_id": "a", "answer": "yes", "model": "tiny"}', "[" * 99_999, "[1]"],
)
def test_answers_of_no_endpoint_stay_as_they_are(built: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "answers.jsonl").write_text(f"{line}\n")
    with StubEndpoint(talk) as stub:
        assert run(command(stub, built, tmp_path)) == 1
    assert not stub.requests
    assert (tmp_path / "answers.jsonl").read_text() == f"{line}\n"


def test_a_path_that_leads_out_of_its_folder_is_refused(release: Path) -> None:
    """Inspect's task writes pictures under their image_id, which comes from an archive."""

    def lead_out(name: str, data: bytes) -> tuple[str, bytes]:
        changed = data.replace(b'"vg/', b'"../') if name.endswith(".json") else data
        return name.replace("vg/", "../"), changed

    rewrite_archive(release, lead_out)
    with pytest.raises(mmrel.ReleaseError, match="field image_id"):
        list(read_pictures(mmrel.Release(str(release)), "real", "test"))


def test_each_output_has_a_store_of_its_own(
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All runs in a folder shared replies.sqlite."""
    monkeypatch.chdir(tmp_path)
    with StubEndpoint(talk) as stub:
        for name in ("a.jsonl", "b.jsonl"):
            asked = ["--out", name, "--root", str(built), "--base-url", stub.url, "--model", "tiny"]
            assert run(asked) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a.jsonl", "a.jsonl.store.sqlite", "b.jsonl", "b.jsonl.store.sqlite"),
    }
    assert len(stub.requests) == 2 * 64


def test_what_comes_from_the_store_is_said_first(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run without a single request said so after its score, if one knew where to look."""
    with StubEndpoint(talk) as stub:
        assert run(command(stub, built, tmp_path)) == 0
        first = capsys.readouterr().out
        before = (tmp_path / "answers.jsonl").read_bytes()
    # The endpoint is gone, and not needed.
    assert run(command(stub, built, tmp_path)) == 0
    second = capsys.readouterr().out
    store = tmp_path / "store.sqlite"
    assert "asked before" not in first
    kept = f"96 of 96 replies come from {store} (asked before)"
    assert second.startswith(f"{kept}; 0 are to be asked\n")
    assert second.partition("\n\n")[2] == first.partition("\n\n")[2]
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_a_run_in_which_every_request_failed_has_no_score(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It printed an accuracy of 0 and ended with 0."""

    def fault(request: StubRequest) -> Fault:
        return Fault(400) if request.number < 20 else Fault(body=b"{}")

    with StubEndpoint(fault=fault) as stub:
        one_by_one = ("--config", "real", "--concurrency", "1")
        assert run(command(stub, built, tmp_path, *one_by_one)) == 1
        told = capsys.readouterr()
        summary = ["0 of 48 answered, 20 failed, 28 not asked", "  19 x HTTP 400: fault"]
        assert told.out.splitlines()[:2] == summary
        assert "acc" not in told.out
        assert told.err.count("\n") == 1
        assert stub.url in told.err
        stub.fault = lambda request: Fault(400) if request.number % 2 else Fault(body=b"{}")
        few = ("--config", "sdxl", "--task", "generative")
        assert run(command(stub, built, tmp_path, *few)) == 1
    told = capsys.readouterr()
    assert told.out.startswith("0 of 8 answered, 8 failed\n")
    assert "every request failed" in told.err
    assert {path.name for path in tmp_path.iterdir()} == {"store.sqlite"}


def test_an_endpoint_that_is_down_from_the_start_is_named(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It took a minute, then said `connection: ConnectError` without the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with StubEndpoint(talk) as stub:
            arguments = [*command(stub, built, tmp_path), "--base-url", url]
            assert run(arguments) == 1
    told = capsys.readouterr()
    assert told.out.startswith("0 of 96 answered, 0 failed, 96 not asked\n")
    assert told.err.startswith(f"mmrel answer: {url} cannot be reached: ")
    assert told.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"store.sqlite"}


def test_an_outage_leaves_the_answers_of_before(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file was written anew with what came before the first failure."""
    with StubEndpoint(
        talk, lambda request: Fault(400) if request.number in (3, 9) else None
    ) as stub:
        assert run(command(stub, built, tmp_path, "--concurrency", "1")) == 0
    capsys.readouterr()
    assert run(command(stub, built, tmp_path)) == 1  # its port is closed
    told = capsys.readouterr()
    summary = "94 of 96 answered, 0 failed, 2 not asked (94 replies kept from before)"
    assert told.out.splitlines()[1] == summary
    assert f"{stub.url} cannot be reached" in told.err
    assert len(read(tmp_path)) == 94


def test_a_key_that_has_expired_gives_no_score(
    built: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is left to ask is too little for twenty failures in a row."""
    with StubEndpoint(talk) as stub:
        assert run(command(stub, built, tmp_path, "--max-requests", "90")) == 1
        stub.fault = lambda request: Fault(401)
        capsys.readouterr()
        assert run(command(stub, built, tmp_path)) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[1] == "90 of 96 answered, 6 failed (90 replies kept from before)"
    assert "acc" not in told.out
    assert told.err.startswith("stopped: none of 6 requests was answered, the last with: HTTP 401")


def test_a_question_that_always_fails_keeps_no_one_from_the_score(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_records(built, "test")[0]
    failing = f"{record['question']} {record['instruction']}"
    with StubEndpoint(
        talk, lambda request: Fault(400) if request.prompt == failing else None
    ) as stub:
        reports = []
        for _ in range(2):
            assert run(command(stub, built, tmp_path)) == 0
            reports.append(json.loads((tmp_path / "report.json").read_text()))
    assert reports[0] == reports[1]
    failed = sum(row["answer"] is None for row in read(tmp_path))
    assert reports[0]["coverage"]["silent"] == failed >= 1
    assert f"\n{96 - failed} of 96 answered, {failed} failed (" in capsys.readouterr().out


def test_reasoning_and_answers_that_were_cut_off(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both were in the store alone; reasoning that was cut off was asked again in each run."""

    def reason(request: StubRequest) -> StubReply:
        if request.prompt.startswith("What"):
            return StubReply(None, "length", {"reasoning_content": "Let me see …"})
        return StubReply("Yes.", "stop", {"reasoning": "There it is."})

    with StubEndpoint(reason) as stub:
        for _ in range(2):  # the second from the store
            assert run(command(stub, built, tmp_path)) == 0
            told = capsys.readouterr().out
            report = json.loads((tmp_path / "report.json").read_text())
            assert "64 of 96 answered, 32 failed, 32 cut off at the limit of tokens" in told
            assert "  32 x reasoning cut off before an answer\n" in told
            limit = "raise the limit with --parameter max_tokens=N"
            note = f"32 answers were cut off (finish_reason length): {limit}"
            assert f"note: {note}\n" in told
            assert note in report["notes"]
            assert report["run"]["cut_off"] == 32
    assert len(stub.requests) == 96
    rows = read(tmp_path)
    by_reason = {row["finish_reason"]: row for row in rows}
    assert (by_reason["stop"]["answer"], by_reason["stop"]["reasoning"]) == ("Yes.", "There it is.")
    cut_off = by_reason["length"]
    assert (cut_off["answer"], cut_off["failure"]) == (None, "reasoning cut off before an answer")
    assert cut_off["reasoning"] == "Let me see …"


def test_half_a_surrogate_pair_does_not_block_the_run(built: Path, tmp_path: Path) -> None:
    """The reply was kept, the answer file not written, and every later run ended the same way."""
    broken = StubReply("Yes \ud800", "st\udc00p", {"reasoning": "\udfff"})

    def fault(request: StubRequest) -> Fault | None:
        charset = {"Content-Type": "text/plain; charset=unicode_escape"}
        return Fault(400, charset, body=b"\\ud800") if request.number == 5 else None

    with StubEndpoint(lambda request: broken, fault) as stub:
        for _ in range(2):
            assert run(command(stub, built, tmp_path)) == 0
    assert len(stub.requests) == 96 + 1
    rows = read(tmp_path)
    assert {(row["answer"], row["finish_reason"], row["reasoning"]) for row in rows} == {
        ("Yes \ufffd", "st\ufffdp", "\ufffd")
    }
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        bodies = [body for (body,) in db.execute("select body from requests where final")]
    db.close()
    assert all("\\ud800" in body for body in bodies)  # as it came


def test_the_secret_is_in_no_file_and_no_message(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")

    def fault(request: StubRequest) -> Fault | None:
        return Fault(400, body=b"sk-very-secret is not known") if request.number == 5 else None

    with StubEndpoint(lambda request: "yes, sk-very-secret", fault) as stub:
        assert run(command(stub, built, tmp_path)) == 0
    told = capsys.readouterr()
    assert "  1 x HTTP 400: [secret] is not known\n" in told.out
    assert "sk-very-secret" not in told.out + told.err
    assert not any(b"sk-very-secret" in path.read_bytes() for path in tmp_path.iterdir())


def test_half_a_surrogate_pair_in_a_question_is_one_line(
    release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def break_surrogate(name: str, data: bytes) -> tuple[str, bytes]:
        return name, data.replace(b" in the image?", rb" in \ud800 im?")  # of the same length

    rewrite_archive(release, break_surrogate)
    with StubEndpoint(talk) as stub:
        assert run(command(stub, release, tmp_path, "--config", "real")) == 1
    told = capsys.readouterr().err
    assert "field question: expected text, got half of a surrogate pair" in told
    assert told.count("\n") == 1

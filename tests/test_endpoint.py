"""The endpoint's client against a stub on loopback: faults, budget, resume, the count of tokens."""

from __future__ import annotations

import email.utils
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stub_endpoint import Asked, Fault, StubEndpoint

import endpoint
from endpoint import Budget, Endpoint, Picture, Prices, Request

PNG = b"\x89PNG\r\n\x1a\n"


def make(stub: StubEndpoint, folder: Path, **options: object) -> Endpoint:
    options = {"concurrency": 4, "timeout": 5, "retries": 2} | options
    return Endpoint(stub.url, "model", folder / "replies.sqlite", **options)  # type: ignore[arg-type]


def ask(stub: StubEndpoint, folder: Path, count: int = 1, **options: object) -> tuple[list[endpoint.Reply], Endpoint]:
    asking = make(stub, folder, **options)
    replies = list(asking.ask(Request(str(n), f"question {n}") for n in range(count)))
    asking.close()
    return replies, asking


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)


def test_replies_come_with_the_ids_of_their_requests(tmp_path: Path) -> None:
    with StubEndpoint(lambda asked: asked.prompt[-1]) as stub:
        replies, asking = ask(stub, tmp_path, 9)
    assert {reply.request.id: reply.text for reply in replies} == {str(n): str(n) for n in range(9)}
    assert not any(reply.kept or reply.failure for reply in replies)
    assert (asking.answered, asking.run.requests, asking.stopped) == (9, 9, None)


def test_a_picture_is_encoded_once_for_all_its_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[bytes] = []
    encode = endpoint.base64.b64encode
    monkeypatch.setattr(endpoint.base64, "b64encode", lambda data: encoded.append(data) or encode(data))
    picture = Picture(PNG + b"pixels")
    with StubEndpoint() as stub:
        asking = make(stub, tmp_path, concurrency=1)
        list(asking.ask(Request(str(n), f"question {n}", picture) for n in range(5)))
        asking.close()
    assert encoded == [picture.data]
    assert [asked.picture for asked in stub.asked] == [picture.data] * 5
    content = stub.asked[0].body["messages"][0]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_no_more_is_in_flight_than_allowed_and_requests_are_drawn_as_needed(tmp_path: Path) -> None:
    drawn: list[int] = []

    def requests():  # type: ignore[no-untyped-def]
        for n in range(12):
            drawn.append(n)
            yield Request(str(n), f"question {n}")

    with StubEndpoint(fault=lambda asked: Fault(delay=0.02)) as stub:
        asking = make(stub, tmp_path, concurrency=3)
        for seen, _ in enumerate(asking.ask(requests()), 1):
            assert len(drawn) <= seen + 3 + 2  # those in flight, and those that came together
        asking.close()
    assert stub.most_in_flight <= 3


def test_the_same_is_never_sent_twice(tmp_path: Path) -> None:
    with StubEndpoint() as stub:
        ask(stub, tmp_path, 5)
        replies, asking = ask(stub, tmp_path, 6)
        assert len(stub.asked) == 6
        assert (asking.kept, asking.answered, asking.run.requests) == (5, 1, 1)
        assert {reply.text for reply in replies} == {"yes"}
        ask(stub, tmp_path, 5, parameters={"temperature": 1})  # other parameters are another question
        assert len(stub.asked) == 11


def test_repeats_of_a_question_are_kept_apart(tmp_path: Path) -> None:
    with StubEndpoint(lambda asked: f"answer {asked.nth}") as stub:
        asking = make(stub, tmp_path, concurrency=1)
        replies = list(asking.ask(Request("a", "same", repeat=n) for n in range(3)))
        asking.close()
    assert [reply.text for reply in replies] == ["answer 1", "answer 2", "answer 3"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(tmp_path: Path, status: int) -> None:
    with StubEndpoint(fault=lambda asked: Fault(status) if asked.nth < 3 else None) as stub:
        replies, asking = ask(stub, tmp_path, 2)
    assert [reply.text for reply in replies] == ["yes", "yes"]
    assert asking.run.requests == len(stub.asked) == 6


@pytest.mark.parametrize("after", ["0.3", "date"])
def test_retry_after_is_honoured_for_all_requests(tmp_path: Path, after: str) -> None:
    came: list[float] = []
    headers = {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True) if after == "date" else after}

    def fault(asked: Asked) -> Fault | None:
        came.append(time.monotonic())
        return Fault(429, headers) if asked.number == 1 else None

    with StubEndpoint(fault=fault) as stub:
        replies, _ = ask(stub, tmp_path, 1)
    assert replies[0].text == "yes"
    assert came[1] - came[0] >= (0.3 if after == "0.3" else 0.5)  # a lower bound: the endpoint's own demand


def test_too_long_a_wait_is_a_failure(tmp_path: Path) -> None:
    with StubEndpoint(fault=lambda asked: Fault(429, {"Retry-After": "86400"})) as stub:
        replies, _ = ask(stub, tmp_path, 1)
    assert (replies[0].text, replies[0].failure, len(stub.asked)) == (None, "HTTP 429", 1)


@pytest.mark.parametrize(
    ("fault", "failure", "sent"),
    [
        (Fault(body=b'{"choices": []}'), "reply without a choice", 1),
        (Fault(body=b'{"choices": null}'), "reply of another shape", 1),
        (Fault(body=b'{"choices": [{"message": {"content": null}}]}'), "reply without text", 1),
        (Fault(body=b'{"choices": [{"message": {"content": null, "refusal": "I cannot"}}]}'), "refusal", 1),
        (Fault(body=b'{"choices": [{"message": {}, "finish_reason": "content_filter"}]}'), "refusal", 1),
        (Fault(body=b"[]"), "reply of another shape", 1),
        (Fault(body=b"<html>"), "reply that is not JSON", 1),
        (Fault(body=b"[" * 100_000), "reply that is not JSON", 1),
        (Fault(body=b"\xff\xfe"), "reply that is not JSON", 1),
        (Fault(body=b" " * (20 << 20)), "reply of more than 16 MiB", 1),
        (Fault(400), "HTTP 400", 1),
        (Fault(401), "HTTP 401", 1),
        (Fault(500), "HTTP 500", 3),
        (Fault(delay=0.5), "no whole reply within 0.2 s", 3),
        (Fault(cut=True), "connection: RemoteProtocolError", 3),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_a_failure_with_its_reason(tmp_path: Path, fault: Fault, failure: str, sent: int) -> None:
    with StubEndpoint(fault=lambda asked: fault if asked.prompt == "question 0" else None) as stub:
        replies, asking = ask(stub, tmp_path, 2, timeout=0.2 if fault.delay else 5)
    by_id = {reply.request.id: reply for reply in replies}
    assert (by_id["0"].text, by_id["0"].failure) == (None, failure)
    assert by_id["1"].text == "yes"
    assert asking.failures == {failure: 1}
    assert sum(asked.prompt == "question 0" for asked in stub.asked) == sent
    assert f"1 x {failure}" in asking.describe.__func__(_Closed(asking))  # type: ignore[attr-defined]


class _Closed:
    """A closed endpoint's figures, with its store opened again."""

    def __init__(self, asking: Endpoint) -> None:
        self.__dict__.update(asking.__dict__)
        self.store = endpoint.Store(asking.path)


def test_failures_are_asked_again_in_the_next_run_and_refusals_are_not(tmp_path: Path) -> None:
    def fault(asked: Asked) -> Fault | None:
        refusal = b'{"choices": [{"message": {"content": null, "refusal": "no"}}], "usage": {"prompt_tokens": 3}}'
        return {"question 0": Fault(400), "question 1": Fault(body=refusal)}.get(asked.prompt)

    with StubEndpoint(fault=fault) as stub:
        ask(stub, tmp_path, 3)
        replies, asking = ask(stub, tmp_path, 3)
    assert len(stub.asked) == 4
    assert {reply.request.id: reply.failure for reply in replies} == {"0": "HTTP 400", "1": "refusal", "2": None}
    assert asking.kept == 2


def test_every_raw_reply_is_kept(tmp_path: Path) -> None:
    with StubEndpoint(fault=lambda asked: Fault(500, body=b"broken") if asked.nth == 1 else None) as stub:
        ask(stub, tmp_path, 1, parameters={"seed": 7})
    with sqlite3.connect(tmp_path / "replies.sqlite") as db:
        rows = db.execute("select status, body, failure, final, prompt, model, parameters from requests").fetchall()
    assert rows[0][:4] == (500, "broken", "HTTP 500", 0)
    assert json.loads(rows[1][1])["choices"][0]["message"]["content"] == "yes"
    assert rows[1][2:] == (None, 1, "question 0", "model", '{"seed": 7}')


def test_the_budget_of_requests_stops_cleanly_and_counts_all_runs(tmp_path: Path) -> None:
    with StubEndpoint() as stub:
        replies, asking = ask(stub, tmp_path, 10, budget=Budget(requests=4))
        assert (len(replies), len(stub.asked)) == (4, 4)
        assert asking.stopped == "the budget of 4 requests is spent; raise it to go on"
        replies, asking = ask(stub, tmp_path, 10, budget=Budget(requests=7))
        assert (len(replies), len(stub.asked), asking.kept) == (7, 7, 4)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_budget_of_tokens_is_not_overdrawn(tmp_path: Path, concurrency: int) -> None:
    with StubEndpoint(lambda asked: "one two three") as stub:  # 2 + 3 tokens a request
        replies, asking = ask(
            stub, tmp_path, 20, budget=Budget(tokens=32), parameters={"max_tokens": 8}, concurrency=concurrency
        )
    assert len(replies) == 6
    assert asking.run.tokens == sum(stub.tokens) == 30
    assert asking.stopped == "the budget of 32 tokens is spent; raise it to go on"


def test_the_report_equals_the_endpoint_s_own_count(tmp_path: Path) -> None:
    with StubEndpoint(fault=lambda asked: Fault(500) if asked.number % 3 == 0 else None) as stub:
        replies, asking = ask(stub, tmp_path, 30, retries=9, prices=Prices(1_000_000, 2_000_000))
    assert len(replies) == 30
    assert asking.run.requests == len(stub.asked)
    assert [asking.run.prompt_tokens, asking.run.completion_tokens] == stub.tokens
    assert asking.prices.cost(asking.run) == stub.tokens[0] + 2 * stub.tokens[1]


def test_an_endpoint_that_is_down_stops_the_run(tmp_path: Path) -> None:
    with StubEndpoint(fault=lambda asked: Fault(503)) as stub:
        replies, asking = ask(stub, tmp_path, 200, retries=0)
    assert len(replies) < 30
    assert (asking.stopped or "").startswith("20 requests in a row failed, the last with: HTTP 503")


def test_progress_and_report_say_what_happened(tmp_path: Path) -> None:
    with StubEndpoint() as stub:
        ask(stub, tmp_path, 2)
        asking = make(stub, tmp_path, prices=Prices(10, 10))
        list(asking.ask(Request(str(n), f"question {n}") for n in range(5)))
        progress, report = asking.describe_progress(total=9), asking.describe()
        asking.close()
    assert progress.startswith("5 of 9 replies, ")
    assert " left, cost 0.0001" in progress
    assert report.splitlines()[0] == "5 answered (2 kept from before), 0 failed"
    assert "this run: 3 requests, 6 + 3 tokens (sent + received), cost 0.0001" in report
    assert "all runs: 5 requests, 10 + 5 tokens" in report


def test_pictures_are_drawn_through_the_images_endpoint(tmp_path: Path) -> None:
    with StubEndpoint(lambda asked: PNG) as stub:
        asking = make(stub, tmp_path, kind="images", parameters={"size": "64x64"})
        (reply,) = asking.ask([Request("a", "a crocodile")])
        asking.close()
    assert endpoint.base64.b64decode(reply.text or "") == PNG
    assert stub.asked[0].body == {"model": "model", "prompt": "a crocodile", "size": "64x64"}


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "replies.sqlite").write_bytes(b"not a database " * 100)
    with StubEndpoint() as stub, pytest.raises(ValueError, match="replies.sqlite: expected a store of replies"):
        make(stub, tmp_path)


KILLED = """
import sys
from pathlib import Path
from endpoint import Endpoint, Request
asking = Endpoint(sys.argv[1], "model", Path(sys.argv[2]), concurrency=4)
for reply in asking.ask(Request(str(n), f"question {n}") for n in range(60)):
    print(reply.request.id, flush=True)
"""


def test_after_kill_9_at_most_the_requests_in_flight_are_repeated(tmp_path: Path) -> None:
    with StubEndpoint(fault=lambda asked: Fault(delay=0.01)) as stub:
        command = [sys.executable, "-c", KILLED, stub.url, str(tmp_path / "replies.sqlite")]
        root = Path(endpoint.__file__).parent
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
            assert process.stdout
            for _ in range(20):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        before = len(stub.asked)
        assert 20 <= before < 60
        replies, asking = ask(stub, tmp_path, 60)
    assert len({reply.request.id for reply in replies}) == 60
    assert len(stub.asked) - 60 <= 4
    assert asking.kept + asking.answered == 60

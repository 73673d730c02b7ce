"""The endpoint's client against a stub on loopback: faults, budget, resume, the count of tokens."""

from __future__ import annotations

import base64
import email.utils
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmrel_kit import endpoint
from mmrel_kit.endpoint import Attachment, Budget, Endpoint, Prices, Request
from mmrel_kit.endpoint.client import Sender
from mmrel_kit.files import InputError
from tests.helpers.stub_endpoint import Fault, StubEndpoint, StubReply, StubRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("no_waiting")
PNG = b"\x89PNG\r\n\x1a\n"


def make(stub: StubEndpoint, folder: Path, **options: object) -> Endpoint:
    options = {"concurrency": 4, "timeout": 5, "retries": 2} | options
    store = folder / "replies.sqlite"
    return Endpoint(stub.url, "model", store, **options)  # type: ignore[arg-type]


def ask(
    stub: StubEndpoint, folder: Path, count: int = 1, **options: object
) -> tuple[list[endpoint.Reply], Endpoint]:
    client = make(stub, folder, **options)
    replies = list(client.ask(Request(str(n), f"question {n}") for n in range(count)))
    client.close()
    return replies, client


def test_replies_come_with_the_ids_of_their_requests(tmp_path: Path) -> None:
    with StubEndpoint(lambda request: request.prompt[-1]) as stub:
        replies, client = ask(stub, tmp_path, 9)
    assert {reply.request.id: reply.text for reply in replies} == {str(n): str(n) for n in range(9)}
    assert not any(reply.from_store or reply.failure for reply in replies)
    assert (client.answers, client.usage.requests, client.stop_reason) == (9, 9, None)


def test_a_picture_is_encoded_once_for_all_its_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[bytes] = []
    encode = base64.b64encode
    monkeypatch.setattr(base64, "b64encode", lambda data: encoded.append(data) or encode(data))
    picture = Attachment(PNG + b"pixels")
    with StubEndpoint() as stub:
        client = make(stub, tmp_path, concurrency=1)
        list(client.ask(Request(str(n), f"question {n}", picture) for n in range(5)))
        client.close()
    assert encoded == [picture.data]
    assert [request.picture for request in stub.requests] == [picture.data] * 5
    content = stub.requests[0].body["messages"][0]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_no_more_is_in_flight_than_allowed_and_requests_are_drawn_as_needed(tmp_path: Path) -> None:
    drawn: list[int] = []

    def requests():  # type: ignore[no-untyped-def]
        for n in range(12):
            drawn.append(n)
            yield Request(str(n), f"question {n}")

    with StubEndpoint(fault=lambda request: Fault(delay=0.02)) as stub:
        client = make(stub, tmp_path, concurrency=3)
        for seen, _ in enumerate(client.ask(requests()), 1):
            assert len(drawn) <= seen + 3 + 2  # those in flight, and those that came together
        client.close()
    assert stub.most_in_flight <= 3


def test_the_same_is_never_sent_twice(tmp_path: Path) -> None:
    with StubEndpoint() as stub:
        ask(stub, tmp_path, 5)
        replies, client = ask(stub, tmp_path, 6)
        assert len(stub.requests) == 6
        assert (client.from_store, client.answers, client.usage.requests) == (5, 6, 1)
        assert {reply.text for reply in replies} == {"yes"}
        ask(
            stub, tmp_path, 5, parameters={"temperature": 1}
        )  # other parameters are another question
        assert len(stub.requests) == 11


def test_repeats_of_a_question_are_kept_apart(tmp_path: Path) -> None:
    with StubEndpoint(lambda request: f"answer {request.attempt}") as stub:
        client = make(stub, tmp_path, concurrency=1)
        replies = list(client.ask(Request("a", "same", repeat=n) for n in range(3)))
        client.close()
    assert [reply.text for reply in replies] == ["answer 1", "answer 2", "answer 3"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(tmp_path: Path, status: int) -> None:
    with StubEndpoint(fault=lambda request: Fault(status) if request.attempt < 3 else None) as stub:
        replies, client = ask(stub, tmp_path, 2)
    assert [reply.text for reply in replies] == ["yes", "yes"]
    assert client.usage.requests == len(stub.requests) == 6


@pytest.mark.parametrize("after", ["0.3", "date"])
def test_retry_after_is_honoured_for_all_requests(tmp_path: Path, after: str) -> None:
    came: list[float] = []
    headers = {
        "Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)
        if after == "date"
        else after
    }

    def fault(request: StubRequest) -> Fault | None:
        came.append(time.monotonic())
        return Fault(429, headers) if request.number == 1 else None

    with StubEndpoint(fault=fault) as stub:
        replies, _ = ask(stub, tmp_path, 1)
    assert replies[0].text == "yes"
    assert came[1] - came[0] >= (
        0.3 if after == "0.3" else 0.5
    )  # a lower bound: the endpoint's own demand


def test_too_long_a_wait_is_a_failure(tmp_path: Path) -> None:
    with StubEndpoint(fault=lambda request: Fault(429, {"Retry-After": "86400"})) as stub:
        replies, _ = ask(stub, tmp_path, 1)
    assert (replies[0].text, replies[0].failure, len(stub.requests)) == (None, "HTTP 429", 1)


@pytest.mark.parametrize(
    ("fault", "failure", "sent"),
    [
        (Fault(body=b'{"choices": []}'), "reply without a choice", 1),
        (Fault(body=b'{"choices": null}'), "reply of another shape", 1),
        (Fault(body=b'{"choices": [{"message": {"content": null}}]}'), "reply without text", 1),
        (
            Fault(body=b'{"choices": [{"message": {"content": null, "refusal": "I cannot"}}]}'),
            "refusal",
            1,
        ),
        (
            Fault(body=b'{"choices": [{"message": {}, "finish_reason": "content_filter"}]}'),
            "refusal",
            1,
        ),
        (Fault(body=b"[]"), "reply of another shape", 1),
        (Fault(body=b"<html>"), "reply that is not JSON", 1),
        (Fault(body=b"[" * 100_000), "reply that is not JSON", 1),
        (Fault(body=b"\xff\xfe"), "reply that is not JSON", 1),
        (Fault(body=b" " * (20 << 20)), "reply of more than 16 MiB", 1),
        # The client read the body of an error whole, whatever its size and however long it took.
        (Fault(500, body=b" " * (20 << 20)), "reply of more than 16 MiB", 1),
        (Fault(400, body=b"slow" * 9, drip=0.02), "no whole reply within 0.2 s", 3),
        (Fault(400), "HTTP 400", 1),
        (Fault(401), "HTTP 401", 1),
        (Fault(500), "HTTP 500", 3),
        (Fault(delay=0.5), "no whole reply within 0.2 s", 3),
        (Fault(cut=True), "connection: RemoteProtocolError", 3),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_a_failure_with_its_reason(
    tmp_path: Path, fault: Fault, failure: str, sent: int
) -> None:
    with StubEndpoint(
        fault=lambda request: fault if request.prompt == "question 0" else None
    ) as stub:
        replies, client = ask(stub, tmp_path, 2, timeout=0.2 if fault.delay or fault.drip else 5)
    by_id = {reply.request.id: reply for reply in replies}
    assert (by_id["0"].text, by_id["0"].failure) == (None, failure)
    assert by_id["1"].text == "yes"
    assert client.failures == {failure: 1}
    assert sum(request.prompt == "question 0" for request in stub.requests) == sent
    client.store = endpoint.Store(client.path)
    assert f"1 x {failure}" in client.format_report()
    client.store.close()


def test_failures_are_asked_again_in_the_next_run_and_refusals_are_not(tmp_path: Path) -> None:
    def fault(request: StubRequest) -> Fault | None:
        message = {"content": None, "refusal": "no"}
        reply = {"choices": [{"message": message}], "usage": {"prompt_tokens": 3}}
        refusal = json.dumps(reply).encode()
        return {"question 0": Fault(400), "question 1": Fault(body=refusal)}.get(request.prompt)

    with StubEndpoint(fault=fault) as stub:
        ask(stub, tmp_path, 3)
        replies, client = ask(stub, tmp_path, 3)
    assert len(stub.requests) == 4
    assert {reply.request.id: reply.failure for reply in replies} == {
        "0": "HTTP 400",
        "1": "refusal",
        "2": None,
    }
    assert client.from_store == 2


def test_every_raw_reply_is_kept(tmp_path: Path) -> None:
    with StubEndpoint(
        fault=lambda request: Fault(500, body=b"broken") if request.attempt == 1 else None
    ) as stub:
        ask(stub, tmp_path, 1, parameters={"seed": 7})
    with sqlite3.connect(tmp_path / "replies.sqlite") as db:
        rows = db.execute(
            "select status, body, failure, final, prompt, model, parameters from requests"
        ).fetchall()
    assert rows[0][:4] == (500, "broken", "HTTP 500", 0)
    assert json.loads(rows[1][1])["choices"][0]["message"]["content"] == "yes"
    assert rows[1][2:] == (None, 1, "question 0", "model", '{"seed": 7}')


def test_the_budget_of_requests_stops_cleanly_and_counts_all_runs(tmp_path: Path) -> None:
    with StubEndpoint() as stub:
        replies, client = ask(stub, tmp_path, 10, budget=Budget(requests=4))
        assert (len(replies), len(stub.requests)) == (4, 4)
        assert client.stop_reason == "the budget of 4 requests is spent; raise it to continue"
        replies, client = ask(stub, tmp_path, 10, budget=Budget(requests=7))
        assert (len(replies), len(stub.requests), client.from_store) == (7, 7, 4)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_budget_of_tokens_is_not_overdrawn(tmp_path: Path, concurrency: int) -> None:
    with StubEndpoint(lambda request: "one two three") as stub:  # 2 + 3 tokens a request
        replies, client = ask(
            stub,
            tmp_path,
            20,
            budget=Budget(tokens=32),
            parameters={"max_tokens": 8},
            concurrency=concurrency,
        )
    assert len(replies) == 6
    assert client.usage.tokens == sum(stub.tokens) == 30
    assert client.stop_reason == "the budget of 32 tokens is spent; raise it to continue"


def test_the_report_equals_the_endpoint_s_own_count(tmp_path: Path) -> None:
    with StubEndpoint(
        fault=lambda request: Fault(500) if request.number % 3 == 0 else None
    ) as stub:
        replies, client = ask(stub, tmp_path, 30, retries=9, prices=Prices(1_000_000, 2_000_000))
    assert len(replies) == 30
    assert client.usage.requests == len(stub.requests)
    assert [client.usage.prompt_tokens, client.usage.completion_tokens] == stub.tokens
    assert client.prices.cost(client.usage) == stub.tokens[0] + 2 * stub.tokens[1]


def test_an_endpoint_that_is_down_stops_the_run(tmp_path: Path) -> None:
    with StubEndpoint(fault=lambda request: Fault(503)) as stub:
        replies, client = ask(stub, tmp_path, 200, retries=0)
    assert len(replies) < 30
    assert (client.stop_reason or "").startswith(
        "20 requests in a row failed, the last with: HTTP 503"
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_and_report_say_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with StubEndpoint(fault=lambda request: Fault(delay=0.15)) as stub:  # tqdm draws each 0.1 s
        ask(stub, tmp_path, 2)
        client = make(stub, tmp_path, prices=Prices(10, 10), concurrency=1)
        for _ in client.ask(Request(str(n), f"question {n}") for n in range(5)):
            client.show_progress(total=9)
        report = client.format_report()
        client.close()
    progress = terminal.getvalue()
    assert " 5/9 [" in progress
    assert "replies/s, cost 0.0001]" in progress
    assert progress.endswith(" \r")  # the line is cleared before the report
    assert report.splitlines()[0] == "5 answered, 0 failed (2 replies kept from before)"
    assert "this run: 3 requests, 6 + 3 tokens (sent + received), cost 0.0001" in report
    assert "all runs: 5 requests, 10 + 5 tokens" in report


def test_pictures_are_drawn_through_the_images_endpoint(tmp_path: Path) -> None:
    with StubEndpoint(lambda request: PNG) as stub:
        client = make(stub, tmp_path, kind="images", parameters={"size": "64x64"})
        (reply,) = client.ask([Request("a", "a crocodile")])
        client.close()
    assert base64.b64decode(reply.text or "") == PNG
    assert stub.requests[0].body == {"model": "model", "prompt": "a crocodile", "size": "64x64"}


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "replies.sqlite").write_bytes(b"not a database " * 100)
    with (
        StubEndpoint() as stub,
        pytest.raises(ValueError, match="replies.sqlite: expected a store of replies"),
    ):
        make(stub, tmp_path)


KILLED = """
import sys
from pathlib import Path
from mmrel_kit.endpoint import Endpoint, Request
client = Endpoint(sys.argv[1], "model", Path(sys.argv[2]), concurrency=4)
for reply in client.ask(Request(str(n), f"question {n}") for n in range(60)):
    print(reply.request.id, flush=True)
"""


def test_after_kill_9_at_most_the_requests_in_flight_are_repeated(tmp_path: Path) -> None:
    with StubEndpoint(fault=lambda request: Fault(delay=0.01)) as stub:
        command = [sys.executable, "-c", KILLED, stub.url, str(tmp_path / "replies.sqlite")]
        root = Path(__file__).resolve().parent.parent
        with subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, env=dict(os.environ)
        ) as process:
            assert process.stdout
            for _ in range(20):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        before = len(stub.requests)
        assert 20 <= before < 60
        replies, client = ask(stub, tmp_path, 60)
    assert len({reply.request.id for reply in replies}) == 60
    assert len(stub.requests) - 60 <= 4
    assert client.answers == 60


# ---- endpoints are kept apart


def ask_at(
    url: str,
    folder: Path,
    *prompts: str,
    **options: object,
) -> tuple[list[endpoint.Reply], Endpoint]:
    given: dict[str, object] = {"store": folder / "replies.sqlite", "retries": 2} | options
    client = Endpoint(url, "model", **given)  # type: ignore[arg-type]
    replies = list(client.ask(Request(prompt, prompt) for prompt in prompts))
    client.close()
    return replies, client


def test_another_endpoint_s_replies_are_not_taken(tmp_path: Path) -> None:
    """The endpoint was not part of a reply's key: the second endpoint was never asked."""
    with StubEndpoint(lambda request: "yes") as first, StubEndpoint(lambda request: "no") as second:
        assert ask_at(first.url, tmp_path, "q")[0][0].text == "yes"
        replies, client = ask_at(second.url, tmp_path, "q", budget=Budget(requests=1))
        assert (replies[0].text, replies[0].from_store) == ("no", False)
        assert ask_at(f"{first.url}/", tmp_path, "q")[0][0].from_store
    assert (len(first.requests), len(second.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1//", "http://127.0.0.1:8000/v1"),
        ("HTTP://LocalHost:8000/V1", "http://localhost:8000/V1"),
        ("http://host:80", "http://host"),
        ("https://host:443/", "https://host"),
        ("https://host:80/v1", "https://host:80/v1"),
        ("https://ann:secret@host/v1/?key=secret#part", "https://host/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_has_one_form_without_secrets(given: str, url: str) -> None:
    assert endpoint.normalise_url(given) == url


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("127.0.0.1:8000/v1", "127.0.0.1:8000/v1"),
        ("localhost:8000/v1", "localhost:8000/v1"),
        ("ann:secret@host/v1?key=secret", "host/v1"),
        ("ftp://host/v1", "ftp://host/v1"),
        ("http:///v1", "http:///v1"),
        ("http://host:port/v1", "http://host:port/v1"),
        ("http://host:99999/v1", "http://host:99999/v1"),
        ("http://[::1/v1", "http://[::1/v1"),
        ("http://a b/v1", "http://a b/v1"),
        ("http://host/\x1b[2J", "http://host/\\x1b[2J"),
        ("http://ho\udc80st/v1", "http://ho\\udc80st/v1"),
        ("http://\u2603\u2603.x/v1", "http://\u2603\u2603.x/v1"),
        ("", ""),
    ],
)
def test_what_is_no_address_is_refused_at_once(tmp_path: Path, given: str, shown: str) -> None:
    """An address without http:// failed at every request, as `connection: UnsupportedProtocol`."""
    with pytest.raises(InputError) as caught:
        Endpoint(given, "model", tmp_path / "replies.sqlite")
    assert f"got '{shown}'" in str(caught.value)
    assert "--base-url" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


OLD_STORE = """
create table requests (
    id integer primary key, key text not null, picture text, prompt text not null,
    model text not null, parameters text not null, repeat integer not null,
    sent_at text not null, seconds real, status integer, body text, failure text,
    final integer not null default 0, prompt_tokens integer, completion_tokens integer
);
"""


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (OLD_STORE, "expected a store that names the endpoint of each reply, got one of"),
        ("create table items (id integer)", "expected a store of replies, got another database"),
    ],
)
def test_another_database_stays_as_it_is(tmp_path: Path, tables: str, message: str) -> None:
    path = tmp_path / "replies.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(tables)
    db.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"replies.sqlite: {message}.*; name another --store"):
        Endpoint("http://127.0.0.1:9/v1", "model", path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---- endpoints that are down


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, and refuses every connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_an_endpoint_that_was_never_reached_stops_the_run(tmp_path: Path, closed_port: int) -> None:
    """Each request was sent again five times with growing waits, and the address was not named."""
    url = f"http://127.0.0.1:{closed_port}/v1"
    client = Endpoint(url, "model", tmp_path / "replies.sqlite", concurrency=4)
    assert list(client.ask(Request(str(n), f"question {n}") for n in range(50))) == []
    assert client.usage.requests <= 4  # those in flight
    report = client.format_report(50).splitlines()[0]
    client.close()
    assert report == "0 of 50 answered, 0 failed, 50 not asked"
    assert (client.stop_reason or "").startswith(f"{url} cannot be reached: ")
    assert "refused" in (client.stop_reason or "")


def test_a_host_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", find_nothing)
    replies, client = ask_at("http://mmrel.invalid:8000/v1", tmp_path, "q")
    assert (replies, client.usage.requests) == ([], 1)
    assert (client.stop_reason or "").startswith("http://mmrel.invalid:8000/v1 cannot be reached: ")
    assert "Name or service not known" in (client.stop_reason or "")


def test_a_run_survives_a_short_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create, outage, sent = Sender._create, [2, 3, 4], Counter[str]()

    def fail(sender: Sender, request: Request) -> object:
        sent["requests"] += 1
        if outage and sent["requests"] == outage[0]:
            outage.pop(0)
            raise sender._http.ConnectError("[Errno 111] Connection refused")
        return create(sender, request)

    monkeypatch.setattr(Sender, "_create", fail)
    with StubEndpoint() as stub:
        replies, client = ask(stub, tmp_path, 5, concurrency=1, retries=5)
    assert not outage
    assert ([reply.text for reply in replies], client.stop_reason) == (["yes"] * 5, None)


def test_after_a_stop_the_replies_of_before_still_come(tmp_path: Path) -> None:
    """Replies that were kept were left out after the first question that was not."""
    with StubEndpoint(fault=lambda request: Fault(400) if request.number == 1 else None) as stub:
        ask(stub, tmp_path, 6, concurrency=1)
        client = make(stub, tmp_path, budget=Budget(requests=6))
        replies = list(client.ask(Request(str(n), f"question {n}") for n in range(6)))
        report = client.format_report(6).splitlines()[0]
        client.close()
    assert [reply.request.id for reply in replies] == ["1", "2", "3", "4", "5"]
    assert report == "5 of 6 answered, 0 failed, 1 not asked (5 replies kept from before)"


@pytest.mark.parametrize("status", [401, 404])
def test_a_run_without_an_answer_says_what_the_endpoint_said(tmp_path: Path, status: int) -> None:
    body = b'{"error": {"message": "no model\\u001b[2J of  that name"}}'
    with StubEndpoint(fault=lambda request: Fault(status, body=body)) as stub:
        client = make(stub, tmp_path, concurrency=1)
        list(client.ask([Request("a", "a"), Request("b", "b")]))
        report = client.format_report(2)
        client.close()
    last = f"HTTP {status}: no model [2J of that name"
    none = f"none of 2 requests was answered, the last with: {last}"
    assert client.stop_reason == f"{none}; the endpoint is {stub.url}"
    assert report.splitlines()[:2] == ["0 of 2 answered, 2 failed", f"  2 x {last}"]


def test_single_requests_that_are_refused_stop_nothing(tmp_path: Path) -> None:
    def fault(request: StubRequest) -> Fault | None:
        return Fault(400) if request.prompt == "question 0" else None

    with StubEndpoint(fault=fault) as stub:
        ask(stub, tmp_path, 3)
        replies, client = ask(stub, tmp_path, 3)
    assert (client.stop_reason, client.answers, client.failures) == (None, 2, {"HTTP 400": 1})
    assert len(replies) == 3


# ---- reasoning, and replies that were cut off


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_and_why_it_stopped_come_with_the_reply(tmp_path: Path, field: str) -> None:
    said = StubReply("Yes.", "length", {field: "The dog sits."})
    with StubEndpoint(lambda request: said) as stub:
        for is_kept in (False, True):
            (reply,), client = ask(stub, tmp_path)
            assert (reply.text, reply.failure, reply.from_store) == ("Yes.", None, is_kept)
            assert (reply.reasoning, reply.finish_reason) == ("The dog sits.", "length")
            assert client.cut_off == 1
    assert len(stub.requests) == 1


@pytest.mark.parametrize("content", [None, "", " \n"])
@pytest.mark.parametrize(
    ("finish_reason", "failure"),
    [("length", "reasoning cut off before an answer"), ("stop", "reasoning without an answer")],
)
def test_reasoning_alone_is_no_answer_and_is_not_asked_again(
    tmp_path: Path, content: str | None, finish_reason: str, failure: str
) -> None:
    """Empty text was an answer, and null was asked again in every run, to end the same way."""
    with StubEndpoint(
        lambda request: StubReply(content, finish_reason, {"reasoning": "Hm."})
    ) as stub:
        for _ in range(2):
            (reply,), client = ask(stub, tmp_path)
            assert (reply.text, reply.failure, reply.reasoning) == (None, failure, "Hm.")
            assert (client.answers, client.failures) == (0, {failure: 1})
    assert len(stub.requests) == 1


@pytest.mark.parametrize("odd", [{"reasoning": ["a"]}, {"reasoning": {}}, {"reasoning_content": 3}])
def test_reasoning_of_another_shape_is_left_out(tmp_path: Path, odd: dict[str, object]) -> None:
    with StubEndpoint(lambda request: StubReply("yes", {"type": "stop"}, odd)) as stub:
        (reply,), _ = ask(stub, tmp_path)
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("yes", None, None)


# ---- text that cannot be encoded, and what must not be written


def test_half_a_surrogate_pair_does_not_block_the_run(tmp_path: Path) -> None:
    said = StubReply("yes \ud800!", "st\udc00op", {"reasoning": "\udfff and \U0001f600"})
    with StubEndpoint(lambda request: said) as stub:
        for _ in range(2):
            (reply,), _ = ask(stub, tmp_path)
            assert (reply.text, reply.finish_reason) == ("yes \ufffd!", "st\ufffdop")
            assert reply.reasoning == "\ufffd and \U0001f600"
    assert len(stub.requests) == 1


@pytest.mark.parametrize("charset", ["unicode_escape", "hex", "idna", "utf-16", "no-such", ""])
def test_an_error_s_charset_is_not_obeyed(tmp_path: Path, charset: str) -> None:
    """SQLite refused the surrogates that the first gave; hex and idna raised: tracebacks."""
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    fault = Fault(400, headers, body=b"bad \\ud800 \xed\xa0\x80 \x00")
    with StubEndpoint(fault=lambda request: fault) as stub:
        (reply,), _ = ask(stub, tmp_path)
    assert reply.failure == "HTTP 400"


def test_a_prompt_with_half_a_surrogate_pair_is_sent_without_it(tmp_path: Path) -> None:
    with StubEndpoint() as stub:
        replies, _ = ask_at(stub.url, tmp_path, "is \ud800 it?")
    assert replies[0].text == "yes"
    assert stub.requests[0].prompt == "is \ufffd it?"


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": 10**30}, {"completion_tokens": -5}, {"prompt_tokens": "7"}],
)
def test_a_count_of_tokens_that_is_none(tmp_path: Path, usage: dict[str, object]) -> None:
    """SQLite refused an integer of more than 64 bits, with a traceback."""
    body = json.dumps({"choices": [{"message": {"content": "yes"}}], "usage": usage}).encode()
    with StubEndpoint(fault=lambda request: Fault(body=body)) as stub:
        (reply,), client = ask(stub, tmp_path)
    assert (reply.text, client.usage.tokens) == ("yes", 0)


@pytest.mark.parametrize("status", [200, 401])
def test_the_secret_is_written_nowhere(tmp_path: Path, status: int) -> None:
    secret = "sk-very-secret"
    choice = {"message": {"content": f"I saw {secret}"}}
    body = json.dumps({"error": f"bad key {secret}", "choices": [choice]})
    with StubEndpoint(fault=lambda request: Fault(status, body=body.encode())) as stub:
        address = stub.url.replace("http://", "http://ann:pass-word@") + "?key=pass-word"
        client = Endpoint(address, "model", tmp_path / "replies.sqlite", api_key=secret)
        replies = list(client.ask([Request("a", "a")]))
        told = f"{replies} {client.format_report(1)} {client.stop_reason}"
        client.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(stub.requests) == 1
    assert secret not in told
    assert "pass-word" not in told
    assert secret.encode() not in written
    assert b"pass-word" not in written


# ---- settings


def test_any_parameter_is_sent_in_the_body(tmp_path: Path) -> None:
    """Those that the client does not know by name, such as vLLM's, ended in a traceback."""
    parameters = {"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}}
    with StubEndpoint() as stub:
        ask(stub, tmp_path, parameters=parameters)
    assert {name: stub.requests[0].body[name] for name in parameters} == parameters


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "m\udcff"}, r"the name of a model in valid text, got 'm\\udcff'"),
        ({"parameters": {"stop": "\ud800"}}, "a parameter that can be sent as JSON, got 'stop'"),
        ({"parameters": {"top_p": float("nan")}}, "that can be sent as JSON, got 'top_p'"),
        ({"parameters": {"model": "other"}}, "other fields of a request's body, got model; leave"),
        ({"parameters": {"extra_query": {}}}, "other fields of a request's body, got extra_query"),
        ({"api_key": "sk-s\u00e4cret"}, "plain ASCII in OPENAI_API_KEY, got other text; copy it"),
        ({"api_key": "sk-secret\nX-Header: 1"}, "plain ASCII in OPENAI_API_KEY"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path,
    options: dict[str, object],
    message: str,
) -> None:
    given = {"model": "m", "store": tmp_path / "s.sqlite"} | options
    with pytest.raises(InputError, match=f"expected .*{message}") as caught:
        Endpoint("http://127.0.0.1:9/v1", **given)  # type: ignore[arg-type]
    assert "cret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_secret_with_a_line_end_is_sent_without_it(tmp_path: Path) -> None:
    with StubEndpoint() as stub:
        (reply,), _ = ask_at(stub.url, tmp_path, "q", api_key="sk-secret\n")
    assert reply.text == "yes"

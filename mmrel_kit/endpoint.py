# SPDX-License-Identifier: Apache-2.0
"""Asks an OpenAI-compatible endpoint about pictures: resumable, within a budget, every raw reply kept.

The replies lie in an SQLite file, one row for each HTTP request, written before it is sent and filled in when its
reply has come. A run that is killed goes on where it stopped: only the requests that were in flight are sent again.
A reply is stored under its endpoint, model, parameters, picture and prompt: endpoints never mix.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import email.utils
import hashlib
import importlib
import json
import os
import random
import re
import sqlite3
import sys
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from mmrel_kit.files import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

MAX_REPLY_BYTES = 16 << 20  # a drawn picture of 1024 x 1024 is 2 to 4 MB in base64; an answer is a few hundred bytes
MAX_WAIT = 600.0  # seconds that an endpoint may ask us to wait; beyond that the request has failed
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before the second try, and at most, where the endpoint names none
KEPT_OF_FAILURE = 4096  # characters of a failed reply that are kept
LONGEST_LINE = 200  # characters that are shown of what an endpoint says about a failure
FAILURES_IN_A_ROW = 20  # after so many the endpoint is taken to be down, and the run stops
CONNECT_WAIT = 5.0  # seconds for a connection; a reply may take far longer
TRANSIENT = frozenset((408, 409, 425, 429))  # and all from 500 on
# The endpoint works, but may refuse this one request. 401, 404 and the like are the same for all.
ABOUT_ONE_REQUEST = frozenset((200, 400, 413, 422))
REASONING = ("reasoning_content", "reasoning")  # where vLLM, SGLang and OpenRouter put it
CUT_OFF = "length"  # the finish_reason of a reply that reached the limit of tokens
# Set below, or options of the client; a header may hold a secret, and parameters are stored.
RESERVED = ("model", "messages", "prompt", "stream", "extra_body", "extra_headers", "extra_query")
MAX_COUNT = 1 << 53  # tokens of a reply; JSON can hold integers that SQLite cannot
SHORTEST_SECRET = 6  # characters; a placeholder such as "none" may be a word of an answer
_TABLES = """
create table if not exists requests (
    id integer primary key, key text not null, endpoint text not null, picture text,
    prompt text not null, model text not null, parameters text not null, repeat integer not null,
    sent_at text not null, seconds real, status integer,
    body text, failure text, final integer not null default 0, prompt_tokens integer, completion_tokens integer
);
create index if not exists by_key on requests (key, final);
"""


class Attachment:
    """A picture's bytes; hashed and encoded once, however many questions share the object."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def sha256(self) -> str:
        """Hash of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def url(self) -> str:
        """The bytes as a data URL."""
        return f"data:{media_type(self.data)};base64,{base64.b64encode(self.data).decode()}"


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask.

    Attributes:
        id: the caller's name for it; it comes back with the reply.
        prompt: text that is sent.
        picture: sent before the text; null sends the text alone.
        repeat: 0, 1, … where the same is asked several times.
    """

    id: str
    prompt: str
    picture: Attachment | None = None
    repeat: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request.

    Attributes:
        request: what was asked.
        text: what the model said (a picture in base64 where one was asked for); null where there is none.
        failure: why there is no text, or null.
        kept: it was in the store; nothing was sent.
        finish_reason: why the model stopped, as the endpoint says (`length`: cut off), or None.
        reasoning: the reasoning before the answer, where the endpoint returns it, or None.
    """

    request: Request
    text: str | None
    failure: str | None
    kept: bool
    finish_reason: str | None = None
    reasoning: str | None = None


class Usage(NamedTuple):
    """What was sent and what the endpoint says it took; `unmetered` answers came without a count of tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.prompt_tokens + self.completion_tokens


class Budget(NamedTuple):
    """Limits for one model at one endpoint, over all runs of a store; None: no limit."""

    requests: int | None = None
    tokens: int | None = None


class Prices(NamedTuple):
    """Price of a million tokens, sent and received, in any currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, usage: Usage) -> float:
        """Price of what was used."""
        return (self.prompt * usage.prompt_tokens + self.completion * usage.completion_tokens) / 1e6


@dataclasses.dataclass(slots=True)
class _Outcome:
    """Result of one HTTP request.

    Attributes:
        said: message of the endpoint or the network about a failure.
        final: the request is not sent again.
        transient: the request is sent again at once.
        unreachable: no connection could be made.
    """

    text: str | None = None
    failure: str | None = None
    said: str | None = None
    final: bool = False
    transient: bool = False
    unreachable: bool = False
    finish_reason: str | None = None
    reasoning: str | None = None
    status: int | None = None
    body: str | None = None
    wait: float | None = None
    seconds: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Store:
    """The requests of all runs with their raw replies, in an SQLite file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._check()
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")  # of a killed process nothing is lost
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            wanted = "expected a store of replies, or a place for one"
            raise InputError(f"{path}: {wanted}: {error}") from None
        except InputError as error:
            self._db.close()
            raise InputError(f"{path}: {error}; name another --store") from None
        self._lock = threading.Lock()

    def _check(self) -> None:
        """Refuse another database, and a store of a version that did not record the endpoint."""
        tables = self._db.execute("select name from sqlite_master where type = 'table'").fetchall()
        columns = {row[1] for row in self._db.execute("pragma table_info(requests)")}
        if tables and not columns:
            raise InputError("expected a store of replies, got another database")
        if columns and "endpoint" not in columns:
            raise InputError(
                "expected a store that names the endpoint of each reply, got one of an earlier"
                " version, which is left as it is"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def find(self, key: str) -> tuple[str | None, str | None] | None:
        """Raw body and failure of a final reply, or null where none is kept."""
        with self._lock:
            row = self._db.execute("select body, failure from requests where key = ? and final", (key,)).fetchone()
        return (row[0], row[1]) if row else None

    def count(self, url: str, model: str) -> int:
        """Return the number of final replies of a model at an endpoint."""
        with self._lock:
            row = self._db.execute(
                "select count(*) from requests where endpoint = ? and model = ? and final",
                (url, model),
            ).fetchone()
        return int(row[0])

    def begin(self, key: str, request: Request, url: str, model: str, parameters: str) -> int:
        """Note that a request is about to be sent; returns its row."""
        picture = request.picture.sha256 if request.picture else None
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with self._lock:
            cursor = self._db.execute(
                "insert into requests (key, endpoint, picture, prompt, model, parameters, repeat, "
                "sent_at) values (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, url, picture, mend(request.prompt), model, parameters, request.repeat, now),
            )
        return int(cursor.lastrowid or 0)

    def finish(self, row: int, outcome: _Outcome) -> None:
        """Note what a request brought."""
        body = outcome.body if outcome.final or not outcome.body else outcome.body[:KEPT_OF_FAILURE]
        with self._lock:
            self._db.execute(
                "update requests set seconds = ?, status = ?, body = ?, failure = ?, final = ?, prompt_tokens = ?, "
                "completion_tokens = ? where id = ?",
                (outcome.seconds, outcome.status, body, outcome.failure, outcome.final,
                 outcome.prompt_tokens, outcome.completion_tokens, row),
            )  # fmt: skip

    def usage(self, url: str, model: str) -> Usage:
        """Return what all runs used of a model at an endpoint."""
        with self._lock:
            row = self._db.execute(
                "select count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
                "coalesce(sum(final and prompt_tokens is null), 0) from requests "
                "where endpoint = ? and model = ?",
                (url, model),
            ).fetchone()
        return Usage(*row)


def read_texts(path: Path) -> Iterator[str]:
    """Yield the text of every final reply that a store keeps; the file is not written to.

    Raises:
        InputError: the file is not a store of replies.
    """
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(db):
            for (body,) in db.execute("select body from requests where final"):
                outcome = _Outcome(body=body)
                _read_body("chat", outcome)
                if outcome.text is not None:
                    yield outcome.text
    except sqlite3.Error as error:
        raise InputError(f"{path}: expected a store of replies: {error}") from None


class Endpoint:
    """Asks one model of an endpoint, several requests at a time.

    Args:
        base_url: where the endpoint is, for example http://127.0.0.1:8000/v1; credentials and a
            query in it are sent, but never stored.
        model: name of the model there.
        store: SQLite file that keeps the replies; made where it is missing.
        api_key: secret of the endpoint; it is never stored, not even where a reply repeats it.
        parameters: more fields of the request's body (temperature, max_tokens, response_format …).
        kind: `chat` for text about a picture, `images` for pictures from text.
        concurrency: most requests in flight.
        timeout: seconds for a whole reply.
        retries: tries after the first one, where the endpoint is busy or out of reach.
        budget: most requests and tokens.
        prices: of the tokens, for the report.

    Attributes:
        url: base_url without credentials, query and last slash; the endpoint's name in the store.
        stopped: why asking ended before all was asked, or null.
        run: what this run used; `store.usage(url, model)` returns that of all runs.
        kept: replies that were in the store.
        answered: replies that came with text in this run.
        failures: number of requests without text, by reason; includes replies from the store.
        cut_off: number of replies that reached the limit of tokens; includes those from the store.

    Raises:
        InputError: a setting, or the store, cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        store: Path,
        *,
        api_key: str | None = None,
        parameters: dict[str, Any] | None = None,
        kind: Literal["chat", "images"] = "chat",
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        budget: Budget = Budget(),  # noqa: B008  # it is a tuple
        prices: Prices = Prices(),  # noqa: B008
    ) -> None:
        if concurrency < 1 or timeout <= 0 or retries < 0:
            raise InputError(
                f"expected concurrency >= 1, timeout > 0 and retries >= 0, got {concurrency}, {timeout}, {retries}"
            )
        self._openai, self._http = load_client()
        self.url = normalise_url(base_url)
        self.model, self.parameters, self.kind = model, parameters or {}, kind
        _check_settings(self.model, self.parameters)
        self._secret = _check_secret(api_key)
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries
        self.budget, self.prices = budget, prices
        self._client = self._connect(base_url)
        self.path, self.store = store, Store(store)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._not_before = 0.0
        self._in_flight = self._largest = self._failed_in_a_row = 0
        self._shown = 0.0
        self._started = time.monotonic()
        self._before = self.store.usage(self.url, model)
        self._is_reached = self._is_working = self._has_warned = False
        self._came = 0
        self._said: dict[str, str] = {}
        self._last_failure = _Outcome()
        self.stopped: str | None = None
        self.run = Usage()
        self.kept = self.answered = self.cut_off = 0
        self.failures: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connections and the store."""
        self._client.close()
        self.store.close()

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Ask, and yield the replies as they come; those that are kept come at once and cost nothing.

        No more requests are drawn than can be in flight, so pictures can be read when needed.
        Where a budget is spent or the endpoint is down, what is in flight is awaited and kept; then
        `stopped` says why, and only replies from the store are yielded.
        """
        todo, waiting = iter(requests), set[Future[Reply | None]]()
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                while True:
                    while len(waiting) < self.concurrency:
                        if (request := next(todo, None)) is None:
                            break
                        if kept := self.recall(request):
                            yield kept
                        elif not self.stopped:
                            waiting.add(pool.submit(self._ask, request))
                    if not waiting:
                        break
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        if reply := future.result():
                            yield self._count(reply)
            finally:
                self._closing.set()  # no new tries; what is in flight is awaited and kept
        if self._came and not self._is_working and not self.stopped:
            what = f"none of {self._came} requests was answered"
            self.stopped = self._describe_stop(what, self._last_failure)

    def recall(self, request: Request) -> Reply | None:
        """Return the reply from the store, and count it; None where there is none."""
        if (found := self.store.find(self.make_key(request))) is None:
            return None
        outcome = _Outcome(body=found[0])
        _read_body(self.kind, outcome)
        return self._count(_make_reply(request, outcome, kept=True))

    def make_key(self, request: Request) -> str:
        """Return the store's key of a request: a hash of all that its reply depends on."""
        picture = request.picture.sha256 if request.picture else None
        asked_of = [self.url, self.model, self.parameters]
        parts = [self.kind, *asked_of, picture, request.prompt, request.repeat]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def show_progress(self, total: int | None = None) -> None:
        """Write a line about how far the run is to a terminal, at most five times a second; nothing to a pipe."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown > 0.2:
            self._shown = now
            sys.stderr.write(f"\r\x1b[K{self.describe_progress(total)}")
            sys.stderr.flush()

    def describe_progress(self, total: int | None = None) -> str:
        """How many replies there are, how fast they come, how long the rest will take, what it cost so far."""
        done = self.kept + self._came
        rate = self._came / max(time.monotonic() - self._started, 1e-9)
        told = [f"{done}{f' of {total}' if total is not None else ''} replies", f"{rate:.1f}/s"]
        if total is not None and rate and (left := max(0, total - done)):
            told.append(f"{round(left / rate) // 60}:{round(left / rate) % 60:02d} left")
        told += [f"{self.failures.total()} failed"] if self.failures else []
        told.append(f"cost {self.prices.cost(self.run):.4f}" if any(self.prices) else f"{self.run.tokens} tokens")
        return ", ".join(told)

    def describe(self, total: int | None = None) -> str:
        """Return the report of the run: answers, failures by reason, requests, tokens, cost.

        Args:
            total: number of requests that were to be sent, where it is known.
        """
        if self._shown:
            sys.stderr.write("\r\x1b[K")
        lines = [self._describe_answers(total)]
        for reason, count in self.failures.most_common():
            said = self._said.get(reason)
            lines.append(f"  {count} x {reason}{f': {said}' if said else ''}")
        all_runs = self.store.usage(self.url, self.model)
        for name, usage in (("this run", self.run), ("all runs", all_runs)):
            cost = f", cost {self.prices.cost(usage):.4f}" if any(self.prices) else ""
            told = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens (sent + received){cost}"
            told += f"; {usage.unmetered} replies without a count" if usage.unmetered else ""
            lines.append(f"{name}: {usage.requests} requests, {told}")
        return "\n".join(lines)

    def describe_store(self) -> str | None:
        """Return a line about the replies in the store; None where it holds none."""
        count = self.store.count(self.url, self.model)
        if not count:
            return None
        path = mend(str(self.path))
        kept = f"{count} replies of {self.model!r} at {self.url} are in {path} (asked before)"
        return f"{kept}; none of them is asked again"

    @property
    def answers(self) -> int:
        """Number of replies with text, of this run and from the store."""
        return self.kept + self._came - self.failures.total()

    def _describe_answers(self, total: int | None) -> str:
        failed = self.failures.total()
        line = f"{self.answers} answered, {failed} failed"
        if total is not None:
            line = f"{self.answers} of {total} answered, {failed} failed"
        if total is not None and (left := total - self.answers - failed) > 0:
            line += f", {left} not asked"
        if self.cut_off:
            line += f", {self.cut_off} cut off at the limit of tokens"
        if self.kept:
            line += f" ({self.kept} replies kept from before)"
        return line

    def _count(self, reply: Reply) -> Reply:
        if reply.kept:
            self.kept += 1
        else:
            self._came += 1
            self.answered += reply.failure is None
        if reply.failure is not None:
            self.failures[reply.failure] += 1
        self.cut_off += reply.finish_reason == CUT_OFF
        return reply

    def _ask(self, request: Request) -> Reply | None:
        """Send a request, again where that may help; null where it was not sent or is given up for now."""
        key, parameters = self.make_key(request), json.dumps(self.parameters, sort_keys=True)
        outcome = None
        for attempt in range(self.retries + 1):
            if attempt and not self._pause(outcome, attempt):
                break
            if not self._start():
                return None
            row = self.store.begin(key, request, self.url, self.model, parameters)
            outcome = self._send(request)
            self.store.finish(row, outcome)
            self._end(outcome)
            if self._is_never_reached(outcome):
                return None
            if not outcome.transient:
                break
        if outcome is None or (outcome.transient and self._closing.is_set()):
            return None
        self._note_result(outcome)
        return _make_reply(request, outcome, kept=False)

    def _pause(self, outcome: _Outcome | None, attempt: int) -> bool:
        """Wait before another try; false where that would be too long, or the run ends."""
        if outcome and outcome.wait is not None:
            if outcome.wait > MAX_WAIT:
                return False
            with self._changed:  # the endpoint is busy for everyone
                self._not_before = max(self._not_before, time.monotonic() + outcome.wait)
            return not self._closing.is_set()
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
        return not self._closing.wait(longest * random.uniform(0.5, 1))

    def _start(self) -> bool:
        """Take a request from the budget; false where it is spent, or the run ends."""
        while (left := self._not_before - time.monotonic()) > 0:
            if self._closing.wait(left):
                return False
        with self._changed:
            while self._in_flight and self._is_short(self._in_flight + 1) and not self.stopped:
                self._changed.wait()  # what is in flight may turn out smaller than was reserved for it
            if self.stopped or self._closing.is_set():
                return False
            if short := self._is_short(1):
                self.stopped = f"the budget of {short} is spent; raise it to go on"
                return False
            self._in_flight += 1
            self.run = self.run._replace(requests=self.run.requests + 1)
            return True

    def _is_short(self, in_flight: int) -> str | None:
        """The budget that so many requests in flight would overdraw, each as large as the largest reply so far."""
        requests, tokens = self.budget
        if requests is not None and self._before.requests + self.run.requests >= requests:
            return f"{requests} requests"
        stated = self.parameters.get("max_tokens")
        largest = max(1, self._largest or (stated if isinstance(stated, int) else 0))
        if tokens is not None and self._before.tokens + self.run.tokens + in_flight * largest > tokens:
            return f"{tokens} tokens"
        return None

    def _end(self, outcome: _Outcome) -> None:
        sent, received = outcome.prompt_tokens or 0, outcome.completion_tokens or 0
        with self._changed:
            self._in_flight -= 1
            self._is_reached |= outcome.status is not None
            self._is_working |= outcome.status in ABOUT_ONE_REQUEST
            is_over = self._closing.is_set() or self.stopped is not None
            is_known = outcome.unreachable or self._is_working or self._has_warned
            if outcome.transient and not (is_over or is_known):
                self._has_warned = True
                said = f": {outcome.said}" if outcome.said else ""
                sys.stderr.write(f"{self.url} does not answer yet ({outcome.failure}{said}); trying again\n")
            self._largest = max(self._largest, sent + received)
            self.run = Usage(
                self.run.requests,
                self.run.prompt_tokens + sent,
                self.run.completion_tokens + received,
                self.run.unmetered + (outcome.final and outcome.prompt_tokens is None),
            )
            self._changed.notify_all()

    def _is_never_reached(self, outcome: _Outcome) -> bool:
        """Stop the run where no request of it was ever connected; a later outage is retried."""
        with self._changed:
            if self._is_reached or not outcome.unreachable:
                return False
            if not self.stopped:
                reason = outcome.said or outcome.failure
                advice = "start it, or correct --base-url"
                self.stopped = f"{self.url} cannot be reached: {reason}; {advice}"
            self._changed.notify_all()
            return True

    def _note_result(self, outcome: _Outcome) -> None:
        with self._changed:
            if outcome.failure:
                self._last_failure = outcome
            if outcome.failure and outcome.said:
                self._said.setdefault(outcome.failure, outcome.said)
            self._failed_in_a_row = 0 if outcome.final else self._failed_in_a_row + 1
            if self._failed_in_a_row >= FAILURES_IN_A_ROW and not self.stopped:
                what = f"{FAILURES_IN_A_ROW} requests in a row failed"
                self.stopped = self._describe_stop(what, outcome)

    def _describe_stop(self, what: str, last: _Outcome) -> str:
        said = f": {last.said}" if last.said else ""
        return f"{what}, the last with: {last.failure}{said}; the endpoint is {self.url}"

    def _connect(self, base_url: str) -> Any:
        timeout = self._openai.Timeout(self.timeout, connect=min(self.timeout, CONNECT_WAIT))
        transport = self._openai.DefaultHttpxClient(event_hooks={"response": [_take_for_utf8]})
        try:
            return self._openai.OpenAI(
                base_url=base_url,
                api_key=self._secret or "none",
                timeout=timeout,
                max_retries=0,
                http_client=transport,
            )
        except self._http.InvalidURL as error:
            wanted = "expected an address as --base-url"
            raise InputError(f"{wanted}, got {self.url!r}: {error}") from None

    def _redact(self, text: str) -> str:
        """Return a reply's body without the secret, which some endpoints repeat in errors."""
        if not self._secret or len(self._secret) < SHORTEST_SECRET:
            return text
        return text.replace(self._secret, "[secret]")

    def _send(self, request: Request) -> _Outcome:
        started, outcome = time.monotonic(), _Outcome()
        try:
            with self._create(request) as response:
                outcome.status = response.status_code
                outcome.body = self._redact(_receive(response, started + self.timeout))
        except self._openai.APIStatusError as error:
            outcome.status = error.status_code
            outcome.body = self._redact(error.response.content.decode("utf-8", "replace"))
            outcome.said = _read_message(outcome.body)
            outcome.transient = error.status_code in TRANSIENT or error.status_code >= 500
            outcome.wait = _read_wait(error.response.headers.get("retry-after"))
            outcome.failure = f"HTTP {error.status_code}"
        except (self._openai.APITimeoutError, self._http.TimeoutException, TimeoutError) as error:
            outcome.failure, outcome.transient = f"no whole reply within {self.timeout:g} s", True
            if isinstance(error.__cause__ or error, self._http.ConnectTimeout):
                outcome.failure = f"no connection within {min(self.timeout, CONNECT_WAIT):g} s"
                outcome.unreachable = True
        except (
            self._openai.APIConnectionError,
            self._http.HTTPError,
            self._http.StreamError,
        ) as error:
            cause = error.__cause__ or error
            outcome.failure, outcome.transient = f"connection: {type(cause).__name__}", True
            no_connection = (self._http.ConnectError, self._http.ProxyError)
            outcome.unreachable = isinstance(cause, no_connection)
            outcome.said = _make_line(str(cause))
        except OverflowError:
            outcome.failure = f"reply of more than {MAX_REPLY_BYTES >> 20} MiB"
        else:
            _read_body(self.kind, outcome)
        outcome.seconds = round(time.monotonic() - started, 3)
        return outcome

    def _create(self, request: Request) -> Any:
        if self.kind == "images":
            images: Any = self._client.images.with_streaming_response
            prompt = mend(request.prompt)
            return images.generate(model=self.model, prompt=prompt, extra_body=self.parameters)
        content: Any = mend(request.prompt)
        if request.picture:
            picture = {"type": "image_url", "image_url": {"url": request.picture.url}}
            content = [picture, {"type": "text", "text": content}]
        chat: Any = self._client.chat.completions.with_streaming_response
        messages = [{"role": "user", "content": content}]
        return chat.create(model=self.model, messages=messages, extra_body=self.parameters)


def load_client() -> tuple[Any, Any]:
    """Import the client and its transport, whose errors are what reading a reply can raise.

    The options of this module and its other parts work without the client. The transport is the
    client's own choice: httpx, later httpx2.

    Raises:
        ModuleNotFoundError: openai is not installed (the extra `semidc`).
    """
    import openai

    transport = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    return openai, importlib.import_module(transport)


def media_type(data: bytes) -> str:
    """Media type of a picture by its first bytes; image/jpeg where they tell nothing."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/gif" if data.startswith(b"GIF8") else "image/jpeg"


def normalise_url(base_url: str) -> str:
    """Return an endpoint's address without credentials, query, default port and last slash.

    Raises:
        InputError: it is no address, or without http:// or https://.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    is_whole = host and parts.scheme in ("http", "https")
    if not is_whole or not base_url.isprintable() or " " in base_url:
        shown = base_url.rpartition("@")[2].partition("?")[0]
        wanted = "an address with http:// or https://, such as http://127.0.0.1:8000/v1"
        raise InputError(f"expected {wanted}, as --base-url, got {shown!r}")
    host = f"[{host}]" if ":" in str(host) else host
    is_default = port in (None, {"http": 80, "https": 443}[parts.scheme])
    return f"{parts.scheme}://{host}{'' if is_default else f':{port}'}{parts.path.rstrip('/')}"


def make_store_path(out: Path) -> Path:
    """Return the path of the default store of an output file, beside it."""
    return out.with_name(f"{out.name}.store.sqlite")


def mend(text: str) -> str:
    """Replace halves of surrogate pairs, which cannot be encoded, by the replacement character."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `from_arguments` reads; the parser needs an option --out."""
    group = parser.add_argument_group("endpoint", "the secret of the endpoint is read from OPENAI_API_KEY")
    group.add_argument("--base-url", required=True, metavar="URL", help="for example http://127.0.0.1:8000/v1")
    group.add_argument("--model", required=True, metavar="NAME")
    group.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help="keeps every reply, so that none is asked twice (OUT.store.sqlite, beside --out)",
    )
    group.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="sent along, for example temperature=0; NAME=null leaves out a default one",
    )
    group.add_argument("--seed", type=int, metavar="N", help="sent along, where it is given")
    group.add_argument("--concurrency", type=int, default=8, metavar="N", help="requests at a time (%(default)s)")
    group.add_argument("--timeout", type=float, default=120, metavar="S", help="seconds for a reply (%(default)s)")
    group.add_argument("--retries", type=int, default=5, metavar="N", help="tries after the first (%(default)s)")
    for unit in ("requests", "tokens"):
        limit = f"most {unit} of the model, over all runs that share the store"
        group.add_argument(f"--max-{unit}", type=int, metavar="N", help=limit)
    group.add_argument(
        "--prices", type=float, nargs=2, default=(0, 0), metavar=("SENT", "RECEIVED"), help="of a million tokens"
    )


def from_arguments(
    args: argparse.Namespace, kind: Literal["chat", "images"] = "chat", defaults: dict[str, Any] | None = None
) -> Endpoint:
    """Return the endpoint that the options of `add_arguments` name.

    Args:
        args: the options, and `out`.
        kind: see Endpoint.
        defaults: parameters that options may replace, or leave out.

    Raises:
        InputError: an option, or the store, cannot be used.
    """
    parameters = (defaults or {}) | dict(map(_parse_parameter, args.parameter))
    if args.seed is not None and parameters.setdefault("seed", args.seed) != args.seed:
        other = f"--parameter seed={parameters['seed']}"
        raise InputError(f"expected one seed, got --seed {args.seed} and {other}")
    return Endpoint(
        args.base_url,
        args.model,
        args.store or make_store_path(args.out),
        api_key=os.environ.get("OPENAI_API_KEY"),
        parameters={name: value for name, value in parameters.items() if value is not None},
        kind=kind,
        concurrency=args.concurrency,
        timeout=args.timeout,
        retries=args.retries,
        budget=Budget(args.max_requests, args.max_tokens),
        prices=Prices(*args.prices),
    )


def _parse_parameter(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not name or not mark:
        raise InputError(f"expected --parameter NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _check_settings(model: str, parameters: dict[str, Any]) -> None:
    """Refuse settings that cannot be sent or stored."""
    if not model:
        raise InputError("expected the name of a model as --model, got ''")
    if mend(model) != model:
        raise InputError(f"expected the name of a model in valid text, got {model!r}")
    if reserved := sorted(set(parameters) & set(RESERVED)):
        got = ", ".join(reserved)
        raise InputError(f"expected other fields of a request's body, got {got}; leave it out")
    for name, value in parameters.items():
        try:
            json.dumps({name: value}, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            wanted = "expected a parameter that can be sent as JSON"
            raise InputError(f"{wanted}, got {name!r}: {error}") from None


def _check_secret(secret: str | None) -> str | None:
    """Return the secret as a header can carry it; the error does not show it."""
    secret = (secret or "").strip()
    if not (secret.isascii() and secret.isprintable()):
        raise InputError("expected plain ASCII in OPENAI_API_KEY, got other text; copy it again")
    return secret or None


def _take_for_utf8(response: Any) -> None:
    """Ignore the charset in a header: some of Python's codecs raise, or give broken text."""
    response.encoding = "utf-8"


def _receive(response: Any, deadline: float) -> str:
    """A reply's body; raises where it is too large or comes too slowly."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise OverflowError
        if time.monotonic() > deadline:
            raise TimeoutError
    return body.decode("utf-8", "replace")


def _make_reply(request: Request, outcome: _Outcome, kept: bool) -> Reply:
    return Reply(
        request=request,
        text=outcome.text,
        failure=outcome.failure,
        kept=kept,
        finish_reason=outcome.finish_reason,
        reasoning=outcome.reasoning,
    )


def _make_line(text: str) -> str | None:
    """Return foreign text as one short line that is safe on a terminal, or None."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:2000]).split())
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE - 1]}…"
    return line or None


def _read_message(body: str) -> str | None:
    """Return the message in the body of an error, or the body's own text, as one line."""
    try:
        value = json.loads(body)
        value = value.get("error", value)
        message = value if isinstance(value, str) else value.get("message") or value.get("detail")
    except (ValueError, AttributeError, RecursionError):
        message = body
    return _make_line(message if isinstance(message, str) else body)


def _read_body(kind: str, outcome: _Outcome) -> None:
    """Find text (or a picture) and the count of tokens in a reply's body; set `final` where it is a reply at all."""
    try:
        value = json.loads(outcome.body or "")
        usage = value.get("usage")
        outcome.prompt_tokens = _find_count(usage, "prompt_tokens", "input_tokens")
        outcome.completion_tokens = _find_count(usage, "completion_tokens", "output_tokens")
        if kind == "images":
            encoded = value["data"][0]["b64_json"]
            outcome.text = encoded if isinstance(encoded, str) else None
        else:
            _read_choice(value["choices"][0], outcome)
    except (ValueError, RecursionError):
        outcome.failure = "reply that is not JSON"
    except IndexError:
        outcome.failure = "reply without a choice"
    except (KeyError, TypeError, AttributeError):
        outcome.failure = "reply of another shape"
    else:
        if outcome.text is None and not outcome.failure:
            outcome.failure = "reply without text"
        outcome.final |= outcome.failure is None
    if not outcome.final:
        outcome.text = None


def _read_choice(choice: dict[str, Any], outcome: _Outcome) -> None:
    """Read text, reasoning and finish_reason; a refusal, or reasoning alone, is a final failure."""
    message = choice["message"]
    outcome.finish_reason = _find_text(choice, "finish_reason")
    outcome.reasoning = _find_text(message, *REASONING)
    text = message.get("content")
    is_empty = not text or (isinstance(text, str) and not text.strip())
    if message.get("refusal") or (is_empty and outcome.finish_reason == "content_filter"):
        outcome.failure, outcome.final = "refusal", True
    elif is_empty and outcome.reasoning:
        outcome.failure, outcome.final = "reasoning without an answer", True
        if outcome.finish_reason == CUT_OFF:
            outcome.failure = "reasoning cut off before an answer"
    elif isinstance(text, str):
        outcome.text = mend(text)


def _find_text(value: dict[str, Any], *names: str) -> str | None:
    found = next((value[name] for name in names if value.get(name)), None)
    return mend(found) if isinstance(found, str) else None


def _find_count(usage: Any, *names: str) -> int | None:
    found = next((usage[name] for name in names if name in usage), None) if isinstance(usage, dict) else None
    is_count = isinstance(found, int) and 0 <= found < MAX_COUNT
    return found if is_count else None


def _read_wait(text: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None

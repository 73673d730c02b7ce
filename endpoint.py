# SPDX-License-Identifier: Apache-2.0
"""Asks an OpenAI-compatible endpoint about pictures: resumable, within a budget, every raw reply kept.

The replies lie in an SQLite file, one row for each HTTP request, written before it is sent and filled in when its
reply has come. A run that is killed goes on where it stopped: only the requests that were in flight are sent again.
"""

from __future__ import annotations

import base64
import dataclasses
import email.utils
import hashlib
import importlib
import json
import os
import random
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

import openai

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

MAX_REPLY_BYTES = 16 << 20  # a drawn picture of 1024 x 1024 is 2 to 4 MB in base64; an answer is a few hundred bytes
MAX_WAIT = 600.0  # seconds that an endpoint may ask us to wait; beyond that the request has failed
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before the second try, and at most, where the endpoint names none
KEPT_OF_FAILURE = 4096  # characters of a failed reply that are kept
FAILURES_IN_A_ROW = 20  # after so many the endpoint is taken to be down, and the run stops
TRANSIENT = frozenset((408, 409, 425, 429))  # and all from 500 on
# The transport library is openai's own choice (httpx, later httpx2); its errors are what reading a reply can raise.
_HTTP: Any = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
_TABLES = """
create table if not exists requests (
    id integer primary key, key text not null, picture text, prompt text not null, model text not null,
    parameters text not null, repeat integer not null, sent_at text not null, seconds real, status integer,
    body text, failure text, final integer not null default 0, prompt_tokens integer, completion_tokens integer
);
create index if not exists by_key on requests (key, final);
"""


class Picture:
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
    picture: Picture | None = None
    repeat: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request.

    Attributes:
        request: what was asked.
        text: what the model said (a picture in base64 where one was asked for); null where there is none.
        failure: why there is no text, or null.
        kept: it was in the store; nothing was sent.
    """

    request: Request
    text: str | None
    failure: str | None
    kept: bool


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
    """Most requests and tokens of one model in one store, over all runs; null: no bound."""

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
    """What one HTTP request brought; `final` is not asked again, `transient` is tried again at once."""

    text: str | None = None
    failure: str | None = None
    final: bool = False
    transient: bool = False
    status: int | None = None
    body: str | None = None
    wait: float | None = None
    seconds: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Store:
    """The requests of all runs with their raw replies, in an SQLite file."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")  # of a killed process nothing is lost
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise ValueError(f"{path}: expected a store of replies, or a place for one: {error}") from None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def find(self, key: str) -> tuple[str | None, str | None] | None:
        """Raw body and failure of a final reply, or null where none is kept."""
        with self._lock:
            row = self._db.execute("select body, failure from requests where key = ? and final", (key,)).fetchone()
        return (row[0], row[1]) if row else None

    def begin(self, key: str, request: Request, model: str, parameters: str) -> int:
        """Note that a request is about to be sent; returns its row."""
        picture = request.picture.sha256 if request.picture else None
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with self._lock:
            cursor = self._db.execute(
                "insert into requests (key, picture, prompt, model, parameters, repeat, sent_at) "
                "values (?, ?, ?, ?, ?, ?, ?)",
                (key, picture, request.prompt, model, parameters, request.repeat, now),
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

    def usage(self, model: str) -> Usage:
        """What all runs used of a model."""
        with self._lock:
            row = self._db.execute(
                "select count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
                "coalesce(sum(final and prompt_tokens is null), 0) from requests where model = ?",
                (model,),
            ).fetchone()
        return Usage(*row)


class Endpoint:
    """Asks one model of an endpoint, several requests at a time.

    Args:
        base_url: where the endpoint is, for example http://127.0.0.1:8000/v1.
        model: name of the model there.
        store: SQLite file that keeps the replies; made where it is missing.
        api_key: secret of the endpoint; it is never kept.
        parameters: what is sent beside the prompt (temperature, max_tokens, response_format …).
        kind: `chat` for text about a picture, `images` for pictures from text.
        concurrency: most requests in flight.
        timeout: seconds for a whole reply.
        retries: tries after the first one, where the endpoint is busy or out of reach.
        budget: most requests and tokens.
        prices: of the tokens, for the report.

    Attributes:
        stopped: why asking ended before all was asked, or null.
        run: what this run used; `store.usage(model)` tells that of all runs.
        kept: replies that were in the store.
        answered: replies that came with text.
        failures: requests that failed, by reason.
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
            raise ValueError(
                f"expected concurrency >= 1, timeout > 0 and retries >= 0, got {concurrency}, {timeout}, {retries}"
            )
        self.model, self.parameters, self.kind = model, parameters or {}, kind
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries
        self.budget, self.prices = budget, prices
        self.path, self.store = store, Store(store)
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key or "none", timeout=timeout, max_retries=0)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._not_before = 0.0
        self._in_flight = self._largest = self._failed_in_a_row = 0
        self._shown = 0.0
        self._started = time.monotonic()
        self._before = self.store.usage(model)
        self.stopped: str | None = None
        self.run = Usage()
        self.kept = self.answered = 0
        self.failures: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connections and the store."""
        self._client.close()
        self.store.close()

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Ask, and yield the replies as they come; those that are kept come at once and cost nothing.

        No more requests are drawn than can be in flight, so that pictures may be read as they are needed. Where a
        budget is spent or the endpoint is down, what is in flight is awaited and kept, and `stopped` says why.
        """
        todo, waiting = iter(requests), set[Future[Reply | None]]()
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                while True:
                    while len(waiting) < self.concurrency and not self.stopped:
                        if (request := next(todo, None)) is None:
                            break
                        if kept := self._find(request):
                            yield self._count(kept)
                        else:
                            waiting.add(pool.submit(self._ask, request))
                    if not waiting:
                        return
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        if reply := future.result():
                            yield self._count(reply)
            finally:
                self._closing.set()  # no new tries; what is in flight is awaited and kept

    def make_key(self, request: Request) -> str:
        """What the store knows a request by: picture, prompt, model, parameters."""
        picture = request.picture.sha256 if request.picture else None
        parts = [self.kind, picture, request.prompt, self.model, self.parameters, request.repeat]
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
        fresh = self.answered + self.failures.total()
        rate = fresh / max(time.monotonic() - self._started, 1e-9)
        told = [f"{self.kept + fresh}{f' of {total}' if total is not None else ''} replies", f"{rate:.1f}/s"]
        if total is not None and rate and (left := max(0, total - self.kept - fresh)):
            told.append(f"{round(left / rate) // 60}:{round(left / rate) % 60:02d} left")
        told += [f"{self.failures.total()} failed"] if self.failures else []
        told.append(f"cost {self.prices.cost(self.run):.4f}" if any(self.prices) else f"{self.run.tokens} tokens")
        return ", ".join(told)

    def describe(self) -> str:
        """The report of the run, a few lines: replies, failures by reason, requests, tokens, cost, why it stopped."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
        lines = [f"{self.kept + self.answered} answered ({self.kept} kept from before), {self.failures.total()} failed"]
        lines += [f"  {count} x {reason}" for reason, count in self.failures.most_common()]
        for name, usage in (("this run", self.run), ("all runs", self.store.usage(self.model))):
            cost = f", cost {self.prices.cost(usage):.4f}" if any(self.prices) else ""
            told = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens (sent + received){cost}"
            told += f"; {usage.unmetered} replies without a count" if usage.unmetered else ""
            lines.append(f"{name}: {usage.requests} requests, {told}")
        return "\n".join(lines + ([f"stopped: {self.stopped}"] if self.stopped else []))

    def _find(self, request: Request) -> Reply | None:
        if (found := self.store.find(self.make_key(request))) is None:
            return None
        outcome = _Outcome(body=found[0])
        _read_body(self.kind, outcome)
        return Reply(request, outcome.text, outcome.failure, kept=True)

    def _count(self, reply: Reply) -> Reply:
        if reply.kept:
            self.kept += 1
        elif reply.failure is None:
            self.answered += 1
        else:
            self.failures[reply.failure] += 1
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
            row = self.store.begin(key, request, self.model, parameters)
            outcome = self._send(request)
            self.store.finish(row, outcome)
            self._end(outcome)
            if not outcome.transient:
                break
        if outcome is None or (outcome.transient and self._closing.is_set()):
            return None
        self._note_result(outcome)
        return Reply(request, outcome.text, outcome.failure, kept=False)

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
        largest = max(1, self._largest or int(self.parameters.get("max_tokens") or 0))
        if tokens is not None and self._before.tokens + self.run.tokens + in_flight * largest > tokens:
            return f"{tokens} tokens"
        return None

    def _end(self, outcome: _Outcome) -> None:
        sent, received = outcome.prompt_tokens or 0, outcome.completion_tokens or 0
        with self._changed:
            self._in_flight -= 1
            self._largest = max(self._largest, sent + received)
            self.run = Usage(
                self.run.requests,
                self.run.prompt_tokens + sent,
                self.run.completion_tokens + received,
                self.run.unmetered + (outcome.final and outcome.prompt_tokens is None),
            )
            self._changed.notify_all()

    def _note_result(self, outcome: _Outcome) -> None:
        with self._changed:
            self._failed_in_a_row = 0 if outcome.final else self._failed_in_a_row + 1
            if self._failed_in_a_row >= FAILURES_IN_A_ROW and not self.stopped:
                self.stopped = f"{FAILURES_IN_A_ROW} requests in a row failed, the last with: {outcome.failure}"

    def _send(self, request: Request) -> _Outcome:
        started, outcome = time.monotonic(), _Outcome()
        try:
            with self._create(request) as response:
                outcome.status = response.status_code
                outcome.body = _receive(response, started + self.timeout)
        except openai.APIStatusError as error:
            outcome.status, outcome.body = error.status_code, error.response.text
            outcome.transient = error.status_code in TRANSIENT or error.status_code >= 500
            outcome.wait = _read_wait(error.response.headers.get("retry-after"))
            outcome.failure = f"HTTP {error.status_code}"
        except (openai.APITimeoutError, _HTTP.TimeoutException, TimeoutError):
            outcome.failure, outcome.transient = f"no whole reply within {self.timeout:g} s", True
        except (openai.APIConnectionError, _HTTP.HTTPError, _HTTP.StreamError) as error:
            cause = error.__cause__ or error
            outcome.failure, outcome.transient = f"connection: {type(cause).__name__}", True
        except OverflowError:
            outcome.failure = f"reply of more than {MAX_REPLY_BYTES >> 20} MiB"
        else:
            _read_body(self.kind, outcome)
        outcome.seconds = round(time.monotonic() - started, 3)
        return outcome

    def _create(self, request: Request) -> Any:
        if self.kind == "images":
            images: Any = self._client.images.with_streaming_response
            return images.generate(model=self.model, prompt=request.prompt, **self.parameters)
        content: Any = request.prompt
        if request.picture:
            picture = {"type": "image_url", "image_url": {"url": request.picture.url}}
            content = [picture, {"type": "text", "text": request.prompt}]
        chat: Any = self._client.chat.completions.with_streaming_response
        return chat.create(model=self.model, messages=[{"role": "user", "content": content}], **self.parameters)


def media_type(data: bytes) -> str:
    """Media type of a picture by its first bytes; image/jpeg where they tell nothing."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/gif" if data.startswith(b"GIF8") else "image/jpeg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `from_arguments` reads."""
    group = parser.add_argument_group("endpoint", "the secret of the endpoint is read from OPENAI_API_KEY")
    group.add_argument("--base-url", required=True, metavar="URL", help="for example http://127.0.0.1:8000/v1")
    group.add_argument("--model", required=True, metavar="NAME")
    group.add_argument("--store", type=Path, default=Path("replies.sqlite"), metavar="FILE", help="keeps every reply")
    group.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="sent along, for example temperature=0"
    )
    group.add_argument("--concurrency", type=int, default=8, metavar="N", help="requests at a time (%(default)s)")
    group.add_argument("--timeout", type=float, default=120, metavar="S", help="seconds for a reply (%(default)s)")
    group.add_argument("--retries", type=int, default=5, metavar="N", help="tries after the first (%(default)s)")
    group.add_argument("--max-requests", type=int, metavar="N", help="most requests of the model, over all runs")
    group.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of the model, over all runs")
    group.add_argument(
        "--prices", type=float, nargs=2, default=(0, 0), metavar=("SENT", "RECEIVED"), help="of a million tokens"
    )


def from_arguments(
    args: argparse.Namespace, kind: Literal["chat", "images"] = "chat", defaults: dict[str, Any] | None = None
) -> Endpoint:
    """The endpoint that the options of `add_arguments` name; `defaults` are parameters that options may replace."""
    return Endpoint(
        args.base_url,
        args.model,
        args.store,
        api_key=os.environ.get("OPENAI_API_KEY"),
        parameters=(defaults or {}) | dict(map(_parse_parameter, args.parameter)),
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
        raise ValueError(f"expected --parameter NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


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


def _read_body(kind: str, outcome: _Outcome) -> None:
    """Find text (or a picture) and the count of tokens in a reply's body; set `final` where it is a reply at all."""
    try:
        value = json.loads(outcome.body or "")
        usage = value.get("usage")
        outcome.prompt_tokens = _find_count(usage, "prompt_tokens", "input_tokens")
        outcome.completion_tokens = _find_count(usage, "completion_tokens", "output_tokens")
        if kind == "images":
            outcome.text = value["data"][0]["b64_json"]
        else:
            choice = value["choices"][0]
            outcome.text = choice["message"].get("content")
            if choice["message"].get("refusal") or (
                not outcome.text and choice.get("finish_reason") == "content_filter"
            ):
                outcome.text, outcome.failure, outcome.final = None, "refusal", True
                return
    except RecursionError:
        outcome.failure = "reply that is not JSON"
    except ValueError:
        outcome.failure = "reply that is not JSON"
    except IndexError:
        outcome.failure = "reply without a choice"
    except (KeyError, TypeError, AttributeError):
        outcome.failure = "reply of another shape"
    else:
        outcome.failure = None if isinstance(outcome.text, str) else "reply without text"
        outcome.final = outcome.failure is None
    if not outcome.final:
        outcome.text = None


def _find_count(usage: Any, *names: str) -> int | None:
    found = next((usage[name] for name in names if name in usage), None) if isinstance(usage, dict) else None
    return found if isinstance(found, int) else None


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

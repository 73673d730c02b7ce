# SPDX-License-Identifier: Apache-2.0
"""Send many requests concurrently, with retries and a budget; replies come from the store first.

After a killed run, the next one sends only those requests again that were in flight.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm import tqdm

from mmrel_kit.endpoint.client import Sender
from mmrel_kit.endpoint.replies import (
    CUT_OFF,
    Outcome,
    Reply,
    Request,
    Store,
    Usage,
    read_body,
    replace_surrogates,
)
from mmrel_kit.files import InputError

MAX_WAIT = 600.0  # seconds; a request whose Retry-After is longer has failed
# Seconds before the second try and before later ones, if the endpoint sends no Retry-After.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
MAX_FAILURES_IN_A_ROW = 20  # then the endpoint is considered down, and the run stops
# A status that concerns one request; the endpoint itself works. 401 or 404 concern all requests.
SINGLE_REQUEST_STATUSES = frozenset((200, 400, 413, 422))


class Budget(NamedTuple):
    """Limits for one model at one endpoint, over all runs that share a store; None: no limit."""

    requests: int | None = None
    tokens: int | None = None


class Prices(NamedTuple):
    """Prices of a million tokens sent and of a million received, in any currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, usage: Usage) -> float:
        """Return the cost of the tokens."""
        sent = self.prompt * usage.prompt_tokens
        return (sent + self.completion * usage.completion_tokens) / 1e6


class Endpoint:
    """Sends requests to one model of an endpoint, several at a time.

    Retries are made here rather than by the openai client. The client's retries would neither
    count against the budget nor get a row in the store before they are sent; a Retry-After would
    delay one request instead of all, and one above two minutes would be a failure; and a stopped
    run would have to wait for the client's sleeping threads.

    Args:
        base_url: for example http://127.0.0.1:8000/v1; credentials and a query in it are sent, but
            never stored.
        model: name of the model.
        store: SQLite file for the replies; created if missing.
        api_key: secret of the endpoint; never stored, even if a reply repeats it.
        parameters: more fields of the request's body (temperature, max_tokens, response_format …).
        kind: `chat` for text about a picture, `images` for pictures from text.
        concurrency: maximum number of requests in flight.
        timeout: seconds for a complete reply.
        retries: tries after the first one if the endpoint is busy or unreachable.
        budget: maximum numbers of requests and tokens.
        prices: prices of tokens, for the report.

    Attributes:
        url: base_url without credentials, query and last slash; identifies the endpoint in the
            store.
        stop_reason: why the run ended before the last request, or None.
        usage: requests and tokens of this run; `store.usage(url, model)` returns those of all runs.
        from_store: number of replies read from the store.
        failures: number of requests without text, by reason; includes replies from the store.
        cut_off: number of replies that reached the token limit; includes replies from the store.

    Raises:
        InputError: a setting or the store is invalid.
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
                "expected concurrency >= 1, timeout > 0 and retries >= 0, "
                f"got {concurrency}, {timeout}, {retries}"
            )
        self.model, self.parameters, self.kind = model, parameters or {}, kind
        self.concurrency, self.retries = concurrency, retries
        self.budget, self.prices = budget, prices
        self.sender = Sender(
            base_url, model, kind=kind, parameters=self.parameters, api_key=api_key, timeout=timeout
        )
        self.url = self.sender.url
        self.path, self.store = store, Store(store)
        self.stop_reason: str | None = None
        self.usage = Usage()
        self.from_store = self.cut_off = 0
        self.failures: Counter[str] = Counter()
        self._received = 0  # replies of this run
        self._earlier_usage = self.store.usage(self.url, model)
        self._changed = threading.Condition()  # guards the fields that threads of the pool change
        self._closing = threading.Event()
        self._not_before = 0.0  # time.monotonic() before which no request is sent
        self._in_flight = 0
        self._largest_reply = 0  # tokens, including those of its prompt
        self._failures_in_a_row = 0
        self._is_reached = self._is_working = self._has_warned = False
        self._messages: dict[str, str] = {}  # the endpoint's first message for each failure
        self._last_failure = Outcome()
        self._bar: tqdm[Any] | None = None

    def close(self) -> None:
        """Close the connections and the store."""
        self._close_bar()
        self.sender.close()
        self.store.close()

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Send requests and yield replies as they arrive; replies in the store are not sent again.

        `requests` is read only as fast as requests can be sent, so pictures can be loaded lazily.
        If a budget is spent or the endpoint is down, `stop_reason` is set, the requests in flight
        are completed, and afterwards only replies from the store are yielded.
        """
        iterator = iter(requests)
        in_flight = set[Future[Reply | None]]()
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                while True:
                    while len(in_flight) < self.concurrency:
                        request = next(iterator, None)
                        if request is None:
                            break
                        stored = self.find_reply(request)
                        if stored:
                            yield stored
                        elif not self.stop_reason:
                            in_flight.add(pool.submit(self._send_with_retries, request))
                    if not in_flight:
                        break
                    done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
                    for future in done:
                        reply = future.result()
                        if reply:
                            yield self._count(reply)
            finally:
                self._closing.set()  # no retries from here on; requests in flight are completed
        if self._received and not self._is_working and not self.stop_reason:
            event = f"none of {self._received} requests was answered"
            self.stop_reason = self._format_stop(event, self._last_failure)

    def find_reply(self, request: Request) -> Reply | None:
        """Return the reply that the store has for a request, and count it; None if it has none."""
        body = self.store.find(self.make_key(request))
        if body is None:
            return None
        outcome = Outcome(body=body)
        read_body(self.kind, outcome)
        return self._count(outcome.make_reply(request, from_store=True))

    def make_key(self, request: Request) -> str:
        """Return the store's key of a request: a hash of everything that its reply depends on."""
        picture = request.picture.sha256 if request.picture else None
        target = [self.kind, self.url, self.model, self.parameters]
        parts = [*target, picture, request.prompt, request.repeat]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def answers(self) -> int:
        """Return the number of replies with text, of this run and from the store."""
        return self.from_store + self._received - self.failures.total()

    def _count(self, reply: Reply) -> Reply:
        if reply.from_store:
            self.from_store += 1
        else:
            self._received += 1
        if reply.failure is not None:
            self.failures[reply.failure] += 1
        if reply.finish_reason == CUT_OFF:
            self.cut_off += 1
        return reply

    # --- Progress and report ---

    def show_progress(self, total: int | None = None) -> None:
        """Update the progress bar on a terminal; call it after each reply."""
        if self._bar is None:
            self._bar = tqdm(
                total=total, initial=self.from_store, unit=" replies", disable=None, leave=False
            )
        notes = [self._format_cost(self.usage) or f"{self.usage.tokens} tokens"]
        if self.failures:
            notes.insert(0, f"{self.failures.total()} failed")
        self._bar.set_postfix_str(", ".join(notes), refresh=False)
        self._bar.update(self.from_store + self._received - self._bar.n)

    def format_report(self, total: int | None = None) -> str:
        """Return the report of the run: answers, failures by reason, requests, tokens, cost.

        Args:
            total: number of requests of a complete run, if known.
        """
        self._close_bar()
        lines = [self._format_answers(total)]
        for reason, count in self.failures.most_common():
            message = self._messages.get(reason)
            lines.append(f"  {count} x {reason}: {message}" if message else f"  {count} x {reason}")
        lines.append(self._format_usage("this run", self.usage))
        lines.append(self._format_usage("all runs", self.store.usage(self.url, self.model)))
        return "\n".join(lines)

    def format_stored_replies(self) -> str | None:
        """Return a line about the replies in the store; None if there are none."""
        count = self.store.count(self.url, self.model)
        if not count:
            return None
        path = replace_surrogates(str(self.path))
        return (
            f"{count} replies of {self.model!r} at {self.url} are in {path} (asked before); "
            "none of them is asked again"
        )

    def _format_answers(self, total: int | None) -> str:
        failed = self.failures.total()
        line = f"{self.answers} answered, {failed} failed"
        if total is not None:
            line = f"{self.answers} of {total} answered, {failed} failed"
            left = total - self.answers - failed
            if left > 0:
                line += f", {left} not asked"
        if self.cut_off:
            line += f", {self.cut_off} cut off at the limit of tokens"
        if self.from_store:
            line += f" ({self.from_store} replies kept from before)"
        return line

    def _format_usage(self, name: str, usage: Usage) -> str:
        tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens (sent + received)"
        line = f"{name}: {usage.requests} requests, {tokens}"
        cost = self._format_cost(usage)
        if cost:
            line += f", {cost}"
        if usage.unmetered:
            line += f"; {usage.unmetered} replies without a count"
        return line

    def _format_cost(self, usage: Usage) -> str | None:
        return f"cost {self.prices.cost(usage):.4f}" if any(self.prices) else None

    def _format_stop(self, event: str, last: Outcome) -> str:
        return f"{event}, the last with: {_format_failure(last)}; the endpoint is {self.url}"

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    # --- One request, in a thread of the pool ---

    def _send_with_retries(self, request: Request) -> Reply | None:
        """Send a request, and again after a transient failure.

        Returns:
            The reply; None if the request was not sent, or is left to the next run.
        """
        key, parameters = self.make_key(request), json.dumps(self.parameters, sort_keys=True)
        outcome = None
        for attempt in range(self.retries + 1):
            if attempt and not self._wait_before_retry(outcome, attempt):
                break
            if not self._reserve():
                return None
            row = self.store.begin(key, request, self.url, self.model, parameters)
            outcome = self.sender.send(request)
            self.store.finish(row, outcome)
            self._release(outcome)
            if self._stop_if_never_reached(outcome):
                return None
            if not outcome.transient:
                break
        if outcome is None or (outcome.transient and self._closing.is_set()):
            return None
        self._record_failure(outcome)
        return outcome.make_reply(request, from_store=False)

    def _wait_before_retry(self, outcome: Outcome | None, attempt: int) -> bool:
        """Wait; return False if the wait would be too long, or the run ends."""
        if outcome and outcome.wait is not None:
            if outcome.wait > MAX_WAIT:
                return False
            with self._changed:  # a Retry-After holds for all requests
                self._not_before = max(self._not_before, time.monotonic() + outcome.wait)
            return not self._closing.is_set()
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
        return not self._closing.wait(longest * random.uniform(0.5, 1))

    def _reserve(self) -> bool:
        """Take a request from the budget; return False if it is spent, or the run ends."""
        while True:
            left = self._not_before - time.monotonic()
            if left <= 0:
                break
            if self._closing.wait(left):
                return False
        with self._changed:
            # Requests in flight may turn out smaller than the tokens reserved for them.
            while self._in_flight and self._find_limit(self._in_flight + 1):
                if self.stop_reason:
                    break
                self._changed.wait()
            if self.stop_reason or self._closing.is_set():
                return False
            limit = self._find_limit(1)
            if limit:
                self.stop_reason = f"the budget of {limit} is spent; raise it to continue"
                return False
            self._in_flight += 1
            self.usage = self.usage._replace(requests=self.usage.requests + 1)
            return True

    def _find_limit(self, in_flight: int) -> str | None:
        """Return the limit that this number of requests in flight might exceed, or None.

        Each of them is assumed to be as large as the largest reply so far.
        """
        requests, tokens = self.budget
        sent = self._earlier_usage.requests + self.usage.requests
        if requests is not None and sent >= requests:
            return f"{requests} requests"
        reserved = self._largest_reply
        max_tokens = self.parameters.get("max_tokens")
        if not reserved and isinstance(max_tokens, int):
            reserved = max_tokens
        used = self._earlier_usage.tokens + self.usage.tokens
        if tokens is not None and used + in_flight * max(1, reserved) > tokens:
            return f"{tokens} tokens"
        return None

    def _release(self, outcome: Outcome) -> None:
        """Count a completed request."""
        sent, received = outcome.prompt_tokens or 0, outcome.completion_tokens or 0
        is_unmetered = outcome.final and outcome.prompt_tokens is None
        with self._changed:
            self._in_flight -= 1
            self._is_reached |= outcome.status is not None
            self._is_working |= outcome.status in SINGLE_REQUEST_STATUSES
            self._warn_once(outcome)
            self._largest_reply = max(self._largest_reply, sent + received)
            self.usage = Usage(
                self.usage.requests,
                self.usage.prompt_tokens + sent,
                self.usage.completion_tokens + received,
                self.usage.unmetered + is_unmetered,
            )
            self._changed.notify_all()

    def _warn_once(self, outcome: Outcome) -> None:
        """Print at the first failure that the request is retried, which may take minutes."""
        is_over = self._closing.is_set() or self.stop_reason is not None
        is_known = outcome.unreachable or self._is_working or self._has_warned
        if not outcome.transient or is_over or is_known:
            return
        self._has_warned = True
        line = f"{self.url} does not answer yet ({_format_failure(outcome)}); trying again"
        tqdm.write(line, file=sys.stderr)

    def _stop_if_never_reached(self, outcome: Outcome) -> bool:
        """Stop the run if none of its requests ever got a connection; retry a later outage."""
        with self._changed:
            if self._is_reached or not outcome.unreachable:
                return False
            if not self.stop_reason:
                reason = outcome.message or outcome.failure
                self.stop_reason = (
                    f"{self.url} cannot be reached: {reason}; start it, or correct --base-url"
                )
            self._changed.notify_all()
            return True

    def _record_failure(self, outcome: Outcome) -> None:
        """Record a failure for the report; stop the run after too many in a row."""
        with self._changed:
            if outcome.failure:
                self._last_failure = outcome
            if outcome.failure and outcome.message:
                self._messages.setdefault(outcome.failure, outcome.message)
            self._failures_in_a_row = 0 if outcome.final else self._failures_in_a_row + 1
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW and not self.stop_reason:
                event = f"{MAX_FAILURES_IN_A_ROW} requests in a row failed"
                self.stop_reason = self._format_stop(event, outcome)


def _format_failure(outcome: Outcome) -> str:
    """Return a failure with the message of the endpoint or the network, if there is one."""
    return f"{outcome.failure}: {outcome.message}" if outcome.message else str(outcome.failure)

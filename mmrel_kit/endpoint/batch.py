# SPDX-License-Identifier: Apache-2.0
"""Ask many requests at a time: from the store or the endpoint, with retries, within a budget.

A run that is killed goes on where it stop_reason: only the requests that were in flight are sent again.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tqdm import tqdm

from mmrel_kit.endpoint.client import Sender
from mmrel_kit.endpoint.replies import (
    CUT_OFF,
    Outcome,
    Reply,
    Store,
    Usage,
    read_body,
    replace_surrogates,
)
from mmrel_kit.files import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mmrel_kit.endpoint.replies import Request

MAX_WAIT = 600.0  # seconds that an endpoint may ask us to wait; beyond that the request has failed
# Seconds before the second try, and at most, where the endpoint names none.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
FAILURES_IN_A_ROW = 20  # after so many the endpoint is taken to be down, and the run stops
# The endpoint works, but may refuse this one request. 401, 404 and the like are the same for all.
ABOUT_ONE_REQUEST = frozenset((200, 400, 413, 422))


class Budget(NamedTuple):
    """Limits for one model at one endpoint, over all runs of a store; None: no limit."""

    requests: int | None = None
    tokens: int | None = None


class Prices(NamedTuple):
    """Price of a million tokens, sent and received, in any currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, usage: Usage) -> float:
        """Return the price of what was used."""
        sent = self.prompt * usage.prompt_tokens
        return (sent + self.completion * usage.completion_tokens) / 1e6


class Endpoint:
    """Asks one model of an endpoint, several requests at a time.

    Retries are made here and not by the openai client, since there each try would not count
    against the budget, nor have its row in the store before it is sent; a Retry-After would hold
    back one request instead of all, and one of more than two minutes would be a failure; and a run
    that is stopped would wait for the client's sleeping threads.

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
        stop_reason: why asking ended before all was asked, or None.
        usage: what this run used; `store.usage(url, model)` returns that of all runs.
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
            wanted = "expected concurrency >= 1, timeout > 0 and retries >= 0"
            raise InputError(f"{wanted}, got {concurrency}, {timeout}, {retries}")
        self.model, self.parameters, self.kind = model, parameters or {}, kind
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries
        self.budget, self.prices = budget, prices
        self.sender = Sender(
            base_url, model, kind=kind, parameters=self.parameters, api_key=api_key, timeout=timeout
        )
        self.url = self.sender.url
        self.path, self.store = store, Store(store)
        self.stop_reason: str | None = None
        self.usage = Usage()
        self.from_store = self.answered = self.cut_off = 0
        self.failures: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._not_before = 0.0
        self._in_flight = self._largest = self._failed_in_a_row = 0
        self._before = self.store.usage(self.url, model)
        self._is_reached = self._is_working = self._has_warned = False
        self._came = 0
        self._messages: dict[str, str] = {}
        self._last_failure = Outcome()
        self._bar: tqdm[Any] | None = None

    def close(self) -> None:
        """Close the connections and the store."""
        self._close_bar()
        self.sender.close()
        self.store.close()

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Ask, and yield replies in the order of their coming; those of the store cost nothing.

        No more requests are drawn than can be in flight, so pictures can be read when needed.
        Where a budget is spent or the endpoint is down, what is in flight is awaited and kept; then
        `stop_reason` says why, and only replies from the store are yielded.
        """
        todo, waiting = iter(requests), set[Future[Reply | None]]()
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                while True:
                    while len(waiting) < self.concurrency:
                        request = next(todo, None)
                        if request is None:
                            break
                        if kept := self.find_reply(request):
                            yield kept
                        elif not self.stop_reason:
                            waiting.add(pool.submit(self._ask, request))
                    if not waiting:
                        break
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        if reply := future.result():
                            yield self._count(reply)
            finally:
                self._closing.set()  # no new tries; what is in flight is awaited and kept
        if self._came and not self._is_working and not self.stop_reason:
            what = f"none of {self._came} requests was answered"
            self.stop_reason = self._describe_stop(what, self._last_failure)

    def find_reply(self, request: Request) -> Reply | None:
        """Return the reply from the store, and count it; None where there is none."""
        body = self.store.find(self.make_key(request))
        if body is None:
            return None
        outcome = Outcome(body=body)
        read_body(self.kind, outcome)
        return self._count(outcome.make_reply(request, from_store=True))

    def make_key(self, request: Request) -> str:
        """Return the store's key of a request: a hash of all that its reply depends on."""
        picture = request.picture.sha256 if request.picture else None
        asked_of = [self.url, self.model, self.parameters]
        parts = [self.kind, *asked_of, picture, request.prompt, request.repeat]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    # --- What was asked, as text ---

    def show_progress(self, total: int | None = None) -> None:
        """Show how far the run is, on a terminal; call it after each reply."""
        if self._bar is None:
            self._bar = tqdm(
                total=total, initial=self.from_store, unit=" replies", disable=None, leave=False
            )
        notes = [f"{self.failures.total()} failed"] if self.failures else []
        notes.append(self._describe_cost(self.usage) or f"{self.usage.tokens} tokens")
        self._bar.set_postfix_str(", ".join(notes), refresh=False)
        self._bar.update(self.from_store + self._came - self._bar.n)

    def format_report(self, total: int | None = None) -> str:
        """Return the report of the run: answers, failures by reason, requests, tokens, cost.

        Args:
            total: number of requests that were to be sent, where it is known.
        """
        self._close_bar()
        lines = [self._describe_answers(total)]
        for reason, count in self.failures.most_common():
            said = self._messages.get(reason)
            lines.append(f"  {count} x {reason}{f': {said}' if said else ''}")
        all_runs = self.store.usage(self.url, self.model)
        for name, usage in (("this run", self.usage), ("all runs", all_runs)):
            tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens (sent + received)"
            line = f"{name}: {usage.requests} requests, {tokens}"
            if cost := self._describe_cost(usage):
                line += f", {cost}"
            if usage.unmetered:
                line += f"; {usage.unmetered} replies without a count"
            lines.append(line)
        return "\n".join(lines)

    def format_stored_replies(self) -> str | None:
        """Return a line about the replies in the store; None where it holds none."""
        count = self.store.count(self.url, self.model)
        if not count:
            return None
        path = replace_surrogates(str(self.path))
        kept = f"{count} replies of {self.model!r} at {self.url} are in {path} (asked before)"
        return f"{kept}; none of them is asked again"

    @property
    def answers(self) -> int:
        """Number of replies with text, of this run and from the store."""
        return self.from_store + self._came - self.failures.total()

    def _describe_answers(self, total: int | None) -> str:
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

    def _describe_cost(self, usage: Usage) -> str | None:
        return f"cost {self.prices.cost(usage):.4f}" if any(self.prices) else None

    def _describe_stop(self, what: str, last: Outcome) -> str:
        said = f": {last.message}" if last.message else ""
        return f"{what}, the last with: {last.failure}{said}; the endpoint is {self.url}"

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _count(self, reply: Reply) -> Reply:
        if reply.from_store:
            self.from_store += 1
        else:
            self._came += 1
            self.answered += reply.failure is None
        if reply.failure is not None:
            self.failures[reply.failure] += 1
        self.cut_off += reply.finish_reason == CUT_OFF
        return reply

    # --- One request, in a thread of its own ---

    def _ask(self, request: Request) -> Reply | None:
        """Send a request, again where that may help.

        Returns:
            The reply; None where the request was not sent or is given up for now.
        """
        key, parameters = self.make_key(request), json.dumps(self.parameters, sort_keys=True)
        outcome = None
        for attempt in range(self.retries + 1):
            if attempt and not self._pause(outcome, attempt):
                break
            if not self._start():
                return None
            row = self.store.begin(key, request, self.url, self.model, parameters)
            outcome = self.sender.send(request)
            self.store.finish(row, outcome)
            self._end(outcome)
            if self._is_never_reached(outcome):
                return None
            if not outcome.transient:
                break
        if outcome is None or (outcome.transient and self._closing.is_set()):
            return None
        self._note_result(outcome)
        return outcome.make_reply(request, from_store=False)

    def _pause(self, outcome: Outcome | None, attempt: int) -> bool:
        """Wait before another try; return False where that takes too long, or the run ends."""
        if outcome and outcome.wait is not None:
            if outcome.wait > MAX_WAIT:
                return False
            with self._changed:  # the endpoint is busy for everyone
                self._not_before = max(self._not_before, time.monotonic() + outcome.wait)
            return not self._closing.is_set()
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
        return not self._closing.wait(longest * random.uniform(0.5, 1))

    def _start(self) -> bool:
        """Take a request from the budget; return False where it is spent, or the run ends."""
        while (left := self._not_before - time.monotonic()) > 0:
            if self._closing.wait(left):
                return False
        with self._changed:
            while (
                self._in_flight and self._find_short(self._in_flight + 1) and not self.stop_reason
            ):
                self._changed.wait()  # what is in flight may be smaller than was reserved for it
            if self.stop_reason or self._closing.is_set():
                return False
            if short := self._find_short(1):
                self.stop_reason = f"the budget of {short} is spent; raise it to go on"
                return False
            self._in_flight += 1
            self.usage = self.usage._replace(requests=self.usage.requests + 1)
            return True

    def _find_short(self, in_flight: int) -> str | None:
        """Return the budget that so many requests in flight would overdraw, or None.

        Each is taken to be as large as the largest reply so far.
        """
        requests, tokens = self.budget
        if requests is not None and self._before.requests + self.usage.requests >= requests:
            return f"{requests} requests"
        stated = self.parameters.get("max_tokens")
        largest = max(1, self._largest or (stated if isinstance(stated, int) else 0))
        used = self._before.tokens + self.usage.tokens
        if tokens is not None and used + in_flight * largest > tokens:
            return f"{tokens} tokens"
        return None

    def _end(self, outcome: Outcome) -> None:
        sent, received = outcome.prompt_tokens or 0, outcome.completion_tokens or 0
        with self._changed:
            self._in_flight -= 1
            self._is_reached |= outcome.status is not None
            self._is_working |= outcome.status in ABOUT_ONE_REQUEST
            self._warn_once(outcome)
            self._largest = max(self._largest, sent + received)
            self.usage = Usage(
                self.usage.requests,
                self.usage.prompt_tokens + sent,
                self.usage.completion_tokens + received,
                self.usage.unmetered + (outcome.final and outcome.prompt_tokens is None),
            )
            self._changed.notify_all()

    def _warn_once(self, outcome: Outcome) -> None:
        """Say at the first failure that the endpoint is tried again, which may take minutes."""
        is_over = self._closing.is_set() or self.stop_reason is not None
        is_known = outcome.unreachable or self._is_working or self._has_warned
        if not outcome.transient or is_over or is_known:
            return
        self._has_warned = True
        said = f": {outcome.message}" if outcome.message else ""
        line = f"{self.url} does not answer yet ({outcome.failure}{said}); trying again"
        tqdm.write(line, file=sys.stderr)

    def _is_never_reached(self, outcome: Outcome) -> bool:
        """Stop the run where no request of it was ever connected; a later outage is retried."""
        with self._changed:
            if self._is_reached or not outcome.unreachable:
                return False
            if not self.stop_reason:
                reason = outcome.message or outcome.failure
                advice = "start it, or correct --base-url"
                self.stop_reason = f"{self.url} cannot be reached: {reason}; {advice}"
            self._changed.notify_all()
            return True

    def _note_result(self, outcome: Outcome) -> None:
        with self._changed:
            if outcome.failure:
                self._last_failure = outcome
            if outcome.failure and outcome.message:
                self._messages.setdefault(outcome.failure, outcome.message)
            self._failed_in_a_row = 0 if outcome.final else self._failed_in_a_row + 1
            if self._failed_in_a_row >= FAILURES_IN_A_ROW and not self.stop_reason:
                what = f"{FAILURES_IN_A_ROW} requests in a row failed"
                self.stop_reason = self._describe_stop(what, outcome)

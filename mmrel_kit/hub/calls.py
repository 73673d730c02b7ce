# SPDX-License-Identifier: Apache-2.0
"""Hub calls with time-outs, retries and readable errors.

huggingface_hub gives its API calls no time-out, and repeats few of them after a fault. `bounded`
adds the time-outs, `call_with_retries` the repeats, and `raise_hub_error` turns what is left into one of two
exceptions, whose message says what was being done, what came back and what to do. No message and
no log line carries the token or a signed address.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from mmrel_kit.failures import (
    FAILURES,
    TRANSPORT_ERRORS,
    clean,
    describe,
    httpx,
    status_of,
)

try:
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory
except ImportError:
    pass  # huggingface_hub < 1.0 uses requests and cannot be given time-outs; `bounded` refuses it

T = TypeVar("T")

PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
NO_ROOM_STATUS = frozenset({413, 507})
_NO_ROOM_WORDS = re.compile(r"quota|storage (limit|exceeded)|out of (space|storage)", re.IGNORECASE)
REFUSED_STATUS = frozenset({400, 401, 403, 404, 413, 422, 507})  # nothing was done, for certain
CONNECT_TIMEOUT = 10.0  # seconds; a host that takes longer is not there
_HTTP_LOGGERS = ("huggingface_hub.utils._http", "httpx", "httpx2")
_logger = logging.getLogger(__name__)


class HubError(ConnectionError):
    """The Hub could not be brought to do what was asked."""


class ConflictError(HubError):
    """Somebody else changed the repository, or a tag names another revision."""


class Step(NamedTuple):
    """One kind of call, for messages.

    Attributes:
        doing: what it does.
        needs: the permission that it needs.
        then: what to do when it failed.
    """

    doing: str
    needs: str
    then: str = "try again later"


READ = "read access to the repository"
_NAMESPACE = "for a fine-grained token: of that namespace's repositories"
WRITE = f"write access to the contents of the repository ({_NAMESPACE})"
WHOAMI = Step("asking whom the token belongs to", WRITE)
LOOK = Step("looking at the repository", READ)
CREATE = Step(
    "creating the repository",
    "the right to create repositories in that namespace (role write)",
)
SEND = Step("sending the files", WRITE)
COMMIT = Step(
    "committing the release",
    WRITE,
    "nothing is published unless the Hub finishes late; push again, it looks first",
)
TAG = Step("tagging the release", WRITE, "push again to tag it")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait for the Hub.

    Attributes:
        tries: how often a call is made before it counts as failed, at least 1.
        first_wait: seconds between the first two tries; each further wait is twice as long.
        longest_wait: seconds; if the Hub asks for a longer wait (`Retry-After`), the call fails.
        timeout: seconds that a call may be silent: sending a piece, or waiting for one.
    """

    tries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 300.0
    timeout: float = 120.0


RETRY_POLICY = RetryPolicy()


class _Cleaner(logging.Filter):
    """Cleans what the HTTP client logs; it names whole addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = clean(record.getMessage()), ()
        return True


@contextmanager
def hub_session(timeout: float) -> Iterator[None]:
    """Give all calls of huggingface_hub a time-out and clean logs while the block runs.

    Its progress bars are shown on a terminal alone.

    Raises:
        HubError: huggingface_hub is too old to be given time-outs.
    """
    if httpx is None:
        advice = "pip install -U huggingface_hub"
        raise HubError(f"this needs huggingface_hub 1.0 or later: {advice}")

    def make_client() -> Any:
        client = default_client_factory()
        client.timeout = httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))
        return client

    cleaner = _Cleaner()
    loggers = [logging.getLogger(name) for name in _HTTP_LOGGERS]
    for logger in loggers:
        logger.addFilter(cleaner)
    set_client_factory(make_client)
    try:
        with _limited_bars():
            yield
    finally:
        set_client_factory(default_client_factory)
        for logger in loggers:
            logger.removeFilter(cleaner)


@contextmanager
def _limited_bars() -> Iterator[None]:
    """Turn progress bars off while the block runs, unless standard error is a terminal."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if is_terminal or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def call_with_retries(
    step: Step,
    call: Callable[[], T],
    repo_id: str,
    policy: RetryPolicy,
    find: Callable[[], T | None] | None = None,
) -> T:
    """Make a call until it succeeds, is refused, or has been tried often enough.

    Args:
        step: what the call is for.
        call: the call; safe to repeat, or made so by `find`.
        repo_id: the repository, for messages.
        policy: how often and how long.
        find: called after every failure that leaves doubt, since a call whose answer was lost may
            have worked; returns what the call would have returned, or None if it left no trace.

    Returns:
        What `call` or `find` returned.

    Raises:
        HubError: the call failed for good; its message is one sentence.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return call()
        except HubError:
            raise
        except FAILURES as error:
            failure: BaseException = error
        if find and status_of(failure) not in REFUSED_STATUS:
            result = find()
            if result is not None:
                return result
        wait = max(_asked_wait(failure), policy.first_wait * 2 ** (tries - 1))
        is_last = tries >= policy.tries or wait > policy.longest_wait
        if is_last or not is_transient(failure):
            raise_hub_error(step, failure, repo_id, tries, policy)
        _logger.info("%s: %s; trying again in %g s", step.doing, describe(failure), wait)
        time.sleep(wait)


def list_files(api: HfApi, repo_id: str, revision: str) -> dict[str, Any]:
    """Return what the Hub knows of each file at a revision: `size`, `blob_id`, `lfs` or None."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset")
    return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}


def raise_hub_error(
    step: Step,
    failure: BaseException,
    repo_id: str,
    tries: int,
    policy: RetryPolicy,
) -> NoReturn:
    """Raise the exception that says in one sentence what failed.

    The failure itself is left out of the chain: its text may name signed addresses, or repeat what
    a server said.

    Raises:
        HubError: always.
    """
    what = describe(failure, policy.timeout)
    start = f"{step.doing} failed for {repo_id}: {what}"
    advice = _advise(step, failure, what)
    if advice:
        raise HubError(f"{start}: {advice}") from None
    asked = _asked_wait(failure)
    if asked > policy.longest_wait:
        raise HubError(f"{start}, and asks to wait {asked:g} s; try again after that") from None
    raise HubError(f"{start} ({tries} {'try' if tries == 1 else 'tries'}); {step.then}") from None


def _advise(step: Step, failure: BaseException, what: str) -> str | None:
    """Return why an answer refuses a call, and what to do; None if it does not."""
    status = status_of(failure)
    may_mean_quota = status in (None, 400, 403) and _NO_ROOM_WORDS.search(what)
    if status in NO_ROOM_STATUS or may_mean_quota:
        return "there is no room for it; free space or raise the quota of the namespace"
    if status == 401:
        login = f"log in with `hf auth login` or set HF_TOKEN to one with {step.needs}"
        return f"the token is missing, mistyped or expired; {login}"
    if status == 403:
        return f"the token lacks {step.needs}"
    if status == 404:
        return f"there is no such repository or revision, or the token lacks {READ}"
    return None


def is_transient(failure: BaseException) -> bool:
    """Return whether the same call may work a little later."""
    status = status_of(failure)
    if status is not None:
        return status in PASSING_STATUS or _is_expired_address(failure)
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else None
    failure = cause or failure
    if isinstance(failure, OfflineModeIsEnabled):
        return False
    passing = (ConnectionError, TimeoutError, json.JSONDecodeError, *TRANSPORT_ERRORS)
    return isinstance(failure, passing)


def _is_expired_address(failure: BaseException) -> bool:
    """Return whether the file store refused a signed address; the next try is given a new one."""
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else None
    if not isinstance(cause, HfHubHTTPError) or cause.response.status_code != 403:
        return False
    return bool(cause.response.request.method == "PUT")


def _asked_wait(failure: BaseException) -> float:
    """Return the seconds that the Hub asks to wait, 0 when it does not say.

    It is one more than asked, as its clock may round.
    """
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else failure
    if not isinstance(cause, HfHubHTTPError):
        return 0.0
    headers = cause.response.headers
    asked = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After") or "")
    limit = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("RateLimit") or "")
    found = asked or (limit if cause.response.status_code == 429 else None)
    return float(found[1]) + 1 if found else 0.0

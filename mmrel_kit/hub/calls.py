# SPDX-License-Identifier: Apache-2.0
"""Hub calls with time-outs, retries and readable errors.

huggingface_hub gives its API calls no time-out, and retries few of them. `hub_session` adds
time-outs, and `call_with_retries` adds retries and turns the last failure into a `HubError`, whose
message gives the step, the answer of the Hub and what to do. No message and no log line contains
the token or a signed address.
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
from huggingface_hub.errors import (
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from mmrel_kit.failures import FAILURES, TRANSPORT_ERRORS, describe, find_status, httpx, redact

try:
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory
except ImportError:
    pass  # huggingface_hub < 1.0 uses requests, without time-outs; `hub_session` refuses it

T = TypeVar("T")

TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
STORAGE_FULL_STATUS = frozenset({413, 507})
_STORAGE_FULL_WORDS = re.compile(r"quota|storage (limit|exceeded)|out of (space|storage)", re.I)
# The call certainly changed nothing.
REFUSED_STATUS = frozenset({400, 401, 403, 404, 413, 422, 507})
CONNECT_TIMEOUT = 10.0  # seconds; a host that takes longer is taken for unreachable
_HTTP_LOGGERS = ("huggingface_hub.utils._http", "httpx", "httpx2")
_logger = logging.getLogger(__name__)


class HubError(ConnectionError):
    """A call to the Hub failed."""


class ConflictError(HubError):
    """Somebody else changed the repository, or a tag points to another revision."""


class Step(NamedTuple):
    """A kind of call, the permission that it needs, and advice if it fails, for error messages."""

    action: str
    permission: str
    advice: str = "try again later"


READ = "read access to the repository"
WRITE = (
    "write access to the contents of the repository "
    "(for a fine-grained token: of that namespace's repositories)"
)
CREATE_REPOSITORIES = "the right to create repositories in that namespace (role write)"
WHOAMI = Step("asking whom the token belongs to", WRITE)
LOOK = Step("looking at the repository", READ)
CREATE = Step("creating the repository", CREATE_REPOSITORIES)
SEND = Step("sending the files", WRITE)
COMMIT = Step(
    "committing the release",
    WRITE,
    "nothing is published unless the Hub finishes late; push again, it looks first",
)
TAG = Step("tagging the release", WRITE, "push again to tag it")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Time-out and retries of calls to the Hub.

    Attributes:
        tries: number of attempts before a call fails, at least 1.
        first_wait: seconds between the first two attempts; each further wait is twice as long.
        longest_wait: seconds; if the Hub asks for a longer wait (`Retry-After`), the call fails.
        timeout: seconds without progress in sending or receiving after which an attempt fails.
    """

    tries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 300.0
    timeout: float = 120.0


RETRY_POLICY = RetryPolicy()


class _Cleaner(logging.Filter):
    """Removes secrets from log lines of the HTTP client, which contain whole addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


@contextmanager
def hub_session(timeout: float) -> Iterator[None]:
    """Give calls of huggingface_hub in the block a time-out, and remove secrets from its logs.

    Its progress bars are shown only on a terminal.

    Raises:
        HubError: huggingface_hub is too old for time-outs.
    """
    if httpx is None:
        raise HubError("this needs huggingface_hub 1.0 or later: pip install -U huggingface_hub")

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
        with _bars_only_on_terminal():
            yield
    finally:
        set_client_factory(default_client_factory)
        for logger in loggers:
            logger.removeFilter(cleaner)


@contextmanager
def _bars_only_on_terminal() -> Iterator[None]:
    """Turn off progress bars in the block, unless standard error is a terminal."""
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
    find_result: Callable[[], T | None] | None = None,
) -> T:
    """Repeat a call until it succeeds, is refused, or has used up its attempts.

    Args:
        step: the kind of call.
        call: the call; must be safe to repeat, if only thanks to `find_result`.
        repo_id: the repository, for messages.
        policy: time-out and retries.
        find_result: called after a failure that may hide a success, because its answer was lost;
            returns the result of the call, or None if it changed nothing.

    Returns:
        The result of `call` or `find_result`.

    Raises:
        HubError: the call failed; the message is one sentence.
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
        if find_result and find_status(failure) not in REFUSED_STATUS:
            result = find_result()
            if result is not None:
                return result
        backoff = policy.first_wait * 2 ** (tries - 1)
        wait = max(_read_retry_after(failure), backoff)
        is_last = tries >= policy.tries or wait > policy.longest_wait
        if is_last or not is_transient(failure):
            raise_hub_error(step, failure, repo_id, tries, policy)
        _logger.info("%s: %s; trying again in %g s", step.action, describe(failure), wait)
        time.sleep(wait)


def find_info(api: HfApi, repo_id: str, revision: str) -> Any:
    """Return the metadata of a revision; None if it or the repository does not exist."""
    try:
        return api.dataset_info(repo_id, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None


def list_files(api: HfApi, repo_id: str, revision: str) -> dict[str, Any]:
    """Return the metadata of each file at a revision: `size`, `blob_id`, and `lfs` or None."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset")
    return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}


def raise_hub_error(
    step: Step, failure: BaseException, repo_id: str, tries: int, policy: RetryPolicy
) -> NoReturn:
    """Raise a `HubError` that describes a failure in one sentence.

    The failure itself is not chained, because its text may contain signed addresses or a long
    answer of the server.

    Raises:
        HubError: always.
    """
    answer = describe(failure, policy.timeout)
    start = f"{step.action} failed for {repo_id}: {answer}"
    refusal = _explain_refusal(step, failure, answer)
    if refusal:
        raise HubError(f"{start}: {refusal}") from None
    retry_after = _read_retry_after(failure)
    if retry_after > policy.longest_wait:
        raise HubError(
            f"{start}, and asks to wait {retry_after:g} s; try again after that"
        ) from None
    counted = "1 try" if tries == 1 else f"{tries} tries"
    raise HubError(f"{start} ({counted}); {step.advice}") from None


def _explain_refusal(step: Step, failure: BaseException, answer: str) -> str | None:
    """Return the reason for a refusal, and what to do; None if the failure is no refusal."""
    status = find_status(failure)
    may_mean_quota = status in (None, 400, 403) and _STORAGE_FULL_WORDS.search(answer)
    if status in STORAGE_FULL_STATUS or may_mean_quota:
        return "there is no room for the files; free space or raise the quota of the namespace"
    if status == 401:
        return (
            "the token is missing, mistyped or expired; log in with `hf auth login` or set "
            f"HF_TOKEN to one with {step.permission}"
        )
    if status == 403:
        return f"the token lacks {step.permission}"
    if status == 404:
        return f"there is no such repository or revision, or the token lacks {READ}"
    return None


def is_transient(failure: BaseException) -> bool:
    """Return whether the same call may succeed a little later."""
    status = find_status(failure)
    if status is not None:
        return status in TRANSIENT_STATUS or _is_expired_address(failure)
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else None
    failure = cause or failure
    if isinstance(failure, OfflineModeIsEnabled):
        return False
    transient = (ConnectionError, TimeoutError, json.JSONDecodeError, *TRANSPORT_ERRORS)
    return isinstance(failure, transient)


def _is_expired_address(failure: BaseException) -> bool:
    """Return whether the file store refused a signed address; the next attempt gets a new one."""
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else None
    if not isinstance(cause, HfHubHTTPError) or cause.response.status_code != 403:
        return False
    return bool(cause.response.request.method == "PUT")


def _read_retry_after(failure: BaseException) -> float:
    """Return the seconds that the Hub asks to wait, 0 if it does not ask.

    One second is added, because the Hub may round down.
    """
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else failure
    if not isinstance(cause, HfHubHTTPError):
        return 0.0
    headers = cause.response.headers
    match = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After") or "")
    if not match and cause.response.status_code == 429:
        # No requests remain (r=0) for t seconds.
        rate_limit = headers.get("RateLimit") or ""
        match = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", rate_limit)
    return float(match[1]) + 1 if match else 0.0

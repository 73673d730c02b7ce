# SPDX-License-Identifier: Apache-2.0
"""Calls to the Hub that end well, or in one sentence.

huggingface_hub gives its API calls no time-out, and repeats few of them after a fault.
`bounded` adds the time-outs, `insist` the repeats, and `explain` turns what is left into one of two exceptions whose
message says what was being done, what came back and what to do. No message and no log line carries the token or a
signed address.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeVar

import huggingface_hub.utils
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

try:
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory
except ImportError:
    pass  # huggingface_hub < 1.0 speaks through requests and cannot be given time-outs; `bounded` refuses it

T = TypeVar("T")

httpx: Any = getattr(huggingface_hub.utils, "httpx", None)  # httpx2 from huggingface_hub 2 on; None before 1.0
_TRANSPORT_ERRORS: tuple[type[Exception], ...] = (httpx.TransportError,) if httpx else ()

PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
NO_ROOM_STATUS = frozenset({413, 507})
_NO_ROOM_WORDS = re.compile(r"quota|storage (limit|exceeded)|out of (space|storage)", re.IGNORECASE)
REFUSED_STATUS = frozenset({400, 401, 403, 404, 413, 422, 507})  # nothing was done, for certain
# What huggingface_hub and hf_xet raise: answers and broken connections, a file that could not be sent (RuntimeError
# around the cause), an answer that cannot be read (ValueError, KeyError), hf_xet's own (ConnectionError).
FAILURES: tuple[type[Exception], ...] = (
    *(HfHubHTTPError, OSError, RuntimeError, ValueError, KeyError),
    *_TRANSPORT_ERRORS,
)
MAX_LINE = 300  # characters of a server's own message; one line for each of a thousand files helps nobody
CONNECT_TIMEOUT = 10.0  # seconds; a host that takes longer is not there
_HTTP_LOGGERS = ("huggingface_hub.utils._http", "httpx", "httpx2")


class HubError(ConnectionError):
    """The Hub could not be brought to do what was asked."""


class ConflictError(HubError):
    """Somebody else changed the repository, or a tag stands elsewhere."""


class Step(NamedTuple):
    """One kind of call, for messages: what it does, the permission that it needs, and what to do when it failed."""

    doing: str
    needs: str
    then: str = "try again later"


READ = "read access to the repository"
WRITE = "write access to the contents of the repository (for a fine-grained token: of that namespace's repositories)"
WHOAMI = Step("asking whom the token belongs to", WRITE)
LOOK = Step("looking at the repository", READ)
CREATE = Step("creating the repository", "the right to create repositories in that namespace (role write)")
SEND = Step("sending the files", WRITE)
COMMIT = Step(
    "committing the release", WRITE, "nothing is published unless the Hub finishes late; push again, it looks first"
)
TAG = Step("tagging the release", WRITE, "push again to tag it")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the Hub.

    Attributes:
        tries: How often a call is made before it counts as failed, at least 1.
        first_wait: Seconds between the first two tries; each further wait is twice as long.
        longest_wait: Seconds; a Hub that asks for a longer wait (`Retry-After`) is reported instead.
        timeout: Seconds that a call may be silent: sending a piece, or waiting for a piece of the answer.
    """

    tries: int = 6
    first_wait: float = 1.0
    longest_wait: float = 300.0
    timeout: float = 120.0


PATIENCE = Patience()


def clean(text: str) -> str:
    """Return text without tokens and without the query (the signature) of any address."""
    token = get_token()
    text = text.replace(token, "<token>") if token else text
    text = re.sub(r"\bhf_\w{8,}", "<token>", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1?…", text)


class _Cleaner(logging.Filter):
    """Cleans what the HTTP client logs; it names whole addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = clean(record.getMessage()), ()
        return True


@contextmanager
def bounded(timeout: float) -> Iterator[None]:
    """Give all calls of huggingface_hub a time-out, and clean logs, while the block runs.

    Raises:
        HubError: huggingface_hub is too old to be given time-outs.
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
        yield
    finally:
        set_client_factory(default_client_factory)
        for logger in loggers:
            logger.removeFilter(cleaner)


def insist(
    step: Step,
    call: Callable[[], T],
    repo_id: str,
    patience: Patience,
    found: Callable[[], T | None] | None = None,
) -> T:
    """Make a call until it succeeds, is refused, or has been tried often enough.

    Args:
        step: What the call is for.
        call: The call; safe to repeat, or made so by `found`.
        repo_id: The repository, for messages.
        patience: How often and how long.
        found: Asked after every failure that leaves doubt, since a call whose answer was lost may have worked: what
            the call would have returned, or None if it left no trace.

    Returns:
        What `call` or `found` returned.

    Raises:
        HubError: The call failed for good; its message is one sentence.
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
        result = found() if found and status_of(failure) not in REFUSED_STATUS else None
        if result is not None:
            return result
        wait = max(_asked_wait(failure), patience.first_wait * 2 ** (tries - 1))
        if not is_passing(failure) or tries >= patience.tries or wait > patience.longest_wait:
            explain(step, failure, repo_id, tries, patience)
        logging.getLogger(__name__).info("%s: %s; trying again in %g s", step.doing, describe(failure), wait)
        time.sleep(wait)


def list_files(api: HfApi, repo_id: str, revision: str) -> dict[str, Any]:
    """What the Hub knows of each file at a revision: `size`, `blob_id`, and `lfs` when it is an LFS file."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset")
    return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}


def explain(step: Step, failure: BaseException, repo_id: str, tries: int, patience: Patience) -> NoReturn:
    """Raise the exception that says in one sentence what failed.

    The failure itself is left out of the chain: its text may name signed addresses, or repeat what a server said.
    """
    status, what = status_of(failure), describe(failure, patience.timeout)
    start = f"{step.doing} failed for {repo_id}: {what}"
    if status in NO_ROOM_STATUS or (status in (None, 400, 403) and _NO_ROOM_WORDS.search(what)):
        raise HubError(f"{start}: there is no room for it; free space or raise the quota of the namespace") from None
    if status == 401:
        raise HubError(
            f"{start}: the token is missing, mistyped or expired; log in with `hf auth login` or set HF_TOKEN to one "
            f"with {step.needs}"
        ) from None
    if status == 403:
        raise HubError(f"{start}: the token lacks {step.needs}") from None
    if status == 404:
        raise HubError(f"{start}: there is no such repository or revision, or the token lacks {READ}") from None
    asked = _asked_wait(failure)
    if asked > patience.longest_wait:
        raise HubError(f"{start}, and asks to wait {asked:g} s; try again after that") from None
    raise HubError(f"{start} ({tries} {'try' if tries == 1 else 'tries'}); {step.then}") from None


def is_passing(failure: BaseException) -> bool:
    """Whether the same call may work a little later."""
    status = status_of(failure)
    if status is not None:
        return status in PASSING_STATUS or _is_expired_address(failure)
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else None
    failure = cause or failure
    if isinstance(failure, OfflineModeIsEnabled):
        return False
    return isinstance(failure, (ConnectionError, TimeoutError, json.JSONDecodeError, *_TRANSPORT_ERRORS))


def status_of(failure: BaseException) -> int | None:
    """The HTTP status behind a failure, or None when no answer came."""
    if isinstance(failure, HfHubHTTPError):
        return int(failure.response.status_code)
    if isinstance(failure, RuntimeError) and failure.__cause__:  # "Error while uploading FILE", from the answer
        return status_of(failure.__cause__)
    told = re.search(r"HTTP status \w+ error \((\d{3}) |\b(?:code|status)\W+(\d{3})\b", str(failure))  # hf_xet
    return int(told[1] or told[2]) if told else None


def describe(failure: BaseException, timeout: float | None = None) -> str:
    """What came back, in a few words on one line."""
    if isinstance(failure, RuntimeError) and failure.__cause__:
        return f"{_line(str(failure))}: {describe(failure.__cause__, timeout)}"
    if isinstance(failure, HfHubHTTPError):
        message = getattr(failure, "server_message", None) or failure.response.reason_phrase
        return f"the answer was {failure.response.status_code} ({_line(message)})"
    status = status_of(failure)
    if status:
        return f"the answer was {status}"
    if httpx and isinstance(failure, httpx.TimeoutException):
        return f"no answer within {timeout:g} s" if timeout else "no answer in time"
    if isinstance(failure, (json.JSONDecodeError, KeyError)):
        return "the answer could not be read"
    if isinstance(failure, _TRANSPORT_ERRORS):
        return f"the connection broke ({_line(str(failure)) or type(failure).__name__})"
    return _line(str(failure)) or type(failure).__name__


def _line(text: str) -> str:
    """Text cleaned, on one line of bounded length, without a full stop."""
    line = clean(" ".join(text.split())).rstrip(".")
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} …"


def _is_expired_address(failure: BaseException) -> bool:
    """Whether the file store refused a signed address; the next try is given a new one."""
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else None
    if not isinstance(cause, HfHubHTTPError) or cause.response.status_code != 403:
        return False
    return bool(cause.response.request.method == "PUT")


def _asked_wait(failure: BaseException) -> float:
    """Seconds that the Hub asks to wait, 0 when it does not say; one more than asked, as its clock may round."""
    cause = failure.__cause__ if isinstance(failure, RuntimeError) else failure
    if not isinstance(cause, HfHubHTTPError):
        return 0.0
    headers = cause.response.headers
    asked = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After") or "")
    limit = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("RateLimit") or "")
    told = asked or (limit if cause.response.status_code == 429 else None)
    return float(told[1]) + 1 if told else 0.0

# SPDX-License-Identifier: Apache-2.0
"""Describe exceptions of the Hub's client in one line, without secrets."""

from __future__ import annotations

import json
import re
from typing import Any

import huggingface_hub.utils
from huggingface_hub import get_token
from huggingface_hub.errors import HfHubHTTPError

# httpx2 from huggingface_hub 2 on; None before 1.0.
httpx: Any = getattr(huggingface_hub.utils, "httpx", None)
TRANSPORT_ERRORS: tuple[type[Exception], ...] = (httpx.TransportError,) if httpx else ()
_HTTP_ERRORS: tuple[type[Exception], ...] = (httpx.HTTPError,) if httpx else ()
# What huggingface_hub and hf_xet raise: HfHubHTTPError for a response with an error status, OSError
# for the network (hf_xet's ConnectionError too), RuntimeError around the cause of a failed upload,
# ValueError and KeyError for a response that cannot be parsed.
FAILURES: tuple[type[Exception], ...] = (
    *(HfHubHTTPError, OSError, RuntimeError, ValueError, KeyError),
    *_HTTP_ERRORS,
)
_XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3}) |\b(?:code|status)\W+(\d{3})\b")
MAX_LINE = 300  # characters; a server's message may list a thousand files


def redact(text: str) -> str:
    """Remove access tokens, and the query of every URL, which may be a signature.

    >>> redact("403 for https://files.example/a.png?X-Amz-Signature=5ec4e7")
    '403 for https://files.example/a.png?…'
    """
    token = get_token()
    text = text.replace(token, "<token>") if token else text
    text = re.sub(r"\bhf_\w{8,}", "<token>", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1?…", text)


def find_status(failure: BaseException) -> int | None:
    """Return the HTTP status behind a failure, or None if there was no response."""
    if isinstance(failure, HfHubHTTPError):
        return int(failure.response.status_code)
    # "Error while uploading FILE", raised from the failed request.
    if isinstance(failure, RuntimeError) and failure.__cause__:
        return find_status(failure.__cause__)
    match = _XET_STATUS.search(str(failure))
    return int(match[1] or match[2]) if match else None


def describe(failure: BaseException, timeout: float | None = None) -> str:
    """Describe one of `FAILURES` in a few words on one line; `timeout` is in seconds, if known."""
    if isinstance(failure, RuntimeError) and failure.__cause__:
        return f"{_line(str(failure))}: {describe(failure.__cause__, timeout)}"
    if isinstance(failure, HfHubHTTPError):
        # Before huggingface_hub 1, the response is that of requests.
        response: Any = failure.response
        phrase = getattr(response, "reason_phrase", None) or getattr(response, "reason", "")
        message = getattr(failure, "server_message", None) or phrase
        return f"the answer was {failure.response.status_code} ({_line(str(message))})"
    status = find_status(failure)
    if status:
        return f"the answer was {status}"
    if httpx and isinstance(failure, httpx.TimeoutException):
        return f"no answer within {timeout:g} s" if timeout else "no answer in time"
    if isinstance(failure, (json.JSONDecodeError, KeyError)):
        return "the answer could not be read"
    if isinstance(failure, TRANSPORT_ERRORS):
        return f"the connection broke ({_line(str(failure)) or type(failure).__name__})"
    return _line(str(failure)) or type(failure).__name__


def _line(text: str) -> str:
    """Return redacted text on one line of bounded length, without a full stop."""
    line = redact(" ".join(text.split())).rstrip(".")
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} …"

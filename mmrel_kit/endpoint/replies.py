# SPDX-License-Identifier: Apache-2.0
"""Requests to an endpoint and the raw replies to them, kept in an SQLite file.

There is one row for each HTTP request, written before it is sent and filled in when its reply has
come. A reply is kept under its endpoint, model, parameters, picture and prompt: endpoints never mix.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import sqlite3
import threading
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.files import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEPT_OF_FAILURE = 4096  # characters of a failed reply that are kept
REASONING = ("reasoning_content", "reasoning")  # where vLLM, SGLang and OpenRouter put it
CUT_OFF = "length"  # the finish_reason of a reply that reached the limit of tokens
MAX_COUNT = 1 << 53  # tokens of a reply; JSON can hold integers that SQLite cannot
_TABLES = """
create table if not exists requests (
    id integer primary key, key text not null, endpoint text not null, picture text,
    prompt text not null, model text not null, parameters text not null, repeat integer not null,
    sent_at text not null, seconds real, status integer, body text, failure text,
    final integer not null default 0, prompt_tokens integer, completion_tokens integer
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
        picture: sent before the text; None sends the text alone.
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
        text: what the model said (a picture in base64 where one was asked for), or None.
        failure: why there is no text, or None.
        from_store: it was in the store; nothing was sent.
        finish_reason: why the model stopped, as the endpoint says (`length`: cut off), or None.
        reasoning: the reasoning before the answer, where the endpoint returns it, or None.
    """

    request: Request
    text: str | None
    failure: str | None
    from_store: bool
    finish_reason: str | None = None
    reasoning: str | None = None


class Usage(NamedTuple):
    """What was sent and what it took by the endpoint's count.

    Attributes:
        requests: HTTP requests, failed ones included.
        prompt_tokens: tokens sent.
        completion_tokens: tokens received.
        unmetered: answers without a count of tokens.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.prompt_tokens + self.completion_tokens


@dataclasses.dataclass(slots=True)
class Outcome:
    """Result of one HTTP request.

    Attributes:
        text: what the model said, or None.
        failure: why there is no text, or None.
        message: message of the endpoint or the network about a failure.
        final: the request is not sent again.
        transient: the request is sent again at once.
        unreachable: no connection could be made.
        finish_reason: see `Reply`.
        reasoning: see `Reply`.
        status: of the HTTP reply, or None.
        body: of the HTTP reply, or None.
        wait: seconds to wait that the endpoint asks for, or None.
        seconds: how long it took.
        prompt_tokens: the endpoint's count, or None.
        completion_tokens: the endpoint's count, or None.
    """

    text: str | None = None
    failure: str | None = None
    message: str | None = None
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

    def make_reply(self, request: Request, from_store: bool) -> Reply:
        """Return the outcome as the reply to a request."""
        return Reply(
            request=request,
            text=self.text,
            failure=self.failure,
            from_store=from_store,
            finish_reason=self.finish_reason,
            reasoning=self.reasoning,
        )


class Store:
    """The requests of all runs with their raw replies, in an SQLite file; shared by threads.

    Args:
        path: the file; made where it is missing.

    Raises:
        InputError: the file is another database, or a store of an earlier version.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(
                path, check_same_thread=False, isolation_level=None, timeout=30
            )
            self._check()
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")  # a killed process loses nothing
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

    def find(self, key: str) -> str | None:
        """Return the raw body of a final reply, or None where none is kept."""
        query = "select body from requests where key = ? and final"
        with self._lock:
            row = self._db.execute(query, (key,)).fetchone()
        return str(row[0]) if row else None

    def count(self, url: str, model: str) -> int:
        """Return the number of final replies of a model at an endpoint."""
        query = "select count(*) from requests where endpoint = ? and model = ? and final"
        with self._lock:
            row = self._db.execute(query, (url, model)).fetchone()
        return int(row[0])

    def begin(self, key: str, request: Request, url: str, model: str, parameters: str) -> int:
        """Note that a request is about to be sent, and return its row."""
        picture = request.picture.sha256 if request.picture else None
        prompt = replace_surrogates(request.prompt)
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with self._lock:
            cursor = self._db.execute(
                "insert into requests (key, endpoint, picture, prompt, model, parameters, repeat, "
                "sent_at) values (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, url, picture, prompt, model, parameters, request.repeat, now),
            )
        return int(cursor.lastrowid or 0)

    def finish(self, row: int, outcome: Outcome) -> None:
        """Note what a request brought."""
        body = outcome.body
        if body and not outcome.final:
            body = body[:KEPT_OF_FAILURE]
        tokens = (outcome.prompt_tokens, outcome.completion_tokens)
        result = (outcome.seconds, outcome.status, body, outcome.failure, outcome.final)
        with self._lock:
            self._db.execute(
                "update requests set seconds = ?, status = ?, body = ?, failure = ?, final = ?, "
                "prompt_tokens = ?, completion_tokens = ? where id = ?",
                (*result, *tokens, row),
            )

    def usage(self, url: str, model: str) -> Usage:
        """Return what all runs used of a model at an endpoint."""
        with self._lock:
            row = self._db.execute(
                "select count(*), coalesce(sum(prompt_tokens), 0), "
                "coalesce(sum(completion_tokens), 0), "
                "coalesce(sum(final and prompt_tokens is null), 0) from requests "
                "where endpoint = ? and model = ?",
                (url, model),
            ).fetchone()
        return Usage(*row)


def read_reply_texts(path: Path) -> Iterator[str]:
    """Yield the text of every final reply that a store keeps; the file is not written to.

    Raises:
        InputError: the file is not a store of replies.
    """
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(db):
            for (body,) in db.execute("select body from requests where final"):
                outcome = Outcome(body=body)
                read_body("chat", outcome)
                if outcome.text is not None:
                    yield outcome.text
    except sqlite3.Error as error:
        raise InputError(f"{path}: expected a store of replies: {error}") from None


def read_body(kind: str, outcome: Outcome) -> None:
    """Fill in an outcome from its body: text or why there is none, and the count of tokens.

    Args:
        kind: `chat`, or `images` for a picture in base64.
        outcome: `final` is set where the body is a whole reply.
    """
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


def media_type(data: bytes) -> str:
    """Return the media type of a picture by its first bytes; image/jpeg if they are not known."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/gif" if data.startswith(b"GIF8") else "image/jpeg"


def replace_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, which cannot be encoded, by the replacement character."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _read_choice(choice: dict[str, Any], outcome: Outcome) -> None:
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
        outcome.text = replace_surrogates(text)


def _find_text(value: dict[str, Any], *names: str) -> str | None:
    found = next((value[name] for name in names if value.get(name)), None)
    return replace_surrogates(found) if isinstance(found, str) else None


def _find_count(usage: Any, *names: str) -> int | None:
    if not isinstance(usage, dict):
        return None
    found = next((usage[name] for name in names if name in usage), None)
    is_count = isinstance(found, int) and 0 <= found < MAX_COUNT
    return found if is_count else None

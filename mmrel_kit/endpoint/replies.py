# SPDX-License-Identifier: Apache-2.0
"""Store requests to an endpoint and their raw replies in an SQLite file.

Each HTTP request has a row, inserted before the request is sent and updated when its reply
arrives. The key of a reply covers endpoint, model, parameters, picture and prompt, so replies of
different endpoints never mix.
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
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.files import InputError

MAX_FAILURE_BODY = 4096  # characters of a failed reply's body that are stored
REASONING_FIELDS = ("reasoning_content", "reasoning")  # of vLLM, SGLang and OpenRouter
CUT_OFF = "length"  # the finish_reason of a reply that reached the token limit
MAX_COUNT = 1 << 53  # tokens of a reply; JSON allows integers that SQLite cannot store

# One row per HTTP request; `final` marks replies that are never requested again.
_CREATE_TABLES = """
create table if not exists requests (
    id integer primary key, key text not null, endpoint text not null, picture text,
    prompt text not null, model text not null, parameters text not null, repeat integer not null,
    sent_at text not null, seconds real, status integer, body text, failure text,
    final integer not null default 0, prompt_tokens integer, completion_tokens integer
);
create index if not exists by_key on requests (key, final);
"""
# Which tables does the file have?
_LIST_TABLES = "select name from sqlite_master where type = 'table'"
# Which columns does its table of requests have?
_LIST_COLUMNS = "select name from pragma_table_info('requests')"
# What is the raw body of the final reply with this key?
_FIND_BODY = "select body from requests where key = ? and final"
# How many final replies are there of a model at an endpoint?
_COUNT_REPLIES = "select count(*) from requests where endpoint = ? and model = ? and final"
# A request that is about to be sent.
_INSERT_REQUEST = """
insert into requests (key, endpoint, picture, prompt, model, parameters, repeat, sent_at)
values (?, ?, ?, ?, ?, ?, ?, ?)
"""
# The outcome of that request.
_UPDATE_REQUEST = """
update requests set seconds = ?, status = ?, body = ?, failure = ?, final = ?,
    prompt_tokens = ?, completion_tokens = ? where id = ?
"""
# How many requests and tokens did all runs use of a model at an endpoint?
_SUM_USAGE = """
select count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
    coalesce(sum(final and prompt_tokens is null), 0)
from requests where endpoint = ? and model = ?
"""
# The raw bodies of all final replies, of any model.
_LIST_BODIES = "select body from requests where final"


class Attachment:
    """A picture to send. It is hashed and encoded once, even when many requests share it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def sha256(self) -> str:
        """Return the hash of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def url(self) -> str:
        """Return the bytes as a data URL."""
        return f"data:{media_type(self.data)};base64,{base64.b64encode(self.data).decode()}"


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A prompt for the model, with or without a picture.

    Attributes:
        id: chosen by the caller, to match replies to requests.
        prompt: text to send.
        picture: sent before the text; None sends only the text.
        repeat: 0, 1, … to send the same prompt several times.
    """

    id: str
    prompt: str
    picture: Attachment | None = None
    repeat: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request, or the reason why there is none.

    Attributes:
        text: the model's answer (for `images`, a picture in base64), or None.
        failure: why there is no text, or None.
        from_store: True if the reply was read from the store and nothing was sent.
        finish_reason: the endpoint's reason for the end of the text (`length`: cut off), or None.
        reasoning: reasoning that precedes the answer, if the endpoint returns any, or None.
    """

    request: Request
    text: str | None
    failure: str | None
    from_store: bool
    finish_reason: str | None = None
    reasoning: str | None = None


class Usage(NamedTuple):
    """Numbers of requests and tokens, as the endpoint counts tokens.

    Attributes:
        requests: HTTP requests, including failed ones.
        prompt_tokens: tokens sent.
        completion_tokens: tokens received.
        unmetered: answers without a token count.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0

    @property
    def tokens(self) -> int:
        """Return the number of tokens sent and received."""
        return self.prompt_tokens + self.completion_tokens


@dataclasses.dataclass(slots=True)
class Outcome:
    """Result of one HTTP request; for text, failure, finish_reason and reasoning see `Reply`.

    Attributes:
        message: error message of the endpoint or the network, or None.
        final: the reply is complete and is never requested again.
        transient: the request is worth retrying in this run.
        unreachable: no connection could be opened.
        wait: value of Retry-After in seconds, or None.
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
        reason, reasoning = self.finish_reason, self.reasoning
        return Reply(request, self.text, self.failure, from_store, reason, reasoning)


class Store:
    """The requests of all runs with their raw replies; threads may share it.

    The SQLite file is created if it is missing.

    Raises:
        InputError: the file is another database, or a store of an earlier version.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(
                path, check_same_thread=False, isolation_level=None, timeout=30
            )
            self._check_tables()
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")  # a killed process loses nothing
            self._db.executescript(_CREATE_TABLES)
        except sqlite3.Error as error:
            raise InputError(
                f"{path}: expected a store of replies, or a path for a new one: {error}"
            ) from None
        except InputError as error:
            self._db.close()
            raise InputError(f"{path}: {error}; name another --store") from None
        self._lock = threading.Lock()

    def _check_tables(self) -> None:
        """Refuse another database, and a store of a version that did not record the endpoint."""
        tables = self._db.execute(_LIST_TABLES).fetchall()
        columns = {name for (name,) in self._db.execute(_LIST_COLUMNS)}
        if tables and not columns:
            raise InputError("expected a store of replies, got another database")
        if columns and "endpoint" not in columns:
            raise InputError(
                "expected a store that names the endpoint of each reply, "
                "got one of an earlier version, which stays unchanged"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def find(self, key: str) -> str | None:
        """Return the raw body of the final reply with a key, or None."""
        with self._lock:
            row = self._db.execute(_FIND_BODY, (key,)).fetchone()
        return str(row[0]) if row else None

    def count(self, url: str, model: str) -> int:
        """Return the number of final replies of a model at an endpoint."""
        with self._lock:
            row = self._db.execute(_COUNT_REPLIES, (url, model)).fetchone()
        return int(row[0])

    def begin(self, key: str, request: Request, url: str, model: str, parameters: str) -> int:
        """Insert the row of a request that is about to be sent, and return the row's id."""
        picture = request.picture.sha256 if request.picture else None
        prompt = replace_surrogates(request.prompt)
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        row = (key, url, picture, prompt, model, parameters, request.repeat, now)
        with self._lock:
            cursor = self._db.execute(_INSERT_REQUEST, row)
        return int(cursor.lastrowid or 0)

    def finish(self, row: int, outcome: Outcome) -> None:
        """Write the outcome of a request into its row."""
        body = outcome.body
        if body and not outcome.final:
            body = body[:MAX_FAILURE_BODY]
        result = (outcome.seconds, outcome.status, body, outcome.failure, outcome.final)
        tokens = (outcome.prompt_tokens, outcome.completion_tokens)
        with self._lock:
            self._db.execute(_UPDATE_REQUEST, (*result, *tokens, row))

    def usage(self, url: str, model: str) -> Usage:
        """Return what all runs used of a model at an endpoint."""
        with self._lock:
            row = self._db.execute(_SUM_USAGE, (url, model)).fetchone()
        return Usage(*row)


def read_reply_texts(path: Path) -> Iterator[str]:
    """Yield the text of every final reply in a store, which is opened read-only.

    Raises:
        InputError: the file is not a store of replies.
    """
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(db):
            for (body,) in db.execute(_LIST_BODIES):
                outcome = Outcome(body=body)
                read_body("chat", outcome)
                if outcome.text is not None:
                    yield outcome.text
    except sqlite3.Error as error:
        raise InputError(f"{path}: expected a store of replies: {error}") from None


def read_body(kind: str, outcome: Outcome) -> None:
    """Parse an outcome's body: set its text or failure, its token counts, and `final`."""
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
    """Return the media type of a picture by its first bytes; image/jpeg if they are unknown."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/gif" if data.startswith(b"GIF8") else "image/jpeg"


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which cannot be encoded, by the replacement character."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _read_choice(choice: dict[str, Any], outcome: Outcome) -> None:
    """Set text, reasoning and finish_reason; a refusal or reasoning alone is a final failure."""
    message = choice["message"]
    outcome.finish_reason = _find_text(choice, "finish_reason")
    outcome.reasoning = _find_text(message, *REASONING_FIELDS)
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
    """Return the first of these fields that is set, if it is text."""
    text = next((value[name] for name in names if value.get(name)), None)
    return replace_surrogates(text) if isinstance(text, str) else None


def _find_count(usage: Any, *names: str) -> int | None:
    """Return the first of these fields of `usage`, if it is a valid count."""
    if not isinstance(usage, dict):
        return None
    count = next((usage[name] for name in names if name in usage), None)
    is_valid = isinstance(count, int) and 0 <= count < MAX_COUNT
    return count if is_valid else None

# SPDX-License-Identifier: Apache-2.0
"""Read JSON with file and line, write files atomically, compute checksums, format text.

Imports the standard library only.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

# The clone that contains this package, or the copy of the drawn sample in a wheel. Both have the
# layout of a release: README.md, checksums.json, data/, schema/.
_CLONE = Path(__file__).resolve().parent.parent
_SAMPLE = Path(__file__).resolve().parent / "sample"
IS_CLONE = not _SAMPLE.is_dir()
PROJECT = _CLONE if IS_CLONE else _SAMPLE
SCHEMA_FOLDER = PROJECT / "schema"
INDEX = "checksums.json"
# The schemas that are part of a release; schema/published.json is only part of this package.
SCHEMAS = ("schema/record.schema.json", "schema/taxonomy.json")

MAX_RECORD = 1 << 20  # characters of one JSON value of a file
MAX_PROBLEMS = 1000  # reading of a file stops after this many
MAX_LISTED_PROBLEMS = 10  # in one error message
CHUNK = 1 << 16  # bytes decoded at once
HASH_CHUNK = 1 << 20  # bytes hashed at once
_SPACE = " \t\r\n"
_UNPRINTABLE = re.compile(r"[^\n -~\u00a0-\ud7ff\ue000-\U0010ffff]")


class InputError(ValueError):
    """Invalid input from a user; the message says where, what was expected, what to do."""


class Problem(NamedTuple):
    """A problem in a file or a release; a release with warnings alone is valid."""

    where: str
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        line = f"{self.where}: {self.message}"
        return f"warning: {line}" if self.is_warning else line


class Value(NamedTuple):
    """A JSON value from a file; `where` is its file and line."""

    where: str
    value: Any


class Share(NamedTuple):
    """One of several parts of a job: `number`, from 1, of `total`."""

    number: int = 1
    total: int = 1

    def choose(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return every `total`th item, starting with the `number`th."""
        return items[self.number - 1 :: self.total]

    def holds(self, name: str) -> bool:
        """Return whether a name belongs to this share; its hash decides, on any machine alike."""
        hashed = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        return hashed % self.total == self.number - 1


# --- Problems ---


def make_problem(error: Exception) -> Problem:
    """Return the problem of an error whose message is `where: message`."""
    where, _, message = str(error).partition(": ")
    return Problem(where, message)


def raise_problems(problems: Sequence[Problem | str], total: int | None = None) -> None:
    """Raise an `InputError` that lists the first problems and counts all, if there are any.

    `total` is their number if `problems` has only the first of them.
    """
    if not problems:
        return
    total = len(problems) if total is None else total
    lines = [str(problem) for problem in problems[:MAX_LISTED_PROBLEMS]]
    if total > MAX_LISTED_PROBLEMS:
        lines.append(f"… {total} problems in all")
    raise InputError("\n".join(lines))


# --- JSON ---


def make_json(value: object) -> str:
    """Return a value as one line of JSON; letters beyond ASCII are not escaped."""
    return json.dumps(value, ensure_ascii=False)


def encode_json(value: object, where: str | Path) -> bytes:
    """Return a value as one line of JSON in UTF-8.

    Raises:
        InputError: a text has half of a surrogate pair, which UTF-8 cannot encode.
    """
    try:
        return make_json(value).encode()
    except UnicodeEncodeError as error:
        got = ascii(error.object)[:200]
        raise InputError(f"{where}: expected text that UTF-8 can hold, got {got}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class JsonRules(NamedTuple):
    """What a JSON file may contain.

    Attributes:
        longest: maximum length of a value, in characters.
        is_lines_only: require one value per line: no array, no empty line, no byte order mark.
        may_be_empty: accept a file without any value.
    """

    longest: int
    decoder: json.JSONDecoder
    is_lines_only: bool
    may_be_empty: bool


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant)
RECORD_RULES = JsonRules(MAX_RECORD, _STRICT, is_lines_only=False, may_be_empty=False)
RELEASE_RULES = JsonRules(MAX_RECORD, _STRICT, is_lines_only=True, may_be_empty=True)
# Other programs write answers, some with NaN or with a whole conversation in a row.
ANSWER_RULES = JsonRules(1 << 24, json.JSONDecoder(), is_lines_only=False, may_be_empty=True)


def parse_json(text: str, rules: JsonRules = RECORD_RULES) -> Any:
    """Parse one JSON value.

    Raises:
        ValueError: the text is too long, nested too deeply, or not JSON.
    """
    if len(text) > rules.longest:
        raise ValueError(f"a record has at most {rules.longest} characters")
    try:
        return rules.decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def scan_json(
    source: Path | BinaryIO, name: str | None = None, rules: JsonRules = RECORD_RULES
) -> Iterator[Value | Problem]:
    """Yield the JSON values of a file, one per line or the elements of one array, and problems.

    Memory stays constant. Reading continues after an invalid line, and ends at an invalid element
    of an array or at bytes that are not UTF-8.

    Args:
        source: a path, or an open binary file; UTF-8, with or without a byte order mark.
        name: the file's name in `where`; default: its path.
        rules: what the file may contain.

    Raises:
        OSError: the file cannot be opened or read.
    """
    if isinstance(source, Path):
        with open(source, "rb") as file:
            yield from scan_json(file, name or str(source), rules)
        return
    if rules.is_lines_only:
        yield from _scan_each_line(source, name or "standard input", rules)
        return
    text = _TextBuffer(source, name or "standard input", rules)
    try:
        first = text.skip_space()
        if not first and not rules.may_be_empty:
            yield Problem(f"{text.name}:1", "expected records, the file is empty")
        elif first == "[":
            yield from _scan_array(text)
        else:
            yield from _scan_lines(text)
    except UnicodeDecodeError as error:
        line = text.line + text.count_ahead() + error.object.count(b"\n", 0, error.start)
        byte = error.object[error.start]
        yield Problem(f"{text.name}:{line}", f"expected UTF-8, got byte 0x{byte:02x}")


def read_json(
    source: Path | BinaryIO, name: str | None = None, rules: JsonRules = RECORD_RULES
) -> Iterator[Value]:
    """Yield the JSON values of a file like `scan_json`, but raise at the first problem.

    Raises:
        InputError: a value cannot be read, or the file is empty.
        OSError: the file cannot be opened or read.
    """
    for value in scan_json(source, name, rules):
        if isinstance(value, Problem):
            raise InputError(str(value))
        yield value


def read_objects(
    source: Path | BinaryIO, name: str | None = None, rules: JsonRules = RECORD_RULES
) -> Iterator[Value]:
    """Yield the JSON objects of a file like `read_json`.

    Raises:
        InputError: see `read_json`, or a value is not an object.
        OSError: see `read_json`.
    """
    for where, value in read_json(source, name, rules):
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected a JSON object, got {make_json(value)[:80]}")
        yield Value(where, value)


class _TextBuffer:
    """A file's text from the current position on, and the line number there."""

    def __init__(self, file: BinaryIO, name: str, rules: JsonRules) -> None:
        self.name = name
        self.rules = rules
        self.line = 1
        self._file = file
        # Line ends become "\n"; str.splitlines would also split at separators in JSON strings.
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._buffer = ""
        self._at = 0
        self._has_ended = False

    def __len__(self) -> int:
        return len(self._buffer) - self._at

    def more(self) -> bool:
        """Decode the next chunk; return False at the end of the file."""
        if self._has_ended:
            return False
        chunk = self._file.read(CHUNK)
        self._has_ended = not chunk
        decoded = self._decoder.decode(chunk, final=self._has_ended)
        self._buffer = self._buffer[self._at :] + decoded
        self._at = 0
        return True

    def _double(self) -> bool:
        """Decode chunks until twice as much text is ahead; return False at the end of the file.

        So a long value is parsed a few times, not once per chunk.
        """
        wanted = 2 * len(self)
        has_more = self.more()
        while len(self) < wanted and self.more():
            pass
        return has_more

    def peek(self, count: int) -> str:
        """Return the next characters without moving past them."""
        return self._buffer[self._at : self._at + count]

    def take(self, count: int) -> str:
        """Return the next characters and move past them."""
        taken = self._buffer[self._at : self._at + count]
        self._at += len(taken)
        self.line += taken.count("\n")
        return taken

    def find_line_end(self) -> int:
        """Return the length of the next line with its end; 0 if that is not decoded yet."""
        end = self._buffer.find("\n", self._at)
        return end + 1 - self._at if end >= 0 else 0

    def count_ahead(self) -> int:
        """Return the number of line ends that are decoded and ahead."""
        return self._buffer.count("\n", self._at)

    def skip_space(self) -> str:
        """Move past white space; return the next character, or "" at the end."""
        while True:
            while self.peek(1) and self.peek(1) in _SPACE:
                self.take(1)
            if len(self) or not self.more():
                return self.peek(1)

    def decode_value(self) -> Any:
        """Parse the value at the current position and move past it."""
        while True:
            try:
                value, end = self.rules.decoder.raw_decode(self._buffer, self._at)
            except ValueError:
                if len(self) > self.rules.longest or not self._double():
                    raise
                continue
            # A number may continue in the next chunk.
            if end < len(self._buffer) or not self.more():
                self.take(end - self._at)
                return value


def _scan_lines(text: _TextBuffer) -> Iterator[Value | Problem]:
    problems = 0
    while problems < MAX_PROBLEMS:
        length = text.find_line_end()
        if not length and len(text) <= text.rules.longest and text.more():
            continue
        where = f"{text.name}:{text.line}"
        line = text.take(length or len(text))
        if not line:
            return
        if not line.strip():
            continue
        try:
            value = parse_json(line, text.rules)
        except ValueError as error:
            problems += 1
            got = f"{error}, got {line[:80].strip()!r}"
            yield Problem(where, f"expected one JSON object per line, or one array: {got}")
            if len(line) > text.rules.longest:
                return
            continue
        yield Value(where, value)


def _scan_each_line(file: BinaryIO, name: str, rules: JsonRules) -> Iterator[Value | Problem]:
    """Yield the value of each line; a line that is not UTF-8 does not affect the others."""
    longest = 4 * rules.longest  # bytes
    number = 0
    while line := file.readline(longest):
        number += 1
        where = f"{name}:{number}"
        try:
            value = parse_json(line.decode(), rules)
        except ValueError as error:
            got = f"{error}, got {line[:80]!r}"
            yield Problem(where, f"expected a JSON object in each line: {got}")
            if len(line) == longest:
                return
            continue
        yield Value(where, value)


def _scan_array(text: _TextBuffer) -> Iterator[Value | Problem]:
    text.take(1)
    following = text.skip_space()
    while following != "]":
        where = f"{text.name}:{text.line}"
        try:
            value = text.decode_value()
        except (ValueError, RecursionError) as error:
            reason = error if isinstance(error, ValueError) else "nested too deeply"
            yield Problem(where, f"expected a JSON array of objects: {reason}")
            return
        yield Value(where, value)
        following = text.skip_space()
        if following == ",":
            text.take(1)
            text.skip_space()
        elif following != "]":
            message = f"expected ',' or ']' after this element, got {text.peek(20)!r}"
            yield Problem(where, message)
            return
    text.take(1)
    if text.skip_space():
        got = text.peek(40).strip()
        yield Problem(text.name, f"expected nothing after the array, got {got!r}")


# --- Writing ---


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; move it to `path` if the block succeeds.

    So `path` has the old content or the new one, never a part of it, even if the process is killed.
    The folder of `path` is created. Links are followed. A special file such as `/dev/stdout` is
    written directly, because nothing can be moved there.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = make_temporary_path(target)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def fill_folder(folder: Path, is_shared: bool = False) -> Iterator[Path]:
    """Yield a temporary folder to fill; move it to `folder` if the block succeeds.

    The target must not exist, or be an empty folder. With `is_shared`, other processes write the
    same content, and the first folder is kept.

    Raises:
        OSError: `folder` has content, and is not shared.
    """
    temporary = make_temporary_path(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        try:
            os.rename(temporary, folder)
        except OSError:
            if not is_shared or not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_temporary_path(path: Path) -> Path:
    """Return a path beside a file or folder that no other process on any machine uses."""
    return path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")


def delete_leftovers(folder: Path) -> None:
    """Delete temporary files below a folder that killed processes of this machine have left."""
    name = re.compile(rf".+\.{re.escape(socket.gethostname())}-([0-9]{{1,9}})\.tmp")
    for path in folder.rglob("*.tmp"):
        match = name.fullmatch(path.name)
        if match and path.is_file() and not _is_running(int(match[1])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # where os.kill would end it
        return True
    try:
        os.kill(pid, 0)  # signal 0 is not sent
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a process of another user
    return True


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file with `write_atomically`."""
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)


def write_json_lines(path: Path, values: Iterable[Any]) -> int:
    """Write values as JSON lines with `write_atomically`; return their number.

    Raises:
        InputError: see `encode_json`.
    """
    count = 0
    with write_atomically(path) as temporary, open(temporary, "wb") as file:
        for value in values:
            file.write(encode_json(value, path) + b"\n")
            count += 1
    return count


# --- Checksums ---


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in chunks of bounded size."""
    with open(path, "rb") as file:
        while chunk := file.read(HASH_CHUNK):
            yield chunk


def describe_file(path: Path) -> dict[str, Any]:
    """Return a file's entry in checksums.json: `sha256` (hexadecimal) and `size` (bytes)."""
    digest = hashlib.sha256()
    for chunk in read_chunks(path):
        digest.update(chunk)
    return {"sha256": digest.hexdigest(), "size": path.stat().st_size}


# --- Text ---


def format_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Format rows as text in columns; the first `left` are aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            cells.append(cell.ljust(width) if number < left else cell.rjust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_markdown(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Format a table in Markdown; the first row is its head.

    `sides` has a letter for each column: "l" aligns it to the left, "r" to the right.
    """
    head, *others = rows
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *others))


def escape_markdown(text: str) -> str:
    """Escape all characters with a meaning in Markdown or HTML."""
    return "".join(f"&#{ord(mark)};" if mark in "<>&`*_[]|\\" else mark for mark in text)


def escape_unprintable(text: str) -> str:
    r"""Escape control characters and lone surrogates, but keep line ends.

    >>> escape_unprintable("a\x1b[2J\n\ud800")
    'a\\x1b[2J\n\\ud800'
    """
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)

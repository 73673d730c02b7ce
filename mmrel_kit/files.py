# SPDX-License-Identifier: Apache-2.0
"""Reads JSON from a file value by value, one record per line or one array, however large the file is."""

from __future__ import annotations

import codecs
import io
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

MAX_RECORD = 1 << 20  # characters of a record
MAX_PROBLEMS = 1000  # after which a file is read no further
CHUNK = 1 << 16
_SPACE = " \t\r\n"


class _Text:
    """The text of a file that has not been taken yet, decoded as it is needed, and the line where it begins."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # Line ends become "\n"; str.splitlines would also cut at separators that may stand inside a JSON string.
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
        self.buffer = ""
        self.line = 1
        self.ended = False

    def more(self) -> bool:
        """Decode the next chunk; false at the end of the file."""
        if self.ended:
            return False
        chunk = self._file.read(CHUNK)
        self.ended = not chunk
        self.buffer += self._decoder.decode(chunk, final=self.ended)
        return True

    def take(self, count: int) -> str:
        """The next `count` characters."""
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        self.line += taken.count("\n")
        return taken

    def skip_space(self) -> str:
        """Pass over space; the character that follows, or nothing at the end."""
        while True:
            self.take(len(self.buffer) - len(self.buffer.lstrip(_SPACE)))
            if self.buffer or not self.more():
                return self.buffer[:1]


def read_values(path: Path, problems: list[str]) -> Iterator[tuple[str, Any]]:
    """The JSON values of a file, lines or elements of one array, each with `file:line`, in constant memory.

    Args:
        path: a file in UTF-8, with or without a byte order mark, with any line ends.
        problems: what cannot be read is added to it, with file and line.
    """
    with open(path, "rb") as file:
        text = _Text(file)
        try:
            first = text.skip_space()
            if not first:
                problems.append(f"{path}:1: expected records, the file is empty")
            elif first == "[":
                yield from _read_array(path, text, problems)
            else:
                yield from _read_lines(path, text, problems)
        except UnicodeDecodeError as error:
            line = text.line + text.buffer.count("\n") + error.object.count(b"\n", 0, error.start)
            problems.append(f"{path}:{line}: expected UTF-8, got byte 0x{error.object[error.start]:02x}")


def parse_json(text: str) -> Any:
    """Parse one JSON value.

    Raises:
        ValueError: it is too long, nested too deeply, or not JSON.
    """
    if len(text) > MAX_RECORD:
        raise ValueError(f"a record has at most {MAX_RECORD} characters")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _read_lines(path: Path, text: _Text, problems: list[str]) -> Iterator[tuple[str, Any]]:
    while len(problems) < MAX_PROBLEMS:
        end = text.buffer.find("\n")
        if end < 0 and len(text.buffer) <= MAX_RECORD and text.more():
            continue
        number, line = text.line, text.take(end + 1 if end >= 0 else len(text.buffer))
        if not line:
            return
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except ValueError as error:
            problems.append(
                f"{path}:{number}: expected one JSON object per line, or one array: {error}, got {line[:80].strip()!r}"
            )
            if len(line) > MAX_RECORD:
                return
            continue
        yield f"{path}:{number}", value


def _read_array(path: Path, text: _Text, problems: list[str]) -> Iterator[tuple[str, Any]]:
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    text.take(1)
    following = text.skip_space()
    while following != "]":
        line = text.line
        try:
            value, end = _decode(decoder, text)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{line}: expected a JSON array of objects: {error or type(error).__name__}")
            return
        text.take(end)
        yield f"{path}:{line}", value
        following = text.skip_space()
        if following == ",":
            text.take(1)
            text.skip_space()
        elif following != "]":
            problems.append(f"{path}:{line}: expected ',' or ']' after this element, got {text.buffer[:20]!r}")
            return
        if len(problems) >= MAX_PROBLEMS:
            return
    text.take(1)
    if text.skip_space():
        problems.append(f"{path}: expected nothing after the array, got {text.buffer[:40].strip()!r}")


def _decode(decoder: json.JSONDecoder, text: _Text) -> tuple[Any, int]:
    """The value that the text begins with and where it ends; an end of the buffer is none of the value."""
    while True:
        try:
            value, end = decoder.raw_decode(text.buffer)
            if end < len(text.buffer) or not text.more():
                return value, end
        except ValueError:
            if len(text.buffer) > MAX_RECORD or not text.more():
                raise


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

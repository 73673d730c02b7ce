# SPDX-License-Identifier: Apache-2.0
"""The answers of `PictureHost`, and the faults in them.

The kinds of fault:

- `"404"` or any other status; 429 and 503 carry `Retry-After: value` (default 1);
- `"redirect"` to the address `value`; `"loop"`, a redirect to the same address;
- `"html"`: a page with status 200; `"swap"`: another file, whose path in the folder is `value`;
- `"whole"`: Range is ignored; `"lying-range"`: Content-Range names other bytes than those sent;
- `"endless"`: a body without end or stated length; `"endless-whole"`: so, and Range is ignored;
- `"flipped"`: a wrong byte; `"short"`: half of the body, and Content-Length says so;
- `"close"`, `"reset"`: the connection is closed (FIN, RST) after half of the body;
- `"stall"`: header, then nothing; `"stall-middle"`: half of the body, then nothing;
- `"hang"`: no answer; `"drop"`: closed without an answer;
- `"drip"`: `value` bytes a second (default 100).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PIECE = 256 << 10  # bytes of a file that are sent at once
PAGE = b"<!DOCTYPE html><html><title>Please log in</title><p>Please try again later.</p></html>"
NO_ANSWER = ("hang", "drop")
HALF = ("close", "reset", "stall-middle")


@dataclass
class Fault:
    """A fault of some requests.

    Attributes:
        path: a pattern of the path without its query; `*` matches any characters.
        kind: the kind of fault; the module's docstring lists them.
        times: how often it occurs, -1 for always.
        skip: how many requests are served before it first occurs.
        value: an argument of some kinds.
    """

    path: str
    kind: str
    times: int = 1
    skip: int = 0
    value: Any = None


@dataclass
class LoggedRequest:
    """A request that the host received.

    Attributes:
        method: the HTTP method.
        path: the path, decoded, without its query.
        host: the name by which the client called the host.
        range: the Range header, None where there was none.
        authorized: whether it carried an Authorization header.
        user_agent: the User-Agent header.
        at: seconds of `time.monotonic` when it arrived.
        status: the status of the answer, 0 before the answer.
        sent: bytes of the answer's body.
        fault: the kind of the fault that occurred, None where none did.
    """

    method: str
    path: str
    host: str
    range: str | None
    authorized: bool
    user_agent: str
    at: float
    status: int = 0
    sent: int = 0
    fault: str | None = None


@dataclass
class Reply:
    """An answer: its header, and a body of bytes or the bytes `first` to `end` of a file."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None
    first: int = 0
    end: int = 0

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.end - self.first if self.file else len(self.body)

    def read(self, size: int) -> bytes:
        """Return the beginning of the body."""
        if self.file is None:
            return self.body[:size]
        with self.file.open("rb") as file:
            return os.pread(file.fileno(), size, self.first)


async def send_reply(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    reply: Reply,
    entry: LoggedRequest,
    fault: Fault | None,
) -> bool:
    """Send an answer, with the fault of its body; return whether the connection stays open."""
    kind = fault.kind if fault else ""
    if kind == "hang":
        await reader.read()  # until the client leaves
    if kind in NO_ANSWER:
        return False
    entry.status = reply.status
    if kind in ("flipped", "short"):
        reply = _damage(reply, kind)
    is_endless = kind.startswith("endless")
    size = "Transfer-Encoding: chunked" if is_endless else f"Content-Length: {reply.length}"
    head = [f"HTTP/1.1 {reply.status} .", size]
    head += [f"{name}: {value}" for name, value in reply.headers.items()]
    writer.write("\r\n".join([*head, "\r\n"]).encode("latin-1"))
    if entry.method == "HEAD":
        return True
    if is_endless:
        while True:
            await _write(writer, b"10000\r\n" + bytes(1 << 16) + b"\r\n", entry)
    if kind in HALF:
        await _write(writer, reply.read(reply.length // 2), entry)
    if kind.startswith("stall"):
        await reader.read()
    if kind == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    if kind in HALF or kind == "stall":
        return False
    if fault and kind == "drip":
        for byte in reply.read(reply.length):
            await _write(writer, bytes([byte]), entry)
            await asyncio.sleep(1 / (fault.value or 100))
    elif reply.file is None:
        await _write(writer, reply.body, entry)
    else:
        await _write_file(writer, reply, entry)
    return True


async def _write(writer: asyncio.StreamWriter, data: bytes, entry: LoggedRequest) -> None:
    entry.sent += len(data)  # before the client can have read them
    writer.write(data)
    await writer.drain()


async def _write_file(writer: asyncio.StreamWriter, reply: Reply, entry: LoggedRequest) -> None:
    assert reply.file is not None
    with reply.file.open("rb", buffering=0) as file:
        for start in range(reply.first, reply.end, PIECE):
            data = os.pread(file.fileno(), min(PIECE, reply.end - start), start)
            await _write(writer, data, entry)


def answer_json(content: Any, headers: dict[str, str] | None = None) -> Reply:
    """Return an answer of JSON."""
    more = {"Content-Type": "application/json", **(headers or {})}
    return Reply(200, more, json.dumps(content).encode())


def refuse(status: int, wait: int = 1) -> Reply:
    """Return an answer with the status of an error; `wait` is for Retry-After."""
    headers = {"Retry-After": str(wait)} if status in (429, 503) else {}
    return Reply(status, headers, b"refused by the loopback host\n")


def _damage(reply: Reply, kind: str) -> Reply:
    """Return the same answer with a wrong byte in the middle, or with half of the body."""
    body = bytearray(reply.read(reply.length))
    middle = len(body) // 2
    if kind == "short":
        del body[middle:]
    elif body:
        body[middle] ^= 0xFF
    return Reply(reply.status, reply.headers, bytes(body))

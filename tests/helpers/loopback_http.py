# SPDX-License-Identifier: Apache-2.0
"""The HTTP side of the loopback Hub: routes, request bodies, replies, ranges and faults."""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from tests.hub.loopback_hub import LoopbackHub

CHUNK = 1 << 20
ERRORS = {404: "RepoNotFound", 401: "InvalidToken"}


@dataclass
class Rule:
    """A fault at a step of the Hub.

    Attributes:
        step: the name of the step, the last argument of its `@route`.
        kind: the kind of fault; tests/hub/loopback_hub.py lists them.
        times: how often it occurs, -1 for always.
        skip: how many requests are served before it first occurs.
        message: the message of an error reply.
        retry_after: seconds, for the Retry-After header of 429 and 503.
    """

    step: str
    kind: str
    times: int = 1
    skip: int = 0
    message: str = "failed by a rule of the test"
    retry_after: int = 1


@dataclass
class Request:
    """A request that the Hub received.

    Attributes:
        step: the step of its route.
        method: the HTTP method.
        path: path and query.
        size: bytes of the request's body.
        authorized: whether it carried a token.
        fault: the kind of the fault that occurred, None where none did.
        sent: bytes of the reply's body.
    """

    step: str
    method: str
    path: str
    size: int = 0
    authorized: bool = False
    fault: str | None = None
    sent: int = 0


class Refusal(Exception):
    """An error reply: HTTP status, message, and the Hub's error code where it has one."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or ERRORS.get(status)


Action = Callable[..., None]


def route(method: str, pattern: str, step: str) -> Callable[[Action], Action]:
    """Register a handler's method for the requests whose path matches the whole pattern.

    Args:
        method: the HTTP method.
        pattern: a regular expression; `{id}`, `{rev}` and `{path}` are groups, which become the
            method's arguments.
        step: the name of the step, for rules and for the log of requests.
    """
    for name, group in (("{id}", r"([^/]+/[^/]+?)"), ("{rev}", r"([^/]+)"), ("{path}", r"(.+)")):
        pattern = pattern.replace(name, group)

    def register(action: Action) -> Action:
        vars(action).setdefault("routes", []).append((method, re.compile(pattern), step))
        return action

    return register


def no_such_address(handler: Handler) -> None:
    """Refuse a request that no route matches."""
    raise Refusal(404, f"no such address: {handler.command} {handler.path}", "EntryNotFound")


class Server(ThreadingHTTPServer):
    """An HTTP server on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: LoopbackHub, handler: type[Handler]) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": hub}))

    def handle_error(self, request: object, client_address: object) -> None:
        """Report errors, except those of clients that closed the connection, as tests make them."""
        if not isinstance(sys.exc_info()[1], ConnectionError) and not self.hub.closed:
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """The common part of both servers: routes, faults, request bodies and replies."""

    hub: LoopbackHub
    routes: list[tuple[str, re.Pattern[str], str, Action]] = []
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init_subclass__(cls) -> None:
        routes = []
        for action in vars(cls).values():
            for method, pattern, step in getattr(action, "routes", ()):
                routes.append((method, pattern, step, action))
        if routes:
            cls.routes = routes

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing to standard error; `hub.requests` is the log."""

    def do_any(self) -> None:
        """Serve a request of any method, with the fault of a rule where one applies."""
        self.unread = int(self.headers.get("Content-Length") or 0)
        self.chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        self.rule: Rule | None = None
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        step, action, groups = self.find_route(address.path)
        self.record_request(step)
        try:
            if not self.fail_before_action():
                action(self, *(unquote(group or "") for group in groups))
        except Refusal as refusal:
            self.refuse(refusal)

    def find_route(self, path: str) -> tuple[str, Action, tuple[str | None, ...]]:
        """Return the step, the action and its arguments for a path."""
        for method, pattern, step, action in self.routes:
            match = pattern.fullmatch(path)
            if match and method == self.command:
                return step, action, match.groups()
        return "unknown", no_such_address, ()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_any

    def record_request(self, step: str) -> None:
        """Log the request before the reply is sent, so that no test reads the log too early."""
        self.rule = self.hub.take_rule(step)
        self.entry = Request(
            step,
            self.command,
            self.path,
            size=self.unread,
            authorized=self.token is not None,
            fault=self.rule.kind if self.rule else None,
        )
        self.hub.requests.append(self.entry)

    @property
    def token(self) -> str | None:
        """The bearer token of the request, None where it has none."""
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def fail_before_action(self) -> bool:
        """Apply a fault that precedes the action; return whether it replaces the action."""
        kind = self.rule.kind if self.rule else ""
        if kind.isdigit():
            self.body()
            assert self.rule is not None
            extra = {"Retry-After": str(self.rule.retry_after)} if kind in ("429", "503") else {}
            self.refuse(Refusal(int(kind), self.rule.message, "Fault"), extra)
        elif kind == "delay":
            time.sleep(self.hub.delay)
            return False
        elif kind == "hang":
            time.sleep(self.hub.delay)
            self.hang_up()
        elif kind in ("reset", "close") and self.command != "GET":
            self.hang_up(reset=kind == "reset")
        else:
            return False
        return True

    def hang_up(self, reset: bool = False) -> NoReturn:
        """Close the connection: with RST at once, or with FIN after reading the request's body."""
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.body()
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        raise ConnectionAbortedError("closed by a rule of the test")

    def pieces(self) -> Iterator[bytes]:
        """Yield the request's body in pieces."""
        while self.chunked:
            length = int(self.rfile.readline().split(b";")[0], 16)
            piece = self.rfile.read(length)
            self.rfile.readline()
            if not length:
                self.chunked = False
                return
            yield piece
        while self.unread:
            piece = self.rfile.read(min(CHUNK, self.unread))
            if not piece:
                raise ConnectionResetError("the client closed the connection within a body")
            self.unread -= len(piece)
            yield piece

    def body(self) -> bytes:
        """Return the whole body, which must fit into memory."""
        return b"".join(self.pieces())

    def json(self) -> Any:
        """Return the body as JSON, {} where it is empty."""
        return json.loads(self.body() or b"{}")

    def refuse(self, refusal: Refusal, headers: dict[str, str] | None = None) -> None:
        """Send an error reply in the Hub's format."""
        self.body()
        code = {"X-Error-Code": refusal.code} if refusal.code else {}
        self.answer({"error": refusal.message}, refusal.status, {**code, **(headers or {})})

    def answer(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Send a reply: bytes as they are, anything else as JSON."""
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        self.send_pieces([content], len(content), status, headers)

    def send_pieces(
        self,
        pieces: Iterable[bytes],
        length: int,
        status: int,
        headers: dict[str, str] | None,
    ) -> None:
        """Send a reply whose body comes in pieces, with the fault of a rule where one applies."""
        kind = self.rule.kind if self.rule else ""
        if kind == "lost":
            self.hang_up()
        if kind == "garbled":
            page = b"<html>Please try again</html>"
            pieces, length, headers = [page], len(page), {"Content-Type": "text/html"}
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in pieces:
            if kind in ("reset", "close"):
                self.entry.sent += self.wfile.write(piece[: length // 2])
                self.hang_up(reset=kind == "reset")
            self.entry.sent += self.wfile.write(piece)

    def send_object(self, sha256: str, headers: dict[str, str]) -> None:
        """Send an object, or the range of bytes that the request's Range header names."""
        path = self.hub.object(sha256)
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            headers = {"Accept-Ranges": "bytes", **headers}
            self.send_pieces(read_pieces(path, 0, size), size, 200, headers)
            return
        first, end = parse_range(wanted[1], wanted[2], size)
        if first >= size:
            raise Refusal(416, f"no byte {first} of {size}")
        headers = {"Content-Range": f"bytes {first}-{end - 1}/{size}", **headers}
        self.send_pieces(read_pieces(path, first, end), end - first, 206, headers)


def parse_range(start: str, stop: str, size: int) -> tuple[int, int]:
    """Return the first byte and the end of a range: "first-last", "first-" or "-count"."""
    if not start:
        return max(0, size - int(stop)), size
    if not stop:
        return int(start), size
    return int(start), min(size, int(stop) + 1)


def read_pieces(path: Path, first: int, end: int) -> Iterator[bytes]:
    """Yield the bytes `first` to `end` of a file in pieces of at most CHUNK."""
    with path.open("rb") as file:
        file.seek(first)
        while first < end:
            piece = file.read(min(CHUNK, end - first))
            if not piece:
                return
            first += len(piece)
            yield piece

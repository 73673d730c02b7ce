# SPDX-License-Identifier: Apache-2.0
"""The HTTP side of the loopback Hub: routing, bodies, answers, ranges, and the faults that its rules ask for."""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
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
    """Misbehave at `step`: `times` times (-1: for ever), after `skip` well-behaved requests."""

    step: str
    kind: str
    times: int = 1
    skip: int = 0
    message: str = "made to fail by a rule of the test"
    retry_after: int = 1


@dataclass
class Request:
    """One request as it came in.

    `fault` is the rule's kind when one struck; `sent` counts the bytes of the answer's body.
    """

    step: str
    method: str
    path: str
    size: int = 0
    authorized: bool = False
    fault: str | None = None
    sent: int = 0


class Refusal(Exception):
    """An answer other than 200: status, message, and the Hub's own error code where it has one."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code or ERRORS.get(status)


Action = Callable[..., None]


def route(method: str, pattern: str, step: str) -> Callable[[Action], Action]:
    """Register a handler's method for requests whose whole path matches; `{id}` `{rev}` `{path}` are groups."""
    for name, group in (("{id}", r"([^/]+/[^/]+?)"), ("{rev}", r"([^/]+)"), ("{path}", r"(.+)")):
        pattern = pattern.replace(name, group)

    def register(action: Action) -> Action:
        vars(action).setdefault("routes", []).append((method, re.compile(pattern), step))
        return action

    return register


def no_such_address(handler: Handler) -> None:
    """The action for everything that is not here."""
    raise Refusal(404, f"no such address: {handler.command} {handler.path}", "EntryNotFound")


class Server(ThreadingHTTPServer):
    """A listener on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: LoopbackHub, handler: type[Handler]) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": hub}))

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up (killed, timed out) is part of the tests: say nothing; show anything else."""
        if not isinstance(sys.exc_info()[1], ConnectionError) and not self.hub.closed:
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """What both listeners share: routing, faults, bodies, answers."""

    hub: LoopbackHub
    routes: list[tuple[str, re.Pattern[str], str, Action]] = []
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init_subclass__(cls) -> None:
        actions = [action for action in vars(cls).values() if hasattr(action, "routes")]
        if actions:
            cls.routes = [(*line, action) for action in actions for line in action.routes]

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr; `hub.requests` is the log."""

    def do_any(self) -> None:
        """Find the action, let a rule strike, act, answer."""
        self.unread = int(self.headers.get("Content-Length") or 0)
        self.chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        self.rule: Rule | None = None
        path, self.query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        found = (
            (step, action, match.groups())
            for method, pattern, step, action in self.routes
            if method == self.command and (match := pattern.fullmatch(path))
        )
        step, action, groups = next(found, ("unknown", no_such_address, ()))
        self.note(step)
        try:
            if not self.misbehave_before():
                action(self, *(unquote(group) if group else "" for group in groups))
        except Refusal as refusal:
            self.refuse(refusal)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_any

    def note(self, step: str) -> None:
        """Write the request down before it is answered, so that no test reads the log too early."""
        self.rule = self.hub.fault(step)
        authorized = self.token is not None
        self.entry = Request(
            step, self.command, self.path, self.unread, authorized, self.rule and self.rule.kind
        )
        self.hub.requests.append(self.entry)

    @property
    def token(self) -> str | None:
        """The bearer token that came with the request."""
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def misbehave_before(self) -> bool:
        """Apply the parts of a fault that come before the action; True when there is to be no action."""
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
        """End the connection, politely (FIN, after reading what was sent) or not (RST, at once)."""
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.body()
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        raise ConnectionAbortedError("hung up by a rule of the test")

    def pieces(self) -> Iterator[bytes]:
        """The request's body, piece by piece."""
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
                raise ConnectionResetError("the client hung up in the middle of a body")
            self.unread -= len(piece)
            yield piece

    def body(self) -> bytes:
        """The whole body; for everything but objects."""
        return b"".join(self.pieces())

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body() or b"{}")

    def refuse(self, refusal: Refusal, headers: dict[str, str] | None = None) -> None:
        """Answer with an error as the Hub words it."""
        self.body()
        named = {"X-Error-Code": refusal.code} if refusal.code else {}
        self.answer({"error": refusal.message}, refusal.status, {**named, **(headers or {})})

    def answer(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Send bytes, a part of a file (path, first, end), or anything else as JSON."""
        kind = (
            self.rule.kind
            if self.rule and self.rule.kind in ("lost", "garbled", "reset", "close")
            else ""
        )
        if kind == "lost":
            self.hang_up()
        if kind == "garbled":
            content, headers = b"<html>Please try again</html>", {"Content-Type": "text/html"}
        if not isinstance(content, (bytes, tuple)):
            content, headers = (
                json.dumps(content).encode(),
                {"Content-Type": "application/json", **(headers or {})},
            )
        length = len(content) if isinstance(content, bytes) else content[2] - content[1]
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in [content] if isinstance(content, bytes) else self._part(*content):
            self.entry.sent += self.wfile.write(
                piece[: length // 2] if kind in ("reset", "close") else piece
            )
            if kind in ("reset", "close"):
                self.hang_up(reset=kind == "reset")

    @staticmethod
    def _part(path: Path, first: int, end: int) -> Iterator[bytes]:
        with path.open("rb") as file:
            file.seek(first)
            while first < end and (piece := file.read(min(CHUNK, end - first))):
                first += len(piece)
                yield piece

    def send_object(self, sha256: str, headers: dict[str, str]) -> None:
        """Send an object, or the part of it that a Range header asks for."""
        path = self.hub.object(sha256)
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            self.answer((path, 0, size), 200, {"Accept-Ranges": "bytes", **headers})
            return
        first = int(wanted[1]) if wanted[1] else size - int(wanted[2])
        end = min(size, int(wanted[2]) + 1) if wanted[1] and wanted[2] else size
        if first >= size:
            raise Refusal(416, f"no byte {first} of {size}")
        self.answer(
            (path, first, end), 206, {"Content-Range": f"bytes {first}-{end - 1}/{size}", **headers}
        )

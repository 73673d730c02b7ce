# SPDX-License-Identifier: Apache-2.0
"""A host of pictures on 127.0.0.1: a folder served with ranges, for tests and benchmarks of fetch.

    with PictureHost(folder, latency=0.03) as host:
        host.faults.append(Fault("/images.zip", "429", times=2))
        main(["fetch", "pictures", "--from", f"real={host.url}/images.zip"])
        assert host.count("/images.zip", status=206) == 3

It knows keep-alive, HEAD, Range (also suffixes; 206, 416), If-Range, ETag and Last-Modified.

* `host.url` is its address. `host.other` is the same by another host name, where signed addresses
  lie; `host.requests` logs every request with the name by which it came.
* `PictureHost(signed="*.zip", uses=10, seconds=60.0)` redirects requests for these paths to a
  signed address on the other name, which expires after `uses` requests or `seconds`: 403.
* `PictureHost(limit=(3000, 300.0))` answers more requests than these in this many seconds with 429.
  `limited` names the paths, such as "*/resolve/*".
* `PictureHost(repositories={"ns/name": folder})` plays the Hub for `HF_ENDPOINT=host.url`, with any
  revision: tree, info and paths-info; `resolve` redirects large files to signed addresses.
* `host.refuse_connections()` closes the port and all connections; `accept_connections()` opens it.
* `host.connections`, `host.sent` and `host.most_at_once` count connections, bytes of bodies, and
  requests that were served at the same time.

`host.faults` holds the faults; the first whose path matches counts. Their kinds are listed in
tests/helpers/picture_replies.py.

`python -m tests.helpers.picture_host FOLDER --latency 0.03` serves in a process of its own: it
prints a JSON line with the two addresses and serves until its standard input closes;
`GET /_test/state` returns the counters.
"""

from __future__ import annotations

import argparse
import asyncio
import email.utils
import json
import math
import re
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from tests.helpers.hub_pages import answer_hub, list_rows, make_hub_headers
from tests.helpers.loopback_http import parse_range
from tests.helpers.picture_replies import (
    PAGE,
    Fault,
    LoggedRequest,
    Reply,
    answer_json,
    refuse,
    send_reply,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping


@dataclass
class SignedAddress:
    """What a signed address gives access to, and until when."""

    file: Path
    uses: int
    expires: float


class PictureHost:
    """The host; a context manager that serves from a thread of its own. See the module."""

    def __init__(
        self,
        folder: Path,
        latency: float = 0.0,
        signed: str = "",
        uses: int = 1 << 30,
        seconds: float = math.inf,
        limit: tuple[int, float] | None = None,
        limited: str = "*",
        repositories: Mapping[str, Path] | None = None,
    ) -> None:
        self.folder = folder
        self.latency = latency
        self.signed, self.uses, self.seconds = signed, uses, seconds
        self.limit, self.limited = limit, limited
        self.repositories = {name.lower(): root for name, root in (repositories or {}).items()}
        self.faults: list[Fault] = []
        self.requests: list[LoggedRequest] = []
        self.connections = self.most_at_once = self._at_once = 0
        self._signatures: dict[str, SignedAddress] = {}
        self._numbers = count(1)
        self._window = (0.0, 0)  # when it began, and its requests
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> PictureHost:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """The address of the host, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def other(self) -> str:
        """The address by another name of the host."""
        return f"http://localhost:{self._port}"

    @property
    def sent(self) -> int:
        """Bytes of all bodies so far."""
        return sum(entry.sent for entry in self.requests)

    def count(self, path: str = "*", status: int | None = None) -> int:
        """Return how many requests for paths of a pattern arrived, or were answered so."""
        matching = [entry for entry in self.requests if fnmatchcase(entry.path, path)]
        return sum(status in (None, entry.status) for entry in matching)

    def refuse_connections(self) -> None:
        """Close the port and all connections."""
        self._do(self._close_port())

    def accept_connections(self) -> None:
        """Open the same port again."""
        self._do(self._open_port())

    def _do(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await self._open_port()
        self._ready.set()
        await self._stop.wait()
        await self._close_port()

    async def _open_port(self) -> None:
        self._server = await asyncio.start_server(
            self._serve_connection, "127.0.0.1", self._port, backlog=512
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close_port(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(writer)
        self.connections += 1
        # A client may leave at any time, and send anything.
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self._serve_request(reader, writer):
                pass
        self._writers.discard(writer)
        writer.close()

    async def _serve_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve a request; return whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = unquote(urlsplit(target).path)
        if path == "/_test/state":
            self.connections -= 1
            state = answer_json(self.describe_state())
            return await send_reply(reader, writer, state, self._log(method, path, headers), None)
        entry = self._log(method, path, headers)
        self.requests.append(entry)
        fault = self._take_fault(path)
        entry.fault = fault.kind if fault else None
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.latency)
            reply = self._answer(entry, target, headers, body, fault)
            is_open = await send_reply(reader, writer, reply, entry, fault)
            return is_open and headers.get("connection", "").lower() != "close"
        finally:
            self._at_once -= 1

    def _log(self, method: str, path: str, headers: dict[str, str]) -> LoggedRequest:
        host = headers.get("host", "").partition(":")[0]
        is_authorized = "authorization" in headers
        agent = headers.get("user-agent", "")
        now = time.monotonic()
        return LoggedRequest(method, path, host, headers.get("range"), is_authorized, agent, now)

    def describe_state(self) -> dict[str, float]:
        """Return the counters, for a benchmark in another process."""
        return {
            "connections": self.connections,
            "requests": len(self.requests),
            "sent": self.sent,
            "most_at_once": self.most_at_once,
            "cpu": time.process_time(),
        }

    def _take_fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times == 0 or not fnmatchcase(path, fault.path):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None

    def _answer(
        self,
        entry: LoggedRequest,
        target: str,
        headers: dict[str, str],
        body: bytes,
        fault: Fault | None,
    ) -> Reply:
        """Choose the answer to a request, with the fault where it concerns more than the body."""
        kind = fault.kind if fault else ""
        wait = self._wait_for_limit(entry.path)
        if wait:
            return refuse(429, wait)
        if fault and kind.isdigit():
            return refuse(int(kind), fault.value or 1)
        if fault and kind in ("redirect", "loop"):
            return Reply(302, {"Location": target if kind == "loop" else fault.value})
        if kind == "html":
            return Reply(200, {"Content-Type": "text/html"}, PAGE)
        if fault and kind == "swap":
            return self._answer_file(self.folder / fault.value, headers, kind)
        if entry.path.startswith("/signed/"):
            return self._answer_signed(entry.path.split("/")[2], headers, kind)
        if entry.path.startswith("/api/"):
            answer = answer_hub(self.repositories, self.url, target, body)
            if answer is None:
                return Reply(404, {"X-Error-Code": "RepoNotFound"})
            return answer_json(*answer)
        resolve = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", entry.path)
        if resolve:
            file = self.repositories.get(resolve[1].lower(), self.folder / "none") / resolve[3]
            return self._answer_resolve(file, resolve[3], headers, kind)
        file = self.folder / entry.path.lstrip("/")
        if self.signed and fnmatchcase(entry.path, self.signed):
            return Reply(302, {"Location": self._sign(file)})
        return self._answer_file(file, headers, kind)

    def _wait_for_limit(self, path: str) -> int:
        """Count a request; return the seconds until the next one is within the limit, 0 if it is.

        All clients have one address here, so there is one window.
        """
        if self.limit is None or not fnmatchcase(path, self.limited):
            return 0
        allowed, seconds = self.limit
        start, used = self._window
        now = time.monotonic()
        if now >= start + seconds:
            start, used = now, 0
        self._window = (start, used + 1)
        return max(1, math.ceil(start + seconds - now)) if used >= allowed else 0

    def _sign(self, file: Path) -> str:
        """Return a new signed address of a file."""
        token = f"{next(self._numbers):08x}"
        self._signatures[token] = SignedAddress(file, self.uses, time.monotonic() + self.seconds)
        return f"{self.other}/signed/{token}/{quote(file.name)}?signature=secret"

    def _answer_signed(self, token: str, headers: dict[str, str], kind: str) -> Reply:
        signed = self._signatures.get(token)
        if signed is None or signed.uses <= 0 or time.monotonic() >= signed.expires:
            return refuse(403)
        signed.uses -= 1
        return self._answer_file(signed.file, headers, kind)

    def _answer_resolve(self, file: Path, path: str, headers: dict[str, str], kind: str) -> Reply:
        """Answer like the Hub's `resolve`: a redirect for a large file, a small file at once."""
        if not file.is_file():
            return Reply(404, {"X-Error-Code": "EntryNotFound"})
        more = make_hub_headers(file, path)
        if "X-Linked-Size" in more:
            return Reply(302, {**more, "Location": self._sign(file)})
        reply = self._answer_file(file, headers, kind)
        reply.headers |= more
        return reply

    def _answer_file(self, file: Path, headers: dict[str, str], kind: str) -> Reply:
        """Answer with a file, or the part of it that the Range header names."""
        if ".." in file.parts or not file.is_file():
            return refuse(404)
        stat = file.stat()
        size, tag = stat.st_size, f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'
        more = {
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "ETag": tag,
            "Last-Modified": email.utils.formatdate(stat.st_mtime, usegmt=True),
        }
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        is_whole = kind in ("whole", "endless-whole") or headers.get("if-range", tag) != tag
        if is_whole or not wanted or not (wanted[1] or wanted[2]):
            return Reply(200, more, file=file, end=size)
        first, end = parse_range(wanted[1], wanted[2], size)
        if first >= end:
            return Reply(416, {**more, "Content-Range": f"bytes */{size}"})
        shift = 1000 if kind == "lying-range" else 0
        more["Content-Range"] = f"bytes {first + shift}-{end - 1 + shift}/{size}"
        return Reply(206, more, file=file, first=first, end=end)


def main() -> int:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description="A host of pictures on 127.0.0.1.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--repository", help="name of a Hub repository of the folder's files")
    args = parser.parse_args()
    repositories = {args.repository: args.folder} if args.repository else {}
    for root in repositories.values():
        list_rows(root)  # so that no client waits for the checksums
    with PictureHost(args.folder, args.latency, repositories=repositories) as host:
        print(json.dumps({"url": host.url, "other": host.other}), flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())

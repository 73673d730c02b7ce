# SPDX-License-Identifier: Apache-2.0
"""Read files and ranges of files over HTTP: retries, redirects, limits per host.

Every reply is checked before its body is read: the status, the size, and for a range that the host
sends this range and no other. Hosts are not trusted: a body has a limit, a redirect must lead to
http or https, and a token is sent to its own host only.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import os
import random
import re
import time
import urllib.request
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

import mmrel

USER_AGENT = f"mmrel/{mmrel.__version__} (+{mmrel.HOMEPAGE})"
JOBS = 16  # requests to a host at once
TRIES = 5  # requests for one file or range
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before the second try and before later ones
MAX_RETRY_AFTER = 600.0  # seconds; a host that asks to wait longer in all has failed
LEAST_PAUSE = 5.0  # seconds that a shorter pause counts as, so that their number has a limit
CONNECT, STALL = 20.0, 30.0  # seconds to connect, and without any byte
SLOWEST = 20_000  # bytes per second, below which a reply is given up
MAX_REDIRECTS = 5
MAX_FAILURES = 8  # in a row, after which nothing more is requested of a host
WINDOW = 300.0  # seconds for which a limit of requests counts
DOWNLOADED = 8 << 20  # bytes of one request of a large file
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError, ValueError)

Kind = Literal["missing", "refused", "no ranges", "changed", "failed"]


class WebError(OSError):
    """A file that could not be read.

    Attributes:
        kind: `missing` (404 or 410), `refused` (any other status, or a reply that must not be
            used), `no ranges` (the host sends whole files only), `changed` (the file is another one
            than before), or `failed` (no usable reply in several tries).
        where: the address, without the query, which may be a signature.
        reason: what the host did.
    """

    def __init__(self, kind: Kind, url: str, reason: str) -> None:
        self.kind = kind
        self.where = url.partition("?")[0]
        self.reason = reason
        super().__init__(f"{self.where}: {reason}")


class Body(NamedTuple):
    """Bytes of a file.

    Attributes:
        start: position of the first byte in the file.
        total: size of the file, in bytes.
        stamp: its ETag or time of change, "" if the host sends neither.
    """

    data: bytes
    start: int
    total: int
    stamp: str


class _Transient(Exception):
    """A failed try; the next one may succeed after `wait` seconds, None for the usual time."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Wanted(NamedTuple):
    """What a request asks for.

    Attributes:
        start: the first byte; None for the whole file, from the end if it is negative.
        length: the number of bytes; None for all.
        limit: the most bytes that a reply may have.
        like: an earlier reply with a range of the file.
        total: size of the file, None if it is not known.
    """

    url: str
    limit: int
    start: int | None = None
    length: int | None = None
    like: Body | None = None
    total: int | None = None

    @property
    def header(self) -> str | None:
        """The value of the Range header."""
        if self.start is None:
            return None
        if self.start < 0:
            return f"bytes={self.start}"
        end = "" if self.length is None else self.start + self.length - 1
        return f"bytes={self.start}-{end}"


class WebClient:
    """A client that several tasks share; a context manager.

    Args:
        jobs: requests to a host at once.
        tokens: host -> the token that is sent to it, and to no other.
        limits: host -> requests to it in `WINDOW` seconds.

    `received` counts all bytes of bodies, and `busy` the seconds in which a request was under way.
    """

    def __init__(
        self,
        jobs: int = JOBS,
        tokens: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self.received = 0
        self.busy = 0.0
        self._active, self._since = 0, 0.0
        self._jobs = jobs
        self._tokens = dict(tokens or {})
        self._limits = dict(limits or {})
        self._signed: dict[str, str] = {}
        self._proxies: dict[str, str | None] = {}
        self._failures: Counter[str] = Counter()
        self._resume: dict[str, float] = {}
        self._times: dict[str, deque[float]] = defaultdict(deque)

    async def __aenter__(self) -> WebClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=self._jobs),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def read(self, url: str, limit: int) -> Body:
        """Return a whole file of at most `limit` bytes.

        Raises:
            WebError: it could not be read.
        """
        return await self._retry(_Wanted(url, limit))

    async def read_range(self, url: str, start: int, length: int, like: Body | None) -> Body:
        """Return exactly `length` bytes of a file from `start` on.

        The last bytes are meant if `start` is negative; fewer come if the file is smaller. `like`
        is an earlier reply, whose file it must be.

        Raises:
            WebError: they could not be read; `changed` if the file is another one than before.
        """
        try:
            reply = await self._retry(_Wanted(url, length, start, length, like))
        except WebError as error:
            if error.kind == "changed" and start < 0 and like is None:
                return Body(b"", 0, 0, "")  # the last bytes of an empty file
            raise
        if like and (reply.total, reply.stamp) != (like.total, like.stamp):
            raise WebError("changed", url, "the file has changed on the host")
        return reply

    async def download(self, url: str, path: Path, size: int) -> None:
        """Write a file of `size` bytes; an earlier download that broke off is continued.

        Raises:
            WebError: it could not be read.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        # Processes that download the same file at once write the same bytes at the same positions.
        with open(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            start = file.seek(0, os.SEEK_END) if size > DOWNLOADED else 0
            while start < size:
                length = min(DOWNLOADED, size - start)
                # A host need not support ranges for a small file.
                first = start if size > DOWNLOADED else None
                wanted = _Wanted(url, length, first, length, total=size)
                reply = await self._retry(wanted)
                file.seek(start)
                start += file.write(reply.data)
        with contextlib.suppress(FileNotFoundError):  # another process has moved it
            part.replace(path)

    # --- Tries ---

    async def _retry(self, wanted: _Wanted) -> Body:
        """Return the reply of the first try that succeeds."""
        host = get_host(wanted.url)
        failed, paused = 0, 0.0
        while True:
            if self._failures[host] >= MAX_FAILURES:
                text = f"given up after {MAX_FAILURES} failed requests in a row to this host"
                raise WebError("failed", wanted.url, text)
            try:
                reply = await self._try(wanted)
            except _Transient as failure:
                reason, wait = str(failure), failure.wait
            else:
                self._failures[host] = 0
                return reply
            if wait is None:
                failed += 1
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2**failed) * random.uniform(0.5, 1.0)
                reason = f"{reason}, {failed} times"
            else:
                paused += max(wait, LEAST_PAUSE)
                reason = f"{reason}; it asks to wait {wait:.0f} s; try again after that"
            if failed >= TRIES or paused > MAX_RETRY_AFTER:
                self._failures[host] += 1
                raise WebError("failed", wanted.url, reason)
            await asyncio.sleep(wait)

    async def _try(self, wanted: _Wanted) -> Body:
        """Return the reply; a signed address that ranges came from is used until it is refused."""
        signed = self._signed.get(wanted.url)
        try:
            if signed:
                try:
                    return await self._get(signed, wanted)
                except WebError as error:
                    if error.kind not in ("refused", "missing"):
                        raise
                    if self._signed.get(wanted.url) == signed:
                        del self._signed[wanted.url]
            return await self._get(wanted.url, wanted)
        except _FAILURES as error:
            raise _Transient(describe(error)) from None

    async def _get(self, url: str, wanted: _Wanted) -> Body:
        """Follow redirects from an address to the reply."""
        for _ in range(MAX_REDIRECTS + 1):
            target, reply = await self._request(url, wanted)
            if reply:
                if wanted.start is not None and url != wanted.url:
                    self._signed[wanted.url] = url
                return reply
            url = self._follow(url, target)
        raise WebError("refused", wanted.url, f"more than {MAX_REDIRECTS} redirects")

    def _follow(self, url: str, target: str) -> str:
        """Return the address that a redirect leads to."""
        followed = urljoin(url, target)
        scheme = urlsplit(followed).scheme
        is_downgrade = urlsplit(url).scheme == "https" and scheme != "https"
        if scheme not in ("http", "https") or is_downgrade:
            raise WebError("refused", url, f"a redirect to another scheme, {scheme[:20]!a}")
        return followed

    async def _request(self, url: str, wanted: _Wanted) -> tuple[str, Body | None]:
        """Send one request; return the target of a redirect, or the reply."""
        host = get_host(url)
        await self._wait_turn(host)
        headers = {}
        if host in self._tokens:
            headers["Authorization"] = f"Bearer {self._tokens[host]}"
        if wanted.header:
            headers["Range"] = wanted.header
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=STALL)
        with self._measure():
            async with self._session.get(
                URL(url, encoded=True),
                headers=headers,
                proxy=self._find_proxy(host),
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                if response.status in _REDIRECTS:
                    return response.headers.get("Location", ""), None
                self._check_status(response, url, wanted)
                return "", await self._read_body(response, url, wanted)

    @contextlib.contextmanager
    def _measure(self) -> Iterator[None]:
        """Count the seconds in which any request is under way."""
        if not self._active:
            self._since = time.monotonic()
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self.busy += time.monotonic() - self._since

    def _find_proxy(self, host: str) -> str | None:
        """Return the proxy of a host, by HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
        if host not in self._proxies:
            scheme, _, name = host.partition("://")
            is_bypassed = bool(urllib.request.proxy_bypass(name))
            self._proxies[host] = None if is_bypassed else urllib.request.getproxies().get(scheme)
        return self._proxies[host]

    async def _wait_turn(self, host: str) -> None:
        """Wait while a host asks for a pause, or its limit of requests is reached."""
        while (wait := self._resume.get(host, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if host not in self._limits:
            return
        times = self._times[host]
        while len(times) >= self._limits[host]:
            wait = times[0] + WINDOW - time.monotonic()
            if wait <= 0:
                times.popleft()
            else:
                await asyncio.sleep(wait)
        times.append(time.monotonic())

    # --- Replies ---

    def _check_status(self, response: aiohttp.ClientResponse, url: str, wanted: _Wanted) -> None:
        """Raise unless the status is that of the file or range that is wanted."""
        status = response.status
        text = f"the answer was {status}"
        if status in _TRANSIENT:
            wait = read_retry_after(response.headers.get("Retry-After", ""))
            if wait is not None and wait <= MAX_RETRY_AFTER:
                self._resume[get_host(url)] = time.monotonic() + wait  # for all tasks
            raise _Transient(text, wait)
        if status in (404, 410):
            raise WebError("missing", url, text)
        if wanted.header is None:
            if status != 200:
                raise WebError("refused", url, text)
        elif status == 200:
            text = "the host ignores Range and sends the whole file"
            if wanted.like:  # it did not before
                raise _Transient(text)
            raise WebError("no ranges", url, text)
        elif status == 416:
            raise WebError("changed", url, f"{text}: the file is smaller than before")
        elif status != 206:
            raise WebError("refused", url, text)

    async def _read_body(self, response: aiohttp.ClientResponse, url: str, wanted: _Wanted) -> Body:
        """Return the body, if it has the size that it must have."""
        start, total, length = 0, None, response.content_length
        if wanted.header:
            start, length, total = self._read_content_range(response, url, wanted)
        if length is not None and length > wanted.limit:
            reason = f"expected at most {wanted.limit} bytes, the answer has {length}"
            raise WebError("refused", url, reason)
        seconds = STALL + (wanted.limit if length is None else length) / SLOWEST
        data = await asyncio.wait_for(self._collect(response, url, wanted.limit), seconds)
        if length is not None and len(data) != length:
            raise _Transient(f"expected {length} bytes, the connection ended after {len(data)}")
        total = len(data) if total is None else total
        if wanted.total not in (None, total):
            raise _Transient(f"expected a file of {wanted.total} bytes, got one of {total}")
        stamp = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        return Body(data, start, total, stamp)

    async def _collect(self, response: aiohttp.ClientResponse, url: str, limit: int) -> bytes:
        """Return the body, of at most `limit` bytes."""
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            self.received += len(chunk)
            if len(data) > limit:
                raise WebError("refused", url, f"expected at most {limit} bytes, got more")
        return bytes(data)

    def _read_content_range(
        self, response: aiohttp.ClientResponse, url: str, wanted: _Wanted
    ) -> tuple[int, int, int]:
        """Return start, length and total of a range, if it is the one that is wanted."""
        text = response.headers.get("Content-Range", "")
        match = _RANGE.fullmatch(text)
        if match:
            first, last, total = map(int, match.groups())
            start = wanted.start or 0
            if start < 0:
                start = max(0, total + start)
            end = total if wanted.length is None else min(total, start + wanted.length)
            if (first, last + 1) == (start, end):
                return first, end - first, total
        reason = f"expected {wanted.header}, the answer has the Content-Range {text[:80]!a}"
        raise WebError("no ranges", url, reason)


def get_host(url: str) -> str:
    """Return scheme, host and port of an address.

    >>> get_host("https://hub.example/a/b?c")
    'https://hub.example'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def read_retry_after(text: str) -> float | None:
    """Return the seconds of a Retry-After header, which has a number or a date; None if neither.

    >>> read_retry_after("120")
    120.0
    """
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - time.time())


def describe(error: BaseException) -> str:
    """Return a failure of the connection in a few words, without the address."""
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection ({error.os_error.strerror or 'unknown host'})"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection ended within the answer"
    return f"the connection broke ({type(error).__name__})"

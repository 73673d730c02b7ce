# SPDX-License-Identifier: Apache-2.0
"""The kinds of addresses that pictures are fetched from: single files, zip and tar files, the Hub.

A `Host` is opened once and then read by many tasks. An archive's directory is read once; each
picture then takes one range. A repository on the Hub is its pictures and the archives in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from huggingface_hub.hf_api import RepoFile

import mmrel
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import SUFFIXES, Member, list_zip, measure_zipped, read_zipped
from mmrel_kit.pictures.index import MemberIndex, list_candidate_paths
from mmrel_kit.pictures.validate import check_header, check_picture
from mmrel_kit.sources.hub import HubRepository, has_checksum, parse_hub_path
from mmrel_kit.sources.local import PictureArchive
from mmrel_kit.web import Body, WebClient, WebError

SCHEMES = ("https://", "http://", mmrel.HUB)
MAX_BYTES = 64 << 20  # of a fetched picture; the largest of MMRel has about 3 MB
TAIL = 1 << 17  # bytes of the end of a zip file that are read first
MAX_DIRECTORY = 64 << 20  # bytes; that of 100,000 members has about 10 MB
MAX_CHANGES = 3  # how often a zip file may change while it is read
MIN_FOUND = 50  # pictures of which a host must have one


class Fetched(NamedTuple):
    """A picture, and the address that it came from."""

    data: bytes
    url: str


class Host(Protocol):
    """A source of pictures that are read over HTTP."""

    where: str

    async def open(self, client: WebClient, folder: Path) -> None:
        """Get ready; `folder` is for files that have to be downloaded whole.

        Raises:
            InputError: the file is damaged or hostile.
            WebError: it could not be read.
        """

    def find_size(self, image_id: str) -> int | None:
        """Return the size of a picture in bytes, 0 if it is unknown; None if there is none.

        Raises:
            InputError: several files could be the picture.
        """

    async def read(self, client: WebClient, image_id: str) -> Fetched:
        """Return a picture.

        Raises:
            InputError: its bytes are wrong.
            WebError: it could not be read; `missing` if the host does not have it.
        """


class FileHost:
    """Pictures as single files below an address, such as https://host.example/pictures."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._found: Counter[int] = Counter()
        self._asked = 0

    async def open(self, client: WebClient, folder: Path) -> None:
        """Do nothing: files are requested one by one."""

    def find_size(self, image_id: str) -> int | None:
        """See `Host`; sizes are unknown."""
        return 0

    async def read(self, client: WebClient, image_id: str) -> Fetched:
        """Request a picture at its candidate paths, those first that earlier pictures had."""
        if self._asked >= MIN_FOUND and not self._found:
            reason = f"none of the first {MIN_FOUND} pictures could be read"
            raise WebError("missing", self.where, reason)
        self._asked += 1
        failure = None
        candidates = list(enumerate(list_candidate_paths(image_id)))
        candidates.sort(key=lambda candidate: -self._found[candidate[0]])
        for number, path in candidates:
            url = f"{self.where.rstrip('/')}/{quote(path)}"
            try:
                reply = await client.read(url, MAX_BYTES)
            except WebError as error:
                if error.kind != "missing":
                    raise
                failure = failure or error
                continue
            await asyncio.to_thread(check_picture, reply.data, url)
            self._found[number] += 1
            return Fetched(reply.data, url)
        assert failure
        raise failure


class ZipHost:
    """Pictures in a zip file on a host, each read by its range."""

    def __init__(self, where: str, url: str | None = None) -> None:
        self.where = where
        self._url = url or where
        self._index: MemberIndex | None = None
        self._first: Body | None = None
        self._changes = 0
        self._opening = asyncio.Lock()

    async def open(self, client: WebClient, folder: Path) -> None:
        """Read the directory; begin again if the file changes meanwhile."""
        while True:
            try:
                return await self._read_directory(client)
            except WebError as error:
                if error.kind != "changed":
                    raise
                self._count_change()

    async def _read_directory(self, client: WebClient) -> None:
        tail = await client.read_range(self._url, -TAIL, TAIL, None)
        file: Any = _PartialFile(tail)
        while self._first is not tail:
            try:
                self._index = MemberIndex(self.where, list_zip(file, self.where))
                self._first = tail
            except _MissingBytes as missing:
                start, length = missing.start, missing.length
                if length > MAX_DIRECTORY:
                    expected = f"a directory of at most {MAX_DIRECTORY} bytes"
                    got = f"{self.where}: expected {expected}, got {length}"
                    raise InputError(got) from None
                file.add(await client.read_range(self._url, start, length, tail))

    def find_size(self, image_id: str) -> int | None:
        """See `Host`."""
        member = self._find(image_id)
        return member.size if member else None

    async def read(self, client: WebClient, image_id: str) -> Fetched:
        """Return a member; read the directory again if the file has changed."""
        while True:
            first, member = self._first, self._find(image_id)
            if member is None:
                raise WebError("missing", self.where, "it is not in the file")
            try:
                data = await self._read_member(client, member, first)
            except WebError as error:
                if error.kind != "changed":
                    raise
                await self._open_again(client, first)
                continue
            return Fetched(data, f"{self.where}#{quote(member.name)}")

    async def _read_member(self, client: WebClient, member: Member, first: Body | None) -> bytes:
        assert first
        if member.size > MAX_BYTES or member.stored > MAX_BYTES:
            got = max(member.size, member.stored)
            raise InputError(
                f"{self.where}: member {member.name!r}: expected a picture of at most "
                f"{MAX_BYTES} bytes, got {got}"
            )
        length = min(measure_zipped(b"", member), first.total - member.offset)
        reply = await client.read_range(self._url, member.offset, length, first)
        data = reply.data
        missing = min(measure_zipped(data, member), first.total - member.offset) - len(data)
        if missing > 0:
            start = member.offset + len(data)
            data += (await client.read_range(self._url, start, missing, first)).data
        picture = read_zipped(io.BytesIO(data), self.where, member)
        # The checksum proves the bytes; they might be no picture at all.
        check_header(picture, f"{self.where}: member {member.name!r}")
        return picture

    async def _open_again(self, client: WebClient, first: Body | None) -> None:
        """Read the directory of a file that has changed; one task does it for all."""
        async with self._opening:
            if self._first is not first:
                return
            self._count_change()
            await self.open(client, Path())

    def _count_change(self) -> None:
        self._changes += 1
        if self._changes > MAX_CHANGES:
            raise WebError("refused", self.where, f"it has changed {self._changes} times")

    def _find(self, image_id: str) -> Member | None:
        assert self._index is not None, "open() comes first"
        return self._index.find(image_id)


class TarHost:
    """Pictures in a tar file, which has no directory and is downloaded whole."""

    def __init__(self, where: str, url: str | None = None) -> None:
        self.where = where
        self._url = url or where
        self._archive: PictureArchive | None = None

    async def open(self, client: WebClient, folder: Path) -> None:
        """Download the file, unless it is there."""
        first = await client.read_range(self._url, 0, 512, None)
        name = hashlib.sha256(f"{self._url} {first.stamp} {first.total}".encode()).hexdigest()[:16]
        path = folder / f"{name}.tar"
        if not path.exists():
            await client.download(self._url, path, first.total)
        self._archive = PictureArchive(path)
        self._archive.prepare(folder)

    def find_size(self, image_id: str) -> int | None:
        """See `Host`."""
        assert self._archive is not None, "open() comes first"
        location = self._archive.find(image_id)
        return location.size if location else None

    async def read(self, client: WebClient, image_id: str) -> Fetched:
        """Return a member."""
        assert self._archive is not None, "open() comes first"
        location = self._archive.find(image_id)
        if location is None:
            raise WebError("missing", self.where, "it is not in the file")
        try:
            data = self._archive.read(location)
        except FileNotFoundError:
            reason = "another run has deleted the download; run the same command again"
            raise WebError("failed", self.where, reason) from None
        await asyncio.to_thread(check_picture, data, f"{self.where}: member {location.name!r}")
        return Fetched(data, f"{self.where}#{quote(location.name)}")


class HubHost:
    """Pictures in a dataset repository on the Hub: single files, and the archives among its files.

    The address is `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.
    """

    def __init__(self, where: str) -> None:
        parse_hub_path(where)
        self.where = where
        self._repository: HubRepository | None = None
        self._files: dict[str, RepoFile] = {}
        self._index: MemberIndex | None = None
        self._archives: list[ZipHost | TarHost] = []

    async def open(self, client: WebClient, folder: Path) -> None:
        """List the files, and open the archives among them."""
        self._repository = repository = await asyncio.to_thread(HubRepository, self.where)
        files = await asyncio.to_thread(lambda: list(repository.list_files()))
        self._files = {file.path: file for file in files}
        members = [Member(file.path, 0, file.size, file.size) for file in files]
        self._index = MemberIndex(self.where, members)
        self._archives = []
        for path in sorted(self._files):
            if path.endswith(SUFFIXES):
                kind = ZipHost if path.endswith(".zip") else TarHost
                archive = kind(repository.name_file(path), repository.resolve(path))
                await archive.open(client, folder)
                self._archives.append(archive)

    def find_size(self, image_id: str) -> int | None:
        """See `Host`."""
        assert self._index is not None, "open() comes first"
        member = self._index.find(image_id)
        if member:
            return member.size
        for archive in self._archives:
            size = archive.find_size(image_id)
            if size is not None:
                return size
        return None

    async def read(self, client: WebClient, image_id: str) -> Fetched:
        """Return a picture: a file of the repository, else a member of an archive in it."""
        assert self._index and self._repository, "open() comes first"
        member = self._index.find(image_id)
        if member:
            return await self._read_file(client, self._repository, member.name)
        for archive in self._archives:
            if archive.find_size(image_id) is not None:
                return await archive.read(client, image_id)
        raise WebError("missing", self.where, "it is not in the repository")

    async def _read_file(self, client: WebClient, repository: HubRepository, path: str) -> Fetched:
        where = repository.name_file(path)
        reply = await client.read(repository.resolve(path), MAX_BYTES)
        if not has_checksum([reply.data], self._files[path]):
            raise InputError(f"{where}: expected the checksum that the Hub states, got another")
        check_header(reply.data, where)
        return Fetched(reply.data, where)


class _MissingBytes(Exception):
    """A range of a file on a host that has not been read yet."""

    def __init__(self, start: int, length: int) -> None:
        super().__init__(f"{length} bytes from {start} on")
        self.start, self.length = start, length


class _PartialFile(io.RawIOBase):
    """A file of which some ranges are in memory, for `zipfile`; it raises `_MissingBytes`."""

    def __init__(self, tail: Body) -> None:
        self._size = tail.total
        self._parts = [tail]
        self._at = 0

    def add(self, part: Body) -> None:
        """Add a range."""
        self._parts.append(part)
        self._at = 0

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a position before the file")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return the bytes at the position."""
        end = self._size if size < 0 else min(self._size, self._at + size)
        length = max(0, end - self._at)
        for part in self._parts:
            start = self._at - part.start
            if start >= 0 and start + length <= len(part.data):
                self._at += length
                return part.data[start : start + length]
        raise _MissingBytes(self._at, length)


def open_host(where: str) -> Host:
    """Return the host at an address; see `Host`.

    Args:
        where: `http(s)://…/FILE.zip` or `.tar`, `http(s)://…/` below which files lie, or
            `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.

    Raises:
        InputError: it is no such address.
    """
    if where.startswith(mmrel.HUB):
        return HubHost(where)
    try:
        parts = urlsplit(where)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address or not where.isprintable() or " " in where:
        raise InputError(
            f"expected http(s)://HOST/FILE.zip, http(s)://HOST/FOLDER/ or {mmrel.HUB}OWNER/NAME, "
            f"got {where[:200]!a}"
        )
    path = unquote(parts.path)
    if path.endswith(".zip"):
        return ZipHost(where)
    if path.endswith(".tar"):
        return TarHost(where)
    return FileHost(where)


def is_remote(where: str) -> bool:
    """Return whether a source of pictures is the address of a host."""
    return where.startswith(SCHEMES)

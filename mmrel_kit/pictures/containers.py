# SPDX-License-Identifier: Apache-2.0
"""List and read the pictures in zip and tar files without unpacking them.

A file is listed once, by zipfile or tarfile, and then read by position: Visual Genome's 108,000
members would take much memory as objects of zipfile in every worker process. Links, encryption and
other unusual members are refused: MMRel's sources do not need them.
"""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import mmrel
from mmrel_kit.files import InputError

SUFFIXES = (".zip", ".tar")
PICTURE = re.compile(r"[^/]\.(?:jpe?g|png|webp)\Z", re.IGNORECASE)
MAX_HEADER = 1 << 20  # bytes of a tar header with its extensions
_HOSTILE = re.compile(r"(?:^|/)\.\.(?:/|$)|^/|^[A-Za-z]:|[\\\x00-\x1f\x7f]")
# Flags of a zip member: it is encrypted (in one of three ways); its name is in UTF-8.
_ENCRYPTED, _UTF8 = 0x2041, 0x800
# A zip member begins with a header of 30 bytes, whose last four give the lengths of the name and of
# the extra field that follow it; then come the member's bytes.
_LOCAL_SIZE, _LOCAL_START = 30, b"PK\3\4"


class Member(NamedTuple):
    """A picture in a zip or tar file.

    Attributes:
        offset: position of its header (zip) or of its bytes (tar).
        stored: its size in the file, in bytes.
        size: its unpacked size, in bytes.
        method: its compression, one of zipfile's constants.
        crc: CRC-32 of its unpacked bytes; None in a tar.
    """

    name: str
    offset: int
    stored: int
    size: int
    method: int = zipfile.ZIP_STORED
    crc: int | None = None


def list_pictures(path: Path) -> Iterator[Member]:
    """Yield the pictures in a zip or tar file.

    Raises:
        InputError: the file is damaged or truncated, or a member is of an unusual kind.
    """
    members = _list_zip(path) if path.suffix == ".zip" else _list_tar(path)
    for member in members:
        if not PICTURE.search(member.name):
            continue
        if member.size > mmrel.MAX_PICTURE_BYTES:
            expected = f"a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes"
            raise _refuse(path, member.name, expected, member.size)
        yield member


def read_picture(path: Path, member: Member) -> bytes:
    """Return the bytes of a picture that `list_pictures` has listed.

    Raises:
        InputError: they are missing or damaged.
    """
    with open(path, "rb") as file:
        file.seek(member.offset)
        is_zip = path.suffix == ".zip"
        data = _read_zipped(path, member, file) if is_zip else file.read(member.size)
    is_damaged = member.crc is not None and zlib.crc32(data) != member.crc
    if len(data) != member.size or is_damaged:
        got = f"{len(data)}, damaged; fetch the file again"
        raise _refuse(path, member.name, f"{member.size} bytes as packed", got)
    return data


def _read_zipped(path: Path, member: Member, file: BinaryIO) -> bytes:
    header = file.read(_LOCAL_SIZE)
    if len(header) < _LOCAL_SIZE or not header.startswith(_LOCAL_START):
        raise _refuse(path, member.name, "its header at the offset in the directory", header[:4])
    name_size = int.from_bytes(header[26:28], "little")
    extra_size = int.from_bytes(header[28:30], "little")
    if _decode(path, file.read(name_size)) != member.name:
        expected = "the same name in the directory and in the header"
        raise _refuse(path, member.name, expected, "another")
    file.seek(extra_size, 1)
    return _inflate(path, member, file.read(member.stored))


def _inflate(path: Path, member: Member, data: bytes) -> bytes:
    """Decompress a member, to its stated size at most."""
    if member.method == zipfile.ZIP_STORED:
        return data
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpack.decompress(data, member.size + 1)
    except zlib.error as error:
        raise _refuse(path, member.name, "deflated data", str(error)) from None
    if len(unpacked) > member.size:
        raise _refuse(path, member.name, f"{member.size} unpacked bytes, as stated", "more")
    return unpacked


def _list_zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries, end = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: expected a complete zip file: {error}; fetch the file again"
        ) from None
    for entry in entries:
        raw = entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")
        name = _decode(path, raw)
        if not name.endswith("/"):
            _check_entry(path, name, entry, end)
            sizes = entry.compress_size, entry.file_size
            yield Member(name, entry.header_offset, *sizes, entry.compress_type, entry.CRC)


def _check_entry(path: Path, name: str, entry: zipfile.ZipInfo, end: int) -> None:
    """Raise an `InputError` unless a zip entry is a regular file that lies before `end`."""
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise _refuse(path, name, "a regular file", "a link")
    if entry.flag_bits & _ENCRYPTED:
        raise _refuse(path, name, "a file that is not encrypted", "an encrypted one")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        got = f"compression method {entry.compress_type}; pack it again"
        raise _refuse(path, name, "a stored or deflated file", got)
    if entry.header_offset < 0:
        raise InputError(
            f"{path}: expected a complete zip file, its beginning is missing; fetch the file again"
        )
    is_stored = entry.compress_type == zipfile.ZIP_STORED
    is_beyond = entry.header_offset + _LOCAL_SIZE + entry.compress_size > end
    if is_beyond or (is_stored and entry.file_size != entry.compress_size):
        expected = f"it to lie within the {path.stat().st_size} bytes of the file"
        raise _refuse(path, name, expected, f"{entry.compress_size} at {entry.header_offset}")


class _Headers:
    """A file object for tarfile that refuses to read more than a header at once."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes."""
        if size > MAX_HEADER:
            raise InputError(
                f"{self._path}: expected tar headers of at most {MAX_HEADER} bytes, "
                f"got one of {size}"
            )
        return self._file.read(size)


def _list_tar(path: Path) -> Iterator[Member]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        try:
            # "r:" refuses compressed files, which would have to be unpacked to be listed.
            headers: Any = _Headers(path, file)
            with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8") as archive:
                yield from _list_headers(path, archive, size)
                end = archive.offset
        except InputError:
            raise
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: expected an uncompressed tar file: {error}; "
                "fetch it again, or unpack a .tar.gz"
            ) from None
        # tarfile stops without an error at a damaged header, and where a file is truncated between
        # two members.
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or block.strip(b"\0"):
        raise InputError(
            f"{path}: expected a complete tar file, it is damaged or truncated at byte {end}; "
            "fetch it again"
        )


def _list_headers(path: Path, archive: tarfile.TarFile, size: int) -> Iterator[Member]:
    while True:
        header = archive.next()
        if header is None:
            return
        # tarfile keeps every member that it has read.
        archive.members = []  # type: ignore[attr-defined]
        name = _decode(path, header.name.encode("utf-8", "surrogateescape"))
        if header.isdir():
            continue
        if not header.isreg() or header.issparse():
            got = f"a link or device (type {header.type!r}); pack it again"
            raise _refuse(path, name, "a regular file", got)
        if header.size < 0 or header.offset_data + header.size > size:
            expected = f"it to lie within the {size} bytes of the file"
            raise _refuse(path, name, expected, header.size)
        yield Member(name, header.offset_data, header.size, header.size)


def _decode(path: Path, raw: bytes) -> str:
    """Return a member's name as a relative path.

    Raises:
        InputError: it is empty, not UTF-8, or leads out of the archive.
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        got = "bytes of another encoding; pack it again"
        raise _refuse(path, ascii(raw)[2:-1], "a name in UTF-8", got) from None
    if _HOSTILE.search(name) or not name:
        got = "one that leads out of it, or no name"
        raise _refuse(path, name, "a path within the archive", got)
    return re.sub(r"(?:^|(?<=/))\./", "", name)


def _refuse(path: Path, name: str, expected: str, got: object) -> InputError:
    return InputError(f"{path}: member {name!r}: expected {expected}, got {got}")

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
from collections.abc import Iterable, Iterator
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
# Lengths of the name and the extra field that are enough for most members.
_ESTIMATED_LENGTHS = (100, 36)


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
    if path.suffix == ".zip":
        with open(path, "rb") as file:
            yield from list_zip(file, str(path))
    else:
        yield from _only_pictures(_list_tar(path), str(path))


def list_zip(file: BinaryIO, where: str) -> Iterator[Member]:
    """Yield the pictures in an open zip file, of which only the directory is read.

    Raises:
        InputError: see `list_pictures`.
    """
    return _only_pictures(_list_zip(file, where), where)


def _only_pictures(members: Iterable[Member], where: str) -> Iterator[Member]:
    for member in members:
        if not PICTURE.search(member.name):
            continue
        if member.size > mmrel.MAX_PICTURE_BYTES:
            expected = f"a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes"
            raise _refuse(where, member.name, expected, member.size)
        yield member


def read_picture(path: Path, member: Member) -> bytes:
    """Return the bytes of a picture that `list_pictures` has listed.

    Raises:
        InputError: they are missing or damaged.
    """
    with open(path, "rb") as file:
        file.seek(member.offset)
        if path.suffix == ".zip":
            return read_zipped(file, str(path), member)
        return _check_data(str(path), member, file.read(member.size))


def read_zipped(file: BinaryIO, where: str, member: Member) -> bytes:
    """Return the bytes of a picture in a zip file that is open at the member's header.

    Raises:
        InputError: see `read_picture`.
    """
    header = file.read(_LOCAL_SIZE)
    if len(header) < _LOCAL_SIZE or not header.startswith(_LOCAL_START):
        raise _refuse(where, member.name, "its header at the offset in the directory", header[:4])
    name_size, extra_size = _read_lengths(header)
    if _decode(where, file.read(name_size)) != member.name:
        expected = "the same name in the directory and in the header"
        raise _refuse(where, member.name, expected, "another")
    file.seek(extra_size, 1)
    data = _inflate(where, member, file.read(member.stored))
    return _check_data(where, member, data)


def measure_zipped(header: bytes, member: Member) -> int:
    """Return the bytes from the beginning of a member's header to the end of its data.

    Before the header is known, `header` is empty, and its size is estimated.
    """
    lengths = _read_lengths(header) if len(header) >= _LOCAL_SIZE else _ESTIMATED_LENGTHS
    return _LOCAL_SIZE + sum(lengths) + member.stored


def _read_lengths(header: bytes) -> tuple[int, int]:
    """Return the lengths of the name and of the extra field."""
    return int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")


def _check_data(where: str, member: Member, data: bytes) -> bytes:
    is_damaged = member.crc is not None and zlib.crc32(data) != member.crc
    if len(data) != member.size or is_damaged:
        got = f"{len(data)}, damaged; fetch the file again"
        raise _refuse(where, member.name, f"{member.size} bytes as packed", got)
    return data


def _inflate(where: str, member: Member, data: bytes) -> bytes:
    """Decompress a member, to its stated size at most."""
    if member.method == zipfile.ZIP_STORED:
        return data
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpack.decompress(data, member.size + 1)
    except zlib.error as error:
        raise _refuse(where, member.name, "deflated data", str(error)) from None
    if len(unpacked) > member.size:
        raise _refuse(where, member.name, f"{member.size} unpacked bytes, as stated", "more")
    return unpacked


def _list_zip(file: BinaryIO, where: str) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries, end = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise InputError(
            f"{where}: expected a complete zip file: {error}; fetch the file again"
        ) from None
    for entry in entries:
        raw = entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")
        name = _decode(where, raw)
        if not name.endswith("/"):
            _check_entry(where, name, entry, end)
            sizes = entry.compress_size, entry.file_size
            yield Member(name, entry.header_offset, *sizes, entry.compress_type, entry.CRC)


def _check_entry(where: str, name: str, entry: zipfile.ZipInfo, end: int) -> None:
    """Raise an `InputError` unless a zip entry is a regular file that lies before `end`."""
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise _refuse(where, name, "a regular file", "a link")
    if entry.flag_bits & _ENCRYPTED:
        raise _refuse(where, name, "a file that is not encrypted", "an encrypted one")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        got = f"compression method {entry.compress_type}; pack it again"
        raise _refuse(where, name, "a stored or deflated file", got)
    if entry.header_offset < 0:
        raise InputError(
            f"{where}: expected a complete zip file, its beginning is missing; fetch the file again"
        )
    is_stored = entry.compress_type == zipfile.ZIP_STORED
    is_beyond = entry.header_offset + _LOCAL_SIZE + entry.compress_size > end
    if is_beyond or (is_stored and entry.file_size != entry.compress_size):
        expected = f"it to lie before the directory of the file, at {end}"
        raise _refuse(where, name, expected, f"{entry.compress_size} at {entry.header_offset}")


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
                yield from _list_headers(str(path), archive, size)
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


def _list_headers(where: str, archive: tarfile.TarFile, size: int) -> Iterator[Member]:
    while True:
        header = archive.next()
        if header is None:
            return
        # tarfile keeps every member that it has read.
        archive.members = []  # type: ignore[attr-defined]
        name = _decode(where, header.name.encode("utf-8", "surrogateescape"))
        if header.isdir():
            continue
        if not header.isreg() or header.issparse():
            got = f"a link or device (type {header.type!r}); pack it again"
            raise _refuse(where, name, "a regular file", got)
        if header.size < 0 or header.offset_data + header.size > size:
            expected = f"it to lie within the {size} bytes of the file"
            raise _refuse(where, name, expected, header.size)
        yield Member(name, header.offset_data, header.size, header.size)


def _decode(where: str, raw: bytes) -> str:
    """Return a member's name as a relative path.

    Raises:
        InputError: it is empty, not UTF-8, or leads out of the archive.
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        got = "bytes of another encoding; pack it again"
        raise _refuse(where, ascii(raw)[2:-1], "a name in UTF-8", got) from None
    if _HOSTILE.search(name) or not name:
        got = "one that leads out of it, or no name"
        raise _refuse(where, name, "a path within the archive", got)
    return re.sub(r"(?:^|(?<=/))\./", "", name)


def _refuse(where: str, name: str, expected: str, got: object) -> InputError:
    return InputError(f"{where}: member {name!r}: expected {expected}, got {got}")

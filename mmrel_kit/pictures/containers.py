# SPDX-License-Identifier: Apache-2.0
"""Looks into zip and tar files without unpacking them: where each picture lies, and the bytes of one.

The standard library's zipfile keeps all members of a file in memory (Visual Genome's have 108,000), in each process
that reads it. Here a file is listed once, one member at a time, and read by position from then on. Whatever is odd is
refused by its name: nothing that MMRel is made from needs it.
"""

from __future__ import annotations

import re
import stat
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
from mmrel_kit.files import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

SUFFIXES = (".zip", ".tar")
PICTURE = re.compile(r"[^/]\.(?:jpe?g|png|webp)\Z", re.IGNORECASE)
STORED, DEFLATED = 0, 8
MAX_HEADER = 1 << 20  # bytes of a tar header with its extensions
_HOSTILE = re.compile(r"(?:^|/)\.\.(?:/|$)|^/|^[A-Za-z]:|[\\\x00-\x1f\x7f]")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL = 0xFFFFFFFF  # the number stands in the zip64 field instead


class Member(NamedTuple):
    """A picture in a zip or tar file: its path there, where it begins, its bytes there and unpacked."""

    name: str
    offset: int
    stored: int
    size: int
    method: int = STORED
    crc: int | None = None


def list_pictures(path: Path) -> Iterator[Member]:
    """The pictures in a zip or tar file, one at a time.

    Raises:
        InputError: the file is damaged or cut off, or a member is not what an archive of pictures needs.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        members = _list_zip(path, file, size) if path.suffix == ".zip" else _list_tar(path, file, size)
        for member in members:
            if PICTURE.search(member.name):
                if member.size > mmrel.MAX_PICTURE_BYTES:
                    raise _refuse(
                        path, member.name, f"a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes", member.size
                    )
                yield member


def read_picture(path: Path, member: Member) -> bytes:
    """The bytes of a picture that `list_pictures` has found."""
    with open(path, "rb") as file:
        file.seek(member.offset)
        if path.suffix != ".zip":
            data = file.read(member.size)
        else:
            header = file.read(_LOCAL.size)
            if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
                raise _refuse(path, member.name, "its header where the directory says", header[:4])
            name, extra = _LOCAL.unpack(header)[9:]
            if _decode(path, file.read(name)) != member.name:
                raise _refuse(path, member.name, "the same name in the directory and at the picture", "another")
            file.seek(extra, 1)
            data = _inflate(path, member, file.read(member.stored))
    if len(data) != member.size or (member.crc is not None and zlib.crc32(data) != member.crc):
        raise _refuse(
            path, member.name, f"{member.size} bytes as packed", f"{len(data)}, damaged; fetch the file again"
        )
    return data


def _inflate(path: Path, member: Member, data: bytes) -> bytes:
    """Unpack a member, never to more than it says it holds."""
    if member.method == STORED:
        return data
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpack.decompress(data, member.size + 1)
    except zlib.error as error:
        raise _refuse(path, member.name, "deflated data", str(error)) from None
    if len(unpacked) > member.size:
        raise _refuse(path, member.name, f"{member.size} bytes once unpacked, as it says", "more")
    return unpacked


def _list_zip(path: Path, file: BinaryIO, size: int) -> Iterator[Member]:
    start, end, count = _find_directory(path, file, size)
    file.seek(start)
    seen = 0
    while file.tell() < end:
        header = file.read(_ENTRY.size)
        if len(header) < _ENTRY.size or header[:4] != b"PK\1\2":
            raise InputError(f"{path}: expected a zip's directory, it is damaged at byte {file.tell()}; fetch it again")
        _, _, _, flags, method, _, _, crc, stored, unpacked, name_size, extra, comment, _, _, mode, offset = (
            _ENTRY.unpack(header)
        )
        name = _decode(path, file.read(name_size))
        sizes = _read_zip64(file.read(extra), [unpacked, stored, offset])
        file.seek(comment, 1)
        seen += 1
        if name.endswith("/"):
            continue
        if stat.S_ISLNK(mode >> 16):
            raise _refuse(path, name, "a plain file", "a link")
        if flags & 0x2041:
            raise _refuse(path, name, "a file that is not encrypted", "an encrypted one")
        if method not in (STORED, DEFLATED):
            raise _refuse(path, name, "a stored or deflated file", f"compression method {method}; pack it again")
        if sizes[2] + _LOCAL.size + sizes[1] > start or (method == STORED and sizes[0] != sizes[1]):
            raise _refuse(path, name, f"it to lie within the {size} bytes of the file", f"{sizes[1]} at {sizes[2]}")
        yield Member(name, sizes[2], sizes[1], sizes[0], method, crc)
    if file.tell() != end or (seen - count) % (1 << 16):  # old zips count to 65,535
        raise InputError(f"{path}: expected {count} members, its directory lists {seen}; fetch the file again")


def _find_directory(path: Path, file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where a zip's directory begins and ends, and how many members it lists."""
    broken = InputError(f"{path}: expected a whole zip file, found no directory at its end; fetch the file again")
    tail_size = min(size, _END.size + 0xFFFF + _LOCATOR.size)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise broken
    _, disk, first, here, count, length, start, comment = _END.unpack_from(tail, at)
    position = size - tail_size + at
    if at + _END.size + comment != len(tail) or (disk, first, here) != (0, 0, count):
        raise broken
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\6\7"):
        _, _, position, _ = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        file.seek(min(position, size))
        record = file.read(_END64.size)
        if len(record) < _END64.size or record[:4] != b"PK\6\6":
            raise broken
        *_, count, length, start = _END64.unpack(record)
    if start + length != position:
        raise broken
    return start, position, count


def _read_zip64(extra: bytes, sizes: list[int]) -> list[int]:
    """Sizes and offset of an entry, those that do not fit into 32 bits from the field for them."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            wide = [index for index, value in enumerate(sizes) if value == _FULL]
            for index, value in zip(wide, struct.iter_unpack("<Q", field[: len(field) // 8 * 8]), strict=False):
                sizes[index] = value[0]
        at += 4 + length
    return sizes


class _Headers:
    """A file for tarfile, which is asked for headers alone: it refuses to read more than a header has."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes."""
        if size > MAX_HEADER:
            raise InputError(f"{self._path}: expected tar headers of at most {MAX_HEADER} bytes, got one of {size}")
        return self._file.read(size)


def _list_tar(path: Path, file: BinaryIO, size: int) -> Iterator[Member]:
    try:
        # "r:" takes plain tar files alone; a compressed one would have to be unpacked to be looked into.
        headers: Any = _Headers(path, file)
        with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8") as archive:
            while (header := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # tarfile remembers every member it has seen
                name = _decode(path, header.name.encode("utf-8", "surrogateescape"))
                if header.isdir():
                    continue
                if not header.isreg() or header.issparse():
                    raise _refuse(path, name, "a plain file", f"a link or device (type {header.type!r}); pack it again")
                if header.size < 0 or header.offset_data + header.size > size:
                    raise _refuse(path, name, f"it to lie within the {size} bytes of the file", header.size)
                yield Member(name, header.offset_data, header.size, header.size)
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: expected a plain tar file: {error}; fetch it again, or unpack a .tar.gz") from None
    # tarfile takes a damaged header for the end, and a file that is cut off between two members for a whole one.
    file.seek(end)
    if len(block := file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE or block.strip(b"\0"):
        raise InputError(f"{path}: expected a whole tar file, it is damaged or cut off at byte {end}; fetch it again")


def _decode(path: Path, raw: bytes) -> str:
    """A member's name as a path below the root of the file, or an error that names it."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise _refuse(path, ascii(raw)[2:-1], "a name in UTF-8", "bytes of another encoding; pack it again") from None
    if _HOSTILE.search(name) or not name:
        raise _refuse(path, name, "a path within the file", "one that leads out of it, or no name")
    return re.sub(r"(?:^|(?<=/))\./", "", name)


def _refuse(path: Path, name: str, expected: str, got: object) -> InputError:
    return InputError(f"{path}: member {name!r}: expected {expected}, got {got}")

# SPDX-License-Identifier: Apache-2.0
"""Zips that are damaged, hostile, or unusual but right.

Each of `ZIPS` is asked for one picture, `NAME`. It is refused with certain words, or the picture in
it is right. No zip is larger than 300 kB, whatever it states or unpacks to.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from tests.helpers.pictures import make_jpeg, make_png

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "VG_100K/1.jpg"
PICTURE = make_jpeg()
GOOD = (NAME, PICTURE)
NOTE = ("notes.txt", b"of 2016")
COMPLETE = "a.zip: expected a complete zip file"

# Signatures of a member's header, of an entry in the directory, and of the end of the directory.
LOCAL, ENTRY, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
# Positions of an entry's fields.
VERSION, FLAGS, STORED_SIZE, SIZE, ATTRIBUTES, OFFSET = 6, 8, 20, 24, 38, 42
# Positions in a member's header; of the end.
LOCAL_EXTRA, END_COUNT, END_SIZE, END_OFFSET = 28, 8, 12, 16


class ZipCase(NamedTuple):
    """A zip.

    Attributes:
        make: returns its bytes.
        refusal: words of the error if the file is called a.zip; None if its picture is right.
    """

    make: Callable[[], bytes]
    refusal: str | None = None


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip of these members."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Return a zip whose headers of a kind say something else."""
    at = 0
    while (at := data.find(signature, at)) >= 0:
        data = data[: at + offset] + value + data[at + offset + len(value) :]
        at += 1
    return data


def uint(value: int) -> bytes:
    """Return a number as the four bytes of a header's field."""
    return struct.pack("<L", value)


def refuse(expected: str, name: str = NAME) -> str:
    """Return the words of an error about a member."""
    return f"member '{name}': expected {expected}"


def make_streamed() -> bytes:
    """Return a zip whose members' sizes and checksums follow their bytes, as a pipe writes it."""

    class Pipe(io.RawIOBase):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            buffer.write(data)
            return len(data)

    buffer = io.BytesIO()
    with zipfile.ZipFile(Pipe(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(*NOTE)
        archive.writestr(*GOOD)
    return buffer.getvalue()


def make_zip64() -> bytes:
    """Return a zip whose sizes and positions are all in extra fields of zip64."""
    local_extra = struct.pack("<2H2Q", 1, 16, len(PICTURE), len(PICTURE))
    extra = struct.pack("<2H3Q", 1, 24, len(PICTURE), len(PICTURE), 0)
    name = NAME.encode()
    most = 0xFFFFFFFF
    fields = (45, 0, 0, 0, 0x21, zlib.crc32(PICTURE), most, most, len(name))
    header = LOCAL + struct.pack("<5H3L2H", *fields, len(local_extra)) + name + local_extra
    entry = ENTRY + struct.pack("<6H3L5H2L", 45, *fields, len(extra), 0, 0, 0, 0, most)
    directory = entry + name + extra
    start = len(header) + len(PICTURE)
    numbers = (44, 45, 45, 0, 0, 1, 1, len(directory), start)
    end64 = b"PK\6\6" + struct.pack("<Q2H2L4Q", *numbers)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, start + len(directory), 1)
    end = END + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, most, most, 0)
    return header + PICTURE + directory + end64 + locator + end


def make_commented(comment: bytes) -> bytes:
    """Return a zip with a comment."""
    return zipped(GOOD)[:-2] + struct.pack("<H", len(comment)) + comment


def make_overlapping() -> bytes:
    """Return a zip with 1,000 entries for the same bytes, as in a bomb without any nesting."""
    whole = zipped((NAME, bytes(1_000_000)))
    start = whole.index(ENTRY)
    entry, end = whole[start : whole.index(END)], whole[whole.index(END) :]
    entries = [entry]
    for number in range(1, 1000):
        entries.append(entry.replace(NAME.encode(), b"VG_1/%04d.jpg" % number))
    directory = b"".join(entries)
    counts = struct.pack("<2H2L", 1000, 1000, len(directory), start)
    return whole[:start] + directory + patched(end, END, END_COUNT, counts)


ZIPS = {
    "a bomb that says how large it is": ZipCase(
        lambda: patched(zipped(GOOD), ENTRY, SIZE, uint(mmrel.MAX_PICTURE_BYTES + 1)),
        refuse("a picture of at most 268435456 bytes, got 268435457"),
    ),
    "a bomb that lies": ZipCase(
        lambda: patched(zipped((NAME, bytes(5_000_000))), ENTRY, SIZE, uint(1000)),
        refuse("1000 unpacked bytes, as stated, got more"),
    ),
    "a bomb of a ratio of 1,000": ZipCase(
        lambda: zipped((NAME, bytes(50_000_000))),
        f"picture 'vg/{NAME}': expected a complete JPEG, PNG, WEBP",
    ),
    "a bomb beside the picture": ZipCase(
        lambda: zipped(("VG_100K/2.jpg", bytes(50_000_000)), GOOD)
    ),
    "a bomb of overlapping members": ZipCase(
        make_overlapping, f"picture 'vg/{NAME}': expected a complete JPEG, PNG, WEBP"
    ),
    "5 GB in a small zip": ZipCase(
        lambda: patched(
            zipped(GOOD),
            ENTRY,
            STORED_SIZE,
            struct.pack("<2LHH", 0xFFFFFFFE, 0xFFFFFFFE, len(NAME), 0),
        ),
        refuse("it to lie before"),
    ),
    "5 GB away": ZipCase(
        lambda: patched(zipped(GOOD), ENTRY, OFFSET, uint(0xFFFFFFF0)), refuse("it to lie before")
    ),
    "fewer packed bytes than there are": ZipCase(
        lambda: patched(zipped(GOOD), ENTRY, STORED_SIZE, uint(100)),
        refuse(f"{len(PICTURE)} bytes as packed, got"),
    ),
    "fewer stored bytes than it has": ZipCase(
        lambda: patched(zipped(GOOD, method=zipfile.ZIP_STORED), ENTRY, STORED_SIZE, uint(100)),
        refuse("it to lie before"),
    ),
    "fewer bytes, twice": ZipCase(
        lambda: patched(
            zipped(GOOD, method=zipfile.ZIP_STORED), ENTRY, STORED_SIZE, uint(100) + uint(100)
        ),
        refuse("100 bytes as packed, got 100, damaged"),
    ),
    "out of the zip": ZipCase(
        lambda: zipped(GOOD, ("../../evil.jpg", b"x")), refuse("a path within", "../../evil.jpg")
    ),
    "inside, then out": ZipCase(
        lambda: zipped(GOOD, ("vg/../../e.jpg", b"x")), refuse("a path within", "vg/../../e.jpg")
    ),
    "absolute": ZipCase(
        lambda: zipped(GOOD, ("/etc/evil.jpg", b"x")), refuse("a path within", "/etc/evil.jpg")
    ),
    "a drive": ZipCase(
        lambda: zipped(GOOD, ("C:/evil.jpg", b"x")), refuse("a path within", "C:/evil.jpg")
    ),
    "a backslash": ZipCase(
        lambda: zipped(GOOD, ("..\\evil.jpg", b"x")), "evil.jpg': expected a path within"
    ),
    "a control character": ZipCase(
        lambda: zipped(GOOD, ("a\nb.jpg", b"x")), "b.jpg': expected a path within"
    ),
    "one name twice": ZipCase(lambda: zipped(GOOD, (NAME, b"x")), refuse("each name once")),
    "two pictures that could be it": ZipCase(
        lambda: zipped((f"a/{NAME}", PICTURE), (f"b/{NAME}", PICTURE)),
        f"expected one picture 'vg/{NAME}', got 'a/{NAME}', 'b/{NAME}'",
    ),
    "encrypted": ZipCase(
        lambda: patched(zipped(GOOD), ENTRY, FLAGS, struct.pack("<H", 1)),
        refuse("a file that is not encrypted"),
    ),
    "a method that is not read": ZipCase(
        lambda: zipped(GOOD, method=zipfile.ZIP_LZMA),
        "expected a stored or deflated file, got compression method 14",
    ),
    "a link": ZipCase(
        lambda: patched(zipped(GOOD), ENTRY, ATTRIBUTES, uint(0o120777 << 16)),
        "expected a regular file, got a link",
    ),
    "a name of DOS": ZipCase(
        lambda: zipped(GOOD, ("caf_.jpg", b"x")).replace(b"caf_", b"caf\xe9"),
        r"member 'caf\\xe9.jpg': expected a name in UTF-8",
    ),
    "the directory names another": ZipCase(
        lambda: zipped(GOOD).replace(NAME.encode(), b"VG_100K/2.jpg", 1),
        "expected the same name in the directory",
    ),
    "no header where the directory says": ZipCase(
        lambda: zipped(GOOD).replace(LOCAL, b"PK\3\5"),
        refuse("its header at the offset in the directory"),
    ),
    "a header with a long extra field": ZipCase(
        lambda: patched(zipped(GOOD), LOCAL, LOCAL_EXTRA, b"\xff\xff"),
        refuse(f"{len(PICTURE)} bytes as packed, got 0"),
    ),
    "a damaged byte": ZipCase(
        lambda: zipped(GOOD, method=zipfile.ZIP_STORED).replace(PICTURE[300:320], bytes(20), 1),
        "damaged; fetch the file again",
    ),
    "cut off": ZipCase(lambda: zipped(GOOD)[:-30], COMPLETE),
    "cut off within its end": ZipCase(lambda: zipped(GOOD)[:-1], COMPLETE),
    "the beginning is missing": ZipCase(lambda: zipped(GOOD)[100:], COMPLETE),
    "a version of zip to come": ZipCase(
        lambda: patched(zipped(GOOD), ENTRY, VERSION, struct.pack("<H", 99)),
        f"{COMPLETE}: zip file version 9.9",
    ),
    "a damaged directory": ZipCase(
        lambda: patched(zipped(GOOD), ENTRY, 0, b"PK\1\3"),
        f"{COMPLETE}: Bad magic number for central directory; fetch the file again",
    ),
    "half of a directory": ZipCase(
        lambda: patched(zipped(GOOD, NOTE), END, END_SIZE, uint(60)), COMPLETE
    ),
    "a directory of 4 GB": ZipCase(
        lambda: patched(zipped(GOOD), END, END_SIZE, uint(0xFFFFFFF0)), COMPLETE
    ),
    "a directory of many exabytes": ZipCase(
        lambda: patched(make_zip64(), b"PK\6\6", 40, struct.pack("<Q", 1 << 62)), COMPLETE
    ),
    "a directory that begins elsewhere": ZipCase(
        lambda: patched(zipped(GOOD), END, END_OFFSET, uint(0xFFFFFFF0)), COMPLETE
    ),
    "another end within the comment": ZipCase(
        lambda: make_commented(b"x" * 30 + END + bytes(18) + b"yy"), f"vg/{NAME}"
    ),
    "empty": ZipCase(lambda: b"", COMPLETE),
    "without members": ZipCase(lambda: zipped(), f"vg/{NAME}"),
    "a page of HTML": ZipCase(lambda: b"<!DOCTYPE html><title>Not found</title>" * 90, COMPLETE),
    "a picture bomb": ZipCase(
        lambda: zipped((NAME, make_png(60_000, 60_000))),
        "expected a picture of at most 178956970 pixels",
    ),
    "no picture": ZipCase(
        lambda: zipped((NAME, b"#!/bin/sh")),
        f"picture 'vg/{NAME}': expected a complete JPEG, PNG, WEBP",
    ),
    "sizes after the bytes": ZipCase(make_streamed),
    "zip64": ZipCase(make_zip64),
    "a comment of 64 KB": ZipCase(lambda: make_commented(b"c" * 65535)),
    "a program before the zip": ZipCase(lambda: b"#!/bin/sh\n" * 1000 + zipped(NOTE, GOOD)),
    "a wrong number of members": ZipCase(
        lambda: patched(zipped(GOOD), END, END_COUNT, struct.pack("<2H", 60000, 60000))
    ),
    "entries of folders": ZipCase(lambda: zipped(("VG_100K/", b""), GOOD)),
    "a leading dot": ZipCase(lambda: zipped((f"./{NAME}", PICTURE))),
}

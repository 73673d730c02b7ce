"""Damaged or hostile archives of pictures are refused, and nothing outside --out is written."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmrel
import upload
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import list_pictures, read_picture
from tests.helpers.folders import snapshot
from tests.helpers.pictures import make_jpeg, make_png

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "VG_100K/1.jpg"
RECORD = {
    "question_id": "q1",
    "image": f"vg/{NAME}",
    "text": "Is there a cat above to a car in the image?",
    "label": "yes",
}


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """A zip whose headers of a kind say something else."""
    at = 0
    while (at := data.find(signature, at)) >= 0:
        data = data[: at + offset] + value + data[at + offset + len(value) :]
        at += 1
    return data


def tarred(*headers: tuple[tarfile.TarInfo, bytes], ended: bool = True) -> bytes:
    data = b"".join(
        header.tobuf(tarfile.GNU_FORMAT) + body + b"\0" * (-len(body) % 512)
        for header, body in headers
    )
    return data + b"\0" * 10240 * ended


def member(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    for field, value in fields.items():
        setattr(header, field, value)
    return header


GOOD = (NAME, make_jpeg())
# The content of a file, its name, and the message about it.
CASES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "a bomb that says how large it is": (
        lambda: patched(
            zipped(GOOD), b"PK\1\2", 24, struct.pack("<L", mmrel.MAX_PICTURE_BYTES + 1)
        ),
        "a.zip",
        f"member '{NAME}': expected a picture of at most 268435456 bytes, got 268435457",
    ),
    "a bomb that lies": (
        lambda: patched(zipped((NAME, b"\0" * 5_000_000)), b"PK\1\2", 24, struct.pack("<L", 1000)),
        "a.zip",
        f"member '{NAME}': expected 1000 unpacked bytes, as stated, got more",
    ),
    "5 GB in a small zip": (
        lambda: patched(
            zipped(GOOD), b"PK\1\2", 20, struct.pack("<2LHH", 0xFFFFFFFE, 0xFFFFFFFE, len(NAME), 0)
        ),
        "a.zip",
        f"member '{NAME}': expected it to lie within",
    ),
    "out of the zip": (
        lambda: zipped(GOOD, ("../../evil.jpg", b"x")),
        "a.zip",
        "member '../../evil.jpg': expected a path",
    ),
    "inside, then out": (
        lambda: zipped(GOOD, ("vg/../../e.jpg", b"x")),
        "a.zip",
        "member 'vg/../../e.jpg': expected a path",
    ),
    "absolute": (
        lambda: zipped(GOOD, ("/etc/evil.jpg", b"x")),
        "a.zip",
        "member '/etc/evil.jpg': expected a path within",
    ),
    "a drive": (
        lambda: zipped(GOOD, ("C:/evil.jpg", b"x")),
        "a.zip",
        "member 'C:/evil.jpg': expected a path within",
    ),
    "a backslash": (
        lambda: zipped(GOOD, ("..\\evil.jpg", b"x")),
        "a.zip",
        "evil.jpg': expected a path within",
    ),
    "one name twice": (
        lambda: zipped(GOOD, (NAME, b"x")),
        "a.zip",
        f"member '{NAME}': expected each name once",
    ),
    "two pictures that could be it": (
        lambda: zipped((f"a/{NAME}", make_jpeg()), (f"b/{NAME}", make_jpeg())),
        "a.zip",
        f"expected one picture 'vg/{NAME}', got 'a/{NAME}', 'b/{NAME}'",
    ),
    "encrypted": (
        lambda: patched(zipped(GOOD), b"PK\1\2", 8, struct.pack("<H", 1)),
        "a.zip",
        f"member '{NAME}': expected a file that is not encrypted",
    ),
    "a method that is not read": (
        lambda: zipped(GOOD, method=zipfile.ZIP_LZMA),
        "a.zip",
        "expected a stored or deflated file, got compression method 14",
    ),
    "a link in a zip": (
        lambda: patched(zipped(GOOD), b"PK\1\2", 38, struct.pack("<L", 0o120777 << 16)),
        "a.zip",
        "expected a regular file, got a link",
    ),
    "another encoding": (
        lambda: zipped(GOOD, ("caf_.jpg", b"x")).replace(b"caf_", b"caf\xe9"),
        "a.zip",
        r"member 'caf\\xe9.jpg': expected a name in UTF-8",
    ),
    "the directory names another": (
        lambda: zipped(GOOD).replace(NAME.encode(), b"VG_100K/2.jpg", 1),
        "a.zip",
        "expected the same name in the directory",
    ),
    "a damaged byte": (
        lambda: zipped(GOOD, method=zipfile.ZIP_STORED).replace(GOOD[1][300:320], bytes(20), 1),
        "a.zip",
        "damaged; fetch the file again",
    ),
    "cut off": (lambda: zipped(GOOD)[:-30], "a.zip", "a.zip: expected a complete zip file"),
    "cut off within its end": (
        lambda: zipped(GOOD)[:-1],
        "a.zip",
        "a.zip: expected a complete zip file",
    ),
    "the beginning is missing": (
        lambda: zipped(GOOD)[100:],
        "a.zip",
        "a.zip: expected a complete zip file",
    ),
    "a version of zip to come": (
        lambda: patched(zipped(GOOD), b"PK\1\2", 6, struct.pack("<H", 99)),
        "a.zip",
        "a.zip: expected a complete zip file: zip file version 9.9",
    ),
    "a damaged directory": (
        lambda: patched(zipped(GOOD), b"PK\1\2", 0, b"PK\1\3"),
        "a.zip",
        "a.zip: expected a complete zip file: Bad magic number for central directory; "
        "fetch the file again",
    ),
    "empty": (lambda: b"", "a.zip", "a.zip: expected a complete zip file"),
    "a picture bomb": (
        lambda: zipped((NAME, make_png(60_000, 60_000))),
        "a.zip",
        "expected a picture of at most 178956970 pixels",
    ),
    "no picture": (
        lambda: zipped((NAME, b"#!/bin/sh")),
        "a.zip",
        f"picture 'vg/{NAME}': expected a complete JPEG, PNG, WEBP",
    ),
    "a symlink in a tar": (
        lambda: tarred((member(NAME, type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")),
        "a.tar",
        f"member '{NAME}': expected a regular file, got a link or device",
    ),
    "a hard link in a tar": (
        lambda: tarred((member("b.jpg", type=tarfile.LNKTYPE, linkname="../../x"), b"")),
        "a.tar",
        "member 'b.jpg': expected a regular file",
    ),
    "a device in a tar": (
        lambda: tarred((member("d", type=tarfile.CHRTYPE), b"")),
        "a.tar",
        "member 'd': expected a regular file",
    ),
    "out of the tar": (
        lambda: tarred((member("../e.jpg", 1), b"x")),
        "a.tar",
        "member '../e.jpg': expected a path within",
    ),
    "5 GB in a small tar": (
        lambda: tarred((member(NAME, 5 << 30), b"x")),
        "a.tar",
        f"member '{NAME}': expected it to lie before",
    ),
    "a header of 5 GB": (
        lambda: tarred((member("x", 5 << 30, type=tarfile.GNUTYPE_LONGNAME), b"x")),
        "a.tar",
        "expected tar headers of at most 1048576 bytes",
    ),
    "another encoding in a tar": (
        lambda: tarred((member("caf\udce9.jpg", 1), b"x")),
        "a.tar",
        r"member 'caf\\xe9.jpg': expected a name in UTF-8",
    ),
    "one name twice in a tar": (
        lambda: tarred((member(NAME, 1), b"x"), (member(NAME, 1), b"y")),
        "a.tar",
        "expected each name once",
    ),
    "a tar cut off": (
        lambda: tarred((member(NAME, 9000), b"x" * 9000), ended=False)[:4000],
        "a.tar",
        "expected it to lie within the 4000",
    ),
    "a tar without an end": (
        lambda: tarred((member(NAME, 3), b"xyz"), ended=False),
        "a.tar",
        "expected a complete tar file, it is damaged or truncated",
    ),
    "a tar with a damaged header": (
        lambda: tarred((member(NAME, 3), b"xyz"))[:1024] + b"\1" * 512 + bytes(10240),
        "a.tar",
        "expected a complete tar file, it is damaged",
    ),
    "compressed": (
        lambda: zlib.compress(tarred((member(NAME, 3), b"xyz"))),
        "a.tar",
        "expected an uncompressed tar file",
    ),
    "another kind of file": (
        lambda: b"x",
        "a.rar",
        "a.rar: expected a folder, a .zip, .tar or .parquet file",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_by_name(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, name, message = CASES[case]
    (tmp_path / name).write_bytes(make())
    (tmp_path / "q.jsonl").write_text(json.dumps(RECORD))
    before = snapshot(tmp_path)
    arguments = [
        "--annotations",
        tmp_path / "q.jsonl",
        "--images",
        f"real={tmp_path / name}",
        "--out",
        tmp_path / "out",
    ]
    assert upload.main(["build", *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_names_in_utf8_that_no_flag_announces(tmp_path: Path) -> None:
    # zipfile reads them in the code page of DOS.
    data = zipped(("VG_100K/caf__.jpg", b"x")).replace(b"caf__", "café".encode())
    (tmp_path / "a.zip").write_bytes(data)
    (found,) = list_pictures(tmp_path / "a.zip")
    assert found.name == "VG_100K/café.jpg"
    assert read_picture(tmp_path / "a.zip", found) == b"x"


def test_a_zip_with_a_comment(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(GOOD))
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.comment = b"of 2016"
    (found,) = list_pictures(tmp_path / "a.zip")
    assert read_picture(tmp_path / "a.zip", found) == GOOD[1]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # An archive is truncated anywhere, or some bytes change: reading raises, or nothing is lost.
    pictures = {f"VG_100K/{n}.jpg": bytes([n]) * 700 for n in range(3)}
    if suffix == ".zip":
        whole = zipped(*pictures.items())
    else:
        whole = tarred(*((member(name, len(body)), body) for name, body in pictures.items()))
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)), "end")])
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3), "bytes"
    ):
        if broken:
            broken[at % len(broken)] = value
    path = tmp_path_factory.mktemp("broken") / f"a{suffix}"
    path.write_bytes(broken)
    try:
        found = {entry.name: read_picture(path, entry) for entry in list_pictures(path)}
    except InputError as error:
        assert str(path) in str(error)
    else:
        # A zip has checksums. A tar has none; its pictures are decoded later, which finds damage.
        assert suffix == ".tar" or all(
            pictures.get(name, body) == body for name, body in found.items()
        )

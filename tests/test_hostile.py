"""Damaged or hostile archives of pictures are refused, and nothing outside --out is written."""

from __future__ import annotations

import json
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import upload
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import list_pictures, read_picture
from tests.helpers.folders import snapshot
from tests.helpers.hostile_zips import GOOD, NAME, ZIPS, zipped

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = {
    "question_id": "q1",
    "image": f"vg/{NAME}",
    "text": "Is there a cat above to a car in the image?",
    "label": "yes",
}


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


# The content of a file, its name, and the message about it.
CASES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    **{name: (case.make, "a.zip", case.refusal) for name, case in ZIPS.items() if case.refusal},
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
        f"member '{NAME}': expected it to lie within",
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


@pytest.mark.parametrize("case", [name for name, case in ZIPS.items() if case.refusal is None])
def test_unusual_zips_that_are_right(case: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(ZIPS[case].make())
    found = {entry.name: entry for entry in list_pictures(tmp_path / "a.zip")}
    assert read_picture(tmp_path / "a.zip", found[NAME]) == GOOD[1]


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

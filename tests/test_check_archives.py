# SPDX-License-Identifier: Apache-2.0
"""`check` and the loader on archives that are cut off, damaged or hostile."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmrel
from tests.helpers.edit_release import list_problems, read_tar, seal, write_tar


def list_problems_with_categories(release: Path, name: str, categories: Any) -> str:
    index = json.loads((release / "checksums.json").read_text())
    assert index["files"][name]["categories"] == ["spatial"]
    index["files"][name]["categories"] = categories
    (release / "checksums.json").write_text(json.dumps(index))
    return list_problems(release)


@pytest.mark.parametrize("categories", [["action"], ["spatial", "action", "comparative"]])
def test_categories_that_an_archive_does_not_hold(release: Path, categories: list[str]) -> None:
    name = "data/real/test-00000.tar"
    expected = f"expected the categories {categories} that checksums.json lists, got ['spatial']"
    assert f"{name}: {expected}" in list_problems_with_categories(release, name, categories)


@pytest.mark.parametrize("categories", [None, [], ["spacial"], "spatial", 3])
def test_categories_that_do_not_exist(release: Path, categories: Any) -> None:
    # Such an archive was left out by a filter, without an error.
    name = "data/real/test-00000.tar"
    expected = "checksums.json: expected version, note, and the sha256 and size of each file"
    assert expected in list_problems_with_categories(release, name, categories)
    with pytest.raises(mmrel.ReleaseError, match="checksums.json"):
        mmrel.load("real", root=release, categories=["spatial"], streaming=True)


def test_names_that_agree_up_to_the_first_dot(release: Path) -> None:
    # WebDataset readers made one sample of two pictures; `check` reported nothing.
    def rename(text: bytes) -> bytes:
        return re.sub(rb"vg/VG_100K/10\.(jpg|json)", rb"vg/VG_100K/0.2.\1", text)

    path = release / "data" / "real" / "test.jsonl"
    path.write_bytes(rename(path.read_bytes()))
    for archive in sorted((release / "data" / "real").glob("test-*.tar")):
        members = read_tar(archive)
        write_tar(
            archive, [(rename(name.encode()).decode(), rename(data)) for name, data in members]
        )
    for table in sorted((release / "data" / "real").glob("test-*.parquet")):
        rows = pq.read_table(table)
        values = [rename(value.encode()).decode() for value in rows["image_id"].to_pylist()]
        rows = rows.set_column(
            rows.schema.get_field_index("image_id"), rows.schema.field("image_id"), [values]
        )
        pictures = [
            {**cell, "path": value}
            for cell, value in zip(rows["image"].to_pylist(), values, strict=True)
        ]
        rows = rows.set_column(
            0, rows.schema.field("image"), [pa.array(pictures, rows.schema.field("image").type)]
        )
        pq.write_table(
            rows, table, use_dictionary=["image.bytes"], write_page_index=True, row_group_size=100
        )
    seal(release)
    expected = (
        "picture 'vg/VG_100K/0.2.jpg' has the same name up to the first dot as 'vg/VG_100K/0.jpg'"
    )
    assert expected in list_problems(release)


def test_truncated_archives(release: Path, built: Path) -> None:
    path = sorted((release / "data" / "real").glob("test-*.tar"))[0]
    whole = path.read_bytes()
    for length in (
        0,
        100,
        512,
        700,
        len(whole) // 2,
        len(whole) // 2 // 512 * 512,
        len(whole) - 10240,
        len(whole) - 512,
    ):
        path.write_bytes(whole[:length])
        seal(release)
        assert f"{path.relative_to(release).as_posix()}" in list_problems(release), length
        with pytest.raises(mmrel.ReleaseError, match=path.name):
            list(mmrel.load("real", split="test", root=release, streaming=True))


def test_archives_of_every_length_are_whole(tmp_path: Path) -> None:
    # The end of an archive is padded. One block more or less used to be taken for a cut if the
    # padding is full.
    for blocks in range(24):
        path = tmp_path / "a.tar"
        records = [{"image_id": "a.jpg"}]
        write_tar(path, [("a.json", json.dumps(records).encode()), ("a.jpg", b"x" * 512 * blocks)])
        with open(path, "rb") as file:
            assert list(mmrel.read_archive(file, "a.tar", path.stat().st_size)) == [
                (records, b"x" * 512 * blocks)
            ]


def test_hostile_archives(release: Path) -> None:
    path = sorted((release / "data" / "real").glob("test-*.tar"))[0]
    good = read_tar(path)
    records, picture = good[0], good[1]
    deep = b'[{"a": ' + b"[" * 100_000
    cases = {
        "expected the picture 'vg/VG_100K/0.jpg'": [records, ("../../evil.jpg", picture[1])],
        "next, got 'the end'": [records],
        "expected a JSON array of records before each picture": [picture, records],
        "got b'[]'": [("a.json", b"[]"), picture],
        "got b'[1]'": [("a.json", b"[1]"), picture],
        "got b'[{": [("a.json", deep), picture],
        "field category": [(records[0], records[1].replace(b'"spatial"', b'"spatiel"')), picture],
    }
    for message, members in cases.items():
        write_tar(path, members)
        seal(release)
        with pytest.raises(mmrel.ReleaseError) as caught:
            list(mmrel.load("real", split="test", root=release, streaming=True))
        assert message in str(caught.value)
        assert path.name in str(caught.value)
        assert len(str(caught.value)) < 1000
        assert path.name in list_problems(release)


def test_a_header_that_promises_five_gigabytes(release: Path) -> None:
    path = sorted((release / "data" / "real").glob("test-*.tar"))[0]
    header = tarfile.TarInfo("a.json")
    header.size = 5 << 30
    path.write_bytes(header.tobuf() + b"\0" * 488)
    seal(release)
    with pytest.raises(
        mmrel.ReleaseError, match="expected a regular file of at most 4194304 bytes, got 5368709120"
    ):
        list(mmrel.load("real", split="test", root=release, streaming=True))

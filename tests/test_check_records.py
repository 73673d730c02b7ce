# SPDX-License-Identifier: Apache-2.0
"""`check` on the JSON lines of a release, and on the three formats of a split."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.helpers.edit_release import edit_record, list_problems, seal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "maybe"}, "data/real/test.jsonl:1: field answer: "),
        ({"image_id": "../a.jpg"}, "data/real/test.jsonl:1: field image_id: "),
        ({"pair_id": "0" * 16}, "data/real/test.jsonl:1: field pair_id: expected"),
        ({"question": "Is it?"}, "data/real/test.jsonl:1: field question: expected"),
        ({"subject": "dog"}, "data/real/test.jsonl:1: field question: reads as"),
        (
            {"source": "elsewhere:1"},
            ":vg/VG_100K/0.jpg: the records differ from data/real/test.jsonl:1",
        ),
    ],
)
def test_records(release: Path, change: dict[str, str], message: str) -> None:
    edit_record(release, lambda record: record.update(change))
    assert message in list_problems(release)


def test_broken_lines(release: Path) -> None:
    for line in (b"nonsense\n", b"\xff\n", b"[]\n"):
        path = release / "data" / "real" / "test.jsonl"
        path.write_bytes(line + path.read_bytes())
        seal(release)
        assert "data/real/test.jsonl:1: expected a" in list_problems(release)


def test_question_ids_across_splits(release: Path) -> None:
    first = json.loads((release / "data" / "real" / "test.jsonl").read_text().splitlines()[0])
    edit_record(
        release, lambda record: record.update(question_id=first["question_id"]), name="sdxl/test"
    )
    expected = f"question_id {first['question_id']!r} is already used at data/real/test"
    assert f"data/sdxl/test.jsonl:1: {expected}" in list_problems(release)


def test_a_format_with_fewer_pictures(release: Path) -> None:
    path = release / "data" / "real" / "test.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:-3]))
    seal(release)
    assert (
        "expected the same pictures in all three formats, got fewer in data/real/test.jsonl"
        in list_problems(release)
    )


@pytest.mark.parametrize("kind", ["array", "empty line", "byte order mark"])
def test_anything_but_one_record_a_line(release: Path, kind: str) -> None:
    path = release / "data" / "real" / "test.jsonl"
    data = path.read_bytes()
    changed = {
        "array": b"[" + b",".join(data.splitlines()) + b"]\n",
        "empty line": data.replace(b"\n", b"\n\n", 1),
        "byte order mark": b"\xef\xbb\xbf" + data,
    }
    path.write_bytes(changed[kind])
    assert re.search(
        r"data/real/test\.jsonl:[12]: expected a JSON object", list_problems(seal(release))
    )


def test_a_broken_line_is_one_problem(release: Path) -> None:
    # The picture that reading stopped in was also said to differ from the archive.
    path = release / "data" / "real" / "test.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:4], "nonsense\n", *lines[4:]]))
    (line,) = list_problems(seal(release)).splitlines()
    assert line.startswith("data/real/test.jsonl:5: expected a JSON object")


def test_the_format_with_fewer_pictures_is_named(release: Path) -> None:
    # Where a split has several archives, the second of them was named for the tables.
    tables = sorted((release / "data" / "real").glob("test-*.parquet"))
    assert len(tables) > 1
    rows = pq.read_table(tables[-1])
    last = rows["image_id"][-1]
    edited = rows.filter(pc.not_equal(rows["image_id"], last))
    pq.write_table(edited, tables[-1], use_dictionary=["image.bytes"], write_page_index=True)
    assert f"three formats, got fewer in data/real/{tables[0].name}" in list_problems(seal(release))


def test_a_split_without_archives_and_tables(release: Path) -> None:
    # It used to end in a traceback.
    for path in (release / "data" / "real").glob("train-*"):
        path.unlink()
    names = (
        "data/real/train.jsonl, data/real/train-00000.tar, data/real/train-00000-of-00001.parquet"
    )
    assert f"expected the files {names}, got data/real/train.jsonl" in list_problems(seal(release))

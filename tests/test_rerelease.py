"""The DALL-E part as Parquet, the picture in each of its rows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import upload
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.check.release import check_release
from mmrel_kit.files import InputError, Problem
from mmrel_kit.questions.annotations import Annotation, read_annotations
from mmrel_kit.sources.local import unpack_pictures
from mmrel_kit.sources.opening import PictureSources
from tests.helpers.questions import read

FILE = "00001_abstract.png"
ROWS = (
    (FILE, 1, "Does a dog chase a cat in the image? Answer in a word.", "yes", "dis", "action"),
    (FILE, 2, "Does a dog bite a cat in the image?", "No", "dis", "action"),
    (FILE, 3, "What is the dog doing to the cat?", "chasing it", "generative", "action"),
    (FILE, 4, "Is there a cup on a table in the image?", "yes", "dis", "spatial"),
)


def make_png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_rows(path: Path, rows: Any = ROWS, **changes: Any) -> Path:
    columns = [
        {
            "image": {"bytes": make_png("red" if kind == "action" else "blue"), "path": name},
            "question_id": number, "question": question, "answer": answer, "source": "dalle",
            "eval_type": evaluated, "relation_type": f"dall-e_{kind}", **changes,
        }
        for name, number, question, answer, evaluated, kind in rows
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(columns), path)
    return path


def test_questions_and_pictures(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "train.parquet")
    arguments = [
        "--annotations",
        path,
        "--images",
        f"dalle={path}",
        "--out",
        tmp_path / "out",
        "--split",
        "test",
    ]
    assert upload.main(["build", *map(str, arguments)]) == 0
    assert check_release(tmp_path / "out") == []
    records = [
        json.loads(line)
        for line in (tmp_path / "out/data/dalle/test.jsonl").read_text("utf-8").splitlines()
    ]
    read_back = {
        r["question_id"]: (r["image_id"], r["task"], r["style"], r["relation"], r["answer"])
        for r in records
    }
    assert read_back == {
        "1": (
            "Dall-E_generated/action/00001_abstract.png",
            "discriminative",
            "abstract",
            "chase",
            "yes",
        ),
        "2": (
            "Dall-E_generated/action/00001_abstract.png",
            "discriminative",
            "abstract",
            "bite",
            "no",
        ),
        "3": (
            "Dall-E_generated/action/00001_abstract.png",
            "generative",
            "abstract",
            None,
            "chasing it",
        ),
        "4": (
            "Dall-E_generated/spatial/00001_abstract.png",
            "discriminative",
            "abstract",
            "on",
            "yes",
        ),
    }


def test_pictures_without_a_name(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.parquet", image={"bytes": make_png("red"), "path": None})
    names = {question.record.image_id for question in read(path)}
    assert {name.rpartition("/")[0] for name in names} == {
        "Dall-E_generated/action",
        "Dall-E_generated/spatial",
    }
    assert len({name.rpartition("/")[2] for name in names}) == 1


@pytest.mark.parametrize(
    ("evaluated", "answer", "task"),
    [
        ("generative", "chasing it", "generative"),
        ("generative", "yes", "generative"),
        ("dis", "chasing it", "generative"),
        ("dis", "yes", None),
    ],
)
def test_a_question_of_unknown_wording(
    tmp_path: Path, evaluated: str, answer: str, task: str | None
) -> None:
    # Only eval_type made such a question open-ended; the rest stopped the build.
    row = ("00001.png", 1, "What is the dog doing to the cat?", answer, evaluated, "spatial")
    (item,) = read_annotations([write_rows(tmp_path / "action.parquet", [row])])
    if task is None:
        assert isinstance(item, Problem)
        return
    assert isinstance(item, Annotation)
    record = item.record
    assert (record.task, record.category, record.answer) == (task, "spatial", answer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": {"bytes": None, "path": "a.png"}}, r"a.parquet:1: expected a picture of 1 to"),
        (
            {"relation_type": "colour"},
            r"a.parquet:1: expected a relation_type with spatial, action, comparative",
        ),
        ({"image": {"bytes": b"x", "path": "a/../../../e.png"}, "question": ""}, r"a.parquet:1: "),
    ],
)
def test_bad_rows(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write_rows(tmp_path / "a.parquet", **changes))


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.parquet", [row[:5] + ("action",) for row in ROWS])
    table = pq.read_table(path).to_pylist()
    table[1]["image"]["bytes"] = make_png("green")
    pq.write_table(pa.Table.from_pylist(table), path)
    with pytest.raises(
        InputError, match=r"a.parquet:2: picture '.*00001_abstract.png' differs from an earlier"
    ):
        build_release(Job([path], PictureSources([str(path)]), tmp_path / "out"))


def test_another_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(
        InputError, match="a.parquet: expected the columns image, question_id, question, answer"
    ):
        read(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_text("nothing")
    with pytest.raises(InputError, match="a.parquet: expected a readable Parquet file"):
        read(tmp_path / "a.parquet")


def test_pictures_are_unpacked_anew_where_the_file_has_changed(tmp_path: Path) -> None:
    path, folder = write_rows(tmp_path / "a.parquet"), tmp_path / "unpacked"
    name = "Dall-E_generated/action/00001_abstract.png"
    unpack_pictures(path, folder)
    before = (folder / name).stat()
    unpack_pictures(path, folder)
    assert (folder / name).stat() == before
    write_rows(path, image={"bytes": make_png("green"), "path": "action/00001_abstract.png"})
    unpack_pictures(path, folder)
    assert (folder / name).read_bytes() == make_png("green")
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.parquet", "unpacked"}

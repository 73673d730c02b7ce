"""Exports of the train split: content, loading with every `datasets`, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import datasets
import pytest
from PIL import Image

import mmrel
from mmrel_kit import cli
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.questions.records import make_prompt
from mmrel_kit.recipes import export
from mmrel_kit.recipes.leaks import find_leaks
from mmrel_kit.sources.local import PictureFolder
from tests.conftest import make_sources
from tests.helpers.fake_model import read_records

FORMATS = ("trl", "messages", "llava")


def run(root: Path, out: Path, *more: str) -> int:
    return cli.main(["export", "--root", str(root), "--out", str(out), *more])


def build(folder: Path, changes: dict[str, str]) -> Path:
    """Build a release with a test record, changed as `changes` says, in its train file."""
    sources = make_sources(folder / "sources", copies=2)
    train = sources / "json" / "train.jsonl"
    line = (sources / "json" / "test.jsonl").read_text().splitlines()[0]
    record = json.loads(line) | {"split": "train", "question_id": "leak"}
    for key, value in changes.items():
        record[key] = value
    train.write_text(train.read_text() + json.dumps(record) + "\n")
    build_release(Job([sources / "json"], PictureFolder(sources), folder / "release"))
    return folder / "release"


@pytest.mark.parametrize("form", FORMATS)
def test_every_export_opens_with_load_dataset(built: Path, tmp_path: Path, form: str) -> None:
    assert run(built, tmp_path / "out", "--format", form) == 0
    rows = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    records = [
        record for record in read_records(built, "train") if record["task"] == "discriminative"
    ]
    assert len(rows) == len(records) > 0
    stream = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert next(iter(stream)).keys() == rows[0].keys()


def test_trl_has_flat_columns_and_the_picture_as_it_came(built: Path, tmp_path: Path) -> None:
    run(built, tmp_path / "out")
    rows = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    kinds = {name: type(feature).__name__ for name, feature in rows.features.items()}
    assert kinds == {
        "image": "Image",
        **dict.fromkeys(("question_id", "image_id", "prompt", "completion"), "Value"),
    }
    by_id = {record["question_id"]: record for record in read_records(built, "train")}
    pictures = {
        records[0]["image_id"]: data
        for records, data in export.read_pictures(_release(built), "all", "train")
    }
    for row in rows.cast_column("image", datasets.Image(decode=False)):
        record = by_id[row["question_id"]]
        assert (row["prompt"], row["completion"]) == (make_prompt(record), record["answer"])
        assert row["image"]["bytes"] == pictures[record["image_id"]]


def test_messages_hold_the_placeholder_once_and_name_pictures_that_are_there(
    built: Path, tmp_path: Path
) -> None:
    run(built, tmp_path / "out", "--format", "messages")
    lines = [
        json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()
    ]
    for line in lines:
        asked, answered = line["messages"]
        assert (asked["role"], answered["role"]) == ("user", "assistant")
        assert asked["content"].startswith("<image>Is a ")
        assert asked["content"].count("<image>") == len(line["images"]) == 1
        Image.open(io.BytesIO((tmp_path / "out" / line["images"][0]).read_bytes())).load()
    told = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["mmrel"]
    assert (tmp_path / "out" / told["file_name"]).exists()
    assert set(told["columns"].values()) == set(lines[0])


def test_llava_is_one_array_of_conversations(built: Path, tmp_path: Path) -> None:
    run(built, tmp_path / "out", "--format", "llava", "--task", "both")
    values = json.loads((tmp_path / "out" / "train.json").read_text())
    records = {record["question_id"]: record for record in read_records(built, "train")}
    assert [value["id"] for value in values] == list(records)
    for value in values:
        human, gpt = value["conversations"]
        assert human == {"from": "human", "value": f"<image>\n{make_prompt(records[value['id']])}"}
        assert gpt == {"from": "gpt", "value": records[value["id"]]["answer"]}
        assert (tmp_path / "out" / "images" / value["image"]).exists()


def test_a_release_that_fails_check_is_refused(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(release / "data" / "real" / "train.jsonl", "a") as lines:
        lines.write("{}\n")
    assert run(release, tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "expected a release that passes 'mmrel check'" in told
    assert "data/real/train.jsonl" in told
    assert not (tmp_path / "out").exists()


def test_a_stopped_build_beside_the_export_stays(built: Path, tmp_path: Path) -> None:
    # `export --out big` deleted `big.partial`, in which a build of `big` goes on.
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "plan").write_text("hours of work")
    assert run(built, tmp_path / "out") == 0
    assert (tmp_path / "out.partial" / "plan").read_text() == "hours of work"


def test_a_release_on_the_hub_is_to_be_downloaded_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(["export", "--root", "hf://datasets/NS/MMRel", "--out", str(tmp_path / "out")])
        == 1
    )
    assert "hf://datasets/NS/MMRel: expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_of_the_test_split_is_a_leak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    root = build(tmp_path, {})
    assert run(root, tmp_path / "out", "--format", form) == 1
    assert (
        "1 questions share a picture with them, 0 a triplet, such as leak (picture of test "
        in capsys.readouterr().err
    )
    assert run(root, tmp_path / "out", "--format", form, "--allow-triplets") == 1
    assert not (tmp_path / "out").exists()
    assert run(root, tmp_path / "out", "--format", form, "--drop-leaks") == 0
    assert all("leak" not in path.read_text() for path in (tmp_path / "out").glob("train.json*"))
    assert "1 left out as leaks" in (tmp_path / "out" / "README.md").read_text()


def test_the_same_bytes_under_another_name_are_a_leak(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "sources", copies=2)
    record = json.loads((sources / "json" / "test.jsonl").read_text().splitlines()[0])
    shutil.copy(sources / record["image"], sources / "vg/VG_100K/77.jpg")
    record |= {"image": "vg/VG_100K/77.jpg", "split": "train", "question_id": "leak"}
    train = sources / "json" / "train.jsonl"
    train.write_text(train.read_text() + json.dumps(record) + "\n")
    build_release(Job([sources / "json"], PictureFolder(sources), tmp_path / "release"))
    leaks = find_leaks(_release(tmp_path / "release"))
    assert (list(leaks.by_picture), list(leaks.by_triplet)) == (["leak"], [])


def test_a_triplet_of_the_test_split_is_a_leak_that_may_be_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = build(tmp_path, {"image": "vg/VG_100K/2.jpg"})  # a train picture, a test triplet
    leaks = find_leaks(_release(root))
    assert (list(leaks.by_picture), list(leaks.by_triplet)) == ([], ["leak"])
    assert run(root, tmp_path / "out") == 1
    assert "--allow-triplets" in capsys.readouterr().err
    assert run(root, tmp_path / "out", "--allow-triplets", "--format", "llava") == 0
    assert "leak" in (tmp_path / "out" / "train.json").read_text()


def test_nothing_is_written_over_and_nothing_is_left_half(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    assert run(built, tmp_path / "out") == 1
    assert "name another --out" in capsys.readouterr().err
    assert run(built, tmp_path / "empty", "--config", "dalle") == 1
    assert "found none to export" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def _release(root: Path) -> mmrel.Release:
    return mmrel.Release(str(root))

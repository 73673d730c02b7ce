"""`build --hub-eval`: eval.yaml and its config, in a release that is otherwise the same."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

import upload
from mmrel_kit.build.hub_eval import make_data_uri
from mmrel_kit.card.hub_eval import MAX_SIDE, METADATA, PATTERN
from mmrel_kit.check.release import check_release
from mmrel_kit.questions.records import make_prompt
from tests.conftest import make_sources
from tests.helpers.fake_model import read_records


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    sources = make_sources(folder / "sources", copies=3)
    arguments = [
        "--annotations",
        str(sources / "json"),
        "--images",
        str(sources),
        "--out",
        str(folder / "out"),
    ]
    assert upload.main(["build", *arguments, "--hub-eval"]) == 0
    return folder / "out"


def test_the_release_passes_check_and_lists_the_config(evaluated: Path) -> None:
    assert [problem for problem in check_release(evaluated) if not problem.is_warning] == []
    card = yaml.safe_load((evaluated / "README.md").read_text("utf-8").split("---\n")[1])
    assert [config["config_name"] for config in card["configs"]][-1] == "hub_eval"
    listed = json.loads((evaluated / "checksums.json").read_text())["files"]
    assert {"eval.yaml", "hub_eval/test-00000-of-00001.parquet", "croissant.json"} <= listed.keys()


def test_the_card_says_what_the_hubs_evaluation_is(evaluated: Path, built: Path) -> None:
    # A release had the files, and its card did not mention them.
    text = " ".join((evaluated / "README.md").read_text("utf-8").split())
    for words in (
        "`eval.yaml`",
        "`inspect eval hf/NS/MMRel --model openai/NAME`",
        "`hub_eval`",
        "It is not more data",
    ):
        assert words in text
    assert "one task for each split (test, adversarial)" in text
    assert "Evaluation from the Hub" not in (built / "README.md").read_text("utf-8")


def test_without_the_option_nothing_of_it_is_there(built: Path) -> None:
    assert not (built / "eval.yaml").exists()
    assert "hub_eval" not in (built / "README.md").read_text("utf-8")


@pytest.mark.parametrize("split", ["test", "adversarial"])
def test_the_config_holds_the_yes_no_questions_with_pictures_as_data_uris(
    evaluated: Path, tmp_path: Path, split: str
) -> None:
    rows = datasets.load_dataset(str(evaluated), "hub_eval", split=split, cache_dir=str(tmp_path))
    records = [
        record for record in read_records(evaluated, split) if record["task"] == "discriminative"
    ]
    assert [row["question_id"] for row in rows] == [record["question_id"] for record in records]
    for row, record in zip(rows, records, strict=True):
        assert (row["input"], row["target"]) == (make_prompt(record), record["answer"])
        assert {name: row[name] for name in METADATA} == {name: record[name] for name in METADATA}
        head, _, data = row["image"].partition(",")
        assert re.fullmatch(r"data:image/(jpeg|png);base64", head)
        Image.open(io.BytesIO(base64.b64decode(data))).load()


def test_a_picture_is_stored_once_in_a_row_group(evaluated: Path) -> None:
    with pq.ParquetFile(evaluated / "hub_eval" / "test-00000-of-00001.parquet") as file:
        column = file.metadata.row_group(0).column(0)
        assert (column.path_in_schema, column.has_dictionary_page) == ("image", True)


def test_the_other_configs_load_as_before(evaluated: Path, tmp_path: Path) -> None:
    rows = datasets.load_dataset(str(evaluated), "real", split="test", cache_dir=str(tmp_path))
    assert len(rows) == len(read_records(evaluated, "test", "real"))


@pytest.mark.parametrize(
    ("size", "expected"), [((800, 600), (768, 576)), ((768, 10), (768, 10)), ((20, 900), (17, 768))]
)
def test_large_pictures_are_made_smaller(size: tuple[int, int], expected: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    data = base64.b64decode(make_data_uri(buffer.getvalue(), "here").partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == expected
    assert (data == buffer.getvalue()) == (max(size) <= MAX_SIDE)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes", "yes"),
        ("no.", "no"),
        ("**No**, it", "no"),
        ("The answer is: yes", "yes"),
        ("Answer: No", "no"),
        ("", None),
        ("Noticeable", None),
        ("I see no dog", None),
    ],
)
def test_the_pattern_reads_answers_that_begin_with_yes_or_no(
    answer: str, verdict: str | None
) -> None:
    match = re.search(PATTERN, answer, re.IGNORECASE)
    assert (match[1].lower() if match else None) == verdict

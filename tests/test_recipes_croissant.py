"""croissant.json by Croissant's own library: it validates, and every record set can be read."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mmrel
from tests.conftest import REPOSITORY
from tests.helpers.fake_model import read_records

pytestmark = pytest.mark.recipes


@pytest.fixture(params=["sample", "built"])
def root(request: pytest.FixtureRequest, built: Path) -> Path:
    return REPOSITORY if request.param == "sample" else built


def read(root: Path) -> Any:
    import mlcroissant

    return mlcroissant.Dataset(str(root / "croissant.json"))


def test_it_validates_and_lacks_nothing_but_a_date(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read(root)
    told = [line for line in caplog.text.splitlines() if "  -  " in line]
    assert all("datePublished" in line for line in told), told
    assert "not standard" not in caplog.text


def test_every_record_set_is_read(root: Path) -> None:
    dataset = read(root)
    names = [record_set.id for record_set in dataset.metadata.record_sets]
    assert names == [
        "splits",
        *(
            config
            for config in mmrel.CONFIGS
            if config == "all" or (root / "data" / config).exists()
        ),
    ]
    for name in names[1:]:
        record = next(iter(dataset.records(name)))
        split = record[f"{name}/split"].decode()
        expected = {row["question_id"]: row for row in read_records(root, split, name)}
        row = expected[record[f"{name}/question_id"].decode()]
        for column in mmrel.COLUMNS:
            value = record[f"{name}/{column}"]
            assert (value.decode() if value is not None else None) == row[column]
        assert isinstance(record[f"{name}/image"], Image.Image)
        buffer = io.BytesIO()
        record[f"{name}/image"].save(buffer, "PNG")
    assert [row["splits/name"] for row in dataset.records("splits")]


def test_the_record_set_of_all_has_every_row(root: Path) -> None:
    rows = [record["all/question_id"].decode() for record in read(root).records("all")]
    expected = [row["question_id"] for split in mmrel.SPLITS for row in read_records(root, split)]
    assert sorted(rows) == sorted(expected)

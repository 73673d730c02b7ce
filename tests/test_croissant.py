"""croissant.json describes every data file of a release, and `check` compares it with them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import mmrel
from mmrel_kit.check.release import check_release
from tests.helpers.edit_release import seal


def test_every_data_file_is_described_as_it_is(built: Path) -> None:
    value = json.loads((built / "croissant.json").read_text())
    files = {
        node["@id"]: node for node in value["distribution"] if node["@type"] == "cr:FileObject"
    }
    on_disk = {path.relative_to(built).as_posix(): path for path in (built / "data").glob("*/*.*")}
    assert files.keys() == on_disk.keys()
    for name, path in on_disk.items():
        assert files[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert files[name]["contentSize"] == f"{path.stat().st_size} B"
        assert files[name]["license"][0] == "https://creativecommons.org/licenses/by/4.0/"
        assert ("apache" in "".join(files[name]["license"]).lower()) == ("/sdxl/" in name)


def test_every_config_is_a_record_set_with_every_column(built: Path) -> None:
    value = json.loads((built / "croissant.json").read_text())
    record_sets = {
        node["name"]: [field["name"] for field in node["field"]] for node in value["recordSet"]
    }
    assert set(record_sets) == {"splits", *mmrel.CONFIGS}
    for config in mmrel.CONFIGS:
        assert record_sets[config] == ["split", "image", *mmrel.COLUMNS]
    assert {name for name in value if name.startswith("rai:")} >= {
        "rai:dataCollection", "rai:dataBiases", "rai:personalSensitiveInformation",
    }  # fmt: skip
    assert "Noise." in value["description"]


@pytest.mark.parametrize(
    ("old", "new"), [('"sha256": "', '"sha256": "0'), ("data/real/*", "data/all/*")]
)
def test_check_refuses_one_that_says_something_else(release: Path, old: str, new: str) -> None:
    path = release / "croissant.json"
    path.write_text(path.read_text().replace(old, new, 1))
    seal(release)
    found = [problem for problem in check_release(release) if problem.where == "croissant.json"]
    assert [problem.message for problem in found] == [
        "expected what the data files hold; build the release again"
    ]

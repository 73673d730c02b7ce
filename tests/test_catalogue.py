"""What MMRel is made from, as `mmrel fetch` lists it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import upload
from mmrel_kit.pictures import catalogue


def test_what_mmrel_is_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert upload.main(["fetch", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    for published in catalogue.SOURCE_FILES:
        assert published.url in told
        assert f"{published.name} ({published.domain}): missing" in told
    assert "9,731,705,982 bytes" in told
    small = [
        p._replace(
            size=3, sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        )
        for p in catalogue.SOURCE_FILES
    ]
    monkeypatch.setattr(catalogue, "SOURCE_FILES", small[:3])
    for name, data in (("images.zip", b"foo"), ("images2.zip", b"bar"), ("data.zip", b"fo")):
        (tmp_path / name).write_bytes(data)
    assert [state.state[:30] for state in catalogue.check_sources(tmp_path)] == [
        "whole",
        "expected sha256 2c26b46b68ffc6",
        "expected 3 bytes, got 2; fetch",
    ]
    assert upload.main(["fetch", str(tmp_path)]) == 1


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: Any) -> None:
    # A mistyped folder gave the list of an empty one.
    assert upload.main(["fetch", str(tmp_path / "dowloads")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "expected a folder of downloads, got no folder" in captured.err

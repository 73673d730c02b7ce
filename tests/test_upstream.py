"""The files that MMRel is built from, as `mmrel fetch` lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import upload
from mmrel_kit.pictures import upstream


def test_the_files_mmrel_is_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert upload.main(["fetch", str(tmp_path)]) == 0
    listing = capsys.readouterr().out
    for file in upstream.UPSTREAM_FILES:
        assert file.url in listing
        assert f"{file.name} ({file.domain}): missing" in listing
    assert "9,731,705,982 bytes" in listing
    small = [
        p._replace(
            size=3, sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        )
        for p in upstream.UPSTREAM_FILES
    ]
    monkeypatch.setattr(upstream, "UPSTREAM_FILES", small[:3])
    for name, data in (("images.zip", b"foo"), ("images2.zip", b"bar"), ("data.zip", b"fo")):
        (tmp_path / name).write_bytes(data)
    assert [download.status[:30] for download in upstream.check_downloads(tmp_path)] == [
        "verified",
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

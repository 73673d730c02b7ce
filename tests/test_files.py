"""Fill a folder atomically."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrel_kit.files import fill_folder
from tests.helpers.folders import snapshot


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "folder"
    with pytest.raises(KeyError), fill_folder(folder) as temporary:
        (temporary / "a").write_text("half")
        raise KeyError
    assert list((tmp_path / "made").iterdir()) == []
    with fill_folder(folder) as temporary:
        (temporary / "a").write_text("whole")
        assert not folder.exists()
    assert snapshot(tmp_path) == {"made/folder/a": b"whole"}


def test_a_folder_of_another_process_stays(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with fill_folder(folder, is_shared=True) as temporary:
        (temporary / "a").write_text("ours")
        folder.mkdir()
        (folder / "a").write_text("theirs")
    assert snapshot(tmp_path) == {"folder/a": b"theirs"}
    with pytest.raises(OSError, match="not empty"), fill_folder(folder) as temporary:
        (temporary / "a").write_text("ours")
    assert snapshot(tmp_path) == {"folder/a": b"theirs"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with fill_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_text("ours")
    assert snapshot(tmp_path) == {"folder/a": b"ours"}

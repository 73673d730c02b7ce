# SPDX-License-Identifier: Apache-2.0
"""A release that passed its check is not checked again by `push` and `export` while unchanged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmrel
from mmrel_kit import cli
from mmrel_kit.check import stamps
from mmrel_kit.files import Problem
from mmrel_kit.hub.push import check_without_warnings


@pytest.fixture
def checks(release: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Check a release with the command; then return a list that gets the root of each check."""
    assert cli.main(["check", str(release)]) == 0
    checked: list[Path] = []
    real = stamps.check_release

    def check(root: Path, *options: Any) -> list[Problem]:
        checked.append(root)
        return real(root, *options)

    monkeypatch.setattr(stamps, "check_release", check)
    return checked


def test_export_and_push_reuse_the_check(
    release: Path, checks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "export")
    arguments = ["--root", str(release), "--drop-leaks", "--out", out]
    assert cli.main(["export", *arguments]) == 0
    expected = f"checked before, unchanged: {release}"
    assert capsys.readouterr().err.splitlines() == [expected]
    shown: list[str] = []
    assert check_without_warnings(release, shown.append) == []
    assert (shown, checks) == ([expected], [])


def test_check_itself_always_checks(release: Path, checks: list[Path]) -> None:
    assert cli.main(["check", str(release)]) == 0
    assert checks == [release]


def test_no_file_is_added_to_the_release(release: Path, checks: list[Path]) -> None:
    names = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert names == {*mmrel.Release(release).files, "checksums.json"}


def _flip_a_bit(root: Path) -> None:
    path = root / "data" / "real" / "test-00000.tar"
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    # The size and the time of modification stay.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(root: Path) -> None:
    path = root / "LICENSE"
    shutil.copy2(path, root.parent / "copy")
    os.replace(root.parent / "copy", path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a bit": _flip_a_bit,
    "time": lambda root: os.utime(root / "README.md", ns=(1, 1)),
    "inode": _replace,
    "added": lambda root: (root / "data" / "notes.txt").write_text(""),
    "hidden": lambda root: (root / ".notes").write_text(""),
    "removed": lambda root: (root / "LICENSE").unlink(),
    "index": lambda root: (root / "checksums.json").write_text("{}"),
    "longer": lambda root: (root / "README.md").open("a").write("\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_of_a_file_runs_the_check(
    release: Path, checks: list[Path], change: Callable[[Path], object]
) -> None:
    change(release)
    found = stamps.check_unless_stored(release, lambda line: pytest.fail(line))
    assert checks == [release]
    assert found == stamps.check_release(release)


@pytest.mark.parametrize("other", [{"mmrel": "9.9.9"}, {}])
def test_other_versions_run_the_check(
    release: Path, checks: list[Path], other: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "list_versions", lambda: other)
    assert check_without_warnings(release) == []
    assert checks == [release]


DAMAGES = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"[" * 100_000,
    b"\xff\xfe",
    b'{"release": null, "warnings": []}',
    b'{"release": {}, "warnings": [[1, 2]]}',
    b'{"release": {}, "warnings": [["a", "b", "c"]]}',
    b'{"release": {}, "warnings": 5}',
    b'{"release": {}}',
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_stamp_counts_as_none(release: Path, checks: list[Path], damage: bytes) -> None:
    stamps.find_stamp(release).write_bytes(damage)
    assert check_without_warnings(release) == []
    assert check_without_warnings(release) == []
    assert checks == [release]


def test_a_release_with_problems_is_not_stored(release: Path, checks: list[Path]) -> None:
    (release / "LICENSE").write_text("")
    assert cli.main(["check", str(release)]) == 1
    assert not stamps.find_stamp(release).exists()


def test_a_release_that_changes_during_the_check_is_not_stored(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(root: Path, *options: Any) -> list[Problem]:
        (root / "LICENSE").write_text("")
        return []

    monkeypatch.setattr(stamps, "check_release", check)
    stamps.check_and_store(release)
    assert not stamps.find_stamp(release).exists()


def test_warnings_are_shown_again(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warning = Problem("data/real", "looks odd", is_warning=True)
    monkeypatch.setattr(stamps, "check_release", lambda root, *options: [warning])
    assert stamps.check_and_store(release) == [warning]
    shown: list[str] = []
    assert stamps.check_unless_stored(release, shown.append) == [warning]
    assert shown[1:] == ["warning: data/real: looks odd"]


def test_a_cache_that_cannot_be_written(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (release.parent / "file").write_text("")
    monkeypatch.setattr(stamps.constants, "HF_HOME", str(release.parent / "file"))
    assert cli.main(["check", str(release)]) == 0
    assert check_without_warnings(release) == []

# SPDX-License-Identifier: Apache-2.0
"""`check` names what is wrong with a release, all of it, and where."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import mmrel
import upload
from mmrel_kit.card.sheet import draw_sheet
from mmrel_kit.check.release import check_release
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.recipes.export import ExportRules, export
from tests.conftest import REPOSITORY
from tests.helpers.edit_release import edit_index, list_problems, seal


def test_a_built_release_is_good(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_release(built) == []
    assert upload.main(["check", str(built)]) == 0
    assert "0 problems, 0 warnings" in capsys.readouterr().out


def test_the_bytes_of_every_picture_are_counted_for_the_progress_bar(
    built: Path, tmp_path: Path
) -> None:
    checked: list[int] = []
    check_release(built, checked.append)
    drawn: list[int] = []
    draw_sheet(built, tmp_path / "sheet.png", advance=drawn.append)
    exported: list[int] = []
    export(str(built), tmp_path / "out", "trl", ExportRules(drop_leaks=True), exported.append)
    release = mmrel.Release(built)
    sizes = {}
    for split, names in release.archives("all").items():
        sizes[split] = sorted(len(data) for _, data in read_archives(release, names))
    assert sorted(checked) == sorted(drawn) == sorted(chain(*sizes.values()))
    assert exported
    assert Counter(exported) <= Counter(sizes["train"])


def test_a_changed_byte_in_any_file_is_named(built: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    for path in sorted(path for path in built.rglob("*") if path.is_file()):
        name = path.relative_to(built).as_posix()
        root = Path(shutil.copytree(built, tmp_path / "release"))
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(1, 7)
        (root / name).write_bytes(data)
        problems = check_release(root)
        assert any(not problem.is_warning for problem in problems), name
        if name != "checksums.json":
            assert any(problem.where.startswith(name) for problem in problems), (name, problems)
        shutil.rmtree(root)


def test_all_problems_are_listed_at_once_and_sorted(
    release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (release / "schema" / "taxonomy.json").write_text("{}")
    (release / "data" / "real" / "train.jsonl").unlink()
    (release / "mmrel.py").write_text("")
    assert upload.main(["check", str(release)]) == 1
    lines = capsys.readouterr().out.splitlines()
    places = [line.split(": ")[0] for line in lines[:-1]]
    assert places == sorted(places)
    for name in (
        "schema/taxonomy.json: differs",
        "data/real/train.jsonl: missing",
        "mmrel.py: checksums.json does not",
    ):
        assert any(line.startswith(name) for line in lines), name


def test_the_source_repository_is_no_release(capsys: pytest.CaptureFixture[str]) -> None:
    # It used to be 161 problems.
    assert upload.main(["check", str(REPOSITORY)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"upload.py check: {REPOSITORY}: this is the source repository, not a release; "
        f"check its sample with: mmrel check {REPOSITORY} --sample"
    ]
    assert upload.main(["check", str(REPOSITORY), "--sample"]) == 0
    assert capsys.readouterr().out == f"{REPOSITORY}: 0 problems, 0 warnings\n"


def test_a_release_is_no_source_repository(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upload.main(["check", str(built), "--sample"]) == 1
    assert (
        "expected the source repository; leave out --sample for a release"
        in capsys.readouterr().err
    )


def test_no_release_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upload.main(["check", str(tmp_path)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "checksums.json: expected the index of a release, got no such file"
    assert printed[1] == f"{tmp_path}: 1 problems, 0 warnings"


WANTED = "expected version, note, and the sha256 and size of each file, got "
BROKEN = (
    "",
    "[]",
    "{",
    '{"version": "1", "note": null, "files": 3}',
    '{"version": "1", "note": null, "files": {"a": 1}}',
    '{"version": 1, "note": null, "files": {}}',
    '{"version": "1", "note": 5, "files": {}}',
    '{"version": "1", "files": {}}',
    "\udcff",
)


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_index(release: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Each verb judged the types of version and note in its own way.
    (release / "checksums.json").write_text(content, errors="surrogateescape")
    assert f"checksums.json: {WANTED}" in list_problems(release)
    with pytest.raises(mmrel.ReleaseError, match=WANTED):
        mmrel.Release(release)
    for command in (["audit", str(release)], ["push", str(release), "--repo-id", "NS/MMRel"]):
        assert upload.main(command) == 1
        captured = capsys.readouterr()
        assert WANTED in captured.out + captured.err


def test_a_stray_file_beside_the_data(release: Path) -> None:
    # It used to end in a traceback, while croissant.json was looked at.
    (release / "data" / "real" / "notes.txt").write_text("")
    assert list_problems(seal(release)) == (
        "data/real/notes.txt: expected data/<domain>/<split>.jsonl, -00000.tar or "
        "-00000-of-00001.parquet"
    )


@pytest.mark.parametrize(
    ("old", "new"), [("real/test", "real/valid"), ("sdxl/train", "cats/train")]
)
def test_a_domain_or_split_that_mmrel_does_not_have(release: Path, old: str, new: str) -> None:
    # All three formats of it used to end in a traceback.
    (release / "data" / new).parent.mkdir(exist_ok=True)
    for path in sorted((release / "data").glob(f"{old}*")):
        shutil.copy(path, release / "data" / f"{new}{path.name.removeprefix(old.split('/')[1])}")
    lines = list_problems(seal(release)).splitlines()
    assert [line for line in lines if f"data/{new}" not in line] == []
    assert all("expected data/<domain>/<split>" in line for line in lines)


def test_a_description_that_is_missing_is_one_problem(release: Path) -> None:
    # The card was said to have no YAML.
    (release / "dataset_infos.json").unlink()
    expected = "dataset_infos.json: missing; checksums.json or the layout of a release requires it"
    assert list_problems(seal(release)) == expected


ENTRY = {"sha256": "0" * 64, "size": 1}
NO_PATHS = ("/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "", "a\\b", "a\nb", "\ud800")
NO_HASHES = ("0" * 63, "0" * 65, "g" * 64, 7, None)
NO_SIZES = (-1, 1.0, "1", True, None)


@pytest.mark.parametrize(
    "listed",
    [
        *(pytest.param({name: ENTRY}, id=f"name {name!a}") for name in NO_PATHS),
        *(
            pytest.param({"a": {**ENTRY, "sha256": value}}, id=f"sha256 {value!r:.9}")
            for value in NO_HASHES
        ),
        *(
            pytest.param({"a": {**ENTRY, "size": value}}, id=f"size {value!r}")
            for value in NO_SIZES
        ),
        pytest.param({"a": {"size": 1}}, id="no sha256"),
        pytest.param({"a": {"sha256": "0" * 64}}, id="no size"),
        pytest.param({"a": []}, id="no object"),
    ],
)
def test_an_index_that_nobody_may_follow(release: Path, listed: dict[str, Any]) -> None:
    # Each reader checked only what it needed; push alone refused a path out of the release.
    edit_index(release, lambda index: index["files"].update(listed))
    with pytest.raises(mmrel.ReleaseError, match=WANTED):
        mmrel.Release(release)
    assert f"checksums.json: {WANTED}" in list_problems(release)

"""Pictures that no source has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mmrel
import upload
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.check.release import check_release
from mmrel_kit.files import InputError
from mmrel_kit.sources.opening import PictureSources


def make_command(sources: Path, out: Path, *domains: str) -> list[str]:
    """Return a build's arguments, with the pictures of some domains alone."""
    images = [f"{domain}={sources}" for domain in domains]
    annotations = str(sources / "json")
    return ["build", "--annotations", annotations, "--out", str(out), "--images", *images]


def test_missing_pictures_are_listed(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upload.main(make_command(sources, tmp_path / "out", "real")) == 1
    printed = capsys.readouterr().err
    assert (
        "picture 'Dall-E_generated/action/16.png' is missing" not in printed
    )  # ids have five digits
    assert "adversarial.jsonl:" in printed
    assert f"dalle: 8 pictures of 24 questions in {sources / 'json' / 'test.jsonl'}" in printed
    assert (
        f"sdxl: 8 pictures of 24 questions in {sources / 'json' / 'adversarial.jsonl'}" in printed
    )
    assert "32 pictures are missing" in printed
    assert not list(tmp_path.glob("out*"))


def test_a_release_without_missing_pictures_says_so(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = make_command(sources, out, "real", "dalle")
    assert upload.main([*command, "--note", "N.", "--allow-missing"]) == 0
    sentence = (
        "Part of the benchmark only: 48 sdxl questions are left out because their 16 pictures were "
        "missing"
    )
    assert sentence in capsys.readouterr().out
    assert check_release(out) == []
    for name in ("README.md", "checksums.json"):
        assert f"N. {sentence}" in (out / name).read_text("utf-8")
    missing = [json.loads(line) for line in (out / "missing.jsonl").read_text("utf-8").splitlines()]
    assert len(missing) == 16
    assert sum(entry["questions"] for entry in missing) == 48
    assert missing[0]["source"].startswith("json/adversarial.jsonl:")
    # A number on part of the benchmark says so wherever the release is loaded.
    assert sentence in str(mmrel.Release(str(out)).note)


def test_no_picture_at_all(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match="expected pictures in .*, got none that a question is about"
    ):
        build_release(
            Job(
                [sources / "json"],
                PictureSources([str(tmp_path / "empty")]),
                tmp_path / "out",
                allow_missing=True,
            )
        )

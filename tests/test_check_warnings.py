# SPDX-License-Identifier: Apache-2.0
"""What `check` warns of, and does not refuse."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import upload
from mmrel_kit.audit.findings import audit_release
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.check.release import check_release
from mmrel_kit.sources.local import PictureFolder
from tests.conftest import make_sources
from tests.helpers.edit_release import list_problems, read_tar, seal, write_tar


def test_relations_of_another_category_are_counted_as_audit_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only `audit` reported them; upstream's own questions hold some, so that they are a warning.
    folder, root = make_sources(tmp_path / "sources"), tmp_path / "release"
    path = folder / "json" / "test.jsonl"
    verbs = itertools.cycle(("above", "bigger", "behind", "kiss"))
    text = re.sub("look at", lambda match: next(verbs), path.read_text())
    path.write_text(text)
    build_release(Job([folder / "json"], PictureFolder(folder), root))
    findings = audit_release(root, thorough=False).findings
    (found,) = [finding for finding in findings if finding.kind == "impossible_triplet"]
    assert found.count > 3
    (problem,) = [one for one in check_release(root) if "another category" in one.message]
    assert problem.is_warning
    expected = f"{found.count} questions with a relation of another category, for example "
    assert problem.message.startswith(expected)
    assert problem.message.count("data/real/test.jsonl:") == 3
    assert upload.main(["check", str(root)]) == 0
    assert "build --drop impossible_triplet" in capsys.readouterr().out


class TestWarnings:
    @staticmethod
    def build(folder: Path, picture: Image.Image, questions: int = 1, **save: Any) -> Path:
        path = folder / "vg" / "VG_100K" / "1.jpg"
        path.parent.mkdir(parents=True)
        picture.save(path, **save)
        lines = []
        for number in range(questions):
            text = f"Is there a cat above to a car{number:02d} in the image?"
            lines.append(
                {
                    "question_id": f"q{number}",
                    "image": "vg/VG_100K/1.jpg",
                    "text": text,
                    "label": "yes",
                }
            )
        (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
        build_release(Job([folder / "a.jsonl"], PictureFolder(folder), folder / "out"))
        return folder / "out"

    def test_turned_by_exif(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        root = self.build(tmp_path, Image.new("RGB", (30, 20)), exif=exif)
        assert (
            "warning: data/real/test-00000.tar:vg/VG_100K/1.jpg: turned by EXIF orientation"
            in list_problems(root)
        )
        assert upload.main(["check", str(root)]) == 0

    def test_lengths_that_differ_by_one(self, tmp_path: Path) -> None:
        root = self.build(tmp_path, Image.new("RGB", (30, 20)), questions=40)
        expected = (
            "split test: column question_id: values of 2 and 3 characters; "
            "the Hub's viewer shows no statistics"
        )
        assert f"warning: config all, {expected}" in list_problems(root)
        assert f"warning: config real, {expected}" in list_problems(root)
        assert "column answer" not in list_problems(root)

    def test_widths_that_differ_by_one(self, tmp_path: Path) -> None:
        # Widths were compared over all splits, so others hid a difference of 1 in one split.
        folder = tmp_path / "vg" / "VG_100K"
        folder.mkdir(parents=True)
        lines = []
        for number, (width, split) in enumerate(
            [(30, "test"), (31, "test"), (50, "train"), (55, "train")]
        ):
            Image.new("RGB", (width, 20)).save(folder / f"{number}.png")
            text, image = "Is there a cat above to a car in the image?", f"vg/VG_100K/{number}.png"
            record = {
                "question_id": f"q{number}",
                "image": image,
                "text": text,
                "label": "yes",
                "split": split,
            }
            lines.append(json.dumps(record))
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        build_release(Job([tmp_path / "a.jsonl"], PictureFolder(tmp_path), tmp_path / "out"))
        warned = [problem for problem in check_release(tmp_path / "out") if problem.is_warning]
        assert [problem.where for problem in warned] == [
            "config all, split test",
            "config real, split test",
        ]
        assert all(
            "column image: values of 30 and 31 pixels" in problem.message for problem in warned
        )

    def test_long_rows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mmrel_kit.check.viewer.MAX_ROW", 100)
        root = self.build(tmp_path, Image.new("RGB", (30, 20)))
        assert "warning: data: a row has" in list_problems(root)

    def test_pictures_that_do_not_open(self, release: Path) -> None:
        path = sorted((release / "data" / "real").glob("test-*.tar"))[0]
        members = read_tar(path)
        write_tar(
            path, [(name, data[:-100] if name.endswith(".jpg") else data) for name, data in members]
        )
        seal(release)
        assert "differs from" in list_problems(release)

# SPDX-License-Identifier: Apache-2.0
"""`check` on what describes a release: the card's YAML and dataset_infos.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.edit_release import list_problems, seal


class TestCard:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("data/real/test-*.parquet", "data/real/tset-*.parquet"),
            ("config_name: sdxl", "config_name: sd/xl"),
            ("default: true", "default: false"),
            ("num_examples: 48", "num_examples: 47"),
            ("dtype: image", "dtype: string"),
            ("data/*/test-*.parquet", "data/*/test-*.tar"),
        ],
    )
    def test_yaml_that_says_something_else(self, release: Path, old: str, new: str) -> None:
        path = release / "README.md"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        seal(release)
        assert "README.md: " in list_problems(release)

    @pytest.mark.parametrize("line", ["viewer: false\ntags:", "tags:\n- nsfw"])
    def test_a_viewer_turned_off(self, release: Path, line: str) -> None:
        path = release / "README.md"
        path.write_text(path.read_text().replace("tags:", line, 1))
        seal(release)
        assert "README.md: " in list_problems(release)

    def test_no_yaml(self, release: Path) -> None:
        for text in ("# MMRel", "---\n: {\n---\n", "---\n- 1\n---\n"):
            (release / "README.md").write_text(text)
            seal(release)
            assert "README.md" in list_problems(release)

    def test_dataset_infos(self, release: Path) -> None:
        path = release / "dataset_infos.json"
        path.write_text(path.read_text().replace('"num_examples": 48', '"num_examples": 47'))
        seal(release)
        assert "dataset_infos.json: expected what the data files hold" in list_problems(release)

    @pytest.mark.parametrize("name", ["mmrel.py", "MMRel.py", "other.py"])
    def test_a_script_at_the_top(self, release: Path, name: str) -> None:
        (release / name).write_text("")
        seal(release)
        assert f"{name}: a script at the top stops load_dataset" in list_problems(release)

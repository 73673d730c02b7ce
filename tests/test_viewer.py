# SPDX-License-Identifier: Apache-2.0
"""Predict the columns that break the Hub viewer's statistics; `build` avoids them in `source`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmrel
import upload
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.check.release import check_release, check_sample
from mmrel_kit.check.viewer import ViewerStatistics
from mmrel_kit.questions.table import pad_source
from mmrel_kit.sources.local import PictureFolder
from tests.conftest import REPOSITORY, make_sources

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = st.one_of(
    st.builds("{}:{}".format, st.text("ab/. :", min_size=1, max_size=9), st.integers(0, 99999)),
    st.builds("semidc item {}: {}".format, st.integers(0, 9999), st.text("ab :7", max_size=9)),
    st.text(max_size=20).filter(bool),
)


def breaks_viewer(values: list[str | None]) -> bool:
    """Return whether a text column fails, by the viewer's rule on labels and its histogram."""
    distinct = len(set(values))
    if distinct <= 10 or (distinct / len(values) <= 0.2 and distinct <= 1000):
        return False
    lengths = [len(value) for value in values if value is not None]
    least, most = min(lengths), max(lengths)
    if least == most:
        return False
    edges = np.arange(least, most, np.ceil((most - least + 1) / 10)).astype(int).tolist()
    if edges[-1] != most:
        edges.append(most)
    return len(edges) == 2


def find_failures(root: Path) -> set[tuple[str, str, str]]:
    """Return (config, split, column) of the text columns that fail by the rule above."""
    failures = set()
    for config in mmrel.CONFIGS:
        folder = "*" if config == "all" else config
        for split in mmrel.SPLITS:
            paths = sorted(root.glob(f"data/{folder}/{split}-*.parquet"))
            if not paths:
                continue
            table = pa.concat_tables([pq.read_table(path) for path in paths])
            for column in mmrel.COLUMNS:
                if breaks_viewer(table[column].to_pylist()):
                    failures.add((config, split, column))
    return failures


def read_sources(root: Path) -> dict[str, set[str]]:
    """Return the sources of each split."""
    sources: dict[str, set[str]] = {}
    for path in root.glob("data/*/*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            sources.setdefault(path.stem, set()).add(json.loads(line)["source"])
    return sources


@pytest.mark.parametrize(
    ("lengths", "rows", "fails"),
    [
        ([5, 6] * 10, 20, True),  # 20 distinct values
        ([5, 7] * 10, 20, False),
        ([5] * 20, 20, False),
        ([4, 14] * 10, 20, False),
        ([5, 6] * 5, 20, False),  # up to 10 distinct values are labels
        ([5, 6] * 5 + [5], 54, True),  # 11 distinct values in 54 rows are more than a fifth
        ([5, 6] * 5 + [5], 55, False),
        ([5, 6] * 500, 5000, False),
        ([5, 6] * 500 + [5], 5005, True),  # more than 1,000 distinct values are never labels
    ],
)
def test_the_rule_of_the_viewer(lengths: list[int], rows: int, fails: bool) -> None:
    # The bound used to be 30 distinct values in the whole release.
    texts: list[str | None] = [
        f"{number:04d}".rjust(length, "x") for number, length in enumerate(lengths)
    ]
    values = texts + texts[:1] * (rows - len(texts))
    statistics = ViewerStatistics()
    for value in values:
        statistics.add_text("real", "test", "question_id", value)
    assert bool(list(statistics.find_failures())) == fails == breaks_viewer(values)


def test_null_counts_as_a_distinct_value() -> None:
    # Ten texts and a null are eleven distinct values, so that the viewer draws their lengths.
    statistics = ViewerStatistics()
    for value in [*(f"{number:0{5 + number % 2}d}" for number in range(10)), None]:
        statistics.add_text("real", "test", "style", value)
    (failure,) = statistics.find_failures()
    assert (failure.column, failure.least, failure.most) == ("style", 5, 6)


def test_the_config_all_adds_up_the_domains() -> None:
    statistics = ViewerStatistics()
    for number in range(40):
        statistics.add_text("real", "test", "question_id", f"{number:05d}")
        statistics.add_text("sdxl", "test", "question_id", f"{number:06d}")
        statistics.add_text("dalle", "train", "question_id", f"{number:07d}")
    statistics.add_width("real", "test", "image", 100)
    statistics.add_width("sdxl", "test", "image", 101)
    assert list(statistics.find_failures()) == []
    statistics.add_config_all()
    width, length = statistics.find_failures()
    assert (width.config, width.split, width.column) == ("all", "test", "image")
    assert (width.unit, width.least, width.most) == ("pixels", 100, 101)
    assert (length.config, length.split, length.column) == ("all", "test", "question_id")
    assert (length.unit, length.least, length.most) == ("characters", 5, 6)


@given(SOURCES, st.integers(0, 60))
def test_padding_keeps_the_meaning_of_a_source(source: str, more: int) -> None:
    length = len(source) + more
    padded = pad_source(source, length)
    assert len(padded) == length
    assert pad_source(padded, length) == padded
    assert pad_source(source, length - more) == source
    if source.startswith("semidc item "):
        return
    file, colon, line = source.rpartition(":")
    if colon and line.isascii() and line.isdigit():
        padded_file, _, padded_line = padded.rpartition(":")
        assert (padded_file, int(padded_line)) == (file, int(line))
    else:
        assert padded.rstrip(" ") == source.rstrip(" ")


@pytest.mark.parametrize(
    ("source", "padded"),
    [
        ("json/test.jsonl:7", "json/test.jsonl:0000000000000007"),
        ("semidc item 7: propose v-1 m:7b", "semidc item 07: propose v-1 m:7b"),
        ("semidc item 7: propose m:7", "semidc item 0000007: propose m:7"),
        ("labels of 2024", "labels of 2024                  "),
    ],
)
def test_a_source_is_padded_at_its_number_or_its_end(source: str, padded: str) -> None:
    assert pad_source(source, 32) == padded


class TestBuild:
    @staticmethod
    def build(folder: Path, *names: str, out: str = "out", **options: Any) -> Path:
        paths = [folder / name for name in names]
        build_release(Job(paths, PictureFolder(folder), folder / out, **options))
        return folder / out

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Sources whose test questions are in two files with names of different lengths."""
        folder = make_sources(tmp_path / "sources", copies=9)
        lines = (folder / "json" / "test.jsonl").read_text().splitlines(keepends=True)
        (folder / "more").mkdir()
        (folder / "more" / "a.jsonl").write_text("".join(lines[:11]))
        (folder / "more" / "a_longer_name.jsonl").write_text("".join(lines[11:]))
        (folder / "json" / "test.jsonl").unlink()
        return folder

    def test_all_sources_of_a_split_have_one_length(self, folder: Path) -> None:
        # Lines 9 and 10 of a file used to give sources of two lengths, which broke the statistics
        # of 6 of the sample's 12 splits.
        root = self.build(folder, "json", "more")
        sources = read_sources(root)
        assert set(sources) == set(mmrel.SPLITS)
        for split, texts in sources.items():
            assert len(set(map(len, texts))) == 1, (split, texts)
        files: dict[str, set[int]] = {}
        for source in sources["test"]:
            file, _, line = source.rpartition(":")
            files.setdefault(file, set()).add(int(line))
        assert set(files) == {"more/a.jsonl", "more/a_longer_name.jsonl"}
        assert files["more/a.jsonl"] == set(range(1, 12))
        assert find_failures(root) == set()
        assert check_release(root) == []

    def test_a_release_built_from_its_own_records_has_the_same_records(self, folder: Path) -> None:
        root = self.build(folder, "json", "more")
        # The split is in the name of a file, not in that of its folder.
        copies = folder / "copies"
        shutil.copytree(root / "data", copies, ignore=shutil.ignore_patterns("*.tar", "*.parquet"))
        again = self.build(folder, "copies", out="again")
        for path in sorted(root.glob("data/*/*.jsonl")):
            assert (again / path.relative_to(root)).read_bytes() == path.read_bytes()
        # Without one of the files, the other records stay the same.
        (copies / "real" / "test.jsonl").unlink()
        fewer = self.build(folder, "copies", out="fewer")
        kept = fewer / "data" / "sdxl" / "test.jsonl"
        assert kept.read_bytes() == (root / "data" / "sdxl" / "test.jsonl").read_bytes()

    def test_records_keep_their_own_sources(self, folder: Path, tmp_path: Path) -> None:
        root = self.build(folder, "json", "more")
        (tmp_path / "mixed").mkdir()
        texts = ["semidc item {}: propose spatial-1 m", "elsewhere.jsonl:{}", "by hand"]
        for path in root.glob("data/real/*.jsonl"):
            records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            for number, record in enumerate(records):
                record["source"] = texts[number % 3].format(number)
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (tmp_path / "mixed" / path.name).write_text(lines)
        build_release(Job([tmp_path / "mixed"], PictureFolder(folder), tmp_path / "out"))
        sources = read_sources(tmp_path / "out")["test"]
        assert len(set(map(len, sources))) == 1
        longest = max(len(text.format(10)) for text in texts)
        assert pad_source("semidc item 3: propose spatial-1 m", longest) in sources
        assert pad_source("elsewhere.jsonl:4", longest) in sources
        assert "by hand".ljust(longest) in sources
        assert check_release(tmp_path / "out") == []

    @staticmethod
    def rename(folder: Path, width: Callable[[int, dict[str, Any]], int]) -> None:
        """Replace every question id by a number.

        Args:
            folder: the folder of the annotation files.
            width: return the number's digits for a question, from its number and its record.
        """
        number = 0
        for path in sorted(folder.glob("*/*.jsonl")):
            lines = []
            for line in path.read_text().splitlines():
                number += 1
                record = json.loads(line)
                digits = str(number).zfill(width(number, record))
                record["question_id"] = f"q{digits}"
                lines.append(json.dumps(record) + "\n")
            path.write_text("".join(lines))

    def test_check_names_column_config_split_and_lengths(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def width(number: int, record: dict[str, Any]) -> int:
            return 5 + number % 2 if record["split"] == "test" else 5

        self.rename(folder, width)
        root = self.build(folder, "json", "more")
        configs = {config for config, split, _ in find_failures(root)}
        assert configs == {"all", "real", "sdxl", "dalle"}
        assert upload.main(["check", str(root)]) == 0
        warnings = capsys.readouterr().out.splitlines()[:-1]
        # Labels such as `answer`, whose texts have 2 and 3 characters, are not among them.
        column = "split test: column question_id: values of 6 and 7 characters"
        expected = [f"warning: config {config}, {column}" for config in configs]
        assert sorted(line.partition("; ")[0] for line in warnings) == sorted(expected)

    def test_the_config_of_the_hubs_own_evaluation_is_checked(self, folder: Path) -> None:
        # It holds the yes/no questions alone, whose ids differ in length by 1 here.
        def width(number: int, record: dict[str, Any]) -> int:
            return 5 + number % 2 if record["label"] in ("yes", "no") else 9

        self.rename(folder, width)
        root = self.build(folder, "json", "more", hub_eval=True)
        places = {problem.where for problem in check_release(root)}
        assert places == {"config hub_eval, split adversarial", "config hub_eval, split test"}


def test_no_split_of_the_sample_breaks_the_statistics() -> None:
    # The column `source` used to break 6 of its 12 splits.
    assert find_failures(REPOSITORY) == set()
    assert check_sample(REPOSITORY) == []

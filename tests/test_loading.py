"""Check that every way of loading gives the same rows, with the installed version of `datasets`.

CI runs this file with datasets 3.6.0, 4.0.0 and 5.2.0.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pytest

import mmrel
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.sources.local import PictureFolder
from tests.conftest import REPOSITORY, make_sources
from tests.helpers.edit_release import read_tar

if TYPE_CHECKING:
    from collections.abc import Iterable

RUNS_SCRIPTS = int(datasets.__version__.split(".")[0]) < 4
needs_scripts = pytest.mark.skipif(not RUNS_SCRIPTS, reason="datasets >= 4 runs no scripts")
refuses_scripts = pytest.mark.skipif(RUNS_SCRIPTS, reason="datasets < 4 runs scripts")
BOTH = pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])


def expected_rows(root: Path, config: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each split, read from JSON lines and archives without the package."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for split in ("train", "test", "adversarial"):
        for domain in ("dalle", "real", "sdxl"):
            path = root / "data" / domain / f"{split}.jsonl"
            if config not in ("all", domain) or not path.exists():
                continue
            pictures = {}
            for archive in path.parent.glob(f"{split}-*.tar"):
                pictures.update(read_tar(archive))
            for line in path.read_text().splitlines():
                record = json.loads(line)
                record.pop("verification", None)
                image = {"bytes": pictures[record["image_id"]], "path": record["image_id"]}
                rows.setdefault(split, []).append({"image": image, **record})
    return rows


def undecoded(dataset: Any) -> list[dict[str, Any]]:
    """Return the rows of a dataset with the pictures as bytes."""
    rows = list(dataset.cast_column("image", datasets.Image(decode=False)))
    for row in rows:
        if row["image"]["bytes"] is None:  # a plain load from archives: a file in the cache
            data = Path(row["image"]["path"]).read_bytes()
            row["image"] = {"bytes": data, "path": row["image_id"]}
    return rows


def assert_equal(loaded: Any, root: Path, config: str) -> None:
    expected = expected_rows(root, config)
    assert {split: undecoded(dataset) for split, dataset in loaded.items()} == expected
    assert all(len(rows) > 5 for rows in expected.values())


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script or a module (-m) of the project, with an empty cache."""
    first = [] if arguments[0] == "-m" else [str(REPOSITORY / arguments[0])]
    command = [sys.executable, *first, *arguments[len(first) :]]
    with tempfile.TemporaryDirectory() as home:
        settings = {**os.environ, "HF_HOME": home, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(command, env=settings, text=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def clone(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the source repository: the script beside the data of a release."""
    root = tmp_path_factory.mktemp("clone") / "MMRel-clone"
    shutil.copytree(built, root)
    shutil.rmtree(root / "loader")
    shutil.copy(REPOSITORY / "mmrel.py", root)
    return root


@BOTH
@pytest.mark.parametrize("config", ["all", "real", "sdxl", "dalle"])
def test_a_release_loads(built: Path, tmp_path: Path, config: str, streaming: bool) -> None:
    loaded = datasets.load_dataset(str(built), config, streaming=streaming, cache_dir=str(tmp_path))
    assert_equal(loaded, built, config)


@BOTH
def test_a_folder_called_mmrel_loads(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    shutil.copytree(built, tmp_path / "mmrel")
    monkeypatch.chdir(tmp_path)
    loaded = datasets.load_dataset(
        "mmrel", "real", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    assert_equal(loaded, built, "real")


@BOTH
def test_a_clone_loads(clone: Path, tmp_path: Path, streaming: bool) -> None:
    loaded = datasets.load_dataset(str(clone), "real", streaming=streaming, cache_dir=str(tmp_path))
    assert_equal(loaded, clone, "real")


@BOTH
def test_the_current_folder_loads_by_its_name_alone(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    # `datasets` does not load "."; where this fails, it has learnt to, and the README may say so.
    monkeypatch.chdir(shutil.copytree(built, tmp_path / "mmrel"))
    with pytest.raises(ValueError, match="dataset_name should be specified"):
        datasets.load_dataset(".", "real", streaming=streaming, cache_dir=str(tmp_path / "cache"))
    loaded = datasets.load_dataset(
        "../mmrel", "real", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    assert_equal(loaded, built, "real")


@BOTH
@needs_scripts
@pytest.mark.parametrize("script", ["mmrel.py", "loader/mmrel.py"])
def test_a_script_loads(
    built: Path, clone: Path, tmp_path: Path, script: str, streaming: bool
) -> None:
    root = clone if script == "mmrel.py" else built
    loaded = datasets.load_dataset(
        str(root / script),
        "real",
        trust_remote_code=True,
        streaming=streaming,
        cache_dir=str(tmp_path),
    )
    assert_equal(loaded, root, "real")


@needs_scripts
def test_a_script_takes_filters(clone: Path, tmp_path: Path) -> None:
    # datasets 3.6 compares the number of rows with the card beside the script, which counts all.
    loaded = datasets.load_dataset(
        str(clone / "mmrel.py"),
        "all",
        tasks=["generative"],
        trust_remote_code=True,
        cache_dir=str(tmp_path),
    )
    assert {row["task"] for row in undecoded(loaded["test"])} == {"generative"}


@refuses_scripts
def test_a_clone_called_mmrel_needs_mmrel_load(clone: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clone, tmp_path / "mmrel"))
    with pytest.raises(RuntimeError, match="scripts are no longer supported"):
        datasets.load_dataset(str(root), "real")
    assert_equal(mmrel.load("real", root=root, cache_dir=str(tmp_path / "cache")), root, "real")


@BOTH
@pytest.mark.parametrize("config", ["all", "real", "sdxl", "dalle"])
def test_mmrel_load(built: Path, tmp_path: Path, config: str, streaming: bool) -> None:
    loaded = mmrel.load(config, root=built, streaming=streaming, cache_dir=str(tmp_path))
    assert_equal(loaded, built, config)


def test_the_builder_class_loads(built: Path, tmp_path: Path) -> None:
    builder = mmrel.MMRel(config_name="real", base_path=str(built), cache_dir=str(tmp_path))
    builder.download_and_prepare()
    assert_equal(builder.as_dataset(), built, "real")
    assert_equal(builder.as_streaming_dataset(), built, "real")


def test_pictures_are_decoded(built: Path, tmp_path: Path) -> None:
    row = mmrel.load("dalle", split="test", root=built, cache_dir=str(tmp_path))[0]
    streamed = next(iter(mmrel.load("dalle", split="test", root=built, streaming=True)))
    image, streamed_image = row.pop("image"), streamed.pop("image")
    assert image.size == (21, 20)
    assert streamed_image.tobytes() == image.tobytes()
    assert streamed == row


@pytest.mark.parametrize(
    ("filters", "column", "values"),
    [
        ({"categories": ["comparative"]}, "category", ["comparative"]),
        ({"tasks": "generative"}, "task", ["generative"]),
        ({"categories": ["action", "spatial"]}, "category", ["action", "spatial"]),
    ],
)
def test_filters_select_rows(
    built: Path, tmp_path: Path, filters: dict[str, Any], column: str, values: list[str]
) -> None:
    everything = undecoded(mmrel.load("all", split="test", root=built, cache_dir=str(tmp_path)))
    loaded = mmrel.load("all", split="test", root=built, cache_dir=str(tmp_path), **filters)
    assert undecoded(loaded) == [row for row in everything if row[column] in values]
    assert 0 < len(loaded) < len(everything)


@BOTH
def test_filters_that_match_nothing_give_no_rows(
    built: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, streaming: bool
) -> None:
    # The plain load used to fail with 'Instruction "test" corresponds to no data!'.
    loaded = mmrel.load(
        "real",
        root=built,
        categories="comparative",
        streaming=streaming,
        cache_dir=str(tmp_path / "cache"),
    )
    assert undecoded(loaded["test"]) == []
    assert {row["category"] for row in undecoded(loaded["train"])} == {"comparative"}
    assert loaded["test"].features == loaded["train"].features
    assert f"{built}: no comparative questions of 'real' in 'test'" in caplog.text
    caplog.clear()
    train = mmrel.load(
        "real", "train", root=built, categories="comparative", cache_dir=str(tmp_path)
    )
    assert undecoded(train)
    assert not caplog.text


class TestSplits:
    """`split=` accepts the same values as in `load_dataset`."""

    @staticmethod
    def ids(rows: Iterable[dict[str, Any]]) -> list[str]:
        return [row["question_id"] for row in rows]

    @BOTH
    @pytest.mark.parametrize(
        ("split", "names"),
        [
            ("test", ["test"]),
            (datasets.Split.TEST, ["test"]),
            (datasets.ReadInstruction("test"), ["test"]),
            ("train+test", ["train", "test"]),
            ("test + train", ["test", "train"]),
            ("all", ["train", "test", "adversarial"]),
            (datasets.Split.ALL, ["train", "test", "adversarial"]),
        ],
    )
    def test_whole_splits(
        self, built: Path, tmp_path: Path, split: Any, names: list[str], streaming: bool
    ) -> None:
        rows = expected_rows(built, "all")
        loaded = mmrel.load(split=split, root=built, streaming=streaming, cache_dir=str(tmp_path))
        assert self.ids(undecoded(loaded)) == self.ids(row for name in names for row in rows[name])

    @BOTH
    def test_a_list_of_splits(self, built: Path, tmp_path: Path, streaming: bool) -> None:
        rows = expected_rows(built, "all")
        test, train = mmrel.load(
            split=["test", "train"], root=built, streaming=streaming, cache_dir=str(tmp_path)
        )
        assert self.ids(undecoded(test)) == self.ids(rows["test"])
        assert self.ids(undecoded(train)) == self.ids(rows["train"])

    def test_slices(self, built: Path, tmp_path: Path) -> None:
        ids = self.ids(expected_rows(built, "all")["test"])
        last_three = datasets.ReadInstruction("test", from_=-3, unit="abs")
        for split, expected in (
            ("test[:10]", ids[:10]),
            ("test[50%:]", ids[len(ids) // 2 :]),
            (last_three, ids[-3:]),
        ):
            loaded = mmrel.load(split=split, root=built, cache_dir=str(tmp_path))
            assert self.ids(undecoded(loaded)) == expected

    @pytest.mark.parametrize(
        "split", ["test[:10]", "train+test[5:]", datasets.ReadInstruction("test", to=10, unit="%")]
    )
    def test_slices_cannot_be_streamed(self, built: Path, split: Any) -> None:
        expected = "expected whole splits.*a stream has no slices; use .skip"
        with pytest.raises(ValueError, match=expected):
            mmrel.load(split=split, root=built, streaming=True)

    @BOTH
    @pytest.mark.parametrize(
        "split", ["tset", "test[", "test[:x]", "", "validation", "train+tset", ["test", "tset"]]
    )
    def test_an_unknown_split_is_an_error(self, built: Path, split: Any, streaming: bool) -> None:
        expected = "expected a split among train, test, adversarial"
        with pytest.raises(mmrel.ReleaseError, match=expected):
            mmrel.load(split=split, root=built, streaming=streaming)

    def test_a_split_that_the_domain_lacks_is_an_error(self, built: Path) -> None:
        expected = "expected a split among train, test of 'real', .* got 'test.adversarial'"
        with pytest.raises(mmrel.ReleaseError, match=expected):
            mmrel.load("real", split="test+adversarial", root=built)

    def test_loading_in_several_processes(self, built: Path, tmp_path: Path) -> None:
        loaded = mmrel.load("real", root=built, cache_dir=str(tmp_path), num_proc=2)
        assert_equal(loaded, built, "real")
        with pytest.raises(ValueError, match="num_proc= is for the plain load"):
            mmrel.load("real", root=built, streaming=True, num_proc=2)

    @pytest.mark.parametrize("number", [0, -1, "x", 1.5])
    def test_an_invalid_number_of_processes_is_an_error(self, built: Path, number: Any) -> None:
        with pytest.raises(ValueError, match="expected num_proc to be a whole number from 1 on"):
            mmrel.load("real", root=built, num_proc=number)

    @pytest.mark.parametrize("split", ["test[:0]", "test[5:2]"])
    def test_an_empty_slice_has_no_rows(self, built: Path, tmp_path: Path, split: str) -> None:
        # It used to fail with 'Instruction "test[:0]" corresponds to no data!'.
        loaded = mmrel.load("real", split=split, root=built, cache_dir=str(tmp_path))
        assert undecoded(loaded) == []

    def test_a_damaged_archive_is_named_by_several_processes(
        self, release: Path, tmp_path: Path
    ) -> None:
        for archive in release.glob("data/real/test-*.tar"):
            archive.write_bytes(archive.read_bytes()[:-20000])
        expected = r"data/real/test-0000\d\.tar.*fetch the release again"
        with pytest.raises(mmrel.ReleaseError, match=expected):
            mmrel.load("real", root=release, cache_dir=str(tmp_path / "cache"), num_proc=2)


class TestRoots:
    """`root=` is a folder relative to the current one; a wrong root is an error."""

    @pytest.fixture(autouse=True)
    def enter_parent(self, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Change to a folder that holds a release called mmrel."""
        shutil.copytree(built, tmp_path / "x" / "mmrel")
        monkeypatch.chdir(tmp_path / "x")
        monkeypatch.setenv("HOME", str(tmp_path / "x"))

    @BOTH
    @pytest.mark.parametrize(
        "root", ["mmrel", "./mmrel", Path("mmrel"), "../x/mmrel", "~/mmrel", "mmrel/"], ids=str
    )
    def test_relative_roots(self, built: Path, root: Any, streaming: bool) -> None:
        # The root used to be joined twice, mmrel/mmrel/data, unless the cache had the rows.
        loaded = mmrel.load("real", root=root, streaming=streaming, cache_dir="cache")
        assert_equal(loaded, built, "real")

    @needs_scripts
    @BOTH
    def test_the_script_in_a_folder_called_mmrel(self, built: Path, streaming: bool) -> None:
        for script in ("mmrel/loader/mmrel.py", "./mmrel/loader/mmrel.py"):
            loaded = datasets.load_dataset(
                script, "real", trust_remote_code=True, streaming=streaming, cache_dir="cache"
            )
            assert_equal(loaded, built, "real")

    def test_the_command_takes_a_relative_root(self, tmp_path: Path) -> None:
        done = run_command("mmrel.py", "real", "--root", "mmrel")
        assert done.returncode == 0, done.stderr
        assert "vg/VG_100K" in done.stdout
        assert f"from {tmp_path / 'x' / 'mmrel'}" in done.stdout

    @pytest.mark.parametrize(
        "root", ["", "my-relaese", "mmrel/data", "mmrel/loader", "mmrel/README.md", "~/relaese"]
    )
    def test_a_root_that_is_no_release_is_an_error(self, root: str) -> None:
        # In a clone, a mistyped root used to load the sample of the parent folder.
        expected = "expected a release, a folder with checksums.json"
        with pytest.raises(mmrel.ReleaseError, match=expected):
            mmrel.load("real", root=root)
        with pytest.raises(mmrel.ReleaseError, match=expected):
            mmrel.load("real", root=root, streaming=True)

    @pytest.mark.parametrize(
        "command",
        [
            "mmrel.py real --root my-relaese",
            "upload.py sheet my-relaese --out sheet.png",
            "-m mmrel_kit.cli export --root my-relaese --out export",
            "-m mmrel_kit.cli answer --root my-relaese --out a.jsonl --model m "
            "--base-url http://127.0.0.1:9/v1",
        ],
    )
    def test_commands_in_a_clone_name_a_wrong_root(
        self, command: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(REPOSITORY)
        done = run_command(*command.split())
        assert done.returncode == 1, done.stdout
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "my-relaese" in done.stderr
        assert not (REPOSITORY / "sheet.png").exists()


@pytest.mark.parametrize(
    "filters", [{"categories": ["spatiel"]}, {"tasks": "yes/no"}, {"categories": []}]
)
def test_unknown_filters_are_errors(built: Path, filters: dict[str, Any]) -> None:
    # They used to select no rows without an error.
    with pytest.raises(ValueError, match="expected (categories|tasks) among"):
        mmrel.load("all", root=built, **filters)


def test_a_stream_has_a_shard_for_each_archive(built: Path) -> None:
    stream = mmrel.load("real", split="test", root=built, streaming=True)
    expected = expected_rows(built, "real")["test"]
    shards = getattr(stream, "num_shards", None) or stream.n_shards
    assert shards == len(list((built / "data" / "real").glob("test-*.tar"))) > 1
    rows = []
    for index in range(shards):
        rows += undecoded(stream.shard(shards, index))
    assert rows == expected
    assert undecoded(pickle.loads(pickle.dumps(stream))) == expected


class TestCache:
    """The cache of `datasets` is keyed by the script; that of `mmrel.load` by the release too."""

    @staticmethod
    def ids(loaded: Iterable[dict[str, Any]]) -> set[str]:
        return {row["question_id"] for row in loaded}

    @pytest.fixture
    def other(self, tmp_path: Path) -> Path:
        """Another release."""
        sources = make_sources(tmp_path / "sources", seed=1)
        build_release(Job([sources / "json"], PictureFolder(sources), tmp_path / "other"))
        return tmp_path / "other"

    def test_two_releases_do_not_share_a_cache(
        self, built: Path, other: Path, tmp_path: Path
    ) -> None:
        # Without the release in the key, the second load used to return the rows of the first.
        for root in (built, other):
            loaded = mmrel.load("real", root=root, cache_dir=str(tmp_path / "cache"))
            assert_equal(loaded, root, "real")

    def test_a_release_that_is_replaced_is_loaded_anew(
        self, release: Path, other: Path, tmp_path: Path
    ) -> None:
        before = mmrel.load("real", split="test", root=release, cache_dir=str(tmp_path / "cache"))
        shutil.rmtree(release)
        shutil.copytree(other, release)
        after = mmrel.load("real", split="test", root=release, cache_dir=str(tmp_path / "cache"))
        assert not self.ids(before) & self.ids(after)
        assert undecoded(after) == expected_rows(other, "real")["test"]

    @needs_scripts
    def test_scripts_of_a_clone_and_a_release_do_not_share_a_cache(
        self, clone: Path, other: Path, tmp_path: Path
    ) -> None:
        for script in (other / "loader" / "mmrel.py", clone / "mmrel.py"):
            root = clone if script.parent == clone else other
            loaded = datasets.load_dataset(
                str(script), "real", trust_remote_code=True, cache_dir=str(tmp_path / "c")
            )
            assert_equal(loaded, root, "real")

    @needs_scripts
    def test_a_script_and_mmrel_load_do_not_share_a_cache(
        self, built: Path, other: Path, tmp_path: Path
    ) -> None:
        mmrel.load("real", root=built, cache_dir=str(tmp_path / "c"))
        loaded = datasets.load_dataset(
            str(other / "loader" / "mmrel.py"),
            "real",
            trust_remote_code=True,
            cache_dir=str(tmp_path / "c"),
        )
        assert_equal(loaded, other, "real")

"""Every way of loading gives the same rows: each line of the design's table, on the `datasets` that is installed.

CI runs this file on datasets 3.6.0, 4.0.0 and 5.2.0, each in an environment of its own.
"""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pytest
from conftest import REPOSITORY, make_sources

import mmrel
from release.build import build_release
from release.sources import PictureFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

RUNS_SCRIPTS = int(datasets.__version__.split(".")[0]) < 4
needs_scripts = pytest.mark.skipif(not RUNS_SCRIPTS, reason="datasets >= 4 runs no scripts")
refuses_scripts = pytest.mark.skipif(RUNS_SCRIPTS, reason="datasets < 4 runs scripts")
BOTH = pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])


def expected_rows(root: Path, config: str) -> dict[str, list[dict[str, Any]]]:
    """Rows by split, read without any code of the package: .jsonl beside the archives' bytes."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for split in ("train", "test", "adversarial"):
        for domain in sorted(("real", "sdxl", "dalle")):
            lines = root / "data" / domain / f"{split}.jsonl"
            if config not in ("all", domain) or not lines.exists():
                continue
            pictures = {}
            for path in lines.parent.glob(f"{split}-*.tar"):
                with tarfile.open(path) as archive:
                    pictures.update({m.name: archive.extractfile(m).read() for m in archive})  # type: ignore[union-attr]
            for line in lines.read_text().splitlines():
                record = json.loads(line)
                record.pop("verification", None)
                image = {"bytes": pictures[record["image_id"]], "path": record["image_id"]}
                rows.setdefault(split, []).append({"image": image, **record})
    return rows


def undecoded(dataset: Any) -> list[dict[str, Any]]:
    return list(dataset.cast_column("image", datasets.Image(decode=False)))


def assert_equal(loaded: Any, root: Path, config: str) -> None:
    expected = expected_rows(root, config)
    assert {split: undecoded(dataset) for split, dataset in loaded.items()} == expected
    assert all(len(rows) > 5 for rows in expected.values())


@pytest.fixture(scope="module")
def clone(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of the source repository holds: the script beside the data of a release."""
    root = tmp_path_factory.mktemp("clone") / "MMRel-clone"
    shutil.copytree(built, root)
    shutil.rmtree(root / "loader")
    shutil.copy(REPOSITORY / "mmrel.py", root)
    return root


@BOTH
@pytest.mark.parametrize("config", ["all", "real", "sdxl", "dalle"])
def test_release_folder(built: Path, tmp_path: Path, config: str, streaming: bool) -> None:
    loaded = datasets.load_dataset(str(built), config, streaming=streaming, cache_dir=str(tmp_path))
    assert_equal(loaded, built, config)


@BOTH
def test_literal_mmrel_beside_a_release(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    shutil.copytree(built, tmp_path / "mmrel")
    monkeypatch.chdir(tmp_path)
    loaded = datasets.load_dataset("mmrel", "real", streaming=streaming, cache_dir=str(tmp_path / "cache"))
    assert_equal(loaded, built, "real")


@BOTH
def test_clone(clone: Path, tmp_path: Path, streaming: bool) -> None:
    assert_equal(datasets.load_dataset(str(clone), "real", streaming=streaming, cache_dir=str(tmp_path)), clone, "real")


@BOTH
@needs_scripts
@pytest.mark.parametrize("script", ["mmrel.py", "loader/mmrel.py"])
def test_script(built: Path, clone: Path, tmp_path: Path, script: str, streaming: bool) -> None:
    root = clone if script == "mmrel.py" else built
    loaded = datasets.load_dataset(
        str(root / script), "real", trust_remote_code=True, streaming=streaming, cache_dir=str(tmp_path)
    )
    assert_equal(loaded, root, "real")


@needs_scripts
def test_script_takes_the_filters(clone: Path, tmp_path: Path) -> None:
    # The card beside the script counts all rows; datasets 3.6 would hold fewer against it and refuse them.
    loaded = datasets.load_dataset(
        str(clone / "mmrel.py"), "all", tasks=["generative"], trust_remote_code=True, cache_dir=str(tmp_path)
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
def test_load(built: Path, tmp_path: Path, config: str, streaming: bool) -> None:
    loaded = mmrel.load(config, root=built, streaming=streaming, cache_dir=str(tmp_path))
    assert_equal(loaded, built, config)


def test_builder_class(built: Path, tmp_path: Path) -> None:
    builder = mmrel.MMRel(config_name="real", base_path=str(built), cache_dir=str(tmp_path))
    builder.download_and_prepare()
    assert_equal(builder.as_dataset(), built, "real")
    assert_equal(builder.as_streaming_dataset(), built, "real")


def test_one_split_decodes(built: Path, tmp_path: Path) -> None:
    dataset = mmrel.load("dalle", split="test", root=built, cache_dir=str(tmp_path))
    assert dataset[0]["image"].size == (21, 20)
    streamed = next(iter(mmrel.load("dalle", split="test", root=built, streaming=True)))
    assert streamed["image"].tobytes() == dataset[0]["image"].tobytes()
    assert {name: value for name, value in streamed.items() if name != "image"} == {
        name: value for name, value in dataset[0].items() if name != "image"
    }


def test_filters(built: Path, tmp_path: Path) -> None:
    everything = undecoded(mmrel.load("all", split="test", root=built, cache_dir=str(tmp_path)))
    for filters in ({"categories": ["comparative"]}, {"tasks": "generative"}, {"categories": ["action", "spatial"]}):
        loaded = mmrel.load("all", split="test", root=built, cache_dir=str(tmp_path), **filters)
        ((key, values),) = filters.items()
        column = {"categories": "category", "tasks": "task"}[key]
        assert undecoded(loaded) == [row for row in everything if row[column] in values]
        assert 0 < len(loaded) < len(everything)


@pytest.mark.parametrize("filters", [{"categories": ["spatiel"]}, {"tasks": "yes/no"}, {"categories": []}])
def test_unknown_filters(built: Path, filters: dict[str, Any]) -> None:
    # They used to be taken as they came, and to give no rows.
    with pytest.raises(ValueError, match="expected (categories|tasks) among"):
        mmrel.load("all", root=built, **filters)


def test_streams_by_shard(built: Path) -> None:
    stream = mmrel.load("real", split="test", root=built, streaming=True)
    shards = getattr(stream, "num_shards", None) or stream.n_shards
    assert shards == len(list((built / "data" / "real").glob("test-*.tar"))) > 1
    parts = [undecoded(stream.shard(shards, index)) for index in range(shards)]
    assert [row for part in parts for row in part] == expected_rows(built, "real")["test"]
    assert undecoded(pickle.loads(pickle.dumps(stream))) == expected_rows(built, "real")["test"]


class TestCache:
    """`datasets` keys its cache by the script; ours is keyed by the release as well."""

    @staticmethod
    def ids(loaded: Iterable[dict[str, Any]]) -> set[str]:
        return {row["question_id"] for row in loaded}

    @pytest.fixture
    def other(self, tmp_path: Path) -> Path:
        sources = make_sources(tmp_path / "sources", seed=1)
        build_release([sources / "json"], PictureFolder(sources), tmp_path / "other")
        return tmp_path / "other"

    def test_two_roots(self, built: Path, other: Path, tmp_path: Path) -> None:
        # Without the release in the key the second load gave the rows of the first.
        for root in (built, other):
            loaded = mmrel.load("real", root=root, cache_dir=str(tmp_path / "cache"))
            assert_equal(loaded, root, "real")

    def test_rebuild_in_place(self, release: Path, other: Path, tmp_path: Path) -> None:
        before = mmrel.load("real", split="test", root=release, cache_dir=str(tmp_path / "cache"))
        shutil.rmtree(release)
        shutil.copytree(other, release)
        after = mmrel.load("real", split="test", root=release, cache_dir=str(tmp_path / "cache"))
        assert not self.ids(before) & self.ids(after)
        assert undecoded(after) == expected_rows(other, "real")["test"]

    @needs_scripts
    def test_script_of_a_clone_after_that_of_a_release(self, clone: Path, other: Path, tmp_path: Path) -> None:
        for script in (other / "loader" / "mmrel.py", clone / "mmrel.py"):
            root = clone if script.parent == clone else other
            loaded = datasets.load_dataset(str(script), "real", trust_remote_code=True, cache_dir=str(tmp_path / "c"))
            assert_equal(loaded, root, "real")

    @needs_scripts
    def test_script_after_load(self, built: Path, other: Path, tmp_path: Path) -> None:
        mmrel.load("real", root=built, cache_dir=str(tmp_path / "c"))
        loaded = datasets.load_dataset(
            str(other / "loader" / "mmrel.py"), "real", trust_remote_code=True, cache_dir=str(tmp_path / "c")
        )
        assert_equal(loaded, other, "real")

"""Streams over nodes and workers, resuming, and fast paths that give the same as the slow one."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import tarfile
from collections import Counter
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from datasets.distributed import split_dataset_by_node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmrel
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.pictures import Picture, shuffle_pictures
from mmrel_kit.sources.local import PictureFolder
from tests.conftest import make_sources

NODES = (1, 2, 3, 8)


def raw(dataset: Any) -> Any:
    return dataset.cast_column("image", datasets.Image(decode=False))


def ids(rows: Any) -> list[str]:
    return [row["question_id"] for row in rows]


def stream(root: Path, **filters: Any) -> Any:
    return mmrel.load("real", split="test", root=root, streaming=True, **filters)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same questions in one archive, and in several."""
    folder = tmp_path_factory.mktemp("releases")
    sources = make_sources(folder / "sources")
    for size in (2500, 6000, 1 << 20):
        build_release(
            Job([sources / "json"], PictureFolder(sources), folder / str(size), shard_bytes=size)
        )
    return {
        stream(folder / str(size)).n_shards: folder / str(size) for size in (2500, 6000, 1 << 20)
    }


def test_the_releases_differ_in_shards(releases: dict[int, Path]) -> None:
    assert len(releases) == 3
    assert min(releases) == 1
    assert len({json.dumps(ids(stream(root))) for root in releases.values()}) == 1


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("nodes", NODES)
def test_every_question_once_over_nodes(
    releases: dict[int, Path], nodes: int, shuffled: bool
) -> None:
    for root in releases.values():
        dataset = raw(stream(root))
        dataset = shuffle_pictures(dataset, seed=1) if shuffled else dataset
        parts = [split_dataset_by_node(dataset, rank, nodes) for rank in range(nodes)]
        assert Counter(itertools.chain(*map(ids, parts))) == Counter(ids(stream(root)))
        again = (
            [ids(shuffle_pictures(part, seed=2)) for part in parts] if nodes < 8 else [ids(dataset)]
        )
        assert Counter(itertools.chain(*again)) == Counter(ids(stream(root)))


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("nodes", NODES)
def test_every_question_once_over_nodes_and_workers(
    releases: dict[int, Path], nodes: int, shuffled: bool
) -> None:
    data = pytest.importorskip("torch.utils.data")
    for root in (releases[min(releases)], releases[max(releases)]):
        dataset = raw(stream(root))
        dataset = shuffle_pictures(dataset, seed=1) if shuffled else dataset
        loaders = [
            data.DataLoader(
                split_dataset_by_node(dataset, rank, nodes),
                num_workers=2,
                batch_size=5,
                collate_fn=ids,
            )
            for rank in range(nodes)
        ]
        assert Counter(itertools.chain(*itertools.chain(*loaders))) == Counter(ids(stream(root)))


def test_workers_decode_the_same_pixels(releases: dict[int, Path]) -> None:
    data = pytest.importorskip("torch.utils.data")
    expected = {
        row["question_id"]: row["image"].tobytes() for row in stream(releases[max(releases)])
    }
    dataset = stream(releases[max(releases)]).cast_column("image", Picture())
    found = list(data.DataLoader(dataset, num_workers=2, batch_size=None))
    assert len(found) == len(expected)
    assert {row["question_id"]: row["image"].tobytes() for row in found} == expected


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
def test_goes_on_with_the_next_question(
    releases: dict[int, Path], shuffled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_stream() -> Any:
        dataset = stream(releases[max(releases)]).cast_column("image", Picture())
        return shuffle_pictures(dataset, seed=2) if shuffled else dataset

    everything = ids(open_stream())
    decoded: list[int] = []
    real = Picture._decode
    monkeypatch.setattr(
        Picture, "_decode", lambda self, data: decoded.append(1) or real(self, data)
    )
    for stop in (1, 2, 3, 7, 20, len(everything) - 1):
        first = open_stream()
        begun = ids(itertools.islice(first, stop))
        state = json.loads(json.dumps(first.state_dict()))
        second = open_stream()
        second.load_state_dict(state)
        decoded.clear()
        rest = ids(second)
        assert begun + rest == everything
        assert len(decoded) <= len(rest) // 3 + 1  # none of what was passed over


def test_reads_no_shard_again_that_was_done(
    releases: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = raw(stream(releases[max(releases)]))
    list(itertools.islice(dataset, 40))
    state = dataset.state_dict()
    opened: list[str] = []
    real = mmrel.open_file
    monkeypatch.setattr(mmrel, "open_file", lambda path: opened.append(path) or real(path))
    fresh = raw(stream(releases[max(releases)]))
    fresh.load_state_dict(state)
    list(fresh)
    assert 0 < sum(path.endswith(".tar") for path in opened) < max(releases) - 1


def test_epochs(releases: dict[int, Path]) -> None:
    root = releases[max(releases)]
    orders = [ids(shuffle_pictures(raw(stream(root)), seed=epoch)) for epoch in (0, 1, 2, 1)]
    assert orders[1] == orders[3]
    assert len({json.dumps(order) for order in orders}) == 3
    dataset = shuffle_pictures(raw(stream(root)), seed=1)
    dataset.set_epoch(5)
    assert sorted(ids(dataset)) == sorted(orders[0])


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_fast_paths_give_what_the_slow_one_gives(
    releases: dict[int, Path], data: st.DataObject
) -> None:
    """The slow one: `datasets` converts each value, decodes for each row and filters last."""
    root = releases[data.draw(st.sampled_from(sorted(releases)))]
    nodes = data.draw(st.integers(1, 4))
    chosen = {
        "categories": data.draw(st.sets(st.sampled_from(mmrel.CATEGORIES), min_size=1)),
        "tasks": data.draw(st.sets(st.sampled_from(mmrel.TASKS), min_size=1)),
    }
    load = partial(mmrel.load, "all", split="test", root=root, streaming=True)
    slow = load().cast(datasets.Features(load().features))
    expected = [
        (row.pop("image").tobytes(), row)
        for row in slow
        if row["category"] in chosen["categories"] and row["task"] in chosen["tasks"]
    ]
    fast = load(**chosen).cast_column("image", Picture())
    if data.draw(st.booleans()):
        fast = shuffle_pictures(fast, data.draw(st.integers(0, 9)), data.draw(st.integers(1, 20)))
    parts = [split_dataset_by_node(fast, rank, nodes) for rank in range(nodes)]
    if find_spec("torch") and (workers := data.draw(st.sampled_from([0, 0, 1, 2]))):
        from torch.utils.data import DataLoader

        parts = [DataLoader(part, num_workers=workers, batch_size=None) for part in parts]
    found = [(row.pop("image").tobytes(), row) for part in parts for row in part]
    key = lambda pair: pair[1]["question_id"]  # noqa: E731
    assert sorted(found, key=key) == sorted(expected, key=key)


def test_a_file_called_as_a_picture_is_not_taken_for_it(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `datasets` drops the bytes of a row where a file stands at its path, and decodes that one.
    expected = [row["image"].tobytes() for row in stream(built)]
    for row in raw(stream(built)):
        path = tmp_path / row["image_id"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not the picture")
    monkeypatch.chdir(tmp_path)
    assert [row["image"].tobytes() for row in stream(built.absolute())] == expected


def test_a_filled_cache_changes_nothing_of_that(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A builder whose cache was filled took its features from there: slow, and with the fault above.
    cache = str(tmp_path / "cache")
    mmrel.load("real", root=built, cache_dir=cache)
    for row in raw(stream(built)):
        path = tmp_path / row["image_id"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not the picture")
    monkeypatch.chdir(tmp_path)
    loaded = mmrel.load("real", split="test", root=built, streaming=True, cache_dir=cache)
    assert all(row["image"].size for row in loaded)


def test_other_columns_are_still_converted(built: Path) -> None:
    dataset = raw(stream(built, tasks="discriminative"))
    labelled = dataset.cast_column("answer", datasets.ClassLabel(names=["no", "yes"]))
    assert {row["answer"] for row in labelled} == {0, 1}
    changed = dataset.map(lambda row: {"style": 3}).cast(dataset.features)
    assert {row["style"] for row in changed} == {"3"}


class CountingFile(BytesIO):
    """Counts the bytes that are read from it."""

    counted = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.counted += len(data)
        return data


class Pipe(CountingFile):
    """Cannot seek, as a download cannot."""

    def seek(self, *args: int) -> int:
        raise ValueError("cannot seek")


class TestFilters:
    def test_archives_are_passed_over(self, releases: dict[int, Path]) -> None:
        path = next((releases[1] / "data" / "real").glob("test-*.tar"))
        whole = path.read_bytes()
        keep = lambda record: record["category"] == "comparative"  # noqa: E731
        seeking, flowing = CountingFile(whole), Pipe(whole)
        assert list(mmrel.read_archive(seeking, "a", len(whole), keep)) == []
        assert list(mmrel.read_archive(flowing, "a", len(whole), keep)) == []
        assert seeking.counted < 0.8 * len(whole)
        everything = list(mmrel.read_archive(CountingFile(whole), "a", len(whole)))
        assert list(mmrel.read_archive(Pipe(whole), "a", len(whole))) == everything

    def test_archives_of_other_categories_are_not_opened(
        self, releases: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[str] = []
        real = mmrel.open_file
        monkeypatch.setattr(mmrel, "open_file", lambda path: opened.append(path) or real(path))
        root = releases[max(releases)]
        release = mmrel.Release(str(root))
        for chosen in (
            *([category] for category in mmrel.CATEGORIES),
            ["spatial", "comparative"],
            mmrel.CATEGORIES,
        ):
            expected = [
                row["question_id"] for row in raw(stream(root)) if row["category"] in chosen
            ]
            opened.clear()
            assert ids(raw(stream(root, categories=chosen))) == expected
            names = {
                Path(path).relative_to(root).as_posix() for path in opened if path.endswith(".tar")
            }
            wanted = {
                name
                for name in release.archives("real")["test"]
                if release.categories[name] & set(chosen)
            }
            assert names == (wanted or {"data/real/test-00000.tar"})
        # An index of before, without categories, gives the same rows.
        old = Path(shutil.copytree(root, tmp_path / "old"))
        index = json.loads((old / "checksums.json").read_text())
        for described in index["files"].values():
            described.pop("categories", None)
        (old / "checksums.json").write_text(json.dumps(index))
        assert ids(raw(stream(old, categories=["action"]))) == ids(
            raw(stream(root, categories=["action"]))
        )
        index["files"]["data/real/test-00000.tar"]["categories"] = 3
        (old / "checksums.json").write_text(json.dumps(index))
        with pytest.raises(mmrel.ReleaseError, match="checksums.json .*expected version, note"):
            stream(old)

    def test_an_archive_ends_where_the_categories_change(self, releases: dict[int, Path]) -> None:
        """Unless it would be less than an eighth of its size."""
        for size in (6000, 1 << 20):
            release = mmrel.Release(str(releases[min(releases)].parent / str(size)))
            held = [release.categories[name] for name in release.archives("real")["test"]]
            assert all(len(found) == 1 for found in held) == (size == 6000)

    def test_statistics_of_row_groups_prune(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mmrel_kit.build.tables.GROUP_ROWS", 6)
        sources = make_sources(tmp_path / "sources")
        build_release(Job([sources / "json"], PictureFolder(sources), tmp_path / "out"))
        for path in (tmp_path / "out" / "data").rglob("test-*.parquet"):
            kinds = []
            with pq.ParquetFile(path) as file:
                for index in range(file.num_row_groups):
                    group = file.metadata.row_group(index)
                    names = [
                        group.column(number).path_in_schema for number in range(group.num_columns)
                    ]
                    statistics = group.column(names.index("category")).statistics
                    kinds.append({statistics.min, statistics.max})
            # At most one row group on each border between two categories holds more than one.
            assert sum(len(found) > 1 for found in kinds) < len(set().union(*kinds)) <= len(kinds)


class TestArchives:
    """The reader of archives takes what a release holds, and nothing else for it."""

    @staticmethod
    def write(path: Path, image_id: str, **options: Any) -> bytes:
        with tarfile.open(path, "w", **options) as archive:
            for name, data in (
                (image_id[:-4] + ".json", json.dumps([{"image_id": image_id}]).encode()),
                (image_id, b"x"),
            ):
                header = tarfile.TarInfo(name)
                header.size = len(data)
                archive.addfile(header, BytesIO(data))
        return path.read_bytes()

    @staticmethod
    def read(data: bytes) -> list[Any]:
        return list(mmrel.read_archive(BytesIO(data), "data/real/a.tar", len(data)))

    @pytest.mark.parametrize(
        "name", ["a.jpg", "ü/日本.jpg", "a/" * 60 + "b.jpg", "x" * 95 + ".jpg", "x" * 96 + ".jpg"]
    )
    def test_names(self, tmp_path: Path, name: str) -> None:
        assert self.read(self.write(tmp_path / "a.tar", name)) == [([{"image_id": name}], b"x")]

    def test_other_kinds_of_tar(self, tmp_path: Path) -> None:
        gnu = self.write(tmp_path / "a.tar", "a.jpg", format=tarfile.GNU_FORMAT)
        with pytest.raises(mmrel.ReleaseError, match=r"data/real/a.tar: damaged before byte 512"):
            self.read(gnu)
        for kind in (tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.XGLTYPE):
            header = tarfile.TarInfo("a.json")
            header.type = kind
            with pytest.raises(
                mmrel.ReleaseError,
                match=r"a.json/?: expected a regular file of at most 4194304 bytes",
            ):
                self.read(header.tobuf() + bytes(9728))

    def test_names_of_names(self, tmp_path: Path) -> None:
        long = tarfile.TarInfo("././@PaxHeader")
        long.type, long.size = tarfile.XHDTYPE, 14
        name = long.tobuf(tarfile.USTAR_FORMAT) + b"14 path=a.jpg\n".ljust(512, b"\0")
        for data in (
            name * 3,
            name + bytes(9728),
            name.replace(b"14 path", b"15 path") + self.write(tmp_path / "a", "a.jpg"),
        ):
            with pytest.raises(mmrel.ReleaseError, match=r"data/real/a\.tar"):
                self.read(data)

    def test_any_changed_byte_is_told_or_harmless(self, tmp_path: Path) -> None:
        """Damage in headers and names gives neither other rows nor an error that is not ours."""
        whole = self.write(tmp_path / "a.tar", "ü/b.jpg")
        rows = self.read(whole)
        draw = random.Random(0)
        for place in range(len(whole)):
            if whole[place] == 0 and draw.random() < 0.95:
                continue
            data = bytearray(whole)
            data[place] ^= 1 << draw.randrange(8)
            try:
                found = self.read(bytes(data))
            except mmrel.ReleaseError as error:
                assert "data/real/a.tar" in str(error)
            else:
                assert [len(records) for records, _ in found] == [1]
                assert found == rows or found[0][1] != rows[0][1] or found[0][0] != rows[0][0]

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        whole = self.write(tmp_path / "a.tar", "ü/b.jpg")
        for length in range(0, len(whole), 100):
            with pytest.raises(mmrel.ReleaseError, match=r"data/real/a\.tar"):
                list(mmrel.read_archive(BytesIO(whole[:length]), "data/real/a.tar", length))

    def test_a_record_without_a_picture_at_the_end(self, tmp_path: Path) -> None:
        header = tarfile.TarInfo("a.json")
        header.size = 4
        with pytest.raises(
            mmrel.ReleaseError, match="expected the picture None next, got 'the end'"
        ):
            self.read((header.tobuf() + b"[{}]".ljust(512, b"\0")).ljust(10240, b"\0"))

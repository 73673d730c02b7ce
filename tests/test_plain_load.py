# SPDX-License-Identifier: Apache-2.0
"""Check that a plain `mmrel.load` stores each picture once, and gives rows like any `Dataset`.

CI runs this file with datasets 3.6.0, 4.0.0 and 5.2.0.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmrel
from tests.conftest import REPOSITORY
from tests.helpers.edit_release import edit_index
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import LoopbackHub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PICTURES = "mmrel_pictures"
ARCHIVE = "data/real/test-00000.tar"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def rows(built: Path, cache: Path) -> Any:
    """Rows whose pictures are files in the cache."""
    return mmrel.load("all", split="test", root=built, cache_dir=str(cache))


@pytest.fixture(scope="module")
def embedded(built: Path, cache: Path) -> Any:
    """The same rows with the bytes of their pictures."""
    return mmrel.load("all", split="test", root=built, cache_dir=str(cache), embed=True)


def decoded(dataset: Any) -> list[dict[str, Any]]:
    """Return rows with the pixels of their pictures."""
    pixels = []
    for row in dataset:
        image = row["image"]
        pixels.append({**row, "image": (image.mode, image.size, image.tobytes())})
    return pixels


def raw(dataset: Any) -> Any:
    """Return a dataset whose pictures are not decoded."""
    return dataset.cast_column("image", datasets.Image(decode=False))


def list_pictures(cache: Path) -> list[Path]:
    """Return the files in the folder of pictures, without lock files."""
    paths = (cache / PICTURES).rglob("*")
    return sorted(path for path in paths if path.is_file() and path.suffix != ".lock")


def list_image_ids(root: Path) -> set[str]:
    """Return the pictures of a release, from its JSON lines."""
    image_ids = set()
    for path in root.glob("data/*/*.jsonl"):
        image_ids.update(json.loads(line)["image_id"] for line in path.read_text().splitlines())
    return image_ids


class TestStoredOnce:
    def test_by_all_configs_and_filters(self, built: Path, tmp_path: Path) -> None:
        # Every question used to hold a copy of its picture, in each config and filter again.
        for config in (*mmrel.CONFIGS, "all"):
            mmrel.load(config, root=built, cache_dir=str(tmp_path))
        mmrel.load("real", root=built, cache_dir=str(tmp_path), categories=["spatial"])
        files = list_pictures(tmp_path)
        assert len(files) == len(list_image_ids(built))
        stored = sum(path.stat().st_size for path in files)
        archives = sum(path.stat().st_size for path in built.glob("data/*/*.tar"))
        assert stored < archives
        images = [row["image"] for row in raw(mmrel.load("real", "test", False, built))]
        assert {image["bytes"] for image in images} == {None}
        assert len({image["path"] for image in images}) < len(images)

    def test_another_release_with_the_same_archives_shares_them(
        self, built: Path, release: Path, tmp_path: Path
    ) -> None:
        edit_index(release, lambda index: index.update(note="Another."))
        for root in (built, release):
            mmrel.load("real", root=root, cache_dir=str(tmp_path / "cache"))
        real = {name for name in list_image_ids(built) if name.startswith("vg/")}
        assert len(list_pictures(tmp_path / "cache")) == len(real)

    def test_a_relative_cache(self, built: Path, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)
        loaded = mmrel.load("real", "test", root=built, cache_dir="cache")
        monkeypatch.chdir("/")
        assert len(decoded(loaded)) == len(loaded)


FILTERS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(mmrel.CONFIGS),
        "split": st.sampled_from(["train", "test", "adversarial", "train+test", "test[2:7]", None]),
        "categories": st.none() | st.sets(st.sampled_from(mmrel.CATEGORIES), min_size=1),
        "tasks": st.none() | st.sets(st.sampled_from(mmrel.TASKS), min_size=1),
        "verify": st.booleans(),
    }
)


class TestTheSameRows:
    @settings(max_examples=40)
    @given(FILTERS)
    def test_as_with_embedded_pictures(
        self, built: Path, cache: Path, arguments: dict[str, Any]
    ) -> None:
        loaded = []
        for embed in (False, True):
            try:
                result = mmrel.load(root=built, cache_dir=str(cache), embed=embed, **arguments)
            except mmrel.ReleaseError as error:  # a domain that lacks the split
                loaded.append(str(error))
            else:
                by_name = result if isinstance(result, dict) else {"": result}
                loaded.append({name: decoded(rows) for name, rows in by_name.items()})
        assert loaded[0] == loaded[1]

    def test_as_a_stream(self, built: Path, rows: Any) -> None:
        assert decoded(rows) == decoded(mmrel.load("all", "test", True, built))

    def test_bytes_are_unchanged(self, rows: Any, embedded: Any) -> None:
        for row, other in zip(raw(rows), raw(embedded), strict=True):
            assert Path(row["image"]["path"]).read_bytes() == other["image"]["bytes"]
            assert other["image"]["path"] == row["image_id"]

    def test_embedding_is_for_the_plain_load(self, built: Path) -> None:
        with pytest.raises(ValueError, match="a stream always has the bytes"):
            mmrel.load("real", streaming=True, embed=True, root=built)

    def test_map_keeps_pictures_that_it_decodes(self, rows: Any) -> None:
        # `datasets` encodes an embedded JPEG anew, with a loss.
        mapped = rows.map(lambda row: {"width": row["image"].width})
        expected = [{**row, "width": row["image"][1][0]} for row in decoded(rows)]
        assert decoded(mapped) == expected


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "select": lambda rows: rows.select([5, 3, 11]),
    "select a range": lambda rows: rows.select(range(4, 9)),
    "filter": lambda rows: rows.filter(lambda answer: answer == "yes", input_columns=["answer"]),
    "filter by pixels": lambda rows: rows.filter(lambda row: row["image"].width > 17),
    "map": lambda rows: rows.map(lambda row: {"length": len(row["question"])}),
    "map in two processes": lambda rows: rows.map(lambda row: {"one": 1}, num_proc=2),
    "sort": lambda rows: rows.sort("question_id"),
    "shuffle": lambda rows: rows.shuffle(seed=3),
    "train_test_split": lambda rows: rows.train_test_split(0.25, seed=3)["test"],
    "shard": lambda rows: rows.shard(3, 1),
    "slice": lambda rows: datasets.Dataset.from_dict(rows[3:9], features=rows.features),
    "rename": lambda rows: rows.rename_column("style", "look"),
    "remove": lambda rows: rows.remove_columns(["source", "pair_id"]),
    "concatenate": lambda rows: datasets.concatenate_datasets([rows, rows.map(lambda row: row)]),
    "concatenate plain": lambda rows: datasets.concatenate_datasets(
        [rows, rows.cast_column("image", datasets.Image())]
    ),
    "flatten_indices": lambda rows: rows.select([7, 2]).flatten_indices(),
    "to a stream": lambda rows: rows.to_iterable_dataset(num_shards=2),
    "pickle": lambda rows: pickle.loads(pickle.dumps(rows)),
    "cast": lambda rows: rows.cast_column("image", datasets.Image(mode="L")),
}


class TestMapStyle:
    @pytest.mark.parametrize("name", OPERATIONS)
    def test_operations(self, rows: Any, embedded: Any, name: str) -> None:
        operation = OPERATIONS[name]
        got = decoded(operation(rows))
        assert got == decoded(operation(embedded))
        assert got

    @pytest.mark.parametrize("kind", ["numpy", "pandas", "arrow"])
    def test_formats(self, rows: Any, embedded: Any, kind: str) -> None:
        def read(dataset: Any) -> str:
            if kind == "numpy":
                return repr([row["image"].tolist() for row in dataset.with_format("numpy")])
            return str(dataset.remove_columns("image").with_format(kind)[:])

        assert read(rows) == read(embedded)

    def test_saved_with_pictures(self, rows: Any, embedded: Any, tmp_path: Path) -> None:
        expected = decoded(embedded)
        rows.save_to_disk(tmp_path / "saved")
        saved = datasets.load_from_disk(tmp_path / "saved")
        assert all(row["image"]["bytes"] for row in raw(saved))
        assert decoded(saved) == expected

    def test_parquet_holds_paths_or_pictures(
        self, rows: Any, embedded: Any, tmp_path: Path
    ) -> None:
        # As the README says: `datasets` writes paths to Parquet; with embed=True it writes bytes.
        for dataset, has_bytes in ((rows, False), (embedded, True)):
            dataset.to_parquet(tmp_path / "a.parquet")
            images = pq.read_table(tmp_path / "a.parquet")["image"].to_pylist()
            assert all((image["bytes"] is not None) == has_bytes for image in images)
            again = datasets.Dataset.from_parquet(
                str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / str(has_bytes))
            )
            assert decoded(again) == decoded(embedded)

    @pytest.mark.parametrize("start", ["fork", "spawn"])
    def test_workers(self, rows: Any, start: str) -> None:
        with multiprocessing.get_context(start).Pool(2) as pool:
            parts = pool.map(decoded, [rows.shard(2, 0), rows.shard(2, 1)])
        assert parts[0] + parts[1] == decoded(rows)

    def test_a_data_loader(self, rows: Any) -> None:
        data = pytest.importorskip("torch.utils.data")
        loader = data.DataLoader(rows, batch_size=None, num_workers=2, collate_fn=None)
        got = sorted(decoded(loader), key=lambda row: str(row["question_id"]))
        assert got == sorted(decoded(rows), key=lambda row: str(row["question_id"]))

    def test_pushed_with_pictures(self, built: Path, tmp_path: Path) -> None:
        code = f"""
        import datasets, mmrel
        rows = mmrel.load("real", split="test", root={str(built)!r})
        rows.push_to_hub("NS/Copy", split="test")
        rows = datasets.load_dataset("NS/Copy", split="test", download_mode="force_redownload")
        for row in rows.cast_column("image", datasets.Image(decode=False)):
            assert row["image"]["bytes"], row
        print(len(rows))
        """
        with LoopbackHub(tmp_path / "hub") as hub:
            client = Client(hub, tmp_path / "home")
            printed = client.python(textwrap.dedent(code))
        assert int(printed.split()[-1]) == len(mmrel.load("real", "test", root=built))


class TestMovedOrDeleted:
    def test_a_picture(self, built: Path, tmp_path: Path) -> None:
        rows = mmrel.load("real", "test", root=built, cache_dir=str(tmp_path))
        expected = decoded(rows)
        path = Path(raw(rows)[0]["image"]["path"])
        path.unlink()
        kept = rows.filter(lambda answer: bool(answer), input_columns=["answer"])
        for loaded in (rows, rows.select([0]), kept):
            with pytest.raises(mmrel.ReleaseError, match="load the dataset again") as caught:
                loaded[0]
            assert str(path) in str(caught.value)
        assert decoded(mmrel.load("real", "test", root=built, cache_dir=str(tmp_path))) == expected

    def test_all_pictures(self, built: Path, tmp_path: Path) -> None:
        expected = decoded(mmrel.load("all", "test", root=built, cache_dir=str(tmp_path)))
        shutil.rmtree(tmp_path / PICTURES)
        assert decoded(mmrel.load("all", "test", root=built, cache_dir=str(tmp_path))) == expected

    def test_the_cache(self, built: Path, tmp_path: Path) -> None:
        # The rows hold absolute paths.
        expected = decoded(mmrel.load("real", "test", root=built, cache_dir=str(tmp_path / "a")))
        shutil.move(tmp_path / "a", tmp_path / "b")
        assert decoded(mmrel.load("real", "test", root=built, cache_dir=str(tmp_path / "b"))) == (
            expected
        )

    def test_the_release(self, release: Path, tmp_path: Path) -> None:
        rows = mmrel.load("real", "test", root=release, cache_dir=str(tmp_path / "cache"))
        expected = decoded(rows)
        shutil.rmtree(release)
        assert decoded(rows) == expected
        with pytest.raises(mmrel.ReleaseError, match="expected a release"):
            mmrel.load("real", "test", root=release, cache_dir=str(tmp_path / "cache"))


LOAD = """
import sys, mmrel
rows = mmrel.load("all", split="test", root=sys.argv[1], cache_dir=sys.argv[2])
print(sum(len(row["image"].tobytes()) for row in rows), len(rows))
"""
SLOW = """
import time
write = mmrel._write_new
def wait(*arguments):
    print("writing", flush=True)
    time.sleep(0.05)
    write(*arguments)
mmrel._write_new = wait
"""


def start_load(built: Path, cache: Path, is_slow: bool = False) -> subprocess.Popen[str]:
    code = LOAD.replace("\nrows", SLOW + "rows") if is_slow else LOAD
    return subprocess.Popen(
        [sys.executable, "-c", code, str(built), str(cache)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_result(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.splitlines()[-1]


class TestInterrupted:
    @pytest.fixture
    def expected(self, rows: Any) -> str:
        pixels = sum(len(row["image"].tobytes()) for row in rows)
        return f"{pixels} {len(rows)}"

    @pytest.mark.parametrize("wait", [0, 0.1, 0.4])
    def test_killed(self, built: Path, tmp_path: Path, expected: str, wait: float) -> None:
        process = start_load(built, tmp_path, is_slow=True)
        assert process.stdout
        assert process.stdout.readline() == "writing\n"
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert read_result(start_load(built, tmp_path)) == expected
        assert not [path for path in (tmp_path / PICTURES).iterdir() if "incomplete" in path.name]

    def test_two_at_once(self, built: Path, tmp_path: Path, expected: str) -> None:
        processes = [start_load(built, tmp_path, is_slow=slow) for slow in (True, False)]
        assert [read_result(process) for process in processes] == [expected, expected]

    def test_a_full_disk(self, built: Path, tmp_path: Path, monkeypatch: Any) -> None:
        def fail(path: str, data: bytes, where: str) -> None:
            raise OSError(28, "No space left on device", path)

        with monkeypatch.context() as patched:
            patched.setattr(mmrel, "_write_new", fail)
            with pytest.raises(OSError, match="No space left on device"):
                mmrel.load("real", "test", root=built, cache_dir=str(tmp_path))
        assert not list_pictures(tmp_path)
        assert len(mmrel.load("real", "test", root=built, cache_dir=str(tmp_path))) > 5


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def find_pixels(path: Path) -> int:
    """Return a place in the middle of the first picture of an archive."""
    data = path.read_bytes()
    return data.index(b"\xff\xda") + 100


class TestVerify:
    @pytest.fixture
    def damaged(self, release: Path) -> Path:
        """A release with a changed byte of a picture, which still decodes."""
        flip(release / ARCHIVE, find_pixels(release / ARCHIVE))
        return release

    @pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
    @pytest.mark.parametrize("embed", [False, True])
    def test_a_changed_byte_is_an_error(
        self, damaged: Path, tmp_path: Path, streaming: bool, embed: bool
    ) -> None:
        # Changed bytes of pictures used to pass.
        how = {"streaming": streaming, "embed": embed and not streaming}
        cache = tmp_path / "cache"
        with pytest.raises(mmrel.ReleaseError, match=rf"{ARCHIVE}: expected sha256 [0-9a-f]+, got"):
            list(mmrel.load("real", "test", root=damaged, cache_dir=str(cache), **how))
        sha256 = mmrel.Release(damaged).files[ARCHIVE]["sha256"]
        assert not [path for path in list_pictures(cache) if sha256 in str(path)]

    def test_it_can_be_turned_off(self, built: Path, damaged: Path, tmp_path: Path) -> None:
        cache = str(tmp_path / "cache")
        damaged_rows = mmrel.load("real", "test", root=damaged, cache_dir=cache, verify=False)
        stream = mmrel.load("real", "test", root=damaged, streaming=True, verify=False)
        assert decoded(damaged_rows) == decoded(stream)
        # What was not verified is not used by a load that verifies.
        rows = mmrel.load("real", "test", root=built, cache_dir=cache)
        assert decoded(rows) == decoded(mmrel.load("real", "test", True, built))
        assert decoded(rows) != decoded(damaged_rows)

    def test_the_command_prints_one_line(self, damaged: Path, tmp_path: Path) -> None:
        command = [sys.executable, str(REPOSITORY / "mmrel.py"), "real", "--root", str(damaged)]
        environment = {**os.environ, "HF_HOME": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(f"mmrel.py show: {ARCHIVE}: expected sha256")
        assert done.stderr.count("\n") == 1

    def test_by_several_processes(self, damaged: Path, tmp_path: Path) -> None:
        with pytest.raises(mmrel.ReleaseError, match=f"{ARCHIVE}: expected sha256"):
            mmrel.load("real", root=damaged, cache_dir=str(tmp_path / "cache"), num_proc=2)


def remove_archive(index: dict[str, Any]) -> None:
    del index["files"][ARCHIVE]


def set_entry(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda index: index["files"][ARCHIVE].update(values)


def rename_domain(index: dict[str, Any]) -> None:
    index["files"]["data/reel/test-00000.tar"] = index["files"].pop(ARCHIVE)


INDEX_DAMAGES = {
    "categories of another type": (set_entry(categories="spatial"), "categories 'spatial' of"),
    "unknown categories": (set_entry(categories=["spatial", "colour"]), r"'colour'\] of"),
    "no categories": (set_entry(categories=[]), r"categories \[\] of"),
    "categories that are a mapping": (set_entry(categories={"action": 1}), "categories {"),
    "nested categories": (set_entry(categories=[["action"]]), "TypeError"),
    "too few categories": (
        set_entry(categories=["comparative"]),
        "field category: expected comparative as in the index",
    ),
    "another size": (set_entry(size=5), f"{ARCHIVE}: expected a file of 5 bytes, got [0-9]+"),
    "a number for the hash": (set_entry(sha256=5), "TypeError"),
    "an unknown domain": (rename_domain, "expected data/<domain>/<split>-00000.tar of a known"),
    "a missing number": (remove_archive, "without the archive number 0 of its split"),
    "files that are a list": (lambda index: index.update(files=[1]), "AttributeError"),
}


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
class TestIndex:
    @pytest.mark.parametrize("name", INDEX_DAMAGES)
    def test_damages(self, release: Path, tmp_path: Path, name: str, streaming: bool) -> None:
        # Some of these used to give fewer rows and no error.
        damage, message = INDEX_DAMAGES[name]
        edit_index(release, damage)
        with pytest.raises(mmrel.ReleaseError, match=message):
            list(load_test(release, tmp_path, streaming))

    @pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
    def test_archives_that_are_no_files(
        self, release: Path, tmp_path: Path, kind: str, streaming: bool
    ) -> None:
        path = release / ARCHIVE
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)  # opening it would wait for ever
        with pytest.raises(mmrel.ReleaseError, match=f"{ARCHIVE}: expected a file of .* got no"):
            list(load_test(release, tmp_path, streaming))


def load_test(root: Path, folder: Path, streaming: bool) -> Iterator[dict[str, Any]]:
    cache = str(folder / "cache")
    yield from mmrel.load("real", "test", streaming, root, cache_dir=cache)

# SPDX-License-Identifier: Apache-2.0
"""The readers that loading.py compares: one epoch of the same questions, in a process of its own.

    PYTHONPATH=. python benchmarks/readers.py NAME FOLDER [--rows N] [--profile]

prints one line of JSON: rows, seconds, seconds of CPU, peak memory and, with `--profile`, the
functions that took the most. FOLDER holds `release`, which loading.py draws, and beside it what the
peers read. Readers whose names begin with `ours` or `limit` run in this project's environment, the
others in that of the peers (peers.txt).

The name `prepare` writes what the peers read, in their own formats and with a picture per row, as a
data set with a row per question has it.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import itertools
import json
import os
import pstats
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import read_peak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
if not any("loader" in argument for argument in sys.argv):
    # `datasets` would import torch, which takes longer than to read.
    os.environ.setdefault("USE_TORCH", "0")

# Pixels that a model takes: the size of a DataLoader's pictures, and `min_side` of reduced ones.
SIDE = 224
PROFILED = 4  # functions of a profile that are shown


def open_image(data: bytes) -> Any:
    """Decode by Pillow."""
    import PIL.Image

    image = PIL.Image.open(io.BytesIO(data))
    image.load()
    return image


def stream(folder: Path, image: Any = None) -> Any:
    """Read by `mmrel.load` from the archives, every record validated."""
    import mmrel

    dataset = mmrel.load("all", split="test", root=folder / "release", streaming=True)
    return dataset if image is None else dataset.cast_column("image", image)


def without_rust(folder: Path) -> Any:
    """Read like `stream`, as if jsonschema-rs were not installed."""
    sys.modules["jsonschema_rs"] = None  # type: ignore[assignment]
    return stream(folder, undecoded())


def undecoded() -> Any:
    """Return the type of an image that stays bytes."""
    import datasets

    return datasets.Image(decode=False)


def picture(**options: Any) -> Any:
    """Return our type of a picture, which is decoded once."""
    from mmrel_kit.pictures.decode import Picture

    return Picture(**options)


def parquet(folder: Path, image: Any = None) -> Any:
    """Read the Parquet files under a folder by `datasets`."""
    import datasets

    files = {"test": sorted(map(str, folder.rglob("test-*.parquet")))}
    dataset = datasets.load_dataset("parquet", data_files=files, split="test", streaming=True)
    return dataset if image is None else dataset.cast_column("image", image)


def pillow(folder: Path) -> Iterator[Any]:
    """Decode each picture once by Pillow, for as many rows as it has questions: the limit."""
    import mmrel
    from mmrel_kit.pictures.archives import read_archives

    release = mmrel.Release(str(folder / "release"))
    for records, data in read_archives(release, release.archives("all")["test"]):
        yield from itertools.repeat(open_image(data), len(records))


def to_tensors(rows: list[dict[str, Any]]) -> Any:
    """Make a batch of pixels at a model's size, as a training loop does."""
    import numpy as np
    import torch

    pictures = [np.array(row["image"].resize((SIDE, SIDE))) for row in rows]
    return torch.stack([torch.from_numpy(pixels) for pixels in pictures])


def loader(workers: int) -> Callable[[Path], Iterator[Any]]:
    """Return a reader by way of a DataLoader."""

    def read(folder: Path) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        rows = stream(folder, picture())
        for batch in DataLoader(rows, 12, num_workers=workers, collate_fn=to_tensors):
            yield from batch

    return read


def wds_datasets(folder: Path, decode: bool) -> Iterator[Any]:
    """Read by the webdataset module of `datasets`."""
    import datasets

    files = {"test": sorted(map(str, (folder / "wds").glob("*.tar")))}
    dataset = datasets.load_dataset("webdataset", data_files=files, split="test", streaming=True)
    (name,) = {"jpg", "png"} & set(dataset.features)
    return iter(dataset if decode else dataset.cast_column(name, undecoded()))


def read_samples(archives: Iterable[Path], decode: bool) -> Iterator[tuple[Any, Any]]:
    """Yield the JSON of each sample and its picture, by the webdataset library."""
    import webdataset as wds

    for sample in wds.WebDataset(sorted(map(str, archives)), shardshuffle=False):
        data = sample.get("jpg") or sample["png"]
        yield json.loads(sample["json"]), open_image(data) if decode else data


def webdataset(folder: Path, decode: bool) -> Iterator[Any]:
    """Read a picture per row by the webdataset library."""
    for row, image in read_samples((folder / "wds").glob("*.tar"), decode):
        yield {**row, "image": image}


def webdataset_grouped(folder: Path, decode: bool) -> Iterator[Any]:
    """Read our archives by the webdataset library: what the layout gives without this package."""
    for records, image in read_samples((folder / "release").rglob("test-*.tar"), decode):
        yield from ({**record, "image": image} for record in records)


def mosaic(folder: Path, decode: bool) -> Iterator[Any]:
    """Read MosaicML's own format by its streaming."""
    streaming = import_streaming()
    rows = streaming.StreamingDataset(local=str(folder / "mds"), shuffle=False, batch_size=1)
    for row in rows:
        yield {**row, "image": open_image(row["image"]) if decode else row["image"]}


def import_streaming() -> Any:
    """Import MosaicML streaming without torchvision, which only its vision data sets use."""
    import transformers.feature_extraction_utils  # noqa: F401  # looks for torchvision itself

    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        module = f"torchvision{name}"
        sys.modules.setdefault(module, types.ModuleType(module))
    sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]
    import streaming

    return streaming


READERS: dict[str, Callable[[Path], Any]] = {
    "ours raw": lambda folder: stream(folder, undecoded()),
    "ours raw, jsonschema alone": without_rust,
    "ours each": stream,
    "ours once": lambda folder: stream(folder, picture()),
    "ours once reduced": lambda folder: stream(folder, picture(min_side=SIDE)),
    "ours parquet raw": lambda folder: parquet(folder / "release", undecoded()),
    "ours parquet once": lambda folder: parquet(folder / "release", picture()),
    "ours loader 1": loader(1),
    "ours loader 2": loader(2),
    "limit": pillow,
    "parquet raw": lambda folder: parquet(folder / "plain", undecoded()),
    "parquet decoded": lambda folder: parquet(folder / "plain"),
    "datasets webdataset raw": lambda folder: wds_datasets(folder, False),
    "datasets webdataset decoded": lambda folder: wds_datasets(folder, True),
    "webdataset raw": lambda folder: webdataset(folder, False),
    "webdataset decoded": lambda folder: webdataset(folder, True),
    "webdataset on our archives raw": lambda folder: webdataset_grouped(folder, False),
    "webdataset on our archives decoded": lambda folder: webdataset_grouped(folder, True),
    "mosaicml raw": lambda folder: mosaic(folder, False),
    "mosaicml decoded": lambda folder: mosaic(folder, True),
}


def prepare(folder: Path) -> None:
    """Write what the peers read: the rows of the release, in as many shards, a picture in each."""
    import datasets  # noqa: F401  # looks for torchvision itself, so before `import_streaming`

    streaming = import_streaming()
    for kind in ("plain", "wds"):
        (folder / kind).mkdir(exist_ok=True)
    sources = sorted((folder / "release").rglob("test-*.parquet"))
    columns = dict.fromkeys(read_rows(sources[0])[0], "str") | {"image": "bytes"}
    mds = streaming.MDSWriter(out=str(folder / "mds"), columns=columns, size_limit=24 << 20)
    for number, source in enumerate(sources):
        rows = read_rows(source)
        write_plain(folder / "plain" / f"test-{number:05d}.parquet", rows)
        write_wds(folder / "wds" / f"test-{number:05d}.tar", rows)
        for row in rows:
            texts = {name: value or "" for name, value in row.items()}
            mds.write({**texts, "image": row["image"]["bytes"]})
    mds.finish()


def write_plain(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as `datasets` writes Parquet."""
    import datasets

    features = datasets.Features({name: datasets.Value("string") for name in rows[0]})
    features["image"] = datasets.Image()
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(path))


def write_wds(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as webdataset writes archives: a sample per row."""
    import webdataset as wds

    with wds.TarWriter(str(path)) as tar:
        for row in rows:
            texts = {name: value for name, value in row.items() if name != "image"}
            ending = row["image_id"].rpartition(".")[2]
            sample = {ending: row["image"]["bytes"], "json": texts}
            tar.write({"__key__": row["question_id"], **sample})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return all rows of a Parquet file."""
    import pyarrow.parquet as pq

    return [row for batch in pq.ParquetFile(path).iter_batches() for row in batch.to_pylist()]


def list_slowest(profile: cProfile.Profile) -> list[tuple[str, float]]:
    """Return the functions that took most of their own time, and their share of all of it."""
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = {function: times[2] for function, times in stats.items()}
    total = sum(own.values())
    slowest = []
    for file, line, name in sorted(own, key=lambda function: -own[function])[:PROFILED]:
        # Functions that are written in C have neither file nor line.
        shown = f"{Path(file).stem}.{name}" if line else name
        slowest.append((shown, own[file, line, name] / total))
    return slowest


def read_epoch(rows: Any, limit: int | None, is_profiled: bool) -> dict[str, Any]:
    """Read rows and return what that took, without the first row.

    Args:
        rows: of a reader.
        limit: how many rows; None reads all.
        is_profiled: also return the functions that took the most.
    """
    iterator = iter(rows)
    next(iterator)  # imports, and all that happens once
    profile = cProfile.Profile()
    if is_profiled:
        profile.enable()
    count = 0
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in itertools.islice(iterator, limit):
        count += 1
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    profile.disable()
    took = {"rows": count, "seconds": seconds, "cpu": cpu, "peak_kb": read_peak()}
    return {**took, "profile": list_slowest(profile)} if is_profiled else took


def main() -> None:
    """Read one epoch and print what it took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=("prepare", *READERS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, help="of the epoch (all)")
    profile = "print the functions that took the most"
    parser.add_argument("--profile", action="store_true", help=profile)
    args = parser.parse_args()
    if args.name == "prepare":
        prepare(args.folder)
        return
    took = read_epoch(READERS[args.name](args.folder), args.rows, args.profile)
    sys.stdout.write(json.dumps(took) + "\n")
    sys.stdout.flush()
    os._exit(0)  # some readers leave threads behind


if __name__ == "__main__":
    main()

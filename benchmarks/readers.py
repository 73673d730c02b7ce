# SPDX-License-Identifier: Apache-2.0
"""The readers that loading.py compares: one epoch of the same questions, in a process of its own.

    python -m benchmarks.readers NAME FOLDER [--rows N] [--profile]

prints one line of JSON: rows, seconds, CPU seconds and, with `--profile`, the slowest functions.
FOLDER contains `release`, which loading.py draws, and the same data for the peers.

The names `prepare plain` and `prepare peers` write these data, in the peers' own formats with one
row per question and a picture in each row.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import itertools
import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import describe_slowest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
if not any("loader" in argument for argument in sys.argv):
    # `datasets` would import torch, which takes longer than reading.
    os.environ.setdefault("USE_TORCH", "0")

# Pixels of a model's input: side of a DataLoader's pictures, and `min_side` of reduced ones.
SIDE = 224


def open_image(data: bytes) -> Any:
    """Decode a picture with Pillow."""
    import PIL.Image

    image = PIL.Image.open(io.BytesIO(data))
    image.load()
    return image


def stream(folder: Path, image: Any = None, **options: Any) -> Any:
    """Read the archives with `mmrel.load`, which validates every record."""
    import mmrel

    dataset = mmrel.load("all", split="test", root=folder / "release", streaming=True, **options)
    return dataset if image is None else dataset.cast_column("image", image)


def without_rust(folder: Path) -> Any:
    """Read like `stream`, without jsonschema-rs."""
    sys.modules["jsonschema_rs"] = None  # type: ignore[assignment]
    return stream(folder, undecoded())


def undecoded() -> Any:
    """Return the feature type of pictures as bytes."""
    import datasets

    return datasets.Image(decode=False)


def picture(**options: Any) -> Any:
    """Return our feature type of pictures, which are decoded once."""
    from mmrel_kit.pictures import Picture

    return Picture(**options)


def parquet(folder: Path, image: Any = None) -> Any:
    """Read the Parquet files under a folder with `datasets`."""
    import datasets

    files = {"test": sorted(map(str, folder.rglob("test-*.parquet")))}
    dataset = datasets.load_dataset("parquet", data_files=files, split="test", streaming=True)
    return dataset if image is None else dataset.cast_column("image", image)


def pillow(folder: Path) -> Iterator[Any]:
    """Decode each picture once with Pillow, and yield it for every question: the limit."""
    import mmrel
    from mmrel_kit.pictures.archives import read_archives

    release = mmrel.Release(str(folder / "release"))
    for records, data in read_archives(release, release.archives("all")["test"]):
        yield from itertools.repeat(open_image(data), len(records))


def to_tensors(rows: list[dict[str, Any]]) -> Any:
    """Collate rows into a batch of pixels at a model's size, as a training loop does."""
    import numpy as np
    import torch

    pictures = [np.array(row["image"].resize((SIDE, SIDE))) for row in rows]
    return torch.stack([torch.from_numpy(pixels) for pixels in pictures])


def loader(workers: int) -> Callable[[Path], Iterator[Any]]:
    """Return a reader with a DataLoader."""

    def read(folder: Path) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        rows = stream(folder, picture())
        for batch in DataLoader(rows, 12, num_workers=workers, collate_fn=to_tensors):
            yield from batch

    return read


def wds_datasets(folder: Path, decode: bool) -> Iterator[Any]:
    """Read with the webdataset module of `datasets`."""
    import datasets

    files = {"test": sorted(map(str, (folder / "wds").glob("*.tar")))}
    dataset = datasets.load_dataset("webdataset", data_files=files, split="test", streaming=True)
    (name,) = {"jpg", "png"} & set(dataset.features)
    return iter(dataset if decode else dataset.cast_column(name, undecoded()))


def read_samples(archives: Iterable[Path], decode: bool) -> Iterator[tuple[Any, Any]]:
    """Yield the JSON of each sample and its picture, with the webdataset library."""
    import webdataset as wds

    for sample in wds.WebDataset(sorted(map(str, archives)), shardshuffle=False):
        data = sample.get("jpg") or sample["png"]
        yield json.loads(sample["json"]), open_image(data) if decode else data


def webdataset(folder: Path, decode: bool) -> Iterator[Any]:
    """Read a picture per row with the webdataset library."""
    for row, image in read_samples((folder / "wds").glob("*.tar"), decode):
        yield {**row, "image": image}


def webdataset_grouped(folder: Path, decode: bool) -> Iterator[Any]:
    """Read our archives with the webdataset library, to measure the layout without this package."""
    for records, image in read_samples((folder / "release").rglob("test-*.tar"), decode):
        for record in records:
            yield {**record, "image": image}


def mosaic(folder: Path, decode: bool) -> Iterator[Any]:
    """Read MosaicML's own format with its streaming library."""
    streaming = import_streaming()
    rows = streaming.StreamingDataset(local=str(folder / "mds"), shuffle=False, batch_size=1)
    for row in rows:
        yield {**row, "image": open_image(row["image"]) if decode else row["image"]}


def import_streaming() -> Any:
    """Import MosaicML streaming without torchvision, which only its vision data sets use."""
    # It looks for torchvision, so import it before the stubs.
    import transformers.feature_extraction_utils  # noqa: F401

    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        module = f"torchvision{name}"
        sys.modules.setdefault(module, types.ModuleType(module))
    sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]
    import streaming

    return streaming


READERS: dict[str, Callable[[Path], Any]] = {
    "ours raw": lambda folder: stream(folder, undecoded()),
    "ours raw, verify=False": lambda folder: stream(folder, undecoded(), verify=False),
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


def prepare_plain(folder: Path) -> None:
    """Write the rows of the release to as many Parquet files, each row with its picture."""
    (folder / "plain").mkdir()
    for number, source in enumerate(list_tables(folder)):
        write_plain(folder / "plain" / f"test-{number:05d}.parquet", read_rows(source))


def prepare_peers(folder: Path) -> None:
    """Write the rows of the release for webdataset and MosaicML, each row with its picture."""
    import datasets  # noqa: F401  # looks for torchvision, so before `import_streaming`

    streaming = import_streaming()
    (folder / "wds").mkdir(exist_ok=True)
    sources = list_tables(folder)
    columns = dict.fromkeys(read_rows(sources[0])[0], "str") | {"image": "bytes"}
    mds = streaming.MDSWriter(out=str(folder / "mds"), columns=columns, size_limit=24 << 20)
    for number, source in enumerate(sources):
        rows = read_rows(source)
        write_wds(folder / "wds" / f"test-{number:05d}.tar", rows)
        for row in rows:
            texts = {name: value or "" for name, value in row.items()}
            mds.write({**texts, "image": row["image"]["bytes"]})
    mds.finish()


PREPARE = {"prepare plain": prepare_plain, "prepare peers": prepare_peers}


def list_tables(folder: Path) -> list[Path]:
    """List the Parquet files of the release."""
    return sorted((folder / "release").rglob("test-*.parquet"))


def write_plain(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows to Parquet with `datasets`."""
    import datasets

    features = datasets.Features({name: datasets.Value("string") for name in rows[0]})
    features["image"] = datasets.Image()
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(path))


def write_wds(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows to an archive with webdataset, a sample per row."""
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

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def read_epoch(rows: Any, limit: int | None, is_profiled: bool) -> dict[str, Any]:
    """Read the rows of a reader, and return the time they took after the first one.

    A `limit` of None reads all rows. A profile lists the slowest functions.
    """
    iterator = iter(rows)
    next(iterator)  # imports, and other work that is done once
    profile = cProfile.Profile()
    if is_profiled:
        profile.enable()
    count = 0
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in itertools.islice(iterator, limit):
        count += 1
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    profile.disable()
    result: dict[str, Any] = {"rows": count, "seconds": seconds, "cpu": cpu}
    if is_profiled:
        result["profile"] = describe_slowest(profile)
    return result


def main() -> None:
    """Read one epoch and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=(*PREPARE, *READERS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, help="maximum rows of the epoch (all)")
    parser.add_argument("--profile", action="store_true", help="print the slowest functions")
    args = parser.parse_args()
    if args.name in PREPARE:
        PREPARE[args.name](args.folder)
        return
    rows = READERS[args.name](args.folder)
    print(json.dumps(read_epoch(rows, args.rows, args.profile)), flush=True)
    os._exit(0)  # some readers leave threads behind


if __name__ == "__main__":
    main()

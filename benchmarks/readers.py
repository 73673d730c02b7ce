# SPDX-License-Identifier: Apache-2.0
"""The readers that are compared: each reads the same questions and pictures, one epoch in a process of its own.

`python benchmarks/readers.py NAME FOLDER` prints one line of JSON: rows, seconds, seconds of CPU, peak memory and, with
`--profile`, which functions took the most. FOLDER holds `release`, from draw_data.py, and beside it what the peers
read. Readers whose name begins with `ours` or `limit` run in this project's environment, the others in that of the
peers (peers.txt). `prepare` writes what the peers read, in the peers' own formats and with a picture per row, as a
question-per-row data set does.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
if not any("loader" in argument for argument in sys.argv):
    os.environ.setdefault("USE_TORCH", "0")  # `datasets` would import it, which takes longer than to read
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIDE = 224  # pixels that a model takes: what a DataLoader makes of a picture, and `min_side` of the reduced one


def open_image(data: bytes) -> Any:
    """Decode with Pillow."""
    import PIL.Image

    image = PIL.Image.open(io.BytesIO(data))
    image.load()
    return image


def stream(folder: Path, image: Any = None) -> Any:
    """Ours: `mmrel.load` from the archives, validated."""
    import mmrel

    dataset = mmrel.load("all", split="test", root=folder / "release", streaming=True)
    return dataset if image is None else dataset.cast_column("image", image)


def without_rust(folder: Path) -> Any:
    """Ours where jsonschema-rs is not installed."""
    sys.modules["jsonschema_rs"] = None  # type: ignore[assignment]
    return stream(folder, undecoded())


def undecoded() -> Any:
    """An image that is left as bytes."""
    import datasets

    return datasets.Image(decode=False)


def picture(**options: Any) -> Any:
    """Ours: decoded once."""
    from mmrel_kit.pictures.decode import Picture

    return Picture(**options)


def parquet(folder: Path, image: Any = None) -> Any:
    """The Parquet files under a folder, by `datasets`."""
    import datasets

    files = sorted(map(str, folder.rglob("test-*.parquet")))
    dataset = datasets.load_dataset("parquet", data_files={"test": files}, split="test", streaming=True)
    return dataset if image is None else dataset.cast_column("image", image)


def pillow(folder: Path) -> Iterator[Any]:
    """The limit: Pillow over each picture once, as many rows as it has questions, and little else."""
    import mmrel
    from mmrel_kit.pictures.archives import read_archives

    release = mmrel.Release(str(folder / "release"))
    for records, data in read_archives(release, release.archives("all")["test"]):
        yield from itertools.repeat(open_image(data), len(records))


def to_tensors(rows: list[dict[str, Any]]) -> Any:
    """What a training loop would make of rows: a batch of pixels at a model's size."""
    import numpy as np
    import torch

    return torch.stack([torch.from_numpy(np.array(row["image"].resize((SIDE, SIDE)))) for row in rows])


def loader(workers: int) -> Callable[[Path], Iterator[Any]]:
    """Ours, by a DataLoader."""

    def read(folder: Path) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        for batch in DataLoader(stream(folder, picture()), 12, num_workers=workers, collate_fn=to_tensors):
            yield from batch

    return read


def wds_datasets(folder: Path, decode: bool) -> Iterator[Any]:
    """The webdataset module of `datasets`."""
    import datasets

    files = sorted(map(str, (folder / "wds").glob("*.tar")))
    dataset = datasets.load_dataset("webdataset", data_files={"test": files}, split="test", streaming=True)
    (name,) = {"jpg", "png"} & set(dataset.features)
    return iter(dataset if decode else dataset.cast_column(name, datasets.Image(decode=False)))


def read_samples(archives: Iterable[Path], decode: bool) -> Iterator[tuple[Any, Any]]:
    """The webdataset library: the JSON of each sample, and its picture."""
    import webdataset as wds

    for sample in wds.WebDataset(sorted(map(str, archives)), shardshuffle=False):
        data = sample.get("jpg") or sample["png"]
        yield json.loads(sample["json"]), open_image(data) if decode else data


def webdataset(folder: Path, decode: bool) -> Iterator[Any]:
    """The webdataset library on a picture per row."""
    for row, image in read_samples((folder / "wds").glob("*.tar"), decode):
        yield {**row, "image": image}


def webdataset_grouped(folder: Path, decode: bool) -> Iterator[Any]:
    """The webdataset library on our archives, taken apart by hand: what our layout gives its users."""
    for records, image in read_samples((folder / "release").rglob("test-*.tar"), decode):
        yield from ({**record, "image": image} for record in records)


def mosaic(folder: Path, decode: bool) -> Iterator[Any]:
    """MosaicML streaming on its own format."""
    streaming = import_streaming()
    for row in streaming.StreamingDataset(local=str(folder / "mds"), shuffle=False, batch_size=1):
        yield {**row, "image": open_image(row["image"]) if decode else row["image"]}


def import_streaming() -> Any:
    """MosaicML streaming without torchvision, which only its own vision data sets use."""
    import transformers.feature_extraction_utils  # noqa: F401  # looks for torchvision itself

    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules.setdefault(name, types.ModuleType(name))
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
    """Write what the peers read: the rows of the release in as many shards, the picture in each row."""
    import datasets
    import webdataset as wds

    streaming = import_streaming()
    sources = sorted((folder / "release").rglob("test-*.parquet"))
    writers = {}
    for number, source in enumerate(sources):
        rows = parquet_rows(source)
        for kind in ("plain", "wds"):
            (folder / kind).mkdir(exist_ok=True)
        features = datasets.Features({"image": datasets.Image(), **{c: datasets.Value("string") for c in rows[0]}})
        features["image"] = datasets.Image()
        table = datasets.Dataset.from_list(rows, features=features)
        table.to_parquet(str(folder / "plain" / f"test-{number:05d}.parquet"))
        with wds.TarWriter(str(folder / "wds" / f"test-{number:05d}.tar")) as tar:
            for row in rows:
                text = {name: value for name, value in row.items() if name != "image"}
                ending = row["image_id"].rpartition(".")[2]
                tar.write({"__key__": row["question_id"], ending: row["image"]["bytes"], "json": text})
        if not writers:
            columns = {name: "bytes" if name == "image" else "str" for name in rows[0]}
            writers["mds"] = streaming.MDSWriter(out=str(folder / "mds"), columns=columns, size_limit=24 << 20)
        for row in rows:
            writers["mds"].write({n: v["bytes"] if n == "image" else v or "" for n, v in row.items()})
    writers["mds"].finish()


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a file."""
    import pyarrow.parquet as pq

    return [row for group in pq.ParquetFile(path).iter_batches() for row in group.to_pylist()]


def peak_memory() -> int:
    """Most kB that this process held, on Linux; ru_maxrss would be that of the process which started it, if larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def tell_profile(profile: cProfile.Profile) -> list[tuple[str, float]]:
    """The functions that took most of their own time, and their share of all of it."""
    stats = pstats.Stats(profile)
    total = sum(own for _, _, own, _, _ in stats.stats.values())  # type: ignore[attr-defined]
    found = sorted(((own / total, *of) for of, (_, _, own, _, _) in stats.stats.items()), reverse=True)  # type: ignore[attr-defined]
    return [(f"{Path(file).stem}.{name}" if line else name, share) for share, file, line, name in found[:4]]


def main() -> None:
    """Read one epoch and print what it took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=("prepare", *READERS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, help="of the epoch (all)")
    parser.add_argument("--profile", action="store_true", help="tell which functions took the most")
    args = parser.parse_args()
    if args.name == "prepare":
        prepare(args.folder)
        return
    iterator = iter(READERS[args.name](args.folder))
    next(iterator)  # imports, and all that happens once
    profile = cProfile.Profile()
    if args.profile:
        profile.enable()
    count = 0
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in itertools.islice(iterator, args.rows):
        count += 1
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    profile.disable()
    found: dict[str, Any] = {"rows": count, "seconds": seconds, "cpu": cpu, "peak_kb": peak_memory()}
    if args.profile:
        found["profile"] = tell_profile(profile)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # some readers leave threads behind


if __name__ == "__main__":
    main()

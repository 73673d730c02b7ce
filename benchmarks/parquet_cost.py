# SPDX-License-Identifier: Apache-2.0
"""Time reading rows with large binary values from Parquet, by layout; needs only `datasets`.

    python parquet_cost.py FOLDER [--pictures 200] [--runs 5]

Writes 200 values of 100 kB, in three rows each with 14 columns of text, in several layouts, and
prints a line of JSON for each: microseconds of CPU per row, one value per run. Layouts take turns
within a run. The layout `memory` is tables in memory: no layout of Parquet can be faster.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from datasets.iterable_dataset import ArrowExamplesIterable

Tables = Callable[[], Iterator[pa.Table]]  # reads them anew

ROWS_EACH = 3
TEXTS = [f"text_{number}" for number in range(14)]
FEATURES = datasets.Features(
    {"image": datasets.Image(decode=False), **dict.fromkeys(TEXTS, datasets.Value("string"))}
)
MEMORY = "memory"
BATCH = 100
SNAPPY = {"image.bytes": "NONE", "image.path": "NONE", **dict.fromkeys(TEXTS, "SNAPPY")}
# Layout -> rows of a row group, whether each value is stored once per row group, other options.
LAYOUTS: dict[str, tuple[int, bool, dict[str, Any]]] = {
    "value per row, 25 rows": (25, False, {}),
    "value per row, 100 rows": (100, False, {}),
    "value per row, 400 rows": (400, False, {}),
    "dictionary, 25 rows": (25, True, {}),
    "dictionary, 50 rows": (50, True, {}),
    "dictionary, 100 rows": (100, True, {}),
    "dictionary, 200 rows": (200, True, {}),
    "dictionary, 400 rows": (400, True, {}),
    "dictionary, text in dictionaries": (100, True, {"use_dictionary": True}),
    "dictionary, text in Snappy": (100, True, {"compression": SNAPPY}),
    "dictionary, text in both": (100, True, {"use_dictionary": True, "compression": SNAPPY}),
    "dictionary, all in Snappy": (100, True, {"compression": "SNAPPY"}),
    "dictionary, data pages 2.0": (100, True, {"data_page_version": "2.0"}),
    "dictionary, write_batch_size 16": (100, True, {"write_batch_size": 16}),
}
WRITTEN_BY_DATASETS = "value per row, by datasets"


def make_table(pictures: int) -> pa.Table:
    """Return random values, each in several rows."""
    values = [os.urandom(100_000) for _ in range(pictures)]
    rows = [value for value in values for _ in range(ROWS_EACH)]
    paths = pa.array([f"{number // ROWS_EACH}.jpg" for number in range(len(rows))])
    image = pa.StructArray.from_arrays([pa.array(rows, pa.binary()), paths], ["bytes", "path"])
    columns = [pa.array([f"{name} of row {n % 50}" for n in range(len(rows))]) for name in TEXTS]
    return pa.table([image, *columns], schema=FEATURES.arrow_schema)


def write(folder: Path, pictures: int) -> dict[str, Path]:
    """Write all layouts."""
    table = make_table(pictures)
    paths = {}
    for name, (rows, is_dictionary, options) in LAYOUTS.items():
        paths[name] = folder / f"{name}.parquet"
        dictionaries = ["image.bytes"] if is_dictionary else False
        options = {"compression": "NONE", "use_dictionary": dictionaries, **options}
        options |= {"dictionary_pagesize_limit": 1 << 30, "write_statistics": TEXTS}
        pq.write_table(table, paths[name], row_group_size=rows, **options)
    paths[WRITTEN_BY_DATASETS] = folder / "by datasets.parquet"
    datasets.Dataset(table).to_parquet(paths[WRITTEN_BY_DATASETS])
    return paths


def scan(path: Path) -> Iterator[pa.Table]:
    """Yield the row groups of a file as `datasets` reads them."""
    with open(path, "rb") as file:
        fragment = ds.ParquetFileFormat().make_fragment(file)
        rows = fragment.row_groups[0].num_rows
        for batch in fragment.to_batches(batch_size=rows, batch_readahead=0, fragment_readahead=0):
            yield pa.Table.from_batches([batch])


def stream(tables: Tables) -> Any:
    """Return the dataset that `load_dataset("parquet", streaming=True)` makes of tables."""

    def generate() -> Iterator[tuple[int, pa.Table]]:
        yield from enumerate(tables())

    info = datasets.DatasetInfo(features=FEATURES)
    return datasets.IterableDataset(ArrowExamplesIterable(generate, {}), info=info)


def read_alone(tables: Tables) -> int:
    """Read tables with Arrow alone; return the number of rows, as the other ways do."""
    return sum(len(table) for table in tables())


def read_rows(tables: Tables) -> int:
    """Read row by row, as users do."""
    return sum(1 for _ in stream(tables))


def read_rows_formatted_by_batch(tables: Tables) -> int:
    """Read row by row, but convert a hundred rows to Python at once instead of one."""
    return sum(1 for _ in stream(tables)._prepare_ex_iterable_for_iteration(batch_size=BATCH))


def read_batches(tables: Tables) -> int:
    """Read Arrow tables of a hundred rows from the dataset."""
    return sum(len(batch) for batch in stream(tables).with_format("arrow").iter(BATCH))


WAYS: dict[str, Callable[[Tables], int]] = {
    "Arrow alone": read_alone,
    "row by row": read_rows,
    "row by row, 100 converted at once": read_rows_formatted_by_batch,
    "Arrow batches of 100": read_batches,
}


def measure(way: str, tables: Tables) -> float:
    """Return the microseconds of CPU per row."""
    start = time.process_time()
    rows = WAYS[way](tables)
    return (time.process_time() - start) / rows * 1e6


def main() -> None:
    """Write the layouts, read them in turns, and print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    paths = write(args.folder, args.pictures)
    kept = list(scan(paths["dictionary, 100 rows"]))
    sources: dict[str, Tables] = {MEMORY: lambda: iter(kept)}
    sources |= {name: partial(scan, path) for name, path in paths.items()}
    values: dict[str, dict[str, list[float]]] = {
        name: {way: [] for way in WAYS} for name in sources
    }
    for run in range(args.runs + 1):
        for name, tables in sources.items():
            for way in WAYS:
                value = measure(way, tables)
                if run:  # the first run warms up
                    values[name][way].append(value)
    for name, ways in values.items():
        size = paths[name].stat().st_size if name in paths else 0
        print(json.dumps({"layout": name, "bytes": size, **ways}), flush=True)
    os._exit(0)  # threads of Arrow's scanner may abort the process when it ends


if __name__ == "__main__":
    main()

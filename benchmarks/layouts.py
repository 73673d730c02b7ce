# SPDX-License-Identifier: Apache-2.0
"""CPU time per row of Parquet with `datasets`, by row groups, pages and dictionaries.

`parquet_cost.py`, which needs only `datasets`, writes 200 values of 100 kB in three rows each, with
14 columns of text, and reads them in one process. "Memory" is tables in memory: no layout of
Parquet can be faster. `datasets` 5.2 converts a stream to Python row by row, as a table of one row
with 15 columns each time, and that costs more than reading Parquet. Arrow copies a value of a
dictionary into each of its rows, so a dictionary saves disk and requests, but no time. A release
has the layout "dictionary, text in both". [A report](parquet_report.md) for the maintainers of
`datasets` says more.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator

from benchmarks.measuring import Setup, run_python
from benchmarks.results import Measurement, compare

PICTURES = 200
MEMORY, PEER = "memory", "value per row, by datasets"
OURS, LIGHT = "dictionary, text in both", "dictionary, 100 rows"
ROWS, CONVERTED, BATCHES = (
    "row by row",
    "row by row, 100 converted at once",
    "Arrow batches of 100",
)


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield microseconds of each layout, and ratios to a value per row as `datasets` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = str(setup.choose(PICTURES, 10))
        options = ("--pictures", pictures, "--runs", str(setup.runs))
        printed = run_python("-m", "benchmarks.parquet_cost", folder, *options)
    layouts = {}
    for line in printed.splitlines():
        values = json.loads(line)
        layouts[values.pop("layout")] = values
    peer = layouts[PEER][ROWS]
    for case, values in (
        ("limit of every layout", layouts[MEMORY][ROWS]),
        (OURS, layouts[OURS][ROWS]),
        (LIGHT, layouts[LIGHT][ROWS]),
        (f"{OURS}, if 100 were converted at once", layouts[OURS][CONVERTED]),
        (f"{OURS}, read as Arrow batches", layouts[OURS][BATCHES]),
    ):
        yield compare(f"value per row / {case}", "row by row", peer, values, PEER)
    for name, values in layouts.items():
        if name != MEMORY:
            yield Measurement(name, "file", [values["bytes"] / 1e6], "MB")
        del values["bytes"]
        for way, costs in values.items():
            yield Measurement(name, way, costs, "µs")

# SPDX-License-Identifier: Apache-2.0
"""Plain `mmrel.load` from the Hub: the first load, disk, and random access to decoded rows.

A stand-in Hub on the same machine serves the data of `loading`. The peer is `load_dataset` on the
same rows as Parquet with a picture per row. Each load starts with empty caches. Disk is what all of
its caches take, download included. Another process then loads again, without a download, and reads
rows at random.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.loading import serve_data
from benchmarks.measuring import Hub, Setup, measure_in_turns, run_python
from benchmarks.results import Measurement, compare

LOAD = """
import time
import datasets
import mmrel
start = time.perf_counter()
rows = {load}
print(len(rows), time.perf_counter() - start)
"""
READ = """
import json, random, sys, time
import datasets
import mmrel
start = time.perf_counter()
rows = {load}
loaded = time.perf_counter()
count = int(sys.argv[1])
for number in random.Random(0).choices(range(len(rows)), k=count):
    rows[number]["image"].load()
seconds = time.perf_counter() - loaded
print(json.dumps({{"second load": loaded - start, "rate": count / seconds}}))
"""
OURS, PEER = "mmrel.load", "load_dataset on a picture per row"
WAYS = {
    OURS: 'mmrel.load("real", repo_id="ns/MMRel", split="test")',
    "load_dataset on the release": 'datasets.load_dataset("ns/MMRel", "real", split="test")',
    PEER: 'datasets.load_dataset("ns/plain", split="test")',
}
FIGURES = {"disk": "MB", "first load": "s", "second load": "s", "rate": "questions/s"}
ROWS = 600  # that are read at random


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield disk, times and rates, and their ratios."""
    with serve_data(setup) as (hub, folder):
        count = setup.choose(ROWS, 10)
        results = measure_in_turns(
            list(WAYS), setup.runs, lambda way: load(hub, folder, way, count)
        )
    values = {}
    for way, runs in results.items():
        values[way] = {figure: [run[figure] for run in runs] for figure in FIGURES}
    ours, peer = values[OURS], values[PEER]
    yield compare(f"{OURS} / {PEER}", "disk", ours["disk"], peer["disk"], PEER, "at most 0.4")
    times = peer["first load"], ours["first load"]
    yield compare(f"{PEER} / {OURS}", "time of the first load", *times, PEER, "at least 2")
    rates = ours["rate"], peer["rate"]
    yield compare(f"{OURS} / {PEER}", "random access, decoded", *rates, PEER, "at least 1")
    for way, figures in values.items():
        for figure, unit in FIGURES.items():
            yield Measurement(way, figure, figures[figure], unit)


def load(hub: Hub, folder: Path, way: str, count: int) -> dict[str, float]:
    """Load with empty caches, and again to read rows at random."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        home = Path(name)
        environment = hub.make_environment(home)
        printed = run_python("-c", LOAD.format(load=WAYS[way]), environment=environment)
        seconds = float(printed.split()[-1])
        disk = measure_disk(home)
        code = READ.format(load=WAYS[way])
        printed = run_python("-c", code, str(count), environment=environment)
        result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return {**result, "first load": seconds, "disk": disk / 1e6}


def measure_disk(folder: Path) -> int:
    """Return the bytes of all files under a folder on the disk; a file of two names counts once."""
    sizes = {}
    for path in folder.rglob("*"):
        state = os.lstat(path)
        sizes[state.st_ino] = state.st_blocks * 512
    return sum(sizes.values())

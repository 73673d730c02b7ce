# SPDX-License-Identifier: Apache-2.0
"""Time, requests and bytes until a cold process has its first question, streaming from the Hub.

A stand-in Hub on the same machine serves the data of `loading`; a process with empty caches streams
the `test` split of `real`, or its comparative questions only, until the first decoded picture.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.loading import serve_data
from benchmarks.measuring import Hub, Setup, measure_in_turns, run_python
from benchmarks.results import Measurement

OURS = """
import mmrel
stream = mmrel.load("real", repo_id="ns/MMRel", split="test", streaming=True{filters})
"""
PARQUET = """
import datasets
stream = datasets.load_dataset("ns/{repo}", "{config}", split="test", streaming=True{filters})
"""
SHOW = """
import os
row = next(iter(stream))
print(row["question_id"], row["image"].size, row["category"], flush=True)
os._exit(0)
"""
ALL: dict[str, str] = {"filters": ""}
COMPARATIVE = {"filters": ', filters=[("category", "==", "comparative")]'}
RELEASE = {"repo": "MMRel", "config": "real"}
PLAIN = {"repo": "plain", "config": "default"}
PROGRAMS = {
    "ours, archives": OURS.format(**ALL),
    "ours, Parquet": PARQUET.format(**RELEASE, **ALL),
    "datasets, picture per row": PARQUET.format(**PLAIN, **ALL),
    "ours, archives, comparative": OURS.format(filters=', categories=["comparative"]'),
    "ours, Parquet, comparative": PARQUET.format(**RELEASE, **COMPARATIVE),
    "datasets, picture per row, comparative": PARQUET.format(**PLAIN, **COMPARATIVE),
}


class Start(NamedTuple):
    """Requests, bytes sent and seconds until the first row."""

    requests: int
    sent: int
    seconds: float


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield requests, bytes sent and seconds until the first row of each reader."""
    with serve_data(setup) as (hub, folder):
        starts = measure_in_turns(
            list(PROGRAMS), setup.runs, lambda reader: _start_cold(hub, folder, reader)
        )
    for reader, measured in starts.items():
        yield Measurement(reader, "requests", [start.requests for start in measured])
        yield Measurement(reader, "sent", [start.sent / 1e6 for start in measured], "MB")
        yield Measurement(reader, "until the first row", [start.seconds for start in measured], "s")


def _start_cold(hub: Hub, folder: Path, reader: str) -> Start:
    """Run a reader with empty caches."""
    environment = hub.make_environment(Path(tempfile.mkdtemp(dir=folder)))
    before = hub.count_traffic()
    start = time.perf_counter()
    run_python("-c", PROGRAMS[reader] + SHOW, environment=environment)
    seconds = time.perf_counter() - start
    after = hub.count_traffic()
    return Start(after.requests - before.requests, after.sent - before.sent, seconds)

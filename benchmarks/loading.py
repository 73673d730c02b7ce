# SPDX-License-Identifier: Apache-2.0
"""Questions a second of each reader, ours and the peers', streaming from local files.

600 pictures like Visual Genome's (800 x 600 JPEG of noise, 100 kB) and 60 like DALL-E's (1024 x
1024 PNG of noise, 1.5 MB), three questions each, from the page cache. The peers' data are the same
rows in their own formats, with a picture per row. The readers take turns within a run, each in a
process of its own; the first row is not timed. Ours are the default install: they validate every
record, and compare each archive with its checksum. "By CPU" is the CPU time of the process without
its workers, which other work disturbs less. The limit is Pillow, which decodes each picture once.
"""

from __future__ import annotations

import inspect
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
from benchmarks.draw_data import PICTURES, SHARD_BYTES, draw_release
from benchmarks.measuring import Hub, Setup, measure_in_turns, run_python, start_hub
from benchmarks.results import Measurement, compare

DECODED_ROWS = 900  # rows of an epoch: those of 300 pictures, enough for a second or more
UNVERIFIED = "ours raw, verify=False"
RAW = ("ours raw", UNVERIFIED, "ours raw, jsonschema alone", "ours parquet raw")
PEERS = ("parquet", "datasets webdataset", "webdataset", "mosaicml")
RAW_PEERS = tuple(f"{peer} raw" for peer in PEERS)
DECODED = ("ours once", "ours once reduced", "ours parquet once", "ours each")
DECODED_PEERS = tuple(f"{peer} decoded" for peer in PEERS)
WDS_RAW = "webdataset on our archives raw"
WDS_DECODED = "webdataset on our archives decoded"
LOADERS = ("ours loader 1", "ours loader 2")  # the CPU of their workers is not measured
# The order within a run. Readers that are compared are neighbours, since a machine's speed drifts.
ORDER = (*RAW, *RAW_PEERS, WDS_RAW, *DECODED_PEERS, WDS_DECODED, "limit", *DECODED, *LOADERS)
# Readers that are also measured on DALL-E's large PNG files.
PNG = ("ours raw", "ours once", "ours each", "limit", *RAW_PEERS, *DECODED_PEERS)
RATES = {"seconds": "by the clock", "cpu": "by CPU"}

Results = dict[str, list[dict[str, Any]]]  # reader -> what each run printed


class RateRatio(NamedTuple):
    """A ratio to report: ours to the best of some peers; `goal` is empty if there is none."""

    title: str
    ours: str
    peers: tuple[str, ...]
    goal: str = ""


PARQUET = "datasets, picture per row"
RATIOS = (
    RateRatio("raw from archives / best peer", "ours raw", RAW_PEERS, "at least 2"),
    RateRatio(
        "raw from archives, jsonschema alone / best peer", "ours raw, jsonschema alone", RAW_PEERS
    ),
    RateRatio("raw from archives, verify=False / default", UNVERIFIED, ("ours raw",)),
    RateRatio(
        f"raw from Parquet / {PARQUET}", "ours parquet raw", ("parquet raw",), "at least 1.5"
    ),
    RateRatio("decoded once / best peer", "ours once", DECODED_PEERS, "at least 2.5"),
    RateRatio("decoded once / limit", "ours once", ("limit",), "at least 0.85"),
    RateRatio("DataLoader, 2 workers / 1", LOADERS[1], (LOADERS[0],), "at least 1.2"),
    RateRatio("raw from archives / webdataset on the same archives", "ours raw", (WDS_RAW,)),
    RateRatio("decoded once / webdataset on the same archives", "ours once", (WDS_DECODED,)),
    RateRatio(f"decoded once from Parquet / {PARQUET}", "ours parquet once", ("parquet decoded",)),
    RateRatio("decoded once at reduced size / at full size", "ours once reduced", ("ours once",)),
)


def measure(setup: Setup) -> Iterator[Measurement | str]:
    """Yield ratios, rates, and profiles of the readers that miss a goal."""
    pythons = choose_pythons(setup)
    jpeg = prepare(setup, "jpeg", {"real": setup.choose(PICTURES, 24)})
    png = prepare(setup, "png", {"dalle": setup.choose(PICTURES // 10, 2)})
    # A DataLoader's workers read ahead before the clock starts, so its epochs are complete.
    decoded = [name for name in pythons if "raw" not in name and name not in LOADERS]
    options = dict.fromkeys(decoded, ("--rows", str(DECODED_ROWS)))
    results = read_all(setup, pythons, jpeg, options)
    readers = {one.title: one.ours for one in RATIOS}
    missed: list[str] = []
    for one in compare_readers(results):
        yield one
        if one.goal and not one.is_met and one.peer not in LOADERS:
            missed += (readers[one.case], one.peer)
    yield from list_rates(results, "JPEG")
    png_pythons = {name: python for name, python in pythons.items() if name in PNG}
    yield from list_rates(read_all(setup, png_pythons, png, {}), "PNG")
    for name in dict.fromkeys(missed):
        slowest = run_reader(pythons[name], name, jpeg, "--profile")["profile"]
        yield f"Most of the time of `{name}`, which misses a goal or is its peer: {slowest}."


def choose_pythons(setup: Setup) -> dict[str, str]:
    """Return the Python of each reader; torch and the peers are in the peers' environment."""
    pythons = {}
    for name in ORDER:
        if name == UNVERIFIED and "verify" not in inspect.signature(mmrel.load).parameters:
            continue
        is_ours = name.startswith(("ours", "limit", "parquet")) and name not in LOADERS
        python = sys.executable if is_ours else setup.peers
        if python:
            pythons[name] = python
    return pythons


def prepare(setup: Setup, name: str, counts: dict[str, int]) -> Path:
    """Draw a release, and convert it for the peers, unless it exists; return the folder."""
    folder = setup.data / name
    draw_release(folder, counts, setup.choose(SHARD_BYTES, 1 << 20))
    if not (folder / "plain").exists():
        run_python("-m", "benchmarks.readers", "prepare plain", str(folder))
    if setup.peers and not (folder / "mds").exists():
        run_python("-m", "benchmarks.readers", "prepare peers", str(folder), python=setup.peers)
    return folder


@contextmanager
def serve_data(setup: Setup) -> Iterator[tuple[Hub, Path]]:
    """Serve the JPEG release, and its rows with a picture in each, from a stand-in Hub.

    Yields:
        The Hub with `ns/MMRel` and `ns/plain`, and a folder for what its clients write.
    """
    data = prepare(setup, "jpeg", {"real": setup.choose(PICTURES, 24)})
    with tempfile.TemporaryDirectory() as name, start_hub(Path(name) / "hub") as hub:
        hub.publish(data / "release", "ns/MMRel")
        hub.publish(data / "plain", "ns/plain", "data")
        yield hub, Path(name)


def run_reader(python: str, name: str, folder: Path, *options: str) -> dict[str, Any]:
    """Read one epoch in a process of its own; return rows, seconds and peak memory."""
    command = ("-m", "benchmarks.readers", name, str(folder), *options)
    lines = run_python(*command, python=python).splitlines()
    # Libraries print lines of their own.
    result: dict[str, Any] = json.loads([line for line in lines if line.startswith("{")][-1])
    return result


def read_all(
    setup: Setup, pythons: dict[str, str], folder: Path, options: Mapping[str, Sequence[str]]
) -> Results:
    """Run all readers in turns; `options` gives command-line options of some."""

    def read(name: str) -> dict[str, Any]:
        return run_reader(pythons[name], name, folder, *options.get(name, ()))

    return measure_in_turns(list(pythons), setup.runs, read)


def compute_rates(results: Sequence[dict[str, Any]], clock: str) -> list[float]:
    """Return the questions a second of each run."""
    return [result["rows"] / result[clock] for result in results]


def compare_readers(results: Results) -> Iterator[Measurement]:
    """Compare paired runs; the best peer has the highest median rate."""
    for one in RATIOS:
        if not results.keys() >= {one.ours, *one.peers}:
            continue
        for clock, figure in RATES.items():
            if clock == "cpu" and one.ours in LOADERS:
                continue
            rates = {name: compute_rates(results[name], clock) for name in (one.ours, *one.peers)}
            best = max(one.peers, key=lambda peer: statistics.median(rates[peer]))
            goal = one.goal if clock == "seconds" else ""
            yield compare(one.title, figure, rates[one.ours], rates[best], best, goal)


def list_rates(results: Results, kind: str) -> Iterator[Measurement]:
    """Yield the rates of all readers, the fastest first."""
    medians = {name: statistics.median(compute_rates(results[name], "seconds")) for name in results}
    for name in sorted(results, key=lambda name: -medians[name]):
        for clock, figure in RATES.items():
            if clock == "seconds" or name not in LOADERS:
                rates = compute_rates(results[name], clock)
                yield Measurement(name, f"{kind} {figure}", rates, "questions/s")

# SPDX-License-Identifier: Apache-2.0
"""Compare loading by this package with its peers, in ratios of paired runs.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers.txt
    PEERS/bin/pip install --no-deps mosaicml-streaming==0.13.0
    pip install '.[fast,plot]' torch
    PYTHONPATH=. python benchmarks/loading.py --peers PEERS/bin/python --data /tmp/mmrel-bench

Prints the tables, and writes loading.json, loading.png and loading.md beside this file or to
`--out`. Each reader runs in a process of its own; all take turns within a run, so that other work
of the machine affects all alike. If a goal is missed, the page lists the slowest functions.
`--quick` reads a few pictures, as a test, and writes files only with `--out`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.draw_data import PICTURES, SHARD_BYTES, draw_release
from benchmarks.first_row import measure_first_row
from benchmarks.loading_page import LOADERS, Rates, Report, draw_plot, make_page
from benchmarks.measuring import compare_runs, make_parser, measure_in_turns, run_python

HERE = Path(__file__).resolve().parent
VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
def find(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
print(json.dumps({name: find(name) for name in sys.argv[1:]}))
"""
DECODED_ROWS = 900  # rows of an epoch: those of 300 pictures, enough for a second or more
GROWTH = (1, 4, 16)  # times as many rows
PNG_PICTURES = PICTURES // 10
RAW = ("ours raw", "ours raw, jsonschema alone", "ours parquet raw")
PEERS = ("parquet", "datasets webdataset", "webdataset", "mosaicml")
RAW_PEERS = tuple(f"{peer} raw" for peer in PEERS)
DECODED = ("ours once", "ours once reduced", "ours parquet once", "ours each")
DECODED_PEERS = tuple(f"{peer} decoded" for peer in PEERS)
WDS_RAW = "webdataset on our archives raw"
WDS_DECODED = "webdataset on our archives decoded"
# The order within a run. Readers that are compared are neighbours, since a machine's speed drifts.
ORDER = (*RAW, *RAW_PEERS, WDS_RAW, *DECODED_PEERS, WDS_DECODED, "limit", *DECODED, *LOADERS)
# Readers that are also measured on DALL-E's large PNG files.
PNG = ("ours raw", "ours once", "ours each", "limit", *RAW_PEERS, *DECODED_PEERS)


class Goal(NamedTuple):
    """A ratio to report: ours to the best of some peers; `least` is the goal, if there is one."""

    title: str
    ours: str
    peers: tuple[str, ...]
    least: float | None = None


GOALS = (
    Goal("raw from archives / best peer", "ours raw", RAW_PEERS, 2.0),
    Goal("raw from Parquet / datasets, picture per row", "ours parquet raw", ("parquet raw",), 1.5),
    Goal("decoded once / best peer", "ours once", DECODED_PEERS, 2.5),
    Goal("decoded once / limit", "ours once", ("limit",), 0.85),
    Goal("DataLoader, 2 workers / 1", "ours loader 2", ("ours loader 1",), 1.2),
    Goal("raw from archives / webdataset library on the same archives", "ours raw", (WDS_RAW,)),
    Goal("decoded once / webdataset library on the same archives", "ours once", (WDS_DECODED,)),
    Goal(
        "decoded once from Parquet / datasets, picture per row",
        "ours parquet once",
        ("parquet decoded",),
    ),
    Goal("decoded once at reduced size / at full size", "ours once reduced", ("ours once",)),
)


# --- Measuring ---


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def choose_python(name: str, peers: str | None) -> str | None:
    """Return the Python of a reader: ours or the peers'; None if it, or torch, is not installed."""
    if name in LOADERS and not find_spec("torch"):
        return None
    return sys.executable if name.startswith(("ours", "limit")) else peers


def run_reader(python: str, name: str, folder: Path, *options: str) -> dict[str, Any]:
    """Read one epoch in a process of its own; return rows, seconds and peak memory."""
    command = ("-m", "benchmarks.readers", name, str(folder), *options)
    lines = run_python(*command, python=python).splitlines()
    # Libraries print lines of their own.
    result: dict[str, Any] = json.loads([line for line in lines if line.startswith("{")][-1])
    return result


def measure(
    names: dict[str, str], folder: Path, runs: int, options: Mapping[str, Sequence[str]]
) -> Rates:
    """Measure rows per second of real time and of CPU time.

    `names` gives the Python that runs each reader, `options` its command-line options.
    """

    def read(name: str) -> dict[str, Any]:
        result = run_reader(names[name], name, folder, *options.get(name, ()))
        say(f"{name:<40}{result['rows'] / result['seconds']:>10.0f} rows/s")
        return result

    rates: Rates = {}
    for name, results in measure_in_turns(list(names), runs, read).items():
        rates[name] = {}
        for clock in ("seconds", "cpu"):
            rates[name][clock] = [result["rows"] / result[clock] for result in results]
    return rates


def compare(rates: Rates) -> list[dict[str, Any]]:
    """Compare paired runs with the goals; the best peer has the highest median."""
    compared = []
    for goal in GOALS:
        if not rates.keys() >= {goal.ours, *goal.peers}:
            continue
        row: dict[str, Any] = {"title": goal.title, "ours": goal.ours, "goal": goal.least}
        for clock in ("seconds", "cpu"):
            medians = {peer: statistics.median(rates[peer][clock]) for peer in goal.peers}
            best = max(goal.peers, key=medians.__getitem__)
            ratio = compare_runs(rates[goal.ours][clock], rates[best][clock])
            row[clock] = {"peer": best, **ratio._asdict()}
        compared.append(row)
    return compared


def profile_missed(
    ratios: list[dict[str, Any]], names: dict[str, str], folder: Path
) -> list[dict[str, Any]]:
    """Profile our reader and the best peer of each goal that was missed."""
    readers: list[str] = []
    for row in ratios:
        if row["goal"] and row["seconds"]["median"] < row["goal"]:
            readers += (row["ours"], row["seconds"]["peer"])
    profiles = []
    for name in dict.fromkeys(readers):
        if name not in LOADERS:
            result = run_reader(names[name], name, folder, "--profile")
            profiles.append({"reader": name, **result})
    return profiles


def measure_growth(
    data: Path, pictures: int, runs: int, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Measure time and peak memory of an epoch over 1, 4 and 16 times the rows."""
    for times in GROWTH:
        draw_release(data / f"x{times}", {"real": pictures * times})

    def read(case: tuple[str, int]) -> dict[str, Any]:
        name, times = case
        return run_reader(sys.executable, name, data / f"x{times}")

    growth = []
    cases = list(itertools.product(names, GROWTH))
    for (name, times), results in measure_in_turns(cases, runs, read).items():
        seconds = statistics.median(result["seconds"] for result in results)
        peak = statistics.median(result["peak_kb"] for result in results) / 1024
        rows = int(results[0]["rows"]) + 1  # the first row is not timed
        row = {"reader": name, "times": times, "rows": rows}
        growth.append({**row, "seconds": seconds, "peak_mb": peak})
        say(f"growth  {name:<12}{times:>3}x {rows:>6} rows {seconds:>8.2f} s {peak:>8.1f} MB")
    return growth


def describe_machine(peers: str | None) -> dict[str, Any]:
    """Describe the machine and the versions, without names of hosts or folders."""
    ours = ("datasets", "pyarrow", "pillow", "jsonschema-rs", "torch")
    theirs = ("datasets", "webdataset", "mosaicml-streaming", "pyarrow", "pillow", "torch")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        "ours": find_versions(sys.executable, ours),
        "peers": find_versions(peers, theirs) if peers else {},
    }


def find_versions(python: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of packages in the environment of a Python."""
    versions: dict[str, str] = json.loads(run_python("-c", VERSIONS, *names, python=python))
    return versions


# --- The program ---


def save(report: Report, out: Path | None) -> None:
    """Write JSON, page and plot to a folder, if one is given."""
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "loading.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    (out / "loading.md").write_text(make_page(report), "utf-8")
    draw_plot(report, out / "loading.png")


def draw_all(args: argparse.Namespace) -> tuple[Path, Path]:
    """Draw the data, and convert it for the peers; return the folders of JPEG and PNG files."""
    prefix = "quick-" if args.quick else ""
    jpeg, png = args.data / f"{prefix}jpeg", args.data / f"{prefix}png"
    draw_release(jpeg, {"real": args.pictures}, 1 << 20 if args.quick else SHARD_BYTES)
    draw_release(png, {"dalle": args.png_pictures})
    if args.peers:
        for folder in (jpeg, png):
            if not (folder / "mds").exists():
                run_python("-m", "benchmarks.readers", "prepare", str(folder), python=args.peers)
    return jpeg, png


def measure_all(args: argparse.Namespace) -> Report:
    """Measure everything, and save the report before and after the long last part."""
    machine = describe_machine(args.peers)
    jpeg, png = draw_all(args)
    names = {}
    for name in ORDER:
        python = choose_python(name, args.peers)
        if python is not None:
            names[name] = python
    png_names = {name: python for name, python in names.items() if name in PNG}
    # A DataLoader's workers read ahead before the clock starts, so its epochs are complete.
    decoded = [name for name in names if "raw" not in name and name not in LOADERS]
    limits = dict.fromkeys(decoded, ("--rows", str(DECODED_ROWS)))
    report: Report = {"pictures": args.pictures, "runs": args.runs, "machine": machine}
    report["growth"] = []
    report["rates"] = measure(names, jpeg, args.runs, limits)
    report["ratios"] = compare(report["rates"])
    report["profiles"] = profile_missed(report["ratios"], names, jpeg)
    report["png_pictures"] = args.png_pictures
    report["png"] = measure(png_names, png, args.runs, {})
    report["first_row"] = measure_first_row(jpeg, args.runs)
    save(report, args.out)
    if args.quick:
        report["growth"] = measure_growth(args.data, 2, 1, ("ours raw",))
    else:
        runs, readers = min(args.runs, 3), ("ours raw", "ours once")
        report["growth"] = measure_growth(args.data, PICTURES // 4, runs, readers)
    save(report, args.out)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Measure loading, ours and the peers'."""
    parser = make_parser(__doc__)
    data = "folder for the drawn data, which the next run uses again"
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--peers", help="Python of the peers' environment (only ours is measured)")
    parser.add_argument("--runs", type=int, default=5, help="paired runs (%(default)s)")
    out = "folder for loading.json, .png and .md (beside this file)"
    parser.add_argument("--out", type=Path, help=out)
    quick = "24 pictures and one run, as a test"
    parser.add_argument("--quick", action="store_true", help=quick)
    args = parser.parse_args(argv)
    args.data = args.data.resolve()
    args.pictures, args.png_pictures = PICTURES, PNG_PICTURES
    if args.quick:
        args.pictures, args.png_pictures, args.runs = 24, 2, 1
    elif args.out is None:
        args.out = HERE
    if args.peers and os.sep in args.peers:
        # Readers run in the clone. Keep a link, since it marks a virtual environment.
        args.peers = os.path.abspath(args.peers)
    say(make_page(measure_all(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

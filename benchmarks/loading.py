# SPDX-License-Identifier: Apache-2.0
"""Compare loading by this package with its peers: ratios of paired runs, and what grows with rows.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers.txt
    PEERS/bin/pip install --no-deps mosaicml-streaming==0.13.0
    pip install '.[fast,plot]' torch
    PYTHONPATH=. python benchmarks/loading.py --peers PEERS/bin/python --data /tmp/mmrel-bench

Prints the tables and writes loading.json, loading.png and loading.md beside this file, or under
`--out`. Each run is a process of its own; all readers take turns within a run, so that other work
of the machine disturbs all alike. Where a goal is missed, the page shows which functions took the
time. `--quick` reads a few pictures, to see that everything works, and writes only where `--out`
says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.draw_data import PICTURES, SHARD_BYTES, draw_release
from benchmarks.first_row import measure_first_row
from benchmarks.loading_page import LOADERS, draw_plot, make_page
from benchmarks.measuring import ROOT, compare_runs, take_turns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.loading_page import Rates, Report

HERE = Path(__file__).resolve().parent
DECODED_ROWS = 900  # of an epoch: 300 pictures, enough for a second or more
GROWTH = (1, 4, 16)
PNG_PICTURES = PICTURES // 10
RAW = ("ours raw", "ours raw, jsonschema alone", "ours parquet raw")
RAW_PEERS = ("parquet raw", "datasets webdataset raw", "webdataset raw", "mosaicml raw")
DECODED = ("ours once", "ours once reduced", "ours parquet once", "ours each")
DECODED_PEERS = (
    "parquet decoded",
    "datasets webdataset decoded",
    "webdataset decoded",
    "mosaicml decoded",
)
OUR_LAYOUT_RAW = "webdataset on our archives raw"
OUR_LAYOUT_DECODED = "webdataset on our archives decoded"
# The order of turns: what is compared comes close together, since a machine's speed drifts.
ORDER = (
    *RAW,
    *RAW_PEERS,
    OUR_LAYOUT_RAW,
    *DECODED_PEERS,
    OUR_LAYOUT_DECODED,
    "limit",
    *DECODED,
    *LOADERS,
)
# Who reads DALL-E's large PNG.
PNG = ("ours raw", "ours once", "ours each", "limit", *RAW_PEERS, *DECODED_PEERS)


class Goal(NamedTuple):
    """A ratio that is claimed: ours beside the best of some peers."""

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
    Goal(
        "raw from archives / webdataset library on the same archives",
        "ours raw",
        (OUR_LAYOUT_RAW,),
    ),
    Goal(
        "decoded once / webdataset library on the same archives",
        "ours once",
        (OUR_LAYOUT_DECODED,),
    ),
    Goal(
        "decoded once from Parquet / datasets, picture per row",
        "ours parquet once",
        ("parquet decoded",),
    ),
    Goal("decoded once at reduced size / at full size", "ours once reduced", ("ours once",)),
)


# --- Processes ---


def choose_python(name: str, peers: str | None) -> str | None:
    """Return the Python that runs a reader, ours or the peers'.

    None where the peers' is missing, or torch for a DataLoader.
    """
    if name in LOADERS and not find_spec("torch"):
        return None
    return sys.executable if name.startswith(("ours", "limit")) else peers


def start_reader(python: str, name: str, folder: Path, *options: str) -> str:
    """Run readers.py in a process of its own, and return what it prints.

    Raises:
        SystemExit: it failed.
    """
    command = [python, "-m", "benchmarks.readers", name, str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"loading.py: {name!r} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def run_reader(python: str, name: str, folder: Path, *options: str) -> dict[str, Any]:
    """Read one epoch in a process of its own; return rows, seconds and peak memory."""
    lines = start_reader(python, name, folder, *options).splitlines()
    # Libraries print lines of their own.
    took: dict[str, Any] = json.loads([line for line in lines if line.startswith("{")][-1])
    return took


# --- Measuring ---


def measure(
    names: dict[str, str],
    folder: Path,
    runs: int,
    options: Mapping[str, Sequence[str]],
) -> Rates:
    """Measure rows a second by the clock, and by the CPU that the process took.

    Args:
        names: the Python of each reader.
        folder: what they read.
        runs: how often each takes its turn.
        options: of readers that have some.
    """
    rates: Rates = {name: {"seconds": [], "cpu": []} for name in names}
    for run, name in take_turns(list(names), runs):
        took = run_reader(names[name], name, folder, *options.get(name, ()))
        for clock, values in rates[name].items():
            values.append(took["rows"] / took[clock])
        last = rates[name]["seconds"][-1]
        say(f"run {run + 1}/{runs}  {name:<40}{last:>10.0f} rows/s")
    return rates


def compare(rates: Rates) -> list[dict[str, Any]]:
    """Compare paired runs with the goals; the best peer is the one of the highest median."""
    compared = []
    for goal in GOALS:
        if goal.ours not in rates or any(peer not in rates for peer in goal.peers):
            continue
        row: dict[str, Any] = {"title": goal.title, "ours": goal.ours, "goal": goal.least}
        for clock in ("seconds", "cpu"):
            medians = {peer: statistics.median(rates[peer][clock]) for peer in goal.peers}
            best = max(goal.peers, key=medians.__getitem__)
            ratio = compare_runs(rates[goal.ours][clock], rates[best][clock])
            row[clock] = {"peer": best, **ratio._asdict()}
        compared.append(row)
    return compared


def explain(
    ratios: list[dict[str, Any]],
    names: dict[str, str],
    folder: Path,
) -> list[dict[str, Any]]:
    """Profile ours and the best peer, for each goal that was missed."""
    readers: dict[str, None] = {}
    for row in ratios:
        if row["goal"] and row["seconds"]["median"] < row["goal"]:
            readers |= dict.fromkeys((row["ours"], row["seconds"]["peer"]))
    profiles = []
    for name in readers:
        if name not in LOADERS:
            took = run_reader(names[name], name, folder, "--profile")
            profiles.append({"reader": name, **took})
    return profiles


def measure_growth(
    data: Path,
    pictures: int,
    runs: int,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Measure time and peak memory of an epoch over 1, 4 and 16 times the rows."""
    folders = {times: data / f"x{times}" for times in GROWTH}
    for times, folder in folders.items():
        draw_release(folder, {"real": pictures * times})
    grown = []
    for name in names:
        results: dict[int, list[dict[str, Any]]] = {times: [] for times in GROWTH}
        for _ in range(runs):
            for times, folder in folders.items():
                results[times].append(run_reader(sys.executable, name, folder))
        for times, took in results.items():
            seconds = statistics.median(run["seconds"] for run in took)
            peak = statistics.median(run["peak_kb"] for run in took) / 1024
            rows = int(took[0]["rows"]) + 1  # the first one is not timed
            row = {"reader": name, "times": times, "rows": rows}
            grown.append({**row, "seconds": seconds, "peak_mb": peak})
            say(f"growth  {name:<12}{times:>3}x {rows:>6} rows {seconds:>8.2f} s {peak:>8.1f} MB")
    return grown


def describe_machine(peers: str | None) -> dict[str, Any]:
    """Describe the machine and the versions; no names of hosts or folders."""
    ours = ("datasets", "pyarrow", "pillow", "jsonschema-rs", "torch")
    theirs = ("datasets", "webdataset", "mosaicml-streaming", "pyarrow", "pillow", "torch")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        "ours": {name: find_version(name) for name in ours},
        "peers": ask_versions(peers, theirs) if peers else {},
    }


def find_version(name: str) -> str:
    """Return the version of a package of this environment."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def ask_versions(python: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of packages of another environment."""
    code = (
        "import json\n"
        "from importlib.metadata import version\n"
        f"print(json.dumps({{name: version(name) for name in {names!r}}}))"
    )
    printed = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(printed.stdout)
    return versions


# --- All of it ---


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def save(report: Report, out: Path | None) -> None:
    """Write JSON, page and plot, where a folder is given."""
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "loading.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    (out / "loading.md").write_text(make_page(report), "utf-8")
    draw_plot(report, out / "loading.png")


def draw_all(args: argparse.Namespace) -> tuple[Path, Path]:
    """Draw what is read, and write what the peers read; return the folders of JPEG and PNG."""
    before = "quick-" if args.quick else ""
    jpeg, png = args.data / f"{before}jpeg", args.data / f"{before}png"
    draw_release(jpeg, {"real": args.pictures}, 1 << 20 if args.quick else SHARD_BYTES)
    draw_release(png, {"dalle": args.png_pictures})
    if args.peers:
        for folder in (jpeg, png):
            if not (folder / "mds").exists():
                start_reader(args.peers, "prepare", folder)
    return jpeg, png


def measure_all(args: argparse.Namespace) -> Report:
    """Measure everything; save what there is before the long last part."""
    machine = describe_machine(args.peers)
    jpeg, png = draw_all(args)
    names = {}
    for name in ORDER:
        python = choose_python(name, args.peers)
        if python is not None:
            names[name] = python
    png_names = {name: python for name, python in names.items() if name in PNG}
    # A DataLoader reads ahead before the clock starts, the more the more workers it has: its epochs
    # are whole ones.
    decoded = [name for name in names if "raw" not in name and name not in LOADERS]
    limits = dict.fromkeys(decoded, ("--rows", str(DECODED_ROWS)))
    report: Report = {"pictures": args.pictures, "runs": args.runs, "machine": machine}
    report["growth"] = []
    report["rates"] = measure(names, jpeg, args.runs, limits)
    report["ratios"] = compare(report["rates"])
    report["profiles"] = explain(report["ratios"], names, jpeg)
    report["png_pictures"] = args.png_pictures
    report["png"] = measure(png_names, png, args.runs, {})
    report["first_row"] = measure_first_row(jpeg, args.runs)
    save(report, args.out)
    if args.quick:
        report["growth"] = measure_growth(args.data, 2, 1, ("ours raw",))
    else:
        runs, grown = min(args.runs, 3), ("ours raw", "ours once")
        report["growth"] = measure_growth(args.data, PICTURES // 4, runs, grown)
    save(report, args.out)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Measure loading, ours and the peers'."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    data = "folder for what is drawn; kept for the next time"
    parser.add_argument("--data", type=Path, required=True, help=data)
    peers = "python of the peers' environment; without it, ours alone"
    parser.add_argument("--peers", help=peers)
    parser.add_argument("--runs", type=int, default=5, help="paired runs (%(default)s)")
    out = "folder of loading.json, .png and .md (beside this file)"
    parser.add_argument("--out", type=Path, help=out)
    quick = "24 pictures, one run: to see that it works"
    parser.add_argument("--quick", action="store_true", help=quick)
    args = parser.parse_args(argv)
    args.data = args.data.resolve()
    args.pictures, args.png_pictures = PICTURES, PNG_PICTURES
    if args.quick:
        args.pictures, args.png_pictures, args.runs = 24, 2, 1
    elif args.out is None:
        args.out = HERE
    if args.peers and os.sep in args.peers:
        # Readers run in the clone; a link is not followed, since it marks a virtual environment.
        args.peers = os.path.abspath(args.peers)
    say(make_page(measure_all(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

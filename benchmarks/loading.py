# SPDX-License-Identifier: Apache-2.0
"""Compares loading by this package with its peers: ratios of paired runs, what grows with the rows, what is decoded.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers.txt
    PEERS/bin/pip install --no-deps mosaicml-streaming==0.13.0
    PYTHONPATH=. python benchmarks/loading.py --peers PEERS/bin/python --data /tmp/mmrel-bench

It prints the tables and writes loading.json, loading.png and loading.md beside this file, or under `--out`. Each run is
a process of its own; all readers take turns within a run, so that what else the machine does hits all alike. Where a
goal is missed the page says which functions took the time. `--quick` takes a few pictures and writes nothing unless
told where: it shows that all of it works.
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
from typing import TYPE_CHECKING, Any

from draw_data import PICTURES, SHARD_BYTES, draw_release
from first_row import measure_first_row

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).resolve().parent
READERS = HERE / "readers.py"
DECODED_ROWS = 900  # of an epoch: 300 pictures, enough for a second or more
GROWTH = (1, 4, 16)
PNG_PICTURES = PICTURES // 10
RAW = ("ours raw", "ours raw, jsonschema alone", "ours parquet raw")
RAW_PEERS = ("parquet raw", "datasets webdataset raw", "webdataset raw", "mosaicml raw")
DECODED = ("ours once", "ours once reduced", "ours parquet once", "ours each")
DECODED_PEERS = ("parquet decoded", "datasets webdataset decoded", "webdataset decoded", "mosaicml decoded")
OUR_LAYOUT = ("webdataset on our archives raw", "webdataset on our archives decoded")
LOADERS = ("ours loader 1", "ours loader 2")
# Turns are taken in this order: what is compared stands together, since a machine's speed drifts.
ORDER = (*RAW, *RAW_PEERS, OUR_LAYOUT[0], *DECODED_PEERS, OUR_LAYOUT[1], "limit", *DECODED, *LOADERS)
# What is read of DALL-E's large PNG.
PNG = ("ours raw", "ours once", "ours each", "limit", *RAW_PEERS, *DECODED_PEERS)
# What is claimed: name, ours, the peers of which the best counts, and the least ratio.
GOALS = (
    ("raw from archives / best peer", "ours raw", RAW_PEERS, 2.0),
    ("raw from Parquet / datasets, picture per row", "ours parquet raw", ("parquet raw",), 1.5),
    ("decoded once / best peer", "ours once", DECODED_PEERS, 2.5),
    ("decoded once / limit", "ours once", ("limit",), 0.85),
    ("DataLoader, 2 workers / 1", "ours loader 2", ("ours loader 1",), 1.2),
    ("raw from archives / webdataset library on the same archives", "ours raw", OUR_LAYOUT[:1], None),
    ("decoded once / webdataset library on the same archives", "ours once", OUR_LAYOUT[1:], None),
    ("decoded once from Parquet / datasets, picture per row", "ours parquet once", ("parquet decoded",), None),
    ("decoded once at reduced size / at full size", "ours once reduced", ("ours once",), None),
)


def choose_python(name: str, peers: str | None) -> str | None:
    """The Python that runs a reader: ours or the peers'; null where peers, or torch for a DataLoader, are missing."""
    if name in LOADERS and not find_spec("torch"):
        return None
    return sys.executable if name.startswith(("ours", "limit")) else peers


def run_reader(python: str, name: str, folder: Path, *options: str) -> dict[str, Any]:
    """One epoch in a process of its own: rows, seconds, peak memory."""
    command = [python, str(READERS), name, str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"loading.py: {name!r} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def measure(
    names: dict[str, str], folder: Path, runs: int, limits: dict[str, tuple[str, ...]]
) -> dict[str, dict[str, list[float]]]:
    """Rows per second by reader, in turns: by the clock, and by the CPU that the process took."""
    rates: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "cpu": []} for name in names}
    for run in range(runs):
        order = list(names) if run % 2 == 0 else list(reversed(names))
        for name in order:
            found = run_reader(names[name], name, folder, *limits.get(name, ()))
            for clock, values in rates[name].items():
                values.append(found["rows"] / found[clock])
            tell(f"run {run + 1}/{runs}  {name:<40}{rates[name]['seconds'][-1]:>10.0f} rows/s")
    return rates


def compare(rates: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """The goals as ratios of paired runs: median, least and most; the best peer is the one of the highest median."""
    compared = []
    for title, ours, peers, goal in GOALS:
        if ours not in rates or any(peer not in rates for peer in peers):
            continue
        row: dict[str, Any] = {"title": title, "ours": ours, "goal": goal}
        for clock in ("seconds", "cpu"):
            best = max(peers, key=lambda peer: statistics.median(rates[peer][clock]))  # noqa: B023  # called here alone
            ratios = sorted(a / b for a, b in zip(rates[ours][clock], rates[best][clock], strict=True))
            row[clock] = {"peer": best, "median": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]}
        compared.append(row)
    return compared


def explain(ratios: list[dict[str, Any]], names: dict[str, str], folder: Path) -> list[dict[str, Any]]:
    """For each goal that was missed, the functions that took most of the time: ours, and the best peer's."""
    missed = [row for row in ratios if row["goal"] and row["seconds"]["median"] < row["goal"]]
    readers = dict.fromkeys(name for row in missed for name in (row["ours"], row["seconds"]["peer"]))
    return [{"reader": n, **run_reader(names[n], n, folder, "--profile")} for n in readers if n not in LOADERS]


def grow(data: Path, pictures: int, runs: int, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Time and peak memory of a raw and a decoded epoch over 1, 4 and 16 times the rows."""
    found = []
    folders = {times: data / f"x{times}" for times in GROWTH}
    for times, folder in folders.items():
        draw_release(folder, {"real": pictures * times})
    for name in names:
        results: dict[int, list[dict[str, Any]]] = {times: [] for times in GROWTH}
        for _ in range(runs):
            for times, folder in folders.items():
                results[times].append(run_reader(sys.executable, name, folder))
        for times, all_runs in results.items():
            seconds, peak = (statistics.median(run[key] for run in all_runs) for key in ("seconds", "peak_kb"))
            rows = int(all_runs[0]["rows"]) + 1
            found.append({"reader": name, "times": times, "rows": rows, "seconds": seconds, "peak_mb": peak / 1024})
            tell(f"growth  {name:<12}{times:>3}x {rows:>6} rows {seconds:>8.2f} s {peak / 1024:>8.1f} MB at most")
    return found


def describe(peers: str | None) -> dict[str, Any]:
    """The machine and the versions; no names of hosts or folders."""
    ours = ("datasets", "pyarrow", "pillow", "jsonschema-rs", "torch")
    theirs = ("datasets", "webdataset", "mosaicml-streaming", "pyarrow", "pillow", "torch")
    versions = {}
    for name in ours:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    code = (
        f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {theirs!r}}}))"
    )
    found = subprocess.run([peers, "-c", code], capture_output=True, text=True, check=True).stdout if peers else "{}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        "ours": versions,
        "peers": json.loads(found),
    }


def make_table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    """Lines of a table in Markdown, with an empty one before it."""
    return ["", *(f"| {' | '.join(map(str, cells))} |" for cells in (heads, ("---",) * len(heads), *rows))]


def tell_rates(rates: dict[str, dict[str, list[float]]]) -> list[str]:
    """Table of questions a second, the most first."""
    rows = []
    for name, clocks in sorted(rates.items(), key=lambda pair: -statistics.median(pair[1]["seconds"])):
        cells = [f"{statistics.median(v):,.0f} ({min(v):,.0f} to {max(v):,.0f})" for v in clocks.values()]
        rows.append((name, cells[0], "" if name in LOADERS else cells[1]))
    return make_table(("reader", "questions a second", "by CPU"), rows)


def write_page(report: dict[str, Any]) -> str:
    """The tables as Markdown."""
    machine, ratios = report["machine"], []
    for row in report["ratios"]:
        cells = [f"{row[c]['median']:.2f} ({row[c]['least']:.2f} to {row[c]['most']:.2f})" for c in ("seconds", "cpu")]
        by_cpu = "" if row["ours"] in LOADERS else cells[1]
        ratios.append((row["title"], row["goal"] or "", cells[0], by_cpu, row["seconds"]["peer"]))
    lines = [
        "# How fast it loads",
        "",
        f"{report['pictures']} pictures (800 x 600 JPEG of noise, 100 kB), three questions each, from a disk's "
        f"cache; {machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}, load before "
        f"the start {machine['load']}. Medians of {report['runs']} runs in which all readers take turns, each in a "
        "process of its own, and least and most in brackets; ours with every record validated. Time is told by the "
        "clock, and by the CPU of the process alone, which other work disturbs less (workers are not in it). To run it "
        "again: the head of `loading.py`.",
        *make_table(("ratio", "goal", "by the clock", "by CPU", "best peer"), ratios),
        *tell_rates(report["rates"]),
    ]
    if report["profiles"]:
        told = [
            (row["reader"], ", ".join(f"`{name}` {share:.0%}" for name, share in row["profile"]))
            for row in report["profiles"]
        ]
        lines += ["", "Where a goal is missed, the time goes to (cProfile, own time):"]
        lines += make_table(("reader", "most of the time"), told)
    lines += ["", f"{report['png_pictures']} pictures of DALL-E's kind (1024 x 1024 PNG of noise, 1.5 MB):"]
    lines += tell_rates(report["png"])
    lines += [
        "",
        "What a cold process asks of a Hub until it has the first question with its picture (`real`, `test`):",
    ]
    lines += make_table(
        ("reader", "requests", "MB sent", "seconds"),
        (
            (row["reader"], f"{row['requests']:.0f}", f"{row['sent'] / 1e6:.2f}", f"{row['seconds']:.1f}")
            for row in report["first_row"]
        ),
    )
    if report["growth"]:
        lines += ["", "What grows with the questions:"]
        lines += make_table(
            ("questions", "reader", "seconds", "peak memory"),
            (
                (f"{r['rows']:,}", r["reader"], f"{r['seconds']:.2f}", f"{r['peak_mb']:.0f} MB")
                for r in report["growth"]
            ),
        )
    for whose in ("ours", "peers"):
        listed = ", ".join(f"{name} {number}" for name, number in machine[whose].items())
        lines += ["", f"Versions ({whose}): {listed or 'none'}."]
    return "\n".join([*lines, "", "![Rates, and what grows with the rows](loading.png)", ""])


def draw_plot(report: dict[str, Any], path: Path) -> None:
    """Rates by reader, and how time and memory grow."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(17, 4.6), width_ratios=(3, 3, 2, 2), layout="constrained")
    for axis, words, title in (
        (axes[0], ("raw",), "undecoded"),
        (axes[1], ("decoded", "once", "each", "limit"), "decoded"),
    ):
        named = {
            n: v["cpu"] for n, v in report["rates"].items() if any(word in n for word in words) and n not in LOADERS
        }
        names = sorted(named, key=lambda name: statistics.median(named[name]))
        colors = ["tab:blue" if n.startswith("ours") else "black" if n == "limit" else "tab:gray" for n in names]
        middle = [statistics.median(named[name]) for name in names]
        spread = [[m - min(named[n]), max(named[n]) - m] for n, m in zip(names, middle, strict=True)]
        axis.barh(names, middle, color=colors, xerr=list(zip(*spread, strict=True)), error_kw={"ecolor": "tab:orange"})
        axis.set_title(f"Questions a second of CPU, {title}")
    for axis, key, title in ((axes[2], "seconds", "Seconds an epoch"), (axes[3], "peak_mb", "Peak memory, MB")):
        for name, marker in (("ours raw", "o"), ("ours once", "s")):
            points = [row for row in report["growth"] if row["reader"] == name]
            axis.plot([row["rows"] for row in points], [row[key] for row in points], marker=marker, label=name)
        axis.set_title(title)
        axis.set_xlabel("questions")
        axis.set_xscale("log")
        ticks = sorted({row["rows"] for row in report["growth"]})
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
        if key == "seconds" and report["growth"]:
            axis.set_yscale("log")
        else:
            axis.set_ylim(0, 1.2 * max((row["peak_mb"] for row in report["growth"]), default=1))
        axis.legend()
    figure.savefig(path, dpi=80)


def save(report: dict[str, Any], out: Path | None) -> None:
    """Write JSON, page and plot, where a folder is given."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "loading.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        (out / "loading.md").write_text(write_page(report), "utf-8")
        draw_plot(report, out / "loading.png")


def tell(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Measure loading, ours and the peers'."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder for what is drawn; kept for the next time")
    parser.add_argument("--peers", help="python of the peers' environment; without it, ours alone")
    parser.add_argument("--runs", type=int, default=5, help="paired runs (default %(default)s)")
    parser.add_argument("--out", type=Path, help="folder of loading.json, .png and .md (default: beside this file)")
    parser.add_argument("--quick", action="store_true", help="24 pictures, one run: to see that it works")
    args = parser.parse_args(argv)
    pictures, png_pictures, runs = (24, 2, 1) if args.quick else (PICTURES, PNG_PICTURES, args.runs)
    out = args.out or (None if args.quick else HERE)
    folder, png = (args.data / f"{'quick-' if args.quick else ''}{kind}" for kind in ("jpeg", "png"))
    machine = describe(args.peers)
    draw_release(folder, {"real": pictures}, shard_bytes=(1 << 20) if args.quick else SHARD_BYTES)
    draw_release(png, {"dalle": png_pictures})
    names = {name: python for name in ORDER if (python := choose_python(name, args.peers))}
    png_names = {name: python for name, python in names.items() if name in PNG}
    for data in (folder, png) if args.peers else ():
        if not (data / "mds").exists():
            subprocess.run([args.peers, str(READERS), "prepare", str(data)], check=True)
    # A DataLoader reads ahead before the clock starts, the more the more workers it has: its epochs are whole ones.
    decoded = [name for name in names if "raw" not in name and name not in LOADERS]
    limits = dict.fromkeys(decoded, ("--rows", str(DECODED_ROWS)))
    report: dict[str, Any] = {"pictures": pictures, "runs": runs, "machine": machine, "growth": []}
    report["rates"] = measure(names, folder, runs, limits)
    report["ratios"] = compare(report["rates"])
    report["profiles"] = explain(report["ratios"], names, folder)
    report["png_pictures"], report["png"] = png_pictures, measure(png_names, png, runs, {})
    report["first_row"] = measure_first_row(folder, runs)
    save(report, out)  # in case that what follows is stopped: it takes long
    if args.quick:
        report["growth"] = grow(args.data, 2, 1, ("ours raw",))
    else:
        report["growth"] = grow(args.data, PICTURES // 4, min(runs, 3), ("ours raw", "ours once"))
    save(report, out)
    tell(write_page(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Run benchmarks, and write results.json, README.md and the plots beside this file.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers.txt
    PEERS/bin/pip install --no-deps mosaicml-streaming==0.13.0
    python -m benchmarks all --peers PEERS/bin/python --data /tmp/mmrel-bench

Cases take turns within a run, most in processes of their own, so that other work of the machine
affects all alike. `--quick` measures on little data, as a test, and writes files only with `--out`.
Exit status 1: a goal is missed, unless quick.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.measuring import Setup, describe_machine, say
from benchmarks.page import draw_plots, make_page, update_report
from benchmarks.results import FOLDER, make_section, read_results, read_rows, write_results
from mmrel_kit.files import format_table, write_bytes

# In this order they run and are on the page.
NAMES = (
    "loading",
    "plain",
    "first_row",
    "layouts",
    "building",
    "growth",
    "hundredfold",
    "fetching",
    "push",
    "metric",
    "labelling",
    "verify",
)


def describe(name: str) -> str:
    """Return the first line of a benchmark's docstring."""
    return (import_module(f"benchmarks.{name}").__doc__ or "").partition("\n")[0]


def run(name: str, args: argparse.Namespace) -> bool:
    """Measure a benchmark, replace its section, and return whether it meets its goals."""
    say(f"{name}: {describe(name)}")
    path = (args.out or FOLDER) / "results.json"
    results = read_results(path)
    known = {**read_results(FOLDER / "results.json"), **results}
    setup = Setup(args.data, args.peers, args.runs, args.quick, known)
    start = time.perf_counter()
    described = describe_machine(setup)
    measured = import_module(f"benchmarks.{name}").measure(setup)
    results[name] = make_section(described, measured)
    rows = read_rows(results[name])
    say(format_table([[one.case, one.figure, f"{one.median:,.4g}", one.goal] for one in rows], 2))
    say(f"{name}: {time.perf_counter() - start:.0f} s\n")
    if args.out or not args.quick:
        write_results(path, {key: results[key] for key in NAMES if key in results})
        write_pages(path)
    return all(one.is_met for one in rows if one.goal)


def write_pages(path: Path) -> None:
    """Write the page and the plots beside results.json, and the table of the Parquet report."""
    results = read_results(path)
    if path.parent == FOLDER:
        update_report(results)
    write_bytes(path.with_name("README.md"), make_page(results).encode())
    draw_plots(results, path.parent)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named, and return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks, or all")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    parser.add_argument("--page", action="store_true", help="only write the page and plots again")
    data = "folder for the drawn data, which the next run uses again (%(default)s)"
    parser.add_argument("--data", type=Path, default=Path("/tmp/mmrel-bench"), help=data)
    parser.add_argument("--peers", help="Python of the peers' environment (only ours is measured)")
    parser.add_argument("--runs", type=int, default=5, help="paired runs (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one run on little data, as a test")
    parser.add_argument("--out", type=Path, help="folder for the results (beside this file)")
    args = parser.parse_args(argv)
    if args.list:
        print(format_table([[name, describe(name)] for name in NAMES], 2))
        return 0
    if args.page:
        write_pages((args.out or FOLDER) / "results.json")
        return 0
    names = NAMES if args.names == ["all"] else args.names
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        got = f"{', '.join(unknown)} is no benchmark" if unknown else "got no name"
        parser.error(f"{got}; expected all, or some of: {', '.join(NAMES)}")
    if args.quick:
        args.runs = 1
        args.data /= "quick"
    args.data = args.data.resolve()
    args.data.mkdir(parents=True, exist_ok=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    if args.peers and os.sep in args.peers:
        # Processes run in the clone. Keep a link, since it marks a virtual environment.
        args.peers = os.path.abspath(args.peers)
    met = [run(name, args) for name in names]
    return 0 if args.quick or all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Build, check and audit a release of the stand-in; print the tables of benchmarks/BUILD.md.

PYTHONPATH=. python benchmarks/standin.py /tmp/standin
PYTHONPATH=. python benchmarks/build.py /tmp/standin /tmp/scratch --workers 2
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from benchmarks.measuring import ROOT, ResourceUsage, make_parser, run_measured
from benchmarks.standin import list_images
from mmrel_kit.files import format_markdown

MEASURED = """
import sys, time
start = time.perf_counter()
from benchmarks.measuring import report_usage
from mmrel_kit import cli
code = cli.main(sys.argv[1:])
if code:
    sys.exit(code)
report_usage(start)
"""
PROFILED = """
import cProfile, pstats, sys
from mmrel_kit import cli
profile = cProfile.Profile()
profile.runcall(cli.main, sys.argv[1:])
stats = pstats.Stats(profile, stream=sys.stderr)
stats.sort_stats("tottime").print_stats(14)
"""
REPEATED = "repeated"  # a table with the picture in every row
FACES = (".parquet", ".tar", ".jsonl")


class Layouts(NamedTuple):
    """Bytes by layout, and the number of questions."""

    sizes: dict[str, int]
    questions: int


def measure_floor(folder: Path, scratch: Path) -> dict[str, float]:
    """Return the seconds of sha256sum and of tar over the same pictures."""
    names = ["images.zip", "images2.zip", "data.zip"]
    names += [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    name_list = scratch / "names"
    name_list.write_text("\0".join(names))
    archive = scratch / "floor.tar"
    commands = {
        "sha256sum": ["xargs", "-0", "-a", str(name_list), "sha256sum"],
        "tar": ["tar", "cf", str(archive), "--null", "-T", str(name_list)],
    }
    seconds = {}
    for name, command in commands.items():
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
        seconds[name] = time.perf_counter() - start
    archive.unlink()
    return seconds


def measure_layouts(root: Path) -> Layouts:
    """Measure each face of a release, and a table with the picture in every row."""
    release = mmrel.Release(str(root))
    sizes = dict.fromkeys((REPEATED, *FACES), 0)
    questions = 0
    for name, file in release.files.items():
        suffix = Path(name).suffix
        if not name.startswith("data/") or suffix not in FACES:
            continue
        sizes[suffix] += file["size"]
        if suffix == ".parquet":
            table = pq.ParquetFile(root / name)
            questions += table.metadata.num_rows
            sizes[REPEATED] += measure_repeated(table)
    return Layouts(sizes, questions)


def measure_repeated(table: pq.ParquetFile) -> int:
    """Return the bytes of a table without dictionaries: every row has its own picture."""
    columns = [table.schema.column(number).path for number in range(len(table.schema))]
    compression = dict.fromkeys(columns, "SNAPPY") | {"image.bytes": "NONE"}
    sink = pa.MockOutputStream()  # counts bytes
    schema = table.schema_arrow
    with pq.ParquetWriter(sink, schema, use_dictionary=False, compression=compression) as writer:
        for number in range(table.num_row_groups):
            writer.write_table(table.read_row_group(number))
    return int(sink.size())


def print_steps(floor: dict[str, float], steps: dict[str, ResourceUsage], workers: int) -> None:
    """Print time and memory of each step, and compare the build with sha256sum and tar."""
    rows = [["step", "seconds", "peak MiB", "of a worker"]]
    rows += [[name, f"{seconds:.1f}", "", ""] for name, seconds in floor.items()]
    for name, step in steps.items():
        peaks = f"{step.peak:.0f}", f"{step.peak_of_children:.0f}"
        rows.append([name, f"{step.seconds:.1f}", *peaks])
    print(format_markdown(rows, "lrrr"))
    ratio = steps["build"].seconds / sum(floor.values())
    print(f"\nbuild / (sha256sum + tar): {ratio:.2f} with {workers} workers\n")


def print_layouts(layouts: Layouts) -> None:
    """Print the bytes of each layout."""
    rows = [["layout", "bytes", "per question", "of the repeated"]]
    for name, size in layouts.sizes.items():
        per_question = f"{size / layouts.questions:,.0f}"
        share = f"{size / layouts.sizes[REPEATED]:.3f}"
        rows.append([name, f"{size:,}", per_question, share])
    print(format_markdown(rows, "lrrr"))


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = make_parser(__doc__)
    parser.add_argument("standin", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    profile = "build again in one process, and print its profile"
    parser.add_argument("--profile", action="store_true", help=profile)
    args = parser.parse_args()
    standin, scratch = args.standin.resolve(), args.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    out = scratch / "release"
    build = ["build", "--annotations", str(standin / "json"), "--out", str(out)]
    build += ["--images", *list_images(standin)]
    floor = measure_floor(standin, scratch)
    steps = {}
    steps["build"], _ = run_measured(MEASURED, *build, "--workers", str(args.workers))
    steps["check"], _ = run_measured(MEASURED, "check", str(out))
    steps["audit"], _ = run_measured(MEASURED, "audit", str(out), "--json")
    quick = ("audit", str(out), "--json", "--quick")
    steps["audit --quick"], findings = run_measured(MEASURED, *quick)
    print_steps(floor, steps, args.workers)
    layouts = measure_layouts(out)
    print_layouts(layouts)
    counts = {finding["kind"]: finding["count"] for finding in json.loads(findings)}
    print(f"\n{layouts.questions:,} questions; findings: {json.dumps(counts)}")
    if args.profile:
        shutil.rmtree(out)
        subprocess.run([sys.executable, "-c", PROFILED, *build], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()

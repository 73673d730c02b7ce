# SPDX-License-Identifier: Apache-2.0
"""Builds, checks and audits a release of the stand-in, and prints what that took as a table for benchmarks/BUILD.md.

PYTHONPATH=. python benchmarks/standin.py /tmp/standin
PYTHONPATH=. python benchmarks/build.py /tmp/standin /tmp/scratch --workers 2
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

import mmrel
from mmrel_kit.build.tables import GROUP_ROWS, make_schema, make_table
from mmrel_kit.pictures.archives import Sample, read_archives
from mmrel_kit.questions.records import Record

REPOSITORY = Path(__file__).resolve().parent.parent
# Runs a command of upload.py in a process of its own, which then tells its peak memory and that of its workers.
MEASURED = (
    "import re, resource, sys, upload; code = upload.main(sys.argv[1:]); "
    r"own = int(re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())[1]); "
    "peaks = own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss; "
    "print('peak', *(peak // 1024 for peak in peaks), file=sys.stderr); sys.exit(code)"
)
PROFILED = "import cProfile, pstats, sys, upload; p = cProfile.Profile(); p.runcall(upload.main, sys.argv[1:]); " + (
    "s = pstats.Stats(p, stream=sys.stderr); s.sort_stats('tottime').print_stats(14)"
)


class Measured(NamedTuple):
    """Seconds, and MiB at the peak of a process and of the largest of its workers."""

    seconds: float
    peak: int
    peak_of_workers: int


class Counter:
    """A file that keeps nothing but its size."""

    closed = False

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        """Count some bytes."""
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def measure(*arguments: str) -> Measured:
    """Run a command of upload.py."""
    start = time.perf_counter()
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    _, *peaks = done.stderr.strip().splitlines()[-1].split()
    return Measured(time.perf_counter() - start, *map(int, peaks))


def measure_floor(folder: Path, scratch: Path) -> tuple[float, float]:
    """Seconds of sha256sum and of tar over the same pictures."""
    names = ["images.zip", "images2.zip", "data.zip"]
    names += [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    listed = scratch / "names"
    listed.write_text("\0".join(names))
    times = []
    for command in (
        ["xargs", "-0", "-a", listed, "sha256sum"],
        ["tar", "cf", scratch / "floor.tar", "--null", "-T", listed],
    ):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    (scratch / "floor.tar").unlink()
    return times[0], times[1]


def measure_layouts(root: Path) -> dict[str, int]:
    """Bytes of each face of a release, and of the table that repeats the picture in every row."""
    sizes = dict.fromkeys((".jsonl", ".tar", ".parquet"), 0)
    questions = 0
    repeated = Counter()
    release = mmrel.Release(str(root))
    for name, file in release.files.items():
        if (suffix := Path(name).suffix) in sizes and name.startswith("data/"):
            sizes[suffix] += file["size"]
    compression: Any = dict.fromkeys((*mmrel.COLUMNS, "image.path"), "SNAPPY") | {"image.bytes": "NONE"}
    schema = make_schema()
    with pq.ParquetWriter(repeated, schema, use_dictionary=False, compression=compression) as writer:
        for names in release.archives("all").values():
            group: list[Sample] = []
            for records, data in read_archives(release, names):
                group.append(Sample(records[0]["image_id"], data, [Record(**record) for record in records]))
                questions += len(records)
                if sum(len(sample.records) for sample in group) >= GROUP_ROWS:
                    writer.write_table(make_table(group, schema))
                    group = []
            if group:
                writer.write_table(make_table(group, schema))
    return {**sizes, "repeated": repeated.size, "questions": questions}


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("standin", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="build in one process once more, and tell its profile")
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    out = args.scratch / "release"
    places = [f"real={args.standin}/images.zip", f"real={args.standin}/images2.zip", f"sdxl={args.standin}/data.zip"]
    command = [
        "build",
        "--annotations",
        f"{args.standin}/json",
        "--images",
        *places,
        f"dalle={args.standin}",
        "--out",
        str(out),
    ]
    hashing, packing = measure_floor(args.standin, args.scratch)
    build = measure(*command, "--workers", str(args.workers))
    check, audit = measure("check", str(out)), measure("audit", str(out), "--json")
    quick = measure("audit", str(out), "--json", "--quick")
    sizes = measure_layouts(out)
    print("| step | seconds | peak MiB | of a worker |\n| --- | ---: | ---: | ---: |")
    print(f"| sha256sum | {hashing:.1f} | | |\n| tar | {packing:.1f} | | |")
    for name, step in (("build", build), ("check", check), ("audit", audit), ("audit --quick", quick)):
        print(f"| {name} | {step.seconds:.1f} | {step.peak} | {step.peak_of_workers} |")
    print(f"\nbuild / (sha256sum + tar): {build.seconds / (hashing + packing):.2f} with {args.workers} workers\n")
    print("| layout | bytes | per question | of the repeated |\n| --- | ---: | ---: | ---: |")
    for name in ("repeated", ".parquet", ".tar", ".jsonl"):
        share = sizes[name] / sizes["repeated"]
        print(f"| {name} | {sizes[name]:,} | {sizes[name] / sizes['questions']:,.0f} | {share:.3f} |")
    counts = {finding["kind"]: finding["count"] for finding in _audit(out)}
    print(f"\n{sizes['questions']:,} questions; findings: {json.dumps(counts)}")
    if args.profile:
        shutil.rmtree(out)
        subprocess.run([sys.executable, "-c", PROFILED, *command], cwd=REPOSITORY, check=True)


def _audit(out: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "upload.py", "audit", str(out), "--json", "--quick"]
    found: list[dict[str, Any]] = json.loads(subprocess.check_output(command, cwd=REPOSITORY))
    return found


if __name__ == "__main__":
    main()

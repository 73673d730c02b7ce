# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of build, check and audit on a stand-in of the whole benchmark, and bytes.

The stand-in has the benchmark's numbers, sizes and layout: 14,930 yes/no and 7,510 open questions
about 7,510 pictures, 3.1 GB (Visual Genome's as 800 x 600 JPEG of 137 kB in two zip files, SPEC's
as 512 x 512 JPEG of 75 kB in one, DALL-E's as 1024 x 1024 PNG of 1.9 MB in a folder). Files are in
the page cache. Build, check and audit have two workers; sha256sum and tar read the same pictures,
one after the other, in one process each. Build and check decompress every picture; audit also makes
its pixels, to compare how pictures look. A release contains Parquet, archives and records; the
repeated layout is its Parquet with the picture in every row.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from benchmarks.measuring import (
    ResourceUsage,
    Setup,
    measure_in_turns,
    read_cpu_of_children,
    run_command,
    run_python,
)
from benchmarks.results import Measurement, compare
from benchmarks.standin import list_images, make_standin

PROFILE = """
import cProfile, sys
from benchmarks.measuring import describe_slowest
from mmrel_kit import cli
profile = cProfile.Profile()
profile.runcall(cli.main, sys.argv[1:])
print(describe_slowest(profile))
"""
REPEATED = "Parquet with the picture in every row"
FACES = (".parquet", ".tar", ".jsonl")
FLOOR = ("sha256sum", "tar")
TWO = ("--workers", "2")
STEPS = ("build", "check", "audit", "audit --quick")
MAX_PEAK = "at most 400"  # MiB
GOALS = {"check": "at most 0.6", "audit": "at most 1"}  # time / time of the build


def measure(setup: Setup) -> Iterator[Measurement | str]:
    """Yield time and memory of each step, ratios, and bytes of each layout."""
    standin = setup.data / "standin"
    if not (standin / "data.zip").exists():
        make_standin(standin, small=setup.is_quick)
    out = setup.data / "built"
    commands = make_commands(standin, out)

    def run(_: str) -> dict[str, ResourceUsage]:
        usages = dict(zip(FLOOR, measure_floor(standin), strict=True))
        shutil.rmtree(out, ignore_errors=True)
        for step in STEPS:
            usages[step], _ = run_command(*commands[step])
        return usages

    (runs,) = measure_in_turns(["all steps"], setup.runs, run).values()
    seconds = {step: [run[step].seconds for run in runs] for step in (*FLOOR, *STEPS)}
    floor = [sum(run[step].seconds for step in FLOOR) for run in runs]
    peer = "sha256sum + tar"
    built = compare(f"build / ({peer})", "time", seconds["build"], floor, peer, "at most 2.2")
    yield built
    for step, goal in GOALS.items():
        yield compare(f"{step} / build", "time", seconds[step], seconds["build"], "build", goal)
    workers = [run["build"].peak_of_children for run in runs]
    yield Measurement("build, largest worker", "peak", workers, "MiB", goal=MAX_PEAK)
    for step in GOALS:
        peaks = [max(run[step].peak, run[step].peak_of_children) for run in runs]
        yield Measurement(f"{step}, largest process", "peak", peaks, "MiB", goal=MAX_PEAK)
    for step, values in seconds.items():
        yield Measurement(step, "time", values, "s")
        yield Measurement(step, "CPU time", [run[step].cpu for run in runs], "s")
        if step in STEPS:
            yield Measurement(step, "peak of the command", [run[step].peak for run in runs], "MiB")
    yield from measure_layouts(out)
    if not built.is_met and not setup.is_quick:
        shutil.rmtree(out)
        slowest = run_python("-c", PROFILE, *commands["build"][:-1], "1").splitlines()[-1]
        yield f"Most of the time of a build with one worker: {slowest}."


def make_commands(standin: Path, out: Path) -> dict[str, list[str]]:
    """Return the arguments of each step; the number of workers is the last one of a build."""
    build = ["build", "--annotations", str(standin / "json"), "--out", str(out)]
    return {
        "build": [*build, "--images", *list_images(standin), *TWO],
        "check": ["check", str(out), *TWO],
        "audit": ["audit", str(out), "--json", *TWO],
        "audit --quick": ["audit", str(out), "--json", "--quick"],
    }


def measure_floor(folder: Path) -> Iterator[ResourceUsage]:
    """Yield the usage of sha256sum and of tar over the same pictures."""
    names = ["images.zip", "images2.zip", "data.zip"]
    names += [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    name_list = folder.with_name("names")
    name_list.write_text("\0".join(names))
    archive = folder.with_name("floor.tar")
    for command in (
        ["xargs", "-0", "-a", str(name_list), "sha256sum"],
        ["tar", "cf", str(archive), "--null", "-T", str(name_list)],
    ):
        start, before = time.perf_counter(), read_cpu_of_children()
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - start
        yield ResourceUsage(seconds, 0, 0, read_cpu_of_children() - before)
    archive.unlink()


def measure_layouts(root: Path) -> Iterator[Measurement]:
    """Measure each face of a release, and a table with the picture in every row."""
    sizes = dict.fromkeys((REPEATED, *FACES), 0)
    questions = 0
    for name, file in mmrel.Release(str(root)).files.items():
        suffix = Path(name).suffix
        if not name.startswith("data/") or suffix not in FACES:
            continue
        sizes[suffix] += file["size"]
        if suffix == ".parquet":
            table = pq.ParquetFile(root / name)
            questions += table.metadata.num_rows
            sizes[REPEATED] += measure_repeated(table)
    share = sizes[".parquet"] / sizes[REPEATED]
    yield Measurement(
        f".parquet / {REPEATED}", "bytes", [share], peer=REPEATED, goal="at most 0.36"
    )
    for name, size in sizes.items():
        yield Measurement(name, "bytes", [size])
        yield Measurement(name, "bytes per question", [round(size / questions)])


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

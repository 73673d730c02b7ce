# SPDX-License-Identifier: Apache-2.0
"""What a hundred times the benchmark would take, computed from measured rates.

2,244,000 questions about 751,000 pictures. The rates are the medians of `building` and `fetching`;
planning and `finish`, which the workers of a cluster do not share, are measured here on the least
and the most data of `growth`, and grow with the number of questions. `mmrel cluster` packs the
shards on some number of workers, each with one core of this machine; every task plans before it
packs.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks import growth
from benchmarks.measuring import Setup, measure_in_turns, run_command
from benchmarks.results import Measurement, find_median
from mmrel_kit.build.plan import SHARD_BYTES
from mmrel_kit.sources.fetching import HUB_LIMIT_WITH_TOKEN
from mmrel_kit.web import WINDOW

FACTOR = 100
QUESTIONS = 22_440  # of the benchmark
WORKERS = (1, 16, 256)
STEPS = ("plan, in each task", "finish")
MAX_RUNS = 3
HOURS = "hours"


def measure(setup: Setup) -> Iterator[Measurement | str]:
    """Yield disk, shards, requests and hours, and name the first wall."""

    def find(benchmark: str, case: str, figure: str) -> float:
        return FACTOR * find_median(setup.results, benchmark, case, figure)

    archives, tables = (find("building", face, "bytes") for face in (".tar", ".parquet"))
    records = find("building", ".jsonl", "bytes")
    yield Measurement("pictures before the build", "disk", [tables / 1e9], "GB")
    yield Measurement("release", "disk", [(archives + tables + records) / 1e9], "GB")
    shards = math.ceil(archives / SHARD_BYTES)
    yield Measurement("shards, with an archive and a table each", "number", [shards])
    hub_requests = find("fetching", "Hub, mmrel fetch", "requests")
    requests = hub_requests + find("fetching", "zips, mmrel fetch", "requests")
    yield Measurement("requests to fetch all pictures", "number", [requests])

    from_zips = find("fetching", "zips, mmrel fetch", "time") / 3600
    yield Measurement("fetch from zip files, one machine", HOURS, [from_zips])
    hours = {}  # of the steps that more workers do not shorten
    by_rate = find("fetching", "Hub, mmrel fetch", "time")
    by_limit = hub_requests / HUB_LIMIT_WITH_TOKEN * WINDOW
    hours["fetch from the Hub, one token"] = max(by_rate, by_limit) / 3600
    shared = measure_shared(setup)
    hours |= shared
    for step in ("check", "audit"):
        hours[f"{step}, one machine"] = find("building", step, "time") / 3600
    for name, value in hours.items():
        yield Measurement(name, HOURS, [value])
    packing = 2 * find("building", "build", "time") / 3600  # a build has two workers
    for workers in WORKERS:
        used = min(workers, shards)
        total = packing / used + sum(shared.values())
        yield Measurement(f"plan, pack and finish, {workers} workers", HOURS, [total])
    wall = max(hours, key=hours.__getitem__)
    yield (
        f"The first wall is **{wall}**: {hours[wall]:.1f} hours, which more workers do not "
        f"shorten. Packing on {WORKERS[-1]} workers takes {packing / WORKERS[-1]:.2f} hours."
    )


def measure_shared(setup: Setup) -> dict[str, float]:
    """Return the hours of the steps that workers do not share; they grow with the questions."""
    pictures = setup.choose(growth.PICTURES, growth.QUICK_PICTURES)
    counts = [pictures * times for times in (growth.SIZES[0], growth.SIZES[-1])]
    folders = [setup.data / f"growth-{times}" for times in (growth.SIZES[0], growth.SIZES[-1])]
    for folder, count in zip(folders, counts, strict=True):
        growth.draw(folder, count)
    runs = measure_in_turns(folders, min(setup.runs, MAX_RUNS), run_shared)
    hours = {}
    for step in STEPS:
        few, many = (min(run[step] for run in runs[folder]) for folder in folders)
        a_question = (many - few) / (counts[1] - counts[0]) / growth.QUESTIONS
        hours[step] = max(0.0, a_question * FACTOR * QUESTIONS / 3600)
    return hours


def run_shared(folder: Path) -> dict[str, float]:
    """Return the seconds of planning and of finishing a build."""
    sources, out = folder / "sources", folder / "shared"
    shutil.rmtree(out, ignore_errors=True)
    build = ("build", "--annotations", str(sources / "json"), "--images", str(sources))
    plan, _ = run_command(*build, "--out", str(out), "--shard", "2/2")  # it has one shard
    run_command(*build, "--out", str(out), "--shard", "1/2")
    finish, _ = run_command("finish", "--out", str(out))
    return dict(zip(STEPS, (plan.seconds, finish.seconds), strict=True))

# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of build, check, audit, load and score by the number of pictures.

750, 3,000 and 12,000 pictures of 20 kB, with three questions each. A build uses two workers. A load
is a plain `mmrel.load` with an empty cache, and one epoch without decoding; the answers that are
scored are made up. Each step is timed as a whole process with its start; the peak is that of its
largest process. Growth is compared with n log n from the second size to the third, where the start
counts least.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.draw_data import draw_jpeg, draw_sources
from benchmarks.measuring import (
    ResourceUsage,
    Setup,
    measure_in_turns,
    run_command,
    run_measured,
)
from benchmarks.results import Measurement
from mmrel_kit.files import read_json

PICTURES = 750
QUESTIONS = 3  # about each
QUICK_PICTURES = 4
SIZES = (1, 4, 16)  # times as many pictures
WIDTH = 260  # pixels, for pictures of about 20 kB
MAX_RUNS = 3
LOAD = """
import sys, time
start = time.perf_counter()
import datasets
import mmrel
from benchmarks.measuring import report_usage
root, cache = sys.argv[1:]
rows = mmrel.load("all", split="test", root=root, cache_dir=cache)
for row in rows.cast_column("image", datasets.Image(decode=False)):
    pass
report_usage(start)
"""
STEPS = ("build", "check", "audit", "load", "score")


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield time, peak and growth of each step."""
    pictures = setup.choose(PICTURES, QUICK_PICTURES)
    folders = {}
    for times in SIZES:
        folders[times] = setup.data / f"growth-{times}"
        draw(folders[times], pictures * times)
    runs = min(setup.runs, MAX_RUNS)
    usages = measure_in_turns(SIZES, runs, lambda times: run_steps(folders[times]))
    for step in STEPS:
        seconds = {}
        for times in SIZES:
            seconds[times] = [run[step].seconds for run in usages[times]]
            peaks = [max(run[step].peak, run[step].peak_of_children) for run in usages[times]]
            yield Measurement(step, f"time {times}x", seconds[times], "s")
            yield Measurement(step, f"peak {times}x", peaks, "MiB")
        counts = [pictures * times for times in SIZES]
        exponents = [fit_exponent(counts, run) for run in zip(*seconds.values(), strict=True)]
        yield Measurement(step, "exponent of the fit", exponents)
        limit = compute_growth(*counts[1:])
        ratios = [
            most / middle / limit for middle, most in zip(seconds[4], seconds[16], strict=True)
        ]
        yield Measurement(step, "time 16x / 4x, to n log n", ratios, goal="at most 1")


def draw(folder: Path, pictures: int) -> None:
    """Draw sources and answers, unless they exist."""
    if (folder / "answers.jsonl").exists():
        return
    draw_sources(folder / "sources", {"real": pictures}, lambda rng: draw_jpeg(rng, WIDTH))
    rng = random.Random(1)
    lines = []
    for question in read_json(folder / "sources" / "json" / "test.jsonl"):
        if question.value["label"] in ("yes", "no"):
            answer = rng.choice(("Yes.", "No."))
            lines.append(
                json.dumps({"question_id": question.value["question_id"], "answer": answer})
            )
    (folder / "answers.jsonl").write_text("\n".join(lines))


def run_steps(folder: Path) -> dict[str, ResourceUsage]:
    """Run all steps, each in a process of its own."""
    sources, out, cache = folder / "sources", folder / "release", folder / "cache"
    for made in (out, cache):
        shutil.rmtree(made, ignore_errors=True)
    build = ("build", "--annotations", str(sources / "json"), "--images", str(sources))
    usages = {}
    usages["build"], _ = run_command(*build, "--out", str(out), "--workers", "2")
    usages["check"], _ = run_command("check", str(out))
    usages["audit"], _ = run_command("audit", str(out))
    usages["load"], _ = run_measured(LOAD, str(out), str(cache))
    score = ("score", str(folder / "answers.jsonl"), "--root", str(out))
    usages["score"], _ = run_command(*score)
    return usages


def compute_growth(fewer: int, more: int) -> float:
    """Return how many times as long n log n takes for more pictures."""
    return more * math.log(more) / (fewer * math.log(fewer))


def fit_exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the exponent of the power of n that fits the times best."""
    logs = [math.log(count) for count in counts]
    return statistics.linear_regression(logs, [math.log(one) for one in seconds]).slope

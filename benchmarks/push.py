# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of publishing to a stand-in Hub, beside a bare loop of PUTs.

Publishes a release of 2,000 small files, then one of 1 GiB in files of 64 MiB, by LFS and by Xet,
without `mmrel check`. The reference is a bare loop that sends the same objects one by one to the
same store with the same HTTP client. Each is a process of its own.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import Setup, measure_in_turns, run_measured, start_hub
from benchmarks.results import Measurement, compare
from mmrel_kit.files import INDEX, describe_file

LARGE_FILE = 64  # MiB
PUSH = """
import sys, time
from pathlib import Path
from benchmarks.measuring import report_usage
from mmrel_kit.hub.push import push
start = time.perf_counter()
push(Path(sys.argv[1]), "ns/MMRel", check=lambda root: [])
report_usage(start)
"""
LOOP = """
import json, sys, time
from pathlib import Path
from benchmarks.measuring import report_usage
from huggingface_hub.utils import get_session
root, store = Path(sys.argv[1]), sys.argv[2]
files = json.loads((root / "checksums.json").read_text())["files"]
client = get_session()
start = time.perf_counter()
for path, described in files.items():
    with (root / path).open("rb") as file:
        client.put(f"{store}/objects/{described['sha256']}", content=file).raise_for_status()
report_usage(start)
"""
LFS, XET, BARE = "push, LFS", "push, Xet", "bare loop of PUTs"
PROGRAMS = {LFS: PUSH, XET: PUSH, BARE: LOOP}


class Figures(NamedTuple):
    """Seconds, peak memory in MiB, and commits made."""

    seconds: float
    peak: float
    commits: int


def write_release(root: Path, files: int, size: int) -> Path:
    """Write `files` archives of `size` random bytes each, a card, and checksums.json."""
    folder = root / "data" / "real"
    folder.mkdir(parents=True)
    (root / "README.md").write_text("---\n---\n")
    for number in range(files):
        with (folder / f"train-{number:05}.tar").open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(os.urandom(min(1 << 20, size - start)))
    paths = [path for path in root.rglob("*") if path.is_file()]
    listed = {path.relative_to(root).as_posix(): describe_file(path) for path in paths}
    index = {"name": "mmrel", "version": "1.0.0", "note": None, "files": listed}
    (root / INDEX).write_text(json.dumps(index))
    return root


def publish(way: str, release: Path) -> Figures:
    """Publish a release to a new Hub."""
    with tempfile.TemporaryDirectory(dir=release.parent) as name:
        home = Path(name)
        with start_hub(home / "hub") as hub:
            environment = hub.make_environment(home, xet=way == XET)
            arguments = (str(release), hub.store)
            usage, _ = run_measured(PROGRAMS[way], *arguments, environment=environment)
            repositories = hub.read_state()["repos"].values()
    # The Hub creates a repository with one commit.
    commits = sum(len(repository["commits"]) - 1 for repository in repositories)
    return Figures(usage.seconds, usage.peak, commits)


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield time, speed, memory and commits of each way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, megabytes = setup.choose(2000, 5), setup.choose(1024, LARGE_FILE)
        many = write_release(folder / "many", files, 2000)
        large = write_release(folder / "large", megabytes // LARGE_FILE, LARGE_FILE << 20)
        yield from measure_release(setup, f"{files:,} files", many, None)
        yield from measure_release(setup, "large files", large, megabytes)


def measure_release(
    setup: Setup, title: str, release: Path, megabytes: int | None
) -> Iterator[Measurement]:
    """Yield the figures of a release; `megabytes` is None if its speed means nothing."""
    results = measure_in_turns(list(PROGRAMS), setup.runs, lambda way: publish(way, release))
    seconds = {way: [run.seconds for run in runs] for way, runs in results.items()}
    speeds = [1 / one for one in seconds[LFS]], [1 / one for one in seconds[BARE]]
    goal = "at least 0.75" if megabytes else ""
    yield compare(f"{title}, {LFS} / {BARE}", "speed", *speeds, BARE, goal)
    for way, runs in results.items():
        case = f"{title}, {way}"
        yield Measurement(case, "time", seconds[way], "s")
        if megabytes:
            yield Measurement(case, "speed", [megabytes / one for one in seconds[way]], "MiB/s")
        if way != BARE:
            # A push is one commit.
            commits = [float(run.commits) for run in runs]
            yield Measurement(case, "commits", commits, goal="at most 1")
        goal = "at most 400" if way == LFS else ""
        yield Measurement(case, "peak", [run.peak for run in runs], "MiB", goal=goal)

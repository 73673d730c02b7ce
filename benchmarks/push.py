# SPDX-License-Identifier: Apache-2.0
"""Measure speed and memory of publishing to a stand-in Hub in a process of its own.

    PYTHONPATH=. python benchmarks/push.py [--files 2000] [--megabytes 1024] [--rounds 2]

Publishes a release of many small files, then one of large ones, by way of LFS and of Xet; beside
them a bare loop that sends the same objects to the same store with the same HTTP client, one after
the other. `mmrel check` is left out. The best round of each counts.

Exit status 1: a push made other than one commit, or by way of LFS took 400 MiB or more, or less
than 0.75 of the loop's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measuring import run_measured, start_hub, take_turns
from mmrel_kit.files import INDEX, describe_file, format_table

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the project demands of itself: MiB, and a share of the bare loop's speed.
MAX_PEAK = 400
MIN_SHARE = 0.75
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
    index = {"name": "mmrel", "version": "1.0.0", "files": listed}
    (root / INDEX).write_text(json.dumps(index))
    return root


def measure(way: str, release: Path) -> Figures:
    """Send a release to a new Hub."""
    with tempfile.TemporaryDirectory(dir=release.parent) as name:
        home = Path(name)
        with start_hub(home / "hub") as hub:
            environment = hub.make_environment(home, xet=way == XET)
            arguments = (str(release), hub.store)
            usage, _ = run_measured(PROGRAMS[way], *arguments, environment=environment)
            repositories = hub.read_state()["repos"].values()
    # The Hub makes the first commit itself.
    commits = sum(len(repository["commits"]) - 1 for repository in repositories)
    return Figures(usage.seconds, usage.peak, commits)


def measure_best(release: Path, rounds: int) -> dict[str, Figures]:
    """Return the fastest round of each way, with the highest peak of all its rounds."""
    figures: dict[str, list[Figures]] = {way: [] for way in PROGRAMS}
    for _, way in take_turns(list(PROGRAMS), rounds):
        figures[way].append(measure(way, release))
    best = {}
    for way, measured in figures.items():
        peak = max(one.peak for one in measured)
        best[way] = min(measured)._replace(peak=peak)
    return best


def is_good(found: dict[str, Figures], has_size: bool) -> bool:
    """Return whether the pushes keep to the limits; speed counts for large files only."""
    if any(found[way].commits != 1 for way in (LFS, XET)):
        return False
    if found[LFS].peak >= MAX_PEAK:
        return False
    return not has_size or find_share(found) >= MIN_SHARE


def find_share(found: dict[str, Figures]) -> float:
    """Return the speed of a push by way of LFS, as a share of the bare loop's."""
    return found[BARE].seconds / found[LFS].seconds


def make_rows(title: str, found: dict[str, Figures], megabytes: int) -> list[list[str]]:
    """Return the rows of a release; `megabytes` is 0 where speed says nothing."""
    rows = []
    for way, figures in found.items():
        speed = f"{megabytes / figures.seconds:.0f}" if megabytes else ""
        seconds, peak = f"{figures.seconds:.1f}", f"{figures.peak:.0f}"
        rows.append([f"{title}, {way}", seconds, speed, peak, str(figures.commits)])
    share = f"{find_share(found):.2f}"
    rows.append([f"{title}, speed by way of LFS / bare loop", share, "", "", ""])
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description="Speed and memory of publishing.")
    files = "files of the first release (%(default)s)"
    parser.add_argument("--files", type=int, default=2000, help=files)
    size = f"size of the second release, in files of {LARGE_FILE} MiB (%(default)s)"
    parser.add_argument("--megabytes", type=int, default=1024, help=size)
    parser.add_argument("--rounds", type=int, default=2, help="the best counts (%(default)s)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = write_release(folder / "many", args.files, 2000)
        large = write_release(folder / "large", args.megabytes // LARGE_FILE, LARGE_FILE << 20)
        of_many = measure_best(many, args.rounds)
        of_large = measure_best(large, args.rounds)
    heads = ["release and way", "s", "MiB/s", "peak MiB", "commits"]
    rows = make_rows(f"{args.files} files", of_many, 0)
    rows += make_rows("large files", of_large, args.megabytes)
    print(format_table([heads, *rows]))
    return 0 if is_good(of_many, False) and is_good(of_large, True) else 1


if __name__ == "__main__":
    sys.exit(main())

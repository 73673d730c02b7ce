# SPDX-License-Identifier: Apache-2.0
"""Measure speed and memory of publishing to a stand-in Hub.

    PYTHONPATH=. python benchmarks/push.py [--files 2000] [--megabytes 1024] [--rounds 2]

Publishes a release of many small files, then one of large files, by LFS and by Xet, without
`mmrel check`. The reference is a bare loop that sends the same objects one by one to the same store
with the same HTTP client. Each is measured in a process of its own; the best round counts.

Exit status 1: a push made more or less than one commit, or a push by LFS took 400 MiB or more, or
reached less than 0.75 of the loop's speed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import make_parser, measure_in_turns, run_measured, start_hub
from mmrel_kit.files import INDEX, describe_file, format_table

MAX_PEAK = 400  # MiB
MIN_SHARE = 0.75  # of the bare loop's speed
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


def measure(way: str, release: Path) -> Figures:
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


def measure_best(release: Path, rounds: int) -> dict[str, Figures]:
    """Return the fastest round of each way, with the highest peak of all its rounds."""
    results = measure_in_turns(list(PROGRAMS), rounds, lambda way: measure(way, release))
    best = {}
    for way, measured in results.items():
        peak = max(one.peak for one in measured)
        best[way] = min(measured)._replace(peak=peak)
    return best


def is_good(best: dict[str, Figures], are_large: bool) -> bool:
    """Return whether the pushes keep the limits; speed counts for large files only."""
    if best[LFS].commits != 1 or best[XET].commits != 1 or best[LFS].peak >= MAX_PEAK:
        return False
    return not are_large or compute_share(best) >= MIN_SHARE


def compute_share(best: dict[str, Figures]) -> float:
    """Return the speed of a push by LFS, as a share of the bare loop's."""
    return best[BARE].seconds / best[LFS].seconds


def make_rows(title: str, best: dict[str, Figures], megabytes: int | None) -> list[list[str]]:
    """Return the rows of a release; `megabytes` is None if its speed means nothing."""
    rows = []
    for way, figures in best.items():
        speed = f"{megabytes / figures.seconds:.0f}" if megabytes else ""
        seconds, peak = f"{figures.seconds:.1f}", f"{figures.peak:.0f}"
        rows.append([f"{title}, {way}", seconds, speed, peak, str(figures.commits)])
    rows.append([f"{title}, speed by LFS / bare loop", f"{compute_share(best):.2f}", "", "", ""])
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit status."""
    parser = make_parser(__doc__)
    files = "number of files of the first release (%(default)s)"
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
    rows = make_rows(f"{args.files} files", of_many, None)
    rows += make_rows("large files", of_large, args.megabytes)
    print(format_table([heads, *rows]))
    return 0 if is_good(of_many, False) and is_good(of_large, True) else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of publishing, against the loopback Hub in a process of its own; `check` is left out.

    python benchmarks/push.py [--files 2000] [--megabytes 1024] [--rounds 2]

A release of many small files, then one of large ones; the latter beside a bare loop that sends the same objects to the
same store with the same HTTP client, one after the other. The best round of each counts. Exit status 1: not one commit
each, on the LFS path a peak of 400 MB or more, or less than 0.75 of the loop's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
MAX_PEAK, MIN_SHARE = 400, 0.75  # MB, and of the bare loop's speed: what the project demands of itself
PUSH = """
import sys, time
from pathlib import Path
from mmrel_kit.hub.push import push
start = time.perf_counter()
push(Path(sys.argv[1]), "ns/MMRel", check=lambda root: [])
"""
LOOP = """
import json, sys, time
from pathlib import Path
from huggingface_hub.utils import get_session
root, store = Path(sys.argv[1]), sys.argv[2]
files = json.loads((root / "checksums.json").read_text())["files"]
client = get_session()
start = time.perf_counter()
for path, described in files.items():
    with (root / path).open("rb") as file:
        client.put(f"{store}/objects/{described['sha256']}", content=file).raise_for_status()
"""
REPORT = """
seconds = time.perf_counter() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(seconds, int(peak) / 1024)
"""


class Figures(NamedTuple):
    """Seconds, peak memory in MB, and commits made."""

    seconds: float
    peak: float
    commits: int


def write_release(root: Path, files: int, size: int) -> Path:
    """Write `files` archives of `size` random bytes each, a card, and checksums.json."""
    sys.path.insert(0, str(PROJECT))
    from mmrel_kit.files import INDEX, describe_file

    folder = root / "data" / "real"
    folder.mkdir(parents=True)
    (root / "README.md").write_text("---\n---\n")
    for number in range(files):
        with (folder / f"train-{number:05}.tar").open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(os.urandom(min(1 << 20, size - start)))
    listed = {path.relative_to(root).as_posix(): describe_file(path) for path in root.rglob("*") if path.is_file()}
    (root / INDEX).write_text(json.dumps({"name": "mmrel", "version": "1.0.0", "files": listed}))
    return root


@contextmanager
def running_hub(root: Path) -> Iterator[dict[str, str]]:
    """A Hub in a process of its own; yields its addresses and token."""
    program = [sys.executable, "-m", "tests.hub.loopback_hub", "--root", str(root)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, cwd=PROJECT, **pipes) as process:
        assert process.stdin and process.stdout
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def measure(code: str, release: Path, xet: bool = False) -> Figures:
    """Run a way of sending against a fresh Hub."""
    with tempfile.TemporaryDirectory(dir=release.parent) as name, running_hub(Path(name) / "hub") as hub:
        settings = {
            "HF_ENDPOINT": hub["endpoint"],
            "HF_TOKEN": hub["token"],
            "HF_HOME": name,
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": str(PROJECT),
        }
        command = [sys.executable, "-c", code + REPORT, str(release), hub["store"]]
        done = subprocess.run(command, env={**os.environ, **settings}, check=True, text=True, stdout=subprocess.PIPE)
        with urllib.request.urlopen(f"{hub['endpoint']}/_test/state", timeout=60) as answer:
            repos: dict[str, Any] = json.load(answer)["repos"]
        seconds, peak = map(float, done.stdout.split())
        return Figures(seconds, peak, sum(len(repo["commits"]) - 1 for repo in repos.values()))


def best(rounds: int, code: str, release: Path, xet: bool = False) -> Figures:
    """The fastest round, with the highest peak of all."""
    figures = [measure(code, release, xet) for _ in range(rounds)]
    return min(figures)._replace(peak=max(figure.peak for figure in figures))


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Speed and memory of publishing.")
    parser.add_argument("--files", type=int, default=2000, help="files of the first release")
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the second release, in files of 64 MB")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args(argv)
    ways = {"push, LFS": (PUSH, False), "push, Xet": (PUSH, True), "bare loop of PUTs": (LOOP, False)}
    failed = False
    print("| release | way | s | MB/s | peak MB | commits |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        many = write_release(Path(folder) / "many", args.files, 2000)
        large = write_release(Path(folder) / "large", args.megabytes // 64, 64 << 20)
        for title, release, megabytes in ((f"{args.files} files", many, 0), ("large files", large, args.megabytes)):
            found = {way: best(args.rounds, code, release, xet) for way, (code, xet) in ways.items()}
            for way, figures in found.items():
                speed = f"{megabytes / figures.seconds:.0f}" if megabytes else ""
                print(f"| {title} | {way} | {figures.seconds:.1f} | {speed} | {figures.peak:.0f} | {figures.commits} |")
            share = found["bare loop of PUTs"].seconds / found["push, LFS"].seconds
            print(f"| {title} | LFS speed / bare loop | {share:.2f} | | | |")
            failed |= found["push, LFS"].peak >= MAX_PEAK or bool(megabytes and share < MIN_SHARE)
            failed |= any(found[way].commits != 1 for way in ("push, LFS", "push, Xet"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

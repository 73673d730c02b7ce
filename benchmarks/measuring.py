# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: clocks, peak memory, turns and ratios, tables, and the stand-in Hub.

Imports the standard library and `mmrel_kit.files` only, so that it works in the peers' environment.
"""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent


# --- Clocks and memory ---


class Usage(NamedTuple):
    """What a process took, with peaks of memory in MiB."""

    seconds: float
    peak: float
    peak_of_children: float  # of the largest process that it started


def time_cpu(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the fewest processor seconds that a call takes, and its last result.

    Processor time and the best run, because other work disturbs both less.
    """
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def read_peak() -> int:
    """Return the peak memory of this process in KiB; Linux only.

    `ru_maxrss` would begin with the memory of the process that started this one.
    """
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError("/proc/self/status: expected a line VmHWM")
    return int(found[1])


def report_usage(start: float) -> None:
    """Print what this process took since `start`; `run_measured` reads it.

    Args:
        start: of `time.perf_counter`.
    """
    seconds = time.perf_counter() - start
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print("\n" + json.dumps(Usage(seconds, read_peak() / 1024, children / 1024)))


def run_python(code: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run Python code in a process of its own that finds this clone; return what it prints.

    Args:
        code: what to run.
        arguments: its `sys.argv[1:]`.
        environment: default: this process's.

    Raises:
        SystemExit: it failed; with the end of what it printed.
    """
    inherited = dict(os.environ) if environment is None else environment
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return done.stdout


def run_measured(
    code: str,
    *arguments: str,
    environment: dict[str, str] | None = None,
) -> tuple[Usage, str]:
    """Run code that ends with `report_usage`; return what it took and what it printed before.

    Raises:
        SystemExit: see `run_python`.
    """
    printed = run_python(code, *arguments, environment=environment)
    output, _, usage = printed.rstrip("\n").rpartition("\n")
    return Usage(*json.loads(usage)), output


# --- Paired runs ---


class Ratio(NamedTuple):
    """Ratios of paired runs."""

    median: float
    least: float
    most: float


def take_turns(names: Sequence[str], runs: int) -> Iterator[tuple[int, str]]:
    """Yield every name once a run, with the number of the run, from 0.

    Every second run goes backwards, so that a machine that slows down disturbs all alike.
    """
    for run in range(runs):
        order = names if run % 2 == 0 else list(reversed(names))
        for name in order:
            yield run, name


def compare_runs(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the ratios of runs that were made in the same turns."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


# --- Tables ---


def make_markdown(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    are_numbers: bool = False,
) -> str:
    """Return a table in Markdown.

    Args:
        heads: the first row.
        rows: the other rows.
        are_numbers: align all columns but the first to the right.
    """
    rule = ["---"] * len(heads)
    if are_numbers:
        rule[1:] = ["---:"] * (len(heads) - 1)
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (heads, rule, *rows))


# --- The stand-in Hub ---


class Traffic(NamedTuple):
    """What a Hub was asked, and the bytes of its answers."""

    requests: int
    sent: int


class Hub(NamedTuple):
    """The stand-in Hub of the tests, in a process of its own: its addresses and a write token."""

    endpoint: str
    store: str
    token: str

    def make_environment(self, home: Path, xet: bool = False) -> dict[str, str]:
        """Return the environment of a client that can reach no other Hub.

        Args:
            home: folder for the client's caches.
            xet: whether large files go by way of hf_xet.
        """
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("HF_", "HUGGING"))}
        settings = {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        }
        proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        settings.update(dict.fromkeys(proxies, self.endpoint))
        settings.update(dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"))
        return {**kept, **settings}

    def read_state(self) -> dict[str, Any]:
        """Return the Hub's repositories, and all requests that it got."""
        with urllib.request.urlopen(f"{self.endpoint}/_test/state", timeout=60) as answer:
            state: dict[str, Any] = json.load(answer)
        return state

    def count_traffic(self) -> Traffic:
        """Return what the Hub was asked until now, without this program's own questions."""
        asked = [entry for entry in self.read_state()["requests"] if entry["step"] != "test"]
        return Traffic(len(asked), sum(entry["sent"] for entry in asked))


@contextmanager
def start_hub(root: Path) -> Iterator[Hub]:
    """Start the stand-in Hub, and stop it in the end.

    Args:
        root: folder for its files.
    """
    command = [sys.executable, "-m", "tests.hub.loopback_hub", "--root", str(root)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        if process.stdin is None or process.stdout is None:
            raise OSError("expected pipes to the stand-in Hub")
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the stand-in Hub did not start")
        try:
            yield Hub(**json.loads(line))
        finally:
            process.stdin.close()

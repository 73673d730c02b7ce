# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the benchmarks: clocks, memory, paired runs, and stand-in servers.

Imports the standard library only, so that it works in the peers' environment too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parent.parent
Name = TypeVar("Name")
Result = TypeVar("Result")


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a program's docstring."""
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=doc, formatter_class=raw)


# --- Clocks and memory ---


class ResourceUsage(NamedTuple):
    """Usage of a process.

    Attributes:
        seconds: real time.
        peak: peak memory in MiB.
        peak_of_children: that of its largest child.
        cpu: CPU seconds, of the process and its children.
    """

    seconds: float
    peak: float
    peak_of_children: float
    cpu: float


def time_cpu(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the least CPU seconds that a call takes, and its last result.

    CPU time and the best run are disturbed least by other work.
    """
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def read_peak() -> int:
    """Return the peak memory of this process in KiB; Linux only.

    `ru_maxrss` would include the memory of the parent process.
    """
    match = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    if match is None:
        raise OSError("/proc/self/status: expected a line VmHWM")
    return int(match[1])


def report_usage(start: float) -> None:
    """Print the usage of this process since `start` of `time.perf_counter`, for `run_measured`."""
    seconds = time.perf_counter() - start
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() + children.ru_utime + children.ru_stime
    usage = ResourceUsage(seconds, read_peak() / 1024, children.ru_maxrss / 1024, cpu)
    print("\n" + json.dumps(usage))


def run_python(
    *arguments: str, python: str = sys.executable, environment: dict[str, str] | None = None
) -> str:
    """Run Python with `-c CODE` or `-m MODULE` in the clone; return its output.

    Raises:
        SystemExit: the process failed; the message is the end of its output.
    """
    env = {**(environment or os.environ), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, *arguments], cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        output = done.stdout[-2000:] + done.stderr[-2000:]
        raise SystemExit(f"{' '.join(arguments)[:200]} failed:\n{output}")
    return done.stdout


def run_measured(
    code: str,
    *arguments: str,
    python: str | None = None,
    environment: dict[str, str] | None = None,
) -> tuple[ResourceUsage, str]:
    """Run code that ends with `report_usage`; return its usage and its output before that.

    Raises:
        SystemExit: see `run_python`.
    """
    python = python or sys.executable
    printed = run_python("-c", code, *arguments, python=python, environment=environment)
    output, _, usage = printed.rstrip("\n").rpartition("\n")
    return ResourceUsage(*json.loads(usage)), output


# --- Paired runs ---


class Ratio(NamedTuple):
    """Ratios of paired runs."""

    median: float
    least: float
    most: float


def measure_in_turns(
    names: Sequence[Name], runs: int, measure: Callable[[Name], Result]
) -> dict[Name, list[Result]]:
    """Measure every name once per run, and return the results of each.

    Every second run goes backwards, so that a machine that slows down affects all names alike.
    """
    results: dict[Name, list[Result]] = {name: [] for name in names}
    for run in range(runs):
        order = names if run % 2 == 0 else list(reversed(names))
        for name in order:
            results[name].append(measure(name))
    return results


def compare_runs(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the ratios of paired runs."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


# --- Stand-in servers ---


class Traffic(NamedTuple):
    """Number of requests to a Hub, and bytes of its responses."""

    requests: int
    sent: int


class Hub(NamedTuple):
    """Addresses and write token of a running stand-in Hub, which is that of the tests."""

    endpoint: str
    store: str
    token: str

    def make_environment(self, home: Path, xet: bool = False) -> dict[str, str]:
        """Return the environment of a client with caches in `home` that reaches no other Hub."""
        names = [name for name in os.environ if not name.startswith(("HF_", "HUGGING"))]
        environment = {name: os.environ[name] for name in names}
        environment |= {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        }
        for proxy in ("HTTP_PROXY", "HTTPS_PROXY"):
            environment[proxy] = environment[proxy.lower()] = self.endpoint
        environment["NO_PROXY"] = environment["no_proxy"] = "127.0.0.1,localhost"
        return environment

    def read_state(self) -> dict[str, Any]:
        """Return the Hub's repositories, and all requests so far."""
        with urllib.request.urlopen(f"{self.endpoint}/_test/state", timeout=60) as response:
            state: dict[str, Any] = json.load(response)
        return state

    def count_traffic(self) -> Traffic:
        """Count the requests so far, without those of this program."""
        requests = [entry for entry in self.read_state()["requests"] if entry["step"] != "test"]
        return Traffic(len(requests), sum(entry["sent"] for entry in requests))


@contextmanager
def start_hub(root: Path) -> Iterator[Hub]:
    """Start a stand-in Hub with its files under `root`; stop it at the end."""
    with start_server("tests.hub.loopback_hub", "--root", str(root)) as printed:
        yield Hub(**printed)


@contextmanager
def start_server(*command: str) -> Iterator[dict[str, Any]]:
    """Run a module that serves until its standard input closes; return the JSON that it prints."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, text=True, **pipes
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise OSError("expected pipes to the server")
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{command[0]} did not start")
        try:
            yield json.loads(line)
        finally:
            process.stdin.close()

# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the benchmarks: processes, clocks, memory, paired runs, and stand-in servers.

Imports the standard library only, so that it works in the peers' environment too.
"""

from __future__ import annotations

import cProfile
import datetime
import json
import os
import platform
import pstats
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parent.parent
Name = TypeVar("Name")
Result = TypeVar("Result")
Number = TypeVar("Number", int, float)


PROFILED = 4  # number of functions in a profile
PACKAGES = ("datasets", "pyarrow", "pillow", "jsonschema-rs", "webdataset", "mosaicml-streaming")
VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
COMMAND = """
import sys, time
start = time.perf_counter()
from benchmarks.measuring import report_usage
from mmrel_kit import cli
code = cli.main(sys.argv[1:])
if code:
    sys.exit(code)
report_usage(start)
"""
PUBLISH = """
import sys
from huggingface_hub import HfApi
folder, repo_id, inside = sys.argv[1:]
api = HfApi()
api.create_repo(repo_id, repo_type="dataset")
where = {"repo_id": repo_id, "repo_type": "dataset", "path_in_repo": inside}
api.upload_folder(folder_path=folder, **where)
"""


class Setup(NamedTuple):
    """How to measure.

    Attributes:
        data: folder for drawn data, which the next run uses again.
        peers: Python of the peers' environment; None measures ours only.
        runs: number of paired runs.
        is_quick: whether to measure on little data, as a test.
        results: sections of results.json, which `hundredfold` reads.
    """

    data: Path
    peers: str | None
    runs: int
    is_quick: bool
    results: dict[str, Any]

    def choose(self, full: Number, quick: Number) -> Number:
        """Return the first number, or the second of a quick run."""
        return quick if self.is_quick else full


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def describe_machine(setup: Setup) -> dict[str, Any]:
    """Describe the machine and the versions, without names of hosts or folders."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.date.today().isoformat(),
        "runs": setup.runs,
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        "ours": find_versions(sys.executable),
        "peers": find_versions(setup.peers) if setup.peers else {},
    }


def find_versions(python: str) -> dict[str, str]:
    """Return the versions of the packages that are installed for a Python."""
    versions: dict[str, str] = json.loads(run_python("-c", VERSIONS, *PACKAGES, python=python))
    return versions


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


def read_cpu_of_children() -> float:
    """Return the CPU seconds of all children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def report_usage(start: float) -> None:
    """Print the usage of this process since `start` of `time.perf_counter`, for `run_measured`."""
    seconds = time.perf_counter() - start
    peak_of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    cpu = time.process_time() + read_cpu_of_children()
    usage = ResourceUsage(seconds, read_peak() / 1024, peak_of_children / 1024, cpu)
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


def run_command(
    *arguments: str, environment: dict[str, str] | None = None
) -> tuple[ResourceUsage, str]:
    """Run a verb of `mmrel`; return the usage of its process and its output."""
    return run_measured(COMMAND, *arguments, environment=environment)


def describe_slowest(profile: cProfile.Profile) -> str:
    """Return the functions with the most own time, and their shares of the total, in Markdown."""
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = {function: times[2] for function, times in stats.items()}
    total = sum(own.values())
    slowest = []
    for file, line, name in sorted(own, key=lambda function: -own[function])[:PROFILED]:
        # C functions have neither file nor line.
        label = f"{Path(file).stem}.{name}" if line else name
        slowest.append(f"`{label}` {own[file, line, name] / total:.0%}")
    return ", ".join(slowest)


# --- Paired runs ---


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
            start = time.perf_counter()
            results[name].append(measure(name))
            say(f"  run {run + 1}/{runs} {name}: {time.perf_counter() - start:.1f} s")
    return results


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

    def publish(self, folder: Path, repo_id: str, inside: str = "") -> None:
        """Upload a folder to a new repository, to its path `inside`."""
        with tempfile.TemporaryDirectory() as home:
            environment = self.make_environment(Path(home))
            run_python("-c", PUBLISH, str(folder), repo_id, inside, environment=environment)

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

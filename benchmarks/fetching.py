# SPDX-License-Identifier: Apache-2.0
"""Compare `mmrel fetch` with a bare loop of requests and with remotezip, on a loopback host.

    python -m venv PEER && PEER/bin/pip install remotezip==0.12.6
    PYTHONPATH=. python benchmarks/fetching.py --data /tmp/standin --remotezip PEER/bin/python

The stand-in of standin.py is drawn with `--padded 10`, unless it is there. Its host waits 30 ms
before each answer. The pictures come from three kinds of host:

* zips: Visual Genome's and SPEC's, out of three zip files by ranges;
* files: Visual Genome's, as single files below an address;
* Hub: DALL-E's, as files of a repository; each is a redirect to a signed address.

`mmrel fetch` is a process of its own, timed from its start to its end, with all its checks, and
every picture is compared afterwards. The bare loop sends the same requests with aiohttp over as
many connections, checks and writes nothing, and is timed from its first request on: its list of
addresses and ranges is read beforehand. remotezip reads 300 members one by one; its time for
opening the zip file does not count. They take turns within a run, with a new host each time. The
goal for the speed is about zip files, whose members have checksums; single files are decoded.

Exit status 1: a limit is not kept. `--quick` draws small pictures, on which only the number of
requests and the pictures themselves are checked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.loading_page import describe_spread
from benchmarks.measuring import (
    Hub,
    ResourceUsage,
    compare_runs,
    make_parser,
    measure_in_turns,
    run_measured,
    start_server,
)
from benchmarks.standin import make_standin
from mmrel_kit.files import format_markdown

JOBS = 16
LATENCY = 0.03  # seconds before each answer
PADDED = 10
REPOSITORY = "ns/standin"
MEMBERS = 300  # that remotezip reads
# Limits: bytes sent / bytes of the pictures; peak memory for the whole / for a tenth.
MAX_BYTES, MAX_GROWTH = 1.15, 1.15
MIN_REMOTEZIP = 5.0  # times its rate, in pictures a second

FETCH_CODE = """
import runpy, sys, time
from benchmarks.measuring import report_usage
start = time.perf_counter()
try:
    runpy.run_module("mmrel_kit.cli", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    if stop.code:
        raise
report_usage(start)
"""
BARE_CODE = """
import asyncio, json, sys, time
import aiohttp
from benchmarks.measuring import report_usage
wanted, jobs = json.load(open(sys.argv[1])), int(sys.argv[2])
queue = iter(wanted)
async def work(session):
    for url, range_ in queue:
        async with session.get(url, headers={"Range": range_} if range_ else {}) as response:
            await response.read()
async def main():
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=jobs)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(work(session) for _ in range(jobs)))
start = time.perf_counter()
asyncio.run(main())
report_usage(start)
"""
REMOTEZIP_CODE = """
import json, sys, time
from remotezip import RemoteZip
from benchmarks.measuring import report_usage
url, names = sys.argv[1], json.loads(sys.argv[2])
with RemoteZip(url) as archive:
    start = time.perf_counter()
    for name in names:
        archive.read(name)
    report_usage(start)
"""
USAGE_HEADS = ["host and way", "pictures", "s", "a second"]
USAGE_HEADS += ["CPU s", "MiB", "connections", "requests", "MB"]
LIMIT_HEADS = ["host and figure", "limit", "measured", "kept"]
LOCAL_HEADER = 30  # bytes before a member's name
ZIPS, FILES, HUB = HOSTS = ("zips", "files", "Hub")
FETCH, TENTH, BARE, REMOTEZIP = "mmrel fetch", "mmrel fetch, a tenth", "bare loop", "remotezip"


class HostedPicture(NamedTuple):
    """A picture on a host.

    Attributes:
        image_id: its path in MMRel.
        path: the path of its file on the host.
        range: its range in that file, None if it is all of it.
        size: its bytes there.
        crc: CRC-32 of the picture.
    """

    image_id: str
    path: str
    range: str | None
    size: int
    crc: int


class HostCase(NamedTuple):
    """Pictures on a host of a kind.

    Attributes:
        title: the kind.
        folder: the folder that is served.
        sources: the arguments of `--from`; {url} is the address of the host.
        pictures: all pictures of their domains.
        max_requests: the limit of requests per picture.
        min_bare: the least share of the bare loop's rate, None if there is no such goal.
    """

    title: str
    folder: Path
    sources: list[str]
    pictures: list[HostedPicture]
    max_requests: float
    min_bare: float | None = None


class FetchRun(NamedTuple):
    """A run: usage of the client's process, and what its host counted.

    Attributes:
        pictures: number of pictures.
        seconds: real time.
        cpu: CPU seconds.
        peak: peak memory in MiB.
        connections: connections to the host.
        requests: requests to the host.
        sent: bytes of the bodies that the host sent.
    """

    pictures: int
    seconds: float
    cpu: float
    peak: float
    connections: int
    requests: int
    sent: int

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures / self.seconds


# --- What is served ---


def list_cases(data: Path) -> list[HostCase]:
    """List the pictures of a stand-in by the host that serves them."""
    wanted = set()
    for path in sorted(data.glob("json/*.jsonl")):
        with open(path, "rb") as file:
            wanted |= {json.loads(line)["image"] for line in file}
    real = list_members(data / "images.zip", "vg/", wanted)
    real += list_members(data / "images2.zip", "vg/", wanted)
    sdxl = list_members(data / "data.zip", "SPEC/", wanted)
    zips = ["real={url}/images.zip", "real={url}/images2.zip", "sdxl={url}/data.zip"]
    files = data.with_name(f"{data.name}-files")
    unpack(data, files, real)
    single = [one._replace(path="/" + one.image_id.removeprefix("vg/"), range=None) for one in real]
    drawn = data / "Dall-E_generated"
    dalle = []
    for path in sorted(drawn.glob("*/*.png")):
        name = path.relative_to(drawn).as_posix()
        address = f"/datasets/{REPOSITORY}/resolve/main/{name}"
        content = path.read_bytes()
        image_id = f"{drawn.name}/{name}"
        dalle.append(HostedPicture(image_id, address, None, len(content), zlib.crc32(content)))
    return [
        HostCase(ZIPS, data, zips, real + sdxl, 1.1, min_bare=0.6),
        HostCase(FILES, files, ["real={url}"], single, 1.1),
        HostCase(HUB, drawn, [f"dalle=hf://datasets/{REPOSITORY}"], dalle, 2.1),
    ]


def list_members(path: Path, prefix: str, wanted: set[str]) -> list[HostedPicture]:
    """List the wanted members of a zip file; `prefix` is what image ids have before their names."""
    pictures = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            image_id = prefix + member.filename.removeprefix("data/")
            if image_id in wanted:
                start, size = member.header_offset, member.compress_size
                end = start + LOCAL_HEADER + len(member.filename) + size
                place = f"/{path.name}", f"bytes={start}-{end - 1}"
                pictures.append(HostedPicture(image_id, *place, size, member.CRC))
    return pictures


def unpack(data: Path, folder: Path, pictures: Sequence[HostedPicture]) -> None:
    """Unpack pictures out of a stand-in's zip files into a folder, unless it is there."""
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}.part")
    for name in ("images.zip", "images2.zip"):
        with zipfile.ZipFile(data / name) as archive:
            members = [one.image_id for one in pictures if one.path == f"/{name}"]
            archive.extractall(part, [member.removeprefix("vg/") for member in members])
    part.rename(folder)


# --- Runs ---


class Runner:
    """Run the ways of fetching the pictures of a case.

    Args:
        case: the case.
        data: the folder of the stand-in, whose questions are used.
        scratch: an empty folder for what is fetched.
        latency: seconds before each answer.
        remotezip: a Python with remotezip.
    """

    def __init__(
        self, case: HostCase, data: Path, scratch: Path, latency: float, remotezip: str | None
    ) -> None:
        self._case, self._scratch, self._remotezip = case, scratch, remotezip
        self._latency = latency
        self._questions = data / "json"
        self._tenth = scratch / "tenth.jsonl"
        wanted = {one.image_id for one in case.pictures[::10]}
        with open(self._tenth, "wb") as file:
            for path in sorted(self._questions.glob("*.jsonl")):
                lines = path.read_bytes().splitlines(keepends=True)
                file.writelines(line for line in lines if json.loads(line)["image"] in wanted)

    def run(self, way: str) -> FetchRun:
        """Run a way on a new host."""
        command = [str(self._case.folder), "--latency", str(self._latency)]
        if self._case.title == HUB:
            command += ["--repository", REPOSITORY]
        with start_server("tests.helpers.picture_host", *command) as addresses:
            url = addresses["url"]
            if way == BARE:
                usage, count = self._run_bare(url), len(self._case.pictures)
            elif way == REMOTEZIP:
                usage, count = self._run_remotezip(url), MEMBERS
            else:
                pictures = self._case.pictures[:: 10 if way == TENTH else 1]
                questions = self._tenth if way == TENTH else self._questions
                usage, count = self._run_fetch(url, questions, pictures), len(pictures)
            with urllib.request.urlopen(f"{url}/_test/state", timeout=60) as response:
                state = json.load(response)
        counts = [state[name] for name in ("connections", "requests", "sent")]
        return FetchRun(count, usage.seconds, usage.cpu, usage.peak, *counts)

    def _run_fetch(
        self, url: str, questions: Path, pictures: Sequence[HostedPicture]
    ) -> ResourceUsage:
        """Fetch pictures by the command, and compare them."""
        folder = self._scratch / "fetched"
        sources = [source.format(url=url) for source in self._case.sources]
        domains = sorted({source.partition("=")[0] for source in sources})
        command = ["fetch", str(folder), "--annotations", str(questions), "--domains", *domains]
        for source in sources:
            command += ["--from", source]
        # The command keeps to the Hub's limit of requests, which no other host has.
        endpoint = url if self._case.title == HUB else "http://127.0.0.1:9"
        environment = Hub(endpoint, url, "hf_benchmark").make_environment(self._scratch / "home")
        usage, _ = run_measured(FETCH_CODE, *command, "--jobs", str(JOBS), environment=environment)
        for one in pictures:
            if zlib.crc32((folder / one.image_id).read_bytes()) != one.crc:
                raise SystemExit(f"{one.image_id}: expected the picture of the stand-in")
        shutil.rmtree(folder)
        return usage

    def _run_bare(self, url: str) -> ResourceUsage:
        wanted = [(url + one.path, one.range) for one in self._case.pictures]
        addresses = self._scratch / "addresses.json"
        addresses.write_text(json.dumps(wanted))
        return run_measured(BARE_CODE, str(addresses), str(JOBS))[0]

    def _run_remotezip(self, url: str) -> ResourceUsage:
        first = self._case.pictures[:MEMBERS]
        names = [one.image_id.removeprefix("vg/") for one in first]
        arguments = (url + first[0].path, json.dumps(names))
        return run_measured(REMOTEZIP_CODE, *arguments, python=self._remotezip)[0]


# --- Reporting ---


class FetchLimit(NamedTuple):
    """A figure of a case, its limit, and whether it is kept."""

    title: str
    limit: str
    measured: str
    is_kept: bool = True


def make_rows(case: HostCase, runs: Mapping[str, Sequence[FetchRun]]) -> list[list[str]]:
    """Return a row of each way; seconds, CPU and memory are medians."""
    rows = []
    for way, results in runs.items():
        last = results[-1]
        rows.append(
            [
                f"{case.title}, {way}",
                f"{last.pictures:,}",
                f"{statistics.median(one.seconds for one in results):.1f}",
                describe_spread([one.rate for one in results]),
                f"{statistics.median(one.cpu for one in results):.1f}",
                f"{statistics.median(one.peak for one in results):.0f}",
                f"{last.connections:,}",
                f"{last.requests:,}",
                f"{last.sent / 1e6:,.1f}",
            ]
        )
    return rows


def check_limits(
    case: HostCase, runs: Mapping[str, Sequence[FetchRun]], are_small: bool
) -> list[FetchLimit]:
    """Compare the runs with the limits; few count for small pictures."""
    whole = runs[FETCH]
    requests = [one.requests / one.pictures for one in whole]
    limits = [check_most("requests per picture", requests, case.max_requests)]
    if not are_small:
        size = sum(one.size for one in case.pictures)
        sent = [one.sent / size for one in whole]
        limits.append(check_most("bytes sent / bytes needed", sent, MAX_BYTES))
        growth = [one.peak / tenth.peak for one, tenth in zip(whole, runs[TENTH], strict=True)]
        limits.append(check_most("peak memory / that for a tenth", growth, MAX_GROWTH))
        limits.append(check_rate("rate", whole, BARE, runs[BARE], case.min_bare))
        after = subtract_start(whole, runs[TENTH])
        limits.append(check_rate("rate after the start", after, BARE, runs[BARE], None))
        if REMOTEZIP in runs:
            peer = runs[REMOTEZIP]
            limits.append(check_rate("rate", whole, REMOTEZIP, peer, MIN_REMOTEZIP))
    return [limit._replace(title=f"{case.title}, {limit.title}") for limit in limits]


def check_most(title: str, values: Sequence[float], most: float) -> FetchLimit:
    """Compare the largest of the values with a limit."""
    return FetchLimit(title, f"at most {most}", f"{max(values):.3f}", max(values) <= most)


def subtract_start(whole: Sequence[FetchRun], tenth: Sequence[FetchRun]) -> list[FetchRun]:
    """Return paired runs without their start, which takes as long for a tenth of the pictures."""
    runs = []
    for one, start in zip(whole, tenth, strict=True):
        pictures, seconds = one.pictures - start.pictures, one.seconds - start.seconds
        runs.append(one._replace(pictures=pictures, seconds=max(0.001, seconds)))
    return runs


def check_rate(
    title: str,
    ours: Sequence[FetchRun],
    way: str,
    theirs: Sequence[FetchRun],
    least: float | None,
) -> FetchLimit:
    """Compare the ratio of the rates with a limit, if there is one."""
    ratio = compare_runs([one.rate for one in ours], [one.rate for one in theirs])
    measured = f"{ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f})"
    title = f"{title} / rate of {way}"
    if least is None:
        return FetchLimit(title, "", measured)
    return FetchLimit(title, f"at least {least}", measured, ratio.median >= least)


def make_cells(limit: FetchLimit) -> list[str]:
    """Return the row of a limit."""
    kept = ""
    if limit.limit:
        kept = "yes" if limit.is_kept else "**no**"
    return [limit.title, limit.limit, limit.measured, kept]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print two tables, and return the exit status."""
    parser = make_parser(__doc__)
    folder = "folder of the stand-in, which the next run uses again"
    parser.add_argument("--data", type=Path, help=folder)
    parser.add_argument("--remotezip", help="Python of an environment with remotezip")
    parser.add_argument("--runs", type=int, default=3, help="paired runs (%(default)s)")
    hosts = "kinds of host to measure (all)"
    parser.add_argument("--hosts", nargs="+", choices=HOSTS, default=HOSTS, help=hosts)
    quick = "one run with small pictures and a fast host, as a test"
    parser.add_argument("--quick", action="store_true", help=quick)
    args = parser.parse_args(argv)
    if not args.data and not args.quick:
        parser.error("expected --data FOLDER or --quick")
    if args.remotezip and os.sep in args.remotezip:
        # It runs in the clone. Keep a link, since it marks a virtual environment.
        args.remotezip = os.path.abspath(args.remotezip)
    rows, limits = [USAGE_HEADS], []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data: Path = (args.data or scratch / "standin").resolve()
        if not data.exists():
            make_standin(data, small=args.quick, padded=PADDED)
        for case in list_cases(data):
            if case.title not in args.hosts:
                continue
            runs = measure_case(case, data, scratch / case.title, args)
            rows += make_rows(case, runs)
            limits += check_limits(case, runs, args.quick)
    print(format_markdown(rows, "lrrrrrrrr"))
    print()
    print(format_markdown([LIMIT_HEADS, *map(make_cells, limits)], "llrl"))
    return 0 if all(one.is_kept for one in limits) else 1


def measure_case(
    case: HostCase, data: Path, scratch: Path, args: argparse.Namespace
) -> dict[str, list[FetchRun]]:
    """Run all ways of fetching the pictures of a case, in turns."""
    ways = [FETCH, BARE] if args.quick else [FETCH, TENTH, BARE]
    if args.remotezip and case.title == ZIPS:
        ways.append(REMOTEZIP)
    scratch.mkdir()
    latency = 0.0 if args.quick else LATENCY
    runner = Runner(case, data, scratch, latency, args.remotezip)
    return measure_in_turns(ways, 1 if args.quick else args.runs, runner.run)


if __name__ == "__main__":
    sys.exit(main())

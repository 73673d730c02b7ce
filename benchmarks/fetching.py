# SPDX-License-Identifier: Apache-2.0
"""Rate, requests and memory of `mmrel fetch`, beside a bare loop of requests and remotezip.

A host on the same machine waits 30 ms before each answer. It serves the stand-in of `building`,
with ten unneeded members for each picture in the zip files, as three kinds of host:

* zips: Visual Genome's and SPEC's pictures, out of three zip files of 8.8 GB by ranges;
* files: Visual Genome's, as single files below an address;
* Hub: DALL-E's, as files of a repository; each is a redirect to a signed address.

`mmrel fetch` is timed as a whole process, with all its checks: it reads 22,440 questions and three
directories before it requests the first picture; a tenth of the pictures shows the time of this
start. Every picture is compared afterwards. The bare loop sends the same requests with aiohttp over
as many connections, checks and writes nothing, and is timed from its first request on. remotezip
reads 300 members one by one. The bytes sent are those of the bodies.

Sixteen connections and 30 ms allow at most 533 requests a second. Single files have no published
checksum, so each is decoded, which takes 4 ms of CPU for a picture of Visual Genome; there is no
goal for their rate.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import (
    Hub,
    ResourceUsage,
    Setup,
    measure_in_turns,
    run_command,
    run_measured,
    start_server,
)
from benchmarks.results import Measurement, compare
from benchmarks.standin import make_standin

JOBS = 16
LATENCY = 0.03  # seconds before each answer
PADDED = 10
REPOSITORY = "ns/standin"
MEMBERS = 300  # that remotezip reads
MAX_RUNS = 3
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
LOCAL_HEADER = 30  # bytes before a member's name
ZIPS, FILES, HUB = ("zips", "files", "Hub")
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
        rate_goal: the goal for the share of the bare loop's rate; empty if there is none.
    """

    title: str
    folder: Path
    sources: list[str]
    pictures: list[HostedPicture]
    max_requests: float
    rate_goal: str = ""


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
        HostCase(ZIPS, data, zips, real + sdxl, 1.1, "at least 0.6"),
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
        usage, _ = run_command(*command, "--jobs", str(JOBS), environment=environment)
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


# --- Measurements ---


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield the figures of each way of fetching, and limits, for each kind of host."""
    data = setup.data / "padded"
    if not data.exists():
        make_standin(data, small=setup.is_quick, padded=PADDED)
    with tempfile.TemporaryDirectory() as name:
        for case in list_cases(data):
            runs = measure_case(case, data, Path(name) / case.title, setup)
            yield from check_limits(case, runs, setup.is_quick)
            for way, results in runs.items():
                yield from list_figures(f"{case.title}, {way}", results)


def measure_case(
    case: HostCase, data: Path, scratch: Path, setup: Setup
) -> dict[str, list[FetchRun]]:
    """Run all ways of fetching the pictures of a case, in turns."""
    ways = [FETCH, BARE] if setup.is_quick else [FETCH, TENTH, BARE]
    if setup.peers and not setup.is_quick and case.title == ZIPS:
        ways.append(REMOTEZIP)
    scratch.mkdir()
    runner = Runner(case, data, scratch, setup.choose(LATENCY, 0.0), setup.peers)
    return measure_in_turns(ways, min(setup.runs, MAX_RUNS), runner.run)


def list_figures(case: str, runs: Sequence[FetchRun]) -> Iterator[Measurement]:
    """Yield all figures of a way."""
    yield Measurement(case, "pictures", [runs[-1].pictures])
    yield Measurement(case, "time", [run.seconds for run in runs], "s")
    yield Measurement(case, "rate", [run.rate for run in runs], "pictures/s")
    yield Measurement(case, "CPU time", [run.cpu for run in runs], "s")
    yield Measurement(case, "peak", [run.peak for run in runs], "MiB")
    yield Measurement(case, "connections", [runs[-1].connections])
    yield Measurement(case, "requests", [runs[-1].requests])
    yield Measurement(case, "sent", [run.sent / 1e6 for run in runs], "MB")


def check_limits(
    case: HostCase, runs: Mapping[str, Sequence[FetchRun]], are_small: bool
) -> Iterator[Measurement]:
    """Compare the runs with the limits; few count for small pictures."""
    whole = runs[FETCH]
    requests = [one.requests / one.pictures for one in whole]
    goal = f"at most {case.max_requests}"
    yield Measurement(f"{case.title}, mmrel fetch", "requests per picture", requests, goal=goal)
    if are_small:
        return
    size = sum(one.size for one in case.pictures)
    sent = [one.sent / size for one in whole]
    title = f"{case.title}, bytes sent / bytes needed"
    yield Measurement(title, "bytes", sent, goal="at most 1.15")
    tenth = runs[TENTH]
    peaks = [one.peak for one in whole], [one.peak for one in tenth]
    title = f"{case.title}, mmrel fetch / a tenth of the pictures"
    yield compare(title, "peak", *peaks, "a tenth of the pictures", "at most 1.15")
    yield compare_rates(case, "rate", whole, BARE, runs[BARE], case.rate_goal)
    after = subtract_start(whole, tenth)
    yield compare_rates(case, "rate after the start", after, BARE, runs[BARE], "")
    if REMOTEZIP in runs:
        yield compare_rates(case, "rate", whole, REMOTEZIP, runs[REMOTEZIP], "at least 5")


def subtract_start(whole: Sequence[FetchRun], tenth: Sequence[FetchRun]) -> list[FetchRun]:
    """Return paired runs without their start, which takes as long for a tenth of the pictures."""
    runs = []
    for one, start in zip(whole, tenth, strict=True):
        pictures, seconds = one.pictures - start.pictures, one.seconds - start.seconds
        runs.append(one._replace(pictures=pictures, seconds=max(0.001, seconds)))
    return runs


def compare_rates(
    case: HostCase,
    figure: str,
    ours: Sequence[FetchRun],
    way: str,
    theirs: Sequence[FetchRun],
    goal: str,
) -> Measurement:
    """Compare the rates of two ways."""
    rates = [one.rate for one in ours], [one.rate for one in theirs]
    return compare(f"{case.title}, mmrel fetch / {way}", figure, *rates, way, goal)

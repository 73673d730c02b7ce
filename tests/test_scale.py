"""Builds at any size: killed at any moment, in several processes or shares, in constant memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import upload
from benchmarks.standin import make_standin
from mmrel_kit.build import shards
from mmrel_kit.build.job import Job, build_release, build_share, finish_release
from mmrel_kit.check.release import check_release
from mmrel_kit.files import InputError, Share
from mmrel_kit.pictures.sources import PictureFolder, PictureSources
from tests.conftest import make_sources
from tests.helpers.folders import snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL_SHARDS = 3000  # bytes of pictures
# A build in a process of its own. It prints the peak memory in KiB, its own or that of a worker,
# whichever is larger. Its own is not taken from getrusage, which counts from the process that
# started it.
BUILD = """
import json, re, resource, sys
from pathlib import Path
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.pictures.sources import PictureSources
folder, images, out, shard_bytes, workers = json.loads(sys.argv[1])
job = Job([Path(folder) / "json"], PictureSources(images), Path(out), shard_bytes=shard_bytes)
build_release(job, workers)
own = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


def start(
    folder: Path, images: Sequence[str], out: Path, shard_bytes: int, workers: int = 1
) -> subprocess.Popen[str]:
    arguments = json.dumps([str(folder), list(images), str(out), shard_bytes, workers])
    command = [sys.executable, "-c", BUILD, arguments]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a build and nothing else: its workers have to notice by themselves."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


class Killed(BaseException):
    """Stands for a kill in a test that stays in one process: nothing catches it."""


@pytest.fixture
def calm(sources: Path) -> dict[str, bytes]:
    """What an undisturbed build gives."""
    out = sources.parent / "calm"
    if not out.exists():
        build_release(
            Job([sources / "json"], PictureFolder(sources), out, shard_bytes=SMALL_SHARDS)
        )
    return snapshot(out)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moments=st.lists(st.integers(0, 40), min_size=1, max_size=3))
def test_a_build_stopped_at_any_step_goes_on(
    sources: Path,
    calm: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    moments: list[int],
) -> None:
    # Every step ends in os.replace or os.rename: stop before the nth of them, or right after it.
    out = tmp_path_factory.mktemp("stopped") / "out"
    for moment in moments:
        with pytest.MonkeyPatch.context() as patch:
            left = iter(range(moment))

            def stop(name: str, *paths: Path, left: object = left, real: object = None) -> None:
                if next(left, None) is None:  # type: ignore[call-overload]
                    raise Killed(name)
                real(*paths)  # type: ignore[operator]

            for name in ("replace", "rename"):
                real = getattr(os, name)
                patch.setattr(
                    os, name, lambda *paths, name=name, real=real: stop(name, *paths, real=real)
                )
            with contextlib.suppress(Killed):
                build_release(
                    Job([sources / "json"], PictureFolder(sources), out, shard_bytes=SMALL_SHARDS)
                )
    build_release(Job([sources / "json"], PictureFolder(sources), out, shard_bytes=SMALL_SHARDS))
    assert snapshot(out) == calm
    assert not list(out.parent.glob("out.*"))


def test_a_killed_build_goes_on(sources: Path, calm: dict[str, bytes], tmp_path: Path) -> None:
    for number, wait in enumerate((0.0, 0.5, 1.2)):
        out = tmp_path / f"out{number}"
        process = start(sources, [str(sources)], out, SMALL_SHARDS)
        deadline = time.monotonic() + 30
        while not out.with_name(out.name + ".partial").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(wait * random.Random(number).random())
        kill(process)
        build_release(
            Job([sources / "json"], PictureFolder(sources), out, shard_bytes=SMALL_SHARDS)
        )
        assert snapshot(out) == calm


def note_tables(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that grows by the path of each table that is written."""
    written: list[Path] = []
    real = shards.TableWriter

    def write(path: Path) -> shards.TableWriter:
        written.append(path)
        return real(path)

    monkeypatch.setattr(shards, "TableWriter", write)
    return written


def test_finished_shards_are_not_written_again(
    sources: Path, calm: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = note_tables(monkeypatch)
    job = Job(
        [sources / "json"], PictureFolder(sources), tmp_path / "out", shard_bytes=SMALL_SHARDS
    )
    parts = build_share(job, Share(1, 2))
    assert len(written) == len(parts) > 2
    build_share(job, Share(1, 2))
    assert len(written) == len(parts)
    build_release(
        Job([sources / "json"], PictureFolder(sources), tmp_path / "out", shard_bytes=SMALL_SHARDS)
    )
    assert len(written) == sum(name.endswith(".tar") for name in calm)
    assert snapshot(tmp_path / "out") == calm


def test_a_bad_picture_costs_its_own_shard_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sources(tmp_path / "sources")
    bad = folder / "vg" / "VG_100K" / "20.jpg"
    good = bad.read_bytes()
    bad.write_bytes(good[:-300])
    job = Job([folder / "json"], PictureFolder(folder), tmp_path / "out", shard_bytes=SMALL_SHARDS)
    with pytest.raises(
        InputError, match=r"test.jsonl:\d+: picture 'vg/VG_100K/20.jpg': expected a whole"
    ):
        build_release(job)
    assert not (tmp_path / "out").exists()
    written = note_tables(monkeypatch)
    bad.write_bytes(good)
    build_release(job)
    assert len(written) <= 3  # its own, and those after it whose cut the other size moved
    assert check_release(tmp_path / "out") == []


def test_a_picture_that_changes_while_a_build_is_stopped(tmp_path: Path) -> None:
    folder = make_sources(tmp_path / "sources")
    job = Job([folder / "json"], PictureFolder(folder), tmp_path / "out", shard_bytes=SMALL_SHARDS)
    build_share(job, Share(1, 2))
    changed = folder / "vg" / "VG_100K" / "0.jpg"
    Image.new("RGB", (20, 20), "red").save(changed)
    build_share(job, Share(1, 2))
    build_share(job, Share(2, 2))
    finish_release(tmp_path / "out")
    build_release(
        Job([folder / "json"], PictureFolder(folder), tmp_path / "new", shard_bytes=SMALL_SHARDS)
    )
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "new")


def test_workers_give_the_same_bytes(sources: Path, calm: dict[str, bytes], tmp_path: Path) -> None:
    job = Job(
        [sources / "json"], PictureFolder(sources), tmp_path / "out", shard_bytes=SMALL_SHARDS
    )
    build_release(job, workers=2)
    assert snapshot(tmp_path / "out") == calm


def test_shares_and_finish(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--annotations",
        str(sources / "json"),
        "--images",
        str(sources),
        "--out",
        str(tmp_path / "out"),
    ]
    assert upload.main(["build", *arguments, "--shard", "2/3"]) == 0
    assert upload.main(["finish", "--out", str(tmp_path / "out")]) == 1
    assert (
        "expected all shards, 4 of 6 are missing, dalle-adversarial-00000"
        in capsys.readouterr().err
    )
    for share in ("1/3", "3/3", "1/3"):
        assert upload.main(["build", *arguments, "--shard", share]) == 0
    assert upload.main(["finish", "--out", str(tmp_path / "out")]) == 0
    assert upload.main(["build", *arguments[:-1], str(tmp_path / "whole")]) == 0
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    with pytest.raises(SystemExit):
        upload.main(["build", *arguments, "--shard", "4/3"])
    assert "expected I/N with 1 <= I <= N, such as 3/64, got '4/3'" in capsys.readouterr().err
    assert upload.main(["finish", "--out", str(tmp_path / "nothing")]) == 1
    assert "expected the plan of a build, got none" in capsys.readouterr().err


def test_workers_end_when_their_parent_is_killed(sources: Path, tmp_path: Path) -> None:
    process = start(sources, [str(sources)], tmp_path / "out", 100, workers=2)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out.partial/parts/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = list_group(process.pid) - {process.pid}
    kill(process)
    assert workers
    while workers & list_group(process.pid):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)


def list_group(group: int) -> set[int]:
    """Processes of a session that still run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, session = rest.split()[:4]
        if int(session) == group and state != "Z":
            found.add(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The stand-in of the whole benchmark on small pictures, and its sources."""
    folder = tmp_path_factory.mktemp("single")
    return folder, make_standin(folder, small=True)


@pytest.mark.scale
class TestScale:
    """The whole benchmark's number of questions, and ten times that, on small pictures; minutes."""

    SHARD_BYTES = 1 << 18

    def test_memory_does_not_grow(self, single: tuple[Path, list[str]], tmp_path: Path) -> None:
        images = make_standin(tmp_path / "tenfold", copies=10, small=True)
        peaks = []
        for (folder, places), size in ((single, 1), ((tmp_path / "tenfold", images), 10)):
            out = tmp_path / f"out{size}"
            process = start(folder, places, out, self.SHARD_BYTES, workers=2)
            peaks.append(int(process.communicate()[0]))
            lines = sum(path.read_bytes().count(b"\n") for path in out.glob("data/*/*.jsonl"))
            assert lines == size * 22_440
        print(f"peak KiB: {peaks}")
        assert peaks[1] < peaks[0] * 1.10

    def test_killed_at_twenty_moments(self, single: tuple[Path, list[str]], tmp_path: Path) -> None:
        folder, images = single
        begun = time.monotonic()
        start(folder, images, tmp_path / "calm", self.SHARD_BYTES, workers=2).communicate()
        takes = time.monotonic() - begun
        expected = snapshot(tmp_path / "calm")
        rng = random.Random(5)
        killed = 0
        for trial in range(20):
            out = (
                tmp_path / f"out{trial % 4}"
            )  # what was killed goes on from trial to trial, four builds in turn
            process = start(folder, images, out, self.SHARD_BYTES, workers=2)
            try:
                process.communicate(timeout=rng.uniform(0.2, 1.0) * takes * 0.5)
            except subprocess.TimeoutExpired:
                kill(process)
                killed += 1
        for number in range(4):
            out = tmp_path / f"out{number}"
            build_release(
                Job([folder / "json"], PictureSources(images), out, shard_bytes=self.SHARD_BYTES)
            )
            assert snapshot(out) == expected
            assert not list(tmp_path.glob(f"out{number}.*"))
        print(f"{killed} builds were killed, a whole one takes {takes:.1f} s")
        assert killed >= 12

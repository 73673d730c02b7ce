"""Builds that are killed, run in several processes or in shares, and need constant memory."""

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
from mmrel_kit.sources.local import PictureFolder
from mmrel_kit.sources.opening import PictureSources
from tests.conftest import REPOSITORY, make_sources
from tests.helpers.folders import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


SMALL_SHARDS = 3000  # bytes of pictures
# A build in another process. It prints its peak memory in KiB, or that of a worker where that is
# larger. Its own peak is not that of getrusage, which includes the process that started it.
BUILD = """
import json, re, resource, sys
from pathlib import Path
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.sources.opening import PictureSources
folder, images, out, shard_bytes, workers = json.loads(sys.argv[1])
job = Job([Path(folder) / "json"], PictureSources(images), Path(out), shard_bytes=shard_bytes)
build_release(job, workers)
own = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


# Reads annotation files into a table of questions in another process. It prints its peak memory in
# KiB, its seconds, and the numbers of questions and of conversations that are left out by reason.
READ = """
import json, re, sys, time
from pathlib import Path
from mmrel_kit.questions.annotations import read_annotations
from mmrel_kit.questions.table import QuestionTable
from mmrel_kit.questions.wordings import Wordings
table = QuestionTable(Path(sys.argv[2]))
begun, wordings = time.monotonic(), Wordings()
left_out = table.add(read_annotations([Path(sys.argv[1])], wordings=wordings))
seconds = time.monotonic() - begun
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps([peak, seconds, table.count_questions(), left_out, wordings.total]))
"""


def start(
    folder: Path, images: Sequence[str], out: Path, shard_bytes: int, workers: int = 1
) -> subprocess.Popen[str]:
    """Start a build in another process."""
    arguments = json.dumps([str(folder), list(images), str(out), shard_bytes, workers])
    command = [sys.executable, "-c", BUILD, arguments]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a build, but not its workers."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


class Killed(BaseException):
    """A simulated kill, which no code catches."""


class KillAfter:
    """Replaces os.replace and os.rename, and raises `Killed` after some calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def wrap(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return a function that is killed or calls another one."""

        def call(*paths: Path) -> None:
            if self.left == 0:
                raise Killed
            self.left -= 1
            function(*paths)

        return call


def make_job(sources: Path, out: Path) -> Job:
    """Return a build of small shards."""
    return Job([sources / "json"], PictureFolder(sources), out, shard_bytes=SMALL_SHARDS)


@pytest.fixture
def undisturbed(sources: Path) -> dict[str, bytes]:
    """The files of an undisturbed build."""
    out = sources.parent / "undisturbed"
    if not out.exists():
        build_release(make_job(sources, out))
    return snapshot(out)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moments=st.lists(st.integers(0, 40), min_size=1, max_size=3))
def test_a_build_killed_at_any_step_resumes(
    sources: Path,
    undisturbed: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    moments: list[int],
) -> None:
    # Every step ends with os.replace or os.rename; the build is killed before one of them.
    out = tmp_path_factory.mktemp("killed") / "out"
    for moment in moments:
        killer = KillAfter(moment)
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "replace", killer.wrap(os.replace))
            patch.setattr(os, "rename", killer.wrap(os.rename))
            build_release(make_job(sources, out))
    build_release(make_job(sources, out))
    assert snapshot(out) == undisturbed
    assert not list(out.parent.glob("out.*"))


def test_a_killed_build_resumes(
    sources: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    for number, wait in enumerate((0.0, 0.5, 1.2)):
        out = tmp_path / f"out{number}"
        process = start(sources, [str(sources)], out, SMALL_SHARDS)
        deadline = time.monotonic() + 30
        while not out.with_name(out.name + ".partial").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(wait * random.Random(number).random())
        kill(process)
        build_release(make_job(sources, out))
        assert snapshot(out) == undisturbed


def record_tables(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list to which the path of each table is added when it is written."""
    written: list[Path] = []
    real = shards.TableWriter

    def write(path: Path) -> shards.TableWriter:
        written.append(path)
        return real(path)

    monkeypatch.setattr(shards, "TableWriter", write)
    return written


def test_finished_shards_are_not_written_again(
    sources: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = record_tables(monkeypatch)
    job = make_job(sources, tmp_path / "out")
    parts = build_share(job, Share(1, 2))
    assert len(written) == len(parts) > 2
    build_share(job, Share(1, 2))
    assert len(written) == len(parts)
    build_release(make_job(sources, tmp_path / "out"))
    assert len(written) == sum(name.endswith(".tar") for name in undisturbed)
    assert snapshot(tmp_path / "out") == undisturbed


def test_after_a_bad_picture_few_shards_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sources(tmp_path / "sources")
    bad = folder / "vg" / "VG_100K" / "20.jpg"
    good = bad.read_bytes()
    bad.write_bytes(good[:-300])
    job = make_job(folder, tmp_path / "out")
    expected = r"test.jsonl:\d+: picture 'vg/VG_100K/20.jpg': expected a complete"
    with pytest.raises(InputError, match=expected):
        build_release(job)
    assert not (tmp_path / "out").exists()
    written = record_tables(monkeypatch)
    bad.write_bytes(good)
    build_release(job)
    assert len(written) <= 3  # its own shard, and later ones that end at another picture now
    assert check_release(tmp_path / "out") == []


def test_a_picture_that_changes_between_two_runs_is_read_again(tmp_path: Path) -> None:
    folder = make_sources(tmp_path / "sources")
    job = make_job(folder, tmp_path / "out")
    build_share(job, Share(1, 2))
    changed = folder / "vg" / "VG_100K" / "0.jpg"
    Image.new("RGB", (20, 20), "red").save(changed)
    build_share(job, Share(1, 2))
    build_share(job, Share(2, 2))
    finish_release(tmp_path / "out")
    build_release(make_job(folder, tmp_path / "new"))
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "new")


def test_several_workers_give_the_same_bytes(
    sources: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    build_release(make_job(sources, tmp_path / "out"), workers=2)
    assert snapshot(tmp_path / "out") == undisturbed


def test_shares_are_joined_by_finish(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--annotations", str(sources / "json"), "--images", str(sources)]
    arguments += ["--out", str(tmp_path / "out")]
    assert upload.main(["build", *arguments, "--shard", "2/3"]) == 0
    assert upload.main(["finish", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "expected all shards, 4 of 6 are missing, dalle-adversarial-00000" in error
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
    """Return the processes of a session that still run."""
    processes = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, session = rest.split()[:4]
        if int(session) == group and state != "Z":
            processes.add(int(path.parent.name))
    return processes


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A stand-in of the whole benchmark with small pictures: its folder and its picture sources."""
    folder = tmp_path_factory.mktemp("single")
    return folder, make_standin(folder, small=True)


@pytest.mark.scale
class TestScale:
    """Builds of as many questions as the benchmark has, and ten times as many; takes minutes."""

    SHARD_BYTES = 1 << 18

    def test_memory_does_not_grow(self, single: tuple[Path, list[str]], tmp_path: Path) -> None:
        tenfold = tmp_path / "tenfold"
        images = make_standin(tenfold, copies=10, small=True)
        peak = self.measure_peak(*single, tmp_path / "out1", questions=22_440)
        peak_tenfold = self.measure_peak(tenfold, images, tmp_path / "out10", questions=224_400)
        print(f"peak KiB: {peak}, {peak_tenfold}")
        assert peak_tenfold < peak * 1.10

    def test_memory_of_the_fine_tuning_file(self, tmp_path: Path) -> None:
        # 423 MB as upstream's, one array on one line: 8.7 s and 154 MiB, of which the imports of
        # the modules take 144 MiB; 153 MiB with a tenth of it.
        peaks = []
        for size in (42_300_000, 423_000_000):
            path = tmp_path / "Fine-tuning_data.json"
            expected = self.draw_conversations(path, size)
            command = [sys.executable, "-c", READ, str(path), str(tmp_path / "table.sqlite")]
            done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)
            peak, seconds, *counts = json.loads(done.stdout)
            print(f"{path.stat().st_size / 1e6:.0f} MB: {peak} KiB, {seconds:.1f} s, {counts}")
            assert counts == expected
            peaks.append(peak)
        assert peaks[1] < peaks[0] * 1.10

    def draw_conversations(self, path: Path, size: int) -> list[object]:
        """Write an array of conversations of a size; return what `READ` prints of its questions.

        Of ten conversations one is about a question of MMRel's, one about regions of a picture of
        Visual Genome, and eight about other pictures or none.
        """
        rng = random.Random(5)
        words = ("a", "the", "dog", "cup", "image", "shows", "people", "table", "left", "near")
        tens = 0
        with open(path, "w", encoding="utf-8") as file:
            file.write("[")
            while file.tell() < size:
                file.write(", " * (tens > 0))
                question = f"Does a man ride a horse{tens} in the image?"
                turns = [[f"<image>\n{question} Please answer with one word.", "Yes"]]
                asked = [{"id": tens, "image": f"vg/VG_100K/{tens}.jpg", "turns": turns}]
                region = ["Give a short description of this region: [0.1, 0.25].", "a red cup"]
                asked.append({"id": tens, "image": f"vg/VG_100K_2/{tens}.jpg", "turns": [region]})
                for number in range(8):
                    turns = [
                        [" ".join(rng.choices(words, k=20)), " ".join(rng.choices(words, k=80))]
                    ] * (1 + number)
                    asked.append({"id": f"{tens}", "image": f"coco/{tens}.jpg", "turns": turns})
                del asked[-1]["image"]
                for value in asked:
                    value["conversations"] = [
                        {"from": role, "value": text}
                        for turn in value.pop("turns")
                        for role, text in zip(("human", "gpt"), turn, strict=True)
                    ]
                file.write(json.dumps(asked)[1:-1])
                tens += 1
            file.write("]")
        return [tens, {"other picture": 8 * tens, "no category": tens}, tens]

    def measure_peak(self, folder: Path, images: list[str], out: Path, questions: int) -> int:
        """Return the peak memory of a build in KiB, and check the number of its records."""
        process = start(folder, images, out, self.SHARD_BYTES, workers=2)
        peak = int(process.communicate()[0])
        records = sum(path.read_bytes().count(b"\n") for path in out.glob("data/*/*.jsonl"))
        assert records == questions
        return peak

    def test_builds_killed_at_twenty_moments_resume(
        self, single: tuple[Path, list[str]], tmp_path: Path
    ) -> None:
        folder, images = single
        begun = time.monotonic()
        start(folder, images, tmp_path / "undisturbed", self.SHARD_BYTES, workers=2).communicate()
        seconds = time.monotonic() - begun
        expected = snapshot(tmp_path / "undisturbed")
        rng = random.Random(5)
        killed = 0
        for trial in range(20):
            out = tmp_path / f"out{trial % 4}"  # each of four builds is killed several times
            process = start(folder, images, out, self.SHARD_BYTES, workers=2)
            try:
                process.communicate(timeout=rng.uniform(0.2, 1.0) * seconds * 0.5)
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
        print(f"{killed} builds were killed; an undisturbed one takes {seconds:.1f} s")
        assert killed >= 12

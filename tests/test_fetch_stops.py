"""A fetch that is killed, interrupted, out of disk, or not alone."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mmrel_kit import cli
from mmrel_kit.sources import fetching
from tests.helpers.fetching import KINDS, fetch, list_kind, list_pictures, name_sources
from tests.helpers.picture_host import PictureHost

KILLS = 20


# The imports of the command take seconds; a process that is forked after them starts at once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.test_fetch_stops", "mmrel_kit.commands.fetch"])


def run_command(arguments: list[str], output: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(output, "w") as file:
        sys.stdout = sys.stderr = file
        status = cli.main(arguments)
    sys.exit(status)


class Fetch:
    """A `mmrel fetch` in a process of its own."""

    def __init__(self, folder: Path, sources: Path, arguments: list[str]) -> None:
        self.output = folder.with_name(f"{folder.name}.{random.getrandbits(60):x}.txt")
        command = ["fetch", str(folder), "--annotations", str(sources / "json"), *arguments]
        self.process = FORKS.Process(target=run_command, args=(command, self.output))
        self.process.start()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once a condition holds, or the process has ended."""
        while not condition() and self.process.is_alive():
            time.sleep(0.002)

    def end(self) -> tuple[int | None, str]:
        """Wait for the end; return the exit status and the output."""
        self.process.join()
        return self.process.exitcode, self.output.read_text() if self.output.exists() else ""


def count_pictures(folder: Path) -> int:
    return sum(path.suffix in (".jpg", ".png") for path in folder.rglob("*"))


@pytest.mark.fetch
@pytest.mark.parametrize("name", ["files", "zip"])
def test_kill_9_at_random_moments(served: Path, sources: Path, tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    expected = list_kind(sources, kind)
    chance = random.Random(name)
    jobs, kills = 2, 0

    def has_begun(asked: int, pictures: int) -> bool:
        return len(host.requests) > asked and count_pictures(tmp_path / "got") >= pictures

    with PictureHost(served, latency=0.02) as host:
        arguments = [*name_sources(host, kind), "--jobs", str(jobs)]
        for number in range(KILLS):
            run = Fetch(tmp_path / "got", sources, arguments)
            asked = len(host.requests)
            # Later kills come after more pictures, so that all come before the end.
            pictures = number * len(expected) // (2 * KILLS)
            run.wait_for(lambda: has_begun(asked, pictures))  # noqa: B023
            time.sleep(chance.uniform(0, 0.05))
            run.process.kill()
            status, _ = run.end()
            kills += status == -signal.SIGKILL
            for path, data in list_pictures(tmp_path / "got").items():
                assert path.endswith(".tmp") or data == expected[path]
        status, printed = Fetch(tmp_path / "got", sources, arguments).end()
    assert status == 0, printed
    assert kills >= KILLS // 2
    assert list_pictures(tmp_path / "got") == expected
    lines = (tmp_path / "got" / "fetched.jsonl").read_text().splitlines()
    assert {json.loads(line)["image_id"] for line in lines} == set(expected)
    # Each picture is sent once, but for those in flight at a kill.
    if name == "files":
        sent = Counter(entry.path for entry in host.requests if entry.status == 200)
        assert sum(sent.values()) - len(sent) <= kills * jobs


def test_ctrl_c_is_one_line(served: Path, sources: Path, tmp_path: Path) -> None:
    kind = KINDS["files"]
    with PictureHost(served, latency=0.2) as host:
        arguments = [*name_sources(host, kind), "--jobs", "1"]
        run = Fetch(tmp_path / "got", sources, arguments)
        run.wait_for(lambda: count_pictures(tmp_path / "got") > 1)
        assert run.process.pid
        os.kill(run.process.pid, signal.SIGINT)
        status, printed = run.end()
    assert status == 130
    stopped = "mmrel fetch: stopped; what has arrived is kept; the same command fetches the rest"
    assert printed.splitlines()[-1] == stopped
    assert not list((tmp_path / "got").rglob("*.tmp"))


def test_a_full_disk(
    host: PictureHost, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr(fetching, "write_bytes", write)
    arguments = name_sources(host, KINDS["zip"])
    assert fetch(tmp_path / "got", sources, *arguments) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert len(list_pictures(tmp_path / "got")) == 5
    monkeypatch.undo()
    assert fetch(tmp_path / "got", sources, *arguments) == 0
    assert list_pictures(tmp_path / "got") == list_kind(sources, KINDS["zip"])


def test_no_room_for_the_pictures(
    host: PictureHost, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    assert fetch(tmp_path / "got", sources, *name_sources(host, KINDS["zip"])) == 1
    assert "GB of free disk, got 0.00; make room" in capsys.readouterr().err
    assert not (tmp_path / "got").exists()


def test_two_at_once(served: Path, sources: Path, tmp_path: Path) -> None:
    kind = KINDS["files"]
    with PictureHost(served, latency=0.05) as host:
        arguments = [*name_sources(host, kind), "--jobs", "2"]
        for run in [Fetch(tmp_path / "got", sources, arguments) for _ in range(2)]:
            status, printed = run.end()
            assert status == 0, printed
    assert list_pictures(tmp_path / "got") == list_kind(sources, kind)
    for line in (tmp_path / "got" / "fetched.jsonl").read_text().splitlines():
        assert json.loads(line)["size"] > 0


def test_a_picture_that_lost_bytes_is_fetched_again(
    host: PictureHost, sources: Path, tmp_path: Path
) -> None:
    # As after a power failure.
    expected = list_kind(sources, KINDS["files"])
    arguments = name_sources(host, KINDS["files"])
    assert fetch(tmp_path / "got", sources, *arguments) == 0
    (tmp_path / "got" / next(iter(expected))).write_bytes(b"")
    with open(tmp_path / "got" / "fetched.jsonl", "a") as manifest:
        manifest.write('{"half a li')
    assert fetch(tmp_path / "got", sources, *arguments) == 0
    assert list_pictures(tmp_path / "got") == expected

# SPDX-License-Identifier: Apache-2.0
"""Tasks in several processes: order, errors, processes that are killed; and `check` with them."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

import upload
from mmrel_kit.check.release import check_release
from mmrel_kit.check.splits import SplitPart
from mmrel_kit.files import InputError
from mmrel_kit.workers import run_tasks
from tests.helpers.edit_release import edit_record


def add(one: int, other: int) -> int:
    """Add two numbers; the larger the second, the sooner."""
    time.sleep(0.05 * (3 - other))
    return one + other


def refuse(number: int) -> int:
    raise InputError(f"expected no {number}")


def kill_self(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_the_order_of_the_items(workers: int) -> None:
    assert list(run_tasks(add, [0, 1, 2], workers, (10,))) == [10, 11, 12]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_is_raised(workers: int) -> None:
    with pytest.raises(InputError, match="expected no 4"):
        list(run_tasks(refuse, [4, 5, 6], workers))


def test_a_worker_that_is_killed() -> None:
    with pytest.raises(ChildProcessError, match=r"one was killed, perhaps for want of memory"):
        list(run_tasks(kill_self, [1, 2, 3], 2))
    assert active_children() == []


def test_a_killed_worker_is_one_line_of_the_command(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmrel_kit.check.release.check_part", kill_self)
    assert upload.main(["check", str(built), "--workers", "2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("upload.py check: expected the worker processes to end by themselves")


@pytest.mark.parametrize("damage", ["none", "record", "table"])
def test_check_finds_the_same_in_several_processes(release: Path, damage: str) -> None:
    if damage == "record":
        edit_record(release, lambda record: record.update(answer="perhaps"))
    if damage == "table":
        path = sorted((release / "data" / "real").glob("train-*.parquet"))[-1]
        path.write_bytes(path.read_bytes()[:-9])
    problems = check_release(release)
    assert bool(problems) == (damage != "none")
    sizes: list[int] = []
    assert check_release(release, sizes.append, workers=2) == problems
    assert sizes


def test_a_split_is_checked_by_its_shards(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmrel_kit.check import release as checking

    checked: list[SplitPart] = []
    real = checking.check_part

    def check(root: Path, listed: Any, part: SplitPart) -> Any:
        checked.append(part)
        return real(root, listed, part)

    monkeypatch.setattr(checking, "check_part", check)
    monkeypatch.setattr(
        checking, "run_tasks", lambda task, items, _, shared: run_tasks(task, items, 1, shared)
    )
    assert check_release(release, workers=2) == []
    archives = [name for part in checked for name in part.archives]
    assert len(checked) == len(archives) == len(list(release.glob("data/*/*.tar")))

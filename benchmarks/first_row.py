# SPDX-License-Identifier: Apache-2.0
"""Measure how soon a cold process has the first question and its picture, from a stand-in Hub.

`loading.py` calls this: requests, bytes sent and seconds, for the `test` split of `real`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measuring import Hub, run_python, start_hub, take_turns

PUBLISH = """
import sys
from huggingface_hub import HfApi
folder, repo_id, inside = sys.argv[1:]
api = HfApi()
api.create_repo(repo_id, repo_type="dataset")
where = {"repo_id": repo_id, "repo_type": "dataset", "path_in_repo": inside}
api.upload_folder(folder_path=folder, **where)
"""
OURS = """
import mmrel
stream = mmrel.load("real", repo_id="ns/MMRel", split="test", streaming=True{filters})
"""
PARQUET = """
import datasets
stream = datasets.load_dataset("ns/{repo}", "{config}", split="test", streaming=True{filters})
"""
SHOW = """
import os
row = next(iter(stream))
print(row["question_id"], row["image"].size, row["category"], flush=True)
os._exit(0)
"""
ALL: dict[str, str] = {"filters": ""}
COMPARATIVE = {"filters": ', filters=[("category", "==", "comparative")]'}
RELEASE = {"repo": "MMRel", "config": "real"}
PLAIN = {"repo": "plain", "config": "default"}
PROGRAMS = {
    "ours, archives": OURS.format(**ALL),
    "ours, Parquet": PARQUET.format(**RELEASE, **ALL),
    "datasets, picture per row": PARQUET.format(**PLAIN, **ALL),
    "ours, archives, comparative": OURS.format(filters=', categories=["comparative"]'),
    "ours, Parquet, comparative": PARQUET.format(**RELEASE, **COMPARATIVE),
    "datasets, picture per row, comparative": PARQUET.format(**PLAIN, **COMPARATIVE),
}


class Start(NamedTuple):
    """What it took until the first row was there."""

    requests: float
    sent: float  # bytes of the Hub's answers
    seconds: float


def measure_first_row(data: Path, runs: int) -> list[dict[str, Any]]:
    """Return, for each reader, the medians of runs in turns.

    Args:
        data: folder with `release` and, for the peer, `plain`.
        runs: how often each reader takes its turn.
    """
    has_peer = (data / "plain").exists()
    names = [name for name in PROGRAMS if has_peer or name.startswith("ours")]
    starts: dict[str, list[Start]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with start_hub(folder / "hub") as hub:
            _publish(hub, folder, data / "release", "ns/MMRel")
            if has_peer:
                _publish(hub, folder, data / "plain", "ns/plain", "data")
            for run, reader in take_turns(names, runs):
                home = folder / f"home-{run}-{reader}"
                starts[reader].append(_start_cold(hub, home, PROGRAMS[reader] + SHOW))
    return [{"reader": name, **_find_medians(measured)} for name, measured in starts.items()]


def _publish(hub: Hub, folder: Path, root: Path, repo_id: str, inside: str = "") -> None:
    environment = hub.make_environment(folder / "publisher")
    run_python(PUBLISH, str(root), repo_id, inside, environment=environment)


def _start_cold(hub: Hub, home: Path, code: str) -> Start:
    before = hub.count_traffic()
    start = time.perf_counter()
    run_python(code, environment=hub.make_environment(home))
    seconds = time.perf_counter() - start
    after = hub.count_traffic()
    return Start(after.requests - before.requests, after.sent - before.sent, seconds)


def _find_medians(starts: list[Start]) -> dict[str, float]:
    columns = zip(*starts, strict=True)
    medians = [statistics.median(column) for column in columns]
    return dict(zip(Start._fields, medians, strict=True))

# SPDX-License-Identifier: Apache-2.0
"""Measure how soon a cold process has the first question and its picture, from a stand-in Hub.

`loading.py` calls this: requests, bytes sent and seconds, for the `test` split of `real`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import Hub, measure_in_turns, run_python, start_hub

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


def measure_first_row(data: Path, runs: int) -> list[dict[str, Any]]:
    """Return requests, bytes sent and seconds until the first row, the medians of each reader.

    `data` holds the folder `release` and, for the peer, `plain`.
    """
    has_peer = (data / "plain").exists()
    names = [name for name in PROGRAMS if has_peer or name.startswith("ours")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with start_hub(folder / "hub") as hub:
            _publish(hub, folder, data / "release", "ns/MMRel")
            if has_peer:
                _publish(hub, folder, data / "plain", "ns/plain", "data")
            starts = measure_in_turns(names, runs, lambda reader: _start_cold(hub, folder, reader))
    rows = []
    for reader, measured in starts.items():
        row: dict[str, Any] = {"reader": reader}
        for figure in ("requests", "sent", "seconds"):
            row[figure] = statistics.median(start[figure] for start in measured)
        rows.append(row)
    return rows


def _publish(hub: Hub, folder: Path, root: Path, repo_id: str, inside: str = "") -> None:
    environment = hub.make_environment(folder / "publisher")
    run_python("-c", PUBLISH, str(root), repo_id, inside, environment=environment)


def _start_cold(hub: Hub, folder: Path, reader: str) -> dict[str, float]:
    """Run a reader with empty caches."""
    environment = hub.make_environment(Path(tempfile.mkdtemp(dir=folder)))
    before = hub.count_traffic()
    start = time.perf_counter()
    run_python("-c", PROGRAMS[reader] + SHOW, environment=environment)
    seconds = time.perf_counter() - start
    after = hub.count_traffic()
    requests = after.requests - before.requests
    return {"requests": requests, "sent": after.sent - before.sent, "seconds": seconds}

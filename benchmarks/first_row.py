# SPDX-License-Identifier: Apache-2.0
"""How soon the first question and its picture are there: a cold process, a Hub on the loopback, `real` / `test`."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.helpers.loopback_http import Handler  # noqa: E402
from tests.hub.hub_client import Client  # noqa: E402
from tests.hub.loopback_hub import LoopbackHub  # noqa: E402

OURS = """
import mmrel
row = next(iter(mmrel.load("real", repo_id="ns/MMRel", split="test", streaming=True{filters})))
"""
PARQUET = """
import datasets
row = next(iter(datasets.load_dataset("ns/{repo}", "{config}", split="test", streaming=True{filters})))
"""
SHOW = 'print(row["question_id"], row["image"].size, row["category"], flush=True); import os; os._exit(0)'
FILTER = ', filters=[("category", "==", "comparative")]'
READERS = {
    "ours, archives": OURS.format(filters=""),
    "ours, Parquet": PARQUET.format(repo="MMRel", config="real", filters=""),
    "datasets, picture per row": PARQUET.format(repo="plain", config="default", filters=""),
    "ours, archives, comparative": OURS.format(filters=', categories=["comparative"]'),
    "ours, Parquet, comparative": PARQUET.format(repo="MMRel", config="real", filters=FILTER),
    "datasets, picture per row, comparative": PARQUET.format(repo="plain", config="default", filters=FILTER),
}


class _Counted:
    """Counts what goes out."""

    sent = 0

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        written: int = self.file.write(data)
        _Counted.sent += written or len(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def count_bytes() -> None:
    """Have the Hub count the bytes that it sends."""
    setup = Handler.setup

    def counted(self: Handler) -> None:
        setup(self)
        self.wfile = _Counted(self.wfile)  # type: ignore[assignment]

    Handler.setup = counted  # type: ignore[method-assign]


def measure_first_row(data: Path, runs: int) -> list[dict[str, Any]]:
    """Requests, bytes that the Hub sent, and seconds until the first row, as medians of paired runs.

    Args:
        data: folder with `release` and, for the peer, `plain`.
        runs: how often each reader takes its turn.
    """
    count_bytes()
    results: dict[str, list[tuple[int, int, float]]] = {
        name: [] for name in READERS if name.startswith("ours") or (data / "plain").exists()
    }
    with tempfile.TemporaryDirectory() as folder, LoopbackHub(Path(folder) / "hub") as hub:
        hub.publish("ns/MMRel", data / "release")
        hub.publish("ns/plain", data / "plain", "data/")
        for run in range(runs):
            for name, measured in results.items():
                client = Client(hub, Path(folder) / f"home-{run}-{name}")
                requests, sent, start = len(hub.requests), _Counted.sent, time.perf_counter()
                client.python(READERS[name] + SHOW)
                taken = time.perf_counter() - start
                measured.append((len(hub.requests) - requests, _Counted.sent - sent, taken))
    heads = ("requests", "sent", "seconds")
    return [
        {"reader": name, **dict(zip(heads, map(statistics.median, zip(*measured, strict=True)), strict=True))}
        for name, measured in results.items()
    ]

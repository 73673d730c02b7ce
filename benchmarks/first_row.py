# SPDX-License-Identifier: Apache-2.0
"""How soon the first question and its picture are there: a cold process, a Hub on the loopback, `real` / `test`.

`PYTHONPATH=. python benchmarks/first_row.py --data FOLDER`, after loading.py has filled the folder (`base`, with the
peers' `plain` Parquet), prints requests, bytes that the Hub sent until then, and seconds, as medians of paired runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]

from hub_client import Client  # noqa: E402
from loopback_http import Handler  # noqa: E402
from loopback_hub import LoopbackHub  # noqa: E402

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


def publish(hub: LoopbackHub, data: Path) -> None:
    """The release of the benchmark, and the same rows as `datasets` writes them."""
    for repo, root in (("ns/MMRel", data / "base" / "release"), ("ns/plain", data / "base" / "plain")):
        hub.create(repo)
        paths = [path for path in root.rglob("*") if path.is_file() and "dalle" not in path.parts]
        prefix = "" if repo == "ns/MMRel" else "data/"
        hub.commit(repo, {prefix + path.relative_to(root).as_posix(): path.read_bytes() for path in paths})


def main(argv: list[str] | None = None) -> int:
    """Measure the first row."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that loading.py has filled")
    parser.add_argument("--runs", type=int, default=5, help="paired runs (default %(default)s)")
    args = parser.parse_args(argv)
    count_bytes()
    results: dict[str, list[tuple[int, int, float]]] = {name: [] for name in READERS}
    with tempfile.TemporaryDirectory() as folder, LoopbackHub(Path(folder) / "hub") as hub:
        publish(hub, args.data)
        for run in range(args.runs):
            for name, code in READERS.items():
                client = Client(hub, Path(folder) / f"home-{run}-{name}")
                requests, sent, start = len(hub.requests), _Counted.sent, time.perf_counter()
                client.python(code + SHOW)
                taken = time.perf_counter() - start
                results[name].append((len(hub.requests) - requests, _Counted.sent - sent, taken))
    print("| first row | requests | MB sent | seconds |\n| --- | --- | --- | --- |")
    for name, runs in results.items():
        requests, sent, seconds = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"| {name} | {requests:.0f} | {sent / 1e6:.2f} | {seconds:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

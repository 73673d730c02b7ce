# SPDX-License-Identifier: Apache-2.0
"""Count the contents of a release for its card, dataset_infos.json and croissant.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.pictures.archives import Sample


class SplitStats(NamedTuple):
    """Statistics of a split of a domain, or of one of its shards.

    Attributes:
        num_bytes: bytes of all rows, each with its own copy of the picture.
        table_bytes: bytes of the Parquet files.
        counts: number of questions by category and task (`"spatial generative"`).
    """

    domain: str
    split: str
    rows: int
    pictures: int
    num_bytes: int
    table_bytes: int
    counts: dict[str, int]

    def add(self, other: SplitStats) -> SplitStats:
        """Return the sum with the statistics of another shard."""
        return self._replace(
            rows=self.rows + other.rows,
            pictures=self.pictures + other.pictures,
            num_bytes=self.num_bytes + other.num_bytes,
            table_bytes=self.table_bytes + other.table_bytes,
            counts=dict(Counter(self.counts) + Counter(other.counts)),
        )


def merge_stats(stats: Iterable[SplitStats]) -> list[SplitStats]:
    """Sum the statistics of shards to those of whole splits, sorted by domain and split."""
    merged: dict[tuple[str, str], SplitStats] = {}
    for item in stats:
        key = item.domain, item.split
        merged[key] = merged[key].add(item) if key in merged else item
    return sorted(merged.values(), key=lambda item: (item.domain, mmrel.SPLITS.index(item.split)))


def count_picture(picture: Sample, counts: Counter[str]) -> None:
    """Add a picture and its questions to the counts that `make_stats` reads."""
    counts["pictures"] += 1
    for record in picture.records:
        counts["rows"] += 1
        counts["num_bytes"] += len(picture.data) + len(picture.image_id)
        for column in mmrel.COLUMNS:
            counts["num_bytes"] += len((getattr(record, column) or "").encode())
        counts[f"{record.category} {record.task}"] += 1


def make_stats(domain: str, split: str, counts: Counter[str], table_bytes: int) -> SplitStats:
    """Return the statistics that `count_picture` has counted."""
    return SplitStats(
        domain=domain,
        split=split,
        rows=counts["rows"],
        pictures=counts["pictures"],
        num_bytes=counts["num_bytes"],
        table_bytes=table_bytes,
        counts={kind: number for kind, number in sorted(counts.items()) if " " in kind},
    )


def list_categories(kinds: Iterable[str]) -> list[str]:
    """Return the categories among some kinds of questions, in the paper's order.

    >>> list_categories(["action discriminative", "spatial generative"])
    ['spatial', 'action']
    """
    present = {kind.partition(" ")[0] for kind in kinds}
    return [category for category in mmrel.CATEGORIES if category in present]


def describe_features(columns: Sequence[str] = mmrel.COLUMNS) -> dict[str, Any]:
    """Return a picture and columns of text in the JSON form of `datasets.Features`.

    It uses only types that datasets 3.6 knows.
    """
    texts = {name: {"dtype": "string", "_type": "Value"} for name in columns}
    return {"image": {"_type": "Image"}, **texts}

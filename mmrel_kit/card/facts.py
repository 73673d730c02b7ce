# SPDX-License-Identifier: Apache-2.0
"""Count what a release holds: what its card, dataset_infos.json and croissant.json say of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mmrel_kit.pictures.archives import Sample


class Facts(NamedTuple):
    """What the card says of a part of a split: a shard, or all shards of a split together."""

    domain: str
    split: str
    rows: int
    pictures: int
    num_bytes: int  # of all rows, each with its own copy of the picture
    table_bytes: int  # of the Parquet files
    counts: dict[str, int]  # questions by "category task"


def merge_facts(facts: Iterable[Facts]) -> list[Facts]:
    """Facts of whole splits from those of their shards, by domain and split."""
    merged: dict[tuple[str, str], Facts] = {}
    for part in facts:
        key = part.domain, part.split
        whole = merged.get(key, Facts(*key, 0, 0, 0, 0, {}))
        counts = dict(Counter(whole.counts) + Counter(part.counts))
        rows, pictures, num_bytes, table_bytes = (a + b for a, b in zip(whole[2:6], part[2:6], strict=True))
        merged[key] = Facts(*key, rows, pictures, num_bytes, table_bytes, counts)
    return sorted(merged.values(), key=lambda facts: (facts.domain, mmrel.SPLITS.index(facts.split)))


def count_picture(picture: Sample, counts: Counter[str]) -> None:
    """Add to the counts that `make_facts` needs."""
    counts["pictures"] += 1
    for record in picture.records:
        counts["rows"] += 1
        counts["num_bytes"] += len(picture.data) + len(picture.image_id)
        counts["num_bytes"] += sum(len((getattr(record, name) or "").encode()) for name in mmrel.COLUMNS)
        counts[f"{record.category} {record.task}"] += 1


def make_facts(domain: str, split: str, counts: Counter[str], table_bytes: int) -> Facts:
    """The facts of what `count_picture` counted."""
    kinds = {kind: number for kind, number in sorted(counts.items()) if " " in kind}
    return Facts(domain, split, counts["rows"], counts["pictures"], counts["num_bytes"], table_bytes, kinds)


def list_categories(kinds: Iterable[str]) -> list[str]:
    """The categories that some kinds of questions (`"spatial generative"`) begin with, in the paper's order."""
    present = {kind.partition(" ")[0] for kind in kinds}
    return [category for category in mmrel.CATEGORIES if category in present]


def describe_features(columns: Sequence[str] = mmrel.COLUMNS) -> dict[str, Any]:
    """A picture and columns of text as `datasets` describes them in JSON; only types that datasets 3.6 knows."""
    return {"image": {"_type": "Image"}} | {name: {"dtype": "string", "_type": "Value"} for name in columns}

# SPDX-License-Identifier: Apache-2.0
"""Show the progress of long steps on standard error, if that is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from mmrel_kit.build.shards import ShardManifest


def make_bar(total: int) -> tqdm[Any]:
    """Return a progress bar that counts bytes."""
    return tqdm(total=total, unit="B", unit_scale=True, disable=None, leave=False)


def track_bytes(sizes: Iterator[int], total: int) -> Iterator[int]:
    """Yield sizes in bytes, and show the progress of their sum."""
    with make_bar(total) as bar:
        for size in sizes:
            yield size
            bar.update(size)


def track_shards(shards: Iterable[ShardManifest], total: int) -> Iterator[ShardManifest]:
    """Yield shards as they are written, and show the bytes of their pictures."""
    with make_bar(total) as bar:
        for shard in shards:
            yield shard
            bar.update(shard.size)


def count_archive_bytes(release: str | Path) -> int:
    """Return the bytes of a release's archives, little more than those of its pictures."""
    return sum(path.stat().st_size for path in Path(release).glob("data/*/*.tar"))

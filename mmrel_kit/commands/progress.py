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


class FetchBar:
    """A progress bar of fetched pictures: their bytes, or their number if sizes are unknown."""

    def __init__(self, pictures: int, size: int) -> None:
        self._counts_bytes = size > 0
        total = size or pictures
        unit = "B" if size else " pictures"
        self._bar = tqdm(total=total, unit=unit, unit_scale=bool(size), disable=None, leave=False)
        self._size = self._pictures = 0

    def __enter__(self) -> FetchBar:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def advance(self, size: int) -> None:
        """Count a picture of `size` bytes."""
        self._size += size
        self._pictures += 1
        other = f"{self._pictures} pictures" if self._counts_bytes else f"{self._size / 1e6:.0f} MB"
        self._bar.set_postfix_str(other, refresh=False)
        self._bar.update(size if self._counts_bytes else 1)

# SPDX-License-Identifier: Apache-2.0
"""Show the progress of long steps on standard error, where it is a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mmrel_kit.build.shards import ShardManifest


def show_bytes(total: int) -> tqdm[Any]:
    """Return a bar of bytes; its `update` takes those that are done."""
    return tqdm(total=total, unit="B", unit_scale=True, disable=None, leave=False)


def follow_bytes(done: Iterator[int], total: int) -> Iterator[int]:
    """Yield sizes in bytes as they are done, and show them."""
    with show_bytes(total) as bar:
        for size in done:
            yield size
            bar.update(size)


def follow_shards(parts: Iterable[ShardManifest], total: int) -> Iterator[ShardManifest]:
    """Yield shards as they are packed, and show the bytes of their pictures."""
    with show_bytes(total) as bar:
        for part in parts:
            yield part
            bar.update(part.size)


def count_pictures(release: str | Path) -> int:
    """Return the bytes of a release's archives, which are those of its pictures but for a little."""
    return sum(path.stat().st_size for path in Path(release).glob("data/*/*.tar"))

# SPDX-License-Identifier: Apache-2.0
"""Read the archives of a release: each picture with its records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.questions.records import Record


class Sample(NamedTuple):
    """A picture, its unchanged bytes, and its records; a sample in WebDataset's sense."""

    image_id: str
    data: bytes
    records: list[Record]


def read_archives(
    release: mmrel.Release, names: Iterable[str]
) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
    """Yield the records and the bytes of each picture in some archives, one in memory at a time.

    Raises:
        ReleaseError: an archive is damaged or cut off, or its sha256 is another.
    """
    for name in names:
        entry = release.files[name]
        with mmrel.open_file(release.path(name)) as file:
            yield from mmrel.read_archive(file, name, entry["size"], sha256=entry["sha256"])

# SPDX-License-Identifier: Apache-2.0
"""Read the archives of a release: each picture with the records about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mmrel_kit.questions.records import Record


class Picture(NamedTuple):
    """A picture as it came, and the records about it."""

    image_id: str
    data: bytes
    records: list[Record]


def read_archives(release: mmrel.Release, names: Iterable[str]) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
    """The records about each picture of some of a release's archives, and its bytes, one picture in memory."""
    for name in names:
        with mmrel.open_file(release.path(name)) as file:
            yield from mmrel.read_archive(file, name, release.files[name]["size"])

# SPDX-License-Identifier: Apache-2.0
"""Write the archives of a release: WebDataset shards, each picture once, after its records."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def records_member(image_id: str) -> str:
    """Return the name of the archive member that holds the records about a picture."""
    return image_id.rpartition(".")[0] + ".json"


def make_sample_key(image_id: str) -> str:
    """Return the key of a picture to WebDataset readers: its path up to the first dot of its name.

    >>> make_sample_key("Dall-E_generated/v1.2/00001.left.png")
    'Dall-E_generated/v1.2/00001'
    """
    folder, slash, name = image_id.rpartition("/")
    return folder + slash + name.partition(".")[0]


def describe_key_clash(image_id: str, other: str) -> str:
    """Return the message for two pictures that have the same key to WebDataset readers."""
    return (
        f"picture {image_id!r} has the same name up to the first dot as {other!r}, and WebDataset "
        "readers would merge them; rename one of the files, and its path in the annotations"
    )


class ArchiveWriter:
    """Writes an archive: for each picture its records as a JSON array, then the picture.

    The same input gives the same bytes. They are hashed while they are written.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115, __exit__ closes it
        self._digest = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._write(bytes(2 * tarfile.BLOCKSIZE))
                self._write(bytes(-self._size % tarfile.RECORDSIZE))
        finally:
            self._file.close()

    def add(self, image_id: str, records: Sequence[str], data: bytes) -> None:
        """Add a picture with the records about it, each as JSON."""
        array = f"[{', '.join(records)}]\n"
        self._add_member(records_member(image_id), array.encode())
        self._add_member(image_id, data)

    def describe(self) -> dict[str, Any]:
        """Return the entry of the closed archive in checksums.json, without its categories."""
        return {"sha256": self._digest.hexdigest(), "size": self._size}

    def _add_member(self, name: str, data: bytes) -> None:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self._write(header.tobuf(tarfile.PAX_FORMAT))
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

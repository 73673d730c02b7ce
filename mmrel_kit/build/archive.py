# SPDX-License-Identifier: Apache-2.0
"""Write the archives of a release: WebDataset shards, each picture once, after its records."""

from __future__ import annotations

import io
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

    The same input gives the same bytes.
    """

    def __init__(self, path: Path) -> None:
        # __exit__ closes it.
        self._archive = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self._archive.__exit__(*error)

    def add(self, image_id: str, records: Sequence[str], data: bytes) -> None:
        """Add a picture with the records about it, each as JSON."""
        array = f"[{', '.join(records)}]\n"
        self._add_member(records_member(image_id), array.encode())
        self._add_member(image_id, data)
        # Keep memory constant: tarfile stores every member that it has written.
        self._archive.members = []  # type: ignore[attr-defined]

    def _add_member(self, name: str, data: bytes) -> None:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self._archive.addfile(header, io.BytesIO(data))

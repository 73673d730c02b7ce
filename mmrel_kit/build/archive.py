# SPDX-License-Identifier: Apache-2.0
"""Write the archives of a release: WebDataset shards with each picture once, behind the records about it."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from mmrel_kit.files import make_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mmrel_kit.pictures.archives import Picture


def records_member(image_id: str) -> str:
    """Name of the archive member that holds the records about a picture."""
    return image_id.rpartition(".")[0] + ".json"


def sample_key(image_id: str) -> str:
    """Return what WebDataset readers call a picture: its path, up to the first dot of its name.

    >>> sample_key("Dall-E_generated/v1.2/00001.left.png")
    'Dall-E_generated/v1.2/00001'
    """
    folder, slash, name = image_id.rpartition("/")
    return folder + slash + name.partition(".")[0]


def describe_merge(image_id: str, other: str) -> str:
    """Return what is wrong with two pictures of one `sample_key`, and what to do."""
    return (
        f"picture {image_id!r} agrees with {other!r} up to the first dot of its name, and WebDataset "
        "readers would merge them; rename one of the files, and its path in the annotations"
    )


def write_archive(path: Path, pictures: Iterable[Picture]) -> Iterator[Picture]:
    """Write a shard while its pictures pass: records as a JSON array, then the picture. Same pictures, same bytes."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for picture in pictures:
            records = make_json([record.to_json() for record in picture.records]) + "\n"
            for name, data in ((records_member(picture.image_id), records.encode()), (picture.image_id, picture.data)):
                header = tarfile.TarInfo(name)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
            archive.members = []  # type: ignore[attr-defined]  # tarfile remembers every member that it has written
            yield picture

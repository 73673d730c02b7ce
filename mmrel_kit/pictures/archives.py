# SPDX-License-Identifier: Apache-2.0
"""Writes the archives of a release: WebDataset shards with each picture once, behind the records about it."""

from __future__ import annotations

import io
import re
import tarfile
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

import mmrel
from mmrel_kit.files import InputError, make_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mmrel_kit.questions.records import Record

FORMATS = ("JPEG", "PNG", "WEBP")
# Pillow's own bound, from which on it refuses a picture as a decompression bomb; so does the Hub's viewer.
MAX_PIXELS = 178_956_970
MAX_REASON = 120  # characters of what Pillow says
_ADDRESS = re.compile(r"\s*<[^<>]* at 0x[0-9A-Fa-f]+>")


class Picture(NamedTuple):
    """A picture as it came, and the records about it."""

    image_id: str
    data: bytes
    records: list[Record]


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


def read_archives(release: mmrel.Release, names: Iterable[str]) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
    """The records about each picture of some of a release's archives, and its bytes, one picture in memory."""
    for name in names:
        with mmrel.open_file(release.path(name)) as file:
            yield from mmrel.read_archive(file, name, release.files[name]["size"])


def check_picture(data: bytes, where: str) -> Image.Image:
    """Decode a picture whole, to know that it opens.

    Raises:
        InputError: it is not a JPEG, PNG or WebP, is damaged, or holds more than `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs are refused below; other warnings are of metadata
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise InputError(f"{where}: expected a picture of at most {MAX_PIXELS} pixels, got {width} x {height}")
            image.load()
    except Image.DecompressionBombError:
        raise InputError(f"{where}: expected a picture of at most {MAX_PIXELS} pixels, got far more") from None
    except InputError:
        raise
    # Pillow's decoders let these through for damaged files, beside its own UnidentifiedImageError (an OSError).
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, MemoryError) as error:
        reason = describe_failure(error)
        raise InputError(f"{where}: expected a whole {', '.join(FORMATS)} picture: {reason}") from None
    return image


def describe_failure(error: BaseException) -> str:
    """Return what Pillow says of a picture, on one line, without addresses of objects.

    >>> describe_failure(OSError("cannot identify image file <_io.BytesIO object at 0x7f3a>"))
    'cannot identify image file'
    """
    text = _ADDRESS.sub("", " ".join(str(error).split()))
    return text[:MAX_REASON] or type(error).__name__

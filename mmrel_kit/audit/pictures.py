# SPDX-License-Identifier: Apache-2.0
"""Store hashes of a release's pictures, so that pictures of several splits can be compared.

Perceptual hashes, which find pictures that look alike, need ImageHash (extra `audit`).
"""

from __future__ import annotations

import hashlib
import importlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.audit import queries
from mmrel_kit.extras import explain_import
from mmrel_kit.files import InputError, Problem
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.pictures.validate import decode_grey
from mmrel_kit.workers import run_tasks

# Of 64 bits; ImageHash's phash of a picture saved anew as JPEG, or scaled, differs in 0 to 4.
MAX_DISTANCE = 4
# Pixels of the shorter side that a picture to be hashed has at least; ImageHash scales it to 32. Of
# 1,640 pictures that were saved anew, scaled or made brighter, the same are found as in full size;
# the hashes of one picture in ten differ in 2 bits.
HASHED_SIDE = 256
# Hashes that differ in 4 bits have at least one of 5 bands in common.
BANDS = MAX_DISTANCE + 1
_BITS = 64


def create_tables(db: sqlite3.Connection) -> None:
    """Create the tables of pictures where there are none; empty, pictures are compared by path."""
    db.executescript(queries.CREATE_PICTURES)


class PicturePrint(NamedTuple):
    """Hashes of a picture, and its bytes; `phash` is None without ImageHash."""

    image_id: str
    sha256: str
    phash: str | None
    size: int


def store_hashes(
    db: sqlite3.Connection,
    release: mmrel.Release,
    progress: Callable[[Iterator[int], int], Iterator[int]],
    workers: int = 1,
) -> list[str]:
    """Store the hashes of a release's pictures; return a remark if some could not be computed.

    `workers` processes read whole archives.

    Raises:
        ReleaseError: an archive is damaged.
        InputError: a picture cannot be decoded.
        ChildProcessError: see `run_tasks`.
    """
    create_tables(db)
    _, problem = _import_imagehash()
    archives = []
    for split, names in release.archives("all").items():
        archives += [(split, name) for name in names]
    total = sum(release.files[name]["size"] for _, name in archives)
    for _ in progress(_store_prints(db, release, archives, workers), total):
        pass
    db.executescript(queries.INDEX_PRINTS)
    if problem:
        return [f"pictures were not compared by how they look: {problem}"]
    _store_near(db)
    return []


def _import_imagehash() -> tuple[Any, str | None]:
    """Return ImageHash, or None and what to install."""
    try:
        return importlib.import_module("imagehash"), None
    except ImportError as error:
        return None, explain_import(error) or str(error)


def _store_prints(
    db: sqlite3.Connection, release: mmrel.Release, archives: list[tuple[str, str]], workers: int
) -> Iterator[int]:
    """Store the hashes of each picture, and yield its bytes."""
    names = [name for _, name in archives]
    with closing(run_tasks(_hash_pictures, names, workers, (release,))) as results:
        for (split, _), prints in zip(archives, results, strict=True):
            for image_id, sha256, phash, size in prints:
                db.execute(queries.INSERT_PRINT, (split, image_id, sha256, phash))
                yield size


def _hash_pictures(release: mmrel.Release, name: str) -> list[PicturePrint]:
    """Return the hashes of the pictures of an archive, which is read once."""
    imagehash, _ = _import_imagehash()
    prints = []
    for records, data in read_archives(release, [name]):
        image_id = records[0]["image_id"]
        phash = None
        if imagehash:
            picture = decode_grey(data, f"{release.root}: picture {image_id!r}", HASHED_SIDE)
            if isinstance(picture, Problem):
                raise InputError(str(picture))
            phash = str(imagehash.phash(picture))
        sha256 = hashlib.sha256(data).hexdigest()
        prints.append(PicturePrint(image_id, sha256, phash, len(data)))
    return prints


def _store_near(db: sqlite3.Connection) -> None:
    """Store the pairs of perceptual hashes that differ in at most `MAX_DISTANCE` bits."""
    db.create_function("is_near", 2, _is_near, deterministic=True)
    db.execute(queries.CREATE_BANDS)
    for (phash,) in db.execute(queries.SELECT_HASHES):
        for band, part in enumerate(_cut(int(phash, 16))):
            db.execute(queries.INSERT_BAND, (band, part, phash))
    db.executescript(queries.STORE_NEAR)


def _is_near(one: str, other: str) -> bool:
    different = int(one, 16) ^ int(other, 16)
    return different.bit_count() <= MAX_DISTANCE


def _cut(bits: int) -> list[int]:
    """Return the bands of a hash, from its lowest bits on."""
    bands = []
    for band in range(BANDS):
        start = band * _BITS // BANDS
        end = (band + 1) * _BITS // BANDS
        mask = (1 << (end - start)) - 1
        bands.append((bits >> start) & mask)
    return bands

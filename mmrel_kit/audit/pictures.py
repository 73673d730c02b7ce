# SPDX-License-Identifier: Apache-2.0
"""Store hashes of a release's pictures, so that pictures of several splits can be compared.

Perceptual hashes, which find pictures that look alike, need ImageHash (extra `audit`).
"""

from __future__ import annotations

import hashlib
import importlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import mmrel
from mmrel_kit.audit import queries
from mmrel_kit.extras import explain_import
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.pictures.validate import check_picture

# Of 64 bits; ImageHash's phash of a picture saved anew as JPEG, or scaled, differs in 0 to 4.
MAX_DISTANCE = 4
# Hashes that differ in 4 bits have at least one of 5 bands in common.
BANDS = MAX_DISTANCE + 1
_BITS = 64


def create_tables(db: sqlite3.Connection) -> None:
    """Create the tables of pictures where there are none; empty, pictures are compared by path."""
    db.executescript(queries.CREATE_PICTURES)


def store_hashes(
    db: sqlite3.Connection,
    release: mmrel.Release,
    progress: Callable[[Iterator[int], int], Iterator[int]],
) -> list[str]:
    """Store the hashes of a release's pictures; return a remark if some could not be computed."""
    create_tables(db)
    imagehash, problem = _import_imagehash()
    archives = release.archives("all")
    total = 0
    for names in archives.values():
        total += sum(release.files[name]["size"] for name in names)
    for _ in progress(_store_prints(db, release, archives, imagehash), total):
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
    db: sqlite3.Connection, release: mmrel.Release, archives: dict[str, list[str]], imagehash: Any
) -> Iterator[int]:
    """Store the hashes of each picture, and yield its bytes."""
    for split, names in archives.items():
        for records, data in read_archives(release, names):
            image_id = records[0]["image_id"]
            phash = None
            if imagehash:
                picture = check_picture(data, f"{release.root}: picture {image_id!r}")
                phash = str(imagehash.phash(picture))
            sha256 = hashlib.sha256(data).hexdigest()
            db.execute(queries.INSERT_PRINT, (split, image_id, sha256, phash))
            yield len(data)


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

# SPDX-License-Identifier: Apache-2.0
"""Write out the pictures that the Parquet re-release of MMRel's DALL-E part holds."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING

from mmrel_kit.files import InputError
from mmrel_kit.questions.rerelease import read_rerelease

if TYPE_CHECKING:
    from pathlib import Path

    from mmrel_kit.questions.rerelease import Row

_NAME = re.compile(r"Dall-E_generated/[a-z]+/[^/\\:*?\"<>|\0-\x1f]+\.(?i:png|jpe?g|webp)")


def unpack_pictures(path: Path, folder: Path) -> None:
    """Write each picture of the re-release once below `folder`, at MMRel's path, if it does not stand there yet.

    The folder is filled beside its place and moved there whole, so that several processes may call this at once.

    Raises:
        InputError: two pictures of one name differ, or a name is not a picture's.
    """
    stat = path.stat()
    stamp = json.dumps([str(path), stat.st_size, stat.st_mtime_ns])
    done = folder / "unpacked.json"
    if done.exists() and done.read_text("utf-8") == stamp:
        return
    aside = folder.with_name(f"{folder.name}.{os.getpid()}")
    for row in read_rerelease(path):
        _write_picture(row, aside)
    (aside / done.name).write_text(stamp, "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.rename(aside, folder)
    except OSError:  # another process was faster
        shutil.rmtree(aside)


def _write_picture(row: Row, folder: Path) -> None:
    if not _NAME.fullmatch(row.image_id):
        raise InputError(f"{row.where}: expected the name of a picture, got {row.image_id!r}")
    target = folder / row.image_id
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.write_bytes(row.picture)
    elif target.read_bytes() != row.picture:
        raise InputError(f"{row.where}: picture {row.image_id!r} differs from the one of that name before it")

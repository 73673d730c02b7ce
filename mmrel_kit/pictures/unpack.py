# SPDX-License-Identifier: Apache-2.0
"""Write out the pictures that the Parquet re-release of MMRel's DALL-E part holds."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

from mmrel_kit.files import InputError, fill_folder
from mmrel_kit.questions.rerelease import read_rerelease

if TYPE_CHECKING:
    from pathlib import Path

    from mmrel_kit.questions.rerelease import Row

STAMP = "unpacked.json"  # names the file that the pictures of a folder came from
_NAME = re.compile(r"Dall-E_generated/[a-z]+/[^/\\:*?\"<>|\0-\x1f]+\.(?i:png|jpe?g|webp)")


def unpack_pictures(path: Path, folder: Path) -> None:
    """Write each picture of the re-release once below `folder`, at MMRel's path.

    Nothing is done where they are there already. Several processes may call this at once.

    Raises:
        InputError: two pictures of one name differ, or a name is not a picture's.
    """
    stat = path.stat()
    stamp = json.dumps([str(path), stat.st_size, stat.st_mtime_ns])
    done = folder / STAMP
    if done.is_file() and done.read_text("utf-8") == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)  # it came from another file
    with fill_folder(folder, is_shared=True) as temporary:
        for row in read_rerelease(path):
            _write_picture(row, temporary)
        (temporary / STAMP).write_text(stamp, "utf-8")


def _write_picture(row: Row, folder: Path) -> None:
    if not _NAME.fullmatch(row.image_id):
        raise InputError(f"{row.where}: expected the name of a picture, got {row.image_id!r}")
    target = folder / row.image_id
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.write_bytes(row.picture)
    elif target.read_bytes() != row.picture:
        known = f"picture {row.image_id!r} differs from the one of that name before it"
        raise InputError(f"{row.where}: {known}")

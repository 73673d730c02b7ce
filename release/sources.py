# SPDX-License-Identifier: Apache-2.0
"""Finds the pictures that questions are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mmrel
from release.records import InputError

if TYPE_CHECKING:
    from pathlib import Path


class PictureFolder:
    """Pictures as plain files under the upstream root, at the paths that records call `image_id`."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"{root}: expected a folder that holds vg/, SPEC/ or Dall-E_generated/, found none")
        self.root = root

    def size(self, image_id: str) -> int | None:
        """Bytes of a picture, or null where there is none; raises `InputError` where it is too large to be one."""
        path = self.root / image_id
        if not path.is_file():
            return None
        size = path.stat().st_size
        if size > mmrel.MAX_PICTURE_BYTES:
            raise InputError(f"{path}: expected a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes, got {size}")
        return size

    def read(self, image_id: str) -> bytes:
        """The picture's bytes as they are."""
        return (self.root / image_id).read_bytes()

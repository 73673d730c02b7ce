# SPDX-License-Identifier: Apache-2.0
"""Sources of pictures on this machine: folders, zip and tar files, the Parquet re-release."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from mmrel_kit.files import InputError, fill_folder
from mmrel_kit.pictures.containers import Member, list_pictures, read_picture
from mmrel_kit.pictures.index import Location, MemberIndex, check_size, list_candidate_paths
from mmrel_kit.questions.rerelease import RereleaseRow, read_rerelease

STAMP = "unpacked.json"  # names the file from which a folder was unpacked
_UNPACKED_NAME = re.compile(r"Dall-E_generated/[a-z]+/[^/\\:*?\"<>|\0-\x1f]+\.(?i:png|jpe?g|webp)")


class Pictures(Protocol):
    """A source of pictures.

    A build calls `prepare` once and `find` for each picture, then pickles the source: `read` and
    `is_current` run in worker processes too, and in later runs of the same build. `prepare`, `find`
    and `read` raise `InputError` if the source is damaged or cannot be reached, or a file is too
    large to be a picture.
    """

    def prepare(self, folder: Path, image_ids: Sequence[str] = ()) -> None:
        """Get ready for `find`.

        Args:
            folder: for what has to be unpacked or fetched.
            image_ids: the pictures that will be looked for.
        """

    def find(self, image_id: str) -> Location | None:
        """Return where a picture lies, or None if the source does not have it."""

    def read(self, location: Location) -> bytes:
        """Return the bytes of a picture, unchanged."""

    def is_current(self, location: Location) -> bool:
        """Return whether a picture that an earlier run located is unchanged."""

    def describe(self) -> str:
        """Return the name of the source; it differs when an archive or repository has changed."""


class PictureFolder:
    """Pictures as plain files, under the upstream root or one of its folders."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(
                f"{root}: expected a folder that holds vg/, SPEC/ or Dall-E_generated/, found none"
            )
        self.root = root

    def prepare(self, folder: Path, image_ids: Sequence[str] = ()) -> None:
        """Do nothing: files are looked up one by one."""

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`."""
        for name in list_candidate_paths(image_id):
            path = self.root / name
            try:
                status = path.stat()
            except OSError:
                continue
            if path.is_file():
                check_size(str(path), status.st_size)
                return Location(status.st_size, _make_stamp(status), name)
        return None

    def read(self, location: Location) -> bytes:
        """See `Pictures`."""
        return (self.root / location.name).read_bytes()

    def is_current(self, location: Location) -> bool:
        """See `Pictures`."""
        try:
            status = (self.root / location.name).stat()
        except OSError:
            return False
        return location.stamp == _make_stamp(status)

    def describe(self) -> str:
        """See `Pictures`."""
        return str(self.root)


class PictureArchive:
    """Pictures in a zip or tar file, which is listed once and read by position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index: MemberIndex | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}  # a database cannot be pickled

    def prepare(self, folder: Path, image_ids: Sequence[str] = ()) -> None:
        """List the file."""
        if self._index is None:
            self._index = MemberIndex(str(self.path), list_pictures(self.path))

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`."""
        assert self._index is not None, "prepare() comes first"
        member = self._index.find(image_id)
        if member is None:
            return None
        return Location(member.size, self.describe(), member.name, list(member))

    def read(self, location: Location) -> bytes:
        """See `Pictures`."""
        return read_picture(self.path, Member(*location.member or ()))

    def is_current(self, location: Location) -> bool:
        """See `Pictures`."""
        return location.stamp == self.describe()

    def describe(self) -> str:
        """See `Pictures`."""
        return f"{self.path} {_make_stamp(self.path.stat())}"


class FilledFolder(PictureFolder):
    """Pictures in a folder that `prepare` fills.

    Names are absolute, so that a process that has not filled the folder can read them.
    """

    def __init__(self) -> None:
        self.root = Path("/")

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`."""
        location = super().find(image_id)
        if location is None:
            return None
        return location._replace(name=str(self.root / location.name))


class PictureTable(FilledFolder):
    """Pictures of the DALL-E re-release: Parquet, from which all pictures are unpacked once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def prepare(self, folder: Path, image_ids: Sequence[str] = ()) -> None:
        """Unpack the pictures below `folder`, if they are not there yet."""
        self.root = Path(os.path.abspath(folder / f"unpacked-{self.path.stem}"))
        unpack_pictures(self.path, self.root)

    def describe(self) -> str:
        """See `Pictures`."""
        return f"{self.path} {_make_stamp(self.path.stat())}"


def unpack_pictures(path: Path, folder: Path) -> None:
    """Write each picture of the re-release once below `folder`, at MMRel's path.

    Pictures that are there already are kept. Several processes may call this at once.

    Raises:
        InputError: two pictures of one name differ, or a name is not a picture's.
    """
    status = path.stat()
    stamp = json.dumps([str(path), status.st_size, status.st_mtime_ns])
    stamp_path = folder / STAMP
    if stamp_path.is_file() and stamp_path.read_text("utf-8") == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)  # unpacked from another file
    with fill_folder(folder, is_shared=True) as aside:
        for row in read_rerelease(path):
            _unpack_picture(row, aside)
        (aside / STAMP).write_text(stamp, "utf-8")


def _unpack_picture(row: RereleaseRow, folder: Path) -> None:
    if not _UNPACKED_NAME.fullmatch(row.image_id):
        raise InputError(f"{row.where}: expected the name of a picture, got {row.image_id!r}")
    target = folder / row.image_id
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.write_bytes(row.picture)
    elif target.read_bytes() != row.picture:
        raise InputError(
            f"{row.where}: picture {row.image_id!r} differs from an earlier one of that name"
        )


def _make_stamp(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns}"

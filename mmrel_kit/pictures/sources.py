# SPDX-License-Identifier: Apache-2.0
"""Find the pictures that questions are about: in folders, zip and tar files, on the Hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import mmrel
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import SUFFIXES, Member, list_pictures, read_picture
from mmrel_kit.pictures.index import Location, MemberIndex, check_size, list_candidate_paths
from mmrel_kit.pictures.repository import PictureRepository
from mmrel_kit.pictures.unpack import unpack_pictures
from mmrel_kit.questions.records import parse_image_path

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pictures(Protocol):
    """Where pictures come from; it may be sent to another process, which then reads them too."""

    def prepare(self, folder: Path) -> None:
        """Make ready to find pictures; `folder` may be used for what has to be unpacked."""

    def find(self, image_id: str) -> Location | None:
        """Return where a picture lies, or None where there is none."""

    def read(self, location: Location) -> bytes:
        """Return the bytes of a picture as they are."""

    def is_current(self, location: Location) -> bool:
        """Return whether a picture that an earlier run has found is still there as it was."""

    def describe(self) -> str:
        """Name the source; differs when an archive or repository has changed."""


class PictureFolder:
    """Pictures as plain files, under the upstream root or one of its folders."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            wanted = "expected a folder that holds vg/, SPEC/ or Dall-E_generated/"
            raise InputError(f"{root}: {wanted}, found none")
        self.root = root

    def prepare(self, folder: Path) -> None:
        """Do nothing: files are looked for one by one."""

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`.

        Raises:
            InputError: a file is too large to be a picture.
        """
        for name in list_candidate_paths(image_id):
            path = self.root / name
            try:
                found = path.stat()
            except OSError:
                continue
            if path.is_file():
                check_size(str(path), found.st_size)
                return Location(found.st_size, _stamp(found), name)
        return None

    def read(self, location: Location) -> bytes:
        """See `Pictures`."""
        return (self.root / location.name).read_bytes()

    def is_current(self, location: Location) -> bool:
        """See `Pictures`."""
        try:
            found = (self.root / location.name).stat()
        except OSError:
            return False
        return location.stamp == _stamp(found)

    def describe(self) -> str:
        """See `Pictures`."""
        return str(self.root)


class PictureArchive:
    """Pictures in a zip or tar file, which is listed once and read by position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index: MemberIndex | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    def prepare(self, folder: Path) -> None:
        """List the file.

        Raises:
            InputError: it is damaged or hostile.
        """
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
        return f"{self.path} {_stamp(self.path.stat())}"


class PictureTable(PictureFolder):
    """Pictures of the DALL-E re-release: Parquet, whose pictures are written out once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Names are absolute, so that pictures are read in a process that has not unpacked them.
        self.root = Path("/")

    def prepare(self, folder: Path) -> None:
        """Write the pictures out below `folder`, if they are not there yet."""
        self.root = Path(os.path.abspath(folder / f"unpacked-{self.path.stem}"))
        unpack_pictures(self.path, self.root)

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`."""
        location = super().find(image_id)
        if location is None:
            return None
        return location._replace(name=str(self.root / location.name))

    def describe(self) -> str:
        """See `Pictures`."""
        return f"{self.path} {_stamp(self.path.stat())}"


class PictureSources:
    """Several sources; a domain's own come before those of all domains, in the order given.

    Args:
        specs: `ROOT`, or `real=…`, `sdxl=…`, `dalle=…`: a folder, a zip or tar file, a file
            of the Parquet re-release, or `hf://datasets/OWNER/NAME[@REVISION]`.

    Raises:
        InputError: there is no such source.
    """

    def __init__(self, specs: Sequence[str]) -> None:
        self._sources: list[tuple[str, Pictures]] = []
        for spec in specs:
            domain, mark, where = spec.partition("=")
            if not mark or domain not in mmrel.DOMAINS:
                domain, where = "", spec
            self._sources.append((domain, open_source(where)))

    def prepare(self, folder: Path) -> None:
        """See `Pictures`."""
        for _, source in self._sources:
            source.prepare(folder)

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`."""
        domain, _ = parse_image_path(image_id)
        for wanted in (domain, ""):
            for number, (name, source) in enumerate(self._sources):
                location = source.find(image_id) if name == wanted else None
                if location:
                    return location._replace(source=number)
        return None

    def read(self, location: Location) -> bytes:
        """See `Pictures`."""
        return self._sources[location.source][1].read(location)

    def is_current(self, location: Location) -> bool:
        """See `Pictures`."""
        return self._sources[location.source][1].is_current(location)

    def describe(self) -> str:
        """See `Pictures`."""
        named = [f"{domain}={source.describe()}" for domain, source in self._sources]
        return ", ".join(text.lstrip("=") for text in named)


def open_source(where: str) -> Pictures:
    """Return the source at a path or URL.

    Raises:
        InputError: there is none that can be read.
    """
    if not where:
        wanted = "expected a source of pictures as --images, got ''"
        raise InputError(f"{wanted}; write . for the current folder")
    if where.startswith(mmrel.HUB):
        return PictureRepository(where)
    path = Path(where)
    if path.is_file() and path.suffix in SUFFIXES:
        return PictureArchive(path)
    if path.is_file() and path.suffix == ".parquet":
        return PictureTable(path)
    if path.is_dir():
        return PictureFolder(path)
    wanted = (
        f"expected a folder, a {', '.join(SUFFIXES)} or .parquet file, or {mmrel.HUB}OWNER/NAME"
    )
    found = "a file of another kind; unpack it" if path.exists() else "nothing there"
    raise InputError(f"{where}: {wanted}, found {found}")


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns}"

# SPDX-License-Identifier: Apache-2.0
"""Index the pictures of an archive or a repository by MMRel's paths, in whatever folders."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import Member

# Members with the last folder and the name of their path, which all layouts of a picture share.
_CREATE = "create table members (tail, name, offset, stored, size, method, crc)"
_INSERT = "insert into members values (?, ?, ?, ?, ?, ?, ?)"
_CREATE_INDEX = "create index by_tail on members (tail, name)"
_FIND_REPEATED = "select name from members group by tail, name having count(*) > 1 limit 1"
_SELECT = "select name, offset, stored, size, method, crc from members where tail = ?"


class Location(NamedTuple):
    """Where a picture lies, so that it can be read without a second search.

    Attributes:
        size: its bytes.
        stamp: differs when the picture has changed.
        name: its name in its source.
        member: the fields of its `Member`, in zip and tar files.
        source: the number of its source in a `PictureSources`.
    """

    size: int
    stamp: str
    name: str
    member: list[Any] | None = None
    source: int = 0


def list_candidate_paths(image_id: str) -> list[str]:
    """Return the paths at which upstream's files may hold a picture, the likeliest first.

    >>> list_candidate_paths("vg/VG_100K/7.jpg")
    ['vg/VG_100K/7.jpg', 'VG_100K/7.jpg', 'vg/VG_100K_2/7.jpg', 'VG_100K_2/7.jpg', '7.jpg']
    """
    root, _, rest = image_id.partition("/")
    paths = [image_id, rest]
    if root == "vg":
        # The two folders of Visual Genome share one series of ids, so an id can be in either.
        folder, _, name = rest.partition("/")
        if folder in ("VG_100K", "VG_100K_2"):
            other = "VG_100K" if folder == "VG_100K_2" else "VG_100K_2"
            paths += [f"vg/{other}/{name}", f"{other}/{name}", name]
    elif root == "SPEC":
        paths += [f"data/{rest}", f"data/{image_id}", f"{root}/data/{rest}"]
    return paths


class MemberIndex:
    """Pictures of an archive or repository by the end of their path, in a temporary database."""

    def __init__(self, where: str, members: Iterable[Member]) -> None:
        self._where = where
        self._db = sqlite3.connect("")
        self._db.execute(_CREATE)
        self._db.executemany(_INSERT, ((_get_tail(member.name), *member) for member in members))
        self._db.execute(_CREATE_INDEX)
        repeated = self._db.execute(_FIND_REPEATED).fetchone()
        if repeated:
            raise InputError(
                f"{where}: member {repeated[0]!r}: expected each name once, got it again; "
                "pack the file again"
            )

    def find(self, image_id: str) -> Member | None:
        """Return the member that holds a picture, in whatever folders; None if there is none.

        Raises:
            InputError: several members could hold it.
        """
        for path in list_candidate_paths(image_id)[1:]:
            members = []
            for row in self._db.execute(_SELECT, (_get_tail(path),)):
                member = Member(*row)
                if _ends_with(member.name, path):
                    members.append(member)
            if len(members) > 1:
                names = ", ".join(repr(member.name) for member in members[:3])
                raise InputError(
                    f"{self._where}: expected one picture {image_id!r}, got {names}; "
                    "name a smaller source"
                )
            if members:
                return members[0]
        return None


def check_size(where: str, size: int) -> None:
    """Raise an `InputError` if a file is too large to be a picture."""
    if size > mmrel.MAX_PICTURE_BYTES:
        raise InputError(
            f"{where}: expected a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes, got {size}"
        )


def _get_tail(name: str) -> str:
    """Return the last folder and the name of a path."""
    return "/".join(name.split("/")[-2:])


def _ends_with(name: str, path: str) -> bool:
    return name == path or name.endswith(f"/{path}")

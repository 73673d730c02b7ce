# SPDX-License-Identifier: Apache-2.0
"""Find pictures among the members of an archive or a repository, under whatever folders."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import Member

if TYPE_CHECKING:
    from collections.abc import Iterable


class Location(NamedTuple):
    """Where a picture lies, so that it can be read without looking for it again.

    Attributes:
        size: its bytes.
        stamp: differs when the picture has changed.
        name: its name in its source.
        member: a `Member`, in zip and tar files.
        source: the number of its source, of several.
    """

    size: int
    stamp: str
    name: str
    member: list[Any] | None = None
    source: int = 0


def list_candidate_paths(image_id: str) -> list[str]:
    """Return paths at which upstream's folders and archives hold a picture, the likeliest first.

    >>> list_candidate_paths("vg/VG_100K/7.jpg")
    ['vg/VG_100K/7.jpg', 'VG_100K/7.jpg', 'vg/VG_100K_2/7.jpg', 'VG_100K_2/7.jpg', '7.jpg']
    """
    root, _, rest = image_id.partition("/")
    layouts = [image_id, rest]
    if root == "vg":
        # Visual Genome's two folders share one series of ids; which of them holds a picture is not
        # in its id.
        folder, _, name = rest.partition("/")
        if folder in ("VG_100K", "VG_100K_2"):
            other = "VG_100K" if folder == "VG_100K_2" else "VG_100K_2"
            layouts += [f"vg/{other}/{name}", f"{other}/{name}", name]
    elif root == "SPEC":
        layouts += [f"data/{rest}", f"data/{image_id}", f"{root}/data/{rest}"]
    return layouts


class MemberIndex:
    """Pictures of an archive by the end of their path, in a temporary file of SQLite's."""

    def __init__(self, where: str, members: Iterable[Member]) -> None:
        self._where = where
        self._db = sqlite3.connect("")
        self._db.execute("create table members (tail, name, offset, stored, size, method, crc)")
        rows = ((_tail(member.name), *member) for member in members)
        self._db.executemany("insert into members values (?,?,?,?,?,?,?)", rows)
        self._db.execute("create index by_tail on members (tail, name)")
        twins = "select name from members group by tail, name having count(*) > 1 limit 1"
        twin = self._db.execute(twins).fetchone()
        if twin:
            wanted = "expected each name once, it stands there again"
            raise InputError(f"{where}: member {twin[0]!r}: {wanted}; pack it anew")

    def find(self, image_id: str) -> Member | None:
        """Return the member that holds a picture, under whatever folders.

        Raises:
            InputError: several could be it.
        """
        query = "select name, offset, stored, size, method, crc from members where tail = ?"
        for layout in list_candidate_paths(image_id)[1:]:
            rows = self._db.execute(query, (_tail(layout),))
            members = [Member(*row) for row in rows]
            members = [member for member in members if _ends_with(member.name, layout)]
            if len(members) > 1:
                names = ", ".join(repr(member.name) for member in members[:3])
                wanted = f"expected one picture {image_id!r}"
                raise InputError(f"{self._where}: {wanted}, got {names}; name a smaller source")
            if members:
                return members[0]
        return None


def check_size(where: str, size: int) -> None:
    """Raise an `InputError` where a file is too large to be a picture."""
    if size > mmrel.MAX_PICTURE_BYTES:
        wanted = f"expected a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes"
        raise InputError(f"{where}: {wanted}, got {size}")


def _tail(name: str) -> str:
    """Return the last folder and the name, which all layouts of a picture share."""
    return "/".join(name.split("/")[-2:])


def _ends_with(name: str, layout: str) -> bool:
    return name == layout or name.endswith(f"/{layout}")

# SPDX-License-Identifier: Apache-2.0
"""Finds the pictures that questions are about: in folders, zip and tar files, Hub repositories and the re-release."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import mmrel
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import SUFFIXES, Member, list_pictures, read_picture
from mmrel_kit.pictures.unpack import unpack_pictures
from mmrel_kit.questions.records import parse_image_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HUB = "hf://datasets/"


class Place(NamedTuple):
    """Where a picture lies, so that it can be read without looking for it again."""

    size: int
    stamp: str  # differs when the picture has changed
    name: str  # in its source
    member: list[Any] | None = None  # a `Member`, in zip and tar files
    source: int = 0  # of several


class Pictures(Protocol):
    """Where pictures come from; it may be sent to another process, which then reads them too."""

    def prepare(self, folder: Path) -> None:
        """Make ready to find pictures; `folder` may be used for what has to be unpacked."""

    def find(self, image_id: str) -> Place | None:
        """Where a picture lies, or null where there is none."""

    def read(self, place: Place) -> bytes:
        """The bytes of a picture as they are."""

    def is_current(self, place: Place) -> bool:
        """Whether a picture that was found in an earlier run is still there as it was."""

    def describe(self) -> str:
        """What these pictures come from; differs when an archive or repository among them has changed."""


def make_layouts(image_id: str) -> list[str]:
    """Paths at which upstream's folders and archives hold a picture, the likeliest first.

    >>> make_layouts("vg/VG_100K/7.jpg")
    ['vg/VG_100K/7.jpg', 'VG_100K/7.jpg', 'vg/VG_100K_2/7.jpg', 'VG_100K_2/7.jpg', '7.jpg']
    """
    root, _, rest = image_id.partition("/")
    layouts = [image_id, rest]
    if root == "vg":
        # Visual Genome's two folders share one series of ids; which of them holds a picture is not in its id.
        folder, _, name = rest.partition("/")
        if folder in ("VG_100K", "VG_100K_2"):
            other = "VG_100K" if folder == "VG_100K_2" else "VG_100K_2"
            layouts += [f"vg/{other}/{name}", f"{other}/{name}", name]
    elif root == "SPEC":
        layouts += [f"data/{rest}", f"data/{image_id}", f"{root}/data/{rest}"]
    return layouts


class PictureFolder:
    """Pictures as plain files, under the upstream root or one of its folders."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"{root}: expected a folder that holds vg/, SPEC/ or Dall-E_generated/, found none")
        self.root = root

    def prepare(self, folder: Path) -> None:
        """Nothing."""

    def find(self, image_id: str) -> Place | None:
        """See `Pictures`; raises `InputError` where a file is too large to be a picture."""
        for name in make_layouts(image_id):
            path = self.root / name
            try:
                found = path.stat()
            except OSError:
                continue
            if path.is_file():
                if found.st_size > mmrel.MAX_PICTURE_BYTES:
                    raise InputError(
                        f"{path}: expected a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes, got {found.st_size}"
                    )
                return Place(found.st_size, f"{found.st_size} {found.st_mtime_ns}", name)
        return None

    def read(self, place: Place) -> bytes:
        """See `Pictures`."""
        return (self.root / place.name).read_bytes()

    def is_current(self, place: Place) -> bool:
        """See `Pictures`."""
        try:
            found = (self.root / place.name).stat()
        except OSError:
            return False
        return place.stamp == f"{found.st_size} {found.st_mtime_ns}"

    def describe(self) -> str:
        """See `Pictures`."""
        return str(self.root)


class PictureArchive:
    """Pictures in a zip or tar file, which is listed once and read in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index: _Index | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    def prepare(self, folder: Path) -> None:
        """List the file; raises `InputError` where it is damaged or hostile."""
        self._index = self._index or _Index(str(self.path), list_pictures(self.path))

    def find(self, image_id: str) -> Place | None:
        """See `Pictures`."""
        assert self._index is not None, "prepare() comes first"
        member = self._index.find(image_id)
        return Place(member.size, self.describe(), member.name, list(member)) if member else None

    def read(self, place: Place) -> bytes:
        """See `Pictures`."""
        return read_picture(self.path, Member(*place.member or ()))

    def is_current(self, place: Place) -> bool:
        """See `Pictures`."""
        return place.stamp == self.describe()

    def describe(self) -> str:
        """See `Pictures`."""
        return _stamp_file(self.path)


class PictureTable(PictureFolder):
    """Pictures of the DALL-E re-release: Parquet, whose pictures are written out once, beside the plan."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = Path("/")  # places are absolute, so that they are read without the pictures being unpacked again

    def prepare(self, folder: Path) -> None:
        """Write the pictures out, if they are not there yet."""
        self.root = Path(os.path.abspath(folder / f"unpacked-{self.path.stem}"))
        unpack_pictures(self.path, self.root)

    def find(self, image_id: str) -> Place | None:
        """See `Pictures`."""
        place = super().find(image_id)
        return place._replace(name=str(self.root / place.name)) if place else None

    def describe(self) -> str:
        """See `Pictures`."""
        return _stamp_file(self.path)


@contextlib.contextmanager
def _hub_failures_as(before: str, after: str = "") -> Iterator[None]:
    """Raise a failure of the Hub as an `InputError`; the client's own words may hold signed addresses."""
    from mmrel_kit.hub.calls import FAILURES, describe

    try:
        yield
    except InputError:
        raise
    except FAILURES as error:
        raise InputError(f"{before}{describe(error)}{after}") from None


class PictureRepository:
    """Pictures in a dataset repository on the Hub; only those that are asked for are fetched, into the Hub's cache.

    Args:
        url: `hf://datasets/OWNER/NAME[@REVISION]`; a revision that is no commit is resolved once.
    """

    def __init__(self, url: str) -> None:
        from huggingface_hub import HfApi

        self.repo_id, _, revision = url.removeprefix(HUB).partition("@")
        with _hub_failures_as(f"{url}: expected a dataset repository that can be reached: "):
            self.commit = str(HfApi().dataset_info(self.repo_id, revision=revision or None).sha)
        self._index: _Index | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    def prepare(self, folder: Path) -> None:
        """List the repository's files."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        if self._index is not None:
            return
        options: dict[str, Any] = {"recursive": True, "revision": self.commit, "repo_type": "dataset"}
        with _hub_failures_as(f"{self.describe()}: its files could not be listed: "):
            tree = HfApi().list_repo_tree(self.repo_id, **options)
            entries = (entry for entry in tree if isinstance(entry, RepoFile))
            members = (Member(entry.path, 0, entry.size, entry.size) for entry in entries)
            self._index = _Index(self.describe(), members)

    def find(self, image_id: str) -> Place | None:
        """See `Pictures`."""
        assert self._index is not None, "prepare() comes first"
        member = self._index.find(image_id)
        if member and member.size > mmrel.MAX_PICTURE_BYTES:
            raise InputError(
                f"{self.describe()}/{member.name}: expected a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes, "
                f"got {member.size}"
            )
        return Place(member.size, self.commit, member.name) if member else None

    def read(self, place: Place) -> bytes:
        """See `Pictures`."""
        from huggingface_hub import hf_hub_download

        where = f"{self.describe()}/{place.name}"
        with _hub_failures_as(f"{where}: the picture could not be fetched: ", "; build again"):
            path = hf_hub_download(self.repo_id, place.name, repo_type="dataset", revision=self.commit)
        return Path(path).read_bytes()

    def is_current(self, place: Place) -> bool:
        """See `Pictures`; a commit never changes."""
        return place.stamp == self.commit

    def describe(self) -> str:
        """See `Pictures`."""
        return f"{HUB}{self.repo_id}@{self.commit}"


class PictureSources:
    """Several sources; each domain's own are asked before those of all domains, in the order given.

    Args:
        specs: `ROOT`, or `real=…`, `sdxl=…`, `dalle=…`: a folder, a zip or tar file, a file of the Parquet re-release,
            or `hf://datasets/OWNER/NAME[@REVISION]`.

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

    def find(self, image_id: str) -> Place | None:
        """See `Pictures`."""
        domain, _ = parse_image_path(image_id)
        for wanted in (domain, ""):
            for number, (name, source) in enumerate(self._sources):
                if name == wanted and (place := source.find(image_id)):
                    return place._replace(source=number)
        return None

    def read(self, place: Place) -> bytes:
        """See `Pictures`."""
        return self._sources[place.source][1].read(place)

    def is_current(self, place: Place) -> bool:
        """See `Pictures`."""
        return self._sources[place.source][1].is_current(place)

    def describe(self) -> str:
        """See `Pictures`."""
        return ", ".join(f"{domain}={source.describe()}".lstrip("=") for domain, source in self._sources)


def open_source(where: str) -> Pictures:
    """The source at a path or URL; raises `InputError` where there is none that can be read."""
    if not where:
        raise InputError("expected a source of pictures as --images, got ''; write . for the current folder")
    if where.startswith(HUB):
        return PictureRepository(where)
    path = Path(where)
    if path.is_file() and path.suffix in SUFFIXES:
        return PictureArchive(path)
    if path.is_file() and path.suffix == ".parquet":
        return PictureTable(path)
    if path.is_dir():
        return PictureFolder(path)
    raise InputError(
        f"{where}: expected a folder, a {', '.join(SUFFIXES)} or .parquet file, or {HUB}OWNER/NAME, found "
        + ("a file of another kind; unpack it" if path.exists() else "nothing there")
    )


class _Index:
    """Pictures of an archive by the end of their path, in a temporary file of SQLite's rather than in memory."""

    def __init__(self, where: str, members: Iterable[Member]) -> None:
        self._where = where
        self._db = sqlite3.connect("")
        self._db.execute("create table members (tail, name, place, stored, size, method, crc)")
        self._db.executemany(
            "insert into members values (?,?,?,?,?,?,?)", ((_tail(member.name), *member) for member in members)
        )
        self._db.execute("create index by_tail on members (tail, name)")
        twins = "select name from members group by tail, name having count(*) > 1 limit 1"
        if twin := self._db.execute(twins).fetchone():
            raise InputError(
                f"{where}: member {twin[0]!r}: expected each name once, it stands there again; pack it anew"
            )

    def find(self, image_id: str) -> Member | None:
        """The member that holds a picture, under whatever folders; raises `InputError` where several could."""
        for layout in make_layouts(image_id)[1:]:
            found = [
                Member(*row)
                for row in self._db.execute(
                    "select name, place, stored, size, method, crc from members where tail = ?", (_tail(layout),)
                )
                if row[0] == layout or row[0].endswith(f"/{layout}")
            ]
            if len(found) > 1:
                names = ", ".join(repr(member.name) for member in found[:3])
                raise InputError(
                    f"{self._where}: expected one picture {image_id!r}, got {names}; name a smaller source"
                )
            if found:
                return found[0]
        return None


def _tail(name: str) -> str:
    """The last folder and the name: what all layouts of a picture share, and what few pictures do."""
    return "/".join(name.split("/")[-2:])


def _stamp_file(path: Path) -> str:
    found = path.stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"

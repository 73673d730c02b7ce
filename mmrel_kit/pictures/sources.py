# SPDX-License-Identifier: Apache-2.0
"""Find the pictures that questions are about: in folders, zip and tar files, on the Hub."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import mmrel
from mmrel_kit.files import InputError, hide_queries
from mmrel_kit.pictures.containers import SUFFIXES, Member, list_pictures, read_picture
from mmrel_kit.pictures.unpack import unpack_pictures
from mmrel_kit.questions.records import parse_image_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HUB = "hf://datasets/"
MAX_REASON = 300  # characters of what the Hub's client says


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


def make_layouts(image_id: str) -> list[str]:
    """Return paths at which upstream's folders and archives hold a picture, the likeliest first.

    >>> make_layouts("vg/VG_100K/7.jpg")
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
        for name in make_layouts(image_id):
            path = self.root / name
            try:
                found = path.stat()
            except OSError:
                continue
            if path.is_file():
                _check_size(str(path), found.st_size)
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
        self._index: _Index | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    def prepare(self, folder: Path) -> None:
        """List the file.

        Raises:
            InputError: it is damaged or hostile.
        """
        if self._index is None:
            self._index = _Index(str(self.path), list_pictures(self.path))

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


class PictureRepository:
    """Pictures in a dataset repository on the Hub, fetched one by one into the Hub's cache.

    Args:
        url: `hf://datasets/OWNER/NAME[@REVISION]`; a revision that is no commit is resolved once.

    Raises:
        InputError: the repository cannot be reached.
    """

    def __init__(self, url: str) -> None:
        from huggingface_hub import HfApi

        self.repo_id, _, revision = url.removeprefix(HUB).partition("@")
        with _hub_failures_as(f"{url}: expected a dataset repository that can be reached: "):
            info = HfApi().dataset_info(self.repo_id, revision=revision or None)
            self.commit = str(info.sha)
        self._index: _Index | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    def prepare(self, folder: Path) -> None:
        """List the repository's files.

        Raises:
            InputError: they cannot be listed.
        """
        if self._index is None:
            with _hub_failures_as(f"{self.describe()}: its files could not be listed: "):
                self._index = _Index(self.describe(), self._list())

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`.

        Raises:
            InputError: a file is too large to be a picture.
        """
        assert self._index is not None, "prepare() comes first"
        member = self._index.find(image_id)
        if member is None:
            return None
        _check_size(f"{self.describe()}/{member.name}", member.size)
        return Location(member.size, self.commit, member.name)

    def read(self, location: Location) -> bytes:
        """See `Pictures`.

        Raises:
            InputError: the picture cannot be fetched.
        """
        from huggingface_hub import hf_hub_download

        name, commit = location.name, self.commit
        where = f"{self.describe()}/{name}"
        with _hub_failures_as(f"{where}: the picture could not be fetched: ", "; build again"):
            path = hf_hub_download(self.repo_id, name, repo_type="dataset", revision=commit)
        return Path(path).read_bytes()

    def is_current(self, location: Location) -> bool:
        """See `Pictures`; a commit never changes."""
        return location.stamp == self.commit

    def describe(self) -> str:
        """See `Pictures`."""
        return f"{HUB}{self.repo_id}@{self.commit}"

    def _list(self) -> Iterator[Member]:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        entries = HfApi().list_repo_tree(
            self.repo_id,
            recursive=True,
            revision=self.commit,
            repo_type="dataset",
        )
        for entry in entries:
            if isinstance(entry, RepoFile):
                yield Member(entry.path, 0, entry.size, entry.size)


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
    if where.startswith(HUB):
        return PictureRepository(where)
    path = Path(where)
    if path.is_file() and path.suffix in SUFFIXES:
        return PictureArchive(path)
    if path.is_file() and path.suffix == ".parquet":
        return PictureTable(path)
    if path.is_dir():
        return PictureFolder(path)
    wanted = f"expected a folder, a {', '.join(SUFFIXES)} or .parquet file, or {HUB}OWNER/NAME"
    found = "a file of another kind; unpack it" if path.exists() else "nothing there"
    raise InputError(f"{where}: {wanted}, found {found}")


class _Index:
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
        for layout in make_layouts(image_id)[1:]:
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


@contextlib.contextmanager
def _hub_failures_as(before: str, after: str = "") -> Iterator[None]:
    """Raise a failure of the Hub's client as an `InputError`."""
    import huggingface_hub.utils

    # Broken connections are no OSError; httpx comes with huggingface_hub from 1.0 on.
    httpx = getattr(huggingface_hub.utils, "httpx", None)
    failures: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, KeyError)
    if httpx:
        failures += (httpx.HTTPError,)
    try:
        yield
    except InputError:
        raise
    except failures as error:
        raise InputError(f"{before}{_describe_failure(error)}{after}") from None


def _describe_failure(error: Exception) -> str:
    """Return what the Hub's client says, on one line, without signatures of addresses."""
    response = getattr(error, "response", None)
    if response is not None:
        said = getattr(error, "server_message", None) or getattr(response, "reason_phrase", "")
        return f"the answer was {response.status_code} ({hide_queries(str(said))[:MAX_REASON]})"
    line = hide_queries(" ".join(str(error).split())).rstrip(".")
    return line[:MAX_REASON] or type(error).__name__


def _check_size(where: str, size: int) -> None:
    if size > mmrel.MAX_PICTURE_BYTES:
        wanted = f"expected a picture of at most {mmrel.MAX_PICTURE_BYTES} bytes"
        raise InputError(f"{where}: {wanted}, got {size}")


def _tail(name: str) -> str:
    """Return the last folder and the name, which all layouts of a picture share."""
    return "/".join(name.split("/")[-2:])


def _ends_with(name: str, layout: str) -> bool:
    return name == layout or name.endswith(f"/{layout}")


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns}"

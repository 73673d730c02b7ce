# SPDX-License-Identifier: Apache-2.0
"""Open the sources of pictures that `mmrel build --images` names.

To add a source, write a class with the methods of `Pictures`, in a file of its own, and return it
from `open_source`. Copy `PictureFolder` for pictures that are looked up one by one,
`PictureArchive` for those that have to be listed first.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import mmrel
from mmrel_kit.files import InputError, raise_problems
from mmrel_kit.pictures.containers import SUFFIXES
from mmrel_kit.pictures.index import Location
from mmrel_kit.questions.records import parse_image_path
from mmrel_kit.sources.fetching import FetchResult, fetch_pictures, make_client, make_plan
from mmrel_kit.sources.hosts import is_remote, open_host
from mmrel_kit.sources.hub import HubRepository
from mmrel_kit.sources.local import (
    FilledFolder,
    PictureArchive,
    PictureFolder,
    Pictures,
    PictureTable,
)


class FetchedPictures(FilledFolder):
    """Pictures from a host, fetched into the folder of the build before it begins."""

    def __init__(self, where: str) -> None:
        super().__init__()
        open_host(where)  # checks the address
        # What is fetched must not change with a branch.
        self.where = HubRepository(where).where if where.startswith(mmrel.HUB) else where

    def prepare(self, folder: Path, image_ids: Sequence[str] = ()) -> None:
        """Fetch the pictures that are not there yet.

        Raises:
            InputError: the host cannot be read, or pictures that it has could not be fetched.
        """
        name = hashlib.sha256(self.where.encode()).hexdigest()[:8]
        self.root = Path(os.path.abspath(folder / f"fetched-{name}"))
        self.root.mkdir(parents=True, exist_ok=True)
        result = asyncio.run(self._fetch(image_ids))
        failures = []
        for image_id, misses in result.missing.items():
            failures += [f"{image_id}: {miss.reason}" for miss in misses if not miss.is_absent]
        raise_problems(failures)

    def describe(self) -> str:
        """See `Pictures`."""
        return self.where

    async def _fetch(self, image_ids: Sequence[str]) -> FetchResult:
        host = open_host(self.where)
        hosts = {domain: [host] for domain in mmrel.DOMAINS}
        async with make_client() as client:
            plan = await make_plan(client, hosts, image_ids, self.root)
            raise_problems([f"{miss.host}: {miss.reason}" for miss in plan.list_closed()])
            return await fetch_pictures(client, plan, self.root)


class PictureSources:
    """Several sources; those of a domain come before those of all domains, in the order given.

    Args:
        specs: `SOURCE`, or `real=SOURCE`, `sdxl=SOURCE`, `dalle=SOURCE`; see `open_source`.

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

    def prepare(self, folder: Path, image_ids: Sequence[str] = ()) -> None:
        """See `Pictures`; each source is asked for what those before it lack."""
        missing = list(image_ids)
        for domain, source in sorted(self._sources, key=lambda item: not item[0]):
            wanted = [name for name in missing if domain in ("", parse_image_path(name)[0])]
            source.prepare(folder, wanted)
            found = {name for name in wanted if source.find(name)}
            missing = [name for name in missing if name not in found]

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`."""
        image_domain, _ = parse_image_path(image_id)
        for domain in (image_domain, ""):
            for number, (source_domain, source) in enumerate(self._sources):
                if source_domain != domain:
                    continue
                location = source.find(image_id)
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
        names = []
        for domain, source in self._sources:
            name = source.describe()
            names.append(f"{domain}={name}" if domain else name)
        return ", ".join(names)


def open_source(where: str) -> Pictures:
    """Return the source at a path or URL.

    Args:
        where: a folder, a zip or tar file, a file of the Parquet re-release, or an address of
            `hosts.open_host`.

    Raises:
        InputError: there is none, or it is of no known kind.
    """
    if not where:
        raise InputError(
            "expected a source of pictures as --images, got ''; write . for the current folder"
        )
    path = Path(where)
    if is_remote(where):
        return FetchedPictures(where)
    if path.is_file() and path.suffix in SUFFIXES:
        return PictureArchive(path)
    if path.is_file() and path.suffix == ".parquet":
        return PictureTable(path)
    if path.is_dir():
        return PictureFolder(path)
    got = "a file of another kind; unpack it" if path.exists() else "nothing there"
    raise InputError(
        f"{where}: expected a folder, a {', '.join(SUFFIXES)} or .parquet file, or "
        f"{mmrel.HUB}OWNER/NAME or http(s)://…, found {got}"
    )

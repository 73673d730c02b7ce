# SPDX-License-Identifier: Apache-2.0
"""Read pictures from a dataset repository on the Hub."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.failures import FAILURES, describe
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import Member
from mmrel_kit.pictures.index import Location, MemberIndex, check_size


class PictureRepository:
    """Pictures in a dataset repository on the Hub, fetched one by one into the Hub's cache.

    The URL is `hf://datasets/OWNER/NAME[@REVISION]`; a branch or tag is resolved to a commit once.

    Raises:
        InputError: the repository cannot be reached.
    """

    def __init__(self, url: str) -> None:
        from huggingface_hub import HfApi

        address = mmrel.parse_hub_address(url)
        if address is None:
            raise InputError(
                f"expected {mmrel.HUB}OWNER/NAME or {mmrel.HUB}OWNER/NAME@REVISION, got {url!r}"
            )
        self.repo_id, revision = address
        with _hub_failures_as(f"{url}: expected a dataset repository that can be reached: "):
            info = HfApi().dataset_info(self.repo_id, revision=revision)
            self.commit = str(info.sha)
        self._index: MemberIndex | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}  # a database cannot be pickled

    def prepare(self, folder: Path) -> None:
        """List the repository's files."""
        if self._index is None:
            with _hub_failures_as(f"{self.describe()}: its files could not be listed: "):
                self._index = MemberIndex(self.describe(), self._list())

    def find(self, image_id: str) -> Location | None:
        """See `Pictures`."""
        assert self._index is not None, "prepare() comes first"
        member = self._index.find(image_id)
        if member is None:
            return None
        check_size(f"{self.describe()}/{member.name}", member.size)
        return Location(member.size, self.commit, member.name)

    def read(self, location: Location) -> bytes:
        """See `Pictures`."""
        from huggingface_hub import hf_hub_download

        where = f"{self.describe()}/{location.name}"
        with _hub_failures_as(f"{where}: the picture could not be fetched: ", "; build again"):
            path = hf_hub_download(
                self.repo_id, location.name, repo_type="dataset", revision=self.commit
            )
        return Path(path).read_bytes()

    def is_current(self, location: Location) -> bool:
        """See `Pictures`; a commit never changes."""
        return location.stamp == self.commit

    def describe(self) -> str:
        """See `Pictures`."""
        return f"{mmrel.HUB}{self.repo_id}@{self.commit}"

    def _list(self) -> Iterator[Member]:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        entries = HfApi().list_repo_tree(
            self.repo_id, recursive=True, revision=self.commit, repo_type="dataset"
        )
        for entry in entries:
            if isinstance(entry, RepoFile):
                yield Member(entry.path, 0, entry.size, entry.size)


@contextlib.contextmanager
def _hub_failures_as(before: str, after: str = "") -> Iterator[None]:
    """Raise a failure of the Hub's client as an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except FAILURES as error:
        raise InputError(f"{before}{describe(error)}{after}") from None

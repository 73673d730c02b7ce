# SPDX-License-Identifier: Apache-2.0
"""The files of a dataset repository on the Hub: their addresses, sizes and checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

import mmrel
from mmrel_kit.failures import FAILURES, describe
from mmrel_kit.files import InputError


class HubRepository:
    """The files of a dataset repository on the Hub at one commit.

    Raises:
        InputError: there is no such repository or revision, or it cannot be reached.
    """

    def __init__(self, where: str) -> None:
        self.repo_id, revision, self._path = parse_hub_path(where)
        self._api = HfApi(library_name="mmrel")
        try:
            self.commit = self._find_commit(revision)
        except FAILURES as error:
            expected = "expected a dataset repository that can be reached"
            raise InputError(f"{where}: {expected}: {describe(error)}") from None
        below = f"/{self._path}" if self._path else ""
        self.where = f"{mmrel.HUB}{self.repo_id}@{self.commit}{below}"

    def list_files(self) -> Iterator[RepoFile]:
        """Yield the files at or below the address.

        Raises:
            InputError: they cannot be listed, or there is none.
        """
        is_empty = True
        try:
            for entry in self._list_tree():
                is_below = entry.path == self._path or entry.path.startswith(f"{self._path}/")
                if isinstance(entry, RepoFile) and (is_below or not self._path):
                    is_empty = False
                    yield entry
        except FAILURES as error:
            reason = describe(error)
            raise InputError(f"{self.where}: its files could not be listed: {reason}") from None
        if is_empty:
            raise InputError(f"{self.where}: expected files there, found none; check the address")

    def resolve(self, path: str) -> str:
        """Return the address of a file."""
        return f"{constants.ENDPOINT}/datasets/{self.repo_id}/resolve/{self.commit}/{quote(path)}"

    def name_file(self, path: str) -> str:
        """Return the name of a file for people."""
        return f"{mmrel.HUB}{self.repo_id}@{self.commit}/{path}"

    def _list_tree(self) -> Iterator[Any]:
        options: Any = {"revision": self.commit, "repo_type": "dataset", "recursive": True}
        return iter(self._api.list_repo_tree(self.repo_id, **options))

    def _find_commit(self, revision: str | None) -> str:
        """Return the commit of a branch, tag or commit; a commit may be abbreviated."""
        try:
            return str(self._api.dataset_info(self.repo_id, revision=revision).sha)
        except RevisionNotFoundError:
            for commit in self._api.list_repo_commits(self.repo_id, repo_type="dataset"):
                if revision and len(revision) >= 7 and commit.commit_id.startswith(revision):
                    return str(commit.commit_id)
            raise


def parse_hub_path(where: str) -> tuple[str, str | None, str]:
    """Return repository, revision and path of `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.

    >>> parse_hub_path("hf://datasets/NS/SPEC@main/data.zip")
    ('NS/SPEC', 'main', 'data.zip')

    Raises:
        InputError: it is not such an address.
    """
    owner, _, rest = where.removeprefix(mmrel.HUB).partition("/")
    name, _, path = rest.partition("/")
    address = mmrel.parse_hub_address(f"{mmrel.HUB}{owner}/{name}")
    if address is None or not where.startswith(mmrel.HUB) or ".." in path:
        raise InputError(
            f"expected {mmrel.HUB}OWNER/NAME, @REVISION after it and /PATH after that if needed, "
            f"got {where[:200]!r}"
        )
    return (*address, path.rstrip("/"))


def has_checksum(chunks: Iterable[bytes], file: RepoFile) -> bool:
    """Return whether the chunks of a file have the size and checksum that the Hub states."""
    # The Hub states the SHA-256 of a file in LFS, else the id in git.
    digest = hashlib.sha256() if file.lfs else hashlib.sha1(f"blob {file.size}\0".encode())
    size = 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    expected = file.lfs.sha256 if file.lfs else file.blob_id
    return size == file.size and digest.hexdigest() == expected

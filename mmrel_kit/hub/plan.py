# SPDX-License-Identifier: Apache-2.0
"""Plan a push: compare the files of a release with those of its repository on the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

import mmrel
from mmrel_kit.files import INDEX, InputError, describe_file, read_chunks


class Checksum(NamedTuple):
    """What checksums.json says of a file: hexadecimal SHA-256, and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class RemoteState:
    """The repository on the Hub at one revision.

    Attributes:
        revision: the commit that was looked at.
        private: whether only members see the repository.
        files: what the Hub knows of each file (`size`, `blob_id`, and `lfs` for an LFS file).
        ours: the files that the release there lists as its own; empty if there is no release.
    """

    revision: str
    private: bool
    files: Mapping[str, Any]
    ours: frozenset[str]


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What a push changes; paths are sorted.

    Attributes:
        added: files that the repository lacks.
        changed: files that differ there.
        removed: files of the release there that the new one lacks.
        unchanged: files that are there already.
        to_send: bytes of all added and changed files.
        parent: the revision that it builds on; None if the repository is to be made.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    to_send: int
    parent: str | None

    @property
    def is_empty(self) -> bool:
        """Whether the repository holds the release already."""
        return not (self.added or self.changed or self.removed)

    def __str__(self) -> str:
        signs = (("+", self.added), ("~", self.changed), ("-", self.removed))
        lines = [f"{sign} {path}" for sign, paths in signs for path in paths]
        kinds = ("added", "changed", "removed", "unchanged")
        counts = ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in kinds)
        return "\n".join([*lines, f"{counts}; {self.to_send:,} bytes to send"])


def check_name(repo_id: str) -> None:
    """Refuse a repository name that the Hub does not take.

    Raises:
        InputError: with the reason.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is no name for a repository: {error}") from None
    if "/" not in repo_id:
        raise InputError(f"expected NAMESPACE/NAME for the repository, got {repo_id!r}")


def read_index(
    root: Path,
    check: Callable[[Path], Sequence[object]] | None = None,
) -> dict[str, Any]:
    """Return the checksums.json of a release.

    Args:
        root: folder of the release.
        check: returns what is wrong with the release; None skips that.

    Raises:
        InputError: there is no release, or something is wrong with it; with all problems.
    """
    path = root / INDEX
    if not path.is_file():
        raise InputError(f"no release in {root}: there is no {INDEX}; `mmrel build` makes one")
    problems = check(root) if check else ()
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        count = f"{len(problems)} problem(s)"
        raise InputError(f"the release in {root} has {count}, nothing was sent:\n{listed}")
    try:
        return mmrel.parse_index(path.read_bytes())
    except mmrel.ReleaseError as error:
        raise InputError(f"{path}: {error}") from None


def list_release(root: Path, index: Mapping[str, Any]) -> dict[str, Checksum]:
    """Return all files of a release, checksums.json included.

    Args:
        root: folder of the release.
        index: its checksums.json, whose hashes are taken for those of the files.
    """
    described = {**index["files"], INDEX: describe_file(root / INDEX)}
    return {path: Checksum(file["sha256"], file["size"]) for path, file in described.items()}


def refuse_script(repo_id: str, paths: Mapping[str, object], where: str) -> None:
    """Refuse a file that makes datasets >= 4 take the repository for a script and stop.

    It looks for `<name>.py` at the top, `<name>` as the user typed it; the Hub takes any casing.

    Raises:
        InputError: there is such a file.
    """
    script = f"{repo_id.split('/')[-1]}.py".lower()
    traps = [path for path in paths if path.lower() == script]
    if traps:
        raise InputError(
            f"{where} has {traps[0]} at its top, so datasets >= 4 could not load {repo_id}: "
            "move the file into a folder or publish under another name"
        )


def make_plan(
    root: Path, release: Mapping[str, Checksum], standing: RemoteState | None
) -> PushPlan:
    """Compare a release with its repository.

    Files of the release there that the new one lacks are removed; files of others stay.
    """
    there = standing.files if standing else {}
    ours = standing.ours if standing else frozenset()
    added = sorted(release.keys() - there.keys())
    common = sorted(release.keys() & there.keys())
    changed = [path for path in common if not is_same(root / path, release[path], there[path])]
    removed = sorted((ours & there.keys()) - release.keys())
    unchanged = sorted(set(common) - set(changed))
    return PushPlan(
        added=tuple(added),
        changed=tuple(changed),
        removed=tuple(removed),
        unchanged=tuple(unchanged),
        to_send=sum(release[path].size for path in [*added, *changed]),
        parent=standing.revision if standing else None,
    )


def is_same(path: Path, checksum: Checksum, remote: Any) -> bool:
    """Return whether a file of the Hub has this content.

    LFS files show their SHA-256, all others git's id.
    """
    if remote.lfs:
        return bool(remote.lfs.sha256 == checksum.sha256)
    return bool(remote.size == checksum.size and remote.blob_id == hash_git_blob(path))


def hash_git_blob(path: Path) -> str:
    """Return the id that git gives a file: SHA-1 of its size and content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    for piece in read_chunks(path):
        digest.update(piece)
    return digest.hexdigest()


def check_repository(
    repo_id: str,
    standing: RemoteState | None,
    release: Mapping[str, Checksum],
    private: bool,
    create_pr: bool,
) -> None:
    """Refuse a repository that cannot take the release as asked.

    Raises:
        InputError: with what to do.
    """
    if standing is None:
        if create_pr:
            hint = "push without --create-pr"
            raise InputError(f"there is no {repo_id} to open a pull request for: {hint}")
        return
    if private and not standing.private:
        hint = "change that in its settings, or push without --private"
        raise InputError(f"{repo_id} exists and is public: {hint}")
    stays = {path: None for path in standing.files if path not in standing.ours - release.keys()}
    refuse_script(repo_id, stays, f"{repo_id} on the Hub")

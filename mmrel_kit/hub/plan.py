# SPDX-License-Identifier: Apache-2.0
"""Plan a push: compare the files of a release with those of its repository on the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

import mmrel
from mmrel_kit.files import INDEX, InputError, describe_file, read_chunks


class Checksum(NamedTuple):
    """The entry of a file in checksums.json: hexadecimal SHA-256, and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class RemoteState:
    """A repository on the Hub at one revision.

    Attributes:
        files: metadata of each file: `size`, `blob_id`, and `lfs` for an LFS file.
        release_files: files that the published release lists; empty if none is published.
    """

    revision: str
    private: bool
    files: Mapping[str, Any]
    release_files: frozenset[str]


@dataclass(frozen=True, slots=True)
class PushPlan:
    """The changes of a push, as sorted paths.

    Attributes:
        removed: files of the published release that the new one lacks.
        to_send: bytes of all added and changed files.
        parent: the revision that the push builds on; None if the repository must be created.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    to_send: int
    parent: str | None

    @property
    def is_empty(self) -> bool:
        """Whether the repository already holds the release."""
        return not (self.added or self.changed or self.removed)

    def __str__(self) -> str:
        lines = []
        for sign, paths in (("+", self.added), ("~", self.changed), ("-", self.removed)):
            lines += [f"{sign} {path}" for path in paths]
        lines.append(
            f"{len(self.added)} added, {len(self.changed)} changed, {len(self.removed)} removed, "
            f"{len(self.unchanged)} unchanged; {self.to_send:,} bytes to send"
        )
        return "\n".join(lines)


def check_name(repo_id: str) -> None:
    """Check that a name is valid for a repository on the Hub.

    Raises:
        InputError: it is not.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is not a valid repository name: {error}") from None
    if "/" not in repo_id:
        raise InputError(f"expected NAMESPACE/NAME for the repository, got {repo_id!r}")


def read_index(
    root: Path, check: Callable[[Path], Sequence[object]] | None = None
) -> dict[str, Any]:
    """Return the checksums.json of a release.

    `check` returns the problems of the release; None skips the check.

    Raises:
        InputError: there is no release, or it has problems; lists all of them.
    """
    path = root / INDEX
    if not path.is_file():
        raise InputError(f"no release in {root}: there is no {INDEX}; `mmrel build` writes one")
    problems = check(root) if check else ()
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise InputError(
            f"the release in {root} has {len(problems)} problem(s), nothing was sent:\n{lines}"
        )
    try:
        return mmrel.parse_index(path.read_bytes())
    except mmrel.ReleaseError as error:
        raise InputError(f"{path}: {error}") from None


def list_release(root: Path, index: Mapping[str, Any]) -> dict[str, Checksum]:
    """Return the checksums of all files of a release, including checksums.json."""
    entries = {**index["files"], INDEX: describe_file(root / INDEX)}
    return {path: Checksum(entry["sha256"], entry["size"]) for path, entry in entries.items()}


def check_no_script(repo_id: str, paths: Iterable[str], where: str) -> None:
    """Check that datasets >= 4 does not take the repository for a script, which it refuses.

    It looks for `<name>.py` at the top, in any casing that a user may type for the name.

    Raises:
        InputError: there is such a file.
    """
    script = f"{repo_id.split('/')[-1]}.py".lower()
    for path in paths:
        if path.lower() == script:
            raise InputError(
                f"{where} has {path} at its top, so datasets >= 4 could not load {repo_id}: "
                "move the file into a folder or publish under another name"
            )


def make_plan(root: Path, release: Mapping[str, Checksum], state: RemoteState | None) -> PushPlan:
    """Compare a release with its repository, whose state is None if it does not exist.

    Files of the published release that the new one lacks are removed; all other files are kept.
    """
    remote_files = state.files if state else {}
    published = state.release_files if state else frozenset()
    added = sorted(release.keys() - remote_files.keys())
    changed: list[str] = []
    unchanged: list[str] = []
    for path in sorted(release.keys() & remote_files.keys()):
        if is_same(root / path, release[path], remote_files[path]):
            unchanged.append(path)
        else:
            changed.append(path)
    removed = sorted((published & remote_files.keys()) - release.keys())
    return PushPlan(
        added=tuple(added),
        changed=tuple(changed),
        removed=tuple(removed),
        unchanged=tuple(unchanged),
        to_send=sum(release[path].size for path in [*added, *changed]),
        parent=state.revision if state else None,
    )


def is_same(path: Path, checksum: Checksum, remote: Any) -> bool:
    """Return whether a file on the Hub has the content of a file of the release.

    The Hub shows the SHA-256 of LFS files, and the git id of all others.
    """
    if remote.lfs:
        return bool(remote.lfs.sha256 == checksum.sha256)
    return bool(remote.size == checksum.size and remote.blob_id == hash_git_blob(path))


def hash_git_blob(path: Path) -> str:
    """Return the git id of a file: SHA-1 of its size and content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    for piece in read_chunks(path):
        digest.update(piece)
    return digest.hexdigest()


def check_repository(
    repo_id: str,
    state: RemoteState | None,
    release: Mapping[str, Checksum],
    private: bool,
    create_pr: bool,
) -> None:
    """Check that a repository can take the release with these options.

    Raises:
        InputError: it cannot.
    """
    if state is None:
        if create_pr:
            raise InputError(
                f"there is no {repo_id} to open a pull request for: push without --create-pr"
            )
        return
    if private and not state.private:
        raise InputError(
            f"{repo_id} exists and is public: change that in its settings, or push without "
            "--private"
        )
    kept = state.files.keys() - (state.release_files - release.keys())
    check_no_script(repo_id, sorted(kept), f"{repo_id} on the Hub")

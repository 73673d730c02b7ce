# SPDX-License-Identifier: Apache-2.0
"""Works out what a push has to change: what the release holds against what stands on the Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from mmrel_kit.files import INDEX, InputError, read_chunks


class Checksum(NamedTuple):
    """What checksums.json says of a file: hexadecimal SHA-256, and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands on the Hub at one revision.

    Attributes:
        revision: The commit that was looked at.
        private: Whether only members see the repository.
        files: Path to what the Hub knows of the file (`size`, `blob_id`, and `lfs` when it is an LFS file).
        ours: Paths that the release standing there lists as its own; empty when there is none.
    """

    revision: str
    private: bool
    files: Mapping[str, Any]
    ours: frozenset[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a push changes; paths are sorted.

    Attributes:
        parent: The revision that it builds on; None when the repository has yet to be made.
        to_send: Bytes of all added and changed files.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    to_send: int
    parent: str | None

    @property
    def is_empty(self) -> bool:
        """Whether the release stands there already."""
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
        InputError: With the reason.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is no name for a repository: {error}") from None
    if "/" not in repo_id:
        raise InputError(f"expected NAMESPACE/NAME for the repository, got {repo_id!r}")


def read_manifest(root: Path, check: Callable[[Path], Sequence[object]]) -> dict[str, Any]:
    """Return the release's checksums.json, once `check` has found nothing wrong with the release.

    Raises:
        InputError: With all problems, or because there is no release.
    """
    if not (root / INDEX).is_file():
        raise InputError(f"no release in {root}: there is no {INDEX}; `upload.py build` makes one")
    problems = check(root)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise InputError(f"the release in {root} has {len(problems)} problem(s), nothing was sent:\n{listed}")
    manifest: dict[str, Any] = json.loads((root / INDEX).read_bytes())
    return manifest


def list_release(root: Path, manifest: Mapping[str, Any]) -> dict[str, Checksum]:
    """Return all files of a release, checksums.json included.

    The SHA-256 of each is taken from checksums.json, which `check` has just compared with the files.

    Raises:
        InputError: A path leads out of the release.
    """
    files = {path: Checksum(entry["sha256"], entry["size"]) for path, entry in manifest["files"].items()}
    for path in files:
        if path != str(PurePosixPath(path)) or PurePosixPath(path).is_absolute() or ".." in path.split("/"):
            raise InputError(f"{INDEX} of {root} lists {path!r}, which is no path inside a release")
    content = (root / INDEX).read_bytes()
    return {**files, INDEX: Checksum(hashlib.sha256(content).hexdigest(), len(content))}


def refuse_script(repo_id: str, paths: Mapping[str, object], where: str) -> None:
    """Refuse a file that makes datasets >= 4 take the repository for a script and stop.

    It looks for `<name>.py` at the top, `<name>` as the user typed it; the Hub takes any casing.

    Raises:
        InputError: There is such a file.
    """
    script = f"{repo_id.split('/')[-1]}.py".lower()
    traps = [path for path in paths if path.lower() == script]
    if traps:
        raise InputError(
            f"{where} has {traps[0]} at its top, so datasets >= 4 could not load {repo_id}: "
            "move the file into a folder or publish under another name"
        )


def make_plan(root: Path, release: Mapping[str, Checksum], standing: Standing | None) -> Plan:
    """Compare a release with what stands on the Hub.

    Files that the older release lists and the new one lacks are removed; all others that are not ours stay.
    """
    there = standing.files if standing else {}
    added = sorted(release.keys() - there.keys())
    common = sorted(release.keys() & there.keys())
    changed = [path for path in common if not is_same(root / path, release[path], there[path])]
    removed = sorted((standing.ours & there.keys()) - release.keys()) if standing else []
    unchanged = sorted(set(common) - set(changed))
    to_send = sum(release[path].size for path in [*added, *changed])
    parent = standing.revision if standing else None
    return Plan(tuple(added), tuple(changed), tuple(removed), tuple(unchanged), to_send, parent)


def is_same(path: Path, checksum: Checksum, remote: Any) -> bool:
    """Whether a file stands on the Hub with this content: LFS files show their SHA-256, all others git's id."""
    if remote.lfs:
        return bool(remote.lfs.sha256 == checksum.sha256)
    return bool(remote.size == checksum.size and remote.blob_id == git_id(path))


def git_id(path: Path) -> str:
    """The id that git gives a file: SHA-1 of its size and content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    for piece in read_chunks(path):
        digest.update(piece)
    return digest.hexdigest()


def check_standing(
    repo_id: str, standing: Standing | None, release: Mapping[str, Checksum], private: bool, create_pr: bool
) -> None:
    """Refuse a repository that cannot take the release as asked."""
    if standing is None:
        if create_pr:
            raise InputError(f"there is no {repo_id} to open a pull request for: push without --create-pr")
        return
    if private and not standing.private:
        raise InputError(f"{repo_id} exists and is public: change that in its settings, or push without --private")
    stays = {path: None for path in standing.files if path not in standing.ours - release.keys()}
    refuse_script(repo_id, stays, f"{repo_id} on the Hub")

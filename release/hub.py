"""Publish a release on the Hugging Face Hub: all of it in one commit, or nothing.

`push` reads what the release holds (`checksums.json`), looks at what stands on the Hub, and makes a `Plan`. The files
that differ are sent first; no branch moves for that, and what has arrived is not sent again by a later run. One commit
on top of the revision that was looked at then makes them visible. Its description carries a mark, so that a commit whose
answer was lost is recognised and not made twice; and its parent is fixed, so that the Hub refuses it when anybody else
was faster. `hub_verify` proves afterwards what stands there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import HFValidationError, disable_progress_bars, validate_repo_id

from release import hub_calls as calls
from release.hub_calls import AccessError, ConflictError, HubError, Patience

CHECKSUMS = "checksums.json"
SEND_TRIES = 3  # huggingface_hub and hf_xet themselves send each object up to six times
PULLS_LOOKED_AT = 10  # a pull request whose answer was lost is among the newest
CHUNK = 1 << 20


class UnfitError(ValueError):
    """The release, or the name it is to be published under, would not work on the Hub."""


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
        lines = [
            f"{sign} {path}"
            for sign, paths in (("+", self.added), ("~", self.changed), ("-", self.removed))
            for path in paths
        ]
        counts = ", ".join(f"{len(getattr(self, name))} {name}" for name in ("added", "changed", "removed", "unchanged"))
        return "\n".join([*lines, f"{counts}; {self.to_send:,} bytes to send"])


@dataclass(frozen=True, slots=True)
class Published:
    """How a push ended.

    Attributes:
        plan: What was planned.
        revision: The commit at which the release stands; None after a dry run on a repository yet to be made.
        url: Where to look at it: the commit, or the pull request.
        committed: Whether this push made that commit.
    """

    plan: Plan
    revision: str | None
    url: str
    committed: bool


def push(
    root: Path,
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    tag: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    check: Callable[[Path], Sequence[object]] | None = None,
    show: Callable[[Plan], object] = lambda plan: None,
    patience: Patience = Patience(),
) -> Published:
    """Publish the release in `root` as the dataset `repo_id`.

    Args:
        root: A release, as `upload.py build` writes it.
        repo_id: `NAMESPACE/NAME`; made when there is no such repository.
        private: Make a new repository private; refused when the repository exists and is public.
        create_pr: Open a pull request instead of committing to `main`.
        tag: Name for the published revision, such as `v1.0.0`; a tag that stands elsewhere is an error.
        message: Title of the commit; by default name and version of the release.
        dry_run: Make the plan and stop.
        check: Returns the problems of a release; by default `release.check.check_release`.
        show: Called with the plan before anything is changed.
        patience: Time-outs and repeats.

    Raises:
        UnfitError: The release or the name is refused; nothing was changed.
        HubError: The Hub refused or failed; `main` is as it was, unless the message says otherwise.
    """
    if create_pr and tag:
        raise UnfitError("--tag names a commit on main, which a pull request is not yet: tag after merging it")
    check_name(repo_id)
    manifest = read_manifest(root, check or _check_release)
    release = list_release(root, manifest)
    refuse_script(repo_id, release, "the release")
    with calls.bounded(patience.timeout):
        hub = _Push(HfApi(library_name="mmrel"), repo_id, create_pr, patience)
        if not dry_run:
            hub.check_token()
        standing = hub.look()
        _check_standing(repo_id, standing, release, private, create_pr)
        plan = make_plan(root, release, standing)
        tagged = hub.tag_target(tag) if tag and standing else None
        if tagged and (tagged != plan.parent or not plan.is_empty):
            raise ConflictError(f"tag {tag} of {repo_id} stands at {tagged}, not at this release: choose another tag")
        show(plan)
        if dry_run:
            return Published(plan, plan.parent, hub.url("tree/main"), committed=False)
        title = message or f"Publish {manifest['name']} {manifest['version']}"
        published = hub.publish(root, release, plan, title, private)
        if tag and not tagged:
            hub.tag(tag, published)
        return published


# --- What is to be published ------------------------------------------------------------------------------------------


def check_name(repo_id: str) -> None:
    """Refuse a repository name that the Hub does not take.

    Raises:
        UnfitError: With the reason.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UnfitError(f"{repo_id!r} is no name for a repository: {error}") from None
    if "/" not in repo_id:
        raise UnfitError(f"expected NAMESPACE/NAME for the repository, got {repo_id!r}")


def read_manifest(root: Path, check: Callable[[Path], Sequence[object]]) -> dict[str, Any]:
    """Return the release's checksums.json, once `check` has found nothing wrong with the release.

    Raises:
        UnfitError: With all problems, or because there is no release.
    """
    if not (root / CHECKSUMS).is_file():
        raise UnfitError(f"no release in {root}: there is no {CHECKSUMS}; `upload.py build` makes one")
    problems = check(root)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise UnfitError(f"the release in {root} has {len(problems)} problem(s), nothing was sent:\n{listed}")
    manifest: dict[str, Any] = json.loads((root / CHECKSUMS).read_bytes())
    return manifest


def list_release(root: Path, manifest: Mapping[str, Any]) -> dict[str, Checksum]:
    """Return all files of a release, checksums.json included.

    The SHA-256 of each is taken from checksums.json, which `check` has just compared with the files.

    Raises:
        UnfitError: A path leads out of the release.
    """
    files = {path: Checksum(entry["sha256"], entry["size"]) for path, entry in manifest["files"].items()}
    for path in files:
        if path != str(PurePosixPath(path)) or PurePosixPath(path).is_absolute() or ".." in path.split("/"):
            raise UnfitError(f"{CHECKSUMS} of {root} lists {path!r}, which is no path inside a release")
    content = (root / CHECKSUMS).read_bytes()
    return {**files, CHECKSUMS: Checksum(hashlib.sha256(content).hexdigest(), len(content))}


def refuse_script(repo_id: str, paths: Mapping[str, object], where: str) -> None:
    """Refuse a file that makes datasets >= 4 take the repository for a script and stop.

    It looks for `<name>.py` at the top, `<name>` as the user typed it; the Hub takes any casing.

    Raises:
        UnfitError: There is such a file.
    """
    script = f"{repo_id.split('/')[-1]}.py".lower()
    traps = [path for path in paths if path.lower() == script]
    if traps:
        raise UnfitError(
            f"{where} has {traps[0]} at its top, so datasets >= 4 could not load {repo_id}: "
            "move the file into a folder or publish under another name"
        )


def _check_release(root: Path) -> Sequence[object]:
    from release.check import check_release

    problems: Sequence[object] = check_release(root)
    return problems


# --- What stands there, and what has to change ------------------------------------------------------------------------


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
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _check_standing(
    repo_id: str, standing: Standing | None, release: Mapping[str, Checksum], private: bool, create_pr: bool
) -> None:
    """Refuse a repository that cannot take the release as asked."""
    if standing is None:
        if create_pr:
            raise UnfitError(f"there is no {repo_id} to open a pull request for: push without --create-pr")
        return
    if private and not standing.private:
        raise UnfitError(f"{repo_id} exists and is public: change that in its settings, or push without --private")
    stays = {path: None for path in standing.files if path not in standing.ours - release.keys()}
    refuse_script(repo_id, stays, f"{repo_id} on the Hub")


class _Push:
    """The calls of one push, each repeated as `patience` says."""

    def __init__(self, api: HfApi, repo_id: str, create_pr: bool, patience: Patience) -> None:
        self.api, self.repo_id, self.create_pr, self.patience = api, repo_id, create_pr, patience
        self.mark = f"mmrel-push: {uuid.uuid4().hex}"

    def url(self, page: str) -> str:
        """Address of a page of the repository."""
        return f"{self.api.endpoint}/datasets/{self.repo_id}/{page}"

    def insist(self, step: calls.Step, call: Callable[[], Any], **kwargs: Any) -> Any:
        """`hub_calls.insist` for this repository."""
        return calls.insist(step, call, self.repo_id, kwargs.pop("patience", self.patience), **kwargs)

    def check_token(self) -> None:
        """Refuse a token that the Hub does not know, or that may only read.

        Raises:
            AccessError: With what is missing.
        """
        if not calls.get_token():
            raise AccessError(
                f"publishing {self.repo_id} needs a token with {calls.WRITE}: log in with `hf auth login` or set HF_TOKEN"
            )
        user = self.insist(calls.WHOAMI, self.api.whoami)
        if user.get("auth", {}).get("accessToken", {}).get("role") == "read" and not self.create_pr:
            raise AccessError(f"the token may only read; publishing {self.repo_id} needs {calls.WRITE}")

    def info(self, revision: str) -> Any:
        """What the Hub says of the repository at a revision; None when there is no such repository or revision."""

        def call() -> tuple[Any]:
            try:
                return (self.api.dataset_info(self.repo_id, revision=revision),)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return (None,)

        return self.insist(calls.LOOK, call)[0]

    def look(self) -> Standing | None:
        """What stands on `main`; None when there is no such repository, or none that the token may see."""
        info = self.info("main")
        if info is None:
            return None

        def list_files() -> dict[str, Any]:
            tree = self.api.list_repo_tree(self.repo_id, recursive=True, revision=info.sha, repo_type="dataset")
            return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}

        files = self.insist(calls.LOOK, list_files)
        ours = self._read_ours(info.sha) if CHECKSUMS in files else frozenset()
        return Standing(info.sha, bool(info.private), files, ours)

    def _read_ours(self, revision: str) -> frozenset[str]:
        """Paths that the release at a revision lists as its own."""
        with tempfile.TemporaryDirectory() as folder:
            name = {"repo_id": self.repo_id, "filename": CHECKSUMS, "repo_type": "dataset", "revision": revision}
            path = self.insist(calls.LOOK, lambda: self.api.hf_hub_download(**name, local_dir=folder))
            try:
                return frozenset(json.loads(Path(path).read_bytes())["files"]) | {CHECKSUMS}
            except (ValueError, KeyError, TypeError):
                raise UnfitError(
                    f"{CHECKSUMS} of {self.repo_id} at {revision} is none of ours, so it is not known which files an "
                    "older release left: remove it there or push elsewhere"
                ) from None

    def publish(
        self, root: Path, release: Mapping[str, Checksum], plan: Plan, title: str, private: bool
    ) -> Published:
        """Carry out a plan."""
        if plan.is_empty:
            return Published(plan, plan.parent, self.url(f"tree/{plan.parent}"), committed=False)
        parent = plan.parent or self._create(private)
        additions = [_addition(root, path, release[path]) for path in (*plan.added, *plan.changed)]
        send = replace(self.patience, tries=min(SEND_TRIES, self.patience.tries))
        self.insist(calls.SEND, lambda: self._send(additions), patience=send)
        removals = [CommitOperationDelete(path, is_folder=False) for path in plan.removed]
        revision, url = self._commit([*additions, *removals], parent, title)
        return Published(plan, revision, url, committed=True)

    def _create(self, private: bool) -> str:
        """Make the repository; return its first revision."""

        def call() -> None:
            self.api.create_repo(self.repo_id, repo_type="dataset", private=private or None, exist_ok=True)

        self.insist(calls.CREATE, call)
        info = self.info("main")
        if info is None:
            raise HubError(f"{self.repo_id} was made, but the Hub does not show it yet: push again")
        return str(info.sha)

    def _send(self, additions: list[CommitOperationAdd]) -> None:
        """Send the objects; what the Hub has is not sent again. No .gitignore that stands there hides a file of ours."""
        self.api.preupload_lfs_files(
            self.repo_id,
            additions,
            repo_type="dataset",
            create_pr=self.create_pr,
            free_memory=False,
            gitignore_content="",
        )

    def _commit(self, operations: list[Any], parent: str, title: str) -> tuple[str, str]:
        """Make the commit, exactly once; return its id and address.

        A pull request has no branch that would refuse a second one, so a doubtful one is looked up and not repeated.
        """

        def call() -> tuple[str, str]:
            made = self.api.create_commit(
                self.repo_id,
                operations,
                commit_message=title,
                commit_description=self.mark,
                repo_type="dataset",
                create_pr=self.create_pr,
                parent_commit=parent,
            )
            return made.oid, made.pr_url or made.commit_url

        once = replace(self.patience, tries=1)
        patience = once if self.create_pr else self.patience
        return self.insist(calls.COMMIT, call, patience=patience, found=lambda: self._find_commit(parent))  # type: ignore[no-any-return]

    def _find_commit(self, parent: str) -> tuple[str, str] | None:
        """Look whether a doubtful commit was made after all.

        Raises:
            ConflictError: It was not, and somebody else has committed meanwhile.
            HubError: It cannot be found out.
        """
        try:
            for ref in self._pulls() if self.create_pr else ["main"]:
                commits = self.insist(
                    calls.LOOK,
                    lambda ref=ref: self.api.list_repo_commits(self.repo_id, repo_type="dataset", revision=ref),
                )
                for commit in commits:
                    if self.mark in commit.message:
                        page = f"discussions/{ref.rsplit('/')[-1]}" if self.create_pr else f"commit/{commit.commit_id}"
                        return commit.commit_id, self.url(page)
                if not self.create_pr and commits[0].commit_id != parent:
                    raise ConflictError(
                        f"{self.repo_id} is at {commits[0].commit_id}, no longer at {parent} where this push began: "
                        "somebody else has committed, nothing was changed; look at it and push again"
                    )
        except ConflictError:
            raise
        except HubError as error:
            raise HubError(
                f"the answer to the commit was lost, and {error}; whether the release stands there is not known: "
                "push again, it looks first and does nothing twice"
            ) from None
        return None

    def _pulls(self) -> list[str]:
        """Refs of the newest pull requests, newest first."""
        refs = self.insist(
            calls.LOOK,
            lambda: self.api.list_repo_refs(self.repo_id, repo_type="dataset", include_pull_requests=True),
        )
        pulls = [pull.ref for pull in refs.pull_requests or []]
        return sorted(pulls, key=lambda ref: int(ref.rsplit("/")[-1]), reverse=True)[:PULLS_LOOKED_AT]

    def tag_target(self, tag: str) -> str | None:
        """The revision that a tag names, or None."""
        info = self.info(tag)
        return str(info.sha) if info else None

    def tag(self, tag: str, published: Published) -> None:
        """Name the published revision.

        Raises:
            HubError: The release stands, but it has no tag.
        """

        def call() -> bool:
            self.api.create_tag(self.repo_id, tag=tag, revision=published.revision, repo_type="dataset")
            return True

        def found() -> bool | None:
            target = self.tag_target(tag)
            if target not in (None, published.revision):
                raise ConflictError(f"somebody else has put tag {tag} at {target} meanwhile")
            return target == published.revision or None

        try:
            self.insist(calls.TAG, call, found=found)
        except HubError as error:
            text = f"the release stands whole at {published.revision}, but has no tag {tag}: {error}; push again to tag it"
            raise type(error)(text) from None


def _addition(root: Path, path: str, checksum: Checksum) -> CommitOperationAdd:
    """The operation that adds a file; its SHA-256 is known, so the client need not read the file for that."""
    addition = CommitOperationAdd(path, str(root / path))
    addition.upload_info.sha256 = bytes.fromhex(checksum.sha256)
    return addition


# --- The command ------------------------------------------------------------------------------------------------------


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `upload.py push`."""
    parser.add_argument("root", type=Path, metavar="DIR", help="a release, as `upload.py build` writes it")
    parser.add_argument("--repo-id", required=True, metavar="NS/NAME", help="the dataset repository; made if missing")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing to main")
    parser.add_argument("--tag", metavar="vX.Y.Z", help="name the published revision")
    parser.add_argument("--message", help="title of the commit (default: name and version of the release)")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and stop")


def run_push(
    args: argparse.Namespace, say: Callable[[str], object] = print, patience: Patience = Patience()
) -> int:
    """Run `upload.py push`; return the exit status."""
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        published = push(
            args.root,
            args.repo_id,
            private=args.private,
            create_pr=args.create_pr,
            tag=args.tag,
            message=args.message,
            dry_run=args.dry_run,
            show=lambda plan: say(str(plan)),
            patience=patience,
        )
    except (UnfitError, HubError) as error:
        sys.stderr.write(f"upload.py push: {error}\n")
        return 1
    if args.dry_run:
        say("dry run: nothing was changed")
    else:
        say(f"{'published' if published.committed else 'nothing to do, it stands'} at {published.url}")
    return 0

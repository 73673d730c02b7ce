# SPDX-License-Identifier: Apache-2.0
"""Publish a release on the Hugging Face Hub: all of it in one commit, or nothing.

`push` makes a plan (`hub_plan`) and sends the files that differ; no branch moves for that, and what has arrived is not
sent again by a later run. One commit on top of the revision that the plan was made for then shows them all. Its
description carries a mark, so that a commit whose answer was lost is recognised and not made twice; its parent is
given, so that the Hub refuses it when somebody else was faster. `hub_verify` proves afterwards what stands there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from mmrel_kit.commands.options import parse_path
from mmrel_kit.files import INDEX, InputError
from mmrel_kit.hub import calls
from mmrel_kit.hub.calls import ConflictError, HubError, Patience
from mmrel_kit.hub.plan import (
    Checksum,
    Plan,
    Standing,
    check_name,
    check_standing,
    list_release,
    make_plan,
    read_manifest,
    refuse_script,
)

T = TypeVar("T")

SEND_TRIES = 3  # huggingface_hub and hf_xet themselves send each object up to six times
PULLS_LOOKED_AT = 10  # a pull request whose answer was lost is among the newest


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


def check_without_warnings(root: Path) -> Sequence[object]:
    """The problems of a release that forbid publishing it."""
    from mmrel_kit.check.release import check_release  # here, as it imports datasets, which takes a second

    return [problem for problem in check_release(root) if not problem.is_warning]


def push(
    root: Path,
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    tag: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    check: Callable[[Path], Sequence[object]] = check_without_warnings,
    show: Callable[[Plan], object] = lambda plan: None,
    patience: Patience = calls.PATIENCE,
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
        check: Returns what is wrong with a release; by default `release.check` without its warnings.
        show: Called with the plan before anything is changed.
        patience: Time-outs and repeats.

    Raises:
        InputError: The release or the name is refused; nothing was changed.
        HubError: The Hub refused or failed; `main` is as it was, unless the message says otherwise.
    """
    if create_pr and tag:
        raise InputError("--tag names a commit on main, which a pull request is not yet: tag after merging it")
    check_name(repo_id)
    manifest = read_manifest(root, check)
    release = list_release(root, manifest)
    refuse_script(repo_id, release, "the release")
    with calls.bounded(patience.timeout):
        hub = _Push(HfApi(library_name="mmrel"), repo_id, create_pr, patience)
        if not dry_run:
            hub.check_token()
        standing = hub.look()
        check_standing(repo_id, standing, release, private, create_pr)
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


class _Push:
    """The calls of one push, each repeated as `patience` says."""

    def __init__(self, api: HfApi, repo_id: str, create_pr: bool, patience: Patience) -> None:
        self.api, self.repo_id, self.create_pr, self.patience = api, repo_id, create_pr, patience
        self.mark = f"mmrel-push: {uuid.uuid4().hex}"

    def url(self, page: str) -> str:
        """Address of a page of the repository."""
        return f"{self.api.endpoint}/datasets/{self.repo_id}/{page}"

    def insist(
        self, step: calls.Step, call: Callable[[], T], found: Callable[[], T | None] | None = None, tries: int = 0
    ) -> T:
        """`hub_calls.insist` for this repository, with at most so many tries."""
        patience = replace(self.patience, tries=min(tries or self.patience.tries, self.patience.tries))
        return calls.insist(step, call, self.repo_id, patience, found)

    # --- What stands there

    def check_token(self) -> None:
        """Refuse a token that the Hub does not know, or that may only read.

        Raises:
            HubError: With what is missing.
        """
        if not get_token():
            raise HubError(
                f"no token for {self.repo_id}: log in with `hf auth login` or set HF_TOKEN to one with {calls.WRITE}"
            )
        user = self.insist(calls.WHOAMI, self.api.whoami)
        if user.get("auth", {}).get("accessToken", {}).get("role") == "read" and not self.create_pr:
            raise HubError(f"the token may only read; publishing {self.repo_id} needs {calls.WRITE}")

    def info(self, revision: str) -> Any:
        """What the Hub says of the repository at a revision; None when there is no such repository or revision."""

        def call() -> Any:
            try:
                return self.api.dataset_info(self.repo_id, revision=revision)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None

        return self.insist(calls.LOOK, call)

    def look(self) -> Standing | None:
        """What stands on `main`; None when there is no such repository, or none that the token may see."""
        info = self.info("main")
        if info is None:
            return None
        files = self.insist(calls.LOOK, lambda: calls.list_files(self.api, self.repo_id, info.sha))
        ours = self._read_ours(info.sha) if INDEX in files else frozenset()
        return Standing(info.sha, bool(info.private), files, ours)

    def _read_ours(self, revision: str) -> frozenset[str]:
        """Paths that the release at a revision lists as its own."""
        with tempfile.TemporaryDirectory() as folder:

            def download() -> str:
                return self.api.hf_hub_download(
                    self.repo_id, INDEX, repo_type="dataset", revision=revision, local_dir=folder
                )

            text = Path(self.insist(calls.LOOK, download)).read_bytes()
        try:
            return frozenset(json.loads(text)["files"]) | {INDEX}
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{INDEX} of {self.repo_id} at {revision} is none of ours, so it is not known which files an "
                "older release left: remove it there, or push to another repository"
            ) from None

    # --- Publishing

    def publish(self, root: Path, release: Mapping[str, Checksum], plan: Plan, title: str, private: bool) -> Published:
        """Carry out a plan."""
        if plan.is_empty:
            return Published(plan, plan.parent, self.url(f"tree/{plan.parent}"), committed=False)
        parent = plan.parent or self._create(private)
        additions = [_addition(root, path, release[path]) for path in (*plan.added, *plan.changed)]
        self.insist(calls.SEND, lambda: self._send(additions), tries=SEND_TRIES)
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
        """Send the objects that the Hub lacks; no .gitignore that stands there hides a file of the release."""
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

        The parent keeps a second one off `main`. No such thing keeps off a second pull request, so that is tried once.
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

        def found() -> tuple[str, str] | None:
            try:
                return self._find_pull() if self.create_pr else self._find_commit(parent)
            except ConflictError:
                raise
            except HubError as error:
                raise HubError(f"no clear answer to the commit, and {error}; {calls.COMMIT.then}") from None

        return self.insist(calls.COMMIT, call, found, tries=1 if self.create_pr else 0)

    def _find_commit(self, parent: str) -> tuple[str, str] | None:
        """Look whether a doubtful commit stands on `main` after all.

        Raises:
            ConflictError: It does not, and somebody else's does.
        """
        commits = self._commits("main")
        for commit in commits:
            if self.mark in commit.message:
                return commit.commit_id, self.url(f"commit/{commit.commit_id}")
        if commits[0].commit_id != parent:
            raise ConflictError(
                f"{self.repo_id} is at {commits[0].commit_id}, no longer at {parent} where this push began: "
                "somebody else has committed, and nothing was changed; look at it and push again"
            )
        return None

    def _find_pull(self) -> tuple[str, str] | None:
        """Look whether a doubtful pull request was opened after all."""
        refs = self.insist(
            calls.LOOK,
            lambda: self.api.list_repo_refs(self.repo_id, repo_type="dataset", include_pull_requests=True),
        )
        numbers = sorted((int(pull.ref.split("/")[-1]) for pull in refs.pull_requests or []), reverse=True)
        for number in numbers[:PULLS_LOOKED_AT]:
            for commit in self._commits(f"refs/pr/{number}"):
                if self.mark in commit.message:
                    return commit.commit_id, self.url(f"discussions/{number}")
        return None

    def _commits(self, revision: str) -> list[Any]:
        """The history of a branch or pull request, newest first."""

        def call() -> list[Any]:
            return list(self.api.list_repo_commits(self.repo_id, repo_type="dataset", revision=revision))

        return self.insist(calls.LOOK, call)

    # --- Tagging

    def tag_target(self, tag: str) -> str | None:
        """The revision that a tag names, or None."""
        info = self.info(tag)
        return str(info.sha) if info else None

    def tag(self, tag: str, published: Published) -> None:
        """Name the published revision.

        Raises:
            HubError: The release stands, but without the tag.
        """

        def call() -> bool:
            self.api.create_tag(self.repo_id, tag=tag, revision=published.revision, repo_type="dataset")
            return True

        def found() -> bool | None:
            target = self.tag_target(tag)
            if target not in (None, published.revision):
                raise ConflictError(f"somebody else has put it at {target}")
            return target == published.revision or None

        try:
            self.insist(calls.TAG, call, found)
        except HubError as error:
            raise type(error)(
                f"the release stands whole at {published.revision}, but has no tag {tag}: {error}"
            ) from None


def _addition(root: Path, path: str, checksum: Checksum) -> CommitOperationAdd:
    """The operation that adds a file; its SHA-256 is known, so the client need not read the file for that."""
    addition = CommitOperationAdd(path, str(root / path))
    addition.upload_info.sha256 = bytes.fromhex(checksum.sha256)
    return addition


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `upload.py push`."""
    parser.add_argument("release", type=parse_path, metavar="DIR", help="a release, as `upload.py build` writes it")
    parser.add_argument("--repo-id", required=True, metavar="NS/NAME", help="the dataset repository; made if missing")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing to main")
    parser.add_argument("--tag", metavar="vX.Y.Z", help="name the published revision")
    parser.add_argument("--message", help="title of the commit (default: name and version of the release)")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and stop")


def run_push(
    args: argparse.Namespace,
    say: Callable[[str], object] = print,
    check: Callable[[Path], Sequence[object]] = check_without_warnings,
    patience: Patience = calls.PATIENCE,
) -> int:
    """Run `upload.py push`; return the exit status.

    Raises:
        InputError: see `push`.
        HubError: see `push`.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    published = push(
        args.release,
        args.repo_id,
        private=args.private,
        create_pr=args.create_pr,
        tag=args.tag,
        message=args.message,
        dry_run=args.dry_run,
        check=check,
        show=lambda plan: say(str(plan)),
        patience=patience,
    )
    if args.dry_run:
        say("dry run: nothing was changed")
    else:
        say(f"{'published' if published.committed else 'nothing to do, it stands'} at {published.url}")
    return 0

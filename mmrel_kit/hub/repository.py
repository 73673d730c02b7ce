# SPDX-License-Identifier: Apache-2.0
"""The repository that a push goes to: what it holds, one commit, one tag."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

import mmrel
from mmrel_kit.files import INDEX, InputError
from mmrel_kit.hub import calls
from mmrel_kit.hub.calls import ConflictError, HubError, RetryPolicy
from mmrel_kit.hub.plan import Checksum, PushPlan, RemoteState

T = TypeVar("T")

SEND_TRIES = 3  # huggingface_hub and hf_xet themselves send each object up to six times
PULLS_LOOKED_AT = 10  # a pull request whose answer was lost is among the newest


class Repository:
    """A dataset repository, as one push uses it; each call is repeated as `policy` says.

    Args:
        api: the Hub's client.
        repo_id: `NAMESPACE/NAME`.
        create_pr: whether the push opens a pull request.
        policy: time-outs and repeats.
    """

    def __init__(self, api: HfApi, repo_id: str, create_pr: bool, policy: RetryPolicy) -> None:
        self.repo_id = repo_id
        self._api = api
        self._create_pr = create_pr
        self._policy = policy
        self._mark = f"mmrel-push: {uuid.uuid4().hex}"

    def url(self, page: str) -> str:
        """Return the address of a page of the repository."""
        return f"{self._api.endpoint}/datasets/{self.repo_id}/{page}"

    # --- What it holds ---

    def check_token(self) -> None:
        """Refuse a token that the Hub does not know, or that may only read.

        Raises:
            HubError: with what is missing.
        """
        if not get_token():
            needed = f"log in with `hf auth login` or set HF_TOKEN to one with {calls.WRITE}"
            raise HubError(f"no token for {self.repo_id}: {needed}")
        user = self._call(calls.WHOAMI, self._api.whoami)
        role = user.get("auth", {}).get("accessToken", {}).get("role")
        if role == "read" and not self._create_pr:
            needed = f"publishing {self.repo_id} needs {calls.WRITE}"
            raise HubError(f"the token may only read; {needed}")

    def look(self) -> RemoteState | None:
        """Return what `main` holds; None if there is no repository that the token may see."""
        info = self._find_info("main")
        if info is None:
            return None
        revision = str(info.sha)
        list_files = partial(calls.list_files, self._api, self.repo_id, revision)
        files = self._call(calls.LOOK, list_files)
        ours = self._read_ours(revision) if INDEX in files else frozenset()
        return RemoteState(revision, bool(info.private), files, ours)

    def find_tag(self, tag: str) -> str | None:
        """Return the revision that a tag names, or None."""
        info = self._find_info(tag)
        return str(info.sha) if info else None

    def _find_info(self, revision: str) -> Any:
        """Return what the Hub says of a revision; None if it or the repository does not exist."""

        def call() -> Any:
            try:
                return self._api.dataset_info(self.repo_id, revision=revision)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None

        return self._call(calls.LOOK, call)

    def _read_ours(self, revision: str) -> frozenset[str]:
        """Return the files that the release at a revision lists as its own.

        Raises:
            InputError: its checksums.json is not that of a release.
        """
        with tempfile.TemporaryDirectory() as folder:

            def download() -> str:
                return self._api.hf_hub_download(
                    self.repo_id,
                    INDEX,
                    repo_type="dataset",
                    revision=revision,
                    local_dir=folder,
                )

            text = Path(self._call(calls.LOOK, download)).read_bytes()
        try:
            return frozenset(mmrel.parse_index(text)["files"]) | {INDEX}
        except mmrel.ReleaseError:
            where = f"{INDEX} of {self.repo_id} at {revision}"
            raise InputError(
                f"{where} is none of ours, so it is not known which files an older release left: "
                "remove it there, or push to another repository"
            ) from None

    # --- Publishing ---

    def publish(
        self,
        root: Path,
        release: Mapping[str, Checksum],
        plan: PushPlan,
        title: str,
        private: bool,
    ) -> tuple[str, str]:
        """Carry out a plan; return the id and the address of the commit.

        Args:
            root: folder of the release.
            release: its files.
            plan: what to change.
            title: of the commit.
            private: whether a new repository is private.

        Raises:
            HubError: the Hub refused or failed.
        """
        parent = plan.parent or self._create(private)
        paths = plan.added + plan.changed
        changes = [_make_addition(root, path, release[path]) for path in paths]
        self._call(calls.SEND, lambda: self._send(changes), tries=SEND_TRIES)
        removals = [CommitOperationDelete(path, is_folder=False) for path in plan.removed]
        return self._commit([*changes, *removals], parent, title)

    def _create(self, private: bool) -> str:
        """Make the repository; return its first revision."""

        def call() -> None:
            self._api.create_repo(
                self.repo_id,
                repo_type="dataset",
                private=private or None,
                exist_ok=True,
            )

        self._call(calls.CREATE, call)
        info = self._find_info("main")
        if info is None:
            problem = f"{self.repo_id} was made, but the Hub does not show it yet"
            raise HubError(f"{problem}: push again")
        return str(info.sha)

    def _send(self, additions: list[CommitOperationAdd]) -> None:
        """Send the objects that the Hub lacks; a .gitignore of the repository hides none."""
        self._api.preupload_lfs_files(
            self.repo_id,
            additions,
            repo_type="dataset",
            create_pr=self._create_pr,
            free_memory=False,
            gitignore_content="",
        )

    def _commit(self, operations: list[Any], parent: str, title: str) -> tuple[str, str]:
        """Make the commit, exactly once; return its id and address.

        The parent keeps a second one off `main`. Nothing keeps off a second pull request, so that
        is tried once.
        """

        def call() -> tuple[str, str]:
            made = self._api.create_commit(
                self.repo_id,
                operations,
                commit_message=title,
                commit_description=self._mark,
                repo_type="dataset",
                create_pr=self._create_pr,
                parent_commit=parent,
            )
            return made.oid, made.pr_url or made.commit_url

        def find() -> tuple[str, str] | None:
            try:
                return self._find_pull() if self._create_pr else self._find_commit(parent)
            except ConflictError:
                raise
            except HubError as error:
                problem = f"no clear answer to the commit, and {error}"
                raise HubError(f"{problem}; {calls.COMMIT.then}") from None

        return self._call(calls.COMMIT, call, find, tries=1 if self._create_pr else None)

    def _find_commit(self, parent: str) -> tuple[str, str] | None:
        """Return a doubtful commit if `main` has it after all.

        Raises:
            ConflictError: `main` has somebody else's instead.
        """
        commits = self._list_commits("main")
        for commit in commits:
            if self._mark in commit.message:
                return commit.commit_id, self.url(f"commit/{commit.commit_id}")
        if commits[0].commit_id != parent:
            where = f"{self.repo_id} is at {commits[0].commit_id}, no longer at {parent}"
            raise ConflictError(
                f"{where} where this push began: somebody else has committed, and nothing was "
                "changed; look at it and push again"
            )
        return None

    def _find_pull(self) -> tuple[str, str] | None:
        """Return a doubtful pull request if it was opened after all."""

        def call() -> Any:
            return self._api.list_repo_refs(
                self.repo_id,
                repo_type="dataset",
                include_pull_requests=True,
            )

        refs = self._call(calls.LOOK, call)
        numbers = [int(pull.ref.split("/")[-1]) for pull in refs.pull_requests or []]
        for number in sorted(numbers, reverse=True)[:PULLS_LOOKED_AT]:
            for commit in self._list_commits(f"refs/pr/{number}"):
                if self._mark in commit.message:
                    return commit.commit_id, self.url(f"discussions/{number}")
        return None

    def _list_commits(self, revision: str) -> list[Any]:
        """Return the history of a branch or pull request, newest first."""

        def call() -> list[Any]:
            return list(
                self._api.list_repo_commits(
                    self.repo_id,
                    repo_type="dataset",
                    revision=revision,
                )
            )

        return self._call(calls.LOOK, call)

    # --- Tagging ---

    def tag(self, tag: str, revision: str) -> None:
        """Name the published revision.

        Raises:
            HubError: the release is published, but without the tag.
        """

        def call() -> bool:
            self._api.create_tag(self.repo_id, tag=tag, revision=revision, repo_type="dataset")
            return True

        def find() -> bool | None:
            target = self.find_tag(tag)
            if target not in (None, revision):
                raise ConflictError(f"somebody else has put it at {target}")
            return target == revision or None

        try:
            self._call(calls.TAG, call, find)
        except HubError as error:
            problem = f"the release stands whole at {revision}, but has no tag {tag}"
            raise type(error)(f"{problem}: {error}") from None

    def _call(
        self,
        step: calls.Step,
        call: Callable[[], T],
        find: Callable[[], T | None] | None = None,
        tries: int | None = None,
    ) -> T:
        """Call `calls.call_with_retries` for this repository, with at most so many tries."""
        most = self._policy.tries
        policy = replace(self._policy, tries=most if tries is None else min(tries, most))
        return calls.call_with_retries(step, call, self.repo_id, policy, find)


def _make_addition(root: Path, path: str, checksum: Checksum) -> CommitOperationAdd:
    """Return the operation that adds a file; its hash is given, so that no client reads it."""
    addition = CommitOperationAdd(path, str(root / path))
    addition.upload_info.sha256 = bytes.fromhex(checksum.sha256)
    return addition

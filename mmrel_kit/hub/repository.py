# SPDX-License-Identifier: Apache-2.0
"""Read the repository of a push, commit to it and tag it."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

import mmrel
from mmrel_kit.files import INDEX, InputError
from mmrel_kit.hub import calls
from mmrel_kit.hub.calls import ConflictError, HubError, RetryPolicy
from mmrel_kit.hub.plan import Checksum, PushPlan, RemoteState

T = TypeVar("T")

SEND_TRIES = 3  # fewer, because huggingface_hub and hf_xet send each object up to six times
CHECKED_PULLS = 10  # a pull request whose answer was lost is among the newest


class Repository:
    """The dataset repository of one push, which may open a pull request instead."""

    def __init__(self, api: HfApi, repo_id: str, create_pr: bool, policy: RetryPolicy) -> None:
        self.repo_id = repo_id
        self._api = api
        self._create_pr = create_pr
        self._policy = policy
        self._mark = f"mmrel-push: {uuid.uuid4().hex}"

    def url(self, page: str) -> str:
        """Return the address of a page of the repository."""
        return f"{self._api.endpoint}/datasets/{self.repo_id}/{page}"

    # --- Reading ---

    def check_token(self) -> None:
        """Check that the Hub knows the token and that it may write.

        Raises:
            HubError: there is no token, or it may not write.
        """
        if not get_token():
            raise HubError(
                f"no token for {self.repo_id}: log in with `hf auth login` or set HF_TOKEN to one "
                f"with {calls.WRITE}"
            )
        user = self._call(calls.WHOAMI, self._api.whoami)
        role = user.get("auth", {}).get("accessToken", {}).get("role")
        if role == "read" and not self._create_pr:
            raise HubError(
                f"the token may only read; publishing {self.repo_id} needs {calls.WRITE}"
            )

    def fetch_state(self) -> RemoteState | None:
        """Return the state of `main`; None if the token may see no such repository."""
        info = self._find_info("main")
        if info is None:
            return None
        revision = str(info.sha)
        list_files = partial(calls.list_files, self._api, self.repo_id, revision)
        files = self._call(calls.LOOK, list_files)
        release_files: frozenset[str] = frozenset()
        if INDEX in files:
            release_files = self._list_release_files(revision)
        return RemoteState(revision, bool(info.private), files, release_files)

    def find_tag(self, tag: str) -> str | None:
        """Return the revision that a tag points to, or None."""
        info = self._find_info(tag)
        return str(info.sha) if info else None

    def _find_info(self, revision: str) -> Any:
        """Return the metadata of a revision; None if it or the repository does not exist."""
        find = partial(calls.find_info, self._api, self.repo_id, revision)
        return self._call(calls.LOOK, find)

    def _list_release_files(self, revision: str) -> frozenset[str]:
        """Return the files of the release at a revision.

        Raises:
            InputError: the checksums.json there is not that of a release.
        """
        with tempfile.TemporaryDirectory() as folder:
            download = partial(
                self._api.hf_hub_download,
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
            raise InputError(
                f"{INDEX} of {self.repo_id} at {revision} is not that of a release of MMRel, so "
                "the files of an older release are unknown: remove it there, or push to another "
                "repository"
            ) from None

    # --- Publishing ---

    def publish(
        self, root: Path, release: Mapping[str, Checksum], plan: PushPlan, title: str, private: bool
    ) -> tuple[str, str]:
        """Publish the changes of a plan; return the id and the address of the commit.

        Raises:
            HubError: the Hub refused or failed.
        """
        parent = plan.parent or self._create(private)
        paths = plan.added + plan.changed
        additions = [_make_addition(root, path, release[path]) for path in paths]
        self._call(calls.SEND, lambda: self._send(additions), tries=SEND_TRIES)
        removals = [CommitOperationDelete(path, is_folder=False) for path in plan.removed]
        return self._commit([*additions, *removals], parent, title)

    def _create(self, private: bool) -> str:
        """Create the repository; return its first revision."""
        create = partial(self._api.create_repo, self.repo_id, repo_type="dataset", exist_ok=True)
        self._call(calls.CREATE, partial(create, private=private or None))
        info = self._find_info("main")
        if info is None:
            raise HubError(
                f"{self.repo_id} was created, but the Hub does not show it yet: push again"
            )
        return str(info.sha)

    def _send(self, additions: list[CommitOperationAdd]) -> None:
        """Upload the objects that the Hub lacks, whatever a .gitignore of the repository says."""
        self._api.preupload_lfs_files(
            self.repo_id,
            additions,
            repo_type="dataset",
            create_pr=self._create_pr,
            free_memory=False,
            gitignore_content="",
        )

    def _commit(self, operations: list[Any], parent: str, title: str) -> tuple[str, str]:
        """Make the commit exactly once; return its id and address.

        On `main`, the parent prevents a second commit. Nothing prevents a second pull request, so
        there is only one attempt to open one.
        """

        def call() -> tuple[str, str]:
            commit = self._api.create_commit(
                self.repo_id,
                operations,
                commit_message=title,
                commit_description=self._mark,
                repo_type="dataset",
                create_pr=self._create_pr,
                parent_commit=parent,
            )
            return commit.oid, commit.pr_url or commit.commit_url

        def find_result() -> tuple[str, str] | None:
            try:
                if self._create_pr:
                    return self._find_pull()
                return self._find_commit(parent)
            except ConflictError:
                raise
            except HubError as error:
                raise HubError(
                    f"no clear answer to the commit, and {error}; {calls.COMMIT.advice}"
                ) from None

        tries = 1 if self._create_pr else None
        return self._call(calls.COMMIT, call, find_result, tries)

    def _find_commit(self, parent: str) -> tuple[str, str] | None:
        """Return the commit of this push if `main` has it although its answer was lost.

        Raises:
            ConflictError: `main` has a commit of somebody else instead.
        """
        commits = self._list_commits("main")
        for commit in commits:
            if self._mark in commit.message:
                return commit.commit_id, self.url(f"commit/{commit.commit_id}")
        if commits[0].commit_id != parent:
            raise ConflictError(
                f"{self.repo_id} is at {commits[0].commit_id}, no longer at {parent} where this "
                "push began: somebody else has committed, and nothing was changed; look at it and "
                "push again"
            )
        return None

    def _find_pull(self) -> tuple[str, str] | None:
        """Return the pull request of this push if it was opened although its answer was lost."""
        list_refs = partial(self._api.list_repo_refs, self.repo_id, repo_type="dataset")
        refs = self._call(calls.LOOK, partial(list_refs, include_pull_requests=True))
        numbers = sorted(int(pull.ref.split("/")[-1]) for pull in refs.pull_requests or [])
        for number in reversed(numbers[-CHECKED_PULLS:]):
            for commit in self._list_commits(f"refs/pr/{number}"):
                if self._mark in commit.message:
                    return commit.commit_id, self.url(f"discussions/{number}")
        return None

    def _list_commits(self, revision: str) -> list[Any]:
        """Return the history of a branch or pull request, newest first."""
        list_commits = partial(self._api.list_repo_commits, self.repo_id, repo_type="dataset")
        return list(self._call(calls.LOOK, partial(list_commits, revision=revision)))

    # --- Tagging ---

    def tag(self, tag: str, revision: str) -> None:
        """Tag the published revision.

        Raises:
            HubError: the release is published, but without the tag.
        """

        def call() -> bool:
            self._api.create_tag(self.repo_id, tag=tag, revision=revision, repo_type="dataset")
            return True

        def find_result() -> bool | None:
            target = self.find_tag(tag)
            if target is None:
                return None
            if target != revision:
                raise ConflictError(f"somebody else has set it to {target}")
            return True

        try:
            self._call(calls.TAG, call, find_result)
        except HubError as error:
            raise type(error)(
                f"the release is completely published at {revision}, but has no tag {tag}: {error}"
            ) from None

    def _call(
        self,
        step: calls.Step,
        call: Callable[[], T],
        find_result: Callable[[], T | None] | None = None,
        tries: int | None = None,
    ) -> T:
        """Call `call_with_retries` for this repository; `tries` may lower those of the policy."""
        policy = self._policy
        if tries is not None:
            policy = replace(policy, tries=min(tries, policy.tries))
        return calls.call_with_retries(step, call, self.repo_id, policy, find_result)


def _make_addition(root: Path, path: str, checksum: Checksum) -> CommitOperationAdd:
    """Return the operation that adds a file, with its hash, so that the client need not hash it."""
    addition = CommitOperationAdd(path, str(root / path))
    addition.upload_info.sha256 = bytes.fromhex(checksum.sha256)
    return addition

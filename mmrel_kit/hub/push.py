# SPDX-License-Identifier: Apache-2.0
"""Publish a release on the Hugging Face Hub: all of it in one commit, or nothing.

`push` makes a plan (`plan`) and uploads the files that differ; this changes no branch, and a later
run does not upload them again. Then one commit publishes all of them. Its description contains a
mark, so that a commit whose answer was lost is recognised and not made twice. It names its parent,
so that the Hub refuses it if somebody else has committed since the plan was made. `verify` checks
the repository afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from mmrel_kit.files import InputError
from mmrel_kit.hub import calls
from mmrel_kit.hub.calls import ConflictError, RetryPolicy
from mmrel_kit.hub.plan import (
    Checksum,
    PushPlan,
    check_name,
    check_no_script,
    check_repository,
    list_release,
    make_plan,
    read_index,
)
from mmrel_kit.hub.repository import Repository


@dataclass(frozen=True, slots=True)
class PushResult:
    """The outcome of a push.

    Attributes:
        revision: the commit that holds the release; None after a dry run without a repository.
        url: address of the commit or the pull request.
        committed: whether this push made that commit.
    """

    plan: PushPlan
    revision: str | None
    url: str
    committed: bool
    is_dry_run: bool = False

    def __str__(self) -> str:
        if self.is_dry_run:
            return "dry run: nothing was changed"
        if self.committed:
            return f"published at {self.url}"
        return f"nothing to do, already published at {self.url}"


def check_without_warnings(
    root: Path, show: Callable[[str], object] = lambda line: None
) -> Sequence[object]:
    """Return the problems that forbid publishing a release; `show` as in `check_unless_stored`."""
    # Imported here, so that --help needs no pyarrow.
    from mmrel_kit.check.stamps import check_unless_stored

    return [problem for problem in check_unless_stored(root, show) if not problem.is_warning]


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
    show: Callable[[PushPlan], object] = lambda plan: None,
    policy: RetryPolicy = calls.RETRY_POLICY,
) -> PushResult:
    """Publish the release in `root` as the dataset `repo_id`, which is created if it is missing.

    `private` makes a new repository private, and is an error if a public one exists. `create_pr`
    opens a pull request instead of committing to `main`. `tag` names the published revision, and
    must not point to another one. `message` is the title of the commit; None: name and version of
    the release. `dry_run` stops after the plan. `check` returns the problems of a release. `show`
    is called with the plan before anything changes.

    Raises:
        InputError: the release or an option is invalid; nothing was changed.
        HubError: the Hub refused or failed; `main` is unchanged, unless the message says otherwise.
    """
    if create_pr and tag:
        raise InputError(
            "--tag names a commit on main, which a pull request is not yet: tag after merging it"
        )
    check_name(repo_id)
    index = read_index(root, check)
    release = list_release(root, index)
    check_no_script(repo_id, release, "the release")
    title = message or f"Publish {index.get('name')} {index.get('version')}"
    with calls.hub_session(policy.timeout):
        repository = Repository(HfApi(library_name="mmrel"), repo_id, create_pr, policy)
        if not dry_run:
            repository.check_token()
        state = repository.fetch_state()
        check_repository(repo_id, state, release, private, create_pr)
        plan = make_plan(root, release, state)
        is_tagged = _is_tagged(repository, tag, plan) if tag else False
        show(plan)
        if dry_run:
            url = repository.url("tree/main")
            return PushResult(plan, plan.parent, url, committed=False, is_dry_run=True)
        result = _publish(repository, root, release, plan, title, private)
        if tag and not is_tagged:
            repository.tag(tag, str(result.revision))
        return result


def _is_tagged(repository: Repository, tag: str, plan: PushPlan) -> bool:
    """Return whether the repository has the tag.

    Raises:
        ConflictError: the tag points to another revision than that of the release.
    """
    tagged = repository.find_tag(tag) if plan.parent else None
    if tagged and (tagged != plan.parent or not plan.is_empty):
        raise ConflictError(
            f"tag {tag} of {repository.repo_id} points to {tagged}, not to this release: choose "
            "another tag"
        )
    return tagged is not None


def _publish(
    repository: Repository,
    root: Path,
    release: Mapping[str, Checksum],
    plan: PushPlan,
    title: str,
    private: bool,
) -> PushResult:
    """Commit the changes of a plan, if there are any."""
    if plan.is_empty:
        url = repository.url(f"tree/{plan.parent}")
        return PushResult(plan, plan.parent, url, committed=False)
    revision, url = repository.publish(root, release, plan, title, private)
    return PushResult(plan, revision, url, committed=True)

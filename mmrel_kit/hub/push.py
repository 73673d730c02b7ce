# SPDX-License-Identifier: Apache-2.0
"""Publish a release on the Hugging Face Hub: all of it in one commit, or nothing.

`push` makes a plan (`plan`) and sends the files that differ; no branch moves for that, and a later
run does not send again what has arrived. One commit on top of the revision that the plan was made
for then shows them all. Its description carries a mark, so that a commit whose answer was lost is
recognised and not made twice. Its parent is given, so that the Hub refuses it when somebody else
was faster. `verify` proves afterwards what the repository holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from mmrel_kit.files import InputError
from mmrel_kit.hub import calls
from mmrel_kit.hub.calls import ConflictError, RetryPolicy
from mmrel_kit.hub.plan import (
    PushPlan,
    check_name,
    check_repository,
    list_release,
    make_plan,
    read_index,
    refuse_script,
)
from mmrel_kit.hub.repository import Repository


@dataclass(frozen=True, slots=True)
class PushResult:
    """How a push ended.

    Attributes:
        plan: what was planned.
        revision: the commit that holds the release; None after a dry run without a repository.
        url: where to look at it: the commit, or the pull request.
        committed: whether this push made that commit.
        is_dry_run: whether it was stopped after the plan.
    """

    plan: PushPlan
    revision: str | None
    url: str
    committed: bool
    is_dry_run: bool = False

    def __str__(self) -> str:
        if self.is_dry_run:
            return "dry run: nothing was changed"
        done = "published" if self.committed else "nothing to do, it stands"
        return f"{done} at {self.url}"


def check_without_warnings(root: Path) -> Sequence[object]:
    """Return the problems of a release that forbid publishing it."""
    from mmrel_kit.check.release import check_release  # here, as --help does without pyarrow

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
    show: Callable[[PushPlan], object] = lambda plan: None,
    policy: RetryPolicy = calls.RETRY_POLICY,
) -> PushResult:
    """Publish the release in `root` as the dataset `repo_id`.

    Args:
        root: a release, as `mmrel build` writes it.
        repo_id: `NAMESPACE/NAME`; made if there is no such repository.
        private: make a new repository private; refused if the repository exists and is public.
        create_pr: open a pull request instead of committing to `main`.
        tag: name for the published revision, such as `v1.0.0`; it must not name another one.
        message: title of the commit; default: name and version of the release.
        dry_run: make the plan and stop.
        check: returns what is wrong with a release; default: `mmrel check`, without its warnings.
        show: called with the plan before anything is changed.
        policy: time-outs and repeats.

    Raises:
        InputError: the release or the name is refused; nothing was changed.
        HubError: the Hub refused or failed; `main` is as it was, unless the message says otherwise.
    """
    if create_pr and tag:
        reason = "--tag names a commit on main, which a pull request is not yet"
        raise InputError(f"{reason}: tag after merging it")
    check_name(repo_id)
    index = read_index(root, check)
    release = list_release(root, index)
    refuse_script(repo_id, release, "the release")
    with calls.hub_session(policy.timeout):
        hub = Repository(HfApi(library_name="mmrel"), repo_id, create_pr, policy)
        if not dry_run:
            hub.check_token()
        standing = hub.look()
        check_repository(repo_id, standing, release, private, create_pr)
        plan = make_plan(root, release, standing)
        tagged = hub.find_tag(tag) if tag and standing else None
        if tagged and (tagged != plan.parent or not plan.is_empty):
            where = f"tag {tag} of {repo_id} stands at {tagged}"
            raise ConflictError(f"{where}, not at this release: choose another tag")
        show(plan)
        if dry_run:
            return PushResult(
                plan, plan.parent, hub.url("tree/main"), committed=False, is_dry_run=True
            )
        if plan.is_empty:
            done = PushResult(plan, plan.parent, hub.url(f"tree/{plan.parent}"), committed=False)
        else:
            title = message or f"Publish {index.get('name')} {index.get('version')}"
            revision, url = hub.publish(root, release, plan, title, private)
            done = PushResult(plan, revision, url, committed=True)
        if tag and not tagged:
            hub.tag(tag, str(done.revision))
        return done

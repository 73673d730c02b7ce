# SPDX-License-Identifier: Apache-2.0
"""Build a release: plan it, write its shards, finish it.

The output folder is replaced only after the build succeeds. All work happens in `<out>.partial`, in
atomic steps: the plan, each shard, the release. So a build may be killed at any moment, and the
next one with the same arguments resumes it. Shards are independent: processes of one machine
(`workers`) or of many (`build_share`, then `finish_release`) may write them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.audit.findings import drop_questions
from mmrel_kit.build.finish import MISSING, BuildSummary, check_out, join_shards
from mmrel_kit.build.plan import SHARD_BYTES, BuildPlan, Shard
from mmrel_kit.build.shards import ShardManifest, WorkFolder, read_manifest, write_shards
from mmrel_kit.files import MAX_LISTED_PROBLEMS, InputError, Problem, Share, write_atomically
from mmrel_kit.questions.annotations import (
    NO_CATEGORY,
    NOT_OURS,
    NOT_VALID,
    UNREADABLE,
    Annotation,
    LeftOut,
    find_annotation_files,
    leave_out,
    read_annotations,
)
from mmrel_kit.sources.local import Pictures

# Why questions are no part of a release.
_LEFT_OUT = {
    UNREADABLE: "their lines cannot be read",
    NO_CATEGORY: "their wording is unknown and nothing names their category",
    NOT_VALID: "their wording is unknown and a record cannot hold them",
}
Progress = Callable[[Iterable[ShardManifest], int], Iterable[ShardManifest]]


@dataclass(frozen=True)
class Job:
    """The input and options of a build.

    Attributes:
        annotations: annotation files, or folders of them.
        pictures: the sources of pictures.
        out: folder of the release; a release in it is replaced in one step.
        split: overrides the split that the files name.
        mapping: a file that declares the splits of files; see `annotations.read_mapping`.
        note: a sentence that the card, checksums.json and `mmrel show` carry.
        shard_bytes: limit of the bytes of pictures in an archive.
        allow_missing: leave out questions whose picture no source has.
        drop: kinds of audit findings whose questions are left out.
        domains: use only the questions about pictures of these; None is all.
        strict: a question that no grammar parses is an error.
        skip_unreadable: leave out lines that cannot be read, instead of raising an error.
        hub_eval: write eval.yaml and hub_eval/ for the Hub's own evaluation.
        show_step: called with a line of text when a step of the build begins.
    """

    annotations: Sequence[Path]
    pictures: Pictures
    out: Path
    split: str | None = None
    mapping: Path | None = None
    note: str | None = None
    shard_bytes: int = SHARD_BYTES
    allow_missing: bool = False
    drop: Sequence[str] = ()
    domains: Sequence[str] | None = None
    strict: bool = False
    skip_unreadable: bool = False
    hub_eval: bool = False
    show_step: Callable[[str], object] = lambda text: None

    @property
    def work(self) -> WorkFolder:
        """The folder beside `out` in which the release is built."""
        return find_work_folder(self.out)

    def describe(self) -> list[Any]:
        """Return everything a plan depends on; a plan with the same value can be resumed."""
        files = find_annotation_files(self.annotations)
        if self.mapping:
            files.append(self.mapping.resolve())
        stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        options = [self.split, self.shard_bytes, self.allow_missing, sorted(self.drop)]
        options += [sorted(self.domains or ()), self.strict, self.skip_unreadable, self.hub_eval]
        return [stamps, self.pictures.describe(), self.note, *options, mmrel.__version__]


def build_release(
    job: Job, workers: int = 1, progress: Progress = lambda manifests, total: manifests
) -> BuildSummary:
    """Build a release from annotation files and pictures.

    Args:
        job: what to build.
        workers: number of processes that write shards.
        progress: wraps the iterator over finished shards; its second argument is the bytes of
            pictures in all shards.

    Raises:
        InputError: the input is invalid, or `out` is not a release; `out` is unchanged, and the
            next build reuses finished shards.
    """
    check_out(job.work.out)
    try:
        with closing(open_plan(job)) as plan:
            shards = plan.list_shards()
            job.show_step(_describe_writing(plan, shards, job.work))
            written = write_shards(plan, shards, job.pictures, job.work, workers)
            manifests = list(progress(written, sum(shard.size for shard in shards)))
            job.show_step("finishing: records, card, audit and checksums")
            return join_shards(plan, job.work, manifests)
    except InputError:
        # The next build has other input, so it needs a new plan. It reuses finished shards, and
        # pictures that were fetched.
        job.work.plan.unlink(missing_ok=True)
        if not any(job.work.shards.glob("*")) and not any(job.work.root.glob("fetched-*/*")):
            shutil.rmtree(job.work.root, ignore_errors=True)
        raise


def build_share(job: Job, share: Share, workers: int = 1) -> list[ShardManifest]:
    """Write a share of the shards of a release, as one task of a scheduler.

    Shares may be written in parallel and in any order, by processes that see the same folders. Each
    process makes the plan if there is none yet. `finish_release` joins the shards.

    Raises:
        InputError: see `build_release`.
    """
    number, total = share
    if not 1 <= number <= total:
        raise InputError(
            f"expected a share from 1/{total} to {total}/{total}, got {number}/{total}"
        )
    check_out(job.work.out)
    with closing(open_plan(job, share)) as plan:
        shards = share.choose(plan.list_shards())
        step = _describe_writing(plan, shards, job.work)
        job.show_step(f"share {number} of {total}: {step}")
        return list(write_shards(plan, shards, job.pictures, job.work, workers))


def finish_release(out: Path) -> BuildSummary:
    """Join the shards that `build_share` has written into the release.

    Raises:
        InputError: shards are missing, or were written from another plan; `out` is unchanged.
    """
    work = find_work_folder(out)
    check_out(work.out)
    if not work.plan.exists():
        raise InputError(
            f"{work.plan}: expected the plan of a build, got none; run first: mmrel build --shard"
        )
    with closing(BuildPlan(work.plan, resume=True)) as plan:
        manifests: list[ShardManifest] = []
        missing: list[str] = []
        for shard in plan.list_shards():
            manifest = read_manifest(plan, shard, work)
            if manifest:
                manifests.append(manifest)
            else:
                missing.append(shard.name)
        if missing:
            names = ", ".join(sorted(missing)[:MAX_LISTED_PROBLEMS])
            total = len(missing) + len(manifests)
            raise InputError(
                f"{work.root}: expected all shards, {len(missing)} of {total} are missing, "
                f"{names}; run their shares again: mmrel build --shard"
            )
        return join_shards(plan, work, manifests)


def open_plan(job: Job, share: Share | None = None) -> BuildPlan:
    """Open the plan of an interrupted build with the same input, or make a new one.

    Several processes may do this at once, because a new plan is moved into place when complete.
    """
    work = job.work
    for folder in (work.shards, work.release):
        folder.mkdir(parents=True, exist_ok=True)
    if work.plan.exists():
        plan = BuildPlan(work.plan, resume=True)
        if _is_current(plan, job, share):
            job.show_step(f"resuming the build that was interrupted: {work.root}")
            return plan
        plan.close()
    with write_atomically(work.plan) as path:
        _make_plan(job, path)
    return BuildPlan(work.plan, resume=True)


def find_work_folder(out: Path) -> WorkFolder:
    """Return the folder in which the release at `out` is built."""
    return WorkFolder(Path(os.path.abspath(out)))


def _is_current(plan: BuildPlan, job: Job, share: Share | None) -> bool:
    """Return whether a plan can be resumed; a whole build looks for missing pictures again."""
    # The stored value has been JSON: its tuples are lists.
    if plan.get_meta("job") != json.loads(json.dumps(job.describe())):
        return False
    shards: Sequence[Shard] = plan.list_shards()
    if share is not None:
        shards = share.choose(shards)
    elif plan.get_meta("missing"):
        return False
    return plan.is_current(job.pictures, shards)


def _make_plan(job: Job, path: Path) -> None:
    with closing(BuildPlan(path)) as plan:
        job.show_step(f"reading {len(find_annotation_files(job.annotations))} annotation files")
        described = job.describe()
        left_out = plan.add(_read_questions(job), job.strict)
        plan.set_meta("passed over", [left_out[reason] for reason in NOT_OURS])
        plan.set_meta("repeated", plan.merge_files())
        dropped = drop_questions(plan, job.drop)
        job.show_step(f"looking for the pictures of {plan.count_questions()} questions")
        job.pictures.prepare(job.work.root, plan.list_image_ids())
        plan.assign_shards(job.pictures, job.shard_bytes, job.allow_missing)
        plan.set_meta("missing", sum(1 for _ in plan.missing_pictures()))
        plan.set_meta("job", described)
        plan.set_meta("note", job.note)
        plan.set_meta("hub eval", job.hub_eval)
        plan.set_meta("left out", _describe_left_out(plan, left_out, dropped))


def _read_questions(job: Job) -> Iterator[Annotation | Problem | LeftOut]:
    for item in read_annotations(job.annotations, job.split, job.mapping, job.domains):
        yield leave_out(item) if job.skip_unreadable and isinstance(item, Problem) else item


def _describe_writing(plan: BuildPlan, shards: Sequence[Shard], work: WorkFolder) -> str:
    """Return a line on the shards to write, and on those that an earlier build has written."""
    questions, pictures = plan.count_contents()
    size = sum(shard.size for shard in shards)
    text = (
        f"{questions} questions about {pictures} pictures; "
        f"writing {len(shards)} shards, {size / 1e6:.1f} MB"
    )
    finished = sum(read_manifest(plan, shard, work) is not None for shard in shards)
    if finished:
        text += f"; {finished} of them are already written by a build that was interrupted"
    return text


def _describe_left_out(
    plan: BuildPlan, left_out: Counter[str], dropped: dict[str, int]
) -> str | None:
    """Return a sentence on the questions that a release lacks, or None if it lacks none."""
    reasons = []
    for reason, text in _LEFT_OUT.items():
        if left_out[reason]:
            reasons.append(f"{left_out[reason]} questions are left out because {text}")
    for kind, number in dropped.items():
        if number:
            reasons.append(f"{number} questions were dropped ({kind})")
    pictures: Counter[str] = Counter()
    questions: Counter[str] = Counter()
    for missing in plan.missing_pictures():
        pictures[missing.domain] += 1
        questions[missing.domain] += missing.questions
    for domain in sorted(pictures):
        reasons.append(
            f"{questions[domain]} {domain} questions are left out because their "
            f"{pictures[domain]} pictures were missing ({MISSING})"
        )
    if not reasons:
        return None
    return f"Part of the benchmark only: {'; '.join(reasons)}."

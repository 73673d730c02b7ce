# SPDX-License-Identifier: Apache-2.0
"""Build a release: plan, pack shard by shard, finish.

The output folder is replaced only after the build succeeds. All work is done in `<out>.partial`,
in steps that leave a mark only when they are whole: the plan, each shard, the release. So a build
may be killed at any moment, and another one with the same arguments goes on from there. Shards
need nothing of each other: processes of one machine (`workers`) or of many (`build_share`, then
`finish_release`) may pack them.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmrel
from mmrel_kit.audit.findings import drop_questions
from mmrel_kit.build.finish import MISSING, BuildSummary, check_out, join_shards
from mmrel_kit.build.plan import SHARD_BYTES, BuildPlan
from mmrel_kit.build.shards import ShardManifest, WorkFolder, read_manifest
from mmrel_kit.build.workers import write_shards
from mmrel_kit.files import SHOWN_PROBLEMS, InputError, write_whole
from mmrel_kit.questions.annotations import find_files, read_annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mmrel_kit.build.plan import Shard
    from mmrel_kit.files import Share
    from mmrel_kit.pictures.sources import Pictures


def _be_silent(text: str) -> None:
    pass


@dataclass(frozen=True)
class Job:
    """What a build is asked for.

    Attributes:
        annotations: annotation files, or folders of them.
        pictures: where pictures are read from.
        out: folder of the release; a release in it is replaced in one step.
        split: overrides the split that the files name.
        mapping: a file that declares the splits of files; see `annotations.read_mapping`.
        note: a sentence that the card, checksums.json and `mmrel show` carry.
        shard_bytes: most bytes of pictures in an archive.
        allow_missing: leave questions out whose picture no source has.
        drop: kinds of findings of the audit whose questions are left out.
        hub_eval: write what the Hub's own evaluation needs (see `build.hub_eval`).
        say: is given a line of text as each step of the build begins.
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
    hub_eval: bool = False
    say: Callable[[str], None] = _be_silent

    @property
    def work(self) -> WorkFolder:
        """The folders beside `out` in which the build goes on."""
        return make_workplace(self.out)

    def describe(self) -> list[Any]:
        """Return what a plan depends on; an older plan with the same value can be used again."""
        files = find_files(self.annotations)
        if self.mapping:
            files.append(self.mapping.resolve())
        stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        options = [self.split, self.shard_bytes, self.allow_missing, sorted(self.drop)]
        options.append(self.hub_eval)
        return [stamps, self.pictures.describe(), self.note, *options, mmrel.__version__]


def build_release(
    job: Job,
    workers: int = 1,
    progress: Callable[
        [Iterable[ShardManifest], int], Iterable[ShardManifest]
    ] = lambda parts, total: parts,
) -> BuildSummary:
    """Build a release from annotation files and pictures.

    Args:
        job: what to build.
        workers: processes that pack shards.
        progress: wraps the parts as they are finished; its second argument is the bytes of
            pictures in all of them.

    Raises:
        InputError: the input cannot be used, or `out` holds something else than a release; `out`
            is as before. Shards that were finished are not packed again by the next build.
    """
    check_out(job.work.out)
    try:
        with closing(open_plan(job)) as plan:
            shards = plan.list_shards()
            job.say(_describe_packing(plan, shards, job.work))
            packing = write_shards(plan, shards, job.pictures, job.work, workers)
            parts = list(progress(packing, sum(shard.size for shard in shards)))
            job.say("finishing: records, card, audit and checksums")
            return join_shards(plan, job.work, parts)
    except InputError:
        # What was wrong will be mended: the next build looks at everything anew, but for the
        # shards that are finished.
        job.work.plan.unlink(missing_ok=True)
        if not job.work.parts.is_dir() or not any(job.work.parts.iterdir()):
            shutil.rmtree(job.work.root, ignore_errors=True)
        raise


def build_share(job: Job, share: Share, workers: int = 1) -> list[ShardManifest]:
    """Pack a share of a release's shards: the unit of any scheduler.

    Shares may be packed at once and in any order, by processes that see the same folders; each
    makes the plan where there is none yet. `finish_release` joins them.

    Raises:
        InputError: see `build_release`.
    """
    number, total = share
    if not 1 <= number <= total:
        wanted = f"expected a share from 1/{total} to {total}/{total}"
        raise InputError(f"{wanted}, got {number}/{total}")
    check_out(job.work.out)
    with closing(open_plan(job, share)) as plan:
        shards = share.choose(plan.list_shards())
        packing = _describe_packing(plan, shards, job.work)
        job.say(f"share {number} of {total}: {packing}")
        return list(write_shards(plan, shards, job.pictures, job.work, workers))


def finish_release(out: Path) -> BuildSummary:
    """Join the shares that `build_share` has packed into the release.

    Raises:
        InputError: shards are missing, or were packed from another plan; `out` is as before.
    """
    work = make_workplace(out)
    check_out(work.out)
    if not work.plan.exists():
        wanted = "expected the plan of a build, found none"
        raise InputError(f"{work.plan}: {wanted}; pack it first: mmrel build --shard")
    with closing(BuildPlan(work.plan, resume=True)) as plan:
        parts, missing = [], []
        for shard in plan.list_shards():
            part = read_manifest(plan, shard, work)
            if part:
                parts.append(part)
            else:
                missing.append(shard.name)
        if missing:
            named = ", ".join(sorted(missing)[:SHOWN_PROBLEMS])
            number = f"{len(missing)} of {len(missing) + len(parts)}"
            raise InputError(
                f"{work.root}: expected all shards, {number} are not packed, {named}; "
                "run their shares again: mmrel build --shard"
            )
        return join_shards(plan, work, parts)


def open_plan(job: Job, share: Share | None = None) -> BuildPlan:
    """Return the plan of a job: the one of an earlier build with the same inputs, or a new one.

    A new plan is made aside and moved to its place whole, so that several processes may do this at
    once.
    """
    work = job.work
    for folder in (work.parts, work.release):
        folder.mkdir(parents=True, exist_ok=True)
    if work.plan.exists():
        plan = BuildPlan(work.plan, resume=True)
        if _is_current(plan, job, share):
            job.say(f"going on with the build that was stopped: {work.root}")
            return plan
        plan.close()
    with write_whole(work.plan) as aside:
        _make_plan(job, aside)
    return BuildPlan(work.plan, resume=True)


def make_workplace(out: Path) -> WorkFolder:
    """Return the folders in which the release at `out` is built."""
    return WorkFolder(Path(os.path.abspath(out)))


def _is_current(plan: BuildPlan, job: Job, share: Share | None) -> bool:
    """Return whether a plan can be used again; pictures that were missing may be there now."""
    described = json.loads(json.dumps(job.describe()))
    if plan.get_meta("job") != described:
        return False
    shards: Sequence[Shard] = plan.list_shards()
    if share is not None:
        shards = share.choose(shards)
    elif plan.get_meta("missing"):
        return False
    return plan.is_current(job.pictures, shards)


def _make_plan(job: Job, path: Path) -> None:
    with closing(BuildPlan(path)) as plan:
        job.say(f"reading {len(find_files(job.annotations))} annotation files")
        described = job.describe()
        plan.add(read_annotations(job.annotations, job.split, job.mapping))
        dropped = drop_questions(plan, job.drop)
        job.say(f"looking for the pictures of {plan.count_questions()} questions")
        job.pictures.prepare(job.work.root)
        plan.assign_shards(job.pictures, job.shard_bytes, job.allow_missing)
        plan.set_meta("missing", sum(1 for _ in plan.missing_pictures()))
        plan.set_meta("job", described)
        plan.set_meta("note", job.note)
        plan.set_meta("hub eval", job.hub_eval)
        plan.set_meta("left out", _describe_left_out(plan, dropped))


def _describe_packing(plan: BuildPlan, shards: Sequence[Shard], work: WorkFolder) -> str:
    """Return what will be packed, and how much of it an earlier build has packed already."""
    questions, pictures = plan.count_contents()
    size = sum(shard.size for shard in shards)
    packed = sum(read_manifest(plan, shard, work) is not None for shard in shards)
    text = f"{questions} questions about {pictures} pictures; "
    text += f"packing {len(shards)} shards, {size / 1e6:.1f} MB"
    if packed:
        text += f"; {packed} of them are there already, from a build that was stopped"
    return text


def _describe_left_out(plan: BuildPlan, dropped: dict[str, int]) -> str | None:
    """Return a sentence on the questions that a release lacks; every number on it carries it."""
    reasons = []
    for kind, number in dropped.items():
        if number:
            reasons.append(f"{number} questions were dropped ({kind})")
    counts: dict[str, list[int]] = {}
    for missing in plan.missing_pictures():
        count = counts.setdefault(missing.domain, [0, 0])
        count[0] += 1
        count[1] += missing.questions
    for domain, (pictures, questions) in sorted(counts.items()):
        left = f"{questions} {domain} questions are left out"
        reasons.append(f"{left} because their {pictures} pictures were missing ({MISSING})")
    return f"Part of the benchmark only: {'; '.join(reasons)}." if reasons else None

# SPDX-License-Identifier: Apache-2.0
"""Builds a release: plan, pack shard by shard, finish. Nothing stands in the output folder before all is well.

All work is done in `<out>.partial`, in steps that leave a mark only when they are whole: the plan, each shard, the
release. So a build may be killed at any moment, and another one with the same arguments goes on from there. Shards
need nothing of each other: processes of one machine (`workers`) or of many (`build_share`, then `finish_release`) may
pack them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmrel
from mmrel_kit.audit.findings import drop_questions
from mmrel_kit.build.finish import MISSING, Built, check_out, join_parts
from mmrel_kit.build.pack import Part, Workplace, pack_shard, read_part
from mmrel_kit.build.plan import SHARD_BYTES, Plan
from mmrel_kit.files import SHOWN_PROBLEMS, InputError, raise_problems
from mmrel_kit.questions.annotations import find_files, read_annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mmrel_kit.build.plan import Shard
    from mmrel_kit.pictures.sources import Pictures


def _be_silent(text: str) -> None:
    pass


@dataclass(frozen=True)
class Job:
    """What a build is asked for.

    Attributes:
        annotations: annotation files, or folders of them.
        pictures: where pictures are read from.
        out: folder of the release.
        split: overrides the split that the files name.
        mapping: a file that tells the splits of files; see `annotations.read_mapping`.
        note: a sentence that the card, checksums.json and `python mmrel.py` carry.
        shard_bytes: most bytes of pictures in an archive.
        allow_missing: leave questions out whose picture no source has.
        drop: kinds of findings of the audit whose questions are left out.
        hub_eval: write what the Hub's own evaluation needs (see `release.hub_eval`).
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
    def work(self) -> Workplace:
        """The folders beside `out` in which the build goes on."""
        return make_workplace(self.out)

    def describe(self) -> list[Any]:
        """What a plan depends on; equal when a plan that stands there can be used again."""
        files = find_files(self.annotations) + ([self.mapping.resolve()] if self.mapping else [])
        stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        options = [self.split, self.shard_bytes, self.allow_missing, sorted(self.drop), self.hub_eval]
        return [stamps, self.pictures.describe(), self.note, *options, mmrel.__version__]


def build_release(
    paths: Sequence[Path],
    pictures: Pictures,
    out: Path,
    split: str | None = None,
    note: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    workers: int = 1,
    progress: Callable[[Iterable[Part], int], Iterable[Part]] = lambda parts, total: parts,
    **options: Any,
) -> Built:
    """Build a release from annotation files and pictures.

    Args:
        paths: annotation files, or folders of them.
        pictures: where pictures are read from.
        out: folder of the release; a release that stands there is replaced in one step.
        split: overrides the split that the files name.
        note: a sentence that the card, checksums.json and `python mmrel.py` carry.
        shard_bytes: most bytes of pictures in an archive.
        workers: processes that pack shards.
        progress: wraps the parts as they are finished; its second argument is the bytes of pictures in all of them.
        options: further fields of `Job`.

    Raises:
        InputError: the input cannot be used, or `out` holds something else than a release; `out` is as before. Shards
            that were finished are not packed again by the next build.
    """
    job = Job(paths, pictures, out, split, note=note, shard_bytes=shard_bytes, **options)
    check_out(job.work.out)
    problems: list[str] = []
    try:
        with closing(open_plan(job)) as plan:
            shards = plan.shards()
            job.say(_describe_packing(plan, shards, job.work))
            packing = pack_shards(plan, shards, pictures, job.work, workers, problems)
            parts = list(progress(packing, sum(shard.size for shard in shards)))
            raise_problems(problems)
            job.say("finishing: records, card, audit and checksums")
            return join_parts(plan, job.work, parts)
    except InputError:
        # What was wrong will be mended: the next build looks at everything anew, but for the shards that are finished.
        job.work.plan.unlink(missing_ok=True)
        if not job.work.parts.is_dir() or not any(job.work.parts.iterdir()):
            shutil.rmtree(job.work.root, ignore_errors=True)
        raise


def build_share(job: Job, index: int, count: int, workers: int = 1) -> list[Part]:
    """Pack the `index`th (from 1) of `count` shares of a release's shards: the unit of any scheduler.

    Shares may be packed at once and in any order, by processes that see the same folders; each makes the plan where it
    does not stand yet. `finish_release` joins them.

    Raises:
        InputError: see `build_release`.
    """
    if not 1 <= index <= count:
        raise InputError(f"expected a share from 1/{count} to {count}/{count}, got {index}/{count}")
    check_out(job.work.out)
    problems: list[str] = []
    with closing(open_plan(job, (index, count))) as plan:
        shards = plan.shards()[index - 1 :: count]
        job.say(f"share {index} of {count}: {_describe_packing(plan, shards, job.work)}")
        parts = list(pack_shards(plan, shards, job.pictures, job.work, workers, problems))
    raise_problems(problems)
    return parts


def finish_release(out: Path) -> Built:
    """Join the shares that `build_share` has packed into the release.

    Raises:
        InputError: shards are missing, or were packed from another plan; `out` is as before.
    """
    work = make_workplace(out)
    check_out(work.out)
    if not work.plan.exists():
        raise InputError(
            f"{work.plan}: expected the plan of a build, found none; pack it first: upload.py build --shard"
        )
    with closing(Plan(work.plan, resume=True)) as plan:
        shards = plan.shards()
        parts = [part for shard in shards if (part := read_part(plan, shard, work))]
        if missing := sorted({shard.name for shard in shards} - {part.name for part in parts}):
            raise InputError(
                f"{work.root}: expected all shards, {len(missing)} of {len(shards)} are not packed, "
                f"{', '.join(missing[:SHOWN_PROBLEMS])}; run their shares again: upload.py build --shard"
            )
        return join_parts(plan, work, parts)


def open_plan(job: Job, share: tuple[int, int] | None = None) -> Plan:
    """The plan of a job: the one that stands there, where it is of the same inputs as they are now, else a new one.

    A new plan is made aside and moved to its place whole, so that several processes may do this at once.
    """
    work, described = job.work, json.loads(json.dumps(job.describe()))
    for folder in (work.parts, work.release):
        folder.mkdir(parents=True, exist_ok=True)
    if work.plan.exists():
        plan = Plan(work.plan, resume=True)
        shards = plan.shards()[share[0] - 1 :: share[1]] if share else plan.shards()
        complete = share is not None or plan.told("missing") == 0
        if plan.told("job") == described and complete and plan.is_current(job.pictures, shards):
            job.say(f"going on with the build that was stopped: {work.root}")
            return plan
        plan.close()
    aside = work.plan.with_name(f"{work.plan.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        _make_plan(job, aside, described)
        os.replace(aside, work.plan)
    finally:
        aside.unlink(missing_ok=True)
    return Plan(work.plan, resume=True)


def pack_shards(
    plan: Plan, shards: Sequence[Shard], pictures: Pictures, work: Workplace, workers: int, problems: list[str]
) -> Iterator[Part]:
    """Pack shards in one process or several; what is wrong with one is added to `problems` and does not stop others."""
    if workers == 1:
        for shard in shards:
            try:
                yield pack_shard(plan, shard, pictures, work)
            except InputError as error:
                problems.append(str(error))
        return
    # Not forked: a copy of a process with threads (Arrow's, a progress bar's) may hang.
    context = get_context("spawn")
    started = (plan.path, pictures, work)
    others = active_children()
    with ProcessPoolExecutor(workers, context, _start_worker, started) as pool:
        try:
            with _holding_back_ctrl_c():  # workers are started here
                futures = [pool.submit(_pack_in_worker, shard) for shard in shards]
            for future in as_completed(futures):
                try:
                    yield future.result()
                except InputError as error:
                    problems.append(str(error))
        except (KeyboardInterrupt, GeneratorExit):
            # Nobody waits for the shards that are being packed; what is half written is never used.
            for worker in set(active_children()) - set(others):
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def make_workplace(out: Path) -> Workplace:
    """The folders in which the release at `out` is built."""
    return Workplace(Path(os.path.abspath(out)))


def _make_plan(job: Job, path: Path, described: list[Any]) -> None:
    plan = Plan(path)
    try:
        problems: list[str] = []
        job.say(f"reading {len(find_files(job.annotations))} annotation files")
        plan.add(read_annotations(job.annotations, problems, job.split, job.mapping), problems)
        dropped = drop_questions(plan, job.drop)
        job.say(f"looking for the pictures of {plan.count_questions()} questions")
        job.pictures.prepare(job.work.root)
        plan.place_pictures(job.pictures, job.shard_bytes, job.allow_missing)
        plan.tell("missing", sum(1 for _ in plan.missing()))
        plan.tell("job", described)
        plan.tell("note", job.note)
        plan.tell("hub eval", job.hub_eval)
        plan.tell("left out", _tell_left_out(plan, dropped))
    finally:
        plan.close()


def _describe_packing(plan: Plan, shards: Sequence[Shard], work: Workplace) -> str:
    """Return what will be packed, and how much of it an earlier build has packed already."""
    questions, pictures = plan.count_placed()
    size = sum(shard.size for shard in shards)
    packed = sum(read_part(plan, shard, work) is not None for shard in shards)
    text = f"{questions} questions about {pictures} pictures; "
    text += f"packing {len(shards)} shards, {size / 1e6:.1f} MB"
    if packed:
        text += f"; {packed} of them are there already, from a build that was stopped"
    return text


def _tell_left_out(plan: Plan, dropped: dict[str, int]) -> str | None:
    """A sentence on the questions that a release lacks, which every number on it has to carry."""
    told = [f"{number} questions were dropped ({kind})" for kind, number in dropped.items() if number]
    domains: dict[str, list[int]] = {}
    for missing in plan.missing():
        counts = domains.setdefault(missing.domain, [0, 0])
        counts[0] += 1
        counts[1] += missing.questions
    told += [
        f"{questions} {domain} questions are left out because their {pictures} pictures were missing ({MISSING})"
        for domain, (pictures, questions) in sorted(domains.items())
    ]
    return f"Part of the benchmark only: {'; '.join(told)}." if told else None


@contextmanager
def _holding_back_ctrl_c() -> Iterator[None]:
    """Hold Ctrl-C back; processes that are started meanwhile never get it.

    A terminal sends it to all processes of a command, and a worker would print a traceback. Their
    parent ends them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: tuple[Plan, Pictures, Workplace]


def _start_worker(path: Path, pictures: Pictures, work: Workplace) -> None:
    global _worker
    _worker = Plan(path, resume=True), pictures, work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _pack_in_worker(shard: Shard) -> Part:
    plan, pictures, work = _worker
    return pack_shard(plan, shard, pictures, work)

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
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
from release.annotations import SHOWN_PROBLEMS, find_files, raise_problems, read_annotations
from release.audit import audit_release, drop_questions
from release.audit_page import make_page
from release.card import TEMPLATE, fill_template, generate, make_dataset_infos, merge_facts
from release.pack import (
    Part,
    Workplace,
    count_pictures,
    describe_file,
    make_facts,
    make_versions,
    pack_shard,
    read_part,
    write_aside,
)
from release.plan import SHARD_BYTES, Plan
from release.records import SCHEMA_FOLDER, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from release.card import Facts
    from release.plan import Partners, Shard
    from release.sources import Pictures

__all__ = ["count_pictures", "describe_file", "make_facts", "write_aside"]  # for the rooms beside this one
PROJECT = SCHEMA_FOLDER.parent
INDEX = "checksums.json"
MISSING = "missing.jsonl"


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

    @property
    def work(self) -> Workplace:
        """The folders beside `out` in which the build goes on."""
        return make_workplace(self.out)

    def describe(self) -> list[Any]:
        """What a plan depends on; equal when a plan that stands there can be used again."""
        files = find_files(self.annotations) + ([self.mapping.resolve()] if self.mapping else [])
        stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        options = [self.split, self.shard_bytes, self.allow_missing, sorted(self.drop), mmrel.__version__]
        return [stamps, self.pictures.describe(), self.note, *options]


class Built(NamedTuple):
    """What a build made: facts of each split, how its yes/no questions stand together, and what was left out."""

    facts: list[Facts]
    partners: dict[tuple[str, str], Partners]
    left_out: str | None


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
            packing = pack_shards(plan, shards, pictures, job.work, workers, problems)
            parts = list(progress(packing, sum(shard.size for shard in shards)))
            raise_problems(problems)
            return _finish(plan, job.work, parts)
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
        return _finish(plan, work, parts)


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
    with ProcessPoolExecutor(workers, context, _start_worker, (plan.path, pictures, work)) as pool:
        futures = [pool.submit(_pack_in_worker, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except InputError as error:
                    problems.append(str(error))
        finally:
            pool.shutdown(cancel_futures=True)


def make_workplace(out: Path) -> Workplace:
    """The folders in which the release at `out` is built."""
    return Workplace(Path(os.path.abspath(out)))


def make_index(files: dict[str, dict[str, Any]], note: str | None) -> str:
    """Text of checksums.json: sha256 and size of each file, and the versions of what wrote them."""
    index = {
        "name": "mmrel",
        "version": mmrel.__version__,
        "note": note,
        "written_by": make_versions(),
        "files": dict(sorted(files.items())),
    }
    return _dump(index)


def _dump(index: dict[str, Any]) -> str:
    return json.dumps(index, indent=2, ensure_ascii=False) + "\n"


def check_out(out: Path) -> None:
    """Raise `InputError` where `out` holds something that is not a release's and would be lost."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: expected a folder or nothing, got a file; name another --out")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    try:
        listed = set(json.loads((out / INDEX).read_text("utf-8"))["files"]) | {INDEX}
    except (OSError, ValueError, KeyError, TypeError):
        listed = set()
    if foreign := sorted(found - listed):
        raise InputError(
            f"{out}: expected nothing or a release there, found {foreign[0]!r} ({len(foreign)} files that no "
            f"{INDEX} lists); name another --out or empty it"
        )


def _make_plan(job: Job, path: Path, described: list[Any]) -> None:
    plan = Plan(path)
    try:
        problems: list[str] = []
        plan.add(read_annotations(job.annotations, problems, job.split, job.mapping), problems)
        dropped = drop_questions(plan, job.drop)
        job.pictures.prepare(job.work.root)
        plan.place_pictures(job.pictures, job.shard_bytes, job.allow_missing)
        plan.tell("missing", sum(1 for _ in plan.missing()))
        plan.tell("job", described)
        plan.tell("note", job.note)
        plan.tell("left out", _tell_left_out(plan, dropped))
    finally:
        plan.close()


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


def _finish(plan: Plan, work: Workplace, parts: Sequence[Part]) -> Built:
    """Join the shards of a release: records, schema, loader, card, checksums; then move it to its place."""
    parts = sorted(parts, key=lambda part: part.name)
    facts = merge_facts(part.facts for part in parts)
    files = {name: described for part in parts for name, described in part.files.items()}
    _clear(work.release, set(files))
    for part in parts:
        with (
            open(work.release / "data" / part.facts.domain / f"{part.facts.split}.jsonl", "ab") as lines,
            open(work.parts / f"{part.name}.jsonl", "rb") as records,
        ):
            shutil.copyfileobj(records, lines)
    note, left_out = plan.told("note"), plan.told("left out")
    note = " ".join(str(sentence) for sentence in (note, left_out) if sentence) or None
    _write_texts(plan, work.release, facts, note)
    for path in sorted(work.release.rglob("*")):
        name = path.relative_to(work.release).as_posix()
        if path.is_file() and name not in files:
            files[name] = describe_file(path)
    (work.release / INDEX).write_text(make_index(files, note), "utf-8", newline="\n")
    _write_card(work.release, facts, note)
    built = Built(facts, plan.count_partners(), str(left_out) if left_out else None)
    _replace_folder(work.release, work.out)
    shutil.rmtree(work.root)
    return built


def _clear(release: Path, keep: set[str]) -> None:
    """Take away what is no part of the release: of a build that was stopped, with other input or while it finished."""
    for path in sorted(release.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(release).as_posix() not in keep:
            path.unlink()


def _write_texts(plan: Plan, release: Path, facts: list[Facts], note: str | None) -> None:
    """What a release has beside its data."""
    for name in ("schema/record.schema.json", "schema/taxonomy.json", "LICENSE"):
        _copy(PROJECT / name, release / name)
    _copy(PROJECT / "mmrel.py", release / "loader" / "mmrel.py")
    if plan.told("missing"):
        with open(release / MISSING, "w", encoding="utf-8", newline="\n") as lines:
            lines.writelines(json.dumps(missing._asdict()) + "\n" for missing in plan.missing())
    (release / "dataset_infos.json").write_text(make_dataset_infos(facts), "utf-8", newline="\n")


def _write_card(release: Path, facts: list[Facts], note: str | None) -> None:
    """The card, with the audit of what stands there; checksums.json stands before and after."""
    page = make_page(audit_release(release, thorough=False))
    card = fill_template(TEMPLATE.read_text("utf-8"), generate(facts, note, page))
    renew_file(release, "README.md", card.encode())


def renew_file(release: Path, name: str, data: bytes) -> None:
    """Write a file of a release anew, and what checksums.json says of it."""
    index = json.loads((release / INDEX).read_text("utf-8"))
    write_aside(release / name, data)
    index["files"][name] = describe_file(release / name)
    index["files"] = dict(sorted(index["files"].items()))
    write_aside(release / INDEX, _dump(index).encode())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _replace_folder(work: Path, out: Path) -> None:
    """Put the finished folder in place; an older release goes only once the new one can follow."""
    old = out.with_name(out.name + ".old")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(out, old)
    os.rename(work, out)
    shutil.rmtree(old, ignore_errors=True)

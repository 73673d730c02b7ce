# SPDX-License-Identifier: Apache-2.0
"""The verbs that get the real benchmark: get, fetch."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.check.stamps import check_and_store
from mmrel_kit.commands.options import Verbs, parse_path, parse_positive, parse_share
from mmrel_kit.commands.progress import FetchBar, count_archive_bytes, make_bar, track_shards
from mmrel_kit.commands.release import print_step, print_summary
from mmrel_kit.files import (
    MAX_LISTED_PROBLEMS,
    InputError,
    Share,
    escape_unprintable,
    format_table,
    write_bytes,
)
from mmrel_kit.questions.records import parse_image_path
from mmrel_kit.sources.fetching import (
    MANIFEST,
    FetchPlan,
    FetchResult,
    fetch_pictures,
    make_client,
    make_plan,
)
from mmrel_kit.sources.hosts import is_remote, open_host
from mmrel_kit.sources.local import PictureFolder
from mmrel_kit.sources.questions import QuestionFiles, Wanted, read_wanted
from mmrel_kit.sources.upstream import CONTENTS, HOSTS, QUESTIONS, QUESTIONS_LICENCE
from mmrel_kit.web import JOBS, WebClient

RESUMES = "what has arrived is kept; the same command fetches the rest"
COPIES = 2  # of each picture in a release: in an archive and in a table
WORDINGS = "unparsed.txt"  # the report of wordings that no grammar parses
LEAST_MEASURED = 1_000_000  # bytes that must have arrived before a rate is stated


@dataclass
class FetchJob:
    """What a run fetches, and where to.

    Attributes:
        folder: for pictures, and for question files that are fetched.
        annotations: question files on this machine, or the address of a repository with them.
        hosts: domain -> addresses of its pictures.
        domains: those that must have questions; None if none must.
        copies: copies of the pictures that are made afterwards, for which there must be room.
    """

    folder: Path
    annotations: Sequence[str]
    hosts: dict[str, list[str]]
    domains: Sequence[str] | None
    share: Share = Share()
    jobs: int = JOBS
    dry_run: bool = False
    copies: int = 0


@dataclass
class FetchedSources:
    """The question files that were used, and what came of their pictures."""

    questions: list[Path]
    wanted: Wanted
    result: FetchResult


def get(args: argparse.Namespace) -> int:
    """Get the benchmark: fetch its questions and pictures, build a release, check it."""
    pictures = args.pictures or args.out.with_name(f"{args.out.name}.pictures")
    job = _read_arguments(args, pictures)
    job.copies = COPIES
    outcome = asyncio.run(_fetch(job))
    if outcome.result.missing and not args.allow_missing:
        return 1
    release = Job(
        annotations=outcome.questions,
        pictures=PictureFolder(pictures),
        out=args.out,
        allow_missing=args.allow_missing,
        domains=args.domains,
        strict=args.strict,
        skip_unreadable=True,
        show_step=print_step,
    )
    print_summary(build_release(release, progress=track_shards), args.out)
    with make_bar(count_archive_bytes(args.out)) as bar:
        checked = check_and_store(args.out, bar.update)
    problems = [problem for problem in checked if not problem.is_warning]
    for problem in problems:
        print(problem)
    if problems:
        return 1
    domain = next(iter(job.hosts))
    print(f'\nchecked; load it with: load_dataset("{args.out.as_posix()}", "{domain}")')
    return 0


def fetch(args: argparse.Namespace) -> int:
    """Fetch the question files and exactly the pictures that they ask for."""
    job = _read_arguments(args, args.folder)
    job.share, job.dry_run = args.shard or Share(), args.dry_run
    outcome = asyncio.run(_fetch(job))
    if job.dry_run:
        return 0
    if outcome.result.missing and not args.allow_missing:
        return 1
    questions = " ".join(str(path) for path in args.annotations or [args.folder / "json"])
    print(
        f"\nbuild a release: mmrel build --annotations {questions} --images {args.folder} "
        "--out mmrel"
    )
    return 0


def _read_arguments(args: argparse.Namespace, folder: Path) -> FetchJob:
    hosts = {domain: list(HOSTS[domain]) for domain in args.domains or mmrel.DOMAINS}
    named: dict[str, list[str]] = {}
    for domain, where in args.sources:
        if domain not in hosts:
            raise InputError(
                f"--from {domain}={where}: expected one of the domains that are fetched, "
                f"{', '.join(hosts)}; add it to --domains"
            )
        named.setdefault(domain, []).append(where)
    hosts |= named
    return FetchJob(folder, args.annotations or [QUESTIONS], hosts, args.domains, jobs=args.jobs)


async def _fetch(job: FetchJob) -> FetchedSources:
    """Fetch question files and pictures; print the plan before, and the result after."""
    folder = job.folder
    opened = {where: open_host(where) for where in chain.from_iterable(job.hosts.values())}
    hosts = {domain: [opened[where] for where in job.hosts[domain]] for domain in job.hosts}
    async with make_client(job.jobs) as client:
        questions = await _fetch_questions(client, job)
        wanted = read_wanted(questions, job.domains)
        _print_problems(wanted)
        image_ids = [name for name in sorted(wanted.files) if job.share.holds(name)]
        plan = await make_plan(client, hosts, image_ids, folder)
        _print_plan(plan, job, client)
        if job.dry_run:
            return FetchedSources(questions, wanted, FetchResult())
        _check_space(plan, job)
        folder.mkdir(parents=True, exist_ok=True)
        _write_wordings(wanted, folder)
        start = time.monotonic()
        size = 0 if plan.unknown.total() else plan.sizes.total()
        with FetchBar(plan.count, size) as bar:
            result = await fetch_pictures(client, plan, folder, job.jobs, bar.advance)
    _print_result(result, time.monotonic() - start)
    _print_missing(result, wanted)
    return FetchedSources(questions, wanted, result)


async def _fetch_questions(client: WebClient, job: FetchJob) -> list[Path]:
    """Return the question files; fetch those of a repository on the Hub."""
    paths = []
    for where in job.annotations:
        if not where.startswith(mmrel.HUB):
            paths.append(Path(where))
            continue
        files = QuestionFiles(where)
        print(
            f"question files: {len(files.files)}, {files.size / 1e6:.1f} MB, {files.where}"
            f"{f', {QUESTIONS_LICENCE}' if where == QUESTIONS else ''}",
            flush=True,
        )
        paths += await files.fetch(client, job.folder)
    return paths


def _write_wordings(wanted: Wanted, folder: Path) -> None:
    """Write the report of wordings that no grammar parses, if there are any."""
    path = folder / WORDINGS
    if wanted.wordings.total:
        write_bytes(path, wanted.wordings.format().encode())
        print(f"{wanted.wordings.total} questions of unknown wording; please send us {path}")


# --- What is printed ---


def _print_plan(plan: FetchPlan, job: FetchJob, client: WebClient) -> None:
    """Print what will be fetched, from where, and what it needs."""
    rows = [("domain", "pictures", "present", "to fetch", "MB")]
    for domain, image_ids in plan.pictures.items():
        present, missing = plan.present[domain], len(image_ids)
        size = f"{plan.sizes[domain] / 1e6:.1f}"
        if plan.unknown[domain]:
            size += f" + {plan.unknown[domain]} of unknown size"
        rows.append((domain, str(present + missing), str(present), str(missing), size))
    print(format_table(rows))
    for domain, hosts in plan.hosts.items():
        if plan.pictures[domain]:
            names = ", ".join(opened.host.where for opened in hosts)
            print(f"{domain}: {CONTENTS[domain]}; from {names}")
    for miss in plan.list_closed():
        print(f"cannot be read: {miss.host}: {miss.reason}")
    needed, free = _measure_space(plan, job)
    least = "at least " if plan.unknown.total() else ""
    line = f"disk: {least}{needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free"
    if client.received >= LEAST_MEASURED:
        rate = client.received / client.busy
        minutes = max(1, round(plan.sizes.total() / rate / 60))
        line += f"; about {minutes} min at {rate / 1e6:.1f} MB/s, as measured so far"
    print(line, flush=True)


def _measure_space(plan: FetchPlan, job: FetchJob) -> tuple[int, int]:
    """Return the bytes that are needed on disk, with the copies in a release, and those free."""
    size = plan.sizes.total()
    folder = job.folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    return size + (size + plan.kept) * job.copies, shutil.disk_usage(existing).free


def _check_space(plan: FetchPlan, job: FetchJob) -> None:
    needed, free = _measure_space(plan, job)
    if needed > free:
        raise InputError(
            f"{job.folder}: expected {needed / 1e9:.2f} GB of free disk, got "
            f"{free / 1e9:.2f}; make room, or name another folder"
        )


def _print_problems(wanted: Wanted) -> None:
    for problem in wanted.problems:
        print(escape_unprintable(str(problem)), file=sys.stderr)
    if wanted.unreadable:
        print(f"{wanted.unreadable} lines of question files cannot be read", file=sys.stderr)


def _print_result(result: FetchResult, seconds: float) -> None:
    count = sum(result.fetched.values())
    print(f"fetched {count} pictures, {result.size / 1e6:.1f} MB, in {seconds:.0f} s ({MANIFEST})")
    for where, number in result.fetched.most_common():
        print(f"  {number} from {where}")


def _print_missing(result: FetchResult, wanted: Wanted) -> None:
    """Print which pictures are missing, and how many by domain and file and by host."""
    if not result.missing:
        return
    for image_id in sorted(result.missing)[:MAX_LISTED_PROBLEMS]:
        reasons = "; ".join(f"{miss.host}: {miss.reason}" for miss in result.missing[image_id])
        print(f"{image_id}: {reasons}", file=sys.stderr)
    domains: Counter[str] = Counter()
    files: Counter[str] = Counter()
    hosts: Counter[str] = Counter()
    for image_id, misses in result.missing.items():
        domains[parse_image_path(image_id)[0]] += 1
        files[wanted.files[image_id]] += 1
        for miss in misses:
            hosts[f"{miss.host}: {miss.reason}"] += 1
    for counter in (domains, files, hosts):
        for name, number in counter.most_common(MAX_LISTED_PROBLEMS):
            print(f"  {number} x {name}", file=sys.stderr)
    print(
        f"{len(result.missing)} pictures are missing; run the same command again, name another "
        "host (--from DOMAIN=ADDRESS), or go on without them (--allow-missing)",
        file=sys.stderr,
    )


# --- Arguments ---


def parse_source(text: str) -> tuple[str, str]:
    """Parse DOMAIN=ADDRESS of a host of pictures.

    Raises:
        ArgumentTypeError: it is something else.
    """
    domain, _, where = text.partition("=")
    if domain not in mmrel.DOMAINS or not is_remote(where):
        raise argparse.ArgumentTypeError(
            f"expected DOMAIN=ADDRESS with {', '.join(mmrel.DOMAINS)} and http(s)://… or "
            f"{mmrel.HUB}…, got {text[:200]!a}"
        )
    return domain, where


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs."""
    add = verbs.add("get", get, "--out mmrel", RESUMES).add_argument
    add("--out", type=parse_path, required=True, metavar="DIR", help="folder of the release")
    kept = "folder for the pictures, which are kept (OUT.pictures)"
    add("--pictures", type=parse_path, metavar="DIR", help=kept)
    _add_arguments(add)
    strict = "a line that cannot be read and a question of unknown wording are errors"
    add("--strict", action="store_true", help=strict)

    add = verbs.add("fetch", fetch, "pictures --dry-run", RESUMES).add_argument
    add("folder", type=parse_path, metavar="DIR", help="folder for the files, as upstream has them")
    _add_arguments(add)
    add("--dry-run", action="store_true", help="show what would be fetched and stop")
    share = "fetch only the Ith of N shares of the pictures"
    add("--shard", type=parse_share, metavar="I/N", help=share)


def _add_arguments(add: Any) -> None:
    annotations = f"question files or folders of them, or a repository ({QUESTIONS})"
    add("--annotations", nargs="+", metavar="FILE_OR_DIR", help=annotations)
    domains = "domains to fetch (all)"
    add("--domains", nargs="+", choices=mmrel.DOMAINS, metavar="DOMAIN", help=domains)
    sources = (
        "a host of a domain's pictures in place of the usual ones: http(s)://…/FILE.zip or .tar, "
        "an address below which single files lie, or hf://datasets/OWNER/NAME[@REVISION][/FILE]; "
        "several are tried in order"
    )
    add(
        "--from", dest="sources", type=parse_source, action="append", default=[],
        metavar="DOMAIN=ADDRESS", help=sources,
    )  # fmt: skip
    add(
        "--jobs", type=parse_positive, default=JOBS, help="requests to a host at once (%(default)s)"
    )
    missing = "go on although pictures are missing"
    add("--allow-missing", action="store_true", help=missing)

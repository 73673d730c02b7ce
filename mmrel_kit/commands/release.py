# SPDX-License-Identifier: Apache-2.0
"""The verbs for maintainers: build, finish, check, audit, sheet, push, verify."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.audit.findings import audit_release
from mmrel_kit.audit.kinds import DROPPABLE
from mmrel_kit.audit.render import render_blocks, render_json, render_text
from mmrel_kit.build.finish import BuildSummary, update_card
from mmrel_kit.build.job import Job, build_release, build_share, finish_release
from mmrel_kit.card.sheet import draw_sheet
from mmrel_kit.check.release import check_sample
from mmrel_kit.check.stamps import check_and_store
from mmrel_kit.commands.options import Verbs, parse_path, parse_positive, parse_share
from mmrel_kit.commands.progress import count_archive_bytes, make_bar, track_bytes, track_shards
from mmrel_kit.files import InputError, format_table
from mmrel_kit.hub import push as hub_push
from mmrel_kit.hub import verify as hub_verify
from mmrel_kit.sources.opening import PictureSources

# The advice after Ctrl-C for commands that resume.
RESUMES_BUILD = "the same command resumes where this one stopped; finished shards are kept"
RESUMES_FINISH = "finished shards are kept; run the same command again"
RESUMES_PUSH = "the same command resumes; files that have arrived are not sent again"


def build(args: argparse.Namespace) -> int:
    """Build a release from annotation files and pictures."""
    job = Job(
        annotations=args.annotations,
        pictures=PictureSources(args.images),
        out=args.out,
        split=args.split,
        mapping=args.mapping,
        note=args.note,
        allow_missing=args.allow_missing,
        drop=args.drop,
        domains=args.domains,
        strict=args.strict,
        hub_eval=args.hub_eval,
        show_step=print_step,
    )
    if args.shard:
        manifests = build_share(job, args.shard, args.workers)
        print(
            f"{len(manifests)} shards written; when all shares are written, run: "
            f"mmrel finish --out {args.out}"
        )
        return 0
    summary = build_release(job, args.workers, track_shards)
    print_summary(summary, args.out)
    return 0


def finish(args: argparse.Namespace) -> int:
    """Join the shards that `build --shard` has written into the release."""
    print_summary(finish_release(args.out), args.out)
    return 0


def check(args: argparse.Namespace) -> int:
    """Check a release against its contract; exit status 1 if there are problems."""
    if not args.release.is_dir():
        raise InputError(
            f"{args.release}: expected the folder of a release, got no folder; check its path"
        )
    run_checks = check_sample if args.sample else check_and_store
    with make_bar(count_archive_bytes(args.release)) as bar:
        problems = run_checks(args.release, bar.update, args.workers)
    for problem in problems:
        print(problem)
    warnings = sum(problem.is_warning for problem in problems)
    errors = len(problems) - warnings
    print(f"{args.release}: {errors} problems, {warnings} warnings")
    return 1 if errors else 0


def audit(args: argparse.Namespace) -> int:
    """List known issues of a release's questions and pictures, and differences from the paper."""
    report = audit_release(
        args.release, thorough=not args.quick, progress=track_bytes, workers=args.workers
    )
    print(render_json(report) if args.json else render_text(report))
    if args.card:
        update_card(args.release, render_blocks(report))
    return 0


def sheet(args: argparse.Namespace) -> int:
    """Draw a contact sheet: pictures of every domain and split with their questions and answers."""
    with make_bar(count_archive_bytes(args.release)) as bar:
        draw_sheet(args.release, args.out, args.pictures, bar.update)
    print(f"written to {args.out}")
    return 0


def push(args: argparse.Namespace) -> int:
    """Publish a release on the Hugging Face Hub in one commit."""
    result = hub_push.push(
        args.release,
        args.repo_id,
        private=args.private,
        create_pr=args.create_pr,
        tag=args.tag,
        message=args.message,
        dry_run=args.dry_run,
        check=lambda root: hub_push.check_without_warnings(root, print_step),
        show=print,
    )
    print(result)
    return 0


def verify(args: argparse.Namespace) -> int:
    """Compare a repository on the Hub with a release: every file, and every config and split."""
    result = hub_verify.verify(args.release, args.repo_id, revision=args.revision, deep=args.deep)
    print(result)
    return 0 if result.is_good else 1


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs for maintainers."""
    _add_build(verbs)
    _add_finish(verbs)
    _add_check(verbs)
    _add_audit(verbs)
    _add_sheet(verbs)
    _add_push(verbs)
    _add_verify(verbs)


def _add_build(verbs: Verbs) -> None:
    example = "--annotations json/ --images pictures/ --out release"
    add = verbs.add("build", build, example, RESUMES_BUILD).add_argument
    annotations = (
        "POPE/VCD-shaped .json or .jsonl files, LLaVA conversations, records of the contract, or "
        "folders of them"
    )
    add(
        "--annotations", type=parse_path, nargs="+", required=True, metavar="FILE_OR_DIR",
        help=annotations,
    )  # fmt: skip
    images = (
        "sources of pictures: a folder, .zip, .tar, .parquet (the DALL-E re-release) or "
        "hf://datasets/OWNER/NAME[@REVISION] that contains vg/, SPEC/, Dall-E_generated/, or a "
        "source of one domain: real=images.zip real=images2.zip …"
    )
    add("--images", nargs="+", required=True, metavar="[DOMAIN=]SOURCE", help=images)
    add("--out", type=parse_path, required=True, metavar="DIR", help="folder of the release")
    split = "split of all questions, whatever records and file names say"
    add("--split", choices=mmrel.SPLITS, help=split)
    mapping = 'splits of files, such as {"part2*.json": "train"}'
    add("--mapping", type=parse_path, metavar="FILE.json", help=mapping)
    add("--note", help="a sentence that the card and every listing of the release show")
    missing = "leave out questions whose picture is missing"
    add("--allow-missing", action="store_true", help=missing)
    kinds = f"leave out questions with these findings of the audit: {', '.join(DROPPABLE)}"
    add("--drop", nargs="+", default=(), choices=DROPPABLE, metavar="KIND", help=kinds)
    domains = "use only the questions about pictures of these domains"
    add("--domains", nargs="+", choices=mmrel.DOMAINS, metavar="DOMAIN", help=domains)
    strict = "a question whose wording is unknown is an error; otherwise it is open-ended"
    add("--strict", action="store_true", help=strict)
    evaluation = "write eval.yaml and hub_eval/ for 'inspect eval hf/NS/NAME'"
    add("--hub-eval", action="store_true", help=evaluation)
    _add_workers(add, "that write shards")
    share = "write only the Ith of N shares, as a task of a scheduler; then run finish"
    add("--shard", type=parse_share, metavar="I/N", help=share)


def _add_finish(verbs: Verbs) -> None:
    add = verbs.add("finish", finish, "--out release", RESUMES_FINISH).add_argument
    out = "the same folder as for build --shard"
    add("--out", type=parse_path, required=True, metavar="DIR", help=out)


def _add_check(verbs: Verbs) -> None:
    add = verbs.add("check", check, "release").add_argument
    _add_folder(add)
    sample = "check the sample in DIR, a clone of the source repository"
    add("--sample", action="store_true", help=sample)
    _add_workers(add, "that check shards")


def _add_audit(verbs: Verbs) -> None:
    add = verbs.add("audit", audit, "release --json").add_argument
    _add_folder(add)
    add("--json", action="store_true", help="print a list of {kind, count, examples, action}")
    add("--card", action="store_true", help="write the findings into the card of the release")
    add("--quick", action="store_true", help="check only the questions, not the pictures")
    _add_workers(add, "that read pictures")


def _add_sheet(verbs: Verbs) -> None:
    add = verbs.add("sheet", sheet, "release --out sheet.png").add_argument
    _add_folder(add)
    add("--out", type=parse_path, required=True, metavar="FILE.png", help="the PNG to write")
    number = "number of pictures of each domain and split (%(default)s)"
    add("--pictures", type=parse_positive, default=2, metavar="N", help=number)


def _add_push(verbs: Verbs) -> None:
    example = "release --repo-id NS/MMRel --tag v1.0.0"
    add = verbs.add("push", push, example, RESUMES_PUSH).add_argument
    add("release", type=parse_path, metavar="DIR", help="a release that `mmrel build` has written")
    repository = "the dataset repository; created if missing"
    add("--repo-id", required=True, metavar="NS/NAME", help=repository)
    add("--private", action="store_true", help="make a new repository private")
    pull = "open a pull request instead of committing to main"
    add("--create-pr", action="store_true", help=pull)
    add("--tag", metavar="vX.Y.Z", help="tag of the published revision")
    title = "title of the commit (default: name and version of the release)"
    add("--message", help=title)
    add("--dry-run", action="store_true", help="show the changes and stop")


def _add_verify(verbs: Verbs) -> None:
    add = verbs.add("verify", verify, "release --repo-id NS/MMRel --deep").add_argument
    add("release", type=parse_path, metavar="DIR", help="the release that was published")
    add("--repo-id", required=True, metavar="NS/NAME", help="the dataset repository")
    revision = "branch, tag or commit (%(default)s)"
    add("--revision", default="main", metavar="R", help=revision)
    add("--deep", action="store_true", help="read and hash every file, not only its metadata")


def _add_workers(add: Any, what: str) -> None:
    processes = f"number of processes {what} (%(default)s)"
    add("--workers", type=parse_positive, default=1, metavar="N", help=processes)


def _add_folder(add: Any) -> None:
    add("release", type=parse_path, metavar="DIR", help="folder of the release")


def print_summary(summary: BuildSummary, out: Path) -> None:
    """Print the sizes of a release, and how many yes/no questions have a partner."""
    rows = [("domain", "split", "pictures", "questions")]
    for stats in summary.stats:
        rows.append((stats.domain, stats.split, str(stats.pictures), str(stats.rows)))
    print(format_table(rows, left=2))
    if summary.left_out:
        print(f"\n{summary.left_out}")
    if summary.unparsed:
        counts = ", ".join(f"{number} {category}" for category, number in summary.unparsed.items())
        print(f"\nopen-ended questions of unknown wording, kept without a triplet: {counts}")
    if summary.repeated:
        print(f"\nquestions that several files have, dropped but for one: {summary.repeated}")
    conversations, questions = summary.passed_over
    if conversations:
        print(f"\nconversations about other pictures, passed over: {conversations}")
    if questions:
        print(f"\nquestions of other conversations, passed over: {questions}")
    if summary.assumed:
        print(
            "\nin 'test', as neither the records nor the file name give a split "
            "(set it with --split or --mapping):"
        )
        for file, questions in sorted(summary.assumed.items()):
            print(f"  {file}: {questions} questions")
    print("\nyes/no questions by picture and pair of objects (nothing was repaired):")
    for (split, category), pairs in sorted(summary.pairs.items()):
        parts = [f"{pairs.complete} of {pairs.groups} groups with a yes and a no"]
        singles = pairs.no_partner_yes + pairs.no_partner_no
        if singles:
            kinds = f"{pairs.no_partner_yes} yes, {pairs.no_partner_no} no"
            parts.append(f"{singles} questions without a partner ({kinds})")
        if pairs.without_yes:
            parts.append(f"{pairs.without_yes} groups without a yes")
        if pairs.without_no:
            parts.append(f"{pairs.without_no} groups without a no")
        print(f"{split:<12} {category:<12} {'; '.join(parts)}")
    print(f"\nwritten to {out}; check it with: mmrel check {out}")


def print_step(text: str) -> None:
    """Print a step of a build to standard error; standard output is for the summary."""
    print(text, file=sys.stderr, flush=True)

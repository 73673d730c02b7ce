# SPDX-License-Identifier: Apache-2.0
"""The verbs of maintainers: fetch, build, finish, check, audit, sheet, push, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmrel
from mmrel_kit.audit.findings import DROPPABLE, audit_release
from mmrel_kit.audit.page import make_blocks, make_list, make_report
from mmrel_kit.build.finish import update_card
from mmrel_kit.build.job import Job, build_release, build_share, finish_release
from mmrel_kit.card.sheet import draw_sheet
from mmrel_kit.check.release import check_release, check_sample
from mmrel_kit.commands.options import Verbs, parse_path, parse_positive, parse_share
from mmrel_kit.commands.progress import count_pictures, follow_bytes, follow_shards, show_bytes
from mmrel_kit.files import InputError, format_table
from mmrel_kit.hub import push as hub_push
from mmrel_kit.hub import verify as hub_verify
from mmrel_kit.pictures.catalogue import check_sources
from mmrel_kit.pictures.catalogue import make_list as make_source_list
from mmrel_kit.pictures.sources import PictureSources

if TYPE_CHECKING:
    import argparse

    from mmrel_kit.build.finish import BuildSummary

# How to go on after Ctrl-C, where the command does not start again from the beginning.
RESUMES_BUILD = "the same command goes on where this one stopped; shards that are packed stay"
RESUMES_FINISH = "shards that are packed stay; run the same command again"
RESUMES_PUSH = "the same command goes on: it looks first, and what has arrived is not sent again"


def fetch(args: argparse.Namespace) -> int:
    """List what MMRel is made from, where to get it, and whether the files in a folder are whole."""
    if not args.folder.is_dir():
        wanted = "expected a folder of downloads, found no folder"
        raise InputError(f"{args.folder}: {wanted}; make it, or check its path")
    states = check_sources(args.folder, follow_bytes)
    print(make_source_list(states, args.folder))
    return 1 if any(state.state.startswith("expected") for state in states) else 0


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
        hub_eval=args.hub_eval,
        say=_say,
    )
    if args.shard:
        parts = build_share(job, args.shard, args.workers)
        finish = f"mmrel finish --out {args.out}"
        print(f"{len(parts)} shards packed; when all shares are: {finish}")
        return 0
    built = build_release(job, args.workers, follow_shards)
    _print_built(built, args.out)
    return 0


def finish(args: argparse.Namespace) -> int:
    """Join the shards that `build --shard` has packed into the release."""
    _print_built(finish_release(args.out), args.out)
    return 0


def check(args: argparse.Namespace) -> int:
    """Check a release against the contract; exit status 1 where something is wrong."""
    if not args.release.is_dir():
        wanted = "expected the folder of a release, found no folder"
        raise InputError(f"{args.release}: {wanted}; check its path")
    checking = check_sample if args.sample else check_release
    with show_bytes(count_pictures(args.release)) as bar:
        problems = checking(args.release, bar.update)
    for problem in problems:
        print(problem)
    wrong = sum(not problem.is_warning for problem in problems)
    print(f"{args.release}: {wrong} problems, {len(problems) - wrong} warnings")
    return 1 if wrong else 0


def audit(args: argparse.Namespace) -> int:
    """List known issues of a release's questions and pictures, and differences from the paper."""
    found = audit_release(args.release, thorough=not args.quick, progress=follow_bytes)
    print(make_list(found) if args.json else make_report(found))
    if args.card:
        update_card(args.release, make_blocks(found))
    return 0


def sheet(args: argparse.Namespace) -> int:
    """Draw a contact sheet: pictures of every domain and split with their questions and answers."""
    with show_bytes(count_pictures(args.release)) as bar:
        draw_sheet(args.release, args.out, args.pictures, bar.update)
    print(f"written to {args.out}")
    return 0


def push(args: argparse.Namespace) -> int:
    """Publish a release on the Hugging Face Hub: all of it in one commit, or nothing."""
    done = hub_push.push(
        args.release,
        args.repo_id,
        private=args.private,
        create_pr=args.create_pr,
        tag=args.tag,
        message=args.message,
        dry_run=args.dry_run,
        show=print,
    )
    print(done)
    return 0


def verify(args: argparse.Namespace) -> int:
    """Prove what stands on the Hub: every file, and every config and split by loading it."""
    found = hub_verify.verify(
        args.release,
        args.repo_id,
        revision=args.revision,
        deep=args.deep,
    )
    print(found)
    return 0 if found.is_good else 1


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of maintainers."""
    _add_fetch(verbs)
    _add_build(verbs)
    finishing = verbs.add("finish", finish, "--out release", RESUMES_FINISH)
    same = "the same as that of build --shard"
    finishing.add_argument("--out", type=parse_path, required=True, metavar="DIR", help=same)
    _add_check(verbs)
    _add_audit(verbs)
    _add_sheet(verbs)
    _add_push(verbs)
    _add_verify(verbs)


def _add_fetch(verbs: Verbs) -> None:
    add = verbs.add("fetch", fetch, "downloads").add_argument
    where = "where the files are (the current folder)"
    add("folder", type=parse_path, nargs="?", default=Path(), metavar="DIR", help=where)


def _add_build(verbs: Verbs) -> None:
    example = "--annotations json/ --images pictures/ --out release"
    add = verbs.add("build", build, example, RESUMES_BUILD).add_argument
    files = "POPE/VCD-shaped .json or .jsonl files, LLaVA conversations, records of the contract, or folders of them"
    places = (
        "where pictures are: a folder, .zip, .tar, .parquet (the DALL-E re-release) or "
        "hf://datasets/OWNER/NAME[@REVISION] that holds vg/, SPEC/, Dall-E_generated/, or one of a "
        "domain: real=images.zip real=images2.zip …"
    )
    splits = '{"part2*.json": "train", …}: splits of files'
    note = "a sentence that the card and every listing of the release carry"
    evaluation = "add what 'inspect eval hf/NS/NAME' needs: eval.yaml and hub_eval/"
    share = "pack the Ith of N shares alone, for a scheduler; then run finish"
    add(
        "--annotations", type=parse_path, nargs="+", required=True, metavar="FILE_OR_DIR",
        help=files,
    )  # fmt: skip
    add("--images", nargs="+", required=True, metavar="[DOMAIN=]SOURCE", help=places)
    add("--out", type=parse_path, required=True, metavar="DIR", help="folder of the release")
    add("--split", choices=mmrel.SPLITS, help="overrides what the files say")
    add("--mapping", type=parse_path, metavar="FILE.json", help=splits)
    add("--note", help=note)
    missing = "leave out questions whose picture is missing"
    add("--allow-missing", action="store_true", help=missing)
    findings = "findings of the audit to leave out"
    add("--drop", nargs="+", default=(), choices=DROPPABLE, help=findings)
    add("--hub-eval", action="store_true", help=evaluation)
    processes = "processes that pack shards (%(default)s)"
    add("--workers", type=parse_positive, default=1, metavar="N", help=processes)
    add("--shard", type=parse_share, metavar="I/N", help=share)


def _add_check(verbs: Verbs) -> None:
    add = verbs.add("check", check, "release").add_argument
    _add_folder(add)
    sample = "check the sample of the source repository, which DIR is a clone of"
    add("--sample", action="store_true", help=sample)


def _add_audit(verbs: Verbs) -> None:
    add = verbs.add("audit", audit, "release --json").add_argument
    _add_folder(add)
    add("--json", action="store_true", help="a list of {kind, count, examples, action}")
    add("--card", action="store_true", help="put what is found into the release's card")
    quick = "look at the questions only, not into the pictures"
    add("--quick", action="store_true", help=quick)


def _add_sheet(verbs: Verbs) -> None:
    add = verbs.add("sheet", sheet, "release --out sheet.png").add_argument
    _add_folder(add)
    add("--out", type=parse_path, required=True, metavar="FILE.png", help="the PNG to write")
    number = "of each domain and split (%(default)s)"
    add("--pictures", type=parse_positive, default=2, metavar="N", help=number)


def _add_push(verbs: Verbs) -> None:
    example = "release --repo-id NS/MMRel --tag v1.0.0"
    add = verbs.add("push", push, example, RESUMES_PUSH).add_argument
    release = "a release, as `mmrel build` writes it"
    repository = "the dataset repository; made if missing"
    pull = "open a pull request instead of committing to main"
    title = "title of the commit (name and version of the release)"
    add("release", type=parse_path, metavar="DIR", help=release)
    add("--repo-id", required=True, metavar="NS/NAME", help=repository)
    add("--private", action="store_true", help="make a new repository private")
    add("--create-pr", action="store_true", help=pull)
    add("--tag", metavar="vX.Y.Z", help="name the published revision")
    add("--message", help=title)
    add("--dry-run", action="store_true", help="show the plan and stop")


def _add_verify(verbs: Verbs) -> None:
    add = verbs.add("verify", verify, "release --repo-id NS/MMRel --deep").add_argument
    deep = "read and hash every file, not only its metadata"
    add("release", type=parse_path, metavar="DIR", help="the release that was published")
    add("--repo-id", required=True, metavar="NS/NAME", help="the dataset repository")
    revision = "branch, tag or commit (%(default)s)"
    add("--revision", default="main", metavar="R", help=revision)
    add("--deep", action="store_true", help=deep)


def _add_folder(add: Any) -> None:
    add("release", type=parse_path, metavar="DIR", help="folder of the release")


def _print_built(built: BuildSummary, out: Path) -> None:
    """Print what a build made, and which yes/no questions have no partner."""
    rows = [("domain", "split", "pictures", "questions")]
    for part in built.facts:
        rows.append((part.domain, part.split, str(part.pictures), str(part.rows)))
    print(format_table(rows, left=2))
    if built.left_out:
        print(f"\n{built.left_out}")
    if built.assumed:
        print("\nin 'test', as neither records nor the file's name say a split", end="")
        print(" (--split or --mapping do):")
        for file, questions in sorted(built.assumed.items()):
            print(f"  {file}: {questions} questions")
    print("\nyes/no questions of one picture and pair of objects (nothing was repaired):")
    for (split, category), partners in sorted(built.partners.items()):
        parts = [f"{partners.complete} of {partners.groups} groups with a yes and a no"]
        singles = partners.no_partner_yes + partners.no_partner_no
        if singles:
            kinds = f"{partners.no_partner_yes} yes, {partners.no_partner_no} no"
            parts.append(f"{singles} questions without a partner ({kinds})")
        if partners.without_yes:
            parts.append(f"{partners.without_yes} groups without a yes")
        if partners.without_no:
            parts.append(f"{partners.without_no} groups without a no")
        print(f"{split:<12} {category:<12} {'; '.join(parts)}")
    print(f"\nwritten to {out}; check it with: mmrel check {out}")


def _say(text: str) -> None:
    """Print a step of a build; standard output is for the summary."""
    print(text, file=sys.stderr, flush=True)

# SPDX-License-Identifier: Apache-2.0
"""The maintainer's command: builds a release of MMRel, checks it, draws its contact sheet, publishes it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # Ctrl-C and a missing package are one line while the rest loads, too
    from mmrel_kit.cli import guard_start

    guard_start("upload.py")

from tqdm import tqdm

import mmrel
from mmrel_kit.audit.findings import DROPPABLE, audit_release
from mmrel_kit.audit.page import make_blocks, make_list, make_report
from mmrel_kit.build.finish import renew_card
from mmrel_kit.build.job import Job, build_release, build_share, finish_release
from mmrel_kit.card.sheet import draw_sheet
from mmrel_kit.check.release import check_release, check_sample
from mmrel_kit.cli import AGAIN, run_command
from mmrel_kit.commands.options import parse_path, parse_positive, parse_share
from mmrel_kit.files import InputError, Share
from mmrel_kit.hub import push as hub
from mmrel_kit.hub import verify as hub_verify
from mmrel_kit.pictures.catalogue import check_sources
from mmrel_kit.pictures.catalogue import make_list as make_source_list
from mmrel_kit.pictures.sources import PictureSources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mmrel_kit.build.finish import Built
    from mmrel_kit.build.pack import Part

# How to go on after Ctrl-C, where the command does not start again from the beginning.
GO_ON = {
    "build": "the same command goes on where this one stopped; shards that are packed stay",
    "finish": "shards that are packed stay; run the same command again",
    "push": "the same command goes on: it looks first, and what has arrived is not sent again",
}


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
        parts = build_share(job, Share(*args.shard), args.workers)
        print(f"{len(parts)} shards packed; when all shares are: python upload.py finish --out {args.out}")
        return 0
    built = build_release(job, args.workers, _show_parts)
    print_built(built)
    print(f"\nwritten to {args.out}; hold it against the contract with: python upload.py check {args.out}")
    return 0


def finish(args: argparse.Namespace) -> int:
    """Join the shards that `build --shard` has packed into the release."""
    print_built(finish_release(args.out))
    print(f"\nwritten to {args.out}; hold it against the contract with: python upload.py check {args.out}")
    return 0


def audit(args: argparse.Namespace) -> int:
    """Say what is wrong in a release's questions and pictures, and how it differs from the paper's tables."""
    found = audit_release(args.release, thorough=not args.quick, progress=_show_bytes)
    print(make_list(found) if args.json else make_report(found))
    if args.card:
        renew_card(args.release, make_blocks(found))
    return 0


def check(args: argparse.Namespace) -> int:
    """Hold a release against the contract; exit status 1 where something is wrong."""
    if not args.release.is_dir():
        raise InputError(f"{args.release}: expected the folder of a release, found no folder; check its path")
    problems = check_sample(args.release) if args.sample else check_release(args.release)
    for problem in problems:
        print(problem)
    wrong = sum(not problem.is_warning for problem in problems)
    print(f"{args.release}: {wrong} problems, {len(problems) - wrong} warnings")
    return 1 if wrong else 0


def sheet(args: argparse.Namespace) -> int:
    """Draw a contact sheet: pictures of every domain and split with their questions and answers."""
    draw_sheet(args.release, args.out, args.pictures)
    print(f"written to {args.out}")
    return 0


def sources(args: argparse.Namespace) -> int:
    """Tell what MMRel is made from, where to fetch it, and whether what stands in a folder is whole."""
    states = check_sources(args.folder, _show_bytes)
    print(make_source_list(states, args.folder))
    return 1 if any(state.state.startswith("expected") for state in states) else 0


def push(args: argparse.Namespace) -> int:
    """Publish a release on the Hugging Face Hub: all of it in one commit, or nothing."""
    return hub.run_push(args)


def verify(args: argparse.Namespace) -> int:
    """Prove what stands on the Hub: every file, and every config and split by loading it."""
    return hub_verify.run_verify(args)


def print_built(built: Built) -> None:
    """Print what a build made, and which yes/no questions stand without a partner."""
    heads = ("domain", "split", "pictures", "questions")
    print("{:<8}{:<13}{:>10}{:>11}".format(*heads))
    for part in built.facts:
        print(f"{part.domain:<8}{part.split:<13}{part.pictures:>10}{part.rows:>11}")
    if built.left_out:
        print(f"\n{built.left_out}")
    if built.assumed:
        print("\nin 'test', as neither records nor the file's name say a split (--split or --mapping do):")
        for file, questions in sorted(built.assumed.items()):
            print(f"  {file}: {questions} questions")
    print("\nyes/no questions of one picture and pair of objects (nothing was repaired):")
    for (split, category), partners in sorted(built.partners.items()):
        told = [f"{partners.complete} of {partners.groups} groups with a yes and a no"]
        singles = partners.no_partner_yes + partners.no_partner_no
        if singles:
            told.append(
                f"{singles} questions without a partner ({partners.no_partner_yes} yes, {partners.no_partner_no} no)"
            )
        told += [f"{partners.without_yes} groups without a yes"] if partners.without_yes else []
        told += [f"{partners.without_no} groups without a no"] if partners.without_no else []
        print(f"{split:<12} {category:<12} {'; '.join(told)}")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="upload.py", description=__doc__)
    parser.add_argument("--version", action="version", version=mmrel.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _add(commands, build, "python upload.py build --annotations json/ --images pictures/ --out release")
    command.add_argument(
        "--annotations", type=parse_path, nargs="+", required=True, metavar="FILE_OR_DIR",
        help="POPE/VCD-shaped .json or .jsonl files, LLaVA conversations, records of the contract, or folders of them",
    )  # fmt: skip
    command.add_argument(
        "--images", nargs="+", required=True, metavar="[DOMAIN=]SOURCE",
        help="where pictures are: a folder, .zip, .tar, .parquet (the DALL-E re-release) or hf://datasets/OWNER/NAME"
        "[@REVISION] that holds vg/, SPEC/, Dall-E_generated/, or one of a domain: real=images.zip real=images2.zip …",
    )  # fmt: skip
    command.add_argument("--out", type=parse_path, required=True, metavar="DIR", help="folder of the release")
    command.add_argument("--split", choices=mmrel.SPLITS, help="overrides what the files say")
    command.add_argument(
        "--mapping", type=parse_path, metavar="FILE.json", help='{"part2*.json": "train", …}: splits of files'
    )
    command.add_argument("--note", help="a sentence that the card and every listing of the release carry")
    command.add_argument("--allow-missing", action="store_true", help="leave out questions whose picture is missing")
    command.add_argument("--drop", nargs="+", default=(), choices=DROPPABLE, help="findings of the audit to leave out")
    command.add_argument(
        "--hub-eval", action="store_true", help="add what 'inspect eval hf/NS/NAME' needs: eval.yaml and hub_eval/"
    )
    command.add_argument("--workers", type=parse_positive, default=1, metavar="N", help="processes that pack shards")
    command.add_argument(
        "--shard", type=parse_share, metavar="I/N",
        help="pack the Ith of N shares alone, for a scheduler; then run finish",
    )  # fmt: skip

    command = _add(commands, finish, "python upload.py finish --out release")
    command.add_argument(
        "--out", type=parse_path, required=True, metavar="DIR", help="the same as that of build --shard"
    )

    command = _add(commands, audit, "python upload.py audit release --json")
    command.add_argument("release", type=parse_path, metavar="DIR", help="folder of the release")
    command.add_argument("--json", action="store_true", help="a list of {kind, count, examples, action}")
    command.add_argument("--card", action="store_true", help="put what is found into the release's card")
    command.add_argument("--quick", action="store_true", help="look at the questions only, not into the pictures")

    command = _add(commands, sources, "python upload.py sources downloads")
    command.add_argument(
        "folder", type=parse_path, nargs="?", default=Path(), metavar="DIR", help="default: this folder"
    )

    command = _add(commands, check, "python upload.py check release")
    command.add_argument("release", type=parse_path, metavar="DIR", help="folder of the release")
    command.add_argument(
        "--sample", action="store_true", help="check the sample of the source repository, which DIR is a clone of"
    )

    command = _add(commands, sheet, "python upload.py sheet release --out sheet.png")
    command.add_argument("release", type=parse_path, metavar="DIR", help="folder of the release")
    command.add_argument("--out", type=parse_path, required=True, metavar="FILE.png", help="the PNG to write")
    command.add_argument(
        "--pictures", type=parse_positive, default=2, metavar="N", help="of each domain and split; default 2"
    )

    hub.add_push_arguments(_add(commands, push, "python upload.py push release --repo-id NS/MMRel --tag v1.0.0"))
    hub_verify.add_verify_arguments(_add(commands, verify, "python upload.py verify release --repo-id NS/MMRel --deep"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors that a user can mend are one line each, without a traceback."""
    return run_command(make_parser(), argv, (InputError, mmrel.ReleaseError))


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], run: object, example: str
) -> argparse.ArgumentParser:
    name, doc = run.__name__, run.__doc__  # type: ignore[attr-defined]
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=doc, description=doc, epilog=f"example: {example}"
    )
    command.set_defaults(run=run, prog=command.prog, go_on=GO_ON.get(name, AGAIN))
    return command


def _say(text: str) -> None:
    """Print a step of a build, on a terminal and elsewhere; standard output is for the summary."""
    print(text, file=sys.stderr, flush=True)


def _show_parts(parts: Iterable[Part], total: int) -> Iterator[Part]:
    """Bytes of pictures packed, with rate and time left."""
    with _progress_bar(total) as bar:
        for part in parts:
            yield part
            bar.update(part.size)


def _show_bytes(done: Iterator[int], total: int) -> Iterator[int]:
    with _progress_bar(total) as bar:
        for size in done:
            yield size
            bar.update(size)


def _progress_bar(total: int) -> tqdm[Any]:
    return tqdm(total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty())


if __name__ == "__main__":
    sys.exit(main())

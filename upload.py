# SPDX-License-Identifier: Apache-2.0
"""The maintainer's command: builds a release of MMRel, checks it, draws its contact sheet, publishes it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mmrel
from release import hub, hub_verify
from release.build import build_release
from release.check import check_release
from release.records import InputError
from release.sheet import draw_sheet
from release.sources import PictureFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from release.build import Built
    from release.plan import Shard


def build(args: argparse.Namespace) -> int:
    """Build a release from annotation files and pictures."""
    built = build_release(
        args.annotations, PictureFolder(args.images), args.out, args.split, args.note, progress=_show_progress
    )
    print_built(built)
    print(f"\nwritten to {args.out}; hold it against the contract with: python upload.py check {args.out}")
    return 0


def check(args: argparse.Namespace) -> int:
    """Hold a release against the contract; exit status 1 where something is wrong."""
    problems = check_release(args.release)
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
        "--annotations", type=Path, nargs="+", required=True, metavar="FILE_OR_DIR",
        help="POPE/VCD-shaped .json or .jsonl files, LLaVA conversations, records of the contract, or folders of them",
    )  # fmt: skip
    command.add_argument("--images", type=Path, required=True, metavar="ROOT", help="folder that holds vg/, SPEC/ …")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the release")
    command.add_argument("--split", choices=mmrel.SPLITS, help="overrides what the files say")
    command.add_argument("--note", help="a sentence that the card and every listing of the release carry")

    command = _add(commands, check, "python upload.py check release")
    command.add_argument("release", type=Path, metavar="DIR", help="folder of the release")

    command = _add(commands, sheet, "python upload.py sheet release --out sheet.png")
    command.add_argument("release", type=Path, metavar="DIR", help="folder of the release")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="the PNG to write")
    command.add_argument("--pictures", type=int, default=2, metavar="N", help="of each domain and split; default 2")

    hub.add_push_arguments(_add(commands, push, "python upload.py push release --repo-id NS/MMRel --tag v1.0.0"))
    hub_verify.add_verify_arguments(_add(commands, verify, "python upload.py verify release --repo-id NS/MMRel --deep"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors that a user can mend are one line each, without a traceback."""
    args = make_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (InputError, mmrel.ReleaseError) as error:
        print(f"upload.py: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"upload.py: {where}{error.strerror or error}", file=sys.stderr)
    return 1


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], run: object, example: str
) -> argparse.ArgumentParser:
    name, doc = run.__name__, run.__doc__  # type: ignore[attr-defined]
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=doc, description=doc, epilog=f"example: {example}"
    )
    command.set_defaults(run=run)
    return command


def _show_progress(shards: Iterable[Shard], total: int) -> Iterable[Shard]:
    from tqdm import tqdm

    return tqdm(shards, total=total, unit="shard", disable=not sys.stderr.isatty())


if __name__ == "__main__":
    sys.exit(main())

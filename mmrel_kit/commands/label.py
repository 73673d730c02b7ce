# SPDX-License-Identifier: Apache-2.0
"""Collects relations semi-automatically: a model proposes, people verify, records come out."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # Ctrl-C and a missing package are one line while the rest loads, too
    from mmrel_kit.cli import guard_start

    guard_start("semidc")

import mmrel
from mmrel_kit import endpoint
from mmrel_kit.cli import run_command
from mmrel_kit.commands.options import AGAIN, parse_path
from mmrel_kit.files import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmrel_kit.endpoint import Endpoint
    from mmrel_kit.semidc.people.store import Project

# How to go on after Ctrl-C, where the command does not start again from the beginning.
GO_ON = {
    "propose": "every reply is kept; the same command goes on where this one stopped",
    "generate": "every reply is kept; the same command goes on where this one stopped",
    "verify": "every decision is kept; the same command goes on",
    "demo": "start it again, with --out in another folder",
}


def select(args: argparse.Namespace) -> int:
    """Select pictures that a model can be asked about."""
    from mmrel_kit.semidc.items import write_lines
    from mmrel_kit.semidc.model.select import candidate_to_json, read_folder, read_visual_genome, select

    found = read_visual_genome(args.visual_genome) if args.visual_genome else read_folder(args.images)
    drops: Counter[str] = Counter()
    kept = write_lines(args.out, map(candidate_to_json, select(found, args.images, drops)))
    _tell(kept, "pictures", args.out, drops)
    return 0


def propose(args: argparse.Namespace) -> int:
    """Ask a model for the relations in each picture."""
    from mmrel_kit.semidc.items import parse_shard, write_proposals
    from mmrel_kit.semidc.model.propose import PARAMETERS, propose
    from mmrel_kit.semidc.model.select import read_candidates

    drops: Counter[str] = Counter()
    shard, candidates = parse_shard(args.shard), list(read_candidates(args.candidates))
    total = args.times * sum(shard.holds(candidate.image_id) for candidate in candidates)
    asking = endpoint.from_arguments(args, defaults=PARAMETERS)
    _tell_store(asking)
    proposals = propose(
        candidates, args.category, asking, args.images, drops, args.times, shard, args.prompt,
        lambda: asking.show_progress(total),
    )  # fmt: skip
    return _finish(asking, write_proposals(args.out, proposals), args.out, drops)


def generate(args: argparse.Namespace) -> int:
    """Have an image model draw triplets in four styles."""
    from mmrel_kit.semidc.items import write_proposals
    from mmrel_kit.semidc.model.generate import PARAMETERS, generate, read_wishes

    drops: Counter[str] = Counter()
    wishes = list(read_wishes(args.triplets, args.style))
    asking = endpoint.from_arguments(args, "images", PARAMETERS)
    _tell_store(asking)
    proposals = generate(wishes, asking, args.images, drops, lambda: asking.show_progress(len(wishes)))
    return _finish(asking, write_proposals(args.out, proposals), args.out, drops)


def ask(args: argparse.Namespace) -> int:
    """Say what questions the verified triplets give; add false verbs, for people to confirm."""
    from mmrel_kit.semidc.people.ask import make_negatives, make_questions
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project)
    negatives = make_negatives(project)
    hashes = project.pictures()
    added = project.add((proposal, hashes[proposal.image_id]) for proposal in negatives)
    questions = make_questions(project)
    kinds = Counter(f"{r.category} {r.answer if r.task == 'discriminative' else 'open'}" for r in questions.records)
    print(f"{len(questions.records)} questions are ready")
    for kind, count in sorted(kinds.items()):
        print(f"  {count} x {kind}")
    _tell_drops(questions.drops)
    print(f"{len(questions.waiting)} action triplets wait for a false verb that people have confirmed")
    print(f"{added} false verbs added to the project, to be verified like all else")
    _warn_of_damage(project)
    return 0


def audit(args: argparse.Namespace) -> int:
    """Find names that version 1.0.0 damaged, and relations of another category; mend names."""
    from mmrel_kit.semidc.people.audit import (
        count_misfits,
        count_names,
        describe_damage,
        find_damage,
        parse_renames,
        read_raw_names,
        rename,
    )
    from mmrel_kit.semidc.people.store import Project

    raw = read_raw_names(args.raw)
    project = Project(args.project)
    uses = count_names(project)
    found = find_damage(uses, raw)
    names = {
        damage.name: damage.originals[0]
        for damage in found
        if args.mend and damage.is_certain and len(damage.originals) == 1
    }
    names |= parse_renames(args.rename, uses)
    print(f"{len(found)} of {len(uses)} names look damaged")
    for line in describe_damage(found):
        print(f"  {line}")
    misfits = count_misfits(project)
    print(f"{misfits.total()} relations of another category, of which no question is made")
    for reason, count in misfits.most_common():
        print(f"  {count} x {reason}")
    if names:
        changed, refused = rename(project, names)
        print(f"{len(names)} names mended in {changed} items and corrections; export again")
        for line in refused:
            print(f"  left as it is: {line}; choose another name with --rename")
    elif found:
        print(
            "to mend: --mend renames what a model or file states (name them with --raw), "
            "--rename 'OLD=NEW' any other; what people decided stays"
        )
    return 0


def verify(args: argparse.Namespace) -> int:
    """Serve the page on which people verify."""
    from mmrel_kit.semidc.items import read_proposals
    from mmrel_kit.semidc.people.server import serve
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project, make=True)
    known = project.get("images")
    images = args.images or (Path(known) if known else None)
    if images is None or not images.is_dir():
        raise InputError(f"expected --images, the folder that holds vg/, SPEC/ …, got {str(images or '')!r}")
    project.set("images", str(images.resolve()))
    if args.people:
        project.set_people(args.people)
    if args.items:
        print(f"{project.add(read_proposals(args.items, images))} new items")
    _warn_of_damage(project)
    progress = project.progress("")
    print(f"{progress.items} items, {progress.settled} settled; {project.people} people decide on each")
    secret = os.environ.get("SEMIDC_SECRET")
    serve(project, images, args.host, args.port, secret, args.name, lambda url: print(f"verify at {url}", flush=True))
    return 0


def agree(args: argparse.Namespace) -> int:
    """Say how far people agree, how long they take, and how often the model was right."""
    from mmrel_kit.semidc.people.agree import make_report
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project)
    print(make_report(project))
    _warn_of_damage(project)
    return 0


def export(args: argparse.Namespace) -> int:
    """Write records for `upload.py build`, and on demand tasks for Label Studio."""
    from mmrel_kit.semidc.people.export import export_label_studio, export_records
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project)
    if args.label_studio:
        count = export_label_studio(project, args.label_studio, args.prefix)
        print(f"{count} tasks written to {args.label_studio}")
    if args.out:
        path = args.out / f"{args.split}.jsonl"
        questions = export_records(project, path)
        _tell(len(questions.records), "records", path, questions.drops)
    _warn_of_damage(project)
    return 0


def demo(args: argparse.Namespace) -> int:
    """Run all steps on the drawn sample, with an endpoint of its own; or serve the page for you to verify."""
    from mmrel_kit.semidc.demo import run_demo

    return run_demo(args.out, args.serve, args.port)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m semidc", description=__doc__)
    parser.add_argument("--version", action="version", version=mmrel.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _add(commands, select, "--visual-genome vg_json/ --images pictures/ --out candidates.jsonl")
    command.add_argument(
        "--images", type=parse_path, required=True, metavar="ROOT", help="folder that holds vg/, SPEC/ …"
    )
    command.add_argument(
        "--visual-genome", type=parse_path, metavar="DIR", help="folder of image_data.json, objects.json …"
    )
    command.add_argument("--out", type=parse_path, required=True, metavar="FILE.jsonl")

    command = _add(
        commands, propose, "candidates.jsonl --category action --images pictures/ --out proposals.jsonl "
        "--base-url http://127.0.0.1:8000/v1 --model NAME --max-requests 1000",
    )  # fmt: skip
    command.add_argument("candidates", type=parse_path, metavar="CANDIDATES.jsonl")
    command.add_argument("--category", required=True, choices=mmrel.CATEGORIES)
    command.add_argument(
        "--images", type=parse_path, required=True, metavar="ROOT", help="folder that holds vg/, SPEC/ …"
    )
    command.add_argument("--out", type=parse_path, required=True, metavar="FILE.jsonl")
    command.add_argument("--times", type=int, default=1, metavar="N", help="ask about each picture so often")
    command.add_argument(
        "--shard", default="1/1", metavar="i/n", help="only this part of the pictures, from 1/n to n/n"
    )
    command.add_argument("--prompt", metavar="NAME", help="a prompt file of semidc/prompts; default: the newest")
    endpoint.add_arguments(command)

    command = _add(
        commands, generate, "triplets.jsonl --images pictures/ --out drawn.jsonl "
        "--base-url https://images.example/v1 --model NAME",
    )  # fmt: skip
    command.add_argument(
        "triplets", type=parse_path, metavar="TRIPLETS.jsonl", help="category, subject, relation, object"
    )
    command.add_argument("--style", action="append", default=[], help="may be repeated; default: all four")
    command.add_argument(
        "--images", type=parse_path, required=True, metavar="ROOT", help="folder that gets the pictures"
    )
    command.add_argument("--out", type=parse_path, required=True, metavar="FILE.jsonl")
    endpoint.add_arguments(command)

    command = _add(commands, verify, "project.sqlite --items proposals.jsonl --images pictures/ --people 2")
    command.add_argument("project", type=parse_path, metavar="DB", help="project file; made where it is missing")
    command.add_argument(
        "--items", type=parse_path, nargs="+", metavar="FILE.jsonl", help="items to add; known ones stay"
    )
    command.add_argument("--images", type=parse_path, metavar="ROOT", help="folder that holds vg/, SPEC/ …; remembered")
    command.add_argument("--people", type=int, choices=range(1, 21), metavar="K", help="who decide on each item (2)")
    command.add_argument("--host", default="127.0.0.1", help="address to listen at; beyond loopback: SEMIDC_SECRET")
    command.add_argument("--port", type=int, default=8008, help="0 takes a free one (%(default)s)")
    command.add_argument("--name", action="append", default=[], help="another host name, with its port if it has one")

    command = _add(commands, ask, "project.sqlite")
    command.add_argument("project", type=parse_path, metavar="DB")

    command = _add(commands, agree, "project.sqlite")
    command.add_argument("project", type=parse_path, metavar="DB")

    command = _add(commands, audit, "project.sqlite --raw replies.sqlite candidates.jsonl --mend")
    command.add_argument("project", type=parse_path, metavar="DB")
    command.add_argument(
        "--raw", type=parse_path, nargs="+", default=[], metavar="FILE",
        help="what models and files said: stores of replies, candidates.jsonl, triplets to draw",
    )  # fmt: skip
    command.add_argument("--mend", action="store_true", help="rename what --raw states otherwise")
    command.add_argument(
        "--rename", action="append", default=[], metavar="OLD=NEW",
        help="rename this too; may be repeated",
    )  # fmt: skip

    command = _add(commands, export, "project.sqlite --out json/ --split test")
    command.add_argument("project", type=parse_path, metavar="DB")
    command.add_argument("--out", type=parse_path, metavar="DIR", help="folder of the records, for upload.py build")
    command.add_argument("--split", choices=mmrel.SPLITS, default="test", help="names the file (%(default)s)")
    command.add_argument("--label-studio", type=parse_path, metavar="DIR", help="folder of tasks.json and config.xml")
    command.add_argument("--prefix", default="/data/local-files/?d=", help="stands before each picture's path there")

    command = _add(commands, demo, "--out demo/ --serve")
    command.add_argument("--out", type=parse_path, metavar="DIR", help="where all is kept; default: a temporary folder")
    command.add_argument("--serve", action="store_true", help="serve the page for you instead of scripted people")
    command.add_argument("--port", type=int, default=8008, help="of the page (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors that a user can mend are one line each, without a traceback."""
    errors = (InputError, mmrel.ReleaseError)
    return run_command(make_parser(), argv, errors)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], run: object, example: str
) -> argparse.ArgumentParser:
    name, doc = run.__name__, run.__doc__  # type: ignore[attr-defined]
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=doc, description=doc, epilog=f"example: python -m semidc {name} {example}"
    )
    command.set_defaults(run=run, prog="semidc", go_on=GO_ON.get(name, AGAIN))
    return command


def _finish(asking: Endpoint, count: int, out: Path, drops: Counter[str]) -> int:
    print(asking.describe())
    _tell(count, "items to verify", out, drops)
    asking.close()
    if asking.stopped:
        print(f"stopped: {asking.stopped}", file=sys.stderr)
    is_in_vain = asking.failures and not asking.answers
    return 1 if asking.stopped or is_in_vain else 0


def _tell_store(asking: Endpoint) -> None:
    """Say what was asked before, before anything is asked."""
    if line := asking.describe_store():
        print(line, flush=True)


def _warn_of_damage(project: Project) -> None:
    """Point to `audit` where names of a project look damaged."""
    from mmrel_kit.semidc.people.audit import count_names, describe_damage, find_damage

    if found := find_damage(count_names(project)):
        example = describe_damage(found)[0]
        print(
            f"semidc: warning: {len(found)} names look damaged, for example {example}; "
            f"python -m semidc audit {project.path} lists them and says how to mend them",
            file=sys.stderr,
        )


def _tell(count: int, what: str, path: Path, drops: Counter[str]) -> None:
    print(f"{count} {what} written to {path}")
    _tell_drops(drops)


def _tell_drops(drops: Counter[str]) -> None:
    if drops:
        print(f"{drops.total()} left out:")
        for reason, count in drops.most_common():
            print(f"  {count} x {reason}")


if __name__ == "__main__":
    sys.exit(main())

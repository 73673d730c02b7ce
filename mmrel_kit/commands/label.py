# SPDX-License-Identifier: Apache-2.0
"""The verb `label`: a model proposes relations, people verify them, records come out."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import mmrel
from mmrel_kit import endpoint
from mmrel_kit.commands.options import Verbs, parse_path, parse_share
from mmrel_kit.files import InputError, Share, write_json_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmrel_kit.endpoint import Endpoint
    from mmrel_kit.semidc.people.store import Project

ABOUT = "Collect relations semi-automatically: a model proposes, people verify, records come out."
# How to go on after Ctrl-C, where the command does not start again from the beginning.
RESUMES_ASKING = "every reply is kept; the same command goes on where this one stopped"
RESUMES_VERIFY = "every decision is kept; the same command goes on"
RESUMES_DEMO = "start it again, with --out in another folder"
HOLDS_IMAGES = "folder that holds vg/, SPEC/ …"
PORT = 8008


def select(args: argparse.Namespace) -> int:
    """Select pictures that a model can be asked about."""
    from mmrel_kit.semidc.model import select as selecting

    candidates = selecting.read_folder(args.images)
    if args.visual_genome:
        candidates = selecting.read_visual_genome(args.visual_genome)
    drops: Counter[str] = Counter()
    chosen = selecting.select(candidates, args.images, drops)
    kept = write_json_lines(args.out, map(selecting.candidate_to_json, chosen))
    _tell(kept, "pictures", args.out, drops)
    return 0


def propose(args: argparse.Namespace) -> int:
    """Ask a model for the relations in each picture."""
    from mmrel_kit.semidc.items import write_proposals
    from mmrel_kit.semidc.model.propose import PARAMETERS, propose
    from mmrel_kit.semidc.model.select import read_candidates

    drops: Counter[str] = Counter()
    candidates = list(read_candidates(args.candidates))
    total = args.times * sum(args.shard.holds(candidate.image_id) for candidate in candidates)
    asking = endpoint.make_endpoint(args, defaults=PARAMETERS)
    _tell_store(asking)
    proposals = propose(
        candidates, args.category, asking, args.images, drops, args.times, args.shard, args.prompt,
        lambda: asking.show_progress(total),
    )  # fmt: skip
    return _finish(asking, write_proposals(args.out, proposals), args.out, drops)


def generate(args: argparse.Namespace) -> int:
    """Have an image model draw triplets in four styles."""
    from mmrel_kit.semidc.items import write_proposals
    from mmrel_kit.semidc.model.generate import PARAMETERS, generate, read_drawings

    drops: Counter[str] = Counter()
    drawings = list(read_drawings(args.triplets, args.style))
    asking = endpoint.make_endpoint(args, "images", PARAMETERS)
    _tell_store(asking)
    proposals = generate(
        drawings, asking, args.images, drops, lambda: asking.show_progress(len(drawings))
    )
    return _finish(asking, write_proposals(args.out, proposals), args.out, drops)


def ask(args: argparse.Namespace) -> int:
    """Say what questions the verified triplets give; add false verbs, for people to confirm."""
    from mmrel_kit.semidc.people.ask import make_questions, propose_negatives
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project)
    negatives = propose_negatives(project)
    hashes = project.pictures()
    added = project.add((proposal, hashes[proposal.image_id]) for proposal in negatives)
    questions = make_questions(project)
    kinds = Counter(
        f"{r.category} {r.answer if r.task == 'discriminative' else 'open'}"
        for r in questions.records
    )
    print(f"{len(questions.records)} questions are ready")
    for kind, count in sorted(kinds.items()):
        print(f"  {count} x {kind}")
    _tell_drops(questions.drops)
    print(
        f"{len(questions.awaiting_negative)} action triplets wait for a false verb that people have confirmed"
    )
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

    images = _find_images(args)
    project = Project(args.project, make=True)
    project.set_setting("images", str(images.resolve()))
    if args.people:
        project.set_people(args.people)
    if args.items:
        print(f"{project.add(read_proposals(args.items, images))} new items")
    _warn_of_damage(project)
    progress = project.progress("")
    print(
        f"{progress.items} items, {progress.settled} settled; {project.people} people decide on each"
    )
    secret = os.environ.get("SEMIDC_SECRET")
    serve(
        project,
        images,
        args.host,
        args.port,
        secret,
        args.name,
        lambda url: print(f"verify at {url}", flush=True),
    )
    return 0


def _find_images(args: argparse.Namespace) -> Path:
    """Return the folder of pictures that is given, or that the project remembers.

    Raises:
        InputError: there is none; then no project is made.
    """
    from mmrel_kit.semidc.people.store import Project

    known = args.images
    if known is None and args.project.exists():
        project = Project(args.project)
        known = project.get_setting("images")
        project.close()
    if known is None or not Path(known).is_dir():
        wanted = "expected --images, the folder that holds vg/, SPEC/ …"
        raise InputError(f"{wanted}, got {str(known or '')!r}")
    return Path(known)


def agree(args: argparse.Namespace) -> int:
    """Say how far people agree, how long they take, and how often the model was right."""
    from mmrel_kit.semidc.people.agree import make_report
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project)
    print(make_report(project))
    _warn_of_damage(project)
    return 0


def export(args: argparse.Namespace) -> int:
    """Write records for `mmrel build`, and on demand tasks for Label Studio."""
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

    return run_demo(args.out, args.serve, args.port, run_verb)


def run_verb(words: Sequence[str]) -> int:
    """Run another verb in this process, as the demonstration does, and return its exit status."""
    from mmrel_kit.commands import load, release, score

    parser = argparse.ArgumentParser("mmrel")
    verbs = Verbs(parser)
    for module in (load, release, score):
        module.add_verbs(verbs)
    args = parser.parse_args(words)
    return int(args.run(args))


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `label`, whose own verbs are the steps of labelling."""
    steps = verbs.add_group("label", ABOUT)
    _add_select(steps)
    _add_propose(steps)
    _add_generate(steps)
    _add_verify(steps)
    _add_project(steps.add("ask", ask, "project.sqlite"))
    _add_project(steps.add("agree", agree, "project.sqlite"))
    _add_audit(steps)
    _add_export(steps)
    _add_demo(steps)


def _add_select(steps: Verbs) -> None:
    example = "--visual-genome vg_json/ --images pictures/ --out candidates.jsonl"
    parser = steps.add("select", select, example)
    _add_images(parser)
    genome = "folder of image_data.json, objects.json …"
    parser.add_argument("--visual-genome", type=parse_path, metavar="DIR", help=genome)
    _add_out(parser)


def _add_propose(steps: Verbs) -> None:
    example = (
        "candidates.jsonl --category action --images pictures/ --out proposals.jsonl "
        "--base-url http://127.0.0.1:8000/v1 --model NAME --max-requests 1000"
    )
    parser = steps.add("propose", propose, example, RESUMES_ASKING)
    add = parser.add_argument
    add("candidates", type=parse_path, metavar="CANDIDATES.jsonl", help="what select wrote")
    add("--category", required=True, choices=mmrel.CATEGORIES, help="kind of relation")
    _add_images(parser)
    _add_out(parser)
    add("--times", type=int, default=1, metavar="N", help="ask about each picture so often")
    share = "only the Ith of N shares of the pictures"
    add("--shard", type=parse_share, default=Share(), metavar="I/N", help=share)
    prompt = "a prompt file of mmrel_kit/semidc/model/prompts (the newest)"
    add("--prompt", metavar="NAME", help=prompt)
    endpoint.add_arguments(parser)


def _add_generate(steps: Verbs) -> None:
    example = "triplets.jsonl --images pictures/ --out drawn.jsonl --base-url https://images.example/v1 --model NAME"
    parser = steps.add("generate", generate, example, RESUMES_ASKING)
    add = parser.add_argument
    drawings = "category, subject, relation, object"
    add("triplets", type=parse_path, metavar="TRIPLETS.jsonl", help=drawings)
    add("--style", action="append", default=[], help="may be repeated (all four)")
    _add_images(parser, "folder that gets the pictures")
    _add_out(parser)
    endpoint.add_arguments(parser)


def _add_verify(steps: Verbs) -> None:
    example = "project.sqlite --items proposals.jsonl --images pictures/ --people 2"
    parser = steps.add("verify", verify, example, RESUMES_VERIFY)
    add = parser.add_argument
    _add_project(parser, "project file; made where it is missing")
    items = "items to add; known ones stay"
    add("--items", type=parse_path, nargs="+", metavar="FILE.jsonl", help=items)
    images = f"{HOLDS_IMAGES}; remembered"
    add("--images", type=parse_path, metavar="ROOT", help=images)
    people = "who decide on each item (2)"
    add("--people", type=int, choices=range(1, 21), metavar="K", help=people)
    host = "address to listen at; beyond loopback: SEMIDC_SECRET"
    add("--host", default="127.0.0.1", help=host)
    add("--port", type=int, default=PORT, help="0 takes a free one (%(default)s)")
    name = "another host name, with its port if it has one"
    add("--name", action="append", default=[], help=name)


def _add_audit(steps: Verbs) -> None:
    example = "project.sqlite --raw replies.sqlite candidates.jsonl --mend"
    parser = steps.add("audit", audit, example)
    _add_project(parser)
    add = parser.add_argument
    raw = "what models and files said: stores of replies, candidates.jsonl, triplets to draw"
    add("--raw", type=parse_path, nargs="+", default=[], metavar="FILE", help=raw)
    add("--mend", action="store_true", help="rename what --raw states otherwise")
    rename = "rename this too; may be repeated"
    add("--rename", action="append", default=[], metavar="OLD=NEW", help=rename)


def _add_export(steps: Verbs) -> None:
    parser = steps.add("export", export, "project.sqlite --out json/ --split test")
    _add_project(parser)
    add = parser.add_argument
    out = "folder of the records, for mmrel build"
    add("--out", type=parse_path, metavar="DIR", help=out)
    add("--split", choices=mmrel.SPLITS, default="test", help="names the file (%(default)s)")
    tasks = "folder of tasks.json and config.xml"
    add("--label-studio", type=parse_path, metavar="DIR", help=tasks)
    prefix = "stands before each picture's path there"
    add("--prefix", default="/data/local-files/?d=", help=prefix)


def _add_demo(steps: Verbs) -> None:
    add = steps.add("demo", demo, "--out demo/ --serve", RESUMES_DEMO).add_argument
    out = "where all is kept (a temporary folder)"
    add("--out", type=parse_path, metavar="DIR", help=out)
    serve = "serve the page for you instead of scripted people"
    add("--serve", action="store_true", help=serve)
    add("--port", type=int, default=PORT, help="of the page (%(default)s)")


def _add_project(parser: argparse.ArgumentParser, about: str | None = None) -> None:
    parser.add_argument("project", type=parse_path, metavar="DB", help=about or "project file")


def _add_images(parser: argparse.ArgumentParser, about: str = HOLDS_IMAGES) -> None:
    parser.add_argument("--images", type=parse_path, required=True, metavar="ROOT", help=about)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=parse_path, required=True, metavar="FILE.jsonl", help="the file to write"
    )


def _finish(asking: Endpoint, count: int, out: Path, drops: Counter[str]) -> int:
    print(asking.format_report())
    _tell(count, "items to verify", out, drops)
    asking.close()
    if asking.stop_reason:
        print(f"stopped: {asking.stop_reason}", file=sys.stderr)
    is_in_vain = asking.failures and not asking.answers
    return 1 if asking.stop_reason or is_in_vain else 0


def _tell_store(asking: Endpoint) -> None:
    """Say what was asked before, before anything is asked."""
    if line := asking.format_stored_replies():
        print(line, flush=True)


def _warn_of_damage(project: Project) -> None:
    """Point to `audit` where names of a project look damaged."""
    from mmrel_kit.semidc.people.audit import count_names, describe_damage, find_damage

    if found := find_damage(count_names(project)):
        example = describe_damage(found)[0]
        print(
            f"mmrel label: warning: {len(found)} names look damaged, for example {example}; "
            f"mmrel label audit {project.path} lists them and says how to mend them",
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

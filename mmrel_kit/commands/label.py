# SPDX-License-Identifier: Apache-2.0
"""The verb `label`: a model proposes relations, people verify them, records are exported."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mmrel
from mmrel_kit import endpoint as endpoints
from mmrel_kit.commands.options import Verbs, parse_path, parse_share
from mmrel_kit.files import InputError, Share, write_json_lines

if TYPE_CHECKING:
    from mmrel_kit.endpoint import Endpoint
    from mmrel_kit.semidc.people.store import Project

ABOUT = "Collect relations semi-automatically: a model proposes them, people verify them."
# What happens after Ctrl-C if the same command is run again.
RESUMES_REQUESTS = "every reply is kept; the same command resumes where this one stopped"
RESUMES_VERIFY = "every decision is kept; the same command resumes"
RESUMES_DEMO = "start it again, with --out in another folder"
HOLDS_IMAGES = "folder that holds vg/, SPEC/ …"
PORT = 8008


def select(args: argparse.Namespace) -> int:
    """Select pictures that a model can be asked about."""
    from mmrel_kit.semidc.model import select as selecting

    if args.visual_genome:
        candidates = selecting.read_visual_genome(args.visual_genome)
    else:
        candidates = selecting.read_folder(args.images)
    drops: Counter[str] = Counter()
    selected = selecting.select(candidates, args.images, drops)
    count = write_json_lines(args.out, map(selecting.candidate_to_json, selected))
    _print_output(count, "pictures", args.out, drops)
    return 0


def propose(args: argparse.Namespace) -> int:
    """Ask a model for the relations in each picture."""
    from mmrel_kit.semidc.items import write_proposals
    from mmrel_kit.semidc.model.propose import PARAMETERS, propose
    from mmrel_kit.semidc.model.select import read_candidates

    drops: Counter[str] = Counter()
    candidates = list(read_candidates(args.candidates))
    total = args.times * sum(args.shard.holds(candidate.image_id) for candidate in candidates)
    endpoint = endpoints.make_endpoint(args, defaults=PARAMETERS)
    _print_stored_replies(endpoint)
    proposals = propose(
        candidates,
        args.category,
        endpoint,
        args.images,
        drops,
        args.times,
        args.shard,
        args.prompt,
        progress=lambda: endpoint.show_progress(total),
    )
    return _finish(endpoint, write_proposals(args.out, proposals), args.out, drops)


def generate(args: argparse.Namespace) -> int:
    """Generate pictures of triplets with an image model, in four styles."""
    from mmrel_kit.semidc.items import write_proposals
    from mmrel_kit.semidc.model.generate import PARAMETERS, generate, read_drawings

    drops: Counter[str] = Counter()
    drawings = list(read_drawings(args.triplets, args.style))
    endpoint = endpoints.make_endpoint(args, "images", PARAMETERS)
    _print_stored_replies(endpoint)
    proposals = generate(
        drawings, endpoint, args.images, drops, lambda: endpoint.show_progress(len(drawings))
    )
    return _finish(endpoint, write_proposals(args.out, proposals), args.out, drops)


def ask(args: argparse.Namespace) -> int:
    """Count the questions that verified triplets give; add false verbs for people to confirm."""
    from mmrel_kit.semidc.people.ask import make_questions, propose_negatives
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project)
    negatives = propose_negatives(project)
    hashes = project.pictures()
    added = project.add((proposal, hashes[proposal.image_id]) for proposal in negatives)
    questions = make_questions(project)
    kinds: Counter[str] = Counter()
    for record in questions.records:
        answer = record.answer if record.task == "discriminative" else "open"
        kinds[f"{record.category} {answer}"] += 1
    print(f"{len(questions.records)} questions are ready")
    for kind, count in sorted(kinds.items()):
        print(f"  {count} x {kind}")
    _print_drops(questions.drops)
    print(f"{len(questions.awaiting_negative)} action triplets lack a confirmed false verb")
    print(f"{added} false verbs added to the project for people to confirm")
    _warn_of_damage(project)
    return 0


def audit(args: argparse.Namespace) -> int:
    """List names that version 1.0.0 damaged, and relations of another category; mend names."""
    from mmrel_kit.semidc.people import audit as auditing
    from mmrel_kit.semidc.people.store import Project

    raw = auditing.read_raw_names(args.raw)
    project = Project(args.project)
    uses = auditing.count_names(project)
    renames = auditing.parse_renames(args.rename, uses)
    damages = auditing.find_damage(uses, raw)
    print(f"{len(damages)} of {len(uses)} names look damaged")
    names = {}
    for damage in damages:
        print(f"  {auditing.format_damage(damage)}")
        if args.mend and damage.is_certain and len(damage.originals) == 1:
            names[damage.name] = damage.originals[0]
    names |= renames
    misfits = auditing.count_misfits(project)
    print(f"{misfits.total()} relations of another category, of which no question is made")
    for reason, count in misfits.most_common():
        print(f"  {count} x {reason}")
    if names:
        changed, refused = auditing.rename(project, names)
        print(f"{len(names)} names mended in {changed} items and corrections; export again")
        for line in refused:
            print(f"  unchanged: {line}; choose another name with --rename")
    elif damages:
        print(
            "to mend: --mend renames what a model or file states (name them with --raw), "
            "--rename 'OLD=NEW' renames others; people's decisions stay"
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
    counts = f"{progress.items} items, {progress.settled} settled"
    print(f"{counts}; {project.people} people decide on each")
    secret = os.environ.get("SEMIDC_SECRET")
    serve(project, images, args.host, args.port, secret, args.name, print_address)
    return 0


def print_address(url: str) -> None:
    """Print where people verify."""
    print(f"verify at {url}", flush=True)


def _find_images(args: argparse.Namespace) -> Path:
    """Return the folder of pictures from --images, or else from the project.

    Raises:
        InputError: there is no such folder.
    """
    from mmrel_kit.semidc.people.store import Project

    folder = args.images
    if folder is None and args.project.exists():
        project = Project(args.project)
        folder = project.get_setting("images")
        project.close()
    if folder is None or not Path(folder).is_dir():
        raise InputError(
            f"expected --images, the folder that holds vg/, SPEC/ …, got {str(folder or '')!r}"
        )
    return Path(folder)


def agree(args: argparse.Namespace) -> int:
    """Report how far people agree, how long they take, and how often the model was right."""
    from mmrel_kit.semidc.people.agree import make_report
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project)
    print(make_report(project))
    _warn_of_damage(project)
    return 0


def export(args: argparse.Namespace) -> int:
    """Write records for `mmrel build`, tasks for Label Studio, or both."""
    from mmrel_kit.semidc.people.export import export_label_studio, export_records
    from mmrel_kit.semidc.people.store import Project

    project = Project(args.project)
    if args.label_studio:
        count = export_label_studio(project, args.label_studio, args.prefix)
        print(f"{count} tasks written to {args.label_studio}")
    if args.out:
        path = args.out / f"{args.split}.jsonl"
        questions = export_records(project, path)
        _print_output(len(questions.records), "records", path, questions.drops)
    _warn_of_damage(project)
    return 0


def demo(args: argparse.Namespace) -> int:
    """Run all steps on the sample, with a local stand-in for the model and scripted people."""
    from mmrel_kit.semidc.demo import run_demo

    return run_demo(args.out, args.serve, args.port, run_verb)


def run_verb(words: Sequence[str]) -> int:
    """Run another verb in this process, for the demonstration, and return its exit status."""
    from mmrel_kit.commands import load, release, score

    parser = argparse.ArgumentParser("mmrel")
    verbs = Verbs(parser)
    for module in (load, release, score):
        module.add_verbs(verbs)
    args = parser.parse_args(words)
    return int(args.run(args))


def add_verbs(verbs: Verbs) -> None:
    """Add the verb `label`, which has a verb for each step of labelling."""
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
    files = "folder with image_data.json, objects.json …"
    parser.add_argument("--visual-genome", type=parse_path, metavar="DIR", help=files)
    _add_out(parser)


def _add_propose(steps: Verbs) -> None:
    example = (
        "candidates.jsonl --category action --images pictures/ --out proposals.jsonl "
        "--base-url http://127.0.0.1:8000/v1 --model NAME --max-requests 1000"
    )
    parser = steps.add("propose", propose, example, RESUMES_REQUESTS)
    add = parser.add_argument
    add("candidates", type=parse_path, metavar="CANDIDATES.jsonl", help="output of select")
    add("--category", required=True, choices=mmrel.CATEGORIES, help="category of the relations")
    _add_images(parser)
    _add_out(parser)
    add("--times", type=int, default=1, metavar="N", help="requests per picture (%(default)s)")
    share = "only the Ith of N shares of the pictures"
    add("--shard", type=parse_share, default=Share(), metavar="I/N", help=share)
    prompt = "a file in mmrel_kit/semidc/model/prompts (the newest of the category)"
    add("--prompt", metavar="NAME", help=prompt)
    endpoints.add_arguments(parser)


def _add_generate(steps: Verbs) -> None:
    example = (
        "triplets.jsonl --images pictures/ --out drawn.jsonl "
        "--base-url https://images.example/v1 --model NAME"
    )
    parser = steps.add("generate", generate, example, RESUMES_REQUESTS)
    add = parser.add_argument
    fields = "lines with category, subject, relation, object"
    add("triplets", type=parse_path, metavar="TRIPLETS.jsonl", help=fields)
    add("--style", action="append", default=[], help="may be repeated (all four)")
    _add_images(parser, "folder for the pictures")
    _add_out(parser)
    endpoints.add_arguments(parser)


def _add_verify(steps: Verbs) -> None:
    example = "project.sqlite --items proposals.jsonl --images pictures/ --people 2"
    parser = steps.add("verify", verify, example, RESUMES_VERIFY)
    add = parser.add_argument
    _add_project(parser, "project file; created if missing")
    items = "items to add, unless the project has them"
    add("--items", type=parse_path, nargs="+", metavar="FILE.jsonl", help=items)
    images = f"{HOLDS_IMAGES}; stored in the project"
    add("--images", type=parse_path, metavar="ROOT", help=images)
    people = "number of people who decide on each item (2)"
    add("--people", type=int, choices=range(1, 21), metavar="K", help=people)
    host = "address to listen at; beyond loopback, set SEMIDC_SECRET"
    add("--host", default="127.0.0.1", help=host)
    add("--port", type=int, default=PORT, help="0 takes a free one (%(default)s)")
    name = "another host name of this server, with the port if browsers send it"
    add("--name", action="append", default=[], help=name)


def _add_audit(steps: Verbs) -> None:
    example = "project.sqlite --raw replies.sqlite candidates.jsonl --mend"
    parser = steps.add("audit", audit, example)
    _add_project(parser)
    add = parser.add_argument
    raw = "sources of raw names: stores of replies, candidates.jsonl, triplets to draw"
    add("--raw", type=parse_path, nargs="+", default=[], metavar="FILE", help=raw)
    add("--mend", action="store_true", help="restore the names that --raw states")
    rename = "rename this, too; may be repeated"
    add("--rename", action="append", default=[], metavar="OLD=NEW", help=rename)


def _add_export(steps: Verbs) -> None:
    parser = steps.add("export", export, "project.sqlite --out json/ --split test")
    _add_project(parser)
    add = parser.add_argument
    out = "folder for the records, for mmrel build"
    add("--out", type=parse_path, metavar="DIR", help=out)
    add("--split", choices=mmrel.SPLITS, default="test", help="name of the file (%(default)s)")
    tasks = "folder for tasks.json and config.xml"
    add("--label-studio", type=parse_path, metavar="DIR", help=tasks)
    prefix = "start of each picture's address in Label Studio (%(default)s)"
    add("--prefix", default="/data/local-files/?d=", help=prefix)


def _add_demo(steps: Verbs) -> None:
    add = steps.add("demo", demo, "--out demo/ --serve", RESUMES_DEMO).add_argument
    out = "folder for all files (a temporary one)"
    add("--out", type=parse_path, metavar="DIR", help=out)
    serve = "serve the page for you instead of scripted people"
    add("--serve", action="store_true", help=serve)
    add("--port", type=int, default=PORT, help="port of the page (%(default)s)")


def _add_project(parser: argparse.ArgumentParser, about: str = "project file") -> None:
    parser.add_argument("project", type=parse_path, metavar="DB", help=about)


def _add_images(parser: argparse.ArgumentParser, about: str = HOLDS_IMAGES) -> None:
    parser.add_argument("--images", type=parse_path, required=True, metavar="ROOT", help=about)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=parse_path, required=True, metavar="FILE.jsonl", help="the file to write"
    )


def _finish(endpoint: Endpoint, count: int, out: Path, drops: Counter[str]) -> int:
    """Print the report of a run and return the exit status: 1 if it stopped or all failed."""
    print(endpoint.format_report())
    _print_output(count, "items to verify", out, drops)
    endpoint.close()
    if endpoint.stop_reason:
        print(f"stopped: {endpoint.stop_reason}", file=sys.stderr)
        return 1
    return 1 if endpoint.failures and not endpoint.answers else 0


def _print_stored_replies(endpoint: Endpoint) -> None:
    """Print how many replies the store holds, before any request is sent."""
    line = endpoint.format_stored_replies()
    if line:
        print(line, flush=True)


def _warn_of_damage(project: Project) -> None:
    """Point to `mmrel label audit` if names of a project look damaged."""
    from mmrel_kit.semidc.people.audit import count_names, find_damage, format_damage

    damages = find_damage(count_names(project))
    if damages:
        print(
            f"mmrel label: warning: {len(damages)} names look damaged, "
            f"for example {format_damage(damages[0])}; "
            f"mmrel label audit {project.path} lists them and explains how to mend them",
            file=sys.stderr,
        )


def _print_output(count: int, noun: str, path: Path, drops: Counter[str]) -> None:
    print(f"{count} {noun} written to {path}")
    _print_drops(drops)


def _print_drops(drops: Counter[str]) -> None:
    if drops:
        print(f"{drops.total()} left out:")
        for reason, count in drops.most_common():
            print(f"  {count} x {reason}")

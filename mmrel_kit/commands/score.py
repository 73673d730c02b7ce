# SPDX-License-Identifier: Apache-2.0
"""The verbs `score` and `report`."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmrel
from mmrel_kit.commands.options import Verbs, add_questions, add_release, parse_path
from mmrel_kit.files import escape_unprintable
from mmrel_kit.scoring.readers import READERS

if TYPE_CHECKING:
    from mmrel_kit.scoring.report import Scored


def score(args: argparse.Namespace) -> int:
    """Score answers to the questions of a release."""
    from mmrel_kit.scoring.report import write_report
    from mmrel_kit.scoring.text import heading, table

    _check_folder(args.json)
    result = _score(args).result
    if args.json:
        write_report(result, args.json)
    _print([*_warn_of_sample(args), heading(result), "", table(result)])
    return 0


def report(args: argparse.Namespace) -> int:
    """Score answers with intervals, and compare them with other models and blind baselines."""
    from mmrel_kit.scoring.plot import load_figure, plot
    from mmrel_kit.scoring.report import write_report

    # What is missing is said before the work, not after it.
    _check_folder(args.json)
    _check_folder(args.plot)
    if args.plot:
        load_figure()
    scored = _score(args)
    _extend_report(scored, args)
    if args.json:
        write_report(scored.result, args.json)
    if args.plot:
        plot(scored.result, args.plot)
    _print([_format_report(scored.result, args)])
    return 0


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs."""
    _add_arguments(verbs.add("score", score, "answers.jsonl --root mmrel"))
    example = "answers.jsonl --root mmrel --baselines --published"
    parser = verbs.add("report", report, example)
    _add_arguments(parser)
    add = parser.add_argument
    against = "compare with another model's answers to the same questions"
    add("--against", nargs="+", metavar="OTHER", help=against)
    add("--baselines", action="store_true", help="show what answers without a picture reach")
    published = "show the paper's rows beside these answers"
    add("--published", action="store_true", help=published)
    drawn = "draw accuracy and pair accuracy of each cell (needs the extra plot)"
    add("--plot", type=parse_path, metavar="F.png", help=drawn)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both verbs have."""
    parser.description = f"{parser.description} The card docs/metric.md explains every figure."
    add: Any = parser.add_argument
    given = "JSON lines or array of question_id and answer"
    several = "- is standard input; several files are shards of one"
    add("answers", nargs="+", metavar="ANSWERS", help=f"{given}; {several}")
    add_release(parser)
    add_questions(parser, ("all", *mmrel.SPLITS))
    reading = "how a yes/no answer is read (%(default)s)"
    add("--reader", default="words", choices=READERS, help=reading)
    partial = "score what is there, though answers are missing or unknown"
    add("--partial", action="store_true", help=partial)
    written = "write the report, with the figures of every relation, into this file"
    add("--json", type=parse_path, metavar="F", help=written)
    for name in ("model", "prompt", "decoding"):
        stated = f"what you state of the {name}; goes into the report"
        add(f"--{name}", metavar="TEXT", help=stated)


def _score(args: argparse.Namespace) -> Scored:
    from mmrel_kit.scoring.release import open_release
    from mmrel_kit.scoring.report import Selection, score_release

    chosen = Selection(args.config, args.split, args.task, args.reader, args.partial)
    run = {"model": args.model, "prompt": args.prompt, "decoding": args.decoding}
    release = open_release(args.root, args.repo_id, args.revision)
    return score_release(release, args.answers, chosen, run)


def _extend_report(scored: Scored, args: argparse.Namespace) -> None:
    """Add intervals to the report, and what the arguments ask for."""
    from mmrel_kit.scoring import report as reporting
    from mmrel_kit.scoring.compare import compare
    from mmrel_kit.scoring.intervals import all_intervals

    result = scored.result
    result["intervals"] = all_intervals(scored.scores)
    if args.against:
        answers = reporting.read_answers(*args.against)
        others = reporting.score_answers(answers, scored.questions, scored.release, scored.chosen)
        result["against"] = compare(scored.scores, others)
    if args.baselines or args.plot:
        result["baselines"] = reporting.score_blind(scored)
    if args.published:
        result["published"] = reporting.describe_published()


def _check_folder(path: Path | None) -> None:
    """Refuse to write where there is no folder, which is rather a slip than a wish for one."""
    if path is not None and not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _warn_of_sample(args: argparse.Namespace) -> list[str]:
    """Return the first line of the output where the arguments name no release, else nothing."""
    if args.root is not None or args.repo_id is not None:
        return []
    others = "name a release with --root or --repo-id"
    return [f"Scored on the drawn sample, not on the benchmark: {others}."]


def _format_report(result: dict[str, Any], args: argparse.Namespace) -> str:
    """Return a report as text, an empty line between its blocks."""
    from mmrel_kit.scoring import text

    blocks = ["\n".join([*_warn_of_sample(args), text.heading(result)])]
    if result["n"]:
        blocks.append(text.interval_table(result))
    if result["open_ended"]:
        blocks.append(text.table({**result, "n": 0}))
    if args.against:
        blocks.append(text.comparison_text(result["against"]))
    if args.baselines:
        blocks.append(text.baseline_table(result))
    if args.published:
        blocks.append(text.published_table(result))
    return "\n\n".join(blocks)


def _print(lines: list[str]) -> None:
    print(escape_unprintable("\n".join(lines)))

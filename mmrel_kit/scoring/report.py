# SPDX-License-Identifier: Apache-2.0
"""The report on answer files, with intervals and comparisons."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from mmrel_kit.scoring.compare import LEARN_FROM, blind_baselines, compare
from mmrel_kit.scoring.intervals import all_intervals
from mmrel_kit.scoring.plot import load_figure, plot
from mmrel_kit.scoring.text import (
    PUBLISHED,
    PUBLISHED_NOTES,
    baseline_table,
    comparison_text,
    interval_table,
    published_table,
)
from relation_accuracy import (
    choose_release,
    heading,
    is_asked,
    load_release,
    make_parser,
    report,
    run_command,
    sample_line,
    score_files,
    stated,
    table,
    write_json,
)


def make_report(args: argparse.Namespace) -> dict[str, Any]:
    """Scores answer files as the arguments say, and adds to the report what they ask for.

    Returns:
        The report of `relation_accuracy`, with `intervals` (cell, or "all" -> of `intervals`), and where
        asked for `against` (of `compare`), `baselines` (name -> figures) and `published`.
    """
    folder = choose_release(args)
    questions, release = load_release(folder, args.config, args.split)
    scores, asked = score_files(args, folder, args.answers, questions)
    result = report(scores, asked, release, stated(args))
    result["intervals"] = all_intervals(scores)
    if args.against:
        result["against"] = compare(scores, score_files(args, folder, args.against, questions)[0])
    if args.baselines or args.plot:
        other = LEARN_FROM.get(args.split)
        learnt = {name: q for name, q in questions.items() if other and is_asked(q, "both", args.config, other)}
        blind = blind_baselines({name: questions[name] for name in scores.codes}, learnt)
        result["baselines"] = {name: guesses.figures() for name, guesses in blind.items()}
        if not learnt:
            result["notes"].append("no majority by relation: there is no other split here to learn it from")
    if args.published:
        result["published"] = {"rows": PUBLISHED, "notes": list(PUBLISHED_NOTES)}
    return result


def _command(args: argparse.Namespace) -> str:
    if args.plot:
        load_figure()  # what is missing is said before the work, not after it
    result = make_report(args)
    if args.json:
        write_json(result, args.json)
    if args.plot:
        plot(result, args.plot)
    blocks = ["\n".join([*sample_line(args), heading(result)])]
    if result["n"]:
        blocks.append(interval_table(result))
    if result["open_ended"]:
        blocks.append(table({**result, "n": 0}))
    if args.against:
        blocks.append(comparison_text(result["against"]))
    if args.baselines:
        blocks.append(baseline_table(result))
    if args.published:
        blocks.append(published_table(result))
    return "\n\n".join(blocks)


def main(argv: Sequence[str] | None = None) -> int:
    """Reports on answer files scored against a release; returns the exit status."""
    parser = make_parser("relation_report", "Scores answers to the questions of MMRel, with intervals and comparisons.")
    add = parser.add_argument
    add(
        "--against",
        nargs="+",
        metavar="OTHER",
        help="compare with another model's answers to the same questions",
    )
    add("--baselines", action="store_true", help="show what answers without a picture reach")
    add("--published", action="store_true", help="show the paper's rows beside these answers")
    add("--plot", metavar="F.png", help="draw accuracy and pair accuracy of each cell (needs the extra plot)")
    return run_command(_command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())

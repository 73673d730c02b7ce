# SPDX-License-Identifier: Apache-2.0
"""Asks a model behind an OpenAI-compatible endpoint every question of a split, and scores its answers.

    python -m recipes.answer --root RELEASE --split test --base-url http://127.0.0.1:8000/v1 --model NAME --out FILE

Every raw reply is kept in --store. A run that was stopped, by a budget, an endpoint that is down or a kill, goes on
with the same command; failed requests are asked again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import endpoint
import mmrel
import relation_accuracy
from recipes.questions import (
    add_release,
    is_of_task,
    make_report,
    read_pictures,
    read_records,
    run_command,
    write_answers,
)
from release.records import InputError, make_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DECODING: dict[str, Any] = {"temperature": 0, "max_tokens": 128}  # greedy; room for a sentence
PROMPT = "question + ' ' + instruction"


def make_requests(release: mmrel.Release, config: str, split: str, task: str) -> Iterator[endpoint.Request]:
    """A request for each question, by its question_id; the questions of a picture share its encoding."""
    for records, data in read_pictures(release, config, split):
        picture = endpoint.Picture(data)
        for record in records:
            if is_of_task(record, task):
                yield endpoint.Request(record["question_id"], make_prompt(record), picture)


def ask(asking: endpoint.Endpoint, release: mmrel.Release, args: argparse.Namespace, total: int) -> dict[str, Any]:
    """Ask all questions; the rows of the answer file by question_id, as far as replies came."""
    rows: dict[str, Any] = {}
    try:
        for reply in asking.ask(make_requests(release, args.config, args.split, args.task)):
            rows[reply.request.id] = {
                "question_id": reply.request.id,
                "answer": reply.text,
                **({"failure": reply.failure} if reply.failure else {}),
                "model": asking.model,
                "prompt": reply.request.prompt,
                "decoding": asking.parameters,
            }
            asking.show_progress(total)
    except KeyboardInterrupt:
        asking.stopped = "interrupted"
    return rows


def answer(args: argparse.Namespace) -> int:
    """Ask, write the answer file, and print what it took and the score; 1 where it stopped before the end."""
    release = mmrel.Release(args.root)
    records = read_records(release, args.config, args.split)
    ids = [record["question_id"] for record in records if is_of_task(record, args.task)]
    _check_out(args.out, args.model)
    try:
        asking = endpoint.from_arguments(args, defaults=DECODING)
    except ValueError as error:
        raise InputError(str(error)) from None
    try:
        rows = ask(asking, release, args, len(ids))
        print(asking.describe())
    finally:
        asking.close()
    write_answers(args.out, [rows[name] for name in ids if name in rows])
    print(f"{len(rows)} of {len(ids)} questions answered in {args.out}")
    if len(rows) < len(ids):
        print("the same command goes on where this one stopped", file=sys.stderr)
        return 1
    answers = {name: row["answer"] for name, row in rows.items()}
    run = {"model": args.model, "prompt": PROMPT, "decoding": json.dumps(asking.parameters)}
    report = make_report(release, args.config, args.split, answers, args.task, run)
    print(f"\n{relation_accuracy.heading(report)}\n\n{relation_accuracy.table(report)}")
    if args.json:
        relation_accuracy.write_json(report, args.json)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    about, _, _ = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser("recipes.answer", description=about)
    add_release(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="answer file, JSON lines")
    parser.add_argument("--json", metavar="FILE", help="write the report into this file")
    endpoint.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(answer, make_parser(), argv)


def _check_out(out: Path, model: str) -> None:
    """Refuse to write over another model's answers, or over something that holds no answers."""
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: expected its folder to exist, found none; make it")
    if not out.exists():
        return
    try:
        with open(out, encoding="utf-8") as lines:
            stated = {json.loads(line)["model"] for line in lines}
    except (ValueError, KeyError, TypeError):
        stated = {"something else"}
    if stated - {model}:
        raise InputError(f"{out}: expected answers of {model!r} or no file, it holds {', '.join(map(repr, stated))};"
                         " name another --out")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

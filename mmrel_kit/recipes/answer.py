# SPDX-License-Identifier: Apache-2.0
"""Ask a model behind an OpenAI-compatible endpoint every question of a split, and score its answers.

    mmrel answer --root RELEASE --base-url http://127.0.0.1:8000/v1 --model NAME --out FILE

Every raw reply is kept in a store beside FILE, under the endpoint, the model, the parameters, the
picture and the prompt. A run that was stopped, by a budget, an endpoint that is down or a kill,
goes on with the same command; failed requests are asked again.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
from mmrel_kit import endpoint
from mmrel_kit.files import InputError, read_objects, write_json_lines
from mmrel_kit.pictures.validate import read_size
from mmrel_kit.questions.records import make_prompt
from mmrel_kit.recipes.questions import (
    is_of_task,
    make_report,
    read_pictures,
    read_records,
)
from mmrel_kit.scoring.report import Selection, write_report
from mmrel_kit.scoring.text import heading, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DECODING: dict[str, Any] = {"temperature": 0, "max_tokens": 128}  # greedy; room for a sentence
INTERRUPTED = "interrupted"
PROMPT = "question + ' ' + instruction"
STATED = ("temperature", "max_tokens", "seed")  # null: not sent, so the endpoint's default
AS_IS = "as in the release"  # the bytes of a picture are sent unchanged


class Output(NamedTuple):
    """The files of a run.

    Attributes:
        answers: gets the answer file, JSON lines.
        report: gets the report as JSON, where it is wanted.
        store: keeps every reply; None is the default beside `answers`.
    """

    answers: Path
    report: Path | None = None
    store: Path | None = None


class Target(NamedTuple):
    """What is asked.

    Attributes:
        model: its name.
        base_url: of the endpoint, as the user wrote it.
        connect: opens the endpoint, and with it the store of replies.
    """

    model: str
    base_url: str
    connect: Callable[[], endpoint.Endpoint]


def make_requests(release: mmrel.Release, chosen: Selection) -> Iterator[endpoint.Request]:
    """Yield a request for each question, by its question_id; those of a picture share its encoding."""
    for records, data in read_pictures(release, chosen.config, chosen.split):
        picture = endpoint.Attachment(data)
        for record in records:
            if is_of_task(record, chosen.task):
                yield endpoint.Request(record["question_id"], make_prompt(record), picture)


def ask(
    asking: endpoint.Endpoint,
    release: mmrel.Release,
    chosen: Selection,
    total: int,
) -> dict[str, Any]:
    """Ask all questions; return the rows of the answer file by question_id, as far as replies came."""
    rows: dict[str, Any] = {}
    try:
        if asking.store.count(asking.url, asking.model):
            rows = {
                request.id: make_row(reply, asking)
                for request in make_requests(release, chosen)
                if (reply := asking.find_reply(request))
            }
            path = endpoint.replace_surrogates(str(asking.path))
            kept = f"{len(rows)} of {total} replies come from {path} (asked before)"
            print(f"{kept}; {total - len(rows)} are to be asked", flush=True)
        if len(rows) < total:
            left = (request for request in make_requests(release, chosen) if request.id not in rows)
            for reply in asking.ask(itertools.takewhile(lambda _: not asking.stop_reason, left)):
                rows[reply.request.id] = make_row(reply, asking)
                asking.show_progress(total)
    except KeyboardInterrupt:
        asking.stop_reason = INTERRUPTED
    return rows


def make_row(reply: endpoint.Reply, asking: endpoint.Endpoint) -> dict[str, Any]:
    """Return a row of the answer file: the answer, and all that it depends on."""
    row = {"question_id": reply.request.id, "answer": reply.text}
    if reply.failure:
        row["failure"] = reply.failure
    if reply.finish_reason:
        row["finish_reason"] = reply.finish_reason
    if reply.reasoning:
        row["reasoning"] = reply.reasoning
    return {
        **row,
        "model": asking.model,
        "endpoint": asking.url,
        "prompt": reply.request.prompt,
        "picture": describe_picture(reply.request.picture),
        "decoding": make_decoding(asking.parameters),
    }


def make_decoding(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that were sent; those of STATED are None where they were not."""
    return {**dict.fromkeys(STATED), **parameters}


def describe_picture(picture: endpoint.Attachment | None) -> dict[str, Any] | None:
    """Return the size of a picture as it was sent: width and height in pixels, and bytes."""
    if picture is None:
        return None
    width, height = read_size(picture.data) or (None, None)
    return {"sent": AS_IS, "width": width, "height": height, "bytes": len(picture.data)}


def answer(release: mmrel.Release, chosen: Selection, target: Target, output: Output) -> int:
    """Ask, write the answer file, and print what it took and the score.

    Args:
        release: the release.
        chosen: the questions; `split` is one split.
        target: the model that is asked.
        output: the files that are written.

    Returns:
        0, or 1 where it stopped before the end or nothing was answered; then there is no score.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the answers that came are written.
    """
    records = read_records(release, chosen.config, chosen.split)
    ids = [record["question_id"] for record in records if is_of_task(record, chosen.task)]
    if not ids:
        wanted = f"expected questions of the task {chosen.task} in {chosen.config}/{chosen.split}"
        raise InputError(f"{release.root}: {wanted}, found none; choose others")
    try:
        url = endpoint.normalise_url(target.base_url)
    except InputError as error:
        raise InputError(f"{error}; 0 of {len(ids)} answered") from None
    _check_output(output, target.model, url)
    try:
        asking = target.connect()
    except InputError as error:
        raise InputError(f"{error}; 0 of {len(ids)} answered") from None
    try:
        rows = ask(asking, release, chosen, len(ids))
        print(asking.format_report(len(ids)))
    finally:
        asking.close()
    answers = {name: row["answer"] for name, row in rows.items()}
    is_answered = any(text is not None for text in answers.values())
    if is_answered:
        write_json_lines(output.answers, [rows[name] for name in ids if name in rows])
        print(f"the answers are in {endpoint.replace_surrogates(str(output.answers))}")
    if asking.stop_reason == INTERRUPTED:
        raise KeyboardInterrupt  # the runner says how to go on
    if not is_answered:
        reason = asking.stop_reason or "every request failed"
        if asking.cut_off:
            reason += f", {asking.cut_off} cut off: raise the limit with --parameter max_tokens=N"
        raise InputError(
            f"{reason}; {endpoint.replace_surrogates(str(output.answers))} is not written"
        )
    if asking.stop_reason or len(rows) < len(ids):
        reason = asking.stop_reason or "replies are missing"
        advice = "the same command goes on where this one stopped"
        print(f"stopped: {reason}; {advice}", file=sys.stderr)
        return 1
    report = _make_report(release, chosen, answers, asking)
    print(f"\n{heading(report)}\n\n{table(report)}")
    if output.report:
        write_report(report, output.report)
    return 0


def _make_report(
    release: mmrel.Release,
    chosen: Selection,
    answers: dict[str, str | None],
    asking: endpoint.Endpoint,
) -> dict[str, Any]:
    run = {
        "model": asking.model,
        "endpoint": asking.url,
        "prompt": PROMPT,
        "decoding": json.dumps({**make_decoding(asking.parameters), "pictures": AS_IS}),
        "cut_off": asking.cut_off,
    }
    notes = []
    if asking.cut_off:
        cut_off = f"{asking.cut_off} answers were cut off (finish_reason length)"
        notes.append(f"{cut_off}: raise the limit with --parameter max_tokens=N")
    return make_report(release, chosen, answers, run, notes)


def _check_output(output: Output, model: str, url: str) -> None:
    """Refuse to write over another model's or endpoint's answers, or over any other file."""
    out = output.answers
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: expected its folder to exist, found none; make it")
    for option, path in (("--json", output.report), ("--store", output.store)):
        if path and path.resolve() == out.resolve():
            raise InputError(f"{out}: expected {option} and --out to be two files, got one")
    if not out.exists():
        return
    unnamed = "an endpoint that it does not name"
    try:
        rows = [row for _, row in read_objects(out)]
        stated = {(row["model"], row.get("endpoint", unnamed)) for row in rows}
    except (InputError, KeyError, TypeError):
        wanted = "expected answers or no file, it holds something else"
        raise InputError(f"{out}: {wanted}; name another --out") from None
    if others := stated - {(model, url)}:
        some = sorted(others, key=repr)[:3]
        held = ", ".join(f"{model!r} at {where}" for model, where in some)
        wanted = f"expected answers of {model!r} at {url}, or no file"
        raise InputError(f"{out}: {wanted}, it holds answers of {held}; name another --out")

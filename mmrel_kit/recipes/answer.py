# SPDX-License-Identifier: Apache-2.0
"""Ask a model behind an OpenAI-compatible endpoint every question of a split; score its answers.

    mmrel answer --root RELEASE --base-url http://127.0.0.1:8000/v1 --model NAME --out FILE

Raw replies are kept in a store beside FILE, by endpoint, model, parameters, picture and prompt. The
same command continues a run that was interrupted, spent its budget or lost its endpoint; failed
requests are sent again.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
from mmrel_kit import endpoint
from mmrel_kit.files import InputError, read_objects, write_json_lines
from mmrel_kit.pictures.validate import read_size
from mmrel_kit.questions.records import make_prompt
from mmrel_kit.recipes.questions import make_report, matches_task, read_pictures, read_records
from mmrel_kit.scoring.report import Selection, write_report
from mmrel_kit.scoring.text import heading, table

DECODING: dict[str, Any] = {"temperature": 0, "max_tokens": 128}  # greedy; enough for a sentence
INTERRUPTED = "interrupted"
PROMPT = "question + ' ' + instruction"
# Parameters that an answer file always states; None where the endpoint's default applies.
STATED = ("temperature", "max_tokens", "seed")
AS_IS = "as in the release"  # pictures are sent unchanged
RAISE_LIMIT = "raise the limit with --parameter max_tokens=N"


class Output(NamedTuple):
    """The files that a run writes.

    Attributes:
        answers: the answer file, JSON lines.
        report: the report, JSON; None to write none.
        store: the replies; None for the default beside `answers`.
    """

    answers: Path
    report: Path | None = None
    store: Path | None = None


class Target(NamedTuple):
    """The model to ask.

    Attributes:
        base_url: URL of the endpoint, as the user wrote it.
        connect: opens the endpoint and its store of replies.
    """

    model: str
    base_url: str
    connect: Callable[[], endpoint.Endpoint]


def make_requests(release: mmrel.Release, chosen: Selection) -> Iterator[endpoint.Request]:
    """Yield a request for each question; those about a picture share its encoding."""
    for records, data in read_pictures(release, chosen.config, chosen.split):
        picture = endpoint.Attachment(data)
        for record in records:
            if matches_task(record, chosen.task):
                yield endpoint.Request(record["question_id"], make_prompt(record), picture)


def ask(
    client: endpoint.Endpoint, release: mmrel.Release, chosen: Selection, total: int
) -> dict[str, Any]:
    """Ask all questions; return the rows of the answer file so far, by question_id."""
    rows: dict[str, Any] = {}
    try:
        if client.store.count(client.url, client.model):
            for request in make_requests(release, chosen):
                stored = client.find_reply(request)
                if stored:
                    rows[request.id] = make_row(stored, client)
            path = endpoint.replace_surrogates(str(client.path))
            kept = f"{len(rows)} of {total} replies come from {path} (asked before)"
            print(f"{kept}; {total - len(rows)} are to be asked", flush=True)
        if len(rows) < total:
            left = (request for request in make_requests(release, chosen) if request.id not in rows)
            for reply in client.ask(itertools.takewhile(lambda _: not client.stop_reason, left)):
                rows[reply.request.id] = make_row(reply, client)
                client.show_progress(total)
    except KeyboardInterrupt:
        client.stop_reason = INTERRUPTED
    return rows


def make_row(reply: endpoint.Reply, client: endpoint.Endpoint) -> dict[str, Any]:
    """Return a row of the answer file: the answer, and everything it depends on."""
    row = {"question_id": reply.request.id, "answer": reply.text}
    if reply.failure:
        row["failure"] = reply.failure
    if reply.finish_reason:
        row["finish_reason"] = reply.finish_reason
    if reply.reasoning:
        row["reasoning"] = reply.reasoning
    return {
        **row,
        "model": client.model,
        "endpoint": client.url,
        "prompt": reply.request.prompt,
        "picture": describe_picture(reply.request.picture),
        "decoding": make_decoding(client.parameters),
    }


def make_decoding(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that were sent, with None for those of STATED that were not."""
    return {**dict.fromkeys(STATED), **parameters}


def describe_picture(picture: endpoint.Attachment | None) -> dict[str, Any] | None:
    """Return the size of a picture that was sent: width and height in pixels, and bytes."""
    if picture is None:
        return None
    width, height = read_size(picture.data) or (None, None)
    return {"sent": AS_IS, "width": width, "height": height, "bytes": len(picture.data)}


def answer(release: mmrel.Release, chosen: Selection, target: Target, output: Output) -> int:
    """Ask the questions of one split, write the answer file, and print the usage and the score.

    Returns:
        0; or 1, without a score, if the run stopped before the end.

    Raises:
        InputError: there are no such questions, a setting is invalid, or nothing was answered.
        KeyboardInterrupt: after Ctrl-C, once the answers so far are written.
    """
    records = read_records(release, chosen.config, chosen.split)
    ids = [record["question_id"] for record in records if matches_task(record, chosen.task)]
    if not ids:
        wanted = f"expected questions of the task {chosen.task} in {chosen.config}/{chosen.split}"
        raise InputError(f"{release.root}: {wanted}, found none; choose others")
    client = _connect(target, output, len(ids))
    try:
        rows = ask(client, release, chosen, len(ids))
        print(client.format_report(len(ids)))
    finally:
        client.close()
    answers = {name: row["answer"] for name, row in rows.items()}
    is_answered = any(text is not None for text in answers.values())
    path = endpoint.replace_surrogates(str(output.answers))
    if is_answered:
        write_json_lines(output.answers, [rows[name] for name in ids if name in rows])
        print(f"the answers are in {path}")
    if client.stop_reason == INTERRUPTED:
        raise KeyboardInterrupt  # the command says how to continue
    if not is_answered:
        reason = client.stop_reason or "every request failed"
        if client.cut_off:
            reason += f", {client.cut_off} cut off: {RAISE_LIMIT}"
        raise InputError(f"{reason}; {path} is not written")
    if client.stop_reason or len(rows) < len(ids):
        reason = client.stop_reason or "replies are missing"
        advice = "the same command resumes where this one stopped"
        print(f"stopped: {reason}; {advice}", file=sys.stderr)
        return 1
    report = _make_report(release, chosen, answers, client)
    print(f"\n{heading(report)}\n\n{table(report)}")
    if output.report:
        write_report(report, output.report)
    return 0


def _connect(target: Target, output: Output, total: int) -> endpoint.Endpoint:
    """Open the endpoint, if the answers may be written; errors state that nothing was answered."""
    try:
        url = endpoint.normalise_url(target.base_url)
    except InputError as error:
        raise InputError(f"{error}; 0 of {total} answered") from None
    _check_output(output, target.model, url)
    try:
        return target.connect()
    except InputError as error:
        raise InputError(f"{error}; 0 of {total} answered") from None


def _make_report(
    release: mmrel.Release,
    chosen: Selection,
    answers: dict[str, str | None],
    client: endpoint.Endpoint,
) -> dict[str, Any]:
    run = {
        "model": client.model,
        "endpoint": client.url,
        "prompt": PROMPT,
        "decoding": json.dumps({**make_decoding(client.parameters), "pictures": AS_IS}),
        "cut_off": client.cut_off,
    }
    notes = []
    if client.cut_off:
        cut_off = f"{client.cut_off} answers were cut off (finish_reason length)"
        notes.append(f"{cut_off}: {RAISE_LIMIT}")
    return make_report(release, chosen, answers, run, notes)


def _check_output(output: Output, model: str, url: str) -> None:
    """Refuse to overwrite the answers of another model or endpoint, or any other file."""
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
        models = {(row["model"], row.get("endpoint", unnamed)) for row in rows}
    except (InputError, KeyError, TypeError):
        wanted = "expected answers or no file, it holds something else"
        raise InputError(f"{out}: {wanted}; name another --out") from None
    others = sorted(models - {(model, url)}, key=repr)
    if others:
        got = ", ".join(f"{name!r} at {where}" for name, where in others[:3])
        wanted = f"expected answers of {model!r} at {url}, or no file"
        raise InputError(f"{out}: {wanted}, it holds answers of {got}; name another --out")

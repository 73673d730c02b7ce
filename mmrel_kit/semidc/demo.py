# SPDX-License-Identifier: Apache-2.0
"""Demonstrate all steps on the sample, with a stand-in for the model and scripted annotators.

One of the pictures is the paper's example: a person stands on a surfboard, and the model claims
that the person sits.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shlex
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageDraw

import mmrel
from mmrel_kit.endpoint import Attachment, Endpoint, Request, load_client
from mmrel_kit.files import PROJECT, InputError, read_objects, write_bytes, write_json_lines
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Item, read_proposals, write_proposals
from mmrel_kit.semidc.model.propose import PARAMETERS, propose
from mmrel_kit.semidc.model.select import Candidate, Thing, read_folder, select
from mmrel_kit.semidc.people.agree import make_report
from mmrel_kit.semidc.people.ask import propose_negatives
from mmrel_kit.semidc.people.export import export_records
from mmrel_kit.semidc.people.store import Decision, Project

if TYPE_CHECKING:
    Run = Callable[[Sequence[str]], int]

SURFER_ID = "vg/VG_100K/9999001.jpg"
SURFER_TRIPLET = Triplet("person", "stand", "surfboard")
NOTE = "Made by the labelling demonstration from drawn pictures: no benchmark."


class Truth(NamedTuple):
    """A true triplet of a picture."""

    image_id: str
    category: str
    triplet: Triplet


def run_demo(out: Path | None, serve_page: bool, port: int, run: Run) -> int:
    """Run all steps and print each.

    All files go to `out`; None takes a temporary folder. `serve_page` serves the page for the user
    instead of scripted annotators. `run` runs a verb of `mmrel` and returns its exit status.

    Raises:
        InputError: `out` is not empty, or a step failed.
    """
    load_client()  # a missing package is reported before anything is written
    if serve_page:
        from mmrel_kit.semidc.people.server import serve
    out = out or Path(tempfile.mkdtemp(prefix="semidc-demo-"))
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: expected an empty folder or none; name another --out")
    project, truths = prepare_project(out)
    if serve_page:
        _print_step("Verify", "decide on the page, then stop the server with Ctrl-C to continue")
        project.set_people(1)
        with contextlib.suppress(KeyboardInterrupt):  # ends this step only
            serve(project, out / "images", "127.0.0.1", port, None, announce=_print_address)
    else:
        _print_step("Verify", "ann and ben decide on every item, cy settles disagreements")
        decide_all(project, truths)
    return finish_demo(out, project, truths, not serve_page, run)


def prepare_project(out: Path) -> tuple[Project, list[Truth]]:
    """Write the pictures, let the stand-in propose triplets, and make the project file."""
    images = out / "images"
    truths = list(write_pictures(images))
    drops: Counter[str] = Counter()
    candidates = _add_things(select(read_folder(images), images, drops), truths)
    _print_step("Select", f"{len(candidates)} pictures of the sample, {drops.total()} left out")
    proposals = []
    with serve_model(truths, images) as url:
        for category in mmrel.CATEGORIES:
            endpoint = Endpoint(url, "demo", out / "replies.sqlite", parameters=PARAMETERS)
            image_ids = {truth.image_id for truth in truths if truth.category == category}
            chosen = [candidate for candidate in candidates if candidate.image_id in image_ids]
            proposals += propose(chosen, category, endpoint, images, drops)
            endpoint.close()
    _print_step("Propose", f"{len(proposals)} triplets from the endpoint; left out, by reason:")
    for reason, count in drops.most_common():
        print(f"  {count} x {reason}")
    write_proposals(out / "proposals.jsonl", proposals)
    project = Project(out / "project.sqlite", make=True)
    project.set_people(2)
    project.set_setting("images", str(images.resolve()))
    project.add(read_proposals([out / "proposals.jsonl"], images))
    return project, truths


def finish_demo(
    out: Path, project: Project, truths: list[Truth], is_scripted: bool, run: Run
) -> int:
    """Run the steps after verifying, from `ask` to the score of the stand-in's answers."""
    negatives, hashes = propose_negatives(project), project.pictures()
    added = project.add((proposal, hashes[proposal.image_id]) for proposal in negatives)
    _print_step("Ask", f"{added} other verbs for people to confirm as false")
    if is_scripted:
        decide_all(project, truths)
    _print_step("Agree")
    print(make_report(project))
    records = out / "records" / "test.jsonl"
    questions = export_records(project, records)
    counts = f"{len(questions.records)} records, {len(questions.awaiting_negative)} triplets"
    _print_step("Export", f"{counts} lack a confirmed false verb")
    release, answers = out / "release", out / "answers.jsonl"
    images = out / "images"
    sources = ("--annotations", records.parent, "--images", images)
    _run_verb(run, "build", *sources, "--out", release, "--note", NOTE)
    _run_verb(run, "check", release)
    _run_verb(run, "show", "real", "--root", release)
    with serve_model(truths, images) as url:
        endpoint = Endpoint(url, "demo", out / "replies.sqlite")
        write_json_lines(answers, _answer(endpoint, records, images))
        endpoint.close()
    _run_verb(run, "score", answers, "--root", release)
    print(f"\nall files are in {out}")
    return 0


def write_pictures(images: Path) -> Iterator[Truth]:
    """Write the sample's real test pictures and a drawn surfer; yield their true triplets."""
    release = mmrel.Release(str(PROJECT))
    for records, data in read_archives(release, release.archives("real")["test"]):
        write_bytes(images / records[0]["image_id"], data)
        for record in records:
            if record["answer"] == "yes":
                triplet = Triplet(record["subject"], record["relation"], record["object"])
                yield Truth(record["image_id"], record["category"], triplet)
    path = images / SURFER_ID
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_surfer().save(path, quality=92)
    yield Truth(SURFER_ID, "action", SURFER_TRIPLET)


def draw_surfer() -> Image.Image:
    """Draw a person who stands on a surfboard."""
    picture = Image.new("RGB", (640, 480), "#cfe6f2")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((500, 50, 570, 120), fill="#f6d36b")
    pen.rectangle((0, 300, 640, 480), fill="#3f7fa6")
    for left in range(-60, 640, 120):
        pen.chord((left, 270, left + 180, 350), 180, 360, fill="#3f7fa6")
    pen.ellipse((160, 345, 480, 385), fill="#f2ead8", outline="#8a6d4b", width=4)
    pen.line((295, 360, 310, 270), fill="#2b3a55", width=20)
    pen.line((345, 360, 325, 270), fill="#2b3a55", width=20)
    pen.rounded_rectangle((290, 175, 345, 280), 20, fill="#c8553d")
    pen.line((298, 195, 235, 225), fill="#d9a066", width=15)
    pen.line((338, 195, 405, 215), fill="#d9a066", width=15)
    pen.ellipse((290, 115, 346, 175), fill="#d9a066")
    return picture


def decide_all(project: Project, truths: list[Truth]) -> None:
    """Decide as ann and ben on all open items, and as cy on those on which they disagree."""
    for name, adjudicates in (("ann", False), ("ben", False), ("cy", True)):
        item = project.next_item(name, adjudicates)
        while item:
            verdict, correction = _choose_verdict(name, item, truths)
            decision_id = hashlib.sha256(f"{name} {item.id}".encode()).hexdigest()[:32]
            seconds = 1.5 + item.id % 3
            project.decide(Decision(decision_id, item.id, name, verdict, correction, seconds))
            item = project.next_item(name, adjudicates)


@contextlib.contextmanager
def serve_model(truths: list[Truth], images: Path) -> Iterator[str]:
    """Serve a stand-in for a model, which knows the pictures and sometimes errs; yield its URL."""
    by_hash = {}
    for truth in truths:
        data = (images / truth.image_id).read_bytes()
        by_hash[hashlib.sha256(data).hexdigest()] = truth
    server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(by_hash))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def make_proposals_text(truth: Truth, number: int) -> str:
    """Return a reply about a picture: usually right, but wrong or useless every few pictures."""
    subject, relation, object_ = truth.triplet
    rows = [(subject, relation, object_, 0.9)]
    if truth.triplet == SURFER_TRIPLET:
        rows = [("person", "sit", "surfboard", 0.88)]
    elif number % 5 == 1:
        rows = [(object_, relation, subject, 0.7)]
    elif number % 5 == 2:
        rows.append((subject, relation, "unicorn", 0.4))
    elif number == 3:
        return "I would rather describe the mood of this picture."
    elif number % 5 == 4 and truth.category == "spatial":
        rows.append((subject, "among", object_, 0.3))
    keys = ("subject", "relation", "object", "confidence")
    return json.dumps({"triplets": [dict(zip(keys, row, strict=True)) for row in rows]})


def _make_handler(truths: dict[str, Truth]) -> type[BaseHTTPRequestHandler]:
    """Return a handler of requests, from the true triplets by the hash of their picture."""
    numbers = {digest: number for number, digest in enumerate(truths)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802  # the standard library's name
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            picture, text = body["messages"][0]["content"]
            data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
            digest = hashlib.sha256(data).hexdigest()
            content = "Yes."
            if "triplets" in text["text"]:
                content = make_proposals_text(truths[digest], numbers[digest])
            usage = {"prompt_tokens": 500, "completion_tokens": len(content.split())}
            message = {"role": "assistant", "content": content}
            reply = {"choices": [{"index": 0, "message": message}], "usage": usage}
            encoded = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    return Handler


def _choose_verdict(name: str, item: Item, truths: list[Truth]) -> tuple[str, Triplet | None]:
    """Return the right verdict, except that ben rejects the surfer without a correction."""
    if Truth(item.image_id, item.category, item.triplet) in truths:
        return "accept", None
    if item.image_id == SURFER_ID and item.origin == "model" and name != "ben":
        return "correct", SURFER_TRIPLET
    return "reject", None


def _answer(endpoint: Endpoint, path: Path, images: Path) -> Iterator[dict[str, Any]]:
    """Yield the stand-in's answers to the questions of a file."""
    pictures: dict[str, Attachment] = {}
    requests = []
    for _, record in read_objects(path):
        image_id = record["image_id"]
        if image_id not in pictures:
            pictures[image_id] = Attachment((images / image_id).read_bytes())
        prompt = f"{record['question']} {record['instruction']}"
        requests.append(Request(record["question_id"], prompt, pictures[image_id]))
    for reply in endpoint.ask(requests):
        yield {"question_id": reply.request.id, "answer": reply.text}


def _add_things(candidates: Iterator[Candidate], truths: list[Truth]) -> list[Candidate]:
    """Return the candidates with the subject and the object of their true triplet as things."""
    triplets = {truth.image_id: truth.triplet for truth in truths}
    result = []
    for candidate in candidates:
        triplet = triplets[candidate.image_id]
        things = (Thing(triplet.subject, 0, 0, 1, 1), Thing(triplet.object, 0, 0, 1, 1))
        result.append(candidate._replace(things=things))
    return result


def _run_verb(run: Run, *words: object) -> None:
    """Print a verb with its arguments and run it.

    Raises:
        InputError: its exit status is not 0.
    """
    command = [str(word) for word in words]
    print(f"\n$ mmrel {shlex.join(command)}", flush=True)
    status = run(command)
    if status:
        raise InputError(f"mmrel {command[0]} ended with status {status}; see its output above")


def _print_step(name: str, text: str = "") -> None:
    print(f"\n== {name}: {text}" if text else f"\n== {name}", flush=True)


def _print_address(url: str) -> None:
    print(f"verify at {url}", flush=True)

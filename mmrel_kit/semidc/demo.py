# SPDX-License-Identifier: Apache-2.0
"""All steps on the drawn sample: a small endpoint proposes, people verify, the result is scored.

Among the pictures is the paper's own example: a person stands on a surfboard, and the model says
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageDraw

import mmrel
from mmrel_kit.endpoint import Attachment, Endpoint, Request, load_client
from mmrel_kit.files import PROJECT, InputError, read_objects, write_json_lines
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import read_proposals, write_proposals
from mmrel_kit.semidc.model.propose import PARAMETERS, propose
from mmrel_kit.semidc.model.select import Candidate, Thing, read_folder, select
from mmrel_kit.semidc.people.agree import make_report
from mmrel_kit.semidc.people.ask import propose_negatives
from mmrel_kit.semidc.people.export import export_records
from mmrel_kit.semidc.people.store import Decision, Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mmrel_kit.semidc.items import Item

    Run = Callable[[Sequence[str]], int]

SURF = "vg/VG_100K/9999001.jpg"
STANDS = Triplet("person", "stand", "surfboard")
NOTE = "Made by the labelling demonstration from drawn pictures: no benchmark."


class Truth(NamedTuple):
    """What is true of a picture."""

    image_id: str
    category: str
    triplet: Triplet


def run_demo(out: Path | None, serve_page: bool, port: int, run: Run) -> int:
    """Run all steps and print each.

    Args:
        out: where everything is written; None takes a temporary folder.
        serve_page: serve the page for the user to verify; otherwise people follow a script.
        port: of the page.
        run: runs a verb of `mmrel` with arguments, and returns its exit status.

    Raises:
        InputError: `out` is not empty, or a step failed.
    """
    load_client()  # a missing package is reported before anything is written
    if serve_page:
        from mmrel_kit.semidc.people.server import serve
    out = out or Path(tempfile.mkdtemp(prefix="semidc-demo-"))
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: expected an empty folder or none; name another --out")
    project, truths = prepare(out)
    if serve_page:
        _say(
            "Verify",
            "open the page, decide, and stop the server with Ctrl-C; then the rest follows",
        )
        project.set_people(1)
        with contextlib.suppress(KeyboardInterrupt):  # it only ends this step
            serve(
                project,
                out / "images",
                "127.0.0.1",
                port,
                None,
                announce=lambda url: print(f"verify at {url}", flush=True),
            )
    else:
        _say("Verify", "ann and ben decide on every item, cy where they disagree")
        play(project, truths)
    return finish(out, project, truths, not serve_page, run)


def prepare(out: Path) -> tuple[Project, list[Truth]]:
    """Lay out the pictures, have the small endpoint propose, and make the project file."""
    images = out / "images"
    truths = list(lay_out(images))
    drops: Counter[str] = Counter()
    candidates = _join_things(select(read_folder(images), images, drops), truths)
    _say("Select", f"{len(candidates)} pictures of the drawn sample, {drops.total()} left out")
    proposals = []
    with ModelServer(truths, images) as url:
        for category in mmrel.CATEGORIES:
            asking = Endpoint(url, "demo", out / "replies.sqlite", parameters=PARAMETERS)
            wanted = {truth.image_id for truth in truths if truth.category == category}
            chosen = [candidate for candidate in candidates if candidate.image_id in wanted]
            proposals += propose(chosen, category, asking, images, drops)
            asking.close()
    _say("Propose", f"{len(proposals)} triplets from the endpoint; left out, by reason:")
    for reason, count in drops.most_common():
        print(f"  {count} x {reason}")
    write_proposals(out / "proposals.jsonl", proposals)
    project = Project(out / "project.sqlite", make=True)
    project.set_people(2)
    project.set_setting("images", str(images.resolve()))
    project.add(read_proposals([out / "proposals.jsonl"], images))
    return project, truths


def finish(out: Path, project: Project, truths: list[Truth], play_on: bool, run: Run) -> int:
    """Ask, agree, export, build, check, load, have the small endpoint answer, and score."""
    negatives, hashes = propose_negatives(project), project.pictures()
    added = project.add((proposal, hashes[proposal.image_id]) for proposal in negatives)
    _say("Ask", f"{added} other verbs for people to confirm as false")
    if play_on:
        play(project, truths)
    _say("Agree", "")
    print(make_report(project))
    records = out / "records" / "test.jsonl"
    questions = export_records(project, records)
    _say(
        "Export",
        f"{len(questions.records)} records, {len(questions.awaiting_negative)} triplets wait for a false verb",
    )
    release, answers = out / "release", out / "answers.jsonl"
    images = out / "images"
    files = ("--annotations", records.parent, "--images", images)
    _run(run, "build", *files, "--out", release, "--note", NOTE)
    _run(run, "check", release)
    _run(run, "show", "real", "--root", release)
    with ModelServer(truths, images) as url:
        asking = Endpoint(url, "demo", out / "replies.sqlite")
        write_json_lines(answers, _answer(asking, records, images))
        asking.close()
    _run(run, "score", answers, "--root", release)
    print(f"\nall of it is in {out}")
    return 0


def lay_out(images: Path) -> Iterator[Truth]:
    """Write the real pictures of the sample's test split, and one that is drawn here; yields what is true of them."""
    release = mmrel.Release(str(PROJECT))
    for name in release.archives("real")["test"]:
        with mmrel.open_file(release.path(name)) as file:
            for records, data in mmrel.read_archive(file, name, release.files[name]["size"]):
                path = images / records[0]["image_id"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                for record in records:
                    if record["answer"] == "yes":
                        triplet = Triplet(record["subject"], record["relation"], record["object"])
                        yield Truth(record["image_id"], record["category"], triplet)
    path = images / SURF
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_surfer().save(path, quality=92)
    yield Truth(SURF, "action", STANDS)


def draw_surfer() -> Image.Image:
    """Somebody stands on a surfboard."""
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


def play(project: Project, truths: list[Truth]) -> None:
    """Ann and ben decide on all that is open, cy on what they disagree about."""
    for name, adjudicates in (("ann", False), ("ben", False), ("cy", True)):
        while item := project.next_item(name, adjudicates):
            verdict, correction = _judge(name, item, truths)
            number = hashlib.sha256(f"{name} {item.id}".encode()).hexdigest()[:32]
            project.decide(Decision(number, item.id, name, verdict, correction, 1.5 + item.id % 3))


class ModelServer:
    """An endpoint on loopback that knows what is true of the pictures, and does not always say it.

    Args:
        truths: what is true.
        images: folder of the pictures.
    """

    def __init__(self, truths: list[Truth], images: Path) -> None:
        by_hash = {
            hashlib.sha256((images / t.image_id).read_bytes()).hexdigest(): t for t in truths
        }
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(by_hash, list(by_hash)))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def say(truth: Truth, number: int) -> str:
    """What the endpoint says of a picture: right most of the time, wrong or of no use every few pictures."""
    subject, relation, object_ = truth.triplet
    said = [(subject, relation, object_, 0.9)]
    if truth.triplet == STANDS:
        said = [("person", "sit", "surfboard", 0.88)]
    elif number % 5 == 1:
        said = [(object_, relation, subject, 0.7)]
    elif number % 5 == 2:
        said.append((subject, relation, "unicorn", 0.4))
    elif number == 3:
        return "I would rather describe the mood of this picture."
    elif number % 5 == 4 and truth.category == "spatial":
        said.append((subject, "among", object_, 0.3))
    keys = ("subject", "relation", "object", "confidence")
    return json.dumps({"triplets": [dict(zip(keys, triplet, strict=True)) for triplet in said]})


def _make_handler(by_hash: dict[str, Truth], order: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802  # the standard library's name
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            picture, text = (part for part in asked["messages"][0]["content"])
            digest = hashlib.sha256(
                base64.b64decode(picture["image_url"]["url"].partition(",")[2])
            ).hexdigest()
            is_question = "triplets" not in text["text"]
            said = "Yes." if is_question else say(by_hash[digest], order.index(digest))
            usage = {"prompt_tokens": 500, "completion_tokens": len(said.split())}
            message = {"role": "assistant", "content": said}
            body = json.dumps(
                {"choices": [{"index": 0, "message": message}], "usage": usage}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    return Handler


def _judge(name: str, item: Item, truths: list[Truth]) -> tuple[str, Triplet | None]:
    """Everybody sees what is true; only ben does not find the word for what the surfer does."""
    if Truth(item.image_id, item.category, item.triplet) in truths:
        return "accept", None
    if item.image_id == SURF and item.origin == "model" and name != "ben":
        return "correct", STANDS
    return "reject", None


def _answer(asking: Endpoint, records: Path, images: Path) -> Iterator[dict[str, Any]]:
    asked = [record for _, record in read_objects(records)]
    names = {record["image_id"] for record in asked}
    pictures = {name: Attachment((images / name).read_bytes()) for name in names}
    requests = (
        Request(r["question_id"], f"{r['question']} {r['instruction']}", pictures[r["image_id"]])
        for r in asked
    )
    for reply in asking.ask(requests):
        yield {"question_id": reply.request.id, "answer": reply.text}


def _join_things(candidates: Iterator[Candidate], truths: list[Truth]) -> list[Candidate]:
    names = {truth.image_id: (truth.triplet.subject, truth.triplet.object) for truth in truths}
    return [
        c._replace(things=tuple(Thing(name, 0, 0, 1, 1) for name in names[c.image_id]))
        for c in candidates
    ]


def _run(run: Run, *words: object) -> None:
    """Print a verb with its arguments and run it.

    Raises:
        InputError: it ended with another status than 0.
    """
    given = [str(word) for word in words]
    print(f"\n$ mmrel {shlex.join(given)}", flush=True)
    if status := run(given):
        raise InputError(f"mmrel {given[0]} ended with status {status}; what it printed says why")


def _say(step: str, text: str) -> None:
    print(f"\n== {step}{': ' if text else ''}{text}", flush=True)

"""Pictures, projects, decisions and replies for the tests of labelling, and the command."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmrel_kit import cli
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Proposal, read_proposals, write_proposals
from mmrel_kit.semidc.model.select import Thing
from mmrel_kit.semidc.people.store import Decision, Project

FIRST, SECOND = "vg/VG_100K/1.jpg", "vg/VG_100K_2/2.jpg"
# Objects in a picture of 200 x 200 pixels: name, left, top, width, height.
CAT = ("cat", 0, 0, 80, 80)
DOG = ("dog", 100, 100, 80, 80)


def draw_picture(images: Path, image_id: str, size: tuple[int, int] = (200, 200)) -> str:
    """Write a picture of noise that depends on its id alone, and return the id."""
    path = images / image_id
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = random.Random(image_id).randbytes(3 * size[0] * size[1])
    Image.frombytes("RGB", size, noise).save(path)
    return image_id


def make_things(*boxes: tuple[str, int, int, int, int]) -> tuple[Thing, ...]:
    """Return the objects of a picture from their names and boxes."""
    return tuple(Thing(*box) for box in boxes)


def make_reply(*triplets: tuple[Any, ...]) -> str:
    """Return a model's reply from (subject, relation, object, confidence) tuples."""
    keys = ("subject", "relation", "object", "confidence")
    rows = [dict(zip(keys, triplet, strict=True)) for triplet in triplets]
    return json.dumps({"triplets": rows})


def make_project(folder: Path, *items: tuple[Any, ...]) -> Project:
    """Make a project that one person verifies.

    Args:
        folder: the folder of the project and of its pictures.
        items: tuples of picture, category, triplet, verdict and, for "correct", the corrected
            triplet. A verdict of None leaves the item open.
    """
    project = Project(folder / "project.sqlite", make=True)
    project.set_people(1)
    for image_id, category, words, verdict, *correction in items:
        draw_picture(folder / "images", image_id)
        triplet = Triplet(*words.split())
        proposal = Proposal(image_id, category, triplet, 0.5, None, "model", "test")
        write_proposals(folder / "p.jsonl", [proposal])
        project.add(read_proposals([folder / "p.jsonl"], folder / "images"))
        if verdict:
            corrected = [Triplet(*words.split()) for words in correction]
            decide(project, "ann", verdict, *corrected)
    return project


def add_unchecked(project: Project, *items: tuple[str, Triplet | str, str]) -> None:
    """Add items of the first picture without any check, as version 1.0.0 did.

    Args:
        project: the project.
        items: tuples of category, triplet and origin.
    """
    sha256 = project.pictures().get(FIRST, "0" * 64)
    for category, words, origin in items:
        triplet = Triplet(*words.split()) if isinstance(words, str) else words
        project.add([(Proposal(FIRST, category, triplet, None, None, origin, "old"), sha256)])


def decide(
    project: Project,
    name: str,
    verdict: str = "accept",
    triplet: Triplet | None = None,
    adjudicate: bool = False,
) -> int:
    """Decide on the next item of a person and return the item's id."""
    item = project.next_item(name, adjudicate)
    assert item
    decision_id = f"{name}-{item.id}-{project.progress(name).mine}"
    project.decide(Decision(decision_id, item.id, name, verdict, triplet, 2.0))
    return item.id


def run_label(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run `mmrel label` and return its exit status, standard output and standard error."""
    status = cli.main(["label", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err

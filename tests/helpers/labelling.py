"""What tests of labelling share: pictures of noise, projects, decisions, replies, the command."""

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
# Things of a picture of 200 x 200: name and box.
CAT, DOG = ("cat", 0, 0, 80, 80), ("dog", 100, 100, 80, 80)


def draw_picture(images: Path, image_id: str, size: tuple[int, int] = (200, 200)) -> str:
    """Draw a picture of noise, always the same for a path."""
    path = images / image_id
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = random.Random(image_id).randbytes(3 * size[0] * size[1])
    Image.frombytes("RGB", size, noise).save(path)
    return image_id


def make_things(*boxes: tuple[str, int, int, int, int]) -> tuple[Thing, ...]:
    """Return things with their boxes."""
    return tuple(Thing(*box) for box in boxes)


def make_reply(*said: tuple[Any, ...]) -> str:
    """Return the reply in which a model states triplets with their confidence."""
    keys = ("subject", "relation", "object", "confidence")
    return json.dumps({"triplets": [dict(zip(keys, one, strict=True)) for one in said]})


def make_project(folder: Path, *items: tuple[Any, ...]) -> Project:
    """Make a project of one person from picture, category, triplet, verdict and correction.

    A verdict of None leaves an item open.
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
            decide(project, "ann", verdict, *(Triplet(*words.split()) for words in correction))
    return project


def add_unchecked(project: Project, *items: tuple[str, Triplet | str, str]) -> None:
    """Add items of the first picture as version 1.0.0 let them in: category, triplet, origin."""
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
    """Decide on the next item and return its number; the decision is NAME-ITEM-DECIDED_BEFORE."""
    item = project.next_item(name, adjudicate)
    assert item
    number = f"{name}-{item.id}-{project.progress(name).mine}"
    project.decide(Decision(number, item.id, name, verdict, triplet, 2.0))
    return item.id


def run_label(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run a step; return its status, its output and its messages."""
    status = cli.main(["label", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err

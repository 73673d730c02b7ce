"""Times what grows with a labelling project: a decision, `mmrel label ask`, `verify --people`.

    PYTHONPATH=. python benchmarks/labelling.py

Each is timed on a project and on one four times as large. What is linear takes about four times as
long there; a decision, and a start with the same `--people`, take as long as before.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Proposal
from mmrel_kit.semidc.people.ask import make_negatives
from mmrel_kit.semidc.people.store import Decision, Project

GROWTH = 4
DECISIONS = 100  # of which the median is taken
REPEATS = 4  # of which the best is taken
TOLERANCE = 2.5  # what is quadratic grows by GROWTH
THINGS = ("person", "dog", "cup", "chair", "panda bear", "car", "horse", "cat")
VERBS = ("hold", "ride", "push", "pull", "look", "carry", "juggle", "feed", "touch", "kick")


class Times(NamedTuple):
    """Seconds that each took."""

    decision: float
    ask: float
    other_people: float
    same_people: float


def draw_items(items: int) -> Iterator[tuple[Proposal, str]]:
    """Draw action triplets, four of each picture."""
    chance = random.Random(20261126)
    for number in range(items):
        picture = f"vg/VG_100K/{number // 4}.jpg"
        subject, object_ = chance.sample(THINGS, 2)
        # The number keeps the triplets of a picture apart.
        triplet = Triplet(subject, chance.choice(VERBS), f"{object_} {number % 4}")
        proposal = Proposal(picture, "action", triplet, 0.5, None, "model", "drawn")
        yield proposal, f"{number // 4:064x}"


def make_project(folder: Path, items: int) -> Project:
    """Make a project in which two people have decided on all but the last items."""
    project = Project(folder / f"{items}.sqlite", make=True)
    project.set_people(2)
    project.add(draw_items(items))
    project._db.execute("pragma synchronous = off")  # what is timed is not the disk
    with project._transaction():
        for name in ("ann", "ben"):
            for _ in range(items - 2 * DECISIONS):
                decide(project, name)
    return project


def decide(project: Project, name: str) -> None:
    """Accept the next item, as the page does: with the counts and the item after it."""
    item = project.next_item(name)
    if item is None:
        raise ValueError("expected an open item")
    project.decide(Decision(f"{name}-{item.id}", item.id, name, "accept", None, 1.0))
    project.peek(name, item)
    project.progress(name)
    project.last_decision(name)


def take_time(run: Callable[[], object], repeats: int = 1) -> float:
    """Return the least seconds of processor time that a call takes; the machine may be busy."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def measure(folder: Path, items: int) -> Times:
    """Time everything on a project of so many items."""
    project = make_project(folder, items)
    decisions = [take_time(lambda: decide(project, "ann")) for _ in range(DECISIONS)]
    ask = take_time(lambda: make_negatives(project), REPEATS)
    people = itertools.cycle((3, 2))
    other = take_time(lambda: project.set_people(next(people)), REPEATS)
    same = take_time(lambda: project.set_people(project.people), REPEATS)
    project.close()
    return Times(statistics.median(decisions), ask, other, same)


def main() -> int:
    """Print times and ratios; exit status 1 where something grows faster than the project."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--items", type=int, default=4000, help="of the small project (4000)")
    args = parser.parse_args()
    if args.items < 4 * DECISIONS:
        parser.error(f"--items: expected at least {4 * DECISIONS}, got {args.items}")
    with tempfile.TemporaryDirectory() as folder:
        small, large = (measure(Path(folder), items) for items in (args.items, GROWTH * args.items))
    print(f"{'':28}{args.items:>10} {GROWTH * args.items:>10}  items")
    names = ("a decision", "label ask", "verify, another --people", "verify, the same --people")
    for name, before, after in zip(names, small, large, strict=True):
        figures = f"{1000 * before:>10.2f} {1000 * after:>10.2f}"
        print(f"{name:28}{figures}  ms, {after / before:.1f} times as long")
    grown = [
        large.decision / small.decision,
        large.ask / small.ask / GROWTH,
        large.other_people / small.other_people / GROWTH,
    ]
    return 0 if max(grown) < TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Time what grows with a labelling project: a decision, `mmrel label ask`, `verify --people`.

    PYTHONPATH=. python benchmarks/labelling.py

Each is timed on a project and on one four times as large. What is linear takes about four times as
long there; a decision, and a start with the same `--people`, take as long as before.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.draw_data import draw_items
from benchmarks.measuring import time_cpu
from mmrel_kit.files import format_table
from mmrel_kit.semidc.people.ask import propose_negatives
from mmrel_kit.semidc.people.store import Decision, Project

GROWTH = 4
ITEMS_OF_A_PICTURE = 4
DECISIONS = 100  # of which the median is taken
REPEATS = 4  # of which the best is taken
TOLERANCE = 2.5  # what is quadratic grows by GROWTH


class Times(NamedTuple):
    """Processor seconds that each took."""

    decision: float
    ask: float
    other_people: float
    same_people: float


NAMES = (
    "a decision",
    "mmrel label ask",
    "mmrel label verify, another --people",
    "mmrel label verify, the same --people",
)


def make_project(folder: Path, items: int) -> Project:
    """Make a project in which two people have decided on all but the last items."""
    project = Project(folder / f"{items}.sqlite", make=True)
    project.set_people(2)
    proposals = draw_items(items, items // ITEMS_OF_A_PICTURE)
    project.add((one, hashlib.sha256(one.image_id.encode()).hexdigest()) for one in proposals)
    project._db.execute("pragma synchronous = off")  # the disk is not what is timed
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


def measure(folder: Path, items: int) -> Times:
    """Time everything on a project of so many items."""
    project = make_project(folder, items)
    decisions = [time_cpu(lambda: decide(project, "ann"))[0] for _ in range(DECISIONS)]
    ask, _ = time_cpu(lambda: propose_negatives(project), REPEATS)
    people = itertools.cycle((3, 2))
    other, _ = time_cpu(lambda: project.set_people(next(people)), REPEATS)
    same, _ = time_cpu(lambda: project.set_people(project.people), REPEATS)
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
        small = measure(Path(folder), args.items)
        large = measure(Path(folder), GROWTH * args.items)
    rows = [["", f"{args.items} items, ms", f"{GROWTH * args.items} items, ms", "times as long"]]
    for name, before, after in zip(NAMES, small, large, strict=True):
        times = f"{after / before:.1f}"
        rows.append([name, f"{1000 * before:.2f}", f"{1000 * after:.2f}", times])
    print(format_table(rows))
    growth = [
        large.decision / small.decision,
        large.ask / small.ask / GROWTH,
        large.other_people / small.other_people / GROWTH,
    ]
    return 0 if max(growth) < TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""CPU time of the steps of a labelling project, and of one four times as large.

Projects of 5,000 and 20,000 items, verified by two people. A linear step takes four times as long
on the larger one; a decision, and a start with the same `--people`, take as long as before. The
goals leave a step two and a half times that.
"""

from __future__ import annotations

import hashlib
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.draw_data import draw_items
from benchmarks.measuring import Setup, measure_in_turns, time_cpu
from benchmarks.results import Measurement, compare
from mmrel_kit.semidc.people.ask import propose_negatives
from mmrel_kit.semidc.people.store import Decision, Project

GROWTH = 4
ITEMS_PER_PICTURE = 4
DECISIONS = 100  # the median counts
REPEATS = 4  # the best counts
MAX_RUNS = 3


class Times(NamedTuple):
    """CPU seconds of each step."""

    decision: float
    ask: float
    other_people: float
    same_people: float


# Field of `Times` -> its step, and the goal for its growth.
STEPS = {
    "decision": ("a decision", "at most 2.5"),
    "ask": ("mmrel label ask", "at most 10"),
    "other_people": ("mmrel label verify, another --people", "at most 10"),
    "same_people": ("mmrel label verify, the same --people", ""),
}


def make_project(folder: Path, items: int) -> Project:
    """Create a project in which two people have decided on all but the last items."""
    project = Project(folder / f"{items}.sqlite", make=True)
    project.set_people(2)
    proposals = draw_items(items, items // ITEMS_PER_PICTURE)
    project.add((one, hashlib.sha256(one.image_id.encode()).hexdigest()) for one in proposals)
    project._db.execute("pragma synchronous = off")  # do not time the disk
    with project._transaction():
        for name in ("ann", "ben"):
            for _ in range(items - 2 * DECISIONS):
                decide(project, name)
    return project


def decide(project: Project, name: str) -> None:
    """Accept the next item like the page, which also reads the counts and the item after it."""
    item = project.next_item(name)
    if item is None:
        raise ValueError("expected an open item")
    project.decide(Decision(f"{name}-{item.id}", item.id, name, "accept", None, 1.0))
    project.peek(name, item)
    project.progress(name)
    project.last_decision(name)


def time_steps(folder: Path, items: int) -> Times:
    """Time all steps on a project with this many items."""
    project = make_project(folder, items)
    decisions = [time_cpu(lambda: decide(project, "ann"))[0] for _ in range(DECISIONS)]
    ask, _ = time_cpu(lambda: propose_negatives(project), REPEATS)
    people = itertools.cycle((3, 2))
    other, _ = time_cpu(lambda: project.set_people(next(people)), REPEATS)
    same, _ = time_cpu(lambda: project.set_people(project.people), REPEATS)
    project.close()
    return Times(statistics.median(decisions), ask, other, same)


def measure(setup: Setup) -> Iterator[Measurement]:
    """Yield the growth of each step, and its times."""
    items = setup.choose(5000, 4 * DECISIONS)

    def run(count: int) -> Times:
        with tempfile.TemporaryDirectory() as folder:
            return time_steps(Path(folder), count)

    counts = (items, GROWTH * items)
    few, many = measure_in_turns(counts, min(setup.runs, MAX_RUNS), run).values()
    for field, (step, goal) in STEPS.items():
        before = [getattr(run, field) for run in few]
        after = [getattr(run, field) for run in many]
        figure = f"{counts[1]:,} items / {counts[0]:,} items"
        yield compare(step, figure, after, before, f"{counts[0]:,} items", goal)
        for count, seconds in zip(counts, (before, after), strict=True):
            milliseconds = [1000 * one for one in seconds]
            yield Measurement(step, f"{count:,} items", milliseconds, "ms")

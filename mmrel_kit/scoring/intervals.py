# SPDX-License-Identifier: Apache-2.0
"""Compute 95 % intervals of accuracy, F1 and pair accuracy.

The questions of one picture are not independent, so the bootstrap draws pictures.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from relation_accuracy import Reader, Row, Scores, tally, yes_no_figures

# Draws of the bootstrap; the ends of an interval then move by about 0.2 points on the adversarial
# split.
DRAWS = 1000
SEED = 2406
Z = 1.959963984540054  # 97.5 % of a normal distribution lies below
BOOTSTRAPPED = ("f1", "pair_accuracy")
COMPARED = ("accuracy", "f1", "pair_accuracy")
Interval = list[float]  # [low, high]
Tallies = Mapping[tuple[str, str], Counter[Any]]  # (grouping, name) -> counts
# (label, reply) of every kind of question, in the order in which pictures are sorted.
OUTCOMES = (
    *(("no", reply) for reply in ("no", "yes", "unread", "silent")),
    *(("yes", reply) for reply in ("no", "yes", "unread", "silent")),
    *(("open", reply) for reply in ("incorrect", "correct", "unread", "silent")),
)


def wilson(right: int, n: int) -> Interval | None:
    """Return Wilson's 95 % interval of a share, between 0 and 1; None for n = 0.

    >>> [round(end, 4) for end in wilson(2565, 3000)]
    [0.8419, 0.8671]
    """
    if not n:
        return None
    share, spread = right / n, Z * Z / n
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return [max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))]


def count_by_picture(rows: Iterable[Row]) -> dict[str | None, Tallies]:
    """Return the counts of `relation_accuracy.tally` for each picture."""
    by_picture: dict[str | None, list[Row]] = {}
    for row in rows:
        by_picture.setdefault(row.question.image_id, []).append(row)
    return {image: tally(part) for image, part in by_picture.items()}


def freeze(counts: Counter[Any]) -> tuple[int, ...]:
    """Return counts as a tuple that can be counted and sorted; `sum_counts` adds them up."""
    right = counts["right pairs"]
    replies = (counts[outcome] for outcome in OUTCOMES)
    return (*replies, counts["pairs"] - right, right, counts["paired"])


def sum_counts(drawn: Iterable[tuple[tuple[int, ...], int]]) -> Counter[Any]:
    """Add up frozen counts, each as often as its number says."""
    total = [0] * (len(OUTCOMES) + 3)
    for frozen, number in drawn:
        for place, count in enumerate(frozen):
            if count:
                total[place] += number * count
    *replies, wrong, right, paired = total
    counts: Counter[Any] = Counter(dict(zip(OUTCOMES, replies, strict=True)))
    counts.update({"pairs": wrong + right, "right pairs": right, "paired": paired})
    return counts


def resample(
    clusters: Sequence[Any],
    figures: Callable[[Counter[Any]], Sequence[float | None]],
    seed: int = SEED,
) -> list[Interval | None]:
    """Bootstrap clusters: draw as many as there are, with replacement, DRAWS times.

    Args:
        clusters: what each cluster holds, hashable and sortable; equal ones are counted together.
        figures: makes figures of the clusters drawn (cluster -> how often).
        seed: of the draws; the order of the clusters makes no difference.

    Returns:
        The 2.5 and 97.5 percentiles of each figure over the draws that define it; None with fewer
        than two clusters.
    """
    rng = random.Random(seed)
    ordered = sorted(clusters)
    if len(ordered) < 2:
        return [None] * len(figures(Counter(ordered)))
    drawn = []
    for _ in range(DRAWS):
        chosen = rng.choices(ordered, k=len(ordered))
        drawn.append(figures(Counter(chosen)))
    intervals = []
    for values in zip(*drawn, strict=True):
        defined = sorted(value for value in values if value is not None)
        intervals.append(_middle(defined))
    return intervals


def _middle(values: Sequence[float]) -> Interval | None:
    """Return the 2.5 and 97.5 percentiles of sorted values, between neighbours in proportion."""
    if not values:
        return None
    ends = []
    for share in (0.025, 0.975):
        at = share * (len(values) - 1)
        low, part = int(at), at - int(at)
        ends.append(values[low] + part * (values[min(low + 1, len(values) - 1)] - values[low]))
    return ends


def make_intervals(
    pictures: Mapping[str | None, Counter[Any]], reader: Reader
) -> dict[str, Interval | None]:
    """Return 95 % intervals: Wilson's of accuracy; bootstrapped by picture of the others.

    Wilson's interval does not know of pictures, and is somewhat too narrow where they have many
    questions.

    Args:
        pictures: image_id -> counts of its questions.
        reader: gives the positive class.

    Returns:
        accuracy, f1, pair_accuracy -> [low, high]; None where undefined, or where a picture has no
        name.
    """
    frozen = [freeze(counts) for counts in pictures.values()]

    def figures(drawn: Counter[Any]) -> list[float | None]:
        result = yes_no_figures(sum_counts(drawn.items()), reader)
        return [result[name] for name in BOOTSTRAPPED]

    whole = yes_no_figures(sum_counts(Counter(frozen).items()), reader)
    ends: list[Interval | None] = [None] * len(BOOTSTRAPPED)
    if None not in pictures:  # every picture is named
        ends = resample(frozen, figures)
    accuracy = wilson(whole["tp"] + whole["tn"], whole["n"])
    return {"accuracy": accuracy, **dict(zip(BOOTSTRAPPED, ends, strict=True))}


def all_intervals(scores: Scores) -> dict[str, dict[str, Interval | None]]:
    """Return the intervals of each cell, and under "all" those of everything."""
    pictures = count_by_picture(scores.rows.values())
    cells = {name for tallies in pictures.values() for name in tallies if name[0] == "cell"}
    intervals = {}
    for name in (*sorted(cells), ("all", "all")):
        of_name = {image: tallies[name] for image, tallies in pictures.items() if name in tallies}
        intervals[name[1]] = make_intervals(of_name, scores.reader)
    return intervals

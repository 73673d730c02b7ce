# SPDX-License-Identifier: Apache-2.0
"""Compute 95 % intervals of accuracy, F1 and pair accuracy.

The questions of one picture are not independent, so the bootstrap draws pictures.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from relation_accuracy import (
    LABELS,
    PAIRED,
    WRONG_PAIRS,
    Group,
    Scores,
    is_right,
    is_whole,
    unpacked,
    yes_no_figures,
)

# Draws of the bootstrap; the ends of an interval then move by about 0.2 points on the adversarial
# split.
DRAWS = 1000
SEED = 2406
Z = 1.959963984540054  # 97.5 % of a normal distribution lies below
BOOTSTRAPPED = ("f1", "pair_accuracy")
COMPARED = ("accuracy", "f1", "pair_accuracy")
Interval = list[float]  # [low, high]


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


def picture_tallies(
    scores: Scores, chosen: Callable[[Group], object]
) -> dict[str | None, list[int]]:
    """Count per picture.

    Args:
        scores: the verdicts.
        chosen: which groups count; a pair counts where its yes is.

    Returns:
        image_id -> tally of 15 (see `relation_accuracy.yes_no_figures`); their sum is the tally of
        all that count.
    """
    groups = list(scores.groups)
    counted = [bool(chosen(group)) for group in groups]
    tallies: dict[str | None, list[int]] = {}
    picture_of = {}
    rows = zip(scores.where, scores.images, scores.pairs, scores.codes.values(), strict=True)
    for group, image, pair, code in rows:
        picture_of[groups[group].split, pair] = image
        if counted[group]:
            tallies.setdefault(image, [0] * 15)[code] += 1
    for split, pairs in scores.pair_kinds().items():
        for pair, kind in pairs.items():
            questions = unpacked(kind)
            if is_whole(questions):
                tally = tallies.get(picture_of[split, pair], [0] * 15)
                yes = LABELS["yes"]
                tally[WRONG_PAIRS + is_right(questions)] += any(
                    counted[group] for group, code in questions if yes <= code < yes + 4
                )
                tally[PAIRED] += sum(counted[group] for group, _ in questions)
    return tallies


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
    found = []
    for values in zip(*drawn, strict=True):
        defined = sorted(value for value in values if value is not None)
        found.append(_middle(defined))
    return found


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


def sum_tallies(drawn: Iterable[tuple[Sequence[int], int]]) -> list[int]:
    """Add up tallies, each as often as its number says."""
    total = [0] * 15
    for tally, number in drawn:
        for slot, count in enumerate(tally):
            if count:
                total[slot] += number * count
    return total


def intervals(
    scores: Scores, chosen: Callable[[Group], object] = bool
) -> dict[str, Interval | None]:
    """Return 95 % intervals: Wilson's of accuracy; of F1 and pair accuracy, bootstrapped by picture.

    Wilson's interval does not know of pictures, and is somewhat too narrow where they have many
    questions.

    Args:
        scores: the verdicts.
        chosen: which groups count; all by default.

    Returns:
        accuracy, f1, pair_accuracy -> [low, high]; None where undefined, or where a picture has no
        name.
    """
    tallies = picture_tallies(scores, chosen)
    pictures = [tuple(tally) for image, tally in tallies.items() if image is not None]

    def figures(drawn: Counter[Any]) -> list[float | None]:
        result = yes_no_figures(sum_tallies(drawn.items()), scores.reader)
        return [result[name] for name in BOOTSTRAPPED]

    whole = yes_no_figures(sum_tallies((tally, 1) for tally in tallies.values()), scores.reader)
    found: list[Interval | None] = [None] * len(BOOTSTRAPPED)
    if None not in tallies:  # every picture is named
        found = resample(pictures, figures)
    accuracy = wilson(whole["tp"] + whole["tn"], whole["n"])
    return {"accuracy": accuracy, **dict(zip(BOOTSTRAPPED, found, strict=True))}


def all_intervals(scores: Scores) -> dict[str, dict[str, Interval | None]]:
    """Return the intervals of each cell, and under "all" those of everything."""
    found = {}
    for cell in sorted({group.cell for group in scores.groups if group.cell}):
        of_cell = {group for group in scores.groups if group.cell == cell}
        found[cell] = intervals(scores, of_cell.__contains__)
    found["all"] = intervals(scores)
    return found

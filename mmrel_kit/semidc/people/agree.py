# SPDX-License-Identifier: Apache-2.0
"""Measure how far annotators agree, how long they take, and how often the model was right."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mmrel_kit.files import format_table
from mmrel_kit.scoring.intervals import wilson
from mmrel_kit.semidc.people.ask import read_verified
from mmrel_kit.semidc.people.store import Decision, Project

Labels = dict[str, str]  # of one item: annotator -> label


class Precision(NamedTuple):
    """Share of the settled proposals that people accepted, with its 95 % Wilson interval."""

    accepted: int
    settled: int
    low: float
    high: float


def raw_agreement(units: Iterable[Mapping[str, str]]) -> float | None:
    """Return the share of pairs of annotators who agree, over all items; None without pairs.

    >>> raw_agreement([{"ann": "accept", "ben": "accept"}, {"ann": "accept", "ben": "reject"}])
    0.5
    """
    agreeing = total = 0
    for unit in units:
        for first, second in itertools.combinations(unit.values(), 2):
            total += 1
            agreeing += first == second
    return agreeing / total if total else None


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of two annotators' labels of the same items; None if undefined.

    >>> cohen_kappa([("a", "a"), ("a", "b"), ("b", "b"), ("b", "b")])
    0.5
    """
    if not pairs:
        return None
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / len(pairs)
    by_chance = sum(count * second[label] for label, count in first.items()) / len(pairs) ** 2
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else None


def krippendorff_alpha(units: Iterable[Mapping[str, str]]) -> float | None:
    """Return Krippendorff's alpha of nominal labels, with gaps allowed; None if undefined.

    >>> krippendorff_alpha([{"ann": "a", "ben": "a"}, {"ann": "b", "ben": "b", "cy": "b"}])
    1.0
    """
    labels: Counter[str] = Counter()
    disagreements = 0.0
    for unit in units:
        if len(unit) < 2:
            continue
        counts = Counter(unit.values())
        labels += counts
        ordered_pairs = len(unit) ** 2 - sum(n * n for n in counts.values())
        disagreements += ordered_pairs / (len(unit) - 1)
    total = labels.total()
    by_chance = total**2 - sum(n * n for n in labels.values())
    return 1 - (total - 1) * disagreements / by_chance if by_chance else None


def read_labels(decisions: Iterable[Decision]) -> dict[int, Labels]:
    """Return each annotator's label of each item.

    Skips are left out, and so are adjudications, which are made in view of other decisions.
    """
    units: dict[int, Labels] = defaultdict(dict)
    for decision in decisions:
        if decision.verdict == "skip" or decision.adjudicates:
            continue
        label = decision.verdict
        if decision.triplet:
            label = f"{label}: {' '.join(decision.triplet)}"
        units[decision.item][decision.annotator] = label
    return dict(units)


def measure_precision(project: Project) -> dict[str, Precision]:
    """Return the precision of the model's proposals by category."""
    accepted, settled = Counter[str](), Counter[str]()
    for verified in read_verified(project):
        item = verified.item
        if item.origin != "negative":
            settled[item.category] += 1
            accepted[item.category] += verified.truth == item.triplet
    precisions = {}
    for category in sorted(settled):
        interval = wilson(accepted[category], settled[category])
        if interval:
            precisions[category] = Precision(accepted[category], settled[category], *interval)
    return precisions


def make_report(project: Project) -> str:
    """Return the report as text: progress, and tables by category, annotator, pair and model."""
    decisions = list(project.decisions())
    units = read_labels(decisions)
    categories = {item.id: item.category for item in project.items()}
    progress = project.progress("")
    left = progress.items - progress.settled - progress.disputed
    summary = (
        f"{progress.items} items: {progress.settled} settled, {progress.disputed} disputed, "
        f"{left} open; {project.people} people each"
    )
    people = ("annotator", "decisions", "accept", "correct", "reject", "skip", "raw", "s/item")
    model = ("model's proposals", "accepted", "settled", "precision", "95 % interval")
    blocks = [
        summary,
        _make_table(("category", "items", "raw", "alpha"), _category_rows(units, categories)),
        _make_table(people, _people_rows(decisions, units)),
        _make_table(("pair", "items", "raw", "kappa"), _pair_rows(units)),
        _make_table(model, _precision_rows(project)),
    ]
    return "\n\n".join(blocks)


def _category_rows(
    units: Mapping[int, Labels], categories: Mapping[int, str]
) -> list[Sequence[str]]:
    by_category: dict[str, list[Labels]] = defaultdict(list)
    for item, unit in units.items():
        if len(unit) > 1:
            by_category[categories[item]].append(unit)
    rows = [_make_category_row(name, shared) for name, shared in sorted(by_category.items())]
    if rows:
        rows.append(_make_category_row("all", list(itertools.chain(*by_category.values()))))
    return rows


def _make_category_row(name: str, units: Sequence[Labels]) -> Sequence[str]:
    raw, alpha = raw_agreement(units), krippendorff_alpha(units)
    return (name, str(len(units)), _format_share(raw), _format_share(alpha))


def _people_rows(decisions: Sequence[Decision], units: Mapping[int, Labels]) -> list[Sequence[str]]:
    by_annotator: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        by_annotator[decision.annotator].append(decision)
    rows: list[Sequence[str]] = []
    for name, own in sorted(by_annotator.items()):
        verdicts = Counter(decision.verdict for decision in own)
        counts = [str(verdicts[verdict]) for verdict in ("accept", "correct", "reject", "skip")]
        raw = _format_share(raw_agreement(_pair_with_others(name, units)))
        seconds = [decision.seconds for decision in own if decision.seconds is not None]
        median = f"{statistics.median(seconds):.1f}" if seconds else "—"
        rows.append((name, str(len(own)), *counts, raw, median))
    return rows


def _pair_with_others(name: str, units: Mapping[int, Labels]) -> Iterator[Labels]:
    """Yield an annotator's label together with that of each other annotator of the item."""
    for unit in units.values():
        if name not in unit:
            continue
        for other, label in unit.items():
            if other != name:
                yield {name: unit[name], other: label}


def _pair_rows(units: Mapping[int, Labels]) -> list[Sequence[str]]:
    by_pair: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for unit in units.values():
        for first, second in itertools.combinations(sorted(unit), 2):
            by_pair[first, second].append((unit[first], unit[second]))
    rows: list[Sequence[str]] = []
    for names, labels in sorted(by_pair.items()):
        raw = sum(first == second for first, second in labels) / len(labels)
        kappa = _format_share(cohen_kappa(labels))
        rows.append((" / ".join(names), str(len(labels)), _format_share(raw), kappa))
    return rows


def _precision_rows(project: Project) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for name, precision in measure_precision(project).items():
        accepted, settled, low, high = precision
        interval = f"{_format_share(low)} – {_format_share(high)}"
        share = _format_share(accepted / settled)
        rows.append((name, str(accepted), str(settled), share, interval))
    return rows


def _format_share(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _make_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; without rows, one with the row "none yet"."""
    if not rows:
        rows = [("none yet", *[""] * (len(heads) - 1))]
    return format_table([heads, *rows])

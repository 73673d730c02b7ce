# SPDX-License-Identifier: Apache-2.0
"""How far people agree, how long they take, and how often the model was right."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from mmrel_kit.files import format_table
from mmrel_kit.scoring.intervals import wilson
from mmrel_kit.semidc.people.ask import read_verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mmrel_kit.semidc.people.store import Decision, Project

Labels = dict[str, str]  # of one item: what each annotator said


class Precision(NamedTuple):
    """Proposals that people accepted, of those settled, with the 95 % interval of the share (Wilson)."""

    accepted: int
    settled: int
    low: float
    high: float


def raw_agreement(units: Iterable[Mapping[str, str]]) -> float | None:
    """Share of pairs of annotators who said the same, over all items; null where no two judged the same item.

    >>> raw_agreement([{"ann": "accept", "ben": "accept"}, {"ann": "accept", "ben": "reject"}])
    0.5
    """
    pairs = [pair for unit in units for pair in itertools.combinations(unit.values(), 2)]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two annotators who judged the same items; null where it is undefined.

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
    """Krippendorff's alpha for nominal labels, any number of annotators, gaps allowed; null where it is undefined.

    >>> krippendorff_alpha([{"ann": "a", "ben": "a"}, {"ann": "b", "ben": "b", "cy": "b"}])
    1.0
    """
    labels: Counter[str] = Counter()
    disagreements = 0.0
    for unit in units:
        if (judges := len(unit)) > 1:
            said = Counter(unit.values())
            labels += said
            disagreements += (judges**2 - sum(n * n for n in said.values())) / (judges - 1)
    total = labels.total()
    by_chance = total**2 - sum(n * n for n in labels.values())
    return 1 - (total - 1) * disagreements / by_chance if by_chance else None


def read_labels(decisions: Iterable[Decision]) -> dict[int, Labels]:
    """What each annotator said of each item; neither skips nor what settled a disagreement, which saw the others."""
    units: dict[int, Labels] = defaultdict(dict)
    for decision in decisions:
        if decision.verdict != "skip" and not decision.adjudicates:
            correction = f": {' '.join(decision.triplet)}" if decision.triplet else ""
            units[decision.item][decision.annotator] = decision.verdict + correction
    return dict(units)


def measure_precision(project: Project) -> dict[str, Precision]:
    """By category: how many of the model's proposals people accepted, among those that are settled."""
    counts: dict[str, Counter[bool]] = defaultdict(Counter)
    for verified in read_verified(project):
        if verified.item.origin != "negative":
            counts[verified.item.category][verified.truth == verified.item.triplet] += 1
    found = {}
    for category, count in sorted(counts.items()):
        accepted, settled = count[True], count.total()
        if interval := wilson(accepted, settled):
            found[category] = Precision(accepted, settled, *interval)
    return found


def make_report(project: Project) -> str:
    """The whole report as text."""
    decisions = list(project.decisions())
    units = read_labels(decisions)
    categories = {item.id: item.category for item in project.items()}
    progress = project.progress("")
    states = f"{progress.items} items: {progress.settled} settled, {progress.disputed} disputed"
    waiting = progress.items - progress.settled - progress.disputed
    heads = ("annotator", "decisions", "accept", "correct", "reject", "skip", "raw", "s/item")
    model = ("model's proposals", "accepted", "settled", "precision", "95 % interval")
    blocks = [
        f"{states}, {waiting} open; {project.people} people each",
        _make_table(("category", "items", "raw", "alpha"), _category_rows(units, categories)),
        _make_table(heads, _people_rows(decisions)),
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
            by_category["all"].append(unit)
    names = sorted(by_category, key=lambda name: (name == "all", name))
    return [
        (name, str(len(found)), _shown(raw_agreement(found)), _shown(krippendorff_alpha(found)))
        for name in names
        if (found := by_category[name])
    ]


def _people_rows(decisions: Sequence[Decision]) -> list[Sequence[str]]:
    units = read_labels(decisions)
    rows: list[Sequence[str]] = []
    for name in sorted({decision.annotator for decision in decisions}):
        own = [decision for decision in decisions if decision.annotator == name]
        verdicts = Counter(decision.verdict for decision in own)
        shared = [{name: unit[name], other: said} for unit in units.values() if name in unit
                  for other, said in unit.items() if other != name]  # fmt: skip
        seconds = [decision.seconds for decision in own if decision.seconds is not None]
        counts = [str(verdicts[verdict]) for verdict in ("accept", "correct", "reject", "skip")]
        median = f"{statistics.median(seconds):.1f}" if seconds else "—"
        rows.append((name, str(len(own)), *counts, _shown(raw_agreement(shared)), median))
    return rows


def _pair_rows(units: Mapping[int, Labels]) -> list[Sequence[str]]:
    by_pair: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for unit in units.values():
        for first, second in itertools.combinations(sorted(unit), 2):
            by_pair[first, second].append((unit[first], unit[second]))
    return [
        (
            " / ".join(names),
            str(len(said)),
            _shown(sum(a == b for a, b in said) / len(said)),
            _shown(cohen_kappa(said)),
        )
        for names, said in sorted(by_pair.items())
    ]


def _precision_rows(project: Project) -> list[Sequence[str]]:
    return [
        (
            name,
            str(p.accepted),
            str(p.settled),
            _shown(p.accepted / p.settled),
            f"{_shown(p.low)} – {_shown(p.high)}",
        )
        for name, p in measure_precision(project).items()
    ]


def _shown(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _make_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; without rows, one that says so."""
    if not rows:
        rows = [("none yet", *[""] * (len(heads) - 1))]
    return format_table([heads, *rows])

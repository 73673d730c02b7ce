# SPDX-License-Identifier: Apache-2.0
"""The numbers of questions that MMRel's paper gives, beside those of a release."""

from __future__ import annotations

from typing import NamedTuple

import mmrel

# Thousands, as printed. Versions 2 and 3 of the paper: whole benchmark, by task, domain and category.
WHOLE = {
    "discriminative": {
        "real": {"spatial": 4.86, "action": 4.62, "comparative": 0.66},
        "sdxl": {"spatial": 1.75, "comparative": 0.65},
        "dalle": {"spatial": 1.20, "action": 1.18},
    },
    "generative": {
        "real": {"spatial": 2.43, "action": 2.35, "comparative": 0.32},
        "sdxl": {"spatial": 0.87, "comparative": 0.33},
        "dalle": {"spatial": 0.61, "action": 0.62},
    },
}
# Version 1: the splits for fine-tuning; of adversarial it gives sums over categories alone.
SPLITS = {
    "train": {
        "real": {"spatial": 3.70, "action": 3.62, "comparative": 0.59},
        "sdxl": {"spatial": 1.43, "comparative": 0.45},
        "dalle": {"spatial": 0.80, "action": 0.79},
    },
    "test": {
        "real": {"spatial": 1.52, "action": 1.01, "comparative": 0.07},
        "sdxl": {"spatial": 0.32, "comparative": 0.20},
        "dalle": {"spatial": 0.40, "action": 0.39},
    },
    "adversarial": {"real": {"": 0.43}, "sdxl": {"": 0.18}, "dalle": {"": 0.10}},
}


class Cell(NamedTuple):
    """Questions that are counted together; a split of null is all of them."""

    split: str | None
    domain: str
    category: str
    task: str


class Line(NamedTuple):
    """A number of the paper, in thousands as printed, and the one counted here."""

    name: str
    paper: float
    here: int

    @property
    def difference(self) -> int:
        """Questions here beyond the paper's, which is rounded to tens."""
        return self.here - round(self.paper * 1000)


class Comparison(NamedTuple):
    """One of the paper's tables beside the counts."""

    title: str
    lines: list[Line]


def compare_with_paper(counts: dict[Cell, int]) -> list[Comparison]:
    """The paper's two tables beside a release's counts."""
    whole, splits = [], []
    for task, domains in WHOLE.items():
        for domain, category, paper in _flatten(domains):
            whole.append(Line(f"{task} {domain} {category}", paper, counts.get(Cell(None, domain, category, task), 0)))
    for split, domains in SPLITS.items():
        for domain, category, paper in _flatten(domains):
            here = sum(
                number
                for cell, number in counts.items()
                if cell[:2] == (split, domain) and cell.task == mmrel.TASKS[0] and category in ("", cell.category)
            )
            splits.append(Line(f"{split} {domain} {category or 'all categories'}", paper, here))
    return [
        Comparison("The whole benchmark (paper, versions 2 and 3; a question of two splits counts once)", whole),
        Comparison("Splits for fine-tuning (paper, version 1), yes/no questions", splits),
    ]


def _flatten(domains: dict[str, dict[str, float]]) -> list[tuple[str, str, float]]:
    return [(domain, category, paper) for domain, cells in domains.items() for category, paper in cells.items()]

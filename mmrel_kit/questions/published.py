# SPDX-License-Identifier: Apache-2.0
"""Read the numbers of MMRel's paper, and compare its counts of questions with a release."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import mmrel
from mmrel_kit.files import SCHEMA_FOLDER, parse_json


class PublishedFigures(NamedTuple):
    """The numbers that MMRel's paper prints.

    Attributes:
        whole: thousands of questions by task, domain and category (versions 2 and 3).
        sums: thousands of questions by task and domain, or "all", each rounded on its own.
        splits: thousands of yes/no questions by split, domain and category (version 1); the
            category "" stands for all.
        scores: percent by model and cell ("real/spatial"): accuracy, precision, recall and F1 of
            all yes/no questions.
        notes: what to know about the scores.
    """

    whole: dict[str, dict[str, dict[str, float]]]
    sums: dict[str, dict[str, float]]
    splits: dict[str, dict[str, dict[str, float]]]
    scores: dict[str, dict[str, list[float]]]
    notes: tuple[str, ...]


@functools.cache
def read_published() -> PublishedFigures:
    """Return the numbers of schema/published.json."""
    stated = parse_json((SCHEMA_FOLDER / "published.json").read_text("utf-8"))
    questions, scores = stated["questions"], stated["scores"]
    return PublishedFigures(
        whole=questions["whole"]["counts"],
        sums=questions["whole"]["sums"],
        splits=questions["splits"]["counts"],
        scores=scores["models"],
        notes=tuple(scores["notes"]),
    )


class Cell(NamedTuple):
    """Questions that are counted together; a split of None is all of them."""

    split: str | None
    domain: str
    category: str
    task: str


class CountRow(NamedTuple):
    """A number of the paper, in thousands as printed, and the one counted here."""

    name: str
    published: float
    here: int

    @property
    def difference(self) -> int:
        """Questions here beyond the paper's, which is rounded to tens."""
        return self.here - round(self.published * 1000)


class Comparison(NamedTuple):
    """One of the paper's tables beside the counts."""

    title: str
    rows: list[CountRow]


def compare_with_published(counts: dict[Cell, int]) -> list[Comparison]:
    """Return the paper's two tables beside a release's counts."""
    paper = read_published()
    whole, splits = [], []
    for task, domains in paper.whole.items():
        for domain, category, printed in _flatten(domains):
            here = counts.get(Cell(None, domain, category, task), 0)
            whole.append(CountRow(f"{task} {domain} {category}", printed, here))
    for split, domains in paper.splits.items():
        for domain, category, printed in _flatten(domains):
            here = _count_yes_no(counts, split, domain, category)
            name = f"{split} {domain} {category or 'all categories'}"
            splits.append(CountRow(name, printed, here))
    once = "a question of two splits counts once"
    return [
        Comparison(f"The whole benchmark (paper, versions 2 and 3; {once})", whole),
        Comparison("Splits for fine-tuning (paper, version 1), yes/no questions", splits),
    ]


def _count_yes_no(counts: dict[Cell, int], split: str, domain: str, category: str) -> int:
    """Return the number of yes/no questions of a category, or of all where it is ""."""
    number = 0
    for cell, count in counts.items():
        is_here = (cell.split, cell.domain, cell.task) == (split, domain, mmrel.TASKS[0])
        if is_here and category in ("", cell.category):
            number += count
    return number


def _flatten(domains: dict[str, dict[str, float]]) -> Iterator[tuple[str, str, float]]:
    """Yield domain, category and the number of each."""
    for domain, categories in domains.items():
        for category, printed in categories.items():
            yield domain, category, printed

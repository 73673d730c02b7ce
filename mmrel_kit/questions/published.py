# SPDX-License-Identifier: Apache-2.0
"""Read the figures that MMRel's paper published, and compare its counts with a release."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import mmrel
from mmrel_kit.files import SCHEMA_FOLDER, parse_json


class PublishedFigures(NamedTuple):
    """The figures of MMRel's paper.

    Attributes:
        whole: thousands of questions by task, domain and category (versions 2 and 3).
        sums: thousands of questions by task and domain, or "all", each rounded by itself.
        splits: thousands of yes/no questions by split, domain and category (version 1); the
            category "" is all categories.
        scores: percent by model and cell ("real/spatial"): accuracy, precision, recall and F1 of
            all yes/no questions.
    """

    whole: dict[str, dict[str, dict[str, float]]]
    sums: dict[str, dict[str, float]]
    splits: dict[str, dict[str, dict[str, float]]]
    scores: dict[str, dict[str, list[float]]]
    notes: tuple[str, ...]


@functools.cache
def read_published() -> PublishedFigures:
    """Return the figures of schema/published.json."""
    figures = parse_json((SCHEMA_FOLDER / "published.json").read_text("utf-8"))
    questions, scores = figures["questions"], figures["scores"]
    return PublishedFigures(
        whole=questions["whole"]["counts"],
        sums=questions["whole"]["sums"],
        splits=questions["splits"]["counts"],
        scores=scores["models"],
        notes=tuple(scores["notes"]),
    )


class Cell(NamedTuple):
    """Questions that are counted together; a split of None is all splits."""

    split: str | None
    domain: str
    category: str
    task: str


class CountRow(NamedTuple):
    """The questions of a cell: published, in thousands, and counted in a release (`here`)."""

    name: str
    published: float
    here: int

    @property
    def difference(self) -> int:
        """Questions here minus those published, which are rounded to tens."""
        return self.here - round(self.published * 1000)


class Comparison(NamedTuple):
    """One of the paper's tables of counts, beside those of a release."""

    title: str
    rows: list[CountRow]


def compare_with_published(counts: dict[Cell, int]) -> list[Comparison]:
    """Return the paper's two tables of counts beside those of a release."""
    figures = read_published()
    whole, splits = [], []
    for task, domains in figures.whole.items():
        for domain, category, published in _flatten(domains):
            here = counts.get(Cell(None, domain, category, task), 0)
            whole.append(CountRow(f"{task} {domain} {category}", published, here))
    for split, domains in figures.splits.items():
        for domain, category, published in _flatten(domains):
            here = _count_yes_no(counts, split, domain, category)
            name = f"{split} {domain} {category or 'all categories'}"
            splits.append(CountRow(name, published, here))
    once = "a question of two splits counts once"
    return [
        Comparison(f"The whole benchmark (paper, versions 2 and 3; {once})", whole),
        Comparison("Splits for fine-tuning (paper, version 1), yes/no questions", splits),
    ]


def _count_yes_no(counts: dict[Cell, int], split: str, domain: str, category: str) -> int:
    """Return the number of yes/no questions of a category, or of all where it is ""."""
    number = 0
    for cell, count in counts.items():
        is_counted = (cell.split, cell.domain, cell.task) == (split, domain, mmrel.TASKS[0])
        if is_counted and category in ("", cell.category):
            number += count
    return number


def _flatten(domains: dict[str, dict[str, float]]) -> Iterator[tuple[str, str, float]]:
    """Yield domain, category and number."""
    for domain, categories in domains.items():
        for category, number in categories.items():
            yield domain, category, number

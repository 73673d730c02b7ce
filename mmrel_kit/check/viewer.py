# SPDX-License-Identifier: Apache-2.0
"""Predict the columns for which the Hub's dataset viewer cannot compute its statistics.

The viewer draws a histogram of the lengths of each text column and of the widths of each image
column, for every split of every config. Its bins are wrong where the longest value is exactly one
longer than the shortest, and the error takes the statistics of the whole split with it. Text
columns of few distinct values are drawn as labels, by their values, and never fail
(huggingface/dataset-viewer, `libcommon.statistics_utils`, as of August 2026).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from mmrel_kit.build.hub_eval import read_texts
from mmrel_kit.card.hub_eval import CONFIG
from mmrel_kit.files import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mmrel_kit.questions.records import Record

# A text column is a label with at most ALWAYS_LABELS distinct values (null is one), or with at most
# MAX_LABELS that are also at most this share of the rows.
ALWAYS_LABELS = 10
MAX_LABELS = 1000
MAX_LABEL_SHARE = 0.2
MAX_ROW = 2000  # characters of a row's text, up to which the viewer shows all of the first hundred
ALL = "all"  # the config that holds the rows of every domain


class HistogramFailure(NamedTuple):
    """A column whose values differ in length, or width, by exactly one."""

    config: str
    split: str
    column: str
    unit: str  # characters, or pixels
    least: int
    most: int

    def __str__(self) -> str:
        return (
            f"column {self.column}: values of {self.least} and {self.most} {self.unit}; the Hub's "
            "viewer shows no statistics of a split where they differ by exactly 1; give all of "
            "them one length"
        )


@dataclasses.dataclass
class _Column:
    """What decides on the histogram of a column.

    Attributes:
        unit: of the lengths.
        rows: how many there are.
        least: the least length, None before there is one.
        most: the greatest length.
        values: distinct values of text, up to one more than `MAX_LABELS`.
    """

    unit: str
    rows: int = 0
    least: int | None = None
    most: int | None = None
    values: set[str | None] = dataclasses.field(default_factory=set)

    def add(self, length: int | None) -> None:
        """Count a row; the length is None where the row has no value."""
        self.rows += 1
        self._stretch(length)

    def add_value(self, value: str | None) -> None:
        """Remember a distinct value, as long as the column may still be a label."""
        if len(self.values) <= MAX_LABELS:
            self.values.add(value)

    def merge(self, other: _Column) -> None:
        """Add the rows of another column."""
        self.rows += other.rows
        self.values |= other.values
        self._stretch(other.least)
        self._stretch(other.most)

    def is_label(self) -> bool:
        """Return whether the viewer draws the values themselves; never true for pictures."""
        if not self.values:
            return False
        distinct = len(self.values)
        if distinct <= ALWAYS_LABELS:
            return True
        return distinct <= MAX_LABELS and distinct / self.rows <= MAX_LABEL_SHARE

    def _stretch(self, length: int | None) -> None:
        if length is None:
            return
        if self.least is None or length < self.least:
            self.least = length
        if self.most is None or length > self.most:
            self.most = length


class ViewerStatistics:
    """Collects lengths of text and widths of pictures by config, split and column.

    Attributes:
        longest_row: characters of the longest row.
    """

    def __init__(self) -> None:
        self.longest_row = 0
        self._columns: dict[tuple[str, str, str], _Column] = {}

    def add_row(self, config: str, split: str, record: Record) -> None:
        """Add the texts of a question."""
        texts = {column: getattr(record, column) for column in mmrel.COLUMNS}
        for column, text in texts.items():
            self.add_text(config, split, column, text)
        length = sum(len(text) for text in texts.values() if text is not None)
        self.longest_row = max(self.longest_row, length)

    def add_text(self, config: str, split: str, column: str, value: str | None) -> None:
        """Add a row's text."""
        found = self._find(config, split, column, "characters")
        found.add(None if value is None else len(value))
        found.add_value(value)

    def add_width(self, config: str, split: str, column: str, width: int) -> None:
        """Add the width of a row's picture, in pixels."""
        self._find(config, split, column, "pixels").add(width)

    def unite(self, configs: tuple[str, ...]) -> None:
        """Add the config `all`, which holds the rows of some configs."""
        for (config, split, column), found in list(self._columns.items()):
            if config in configs:
                self._find(ALL, split, column, found.unit).merge(found)

    def find_failures(self) -> Iterator[HistogramFailure]:
        """Yield the columns that break the statistics of their split."""
        for (config, split, column), found in sorted(self._columns.items()):
            if found.least is None or found.most is None or found.is_label():
                continue
            if found.most - found.least == 1:
                yield HistogramFailure(config, split, column, found.unit, found.least, found.most)

    def _find(self, config: str, split: str, column: str, unit: str) -> _Column:
        key = (config, split, column)
        found = self._columns.get(key)
        if found is None:
            found = self._columns[key] = _Column(unit)
        return found


def check_values(root: Path, statistics: ViewerStatistics) -> Iterator[Problem]:
    """Warn of what the viewer's statistics and preview cannot show.

    Args:
        root: folder of the release.
        statistics: of the rows of all domains; the other configs are added.
    """
    statistics.unite(mmrel.DOMAINS)
    for split, column, text in read_texts(root):
        statistics.add_text(CONFIG, split, column, text)
    for failure in statistics.find_failures():
        where = f"config {failure.config}, split {failure.split}"
        yield Problem(where, str(failure), is_warning=True)
    if statistics.longest_row > MAX_ROW:
        message = f"a row has {statistics.longest_row} characters"
        message += f"; from {MAX_ROW} on the viewer shows fewer rows"
        yield Problem("data", message, is_warning=True)

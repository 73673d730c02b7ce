# SPDX-License-Identifier: Apache-2.0
"""Predict for which columns the Hub's dataset viewer fails to compute statistics.

The viewer draws a histogram of the lengths of each text column and of the widths of each image
column, for every split of every config. If the longest value is exactly one longer than the
shortest, its bins are wrong, and it shows no statistics of the whole split. Text columns with few
distinct values are drawn as labels, by value, and never fail (huggingface/dataset-viewer,
`libcommon.statistics_utils`, as of August 2026).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mmrel
from mmrel_kit.build.hub_eval import read_texts
from mmrel_kit.card.hub_eval import CONFIG
from mmrel_kit.files import Problem
from mmrel_kit.questions.records import Record

# A text column is drawn as labels if it has at most ALWAYS_LABELS distinct values (null is one), or
# at most MAX_LABELS that are at most MAX_LABEL_SHARE of the rows.
ALWAYS_LABELS = 10
MAX_LABELS = 1000
MAX_LABEL_SHARE = 0.2
MAX_ROW = 2000  # characters; with longer rows the viewer shows fewer than the first hundred
ALL = "all"  # the config with the rows of all domains


class HistogramFailure(NamedTuple):
    """A column whose values differ in length or width by exactly one.

    Attributes:
        unit: `characters` or `pixels`.
    """

    config: str
    split: str
    column: str
    unit: str
    least: int
    most: int

    def __str__(self) -> str:
        return (
            f"column {self.column}: values of {self.least} and {self.most} {self.unit}; the Hub's "
            "viewer shows no statistics of a split whose values differ by exactly 1; give all "
            "values the same length"
        )


@dataclasses.dataclass
class _Column:
    """The values that decide whether the histogram of a column fails.

    Attributes:
        unit: `characters` or `pixels`.
        least: the smallest length; None while there is none.
        most: the largest length; None while there is none.
        values: distinct texts, at most `MAX_LABELS` + 1; empty for pictures.
    """

    unit: str
    rows: int = 0
    least: int | None = None
    most: int | None = None
    values: set[str | None] = dataclasses.field(default_factory=set)

    def add(self, length: int | None) -> None:
        """Count a row; its length is None if it has no value."""
        self.rows += 1
        self._stretch(length)

    def add_value(self, value: str | None) -> None:
        """Add a distinct value, while the column can still be drawn as labels."""
        if len(self.values) <= MAX_LABELS:
            self.values.add(value)

    def merge(self, other: _Column) -> None:
        """Add the rows of another column."""
        self.rows += other.rows
        if len(self.values) <= MAX_LABELS:
            self.values |= other.values
        self._stretch(other.least)
        self._stretch(other.most)

    def is_label(self) -> bool:
        """Return whether the viewer draws the values as labels; never true for pictures."""
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
    """Collects lengths of texts and widths of pictures by config, split and column.

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
        """Add one text of a row."""
        lengths = self._get_column(config, split, column, "characters")
        lengths.add(None if value is None else len(value))
        lengths.add_value(value)

    def add_width(self, config: str, split: str, column: str, width: int) -> None:
        """Add the width of the picture of a row, in pixels."""
        self._get_column(config, split, column, "pixels").add(width)

    def merge(self, other: ViewerStatistics) -> None:
        """Add the rows of another part of the release."""
        self.longest_row = max(self.longest_row, other.longest_row)
        for key, lengths in other._columns.items():
            self._get_column(*key, lengths.unit).merge(lengths)

    def add_config_all(self) -> None:
        """Add the config `all`, which has the rows of all domains."""
        for (config, split, column), lengths in list(self._columns.items()):
            if config in mmrel.DOMAINS:
                self._get_column(ALL, split, column, lengths.unit).merge(lengths)

    def find_failures(self) -> Iterator[HistogramFailure]:
        """Yield the columns that break the statistics of their split."""
        for (config, split, column), lengths in sorted(self._columns.items()):
            least, most = lengths.least, lengths.most
            if least is None or most is None or lengths.is_label():
                continue
            if most - least == 1:
                yield HistogramFailure(config, split, column, lengths.unit, least, most)

    def _get_column(self, config: str, split: str, column: str, unit: str) -> _Column:
        key = (config, split, column)
        if key not in self._columns:
            self._columns[key] = _Column(unit)
        return self._columns[key]


def check_values(root: Path, statistics: ViewerStatistics) -> Iterator[Problem]:
    """Warn about what the viewer's statistics and preview cannot show.

    The configs `all` and `hub_eval` are added to `statistics`, which has the rows of all domains.
    """
    statistics.add_config_all()
    for split, column, text in read_texts(root):
        statistics.add_text(CONFIG, split, column, text)
    for failure in statistics.find_failures():
        where = f"config {failure.config}, split {failure.split}"
        yield Problem(where, str(failure), is_warning=True)
    if statistics.longest_row > MAX_ROW:
        message = (
            f"a row has {statistics.longest_row} characters; "
            f"if one has more than {MAX_ROW}, the viewer shows fewer rows"
        )
        yield Problem("data", message, is_warning=True)

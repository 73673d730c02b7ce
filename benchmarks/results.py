# SPDX-License-Identifier: Apache-2.0
"""Measurements, their goals, and the file that keeps them: results.json.

The file has a section for each benchmark: how it was measured, its measurements, and notes for the
page. A benchmark that is measured again replaces its own section only.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.files import make_json, write_bytes

FOLDER = Path(__file__).resolve().parent
DIGITS = 5  # significant digits that are kept


class Measurement(NamedTuple):
    """A figure that was measured.

    Attributes:
        case: what was measured, such as a reader or a command.
        figure: what the values are.
        values: the value of each run.
        unit: unit of the values; empty for ratios and counts.
        peer: for a ratio, what the case was compared with.
        goal: "at least 2" or "at most 0.6", for the median; empty if there is none.
    """

    case: str
    figure: str
    values: list[float]
    unit: str = ""
    peer: str = ""
    goal: str = ""

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the median meets the goal."""
        kind, _, limit = self.goal.rpartition(" ")
        return self.median >= float(limit) if kind == "at least" else self.median <= float(limit)


def compare(
    case: str,
    figure: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    peer: str,
    goal: str = "",
) -> Measurement:
    """Return the ratios of paired runs."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Measurement(case, figure, ratios, peer=peer, goal=goal)


def make_section(described: dict[str, Any], measured: Iterable[Measurement | str]) -> Any:
    """Return a section from what a benchmark yields: measurements, and notes for the page."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for one in measured:
        if isinstance(one, str):
            notes.append(one)
            continue
        # Fields that are empty are left out.
        row = {name: value for name, value in one._asdict().items() if value}
        rows.append({**row, "values": [_round(value) for value in one.values]})
    return {"measured": described, "rows": rows, "notes": notes}


def _round(value: float) -> float:
    """Keep a few significant digits; whole numbers become integers."""
    if value and math.isfinite(value):
        value = round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return int(value) if value == int(value) else value


def read_rows(section: dict[str, Any]) -> list[Measurement]:
    """Return the measurements of a section."""
    return [Measurement(**row) for row in section["rows"]]


def read_results(path: Path) -> dict[str, Any]:
    """Return the sections by benchmark; there are none if there is no file."""
    if not path.exists():
        return {}
    results: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return results


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write all sections; the measurements of a case share a line."""
    sections = []
    for name, section in results.items():
        cases = itertools.groupby(section["rows"], key=lambda row: row["case"])
        rows = ",\n  ".join(make_json(list(case))[1:-1] for _, case in cases)
        described = f'"measured": {make_json(section["measured"])}'
        notes = f'"notes": {make_json(section["notes"])}'
        sections.append(f' "{name}": {{\n{described},\n{notes},\n"rows": [\n  {rows}\n ]}}')
    write_bytes(path, ("{\n" + ",\n".join(sections) + "\n}\n").encode())


def find_median(results: dict[str, Any], benchmark: str, case: str, figure: str) -> float:
    """Return the median of a measurement.

    Raises:
        SystemExit: it was not measured.
    """
    for row in read_rows(results[benchmark]) if benchmark in results else ():
        if (row.case, row.figure) == (case, figure):
            return row.median
    raise SystemExit(f"expected {figure} of {case!r} in results.json; run {benchmark} first")

# SPDX-License-Identifier: Apache-2.0
"""Format reports as text: the header, the tables of figures, intervals and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrel_kit.files import format_table
from mmrel_kit.questions.published import read_published
from mmrel_kit.scoring.intervals import COMPARED, Interval
from relation_accuracy import GROUPINGS

_YES_NO = {
    "n": "n",
    "acc": "accuracy",
    "prec": "precision",
    "rec": "recall",
    "F1": "f1",
    "pair acc": "pair_accuracy",
    "pairs": "pairs",
    "yes": "yes_ratio",
    "no answer": "no_answer_share",
}
_OPEN = {
    "n": "n",
    "acc": "accuracy",
    "correct": "correct",
    "incorrect": "incorrect",
    "no answer": "no_answer_share",
}


def shown(value: float | None) -> str:
    """Show a count as it is, a ratio in percent, and an em dash for what is undefined.

    >>> shown(3000), shown(0.855), shown(None)
    ('3000', '85.50', '—')
    """
    if value is None:
        return "—"
    return str(value) if isinstance(value, int) else f"{100 * value:.2f}"


def heading(result: Mapping[str, Any]) -> str:
    """Format the header of a report: release, model, reader, coverage, notes."""
    lines = []
    release, coverage = result["release"], result["coverage"]
    if release:
        where = f"config {release['config']}, split {release['split']}"
        named = f"{release['name']} {release['version']}"
        lines.append(f"{named}, checksums.json {release['sha256'][:16]}, {where}")
        if release["note"]:
            lines.append(release["note"])
    lines += [f"{key}: {value}" for key, value in result["run"].items() if value]
    how = []
    if result["n"]:
        how.append(f"reader {result['reader']['name']} {result['reader']['version']}")
    if result["open_ended"]:
        how.append(f"open-ended answers judged by {result['open_reader']}")
    how.append(f"{result['package']['name']} {result['package']['version']}")
    answered = f"{coverage['answered']:,} of {coverage['questions']:,} questions answered"
    lines.append(f"{', '.join(how)}; {answered}")
    if coverage["set_aside"]:
        others = "answers are to questions of another task, config or split"
        lines.append(f"{coverage['set_aside']:,} {others}: set aside")
    if coverage["unknown"]:
        lines.append(f"{coverage['unknown']:,} answers are to no known question: left out")
    lines += [f"note: {note}" for note in result["notes"]]
    return "\n".join(lines)


def table(result: Mapping[str, Any]) -> str:
    """Format the figures in percent: cells, domains, categories, splits, styles, all."""
    blocks = []
    parts = (("yes/no", result, _YES_NO), ("open-ended", result["open_ended"], _OPEN))
    for title, part, columns in parts:
        if part and part["n"]:
            blocks.append(_format_part(title, part, columns))
    return "\n\n".join(blocks)


def _format_part(title: str, part: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    groupings = [part["by"][name] for name in GROUPINGS if name != "relation"]
    mean = part.get("macro", {}) if part["by"]["cell"] else {}
    groupings.append({"all": part, "mean of the cells": mean})
    rows = [[title, *columns]]
    for grouping in groupings:
        if grouping:
            rows.append([""] * len(rows[0]))
        for name, figures in grouping.items():
            if figures:
                cells = [shown(figures[key]) if key in figures else "" for key in columns.values()]
                rows.append([name, *cells])
    return format_table(rows)


def list_cells(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the figures of each cell in the paper's order, then of all."""
    return {**result["by"]["cell"], "all": result}


def _with_interval(value: float | None, interval: Interval | None) -> str:
    if not interval:
        return shown(value)
    return f"{shown(value)} [{shown(interval[0])}, {shown(interval[1])}]"


def interval_table(result: Mapping[str, Any]) -> str:
    """Format accuracy, F1 and pair accuracy with their intervals, in percent."""
    rows = [["yes/no", "n", "accuracy", "F1", "pairs", "pair accuracy"]]
    for cell, figures in list_cells(result).items():
        intervals = result["intervals"][cell]
        texts = {name: _with_interval(figures[name], intervals[name]) for name in COMPARED}
        counts = [shown(figures["n"]), texts["accuracy"], texts["f1"], shown(figures["pairs"])]
        rows.append([cell, *counts, texts["pair_accuracy"]])
    note = "95 % intervals: Wilson for accuracy; the others drawn by picture"
    return f"{format_table(rows)}\n{note}"


def baseline_table(result: Mapping[str, Any]) -> str:
    """Format accuracy and pair accuracy beside those of the blind baselines, in percent."""
    rows = [["accuracy / pair accuracy", "these answers", *result["baselines"]]]
    columns = [list_cells(part) for part in (result, *result["baselines"].values())]
    for cell in columns[0]:
        texts = []
        for column in columns:
            figures = column[cell]
            texts.append(f"{shown(figures['accuracy'])} / {shown(figures['pair_accuracy'])}")
        rows.append([cell, *texts])
    note = "blind baselines answer from the questions alone: what is above them, the picture added"
    return f"{format_table(rows)}\n{note}"


def published_table(result: Mapping[str, Any]) -> str:
    """Format the figures of each cell beside the published rows, in percent."""
    paper = read_published()
    rows = [["accuracy / precision / recall / F1", "these answers", *paper.scores]]
    for cell in next(iter(paper.scores.values())):
        figures = result["by"]["cell"].get(cell, {})
        own = [figures.get(name) for name in ("accuracy", "precision", "recall", "f1")]
        texts = [" / ".join(map(shown, own))]
        for scores in paper.scores.values():
            texts.append(" / ".join(f"{value:.2f}" for value in scores[cell]))
        rows.append([cell, *texts])
    return "\n".join([format_table(rows), *paper.notes])


def comparison_text(compared: Mapping[str, Any]) -> str:
    """Format how two models differ."""
    rows = [["first - second", "difference, points", "95 % interval"]]
    for name in COMPARED:
        difference, interval = compared[name]["difference"], compared[name]["interval"]
        text = "—" if difference is None else f"{100 * difference:+.2f}"
        ends = f"[{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]" if interval else "—"
        rows.append([name.replace("_", " "), text, ends])
    test = compared["mcnemar"]
    right = f"right only in the first: {test['only_first']:,}, second: {test['only_second']:,}"
    p = f"McNemar's exact p {test['p']:.3g} (as if questions were independent)"
    return f"{format_table(rows)}\n{right}; {p}"

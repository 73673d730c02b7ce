# SPDX-License-Identifier: Apache-2.0
"""Reports as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrel_kit.scoring.intervals import COMPARED, Interval
from relation_accuracy import aligned, shown

# The paper's table (arXiv 2406.09121), yes/no questions of the whole benchmark, in percent: accuracy,
# precision, recall, F1.
PUBLISHED: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "LLaVA-1.5": {
        "real/spatial": (50.45, 50.30, 75.04, 60.23),
        "real/action": (67.67, 62.98, 88.35, 73.54),
        "real/comparative": (61.70, 61.56, 62.31, 61.93),
        "sdxl/spatial": (51.37, 50.87, 80.66, 62.39),
        "sdxl/comparative": (59.08, 58.75, 60.92, 59.82),
        "dalle/spatial": (52.98, 51.71, 90.08, 65.70),
        "dalle/action": (60.27, 60.28, 69.11, 64.39),
    },
    "Qwen-VL": {
        "real/spatial": (54.10, 52.65, 81.34, 63.93),
        "real/action": (69.87, 64.04, 92.94, 75.83),
        "real/comparative": (72.19, 69.95, 77.81, 73.67),
        "sdxl/spatial": (55.84, 54.59, 69.45, 61.13),
        "sdxl/comparative": (70.15, 77.64, 56.62, 65.48),
        "dalle/spatial": (57.44, 54.98, 82.15, 65.87),
        "dalle/action": (62.47, 62.90, 67.80, 65.26),
    },
    "GPT-4o": {
        "real/spatial": (59.08, 55.10, 98.11, 70.57),
        "real/action": (79.69, 71.91, 98.55, 83.15),
        "real/comparative": (94.83, 93.26, 96.66, 94.93),
        "sdxl/spatial": (79.69, 71.91, 98.55, 83.15),
        "sdxl/comparative": (71.00, 74.58, 68.62, 71.47),
        "dalle/spatial": (75.21, 67.15, 98.68, 79.92),
        "dalle/action": (81.07, 78.13, 88.29, 82.90),
    },
}
PUBLISHED_NOTES = (
    "published rows: Nie et al., MMRel, arXiv 2406.09121; all yes/no questions of the benchmark, reader vcd",
    "GPT-4o, sdxl spatial: a misprint of the published table, which repeats real action there",
)


def _cells(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the figures of each cell in the paper's order, then of all."""
    return {**result["by"]["cell"], "all": result}


def _with_interval(value: float | None, interval: Interval | None) -> str:
    return shown(value) + (f" [{shown(interval[0])}, {shown(interval[1])}]" if interval else "")


def interval_table(result: Mapping[str, Any]) -> str:
    """Sets accuracy, F1 and pair accuracy with their intervals, in percent."""
    rows = [["yes/no", "n", "accuracy", "F1", "pairs", "pair accuracy"]]
    for cell, figures in _cells(result).items():
        texts = {name: _with_interval(figures[name], result["intervals"][cell][name]) for name in COMPARED}
        counts = [shown(figures["n"]), texts["accuracy"], texts["f1"], shown(figures["pairs"])]
        rows.append([cell, *counts, texts["pair_accuracy"]])
    return aligned(rows) + "\n95 % intervals: Wilson for accuracy; the others drawn by picture"


def baseline_table(result: Mapping[str, Any]) -> str:
    """Sets accuracy and pair accuracy beside those of the blind baselines, in percent."""
    rows = [["accuracy / pair accuracy", "these answers", *result["baselines"]]]
    columns = [_cells(result), *(_cells(figures) for figures in result["baselines"].values())]
    for cell in columns[0]:
        texts = [f"{shown(part[cell]['accuracy'])} / {shown(part[cell]['pair_accuracy'])}" for part in columns]
        rows.append([cell, *texts])
    return aligned(rows) + "\nblind baselines answer from the questions alone: what is above them, the picture added"


def published_table(result: Mapping[str, Any]) -> str:
    """Sets accuracy / precision / recall / F1 of each cell beside the published rows, in percent."""
    rows = [["accuracy / precision / recall / F1", "these answers", *PUBLISHED]]
    cells = result["by"]["cell"]
    for cell in PUBLISHED["GPT-4o"]:
        own = [cells.get(cell, {}).get(name) for name in ("accuracy", "precision", "recall", "f1")]
        published = [" / ".join(f"{value:.2f}" for value in model[cell]) for model in PUBLISHED.values()]
        rows.append([cell, " / ".join(map(shown, own)), *published])
    return "\n".join([aligned(rows), *PUBLISHED_NOTES])


def comparison_text(compared: Mapping[str, Any]) -> str:
    """Says how two models differ."""
    rows = [["first - second", "difference, points", "95 % interval"]]
    for name in COMPARED:
        interval = compared[name]["interval"]
        ends = f"[{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]" if interval else "\u2014"
        difference = compared[name]["difference"]
        text = "\u2014" if difference is None else f"{100 * difference:+.2f}"
        rows.append([name.replace("_", " "), text, ends])
    test = compared["mcnemar"]
    return (
        f"{aligned(rows)}\nright only in the first: {test['only_first']:,}, second: {test['only_second']:,};"
        f" McNemar's exact p {test['p']:.3g} (as if questions were independent)"
    )

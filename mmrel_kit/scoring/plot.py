# SPDX-License-Identifier: Apache-2.0
"""Plot a report: accuracy and pair accuracy of each cell, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrel_kit.files import write_atomically
from mmrel_kit.scoring.intervals import Interval
from mmrel_kit.scoring.text import heading, list_cells
from relation_accuracy import AnswerError


def load_figure() -> Any:
    """Return matplotlib's class of figures.

    Raises:
        ImportError: matplotlib (the extra `plot`) is not installed, or is broken.
    """
    from matplotlib.figure import Figure

    return Figure


def plot(result: Mapping[str, Any], path: str | Path) -> None:
    """Draw accuracy and pair accuracy of each cell, with intervals, beside the best blind baseline.

    Args:
        result: a report with `intervals` and `baselines`.
        path: the picture to write; its suffix says the format.

    Raises:
        AnswerError: the suffix names no format.
        ImportError: see `load_figure`.
        OSError: the file cannot be written.
    """
    figure_class = load_figure()
    cells = list_cells(result)
    figure = figure_class(figsize=(9, 1.6 + 0.42 * len(cells)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, name in zip(axes, ("accuracy", "pair_accuracy"), strict=False):
        for at, (cell, figures) in enumerate(cells.items()):
            interval = result["intervals"][cell][name]
            blind = _best_blind(result, cell, name)
            _plot_cell(axis, at, figures[name], interval, blind)
        axis.set_xlim(-2, 102)
        axis.set_xlabel(f"{name.replace('_', ' ')}, %")
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="y", length=0)
        if len(cells) > 1:
            axis.axhline(len(cells) - 1.5, color="0.7", linewidth=0.8)
    labels = [f"{cell}  (n {figures['n']:,})" for cell, figures in cells.items()]
    axes[0].set_yticks(range(len(cells)), labels)
    axes[0].invert_yaxis()
    handles, names = axes[0].get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=False))
    figure.legend(
        unique.values(), unique.keys(), loc="outside upper center", ncols=2, frameon=False
    )
    figure.supxlabel(heading(result).splitlines()[0], fontsize="small", color="0.35")
    path = Path(path)
    if not path.suffix:
        path = path.with_name(f"{path.name}.png")
    try:
        with write_atomically(path) as temporary:
            figure.savefig(temporary, dpi=150, format=path.suffix[1:])
    except ValueError as error:
        wanted = "expected the name of a picture, such as F.png"
        raise AnswerError(f"{wanted}; got {path}: {error}") from error


def _best_blind(result: Mapping[str, Any], cell: str, name: str) -> float | None:
    values = [list_cells(figures)[cell][name] for figures in result["baselines"].values()]
    return max((value for value in values if value is not None), default=None)


def _plot_cell(
    axis: Any,
    at: int,
    value: float | None,
    interval: Interval | None,
    blind: float | None,
) -> None:
    """Draw one cell of the plot: the interval and the value, and below them the blind baseline."""
    if blind is not None:
        grey = {"color": "white", "markeredgecolor": "0.35"}
        axis.plot(100 * blind, at + 0.28, "D", label="best blind baseline", **grey)
    if value is None:
        axis.text(50, at, "no pairs", color="0.5", ha="center", va="center")
        return
    if interval:
        ends = [100 * end for end in interval]
        line = {"color": "tab:blue", "linewidth": 2.5, "solid_capstyle": "butt"}
        axis.plot(ends, [at, at], **line)
    axis.plot(100 * value, at, "o", color="tab:blue", label="these answers, 95 % interval")

# SPDX-License-Identifier: Apache-2.0
"""Write the page of all benchmarks, README.md, and its plots from results.json."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, Measurement, read_rows
from mmrel_kit.files import format_markdown, write_bytes

HEAD = """# Benchmarks

Generated from `results.json`; `python -m benchmarks --page` writes it again. Values are medians of
the runs, with the least and the most in brackets. A ratio compares runs of the same turn.

```bash
python -m venv peers
peers/bin/pip install -r benchmarks/peers.txt
peers/bin/pip install --no-deps mosaicml-streaming==0.13.0
python -m benchmarks --list
python -m benchmarks all --peers peers/bin/python
```

A name such as `loading` instead of `all` measures that benchmark again, and replaces its section
only. `--quick` measures on little data, as a test, and writes nothing. A benchmark is a module with
a function `measure`, named in `NAMES` of `__main__.py`; its docstring is its text here."""
PLOTS = {
    "loading": "![Questions a second of all readers](loading.png)",
    "growth": "![Time and memory by the number of pictures](growth.png)",
}


# --- The page ---


def make_page(results: dict[str, Any]) -> str:
    """Return the page in Markdown."""
    parts = [HEAD, "## Goals", tabulate_goals(results)]
    for name, section in results.items():
        text = inspect.getdoc(import_module(f"benchmarks.{name}")) or ""
        parts += [f"## {name.replace('_', ' ').capitalize()}", text]
        parts.append(describe_measured(section["measured"]))
        rows = [row for row in read_rows(section) if not row.goal]
        ratios = [row for row in rows if row.peer]
        figures = [row for row in rows if not row.peer]
        parts += [tabulate_figures(table) for table in (ratios, figures) if table]
        parts += section["notes"]
        if name in PLOTS:
            parts.append(PLOTS[name])
    return "\n\n".join(parts) + "\n"


def update_report(results: dict[str, Any]) -> None:
    """Write the table of the report about Parquet from the section `layouts`."""
    path = FOLDER / "parquet_report.md"
    head, mark, rest = path.read_text("utf-8").partition("<!-- costs -->\n")
    rows = read_rows(results["layouts"]) if "layouts" in results else []
    table = tabulate_figures([row for row in rows if not row.peer])
    _, end, tail = rest.partition("<!-- costs:end -->\n")
    write_bytes(path, "".join([head, mark, table, "\n", end, tail]).encode())


def tabulate_goals(results: dict[str, Any]) -> str:
    """Return the table of all goals."""
    table = [("benchmark", "figure", "compared with", "goal", "measured", "met")]
    for name, section in results.items():
        for row in read_rows(section):
            if row.goal:
                met = "yes" if row.is_met else "**no**"
                figure = f"{row.case}, {name_column(row)}"
                table.append((name, figure, row.peer, row.goal, describe_values(row), met))
    return format_markdown(table, "llllrl")


def tabulate_figures(rows: Sequence[Measurement]) -> str:
    """Return a table with a line for each case and a column for each figure."""
    heads = list(dict.fromkeys(name_column(row) for row in rows))
    cells = {(row.case, name_column(row)): describe_values(row) for row in rows}
    table = [("", *heads)]
    for case in dict.fromkeys(row.case for row in rows):
        table.append((case, *(cells.get((case, head), "") for head in heads)))
    return format_markdown(table, "l" + "r" * len(heads))


def name_column(row: Measurement) -> str:
    """Return the name of a figure with its unit."""
    return f"{row.figure}, {row.unit}" if row.unit else row.figure


def describe_values(row: Measurement) -> str:
    """Format the median, with the least and the most in brackets if they differ."""
    median, *spread = map(format_number, (row.median, min(row.values), max(row.values)))
    return f"{median} ({' to '.join(spread)})" if set(spread) != {median} else median


def format_number(value: float) -> str:
    """Format three significant digits, or all digits of an integer."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def describe_measured(measured: dict[str, Any]) -> str:
    """Return a paragraph about the machine, the versions and the date."""
    if "how" in measured:  # moved from an earlier page
        return str(measured["how"])
    parts = [
        f"Measured on {measured['date']}: {measured['runs']} runs, {measured['cores']} cores,"
        f" {measured['memory_gib']} GiB, load before the start {measured['load']},"
        f" Python {measured['python']}, {describe_versions(measured['ours'])}."
    ]
    if measured["peers"]:
        parts.append(f"Peers: {describe_versions(measured['peers'])}.")
    return " ".join(parts)


def describe_versions(versions: dict[str, str]) -> str:
    """List packages and their versions."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


# --- The plots ---


def draw_plots(results: dict[str, Any], folder: Path) -> None:
    """Draw the plots of the sections that have one."""
    import matplotlib

    matplotlib.use("Agg")
    draw = {"loading": draw_loading, "growth": draw_growth}
    for name in draw.keys() & results.keys():
        draw[name](read_rows(results[name]), folder / f"{name}.png")


def draw_loading(rows: Sequence[Measurement], path: Path) -> None:
    """Draw the rate of each reader by CPU time, those that decode pictures beside the others."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    rates = sorted((row for row in rows if row.figure == "JPEG by CPU"), key=lambda row: row.median)
    for axis, title in zip(axes, ("undecoded", "decoded"), strict=True):
        shown = [row for row in rates if ("raw" in row.case) == (title == "undecoded")]
        medians = [row.median for row in shown]
        below = [row.median - min(row.values) for row in shown]
        above = [max(row.values) - row.median for row in shown]
        colors = ["tab:blue" if row.case.startswith("ours") else "tab:gray" for row in shown]
        names = [row.case for row in shown]
        style = {"ecolor": "tab:orange"}
        axis.barh(names, medians, color=colors, xerr=[below, above], error_kw=style)
        axis.set_title(f"Questions a second of CPU, {title}")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw_growth(rows: Sequence[Measurement], path: Path) -> None:
    """Draw time and peak memory of each step by the number of pictures, and n log n."""
    import matplotlib.pyplot as plt

    from benchmarks.growth import PICTURES, SIZES, STEPS, compute_growth

    medians = {(row.case, row.figure): row.median for row in rows}
    counts = [PICTURES * times for times in SIZES]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for axis, name in zip(axes, ("time", "peak"), strict=True):
        for step in STEPS:
            values = [medians[step, f"{name} {times}x"] for times in SIZES]
            axis.plot(counts, values, "o-", label=step)
        axis.set_xscale("log")
        axis.set_xlabel("pictures")
        axis.set_title("Seconds" if name == "time" else "Peak memory, MiB")
    start = medians[STEPS[0], f"time {SIZES[0]}x"]
    curve = [start * compute_growth(counts[0], count) for count in counts]
    axes[0].plot(counts, curve, "k--", label="n log n")
    axes[0].set_yscale("log")
    axes[0].legend()
    axes[1].set_ylim(bottom=0)
    figure.savefig(path, dpi=80)
    plt.close(figure)

# SPDX-License-Identifier: Apache-2.0
"""Format the page and draw the plot of loading.py's measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrel_kit.files import format_markdown

Report = dict[str, Any]
Rates = dict[str, dict[str, list[float]]]  # reader -> clock -> rows per second

LOADERS = ("ours loader 1", "ours loader 2")  # the CPU of their workers is not measured
GROWN = {"ours raw": "o", "ours once": "s"}  # marker of the plot
HEAD = """# How fast it loads

{pictures} pictures (800 x 600 JPEG of noise, 100 kB), three questions each, from the page cache; \
{cores} cores, {memory_gib} GiB, Python {python}, load before the start {load}. Medians of {runs} \
runs, with the least and the most in brackets. The readers take turns within a run, each in a \
process of its own; ours validate every record. "By CPU" is the CPU time of the process without \
its workers, which other work disturbs less. The docstring of `loading.py` says how to run it."""
FIRST_ROW = (
    "From a cold process to the first question with its picture, on the Hub (`real`, `test`):"
)


# --- The page ---


def make_page(report: Report) -> str:
    """Return the tables as Markdown."""
    machine = report["machine"]
    parts = [
        HEAD.format(pictures=report["pictures"], runs=report["runs"], **machine),
        tabulate_ratios(report["ratios"]),
        tabulate_rates(report["rates"]),
    ]
    if report["profiles"]:
        parts.append("The slowest functions of readers that miss a goal (cProfile, own time):")
        parts.append(tabulate_profiles(report["profiles"]))
    png = f"{report['png_pictures']} pictures like DALL-E's (1024 x 1024 PNG of noise, 1.5 MB):"
    parts += [png, tabulate_rates(report["png"])]
    parts += [FIRST_ROW, tabulate_first_row(report["first_row"])]
    if report["growth"]:
        parts.append("Time and memory of an epoch by the number of questions:")
        parts.append(tabulate_growth(report["growth"]))
    for whose in ("ours", "peers"):
        versions = ", ".join(f"{name} {number}" for name, number in machine[whose].items())
        parts.append(f"Versions ({whose}): {versions or 'none'}.")
    parts.append("![Rates of all readers; time and memory by the number of rows](loading.png)")
    return "\n\n".join(parts) + "\n"


def tabulate_ratios(ratios: Sequence[dict[str, Any]]) -> str:
    """Return the table of ratios and goals."""
    rows = [("ratio", "goal", "by the clock", "by CPU", "best peer")]
    for row in ratios:
        cells = []
        for clock in ("seconds", "cpu"):
            ratio = row[clock]
            cells.append(f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})")
        if row["ours"] in LOADERS:
            cells[1] = ""
        goal = str(row["goal"] or "")
        rows.append((row["title"], goal, cells[0], cells[1], row["seconds"]["peer"]))
    return format_markdown(rows, "lllll")


def tabulate_rates(rates: Rates) -> str:
    """Return the table of questions per second, the fastest first."""
    medians = {name: statistics.median(clocks["seconds"]) for name, clocks in rates.items()}
    rows = [("reader", "questions a second", "by CPU")]
    for name in sorted(rates, key=lambda name: -medians[name]):
        by_cpu = "" if name in LOADERS else describe_spread(rates[name]["cpu"])
        rows.append((name, describe_spread(rates[name]["seconds"]), by_cpu))
    return format_markdown(rows, "lll")


def describe_spread(values: Sequence[float]) -> str:
    """Format the median, with the least and the most in brackets."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def tabulate_profiles(profiles: Sequence[dict[str, Any]]) -> str:
    """Return the table of the slowest functions."""
    rows = [("reader", "most of the time")]
    for row in profiles:
        slowest = [f"`{name}` {share:.0%}" for name, share in row["profile"]]
        rows.append((row["reader"], ", ".join(slowest)))
    return format_markdown(rows, "ll")


def tabulate_first_row(starts: Sequence[dict[str, Any]]) -> str:
    """Return the table of requests, bytes and time until the first row."""
    rows = [("reader", "requests", "MB sent", "seconds")]
    for row in starts:
        sent, seconds = f"{row['sent'] / 1e6:.2f}", f"{row['seconds']:.1f}"
        rows.append((row["reader"], f"{row['requests']:.0f}", sent, seconds))
    return format_markdown(rows, "llll")


def tabulate_growth(growth: Sequence[dict[str, Any]]) -> str:
    """Return the table of time and memory by the number of rows."""
    rows = [("questions", "reader", "seconds", "peak memory")]
    for row in growth:
        seconds, peak = f"{row['seconds']:.2f}", f"{row['peak_mb']:.0f} MB"
        rows.append((f"{row['rows']:,}", row["reader"], seconds, peak))
    return format_markdown(rows, "llll")


# --- The plot ---


def draw_plot(report: Report, path: Path) -> None:
    """Draw rates by reader, and how time and memory grow."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    widths = (3, 3, 2, 2)
    figure, axes = plt.subplots(1, 4, figsize=(17, 4.6), width_ratios=widths, layout="constrained")
    rates, growth = report["rates"], report["growth"]
    draw_rates(axes[0], rates, ("raw",), "undecoded")
    draw_rates(axes[1], rates, ("decoded", "once", "each", "limit"), "decoded")
    draw_growth(axes[2], growth, "seconds", "Seconds an epoch")
    draw_growth(axes[3], growth, "peak_mb", "Peak memory, MB")
    if growth:
        axes[2].set_yscale("log")
    axes[3].set_ylim(0, 1.2 * max((row["peak_mb"] for row in growth), default=1))
    figure.savefig(path, dpi=80)


def draw_rates(axis: Any, rates: Rates, words: Sequence[str], title: str) -> None:
    """Draw a bar for each reader whose name has one of the words, the fastest on top."""
    chosen = {}
    for name, clocks in rates.items():
        if name not in LOADERS and any(word in name for word in words):
            chosen[name] = clocks["cpu"]
    names = sorted(chosen, key=lambda name: statistics.median(chosen[name]))
    medians, below, above = [], [], []
    for name in names:
        median = statistics.median(chosen[name])
        medians.append(median)
        below.append(median - min(chosen[name]))
        above.append(max(chosen[name]) - median)
    colors = [choose_color(name) for name in names]
    style = {"ecolor": "tab:orange"}
    axis.barh(names, medians, color=colors, xerr=[below, above], error_kw=style)
    axis.set_title(f"Questions a second of CPU, {title}")


def choose_color(name: str) -> str:
    """Return the color of a reader's bar."""
    if name.startswith("ours"):
        return "tab:blue"
    return "black" if name == "limit" else "tab:gray"


def draw_growth(axis: Any, growth: Sequence[dict[str, Any]], key: str, title: str) -> None:
    """Draw one figure of the growth by the number of rows."""
    for name, marker in GROWN.items():
        points = [row for row in growth if row["reader"] == name]
        counts = [row["rows"] for row in points]
        axis.plot(counts, [row[key] for row in points], marker=marker, label=name)
    axis.set_title(title)
    axis.set_xlabel("questions")
    axis.set_xscale("log")
    ticks = sorted({row["rows"] for row in growth})
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.legend()

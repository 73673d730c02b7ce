"""What one does with the verdicts of `relation_accuracy`: how sure they are, and what they are worth.

95 % intervals, the comparison of two models on the same questions, blind baselines (what the questions give
away without a picture), the published rows beside one's own, and a plot. The standard library alone, but for
the plot.

    python relation_report.py ANSWERS --root RELEASE --split test --baselines --published --plot F.png
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relation_accuracy import (
    LABELS,
    PAIRED,
    RIGHT,
    SAID,
    WRONG_PAIRS,
    AnswerError,
    MatchError,
    Place,
    Question,
    Scores,
    aligned,
    choose_release,
    heading,
    is_asked,
    is_right,
    is_whole,
    load_release,
    make_parser,
    report,
    run_command,
    sample_line,
    score_files,
    shown,
    stated,
    table,
    unpacked,
    write_json,
    yes_no_figures,
)

DRAWS = 1000  # of the bootstrap; the ends of an interval then move by about 0.2 points on the adversarial split
SEED = 2406
Z = 1.959963984540054  # 97.5 % of a normal distribution lies below
BOOTSTRAPPED = ("f1", "pair_accuracy")
COMPARED = ("accuracy", "f1", "pair_accuracy")

# The split from which a blind guesser may learn when another is scored.
LEARN_FROM = {"train": "test", "test": "train", "adversarial": "train"}

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

Interval = list[float]  # [low, high]


# ---- intervals ---------------------------------------------------------------------------------------------


def wilson(right: int, n: int) -> Interval | None:
    """Returns Wilson's 95 % interval of a share, between 0 and 1; null for n = 0.

    >>> [round(end, 4) for end in wilson(2565, 3000)]
    [0.8419, 0.8671]
    """
    if not n:
        return None
    share, spread = right / n, Z * Z / n
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return [max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))]


def picture_tallies(scores: Scores, chosen: Callable[[Place], object]) -> dict[str | None, list[int]]:
    """Counts per picture.

    Args:
        scores: the verdicts.
        chosen: which places count; a pair counts where its yes is.

    Returns:
        image_id -> tally of 15 (see `relation_accuracy.yes_no_figures`); their sum is the tally of the group.
    """
    places = list(scores.places)
    counted = [bool(chosen(place)) for place in places]
    tallies: dict[str | None, list[int]] = {}
    picture_of = {}
    rows = zip(scores.where, scores.images, scores.pairs, scores.codes.values(), strict=False)
    for place, image, pair, code in rows:
        picture_of[places[place].split, pair] = image
        if counted[place]:
            tallies.setdefault(image, [0] * 15)[code] += 1
    for split, pairs in scores.pair_kinds().items():
        for pair, kind in pairs.items():
            questions = unpacked(kind)
            if is_whole(questions):
                tally = tallies.get(picture_of[split, pair], [0] * 15)
                yes = LABELS["yes"]
                tally[WRONG_PAIRS + is_right(questions)] += any(
                    counted[place] for place, code in questions if yes <= code < yes + 4
                )
                tally[PAIRED] += sum(counted[place] for place, _ in questions)
    return tallies


def resample(
    clusters: Sequence[Any], figures: Callable[[Counter[Any]], Sequence[float | None]], seed: int = SEED
) -> list[Interval | None]:
    """Bootstraps clusters: draws as many as there are, with replacement, DRAWS times.

    Args:
        clusters: what each cluster holds, hashable and sortable; equal ones are counted together.
        figures: makes figures of the clusters drawn (cluster -> how often).
        seed: of the draws; the order of the clusters makes no difference.

    Returns:
        The 2.5 and 97.5 percentiles of each figure over the draws that define it; null with fewer than two
        clusters.
    """
    rng, ordered = random.Random(seed), sorted(clusters)
    if len(ordered) < 2:
        return [None] * len(figures(Counter(ordered)))
    drawn = [figures(Counter(rng.choices(ordered, k=len(ordered)))) for _ in range(DRAWS)]
    return [_middle(sorted(value for value in values if value is not None)) for values in zip(*drawn, strict=False)]


def _middle(values: Sequence[float]) -> Interval | None:
    """Returns the 2.5 and 97.5 percentiles of sorted values, between neighbours in proportion."""
    if not values:
        return None
    ends = []
    for share in (0.025, 0.975):
        at = share * (len(values) - 1)
        low, part = int(at), at - int(at)
        ends.append(values[low] + part * (values[min(low + 1, len(values) - 1)] - values[low]))
    return ends


def _sum(drawn: Iterable[tuple[Sequence[int], int]]) -> list[int]:
    """Adds up tallies, each as often as its number says."""
    total = [0] * 15
    for tally, number in drawn:
        for slot, count in enumerate(tally):
            if count:
                total[slot] += number * count
    return total


def intervals(scores: Scores, chosen: Callable[[Place], object] = bool) -> dict[str, Interval | None]:
    """Returns 95 % intervals: Wilson's of accuracy; of F1 and pair accuracy, bootstrapped by picture.

    The questions of one picture are not independent, so pictures are drawn, not questions. Wilson's interval
    does not know of pictures, and is somewhat too narrow where they have many questions.

    Args:
        scores: the verdicts.
        chosen: which places count; all by default.

    Returns:
        accuracy, f1, pair_accuracy -> [low, high]; null where undefined or where a picture is not named.
    """
    tallies = picture_tallies(scores, chosen)
    pictures = [tuple(tally) for image, tally in tallies.items() if image is not None]

    def figures(drawn: Counter[Any]) -> list[float | None]:
        result = yes_no_figures(_sum(drawn.items()), scores.reader)
        return [result[name] for name in BOOTSTRAPPED]

    whole = yes_no_figures(_sum((tally, 1) for tally in tallies.values()), scores.reader)
    found = [None, None] if None in tallies else resample(pictures, figures)
    return {"accuracy": wilson(whole["tp"] + whole["tn"], whole["n"]), **dict(zip(BOOTSTRAPPED, found, strict=False))}


def all_intervals(scores: Scores) -> dict[str, dict[str, Interval | None]]:
    """Returns the intervals of each cell, and under "all" those of everything."""
    cells = sorted({place.cell for place in scores.places if place.cell})
    found = {cell: intervals(scores, lambda place, cell=cell: place.cell == cell) for cell in cells}  # type: ignore[misc]
    return {**found, "all": intervals(scores)}


# ---- comparison --------------------------------------------------------------------------------------------


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the exact two-sided p of McNemar's test, from what only one of two models got right.

    >>> mcnemar(0, 0), round(mcnemar(1, 9), 6)
    (1.0, 0.021484)
    """
    n, few = only_first + only_second, min(only_first, only_second)
    log = math.lgamma(n + 1) - math.lgamma(few + 1) - math.lgamma(n - few + 1) - n * math.log(2)
    term = total = 1.0  # of the binomial distribution, in units of the term at `few`, downwards
    for number in range(few, 0, -1):
        term *= number / (n - number + 1)
        total += term
    return min(1.0, 2 * math.exp(log) * total)


def compare(first: Scores, second: Scores) -> dict[str, Any]:
    """Compares two models on the same yes/no questions.

    Args:
        first: one model's verdicts.
        second: the other's, of the same questions, by the same reader.

    Returns:
        accuracy, f1, pair_accuracy -> difference (first - second) and its 95 % interval, pictures being drawn
        for both at once; and mcnemar: only_first, only_second (questions that only one got right), p.
        McNemar's test takes questions as independent; the intervals do not.

    Raises:
        MatchError: the questions or the readers differ.
    """
    other = first.codes.keys() ^ second.codes.keys()
    if other or first.reader.name != second.reader.name:
        raise MatchError(
            f"expected two models on the same questions, read alike; got {len(other):,} questions of one,"
            f" readers {first.reader.name} and {second.reader.name}: compare what both have answered"
        )
    mine, theirs = (picture_tallies(scores, bool) for scores in (first, second))

    def differences(drawn: Mapping[Any, int]) -> list[float | None]:
        a, b = (
            yes_no_figures(_sum((both[at], number) for both, number in drawn.items()), first.reader) for at in (0, 1)
        )
        return [None if a[name] is None or b[name] is None else a[name] - b[name] for name in COMPARED]

    clusters = [(tuple(tally), tuple(theirs[image])) for image, tally in mine.items()]
    found = [None] * len(COMPARED) if None in mine else resample(clusters, differences)
    whole = differences(Counter(clusters))
    pairs = Counter((code in RIGHT, second.codes[name] in RIGHT) for name, code in first.codes.items() if code < 8)
    only_first, only_second = pairs[True, False], pairs[False, True]
    return {
        **{name: {"difference": d, "interval": i} for name, d, i in zip(COMPARED, whole, found, strict=False)},
        "mcnemar": {
            "only_first": only_first,
            "only_second": only_second,
            "p": mcnemar(only_first, only_second),
        },
    }


# ---- blind baselines ---------------------------------------------------------------------------------------


def blind_baselines(asked: Mapping[str, Question], learnt: Mapping[str, Question] | None = None) -> dict[str, Scores]:
    """Scores answers without a picture: always yes, always no, each relation's majority answer.

    Args:
        asked: the questions; open-ended ones are passed over.
        learnt: questions of another split, from which the majority answer of each relation is learnt (a
            relation
            that is not there, or is even: the majority of all; even there: yes). Without it there is no third
                one.

    Returns:
        "always yes", "always no", "majority by relation" -> scores.
    """
    questions = {name: question for name, question in asked.items() if question.label != "open"}
    guesses = {"always yes": ["yes"] * len(questions), "always no": ["no"] * len(questions)}
    if learnt:
        balance: Counter[str | None] = Counter()
        for question in learnt.values():
            if question.label != "open":
                vote = 1 if question.label == "yes" else -1
                balance[question.place.relation] += vote
                balance[None] += vote
        majority = "yes" if balance[None] >= 0 else "no"
        guesses["majority by relation"] = [
            "yes" if balance[relation] > 0 else "no" if balance[relation] < 0 else majority
            for relation in (question.place.relation for question in questions.values())
        ]
    baselines = {}
    for name, said in guesses.items():
        baselines[name] = Scores()
        baselines[name].keep(list(questions), list(questions.values()), [SAID[word] for word in said])
    return baselines


# ---- tables and plot ---------------------------------------------------------------------------------------


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


def load_figure() -> Any:
    """Returns matplotlib's class of figures.

    Raises:
        ModuleNotFoundError: matplotlib (the extra `plot`) is not installed, or is broken.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        if error.name == "matplotlib":
            problem = "matplotlib is not installed; install what it needs: pip install '.[plot]'"
        else:
            again = "install it anew: pip install --force-reinstall matplotlib"
            problem = f"matplotlib is installed and cannot be imported: {error}; {again}"
        raise ModuleNotFoundError(problem) from error
    return Figure


def plot(result: Mapping[str, Any], path: str | Path) -> None:
    """Draws accuracy and pair accuracy of each cell, with intervals, beside the best blind baseline.

    Args:
        result: a report with `intervals` and `baselines`.
        path: the picture to write; its suffix says the format.

    Raises:
        ModuleNotFoundError: see `load_figure`.
    """
    figure_class = load_figure()
    cells = _cells(result)
    figure = figure_class(figsize=(9, 1.6 + 0.42 * len(cells)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, name in zip(axes, ("accuracy", "pair_accuracy"), strict=False):
        for at, (cell, figures) in enumerate(cells.items()):
            _plot_cell(axis, at, figures[name], result["intervals"][cell][name], _best_blind(result, cell, name))
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
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel(heading(result).splitlines()[0], fontsize="small", color="0.35")
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise AnswerError(f"expected the name of a picture, such as F.png; got {path}: {error}") from error


def _best_blind(result: Mapping[str, Any], cell: str, name: str) -> float | None:
    values = [_cells(figures)[cell][name] for figures in result["baselines"].values()]
    return max((value for value in values if value is not None), default=None)


def _plot_cell(axis: Any, at: int, value: float | None, interval: Interval | None, blind: float | None) -> None:
    """Draws one cell of the plot: the interval and the value, and below them the blind baseline."""
    if blind is not None:
        axis.plot(100 * blind, at + 0.28, "D", color="white", markeredgecolor="0.35", label="best blind baseline")
    if value is None:
        axis.text(50, at, "no pairs", color="0.5", ha="center", va="center")
        return
    if interval:
        axis.plot([100 * end for end in interval], [at, at], color="tab:blue", linewidth=2.5, solid_capstyle="butt")
    axis.plot(100 * value, at, "o", color="tab:blue", label="these answers, 95 % interval")


# ---- command line ------------------------------------------------------------------------------------------


def make_report(args: argparse.Namespace) -> dict[str, Any]:
    """Scores answer files as the arguments say, and adds to the report what they ask for.

    Returns:
        The report of `relation_accuracy`, with `intervals` (cell, or "all" -> of `intervals`), and where
        asked for `against` (of `compare`), `baselines` (name -> figures) and `published`.
    """
    folder = choose_release(args)
    questions, release = load_release(folder, args.config, args.split)
    scores, asked = score_files(args, folder, args.answers, questions)
    result = report(scores, asked, release, stated(args))
    result["intervals"] = all_intervals(scores)
    if args.against:
        result["against"] = compare(scores, score_files(args, folder, args.against, questions)[0])
    if args.baselines or args.plot:
        other = LEARN_FROM.get(args.split)
        learnt = {name: q for name, q in questions.items() if other and is_asked(q, "both", args.config, other)}
        blind = blind_baselines({name: questions[name] for name in scores.codes}, learnt)
        result["baselines"] = {name: guesses.figures() for name, guesses in blind.items()}
        if not learnt:
            result["notes"].append("no majority by relation: there is no other split here to learn it from")
    if args.published:
        result["published"] = {"rows": PUBLISHED, "notes": list(PUBLISHED_NOTES)}
    return result


def _command(args: argparse.Namespace) -> str:
    if args.plot:
        load_figure()  # what is missing is said before the work, not after it
    result = make_report(args)
    if args.json:
        write_json(result, args.json)
    if args.plot:
        plot(result, args.plot)
    blocks = ["\n".join([*sample_line(args), heading(result)])]
    if result["n"]:
        blocks.append(interval_table(result))
    if result["open_ended"]:
        blocks.append(table({**result, "n": 0}))
    if args.against:
        blocks.append(comparison_text(result["against"]))
    if args.baselines:
        blocks.append(baseline_table(result))
    if args.published:
        blocks.append(published_table(result))
    return "\n\n".join(blocks)


def main(argv: Sequence[str] | None = None) -> int:
    """Reports on answer files scored against a release; returns the exit status."""
    parser = make_parser("relation_report", "Scores answers to the questions of MMRel, with intervals and comparisons.")
    add = parser.add_argument
    add(
        "--against",
        nargs="+",
        metavar="OTHER",
        help="compare with another model's answers to the same questions",
    )
    add("--baselines", action="store_true", help="show what answers without a picture reach")
    add("--published", action="store_true", help="show the paper's rows beside these answers")
    add("--plot", metavar="F.png", help="draw accuracy and pair accuracy of each cell (needs the extra plot)")
    return run_command(_command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())

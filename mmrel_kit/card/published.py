# SPDX-License-Identifier: Apache-2.0
"""Write the paper's numbers as Markdown tables: sizes of the benchmark, and scores of models."""

from __future__ import annotations

import mmrel
from mmrel_kit.questions.published import PublishedFigures, read_published

ACCURACY, F1 = 0, 3  # indices into the four scores of a model and cell


def make_published_blocks() -> dict[str, str]:
    """Return the blocks of a card with the paper's numbers: `paper_sizes`, `paper_scores`."""
    paper = read_published()
    return {"paper_sizes": make_size_table(paper), "paper_scores": make_score_table(paper)}


def make_size_table(paper: PublishedFigures) -> str:
    """Return thousands of questions by domain and category, yes/no + open-ended."""
    lines = [
        f"| domain | {' | '.join(mmrel.CATEGORIES)} | all |",
        f"| --- |{' ---: |' * (len(mmrel.CATEGORIES) + 1)}",
    ]
    for domain in mmrel.DOMAINS:
        cells = [_format_sizes(paper, domain, category) for category in mmrel.CATEGORIES]
        lines.append(f"| {domain} | {' | '.join(cells)} | {_format_sums(paper, domain)} |")
    lines.append(f"| all |{' |' * len(mmrel.CATEGORIES)} {_format_sums(paper, 'all')} |")
    return "\n".join(lines)


def make_score_table(paper: PublishedFigures) -> str:
    """Return accuracy / F1 by model and cell, in percent."""
    cells = list(next(iter(paper.scores.values())))
    names = [cell.replace("/", " ") for cell in cells]
    lines = [f"| model | {' | '.join(names)} |", f"| --- |{' --- |' * len(cells)}"]
    for model, scores in paper.scores.items():
        pairs = [f"{scores[cell][ACCURACY]:.2f} / {scores[cell][F1]:.2f}" for cell in cells]
        lines.append(f"| {model} | {' | '.join(pairs)} |")
    return "\n".join(lines)


def _format_sizes(paper: PublishedFigures, domain: str, category: str) -> str:
    sizes = [paper.whole[task][domain].get(category) for task in mmrel.TASKS]
    return " + ".join(f"{size:.2f}" for size in sizes if size is not None)


def _format_sums(paper: PublishedFigures, domain: str) -> str:
    return " + ".join(f"{paper.sums[task][domain]:.2f}" for task in mmrel.TASKS)

# SPDX-License-Identifier: Apache-2.0
"""Write the paper's numbers as Markdown tables: sizes of the benchmark, and scores of models."""

from __future__ import annotations

import mmrel
from mmrel_kit.files import format_markdown
from mmrel_kit.questions.published import PublishedFigures, read_published

ACCURACY, F1 = 0, 3  # indices into the four scores of a model and cell


def make_published_blocks() -> dict[str, str]:
    """Return the blocks of a card with the paper's numbers: `paper_sizes`, `paper_scores`."""
    paper = read_published()
    return {"paper_sizes": make_size_table(paper), "paper_scores": make_score_table(paper)}


def make_size_table(paper: PublishedFigures) -> str:
    """Return thousands of questions by domain and category, yes/no + open-ended."""
    rows = [["domain", *mmrel.CATEGORIES, "all"]]
    for domain in mmrel.DOMAINS:
        sizes = [_format_sizes(paper, domain, category) for category in mmrel.CATEGORIES]
        rows.append([domain, *sizes, _format_sums(paper, domain)])
    rows.append(["all", *[""] * len(mmrel.CATEGORIES), _format_sums(paper, "all")])
    return format_markdown(rows, "l" + "r" * (len(rows[0]) - 1))


def make_score_table(paper: PublishedFigures) -> str:
    """Return accuracy / F1 by model and cell, in percent."""
    cells = list(next(iter(paper.scores.values())))
    rows = [["model", *(cell.replace("/", " ") for cell in cells)]]
    for model, scores in paper.scores.items():
        pairs = [f"{scores[cell][ACCURACY]:.2f} / {scores[cell][F1]:.2f}" for cell in cells]
        rows.append([model, *pairs])
    return format_markdown(rows, "l" * len(rows[0]))


def _format_sizes(paper: PublishedFigures, domain: str, category: str) -> str:
    sizes = [paper.whole[task][domain].get(category) for task in mmrel.TASKS]
    return " + ".join(f"{size:.2f}" for size in sizes if size is not None)


def _format_sums(paper: PublishedFigures, domain: str) -> str:
    return " + ".join(f"{paper.sums[task][domain]:.2f}" for task in mmrel.TASKS)

# SPDX-License-Identifier: Apache-2.0
"""Checks that SQL cannot express: each yields an example of every finding."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import mmrel
from mmrel_kit.audit.queries import COUNT_ANSWERS, SELECT_NAMES, SELECT_SPLITS
from mmrel_kit.scoring.compare import LEARN_FROM, score_baselines
from mmrel_kit.scoring.release import load_release
from relation_accuracy import Question, make_figures

MAX_IMBALANCE = 0.05  # by which a share of yes, or a blind baseline, may differ from one half
MIN_QUESTIONS = 20  # of a cell, below which its balance is chance
# Letters, from which on two names that differ by one letter are taken for a misspelling.
MIN_MISSPELT = 7
_PLURALS = (("ies", "y"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("sses", "ss"))


class AuditInput(NamedTuple):
    """What is audited.

    Attributes:
        release: the release to read further files from; None leaves out what needs them.
    """

    db: sqlite3.Connection
    release: mmrel.Release | None = None


def find_spelling_variants(audited: AuditInput) -> Iterator[str]:
    """Yield the spellings of each object that has several, those of frequent objects first.

    Spellings differ by case, space, plural, or one letter.
    """
    counts, lines = {}, {}
    for name, count, line in audited.db.execute(SELECT_NAMES):
        counts[name] = count
        lines[name] = line
    by_folded: dict[str, list[str]] = {}
    for name in sorted(counts):
        by_folded.setdefault(_fold(name), []).append(name)
    groups = [names for names in by_folded.values() if len(names) > 1]
    for one, other in _find_misspelt(sorted(by_folded)):
        groups.append([by_folded[one][0], by_folded[other][0]])
    groups.sort(key=lambda names: -sum(counts[name] for name in names))
    for names in groups:
        rarest = min(names, key=lambda name: counts[name])
        spellings = ", ".join(f"{name!r} ({counts[name]})" for name in names)
        yield f"{lines[rarest]}: {spellings}"


def find_unbalanced_cells(audited: AuditInput) -> Iterator[str]:
    """Yield the cells in which yes and no are not about as frequent."""
    for domain, category, split, yes, no, line in audited.db.execute(COUNT_ANSWERS):
        share = yes / (yes + no)
        if yes + no < MIN_QUESTIONS or abs(share - 0.5) <= MAX_IMBALANCE:
            continue
        file = line.rpartition(":")[0]
        yield f"{file}: {domain} {category} {split}: {yes} yes, {no} no ({share:.0%} yes)"


def find_blind_baselines(audited: AuditInput) -> Iterator[str]:
    """Yield the cells whose answers can be guessed without the picture.

    "majority by relation" learns from the split that `LEARN_FROM` names, never from the one that it
    guesses. All questions are held in memory.
    """
    if audited.release is None:
        return
    questions, _ = load_release(audited.release)
    splits: dict[str, list[Question]] = {}
    for question in questions.values():
        splits.setdefault(str(question.record.get("split")), []).append(question)
    for split, asked in sorted(splits.items()):
        cells: dict[str, dict[str, float]] = {}
        learnt = splits.get(LEARN_FROM[split], [])
        for name, scores in score_baselines(asked, learnt).items():
            for cell, figures in make_figures(scores)["by"]["cell"].items():
                cells.setdefault(cell, {})[name] = figures["accuracy"]
        for cell, accuracies in cells.items():
            if max(accuracies.values()) > 0.5 + MAX_IMBALANCE:
                shares = ", ".join(f"{name} {share:.1%}" for name, share in accuracies.items())
                file = f"data/{cell.split('/')[0]}/{split}.jsonl"
                yield f"{file}: {cell} {split}: {shares}"


def list_unlearnt_baselines(db: sqlite3.Connection) -> list[str]:
    """Return a remark on each split whose majorities cannot be learnt, for want of another one."""
    splits = [split for (split,) in db.execute(SELECT_SPLITS)]
    remarks = []
    for split in splits:
        source = LEARN_FROM[split]
        if source not in splits:
            remarks.append(
                f"{split}: no majority by relation, there is no {source} to learn it from"
            )
    return remarks


def _fold(name: str) -> str:
    """Return a name without case, spaces, hyphens and the plural's ending."""
    folded = re.sub(r"[\W_]", "", name.casefold())
    for ending, singular in _PLURALS:
        if folded.endswith(ending) and len(folded) > len(ending) + 1:
            return folded.removesuffix(ending) + singular
    is_plural = folded.endswith("s") and not folded.endswith(("ss", "us", "is"))
    return folded[:-1] if is_plural and len(folded) > 3 else folded


def _find_misspelt(names: list[str]) -> list[tuple[str, str]]:
    """Return pairs of long names with the same first letter that differ by one letter.

    A letter is missing, added, changed, or swapped with the next.
    """
    by_form: dict[str, list[str]] = {}
    for name in names:
        if len(name) < MIN_MISSPELT:
            continue
        forms = {name}
        for position in range(len(name)):
            forms.add(name[:position] + name[position + 1 :])
        for form in forms:
            by_form.setdefault(form, []).append(name)
    pairs = set()
    for group in by_form.values():
        for one, other in combinations(sorted(group), 2):
            if one[0] == other[0]:
                pairs.add((one, other))
    return sorted(pairs)

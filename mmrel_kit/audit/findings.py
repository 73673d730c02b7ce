# SPDX-License-Identifier: Apache-2.0
"""Says what is wrong in a release's questions and pictures. Nothing is repaired; some of it can be left out on demand.

The questions lie in the tables of a `Plan`. Each kind of finding is a query that gives the questions concerned, what
ties them together, and which of them a build leaves out when it is told to drop that kind.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mmrel
import relation_accuracy
from mmrel_kit.audit import pictures as audit_pictures
from mmrel_kit.audit import words as audit_words
from mmrel_kit.files import InputError
from mmrel_kit.questions.annotations import Question
from mmrel_kit.questions.published import Cell, compare_with_paper
from mmrel_kit.questions.records import Record
from mmrel_kit.questions.table import QuestionTable
from mmrel_kit.scoring.baselines import LEARN_FROM, blind_baselines
from mmrel_kit.scoring.release import load_release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mmrel_kit.questions.published import Comparison

EXAMPLES = 5
KEPT, DROPPED = "kept", "kept; build --drop {kind} leaves them out"
BALANCE = 0.05  # share of yes may differ from a half by so much
BALANCE_LEAST = 20  # questions, below which a cell's balance says nothing
_RANK = audit_pictures.RANK.format("")
_ACROSS = (
    "select key, id, rank > least from (select {key} as key, rowid as id, {rank} as rank, min({rank}) over same as "
    "least, max({rank}) over same as most from questions window same as (partition by {key})) where least < most"
)
_PAIRS = (
    "select key, id, 1 from (select split || ' ' || pair_id as key, rowid as id, count(*) over same as number, "
    "sum(answer = 'yes') over same as yes from questions where pair_id is not null "
    "window same as (partition by split, pair_id)) where "
)


class Kind(NamedTuple):
    """A kind of finding: what it means, and the query for (what ties questions together, question, dropped)."""

    meaning: str
    query: str
    can_drop: bool = True


KINDS = {
    "repeated_across_splits": Kind(
        "the same question about the same picture stands in two splits",
        _ACROSS.format(key="image_id || char(10) || lower(question) || task", rank=_RANK),
    ),
    "repeated_within_split": Kind(
        "the same question about the same picture stands twice in a split",
        "select key, id, nth > 1 from (select key, id, row_number() over (partition by key order by id) as nth, "
        "count(*) over (partition by key) as number from (select split || image_id || char(10) || lower(question) || "
        "task as key, rowid as id from questions)) where number > 1",
    ),
    "same_picture_across_splits": Kind(
        "the same picture, by its path or its bytes, stands in two splits (dropped by path alone)",
        f"{_ACROSS.format(key='image_id', rank=_RANK)} union all {audit_pictures.SAME_BYTES}",
    ),
    "similar_picture_across_splits": Kind(
        f"pictures of two splits whose perceptual hashes differ in at most {audit_pictures.NEAR} of 64 bits",
        audit_pictures.SIMILAR,
        can_drop=False,
    ),
    "no_partner": Kind("a yes without a no, or a no without a yes", _PAIRS + "number = 1"),
    "group_without_yes": Kind(
        "several questions on one pair of objects, none answered yes", _PAIRS + "number > 1 and yes = 0"
    ),
    "group_without_no": Kind(
        "several questions on one pair of objects, all answered yes", _PAIRS + "number > 1 and yes = number"
    ),
    "contradiction": Kind(
        "labels of one picture that exclude each other: the same triplet with both, a relation both ways, opposites",
        audit_words.CONTRADICTIONS,
    ),
    "impossible_triplet": Kind(
        "a relation that its category cannot have by the taxonomy",
        "select rowid, rowid, 1 from questions where relation is not null and judge(category, relation) = 'impossible'",
    ),
    "unknown_relation": Kind(
        "a comparative relation that the taxonomy does not list",
        "select category || relation, rowid, 1 from questions where relation is not null "
        "and judge(category, relation) = 'unknown'",
        can_drop=False,
    ),
    "subject_is_object": Kind(
        "subject and object have one name, so that swapping them asks the same",
        "select rowid, rowid, 1 from questions where lower(subject) = lower(object)",
    ),
}  # fmt: skip
DROPPABLE = tuple(name for name, kind in KINDS.items() if kind.can_drop)


@dataclass(frozen=True)
class Finding:
    """Something wrong, how often, where for example, and what the package does about it."""

    kind: str
    count: int
    examples: list[str]
    action: str


class Audit(NamedTuple):
    """What an audit says: findings, counts beside the paper's, and what it could not look at."""

    findings: list[Finding]
    tables: list[Comparison]
    remarks: list[str]


def audit_release(
    root: Path,
    thorough: bool = True,
    progress: Callable[[Iterator[int], int], Iterator[int]] = lambda done, total: done,
) -> Audit:
    """Audit a release on disk.

    Args:
        root: folder of the release.
        thorough: compare the pictures' bytes and, with ImageHash, what they show, for which every archive is read; and
            guess answers from the questions alone, for which all of them are held in memory.
        progress: wraps the bytes read of the archives; its second argument is how many there are.

    Raises:
        ReleaseError: it is no release.
        InputError: its records cannot be read.
    """
    release = mmrel.Release(str(root))
    with tempfile.TemporaryDirectory(prefix="mmrel-audit-") as folder:
        plan = QuestionTable(Path(folder) / "audit.sqlite")
        try:
            plan.add(read_questions(root), [])
            remarks = ["pictures were compared by their paths alone, and no answers were guessed from questions alone"]
            baselines: list[Finding] = []
            if thorough:
                remarks = audit_pictures.read_prints(plan.db, release, progress)
                baselines, more = find_baselines(root)
                remarks += more
            return Audit(audit_questions(plan) + baselines, compare_with_paper(count_cells(plan)), remarks)
        finally:
            plan.close()


def read_questions(root: Path) -> Iterator[Question]:
    """The questions of a release, one at a time, with their place in its `.jsonl` files."""
    for path in sorted(root.glob("data/*/*.jsonl")):
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{path.relative_to(root).as_posix()}:{number}"
                try:
                    yield Question(path.stem, Record(**json.loads(line)), where)
                except (ValueError, TypeError) as error:
                    raise InputError(f"{root}/{where}: expected a record: {error}; python upload.py check") from None


def audit_questions(plan: QuestionTable) -> list[Finding]:
    """All findings on a plan's questions, worst first, but for what the questions alone give away."""
    _prepare(plan.db)
    findings = [finding for name in KINDS if (finding := _find(plan.db, name)).count]
    variants, examples = audit_words.find_variants(plan.db)
    findings += [Finding("spelling_variant", variants, examples, KEPT)] if variants else []
    return findings + _find_unbalanced(plan.db)


def drop_questions(plan: QuestionTable, kinds: Sequence[str]) -> dict[str, int]:
    """Leave out the questions of some kinds of findings; returns how many of each."""
    if unknown := sorted(set(kinds) - set(DROPPABLE)):
        raise InputError(f"--drop: expected kinds among {', '.join(DROPPABLE)}, got {', '.join(unknown)}")
    dropped = {}
    for name in (name for name in KINDS if name in kinds):
        _prepare(plan.db)
        plan.db.execute(f"create temp table dropped as select id from ({_select(name)}) where dropped")
        dropped[name] = plan.db.execute("delete from questions where rowid in (select id from dropped)").rowcount
        plan.db.execute("drop table dropped")
    plan.db.commit()
    return dropped


def count_cells(plan: QuestionTable) -> dict[Cell, int]:
    """Different questions per cell; one that stands in two splits counts once where no split is named."""
    query = "select {} domain, category, task, count(*) from questions group by {} domain, category, task"
    cells = {
        Cell(split, domain, mmrel.CATEGORIES[category], mmrel.TASKS[task]): number
        for split, domain, category, task, number in plan.db.execute(query.format("split,", "split,"))
    }
    different = "(select distinct domain, category, task, image_id, lower(question) from questions)"
    for domain, category, task, number in plan.db.execute(query.format("", "").replace("questions", different, 1)):
        cells[Cell(None, domain, mmrel.CATEGORIES[category], mmrel.TASKS[task])] = number
    return cells


def _prepare(db: sqlite3.Connection) -> None:
    audit_pictures.make_tables(db)
    audit_words.make_claims(db)


def _select(name: str) -> str:
    named = "select null as key, null as id, null as dropped where 0"
    return f"select key, id, dropped from ({named} union all {KINDS[name].query})"


def _find(db: sqlite3.Connection, name: str) -> Finding:
    db.execute(f"create temp table found as {_select(name)}")
    db.execute("create index temp.by_key on found (key)")
    (count,) = db.execute("select count(distinct key) from found").fetchone()
    keys = db.execute("select key from found group by key order by min(id) limit ?", (EXAMPLES,)).fetchall()
    examples = [" | ".join(_show(db, key)) for (key,) in keys]
    db.execute("drop table found")
    return Finding(name, count, examples, (DROPPED if KINDS[name].can_drop else KEPT).format(kind=name))


def _show(db: sqlite3.Connection, key: object) -> list[str]:
    """Two questions of one finding, of two splits where it spans them."""
    rows = db.execute(
        "select place, image_id, question, answer from questions join (select min(q.rowid) as first, "
        "row_number() over (partition by q.split order by min(q.rowid)) as nth from found f join questions q "
        "on q.rowid = f.id where f.key = ? group by q.split, q.question, q.answer) on questions.rowid = first "
        "order by nth, first limit 2",
        (key,),
    )
    return [f"{place}: {image_id}: {question} {answer}" for place, image_id, question, answer in rows]


def _find_unbalanced(db: sqlite3.Connection) -> list[Finding]:
    rows = db.execute(
        "select domain, category, split, sum(answer = 'yes'), sum(answer = 'no'), min(place) from questions "
        "where task = 0 group by domain, category, split order by domain, category, split"
    )
    examples = [
        f"{place.rpartition(':')[0]}: {domain} {mmrel.CATEGORIES[category]} {split}: {yes} yes, {no} no "
        f"({yes / (yes + no):.0%} yes)"
        for domain, category, split, yes, no, place in rows
        if yes + no >= BALANCE_LEAST and abs(yes / (yes + no) - 0.5) > BALANCE
    ]
    return [Finding("unbalanced_cell", len(examples), examples, KEPT)] if examples else []


def find_baselines(root: Path) -> tuple[list[Finding], list[str]]:
    """How right one is in each cell of each split without the picture, by `mmrel_kit.scoring`; and remarks.

    "majority by relation" learns from the split that `LEARN_FROM` names, never from the one it guesses.
    """
    questions, _ = load_release(root)
    splits: dict[str, dict[str, relation_accuracy.Question]] = {}
    for name, question in questions.items():
        splits.setdefault(str(question.group.split), {})[name] = question
    examples, remarks = [], []
    for split, asked in sorted(splits.items()):
        learnt = splits.get(LEARN_FROM[split])
        if not learnt:
            remarks.append(f"{split}: no majority by relation, there is no {LEARN_FROM[split]} to learn it from")
        cells: dict[str, dict[str, float]] = {}
        for name, scores in blind_baselines(asked, learnt).items():
            for cell, figures in scores.figures()["by"]["cell"].items():
                cells.setdefault(cell, {})[name] = figures["accuracy"]
        for cell, accuracies in cells.items():
            if max(accuracies.values()) > 0.5 + BALANCE:
                told = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in accuracies.items())
                examples.append(f"data/{cell.split('/')[0]}/{split}.jsonl: {cell} {split}: {told}")
    return ([Finding("blind_baseline", len(examples), examples, KEPT)] if examples else []), remarks

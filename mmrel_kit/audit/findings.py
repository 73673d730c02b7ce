# SPDX-License-Identifier: Apache-2.0
"""Find what is wrong in a release's questions and pictures; some of it can be left out on demand.

The questions are rows of a `QuestionTable`. Each kind of finding is a query that gives the
questions concerned, what ties them together, and which of them a build leaves out when it drops
that kind. Nothing is repaired.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mmrel
import relation_accuracy
from mmrel_kit.audit import pictures as audit_pictures
from mmrel_kit.audit import words as audit_words
from mmrel_kit.files import RELEASE_RULES, InputError, read_objects
from mmrel_kit.questions.annotations import Annotation
from mmrel_kit.questions.published import Cell, compare_with_paper
from mmrel_kit.questions.records import Record
from mmrel_kit.questions.table import QuestionTable, make_order
from mmrel_kit.scoring.baselines import LEARN_FROM, blind_baselines
from mmrel_kit.scoring.release import load_release

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from mmrel_kit.questions.published import Comparison

EXAMPLES = 5
KEPT, DROPPED = "kept", "kept; build --drop {kind} leaves them out"
NO_PICTURES = "pictures were compared by their paths alone"
NO_BASELINES = "no answers were guessed from questions alone"
BALANCE = 0.05  # share of yes may differ from a half by so much
BALANCE_LEAST = 20  # questions, below which a cell's balance says nothing
_RECORDS = re.compile(r"data/\w+/(\w+)\.jsonl")
NEAR = audit_pictures.NEAR
_RANK = audit_pictures.rank_split("split")
_ACROSS = (
    "select key, id, rank > least from (select {key} as key, rowid as id, {rank} as rank, "
    "min({rank}) over same as least, max({rank}) over same as most from questions "
    "window same as (partition by {key})) where least < most"
)
_PAIRS = (
    "select key, id, 1 from (select split || ' ' || pair_id as key, rowid as id, "
    "count(*) over same as number, sum(answer = 'yes') over same as yes from questions "
    "where pair_id is not null window same as (partition by split, pair_id)) where "
)
_JUDGED = """
select {key}, rowid, 1 from questions
where relation is not null and judge(category, relation) = '{verdict}'
"""
_SHOWN = """
select line, image_id, question, answer from questions join (
    select min(q.rowid) as first,
    row_number() over (partition by q.split order by min(q.rowid)) as nth
    from found f join questions q on q.rowid = f.id where f.key = ?
    group by q.split, q.question, q.answer
) on questions.rowid = first order by nth, first limit 2
"""
_EXCLUDING = "the same triplet with both, a relation both ways, opposites"


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        meaning: what it means.
        query: gives what ties questions together, a question's row, and whether it is dropped.
        can_drop: whether a build can leave such questions out.
    """

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
        "select key, id, nth > 1 from (select key, id, "
        "row_number() over (partition by key order by id) as nth, "
        "count(*) over (partition by key) as number from (select "
        "split || image_id || char(10) || lower(question) || task as key, rowid as id "
        "from questions)) where number > 1",
    ),
    "same_picture_across_splits": Kind(
        "the same picture, by its path or its bytes, stands in two splits (dropped by path alone)",
        f"{_ACROSS.format(key='image_id', rank=_RANK)} union all {audit_pictures.SAME_BYTES}",
    ),
    "similar_picture_across_splits": Kind(
        f"pictures of two splits whose perceptual hashes differ in at most {NEAR} of 64 bits",
        audit_pictures.SIMILAR,
        can_drop=False,
    ),
    "no_partner": Kind("a yes without a no, or a no without a yes", _PAIRS + "number = 1"),
    "group_without_yes": Kind(
        "several questions on one pair of objects, none answered yes",
        _PAIRS + "number > 1 and yes = 0",
    ),
    "group_without_no": Kind(
        "several questions on one pair of objects, all answered yes",
        _PAIRS + "number > 1 and yes = number",
    ),
    "contradiction": Kind(
        f"labels of one picture that exclude each other: {_EXCLUDING}",
        audit_words.CONTRADICTIONS,
    ),
    "impossible_triplet": Kind(
        "a relation that its category cannot have by the taxonomy",
        _JUDGED.format(key="rowid", verdict="impossible"),
    ),
    "unknown_relation": Kind(
        "a comparative relation that the taxonomy does not list",
        _JUDGED.format(key="category || relation", verdict="unknown"),
        can_drop=False,
    ),
    "subject_is_object": Kind(
        "subject and object have one name, so that swapping them asks the same",
        "select rowid, rowid, 1 from questions where lower(subject) = lower(object)",
    ),
}
DROPPABLE = tuple(name for name, kind in KINDS.items() if kind.can_drop)


@dataclass(frozen=True)
class Finding:
    """Something wrong, how often, where for example, and what the package does about it."""

    kind: str
    count: int
    examples: list[str]
    action: str


class Audit(NamedTuple):
    """Findings, counts beside the paper's, and what could not be examined."""

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
        thorough: compare the pictures' bytes and, with ImageHash, what they show, for which every
            archive is read; and guess answers from the questions alone, for which all of them are
            held in memory.
        progress: wraps the bytes read of the archives; its second argument is how many there are.

    Raises:
        ReleaseError: it is no release.
        InputError: its records cannot be read.
    """
    release = mmrel.Release(root)
    with (
        tempfile.TemporaryDirectory(prefix="mmrel-audit-") as folder,
        closing(QuestionTable(Path(folder) / "audit.sqlite")) as table,
    ):
        table.add(read_questions(release))
        baselines: list[Finding] = []
        if thorough:
            remarks = audit_pictures.read_prints(table.db, release, progress)
            baselines, more = find_baselines(release)
            remarks += more
        else:
            remarks = [f"{NO_PICTURES}, and {NO_BASELINES}"]
        findings = audit_questions(table) + baselines
        return Audit(findings, compare_with_paper(count_cells(table)), remarks)


def read_questions(release: mmrel.Release) -> Iterator[Annotation]:
    """Yield the questions of a release on disk, with file and line.

    Raises:
        InputError: a line is not a record.
    """
    for name in sorted(release.files):
        match = _RECORDS.fullmatch(name)
        if not match:
            continue
        try:
            for where, value in read_objects(Path(release.path(name)), name, RELEASE_RULES):
                yield Annotation(match[1], _make_record(value, where), where)
        except InputError as error:
            advice = f"mmrel check {release.root} lists all that is wrong"
            raise InputError(f"{release.root}/{error}; {advice}") from None


def audit_questions(table: QuestionTable) -> list[Finding]:
    """Return all findings on the questions, but for what they give away alone."""
    _prepare(table.db)
    findings = []
    for name in KINDS:
        finding = _find(table.db, name)
        if finding.count:
            findings.append(finding)
    variants, examples = audit_words.find_variants(table.db)
    if variants:
        findings.append(Finding("spelling_variant", variants, examples, KEPT))
    return findings + _find_unbalanced(table.db)


def drop_questions(table: QuestionTable, kinds: Sequence[str]) -> dict[str, int]:
    """Delete the questions of some kinds of findings; return how many of each.

    Raises:
        InputError: a kind cannot be dropped.
    """
    unknown = sorted(set(kinds) - set(DROPPABLE))
    if unknown:
        wanted = f"expected kinds among {', '.join(DROPPABLE)}"
        raise InputError(f"--drop: {wanted}, got {', '.join(unknown)}")
    dropped = {}
    for name in KINDS:
        if name not in kinds:
            continue
        _prepare(table.db)
        chosen = f"select id from ({_select(name)}) where dropped"
        table.db.execute(f"create temp table dropped as {chosen}")
        delete = "delete from questions where rowid in (select id from dropped)"
        dropped[name] = table.db.execute(delete).rowcount
        table.db.execute("drop table dropped")
    table.db.commit()
    return dropped


def count_cells(table: QuestionTable) -> dict[Cell, int]:
    """Count different questions per cell.

    A question that is in two splits counts once where no split is named.
    """
    cells = {}
    columns = "split, domain, category, task"
    of_split = f"select {columns}, count(*) from questions group by {columns}"
    for split, domain, category, task, number in table.db.execute(of_split):
        cells[Cell(split, domain, category, task)] = number
    of_all = (
        "select domain, category, task, count(*) from (select distinct domain, category, task, "
        "image_id, lower(question) from questions) group by domain, category, task"
    )
    for domain, category, task, number in table.db.execute(of_all):
        cells[Cell(None, domain, category, task)] = number
    return cells


def find_baselines(release: mmrel.Release) -> tuple[list[Finding], list[str]]:
    """Find cells whose answers can be guessed without the picture.

    "majority by relation" learns from the split that `LEARN_FROM` names, never from the one it
    guesses.

    Returns:
        The finding, if there is one, and remarks.
    """
    questions, _ = load_release(release)
    splits: dict[str, dict[str, relation_accuracy.Question]] = {}
    for name, question in questions.items():
        splits.setdefault(str(question.group.split), {})[name] = question
    examples, remarks = [], []
    for split, asked in sorted(splits.items()):
        source = LEARN_FROM[split]
        learnt = splits.get(source)
        if not learnt:
            why = f"there is no {source} to learn it from"
            remarks.append(f"{split}: no majority by relation, {why}")
        cells: dict[str, dict[str, float]] = {}
        for name, scores in blind_baselines(asked, learnt).items():
            for cell, figures in scores.figures()["by"]["cell"].items():
                cells.setdefault(cell, {})[name] = figures["accuracy"]
        for cell, accuracies in cells.items():
            if max(accuracies.values()) > 0.5 + BALANCE:
                shown = ", ".join(f"{name} {share:.1%}" for name, share in accuracies.items())
                file = f"data/{cell.split('/')[0]}/{split}.jsonl"
                examples.append(f"{file}: {cell} {split}: {shown}")
    if not examples:
        return [], remarks
    return [Finding("blind_baseline", len(examples), examples, KEPT)], remarks


def _make_record(value: dict[str, Any], where: str) -> Record:
    """Return a record of a release, whose types alone are checked: `check` looks at the rest."""
    try:
        record = Record(**value)
    except TypeError as error:
        raise InputError(f"{where}: expected a record: {error}") from None
    for name, text in value.items():
        if name != "verification" and not (text is None or isinstance(text, str)):
            raise InputError(f"{where}: expected a record: field {name}: expected text")
    for name, known in (("category", mmrel.CATEGORIES), ("task", mmrel.TASKS)):
        if value[name] not in known:
            wanted = f"field {name}: expected one of {', '.join(known)}"
            raise InputError(f"{where}: expected a record: {wanted}")
    return record


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
    first = "select key from found group by key order by min(id) limit ?"
    keys = db.execute(first, (EXAMPLES,)).fetchall()
    examples = [" | ".join(_show(db, key)) for (key,) in keys]
    db.execute("drop table found")
    action = DROPPED if KINDS[name].can_drop else KEPT
    return Finding(name, count, examples, action.format(kind=name))


def _show(db: sqlite3.Connection, key: object) -> list[str]:
    """Return two questions of one finding, of two splits where it spans them."""
    rows = db.execute(_SHOWN, (key,))
    return [f"{line}: {image_id}: {question} {answer}" for line, image_id, question, answer in rows]


def _find_unbalanced(db: sqlite3.Connection) -> list[Finding]:
    rows = db.execute(
        "select domain, category, split, sum(answer = 'yes'), sum(answer = 'no'), min(line) "
        "from questions where task = 'discriminative' group by domain, category, split "
        f"order by domain, {make_order('category', mmrel.CATEGORIES)}, split"
    )
    examples = []
    for domain, category, split, yes, no, line in rows:
        share = yes / (yes + no)
        if yes + no < BALANCE_LEAST or abs(share - 0.5) <= BALANCE:
            continue
        file = line.rpartition(":")[0]
        counts = f"{yes} yes, {no} no ({share:.0%} yes)"
        examples.append(f"{file}: {domain} {category} {split}: {counts}")
    if not examples:
        return []
    return [Finding("unbalanced_cell", len(examples), examples, KEPT)]

# SPDX-License-Identifier: Apache-2.0
"""Audit a release: look for every kind of finding, and drop questions of some kinds on demand.

`kinds.py` lists what is looked for. Nothing is repaired.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.audit import queries
from mmrel_kit.audit.checks import AuditInput, list_unlearnt_baselines
from mmrel_kit.audit.claims import store_claims
from mmrel_kit.audit.kinds import DROPPABLE, KINDS, Kind
from mmrel_kit.audit.pictures import create_tables, store_hashes
from mmrel_kit.files import RELEASE_RULES, InputError, read_objects
from mmrel_kit.questions.annotations import Annotation
from mmrel_kit.questions.published import Cell, Comparison, compare_with_published
from mmrel_kit.questions.records import Record
from mmrel_kit.questions.table import QuestionTable

QUICK_REMARK = "pictures were compared by their paths alone, and blind baselines were not run"
_RECORDS = re.compile(r"data/\w+/(\w+)\.jsonl")


@dataclass(frozen=True)
class Finding:
    """The findings of one kind: how many, some examples, and what the package does about them."""

    kind: str
    count: int
    examples: list[str]
    action: str


class Audit(NamedTuple):
    """Findings, counts beside the published ones, and remarks on what was not examined."""

    findings: list[Finding]
    tables: list[Comparison]
    remarks: list[str]


def audit_release(
    root: Path,
    thorough: bool = True,
    progress: Callable[[Iterator[int], int], Iterator[int]] = lambda done, total: done,
    workers: int = 1,
) -> Audit:
    """Audit a release on disk.

    Args:
        root: folder of the release.
        thorough: compare pictures by their bytes and, with ImageHash, by how they look, which reads
            every archive; and guess answers from the questions alone, which holds all of them in
            memory.
        progress: wraps the bytes read of the archives; its second argument is their total.
        workers: number of processes that read pictures; the result is the same.

    Raises:
        ReleaseError: it is not a release, or an archive is damaged.
        ChildProcessError: see `run_tasks`.
        InputError: its records cannot be read.
    """
    release = mmrel.Release(root)
    with (
        tempfile.TemporaryDirectory(prefix="mmrel-audit-") as folder,
        closing(QuestionTable(Path(folder) / "audit.sqlite")) as table,
    ):
        table.add(read_questions(release))
        if thorough:
            remarks = store_hashes(table.db, release, progress, workers)
            remarks += list_unlearnt_baselines(table.db)
            findings = audit_questions(table, release)
        else:
            remarks = [QUICK_REMARK]
            findings = audit_questions(table)
        return Audit(findings, compare_with_published(count_cells(table)), remarks)


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
            advice = f"run mmrel check {release.root} for all problems"
            raise InputError(f"{release.root}/{error}; {advice}") from None


def audit_questions(table: QuestionTable, release: mmrel.Release | None = None) -> list[Finding]:
    """Return the findings in questions, kind by kind; without a release, those in the table alone.

    Pictures are compared by their hashes where `store_hashes` has stored them.
    """
    _create_tables(table.db)
    audited = AuditInput(table.db, release)
    findings = []
    for kind in KINDS:
        finding = _run_check(kind, audited)
        if finding.count:
            findings.append(finding)
    return findings


def drop_questions(table: QuestionTable, names: Sequence[str]) -> dict[str, int]:
    """Delete the questions of some kinds of findings; return how many of each kind.

    Raises:
        InputError: a kind cannot be dropped.
    """
    unknown = sorted(set(names) - set(DROPPABLE))
    if unknown:
        raise InputError(
            f"--drop: expected kinds among {', '.join(DROPPABLE)}, got {', '.join(unknown)}"
        )
    dropped = {}
    for kind in KINDS:
        if kind.name in names and isinstance(kind.check, str):
            _create_tables(table.db)
            deleted = table.db.execute(queries.delete_matches(kind.check))
            dropped[kind.name] = deleted.rowcount
    table.db.commit()
    return dropped


def count_cells(table: QuestionTable) -> dict[Cell, int]:
    """Count distinct questions per cell; in cells of no split, each question counts once."""
    cells = {}
    for query in (queries.COUNT_IN_SPLITS, queries.COUNT_IN_ALL):
        for split, domain, category, task, count in table.db.execute(query):
            cells[Cell(split, domain, category, task)] = count
    return cells


def _make_record(value: dict[str, Any], where: str) -> Record:
    """Return a record of a release; only types are checked, `mmrel check` checks the rest."""
    try:
        record = Record(**value)
    except TypeError as error:
        raise InputError(f"{where}: expected a record: {error}") from None
    for name, text in value.items():
        if name != "verification" and not (text is None or isinstance(text, str)):
            raise InputError(f"{where}: expected a record: field {name}: expected text")
    for name, known in (("category", mmrel.CATEGORIES), ("task", mmrel.TASKS)):
        if value[name] not in known:
            raise InputError(
                f"{where}: expected a record: field {name}: expected one of {', '.join(known)}"
            )
    return record


def _create_tables(db: sqlite3.Connection) -> None:
    """Create what the queries of the kinds select from, beside the questions."""
    create_tables(db)
    store_claims(db)


def _run_check(kind: Kind, audited: AuditInput) -> Finding:
    """Return what the check of a kind finds."""
    if isinstance(kind.check, str):
        count, examples = _run_query(audited.db, kind.check, kind.max_examples)
    else:
        examples = list(kind.check(audited))
        count, examples = len(examples), examples[: kind.max_examples]
    return Finding(kind.name, count, examples, kind.action)


def _run_query(
    db: sqlite3.Connection, query: str, max_examples: int | None
) -> tuple[int, list[str]]:
    """Return the number of findings that a query selects, and the first ones as examples."""
    limit = -1 if max_examples is None else max_examples  # -1 is SQLite's "all"
    db.executescript(queries.create_matches(query))
    (count,) = db.execute(queries.COUNT_FINDINGS).fetchone()
    examples = []
    for (key,) in db.execute(queries.SELECT_KEYS, (limit,)).fetchall():
        questions = []
        for line, image_id, question, answer in db.execute(queries.SELECT_EXAMPLE, (key,)):
            questions.append(f"{line}: {image_id}: {question} {answer}")
        examples.append(" | ".join(questions))
    return count, examples

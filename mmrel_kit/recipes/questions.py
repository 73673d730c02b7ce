# SPDX-License-Identifier: Apache-2.0
"""What all recipes share: the questions of a split, answer files, the report on answers."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmrel
import relation_accuracy
from mmrel_kit.files import InputError, make_json, write_bytes
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.questions.records import check_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# What a user can mend: told in one line, without a traceback.
USER_ERRORS = (
    InputError,
    mmrel.ReleaseError,
    relation_accuracy.AnswerError,
    relation_accuracy.RecordError,
    relation_accuracy.MatchError,
)


def is_of_task(record: Mapping[str, Any], task: str) -> bool:
    """Whether a record is of a task: discriminative, generative, or both."""
    return task in ("both", record["task"])


def read_records(release: mmrel.Release, config: str, split: str) -> list[dict[str, Any]]:
    """All records of a split in the release's order, each with its `split`; both tasks.

    Raises:
        ReleaseError: the release has no such split, or a file of it differs from checksums.json.
    """
    records = []
    for name in _find_lines(release, config, split):
        with mmrel.open_file(release.path(name)) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != release.files[name]["sha256"]:
            raise mmrel.ReleaseError(f"{release.path(name)}: differs from checksums.json; fetch the release again")
        records += [{**json.loads(line), "split": split} for line in data.decode().split("\n") if line]
    return records


def read_pictures(release: mmrel.Release, config: str, split: str) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
    """The records about each picture, and the picture's bytes, in constant memory.

    Raises:
        ReleaseError: an archive is damaged, or a record breaks the contract; so an `image_id` is safe as a path.
    """
    for records, data in read_archives(release, release.archives(config).get(split, [])):
        for record in records:
            if problem := check_record(record):
                where = f"{release.root}: {split}, question {record.get('question_id')!r}"
                raise mmrel.ReleaseError(f"{where}: {problem}; fetch the release again")
        yield records, data


def write_answers(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write an answer file, a row (`question_id`, `answer`, …) a line; it is there whole or not at all."""
    write_bytes(path, "".join(make_json(row) + "\n" for row in rows).encode())


def make_report(
    release: mmrel.Release,
    config: str,
    split: str,
    answers: Mapping[str, str | None],
    task: str = relation_accuracy.TASKS[0],
    run: Mapping[str, Any] | None = None,
    partial: bool = False,
    notes: Iterable[str] = (),
) -> dict[str, Any]:
    """The report of `relation_accuracy` on answers to a split.

    Args:
        release: what was asked.
        config: its config.
        split: its split.
        answers: by question_id; null where none came.
        task: discriminative, generative or both.
        run: what is stated of `model`, `prompt` and `decoding`.
        partial: score what is there, where answers are missing.
        notes: sentences about the run, added to those of the report.

    Raises:
        MatchError: answers are missing or belong to no question.
    """
    records = read_records(release, config, split)
    questions = relation_accuracy.index_questions((f"{config}/{split}", record) for record in records)
    scores = relation_accuracy.Scores()
    asked = functools.partial(relation_accuracy.is_asked, task=task)
    count = relation_accuracy.match(answers, questions, scores, asked, partial)
    told = {"name": "mmrel", "version": release.version, "note": release.note, "sha256": release.sha256}
    told |= {"config": config, "split": split}
    report = relation_accuracy.report(scores, count, told, run)
    report["notes"] += notes
    return report


def _find_lines(release: mmrel.Release, config: str, split: str) -> list[str]:
    domains = mmrel.DOMAINS if config == "all" else (config,)
    names = [f"data/{domain}/{split}.jsonl" for domain in sorted(domains)]
    if not (found := [name for name in names if name in release.files]):
        raise mmrel.ReleaseError(f"{release.root}: expected questions of {config!r} in {split!r}, it lists none")
    return found

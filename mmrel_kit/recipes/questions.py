# SPDX-License-Identifier: Apache-2.0
"""What all recipes share: the questions of a split, answer files, the report on answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mmrel
import relation_accuracy
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.questions.records import check_record
from mmrel_kit.scoring import release as scoring
from mmrel_kit.scoring.report import Selection, score_answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def is_of_task(record: Mapping[str, Any], task: str) -> bool:
    """Whether a record is of a task: discriminative, generative, or both."""
    return task in ("both", record["task"])


def read_records(release: mmrel.Release, config: str, split: str) -> list[dict[str, Any]]:
    """Return the records of a split in the release's order, each with its `split`; both tasks.

    Raises:
        ReleaseError: the release has no such split, or a file of it differs from checksums.json.
    """
    return [record for _, record in scoring.read_records(release, config, split)]


def read_pictures(
    release: mmrel.Release, config: str, split: str
) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
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


def make_report(
    release: mmrel.Release,
    chosen: Selection,
    answers: Mapping[str, str | None],
    run: Mapping[str, Any] | None = None,
    notes: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the report of `relation_accuracy` on answers to a split.

    Args:
        release: what was asked.
        chosen: its questions.
        answers: by question_id; None where none came.
        run: what is stated of `model`, `prompt` and `decoding`.
        notes: sentences about the run, added to those of the report.

    Raises:
        AnswerError: answers are missing or belong to no question.
    """
    records = scoring.read_records(release, chosen.config, chosen.split)
    questions = relation_accuracy.index_questions(records)
    scores = score_answers(answers, questions, release, chosen)
    info = scoring.describe_release(release, chosen.config, chosen.split)
    report = relation_accuracy.report(scores, info, run)
    report["notes"] += notes
    return report

# SPDX-License-Identifier: Apache-2.0
"""Read the records and pictures of a split, and report on answers to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import mmrel
import relation_accuracy
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.questions.records import check_record
from mmrel_kit.scoring import release as scoring
from mmrel_kit.scoring.report import Selection, score_answers


def matches_task(record: Mapping[str, Any], task: str) -> bool:
    """Return whether a record belongs to a task: discriminative, generative or both."""
    return task in ("both", record["task"])


def read_records(release: mmrel.Release, config: str, split: str) -> list[dict[str, Any]]:
    """Return the records of a split in the release's order, of both tasks, each with its `split`.

    Raises:
        ReleaseError: the release has no such split, or a file differs from checksums.json.
    """
    return [record for _, record in scoring.read_records(release, config, split)]


def read_pictures(
    release: mmrel.Release, config: str, split: str
) -> Iterator[tuple[list[dict[str, Any]], bytes]]:
    """Yield the records about each picture of a split, and the picture's bytes, one at a time.

    Records are validated, so their `image_id` is safe as a path.

    Raises:
        ReleaseError: an archive is damaged, or a record is invalid.
    """
    for records, data in read_archives(release, release.archives(config).get(split, [])):
        for record in records:
            problem = check_record(record)
            if problem:
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

    `answers` has an answer by question_id, or None; `run` has `model`, `prompt` and `decoding`, as
    far as known.

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

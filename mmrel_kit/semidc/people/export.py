# SPDX-License-Identifier: Apache-2.0
"""Export records for `mmrel build`, and tasks for Label Studio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmrel_kit.files import InputError, write_bytes, write_json_lines
from mmrel_kit.questions.records import check_record
from mmrel_kit.semidc.people.ask import Questions, make_questions
from mmrel_kit.semidc.people.store import Project

LABEL_CONFIG = """<View>
  <Image name="picture" value="$image" zoom="true"/>
  <Header value="$statement"/>
  <Choices name="verdict" toName="picture" choice="single" showInline="true" required="true">
    <Choice value="accept" hotkey="a"/>
    <Choice value="correct" hotkey="c"/>
    <Choice value="reject" hotkey="r"/>
  </Choices>
  <TextArea name="correction" toName="picture" visibleWhen="choice-selected" whenTagName="verdict"
    whenChoiceValue="correct" placeholder="subject, relation, object"/>
</View>
"""


def export_records(project: Project, path: Path) -> Questions:
    """Write the questions of all settled items as records, and return the questions.

    Raises:
        InputError: no item is settled, or a record breaks the contract; nothing is written.
    """
    questions = make_questions(project)
    if not questions.records:
        raise InputError(f"{project.path}: expected settled items, found none; verify some first")
    for record in questions.records:
        problem = check_record(record.to_json())
        if problem:
            raise InputError(f"{record.source}: {problem}")
    write_json_lines(path, (record.to_json() for record in questions.records))
    return questions


def export_label_studio(project: Project, folder: Path, prefix: str) -> int:
    """Write tasks for Label Studio and return their number.

    `tasks.json` has a task for each item, with the proposal as prediction; `config.xml` lays out
    the page.

    `prefix` is the start of each picture's address, for example /data/local-files/?d=
    """
    tasks = list(_make_tasks(project, prefix))
    text = json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"
    write_bytes(folder / "tasks.json", text.encode())
    write_bytes(folder / "config.xml", LABEL_CONFIG.encode())
    return len(tasks)


def _make_tasks(project: Project, prefix: str) -> Iterator[dict[str, Any]]:
    for item in project.items():
        data = {
            "image": prefix + item.image_id,
            "image_id": item.image_id,
            "category": item.category,
            **item.triplet._asdict(),
            "statement": " ".join(item.triplet),
        }
        # Negatives are proposed to be false, all others to be true.
        verdict = "reject" if item.origin == "negative" else "accept"
        value = {"choices": [verdict]}
        result = {"from_name": "verdict", "to_name": "picture", "type": "choices", "value": value}
        score = item.confidence or 0.0
        prediction = {"model_version": item.source, "score": score, "result": [result]}
        yield {"id": item.id, "data": data, "predictions": [prediction]}

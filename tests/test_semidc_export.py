"""Records of the contract, and tasks for Label Studio."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.people.export import export_label_studio, export_records
from mmrel_kit.semidc.people.store import Decision, Project
from tests.helpers.labelling import (
    FIRST,
    add_unchecked,
    decide,
    make_project,
    run_label,
)
from tests.helpers.questions import read as read_questions


def test_records_pass_the_contract_and_say_who_verified(tmp_path: Path) -> None:
    project = make_project(tmp_path, (FIRST, "action", "person sit surfboard", None))
    project.set_people(2)
    decide(project, "ann", "correct", Triplet("person", "stand", "surfboard"))
    decide(project, "ben", "reject")
    item = project.next_item("cy", adjudicate=True)
    assert item
    project.decide(
        Decision("cy", item.id, "cy", "correct", Triplet("person", "stand", "surfboard"))
    )
    questions = export_records(project, tmp_path / "json" / "test.jsonl")
    read = [question.record for question in read_questions(tmp_path / "json")]
    assert read == questions.records
    for record in read:
        assert record.verification
        assert (record.verification["annotators"], record.verification["agreed"]) == (
            ["ann", "ben", "cy"],
            2,
        )
    with pytest.raises(InputError, match="expected settled items, found none"):
        export_records(Project(tmp_path / "empty.sqlite", make=True), tmp_path / "none.jsonl")


def test_export_leaves_out_what_is_impossible_and_says_so(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = make_project(tmp_path, (FIRST, "action", "cup hold dog", "accept"))
    add_unchecked(project, ("action", "cup above dog", "model"))
    decide(project, "ann", "accept")
    status, out, _ = run_label(capsys, "export", project.path, "--out", tmp_path / "json")
    assert status == 0
    assert "  1 x action triplet: expected a verb" in out
    assert "got the spatial word 'above'" in out
    assert "above" not in (tmp_path / "json" / "test.jsonl").read_text()


def test_label_studio_gets_tasks_with_predictions(tmp_path: Path) -> None:
    project = make_project(tmp_path, (FIRST, "action", "person sit surfboard", None))
    assert export_label_studio(project, tmp_path / "ls", "/data/local-files/?d=") == 1
    (task,) = json.loads((tmp_path / "ls/tasks.json").read_text())
    assert task["data"]["image"] == f"/data/local-files/?d={FIRST}"
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("test", 0.5)
    assert prediction["result"][0]["value"] == {"choices": ["accept"]}

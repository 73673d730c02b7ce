"""The table of questions: unchanged fields, unique ids, padded sources, all problems at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import mmrel
from mmrel_kit.files import InputError
from mmrel_kit.questions.annotations import read_annotations
from mmrel_kit.questions.table import FIELDS, QuestionTable, read_record
from tests.helpers.questions import POPE, read, write


def store_ids(tmp_path: Path, *paths: Path) -> list[str]:
    """Return the ids that a table of questions gives to records."""
    made = QuestionTable(tmp_path / "plan.sqlite")
    made.add(read_annotations(paths))
    return [name for (name,) in made.db.execute("select question_id from questions order by rowid")]


def test_a_record_is_read_back_unchanged(tmp_path: Path, built: Path) -> None:
    record = json.loads(
        (built / "data" / "dalle" / "test.jsonl").read_text("utf-8").splitlines()[0]
    )
    verified = {"annotators": ["Zoë"], "agreed": 1, "verified_at": "2026-11-24T06:00:00Z"}
    record |= {"question_id": "verified", "verification": verified, "source": "semidc item 1: Zoë"}
    annotations = read(
        *sorted(built.glob("data/*/*.jsonl")), write(tmp_path / "train.jsonl", record)
    )
    table = QuestionTable(tmp_path / "table.sqlite")
    table.add(annotations)
    rows = table.db.execute(f"select {', '.join(FIELDS)} from questions order by rowid").fetchall()
    padded = [read_record(row) for row in rows]
    assert [dataclasses.replace(r, source="") for r in padded] == [
        dataclasses.replace(annotation.record, source="") for annotation in annotations
    ]
    assert padded[-1].verification == verified
    # Categories and tasks are text, as everything else.
    for name in FIELDS:
        kinds = {
            kind for (kind,) in table.db.execute(f"select distinct typeof({name}) from questions")
        }
        assert kinds <= {"text", "null"}


def test_all_problems_are_raised_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", POPE, {**POPE, "label": "maybe"}, POPE, *[{**POPE, "text": "?"}] * 20
    )
    with pytest.raises(InputError) as caught:
        store_ids(tmp_path, path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(f"{path}:2: expected the label yes or no")
    assert lines[-1] == "… 22 problems in all"
    with pytest.raises(
        InputError, match="a.jsonl:1: expected the label .*\n.*a.jsonl:3: .* is already at"
    ):
        store_ids(tmp_path, write(tmp_path / "a.jsonl", {**POPE, "label": "maybe"}, POPE, POPE))


def test_values_beside_the_questions(tmp_path: Path) -> None:
    table = QuestionTable(tmp_path / "table.sqlite")
    table.set_meta("note", {"a": [1, None]})
    table.set_meta("note", {"a": [2, None]})
    table.close()
    reopened = QuestionTable(tmp_path / "table.sqlite", resume=True)
    assert reopened.get_meta("note") == {"a": [2, None]}
    assert reopened.get_meta("nothing") is None


def test_a_question_id_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", POPE, {**POPE, "question_id": 5}, POPE)
    with pytest.raises(
        InputError, match=r"a.jsonl:3: .*'b3yiuvb1pl35riq' is already at .*a.jsonl:1"
    ):
        store_ids(tmp_path, path)
    with pytest.raises(InputError, match=r"b.jsonl:1: .*is already at .*a.jsonl:1"):
        store_ids(tmp_path, write(tmp_path / "a.jsonl", POPE), write(tmp_path / "b.jsonl", POPE))
    with pytest.raises(InputError, match=r"a.jsonl:2: .*'7' is already"):
        store_ids(
            tmp_path,
            write(tmp_path / "a.jsonl", {**POPE, "question_id": 7}, {**POPE, "question_id": "7"}),
        )


def test_counters_that_restart_in_each_file_are_renamed(tmp_path: Path) -> None:
    first = write(
        tmp_path / "json" / "a.jsonl", {**POPE, "question_id": 1}, {**POPE, "question_id": 2}
    )
    second = write(tmp_path / "json" / "b.jsonl", {**POPE, "question_id": 1})
    assert store_ids(tmp_path, first, second) == ["json/a.jsonl:1", "2", "json/b.jsonl:1"]


def test_partners_of_the_real_records(real_data: Path, tmp_path: Path) -> None:
    made = QuestionTable(tmp_path / "plan.sqlite")
    made.add(read_annotations([real_data / "mmrel" / "mmrel_adversarial.jsonl"]))
    pairs = {category: counts for (_, category), counts in made.count_pairs().items()}
    assert pairs["spatial"][:2] == (232, 232)
    assert pairs["action"]._asdict() == {
        "groups": 188,
        "complete": 172,
        "no_partner_yes": 15,
        "no_partner_no": 1,
        "without_yes": 0,
        "without_no": 0,
    }
    assert (pairs["comparative"].complete, pairs["comparative"].without_yes) == (39, 4)
    assert set(pairs) == set(mmrel.CATEGORIES)

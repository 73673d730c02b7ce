"""The table of questions: unchanged fields, unique ids, padded sources, all problems at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import mmrel
from mmrel_kit.files import InputError
from mmrel_kit.questions.annotations import read_annotations
from mmrel_kit.questions.table import FIELDS, QuestionTable, read_record
from tests.helpers.questions import POPE, read, write


def store_ids(tmp_path: Path, *paths: Path) -> list[str]:
    """Return the ids that a table of questions gives to records."""
    return [id_ for _, id_ in merge(tmp_path, *paths)[0]]


def merge(tmp_path: Path, *paths: Path) -> tuple[list[tuple[str, str]], int]:
    """Return split and id of the questions of several files, and how many were dropped."""
    made = QuestionTable(tmp_path / "plan.sqlite")
    made.add(read_annotations(paths))
    dropped = made.merge_files()
    return made.db.execute(
        "select split, question_id from questions order by rowid"
    ).fetchall(), dropped


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
    table.merge_files()
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
    assert lines[-1] == "… 21 problems in all"


def test_values_beside_the_questions(tmp_path: Path) -> None:
    table = QuestionTable(tmp_path / "table.sqlite")
    table.set_meta("note", {"a": [1, None]})
    table.set_meta("note", {"a": [2, None]})
    table.close()
    reopened = QuestionTable(tmp_path / "table.sqlite", resume=True)
    assert reopened.get_meta("note") == {"a": [2, None]}
    assert reopened.get_meta("nothing") is None


def ask(name: str, **fields: Any) -> dict[str, Any]:
    """Return a question of its own, by the name of its subject."""
    return {**POPE, "text": f"Is there a {name} above to a car in the image?", **fields}


CAT, DOG = ask("cat", question_id="c"), ask("dog", question_id="d")
# Files and their questions; the split and id of each that is left; and how many are dropped.
MERGED = {
    "a line repeated in a file": (
        {"test": [CAT, DOG, CAT]},
        [("test", "c"), ("test", "d")],
        1,
    ),
    "a question with two ids in a file: the audit's business": (
        {"test": [CAT, {**CAT, "question_id": "x"}]},
        [("test", "c"), ("test", "x")],
        0,
    ),
    "in two files of a split, with one id or two, in any case": (
        {"a_test": [CAT, DOG], "b_test": [CAT, {**DOG, "question_id": "x", "label": "Yes."}]},
        [("test", "c"), ("test", "d")],
        2,
    ),
    "in two files of a split, with two answers": (
        {"a_test": [CAT], "b_test": [{**CAT, "label": "no"}]},
        [("test", "json/a_test.jsonl:1"), ("test", "json/b_test.jsonl:1")],
        0,
    ),
    "without a split, and in a file that states one": (
        {"all": [CAT, DOG], "part_train": [{**CAT, "question_id": "x"}]},
        [("test", "d"), ("train", "x")],
        1,
    ),
    "in two splits that files state, with one id": (
        {"adversarial": [CAT], "test": [CAT], "train": [CAT]},
        [("adversarial", "c"), ("test", "json/test.jsonl:1"), ("train", "json/train.jsonl:1")],
        0,
    ),
    "in two splits, with two ids": (
        {"adversarial": [CAT], "test": [{**CAT, "question_id": "x"}]},
        [("adversarial", "c"), ("test", "x")],
        0,
    ),
    "one id for two questions": (
        {"test": [CAT, {**DOG, "question_id": "c"}, ask("bee", question_id="b")]},
        [("test", "json/test.jsonl:1"), ("test", "json/test.jsonl:2"), ("test", "b")],
        0,
    ),
    "counters that restart in each file": (
        {"a_test": [ask("ant", question_id=1), ask("bat", question_id=2)],
         "b_test": [ask("eel", question_id=1)]},
        [("test", "json/a_test.jsonl:1"), ("test", "2"), ("test", "json/b_test.jsonl:1")],
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MERGED)
def test_files_are_merged(case: str, tmp_path: Path) -> None:
    # An id that occurred twice used to stop the build, whichever questions had it.
    files, expected, dropped = MERGED[case]
    paths = [write(tmp_path / "json" / f"{name}.jsonl", *asked) for name, asked in files.items()]
    assert merge(tmp_path, *paths) == (expected, dropped)
    assert merge(tmp_path, *reversed(paths)) == (expected, dropped)


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

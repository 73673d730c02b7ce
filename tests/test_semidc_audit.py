"""Names that version 1.0.0 damaged are found in existing projects, and mended on demand."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrel_kit.endpoint import Endpoint
from mmrel_kit.files import InputError, write_json_lines
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc import words as semidc_words
from mmrel_kit.semidc.items import read_proposals, write_proposals
from mmrel_kit.semidc.model.propose import PARAMETERS, propose
from mmrel_kit.semidc.model.select import Candidate
from mmrel_kit.semidc.people.audit import (
    Uses,
    count_names,
    damage_name,
    find_damage,
    read_raw_names,
)
from mmrel_kit.semidc.people.store import Project
from tests.helpers.labelling import add_unchecked, decide, draw_picture, make_reply, run_label
from tests.helpers.stub_endpoint import StubEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURE = "vg/VG_100K/{}.jpg"
OLD_PATTERN = re.compile(r"(?:an?|the) (?=.)", re.I)
# What a model says of each picture. Version 1.0.0 read "panda bear" as "pandbear".
SAID = [
    ("panda bear", "ride", "bike"),
    ("a panda", "hold", "a bear"),
    ("man in a hat", "ride", "horse"),
    ("the man", "push", "pizza box"),
    ("woman", "eat", "pizza"),
    ("dog in box", "bite", "cup"),
    ("bandstand", "carry", "sofa"),
]
DAMAGED = {
    "pandbear": "panda bear",
    "min hat": "man in a hat",  # read twice: "min a hat" first
    "pizzbox": "pizza box",
}


def old_tidy_name(text: str) -> str:
    """The function of version 1.0.0, as it was."""
    name = OLD_PATTERN.sub("", " ".join(text.split()), count=1)
    return name.lower() if name.isalpha() and name.istitle() else name


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project as version 1.0.0 made it from `SAID`, with its store of replies beside it."""
    images = tmp_path / "images"
    candidates = []
    for number in range(len(SAID)):
        candidates.append(Candidate(draw_picture(images, PICTURE.format(number)), 200, 200))
    replies = [make_reply((*said, 0.5)) for said in SAID]
    drops = Counter[str]()
    stub = StubEndpoint(lambda request: replies[request.number - 1])
    with monkeypatch.context() as patch, stub:
        patch.setattr(semidc_words, "tidy_name", old_tidy_name)
        store = tmp_path / "replies.sqlite"
        client = Endpoint(stub.url, "m", store, parameters=PARAMETERS, retries=0, concurrency=1)
        proposals = propose(candidates, "action", client, images, drops)
        client.close()
        write_proposals(tmp_path / "proposals.jsonl", proposals)
        project = Project(tmp_path / "project.sqlite", make=True)
        project.set_people(1)
        project.add(read_proposals([tmp_path / "proposals.jsonl"], images))
    assert not drops
    assert set(DAMAGED) <= set(count_names(project))
    yield project
    project.close()


Capture = pytest.CaptureFixture[str]


def audit(capsys: Capture, project: Project, *words: object) -> tuple[int, list[str], str]:
    status, out, err = run_label(capsys, "audit", project.path, *words)
    return status, out.splitlines(), err


@given(st.text(max_size=30))
def test_the_damage_is_foreseen_as_version_1_0_0_did_it(name: str) -> None:
    assert damage_name(name) == old_tidy_name(name)


def test_damage_is_found_by_what_the_model_said(damaged: Project) -> None:
    raw = read_raw_names([damaged.path.with_name("replies.sqlite")])
    found = find_damage(count_names(damaged), raw)
    assert {damage.name: damage.originals for damage in found} == {
        name: (original,) for name, original in DAMAGED.items()
    }
    assert all(damage.is_certain for damage in found)


def test_damage_is_suspected_by_the_words_of_other_names(damaged: Project) -> None:
    found = {damage.name: damage for damage in find_damage(count_names(damaged))}
    # What stood alone, "a" before "hat", nobody can guess.
    guessed = {"pandbear": "panda bear", "pizzbox": "pizza box", "min hat": "man in hat"}
    assert {name: damage.originals for name, damage in found.items()} == {
        name: (original,) for name, original in guessed.items()
    }
    assert not any(damage.is_certain for damage in found.values())


def test_a_name_that_was_added_rightly_later_shows_the_damaged_one() -> None:
    uses = {"pandbear": Uses(3, 0), "panda bear": Uses(1, 0), "cup": Uses(9, 0)}
    assert [(d.name, d.originals) for d in find_damage(uses)] == [("pandbear", ("panda bear",))]


def test_three_words_that_became_one() -> None:
    name = old_tidy_name(old_tidy_name("panda sofa bed"))
    assert name == "pandsofbed"
    uses = {word: Uses(1, 0) for word in (name, "panda", "sofa", "bed")}
    assert [d.originals for d in find_damage(uses)] == [("panda sofa bed",)]


def test_a_word_that_a_file_states_is_not_suspected(tmp_path: Path) -> None:
    uses = {word: Uses(1, 0) for word in ("seat", "sea", "man at desk")}
    assert [d.name for d in find_damage(uses)] == ["seat"]
    things = [{"name": "seat", "x": 0, "y": 0, "w": 1, "h": 1}]
    write_json_lines(
        tmp_path / "candidates.jsonl", [{"image_id": PICTURE.format(1), "things": things}]
    )
    assert find_damage(uses, read_raw_names([tmp_path / "candidates.jsonl"])) == []


def test_both_names_stated_leave_it_open() -> None:
    # "dog with bone" may be what a model said, or what became of "dog with a bone".
    uses = {"dog with bone": Uses(2, 0)}
    assert find_damage(uses, {"dog with bone", "dog with a bone"}) == []
    (damage,) = find_damage(uses, {"dog with a bone"})
    assert damage.originals == ("dog with a bone",)


@given(st.lists(st.text("ahnet bc", max_size=8), max_size=12))
def test_names_that_the_present_version_reads_are_never_certain_damage(said: list[str]) -> None:
    uses = {semidc_words.tidy_name(name): Uses(1, 0) for name in said}
    assert not [damage for damage in find_damage(uses, said) if damage.is_certain]


def test_hostile_names_take_no_time() -> None:
    words = ["a" * n for n in range(1, 100)] + ["h" + "a" * n + "x" for n in range(90)]
    find_damage({word: Uses(1, 0) for word in words})


def test_the_command_lists_and_mends(damaged: Project, capsys: Capture) -> None:
    decide_all(damaged, "ann")
    status, lines, _ = audit(capsys, damaged)
    assert (status, lines[0]) == (0, "3 of 14 names look damaged")
    assert "  'pandbear' (1 items, 0 corrections): perhaps 'panda bear'" in lines
    assert lines[-1].startswith("to mend: --mend renames what a model or file states")
    raw = ("--raw", damaged.path.with_name("replies.sqlite"))
    status, lines, _ = audit(capsys, damaged, *raw, "--mend")
    assert "  'min hat' (1 items, 0 corrections): was 'man in a hat'" in lines
    assert lines[-1] == "3 names mended in 3 items and corrections; export again"
    assert {"panda bear", "man in a hat", "pizza box"} <= set(count_names(damaged))
    assert not set(DAMAGED) & set(count_names(damaged))
    assert [d.verdict for d in damaged.decisions()] == ["accept"] * len(SAID)
    assert audit(capsys, damaged, *raw, "--mend")[1][0] == "0 of 14 names look damaged"


def test_other_commands_point_to_it(damaged: Project, capsys: pytest.CaptureFixture[str]) -> None:
    decide_all(damaged, "ann")
    out = damaged.path.with_name("json")
    for words in (["agree"], ["ask"], ["export", "--out", str(out)]):
        status, _, expected = run_label(capsys, words[0], damaged.path, *words[1:])
        assert status == 0
        assert expected.startswith("mmrel label: warning: 3 names look damaged, for example ")
        assert f"mmrel label audit {damaged.path} lists them" in expected
        assert len(expected.splitlines()) == 1


def test_a_sound_project_is_left_in_peace(tmp_path: Path, capsys: Capture) -> None:
    project = make_named(tmp_path, Triplet("panda bear", "ride", "bike"))
    assert audit(capsys, project) == (
        0,
        [
            "0 of 2 names look damaged",
            "0 relations of another category, of which no question is made",
        ],
        "",
    )
    status, _, err = run_label(capsys, "agree", project.path)
    assert (status, err) == (0, "")


def make_named(folder: Path, *triplets: Triplet, category: str = "action") -> Project:
    project = Project(folder / "project.sqlite", make=True)
    project.set_people(1)
    add_unchecked(project, *((category, triplet, "model") for triplet in triplets))
    return project


def decide_all(project: Project, name: str, *said: tuple[str, Triplet | None]) -> None:
    """Decide on the items in their order; without `said`, accept all."""
    for verdict, triplet in said or [("accept", None)] * project.progress("").items:
        decide(project, name, verdict, triplet)


def test_a_renamed_item_is_merged_with_its_twin_and_no_decision_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = (Triplet(name, "ride", "bike") for name in ("panda bear", "pandbear"))
    project = make_named(tmp_path, right, wrong)
    project.set_people(2)
    decide_all(project, "ann")
    decide_all(project, "ben", ("accept", None))
    decide_all(project, "cy", ("reject", None))
    assert [item.triplet for item in project.items("disputed")] == [wrong]
    status, lines, _ = audit(capsys, project, "--rename", "pandbear=a panda bear")
    assert (status, lines[-1][:12]) == (0, "1 names mend")
    # Ann had decided on both: what she said of the item that stays counts. Cy's rejection moves.
    assert [item.triplet for item in project.items()] == [right]
    assert [(d.annotator, d.verdict) for d in project.decisions()] == [
        ("ann", "accept"), ("ben", "accept"), ("cy", "reject"),
    ]  # fmt: skip
    assert project._db.execute("select count(*) from decisions").fetchone() == (4,)
    assert project.progress("ann") == (1, 0, 1, 1)
    assert project._db.execute("pragma foreign_key_check").fetchall() == []


def test_corrections_are_renamed_and_one_that_says_the_same_accepts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item, other = Triplet("min hat", "ride", "horse"), Triplet("cup", "hold", "dog")
    project = make_named(tmp_path, item, other)
    once = item._replace(subject="min a hat")  # typed as "man in a hat", and read once
    decide_all(project, "ann", ("correct", once), ("correct", once))
    words = ("--rename", "min hat=man in a hat", "--rename", "min a hat=man in a hat")
    assert audit(capsys, project, *words)[0] == 0
    mended = item._replace(subject="man in a hat")
    assert [(d.verdict, d.triplet) for d in project.decisions()] == [
        ("accept", None), ("correct", mended),
    ]  # fmt: skip
    assert [i.triplet for i in project.items()] == [mended, other]


def test_a_name_that_makes_no_question_is_said_and_left(tmp_path: Path, capsys: Capture) -> None:
    project = make_named(tmp_path, Triplet("min hat", "above", "horse"), category="spatial")
    lines = audit(capsys, project, "--rename", "min hat=man in a hat")[1]
    assert lines[-1] == (
        "  unchanged: spatial: no question can be asked about 'man in a hat above horse'; "
        "choose another name with --rename"
    )
    assert [item.triplet.subject for item in project.items()] == ["min hat"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rename", "cup"], "expected --rename OLD=NEW, NEW of 1 to 100 characters, got 'cup'"),
        (["--rename", "cup=a "], "--rename: expected a name of the project, got 'cup'"),
        (["--rename", "nothing=cup"], "--rename: expected a name of the project, got 'nothing'"),
        (["--rename", "bike=\ud800"], "expected --rename OLD=NEW, NEW of 1 to 100 characters"),
        (["--rename", "pandbear=bike", "--rename", "bike=cup"],
         "--rename: expected names that stay, got 'bike' on both sides"),
        (["--raw", "none.jsonl"], "none.jsonl: No such file or directory"),
        (["--raw", "text"], "text:1: expected a JSON object in each line"),
        (["--raw", "other"], "other:1: expected things, or subject and object, got"),
        (["--raw", "items"], "items:1: expected raw names, got an item to verify"),
        (["--raw", "project.sqlite"], "project.sqlite: expected a store of replies: no such table"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_nothing_is_changed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    project = make_named(tmp_path, Triplet("pandbear", "ride", "bike"))
    (tmp_path / "text").write_text("panda bear\n")
    (tmp_path / "other").write_text('{"name": "panda bear"}\n')
    (tmp_path / "items").write_text('{"subject": "a", "object": "b", "origin": "model"}\n')
    before = list(project._db.iterdump())
    status, _, err = run_label(capsys, "audit", "project.sqlite", *words, "--mend")
    assert status == 1
    assert err.startswith(f"mmrel label audit: {expected}")
    assert len(err.splitlines()) == 1
    assert list(project._db.iterdump()) == before


def test_an_empty_store_or_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    assert read_raw_names([tmp_path / "empty.jsonl"]) == set()
    with pytest.raises(InputError, match="expected a JSON object"):
        (tmp_path / "array.jsonl").write_text("[]\n")
        read_raw_names([tmp_path / "array.jsonl"])


def test_relations_of_another_category_are_counted(tmp_path: Path, capsys: Capture) -> None:
    above, hold = Triplet("cup", "above", "dog"), Triplet("cup", "hold", "dog")
    project = make_named(tmp_path, above, hold)
    decide_all(project, "ann", ("reject", None), ("correct", hold._replace(relation="bigger")))
    lines = audit(capsys, project)[1]
    verb = "expected a verb (hold, ride, eat …), got the"
    assert lines[1:] == [
        "2 relations of another category, of which no question is made",
        f"  1 x action item: {verb} spatial word 'above'",
        f"  1 x action correction: {verb} comparative word 'bigger'",
    ]

"""The contract and the grammars: golden lists, round trips, and the two validators compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import jsonschema_rs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import mmrel
from mmrel_kit.files import SCHEMA_FOLDER, InputError
from mmrel_kit.questions.records import (
    SPATIAL,
    ParsedQuestion,
    Record,
    Triplet,
    check_record,
    make_pair_id,
    make_question,
    parse_image_path,
    parse_question,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parent / "data" / "records"
QUESTIONS = json.loads((DATA / "questions.json").read_text("utf-8"))
BAD_RECORDS = json.loads((DATA / "bad_records.json").read_text("utf-8"))
SCHEMA = json.loads((SCHEMA_FOLDER / "record.schema.json").read_text("utf-8"))
GOOD = Record(
    question_id="b3yiuvb1pl35riq",
    image_id="vg/VG_100K_2/3122.jpg",
    domain="real",
    category="spatial",
    task="discriminative",
    subject="flower",
    relation="above",
    object="car",
    question="Is there a flower above to a car in the image?",
    instruction="Please answer with one word.",
    answer="yes",
    style=None,
    pair_id="0123456789abcdef",
    source="json/adversarial.jsonl:1",
).to_json()
WORDS = st.sampled_from(
    ["cat", "ant", "traffic", "light", "left", "apple", "TV", "shoe-box", "café", "orange", "7up"]
)
NAMES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cf"]),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize("case", QUESTIONS, ids=lambda case: case["question"][:40])
def test_golden_questions(case: dict[str, Any]) -> None:
    if case.get("error"):
        with pytest.raises(InputError, match="expected"):
            parse_question(case["question"])
        return
    task = case.get("task", "discriminative")
    assert parse_question(case["question"]) == ParsedQuestion(
        case["category"], task, *case["triplet"]
    )
    if not case.get("one_way"):
        subject, relation, object_ = case["triplet"]
        triplet = Triplet(subject, relation or "any", object_)
        assert make_question(case["domain"], case["category"], triplet, task) == case["question"]


@given(
    st.sampled_from(mmrel.DOMAINS),
    st.sampled_from(mmrel.CATEGORIES),
    st.sampled_from(mmrel.TASKS),
    NAMES,
    NAMES,
    st.data(),
)
def test_triplet_to_question_and_back(
    domain: str, category: str, task: str, subject: str, object_: str, data: st.DataObject
) -> None:
    relations = {
        "spatial": st.sampled_from(SPATIAL),
        "action": st.sampled_from(["ride", "look at", "run after", "café-hop"]),
        "comparative": st.sampled_from(["bigger", "smaller", "taller"]),
    }
    relation = data.draw(relations[category])
    question = make_question(domain, category, Triplet(subject, relation, object_), task)
    assert parse_question(question) == ParsedQuestion(
        category, task, subject, relation if task == "discriminative" else None, object_
    )


@given(st.sampled_from(mmrel.DOMAINS), st.sampled_from(mmrel.CATEGORIES), TEXT, TEXT, TEXT)
def test_any_triplet_reads_back_or_is_refused(
    domain: str, category: str, subject: str, relation: str, other: str
) -> None:
    try:
        question = make_question(domain, category, Triplet(subject, relation, other))
    except InputError:
        return
    assert parse_question(question) == ParsedQuestion(
        category, "discriminative", subject, relation, other
    )


@pytest.mark.parametrize(
    ("category", "triplet"),
    [
        ("spatial", Triplet("cup on a man", "in", "box")),
        ("spatial", Triplet("", "on", "box")),
        ("spatial", Triplet("cup ", "on", "box")),
        ("spatial", Triplet("cup", "beside", "box")),
        ("spatial", Triplet("cup", "on", "box?")),
        ("action", Triplet("man", "run fast", "dog")),
        ("action", Triplet("man", "eat", "half a pie")),
        ("comparative", Triplet("cup", "much bigger", "box")),
    ],
)
def test_a_triplet_that_would_read_otherwise_is_refused(category: str, triplet: Triplet) -> None:
    with pytest.raises(InputError):
        make_question("sdxl", category, triplet)


@given(TEXT, TEXT, TEXT, st.sampled_from(["yes", "no"]))
def test_record_to_line_to_record(
    question_id: str, subject: str, question: str, answer: str
) -> None:
    record = Record(
        **{
            **GOOD,
            "question_id": question_id,
            "subject": subject,
            "question": question,
            "answer": answer,
        }
    )
    line = json.dumps(record.to_json(), ensure_ascii=False)
    assert Record(**json.loads(line)) == record
    assert "\n" not in line


def bad_value(case: dict[str, Any]) -> Any:
    if "value" in case:
        return case["value"]
    return {
        key: value
        for key, value in {**GOOD, **case.get("set", {})}.items()
        if key != case.get("drop")
    }


def test_the_good_record_is_good() -> None:
    verified = {"annotators": ["ann", "bo"], "agreed": 2, "verified_at": "2026-11-24T06:00:00Z"}
    for record in (GOOD, {**GOOD, "verification": None}, {**GOOD, "verification": verified}):
        assert check_record(record) is None
    generative = {
        **GOOD,
        "task": "generative",
        "pair_id": None,
        "answer": "above",
        "instruction": None,
    }
    assert check_record(generative) is None
    assert check_record({**generative, "subject": None, "relation": None, "object": None}) is None


@pytest.mark.parametrize("case", BAD_RECORDS, ids=lambda case: case["why"])
def test_bad_records(case: dict[str, Any]) -> None:
    problem = mmrel.make_validator(SCHEMA)(bad_value(case))
    assert problem is not None
    assert problem.startswith("field " + case["field"])


@pytest.mark.parametrize("case", [*BAD_RECORDS, {"why": "good"}], ids=lambda case: case["why"])
def test_both_validators_agree(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    value = bad_value(case)
    verdicts = {
        jsonschema.Draft202012Validator(SCHEMA).is_valid(value),
        jsonschema_rs.Draft202012Validator(SCHEMA).is_valid(value),
    }
    fast = mmrel.make_validator(SCHEMA)(value)
    monkeypatch.setitem(__import__("sys").modules, "jsonschema_rs", None)
    slow = mmrel.make_validator(SCHEMA)(value)
    assert verdicts == {fast is None} == {slow is None}
    if fast and slow:
        assert fast.split(":")[0] == slow.split(":")[0]


@given(
    st.dictionaries(
        st.sampled_from(sorted(GOOD)), st.one_of(st.none(), st.integers(), TEXT, st.just("yes"))
    )
)
def test_both_validators_agree_on_anything(changes: dict[str, Any]) -> None:
    value = {**GOOD, **changes}
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(value) == jsonschema_rs.is_valid(
        SCHEMA, value
    )


def test_the_schema_is_one_and_names_what_the_code_names() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    fields = SCHEMA["properties"]
    assert tuple(fields) == (*mmrel.COLUMNS, "verification") == Record.__slots__
    assert tuple(fields["domain"]["enum"]) == mmrel.DOMAINS
    assert tuple(fields["category"]["enum"]) == mmrel.CATEGORIES
    assert tuple(fields["task"]["enum"]) == mmrel.TASKS
    assert all(len(field["description"]) > 20 for field in fields.values())


def test_all_text_of_the_schema_has_the_same_pattern() -> None:
    """Each field repeats the pattern; one without it would accept control characters."""

    def texts(part: Any) -> Iterator[str | None]:
        if isinstance(part, dict):
            if "maxLength" in part:
                yield part.get("pattern")
            part = list(part.values())
        if isinstance(part, list):
            for value in part:
                yield from texts(value)

    found = {name: set(texts(part)) for name, part in SCHEMA["properties"].items()}
    enums = {"domain", "category", "task", "style"}
    assert {name for name, patterns in found.items() if not patterns} == enums
    shared = found["question"]
    verified_at = SCHEMA["properties"]["verification"]["oneOf"][1]["properties"]["verified_at"][
        "pattern"
    ]
    assert all(
        patterns == shared
        for name, patterns in found.items()
        if name not in {*enums, "verification"}
    )
    assert found["verification"] == shared | {verified_at}


def test_the_taxonomy_agrees_with_itself() -> None:
    taxonomy = json.loads((SCHEMA_FOLDER / "taxonomy.json").read_text("utf-8"))
    assert tuple(taxonomy["categories"]) == mmrel.CATEGORIES
    assert taxonomy["styles"] == [style for style in SCHEMA["properties"]["style"]["enum"] if style]
    for category in taxonomy["categories"].values():
        relations = {relation["name"]: relation for relation in category["relations"]}
        for name, relation in relations.items():
            assert all(
                name in relations[opposite]["opposites"] for opposite in relation["opposites"]
            )
            assert relation["inverse"] is None or relation["inverse"] in relations
    spatial = taxonomy["categories"]["spatial"]["relations"]
    assert set(SPATIAL) <= {
        word for relation in spatial for word in (relation["name"], *relation["synonyms"])
    }


@given(TEXT, TEXT, st.sampled_from(mmrel.CATEGORIES))
def test_pair_ids(subject: str, other: str, category: str) -> None:
    pair_id = make_pair_id("vg/a.jpg", category, subject, other)
    assert pair_id == make_pair_id("vg/a.jpg", category, other, subject)
    assert pair_id != make_pair_id("vg/b.jpg", category, subject, other)
    assume(subject.casefold() != other.casefold())
    assert pair_id != make_pair_id("vg/a.jpg", category, subject, subject)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("vg/VG_100K_2/3122.jpg", ("real", None)),
        ("SPEC/relative_size/00000001/2.jpg", ("sdxl", None)),
        ("Dall-E_generated/action/00183_watercolor.png", ("dalle", "watercolor")),
        ("Dall-E_generated/action/00183_photo-realistic.png", ("dalle", "photo-realistic")),
        ("Dall-E_generated/spatial/00039.png", ("dalle", None)),
        ("Dall-E_generated/spatial/00039_cubist.png", ("dalle", "cubist")),  # the schema refuses it
    ],
)
def test_domain_and_style_come_from_the_path(path: str, expected: tuple[str, str | None]) -> None:
    assert parse_image_path(path) == expected


@pytest.mark.parametrize("path", ["coco/1.jpg", "vg", "vg/", "", "/vg/1.jpg", "Vg/1.jpg"])
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(InputError, match="expected a picture under vg/"):
        parse_image_path(path)

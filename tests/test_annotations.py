"""Annotation files: every format, and every kind of invalid file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrel_kit.files import InputError, Problem
from mmrel_kit.questions.annotations import (
    NO_CATEGORY,
    NOT_VALID,
    OTHER_PICTURE,
    Annotation,
    LeftOut,
    read_annotations,
)
from mmrel_kit.questions.records import MAX_QUESTION, Triplet, make_question
from mmrel_kit.questions.wordings import Wordings
from tests.helpers.questions import OPEN, POPE, read, write


def test_a_pope_record(tmp_path: Path) -> None:
    (question,) = read(write(tmp_path / "json" / "adversarial.jsonl", POPE))
    assert question.split == "adversarial"
    assert question.where == f"{tmp_path}/json/adversarial.jsonl:1"
    assert question.record.to_json() == {
        "question_id": "b3yiuvb1pl35riq",
        "image_id": "vg/VG_100K_2/3122.jpg",
        "domain": "real",
        "category": "spatial",
        "task": "discriminative",
        "subject": "flower",
        "relation": "above",
        "object": "car",
        "question": "Is there a flower above to a car in the image?",
        "instruction": "Please answer with one word.",
        "answer": "yes",
        "style": None,
        "pair_id": question.record.pair_id,
        "source": "json/adversarial.jsonl:1",
    }


@pytest.mark.parametrize("name", ["test.json", "test.jsonl"])
@pytest.mark.parametrize(
    "shape", ["lines", "array", "indented", "bom", "crlf", "trailing blank", "separator in text"]
)
def test_shapes_of_a_file(tmp_path: Path, name: str, shape: str) -> None:
    values = [{**POPE, "question_id": str(number)} for number in range(3)]
    lines = "".join(json.dumps(value) + "\n" for value in values)
    text = {
        "lines": lines,
        "array": json.dumps(values),
        "indented": json.dumps(values, indent=2),
        "bom": "\ufeff" + lines,
        "crlf": lines.replace("\n", "\r\n"),
        "trailing blank": lines + "\n \r\n\n",
        "separator in text": lines.replace(
            "yes", "yes\u0085"
        ),  # str.splitlines would cut here; strip() takes it away
    }[shape]
    (tmp_path / name).write_bytes(text.encode())
    questions = read(tmp_path / name)
    assert [question.record.question_id for question in questions] == ["0", "1", "2"]
    lines_told = [int(question.where.rpartition(":")[2]) for question in questions]
    assert lines_told == {"array": [1, 1, 1], "indented": [2, 8, 14]}.get(shape, [1, 2, 3])


@pytest.mark.parametrize(
    ("named", "file", "expected"),
    [
        ({"split": "adversarial"}, "x.jsonl", "adversarial"),
        ({"split": "train"}, "adversarial.jsonl", "train"),
        ({"split": "dalle_normal", "category": "dalle_normal"}, "x.jsonl", "test"),
        ({"split": "dalle_normal"}, "mmrel_adversarial.jsonl", "adversarial"),
        ({"category": "adversarial"}, "x.jsonl", "adversarial"),
        ({}, "x.jsonl", "test"),
        ({}, "mmrel-train.json", "train"),
        ({}, "latest.json", "test"),
        ({}, "constrained.json", "test"),
    ],
)
def test_split(tmp_path: Path, named: dict[str, str], file: str, expected: str) -> None:
    path = write(tmp_path / file, {**POPE, **named})
    assert read(path)[0].split == expected
    assert read(path, split="train")[0].split == "train"
    # A category in the file is no category of ours.
    assert read(path)[0].record.category == "spatial"


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        ("Is a cat bigger than a car in the image?", None),
        ("Is a cat bigger than a car in the image? ", None),
        ("Is a cat bigger than a car in the image?\nAnswer in a word.", "Answer in a word."),
        ("Is a cat bigger than a car in the image? Yes or no?", "Yes or no?"),
    ],
)
def test_the_instruction_is_split_off(tmp_path: Path, text: str, instruction: str | None) -> None:
    (question,) = read(write(tmp_path / "a.jsonl", {**POPE, "text": text}))
    assert question.record.question == "Is a cat bigger than a car in the image?"
    assert question.record.instruction == instruction


def test_llava_conversations(tmp_path: Path) -> None:
    turns = [
        {
            "from": "human",
            "value": "<image>\nDoes a dog chase a cat in the image? Answer in a word.",
        },
        {"from": "gpt", "value": "Yes"},
        {"from": "human", "value": "What is the action relation of a dog to a cat in the image?"},
        {"from": "gpt", "value": "chase"},
    ]
    values = [
        {"id": "d1", "image": "Dall-E_generated/action/00001_abstract.png", "conversations": turns},
        {"id": "d2", "image": "Dall-E_generated/action/00002.png", "conversations": turns[:2]},
        {"id": "other", "image": "coco/train2017/1.jpg", "conversations": turns},
        {
            "id": "no picture",
            "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        },
    ]
    (tmp_path / "train.json").write_text(json.dumps(values), "utf-8")
    records = [question.record for question in read(tmp_path / "train.json")]
    assert [(r.question_id, r.task, r.relation, r.answer, r.style) for r in records] == [
        ("d1-1", "discriminative", "chase", "yes", "abstract"),
        ("d1-2", "generative", "chase", "chase", "abstract"),
        ("d2", "discriminative", "chase", "yes", None),
    ]


def talk(*texts: str, **fields: Any) -> dict[str, Any]:
    """Return a LLaVA conversation about a picture of MMRel's, human and gpt in turn."""
    turns = [
        {"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)
    ]
    return {"id": "a", "image": "vg/VG_100K/1.jpg", "conversations": turns, **fields}


RIDES = "Does a man ride a horse in the image?"


@pytest.mark.parametrize(
    "text",
    [
        f"<image>\n{RIDES} In a word.",
        f"{RIDES} In a word.\n<image>",
        f"{RIDES}\n<image>In a word.",
        f"{RIDES}\nIn a word.",
    ],
)
def test_where_a_conversation_has_its_picture(tmp_path: Path, text: str) -> None:
    (record,) = [item.record for item in read(write(tmp_path / "a.json", talk(text, "Yes.")))]
    assert (record.question, record.instruction, record.answer) == (RIDES, "In a word.", "yes")


# Conversations that are not about MMRel's pictures, whatever else is in them.
PASSED_OVER = [
    talk(RIDES, "yes", image="coco/train2017/1.jpg"),
    talk(RIDES, "yes", image="vg"),
    talk(RIDES, "yes", image=None),
    talk(RIDES, "yes", image=["vg/VG_100K/1.jpg", "vg/VG_100K/2.jpg"]),
    talk("Hi", image="gqa/images/1.jpg"),
    {"id": 1, "conversations": []},
    {"id": True, "image": "ocr_vqa/1.jpg", "conversations": "none", "split": "val"},
    {"conversations": [{"from": "gpt", "value": 1}, 2], "image": "textvqa/1.jpg"},
    talk("x" * (3 << 20), "y", image="coco/1.jpg"),
]


@pytest.mark.parametrize("lines", [True, False])
def test_conversations_about_other_pictures_are_passed_over(tmp_path: Path, lines: bool) -> None:
    # Nothing counted them; a long one, or an unknown split, stopped the build.
    values = [*PASSED_OVER, talk(RIDES, "yes")]
    path = tmp_path / "a.json"
    path.write_text("\n".join(map(json.dumps, values)) if lines else json.dumps(values))
    *others, last = read_annotations([path])
    assert [(type(item), item.reason) for item in others if isinstance(item, LeftOut)] == [
        (LeftOut, OTHER_PICTURE)
    ] * len(PASSED_OVER)
    assert isinstance(last, Annotation)


def test_turns_of_a_conversation(tmp_path: Path) -> None:
    system = {"from": "system", "value": "You are an assistant."}
    first = talk(RIDES, "yes", RIDES.replace("man", "dog"), "no", "What is he doing?", "riding")
    first["conversations"].insert(0, system)
    values = [first, talk(RIDES, "yes", "And then?"), talk(RIDES, "yes", id=7)]
    values[2]["conversations"].reverse()
    path = write(tmp_path / "json" / "action.jsonl", *values)
    *annotations, problem = read_annotations([path])
    questions = [item for item in annotations if isinstance(item, Annotation)]
    assert [(item.record.question_id, item.record.answer, item.name) for item in questions] == [
        ("a-1", "yes", "json/action.jsonl:1-1"),
        ("a-2", "no", "json/action.jsonl:1-2"),
        ("a-3", "riding", "json/action.jsonl:1-3"),
        ("a-1", "yes", "json/action.jsonl:2-1"),
    ]
    assert isinstance(problem, Problem)
    assert problem.message == "expected alternating turns of human and gpt, got 'gpt'"


def test_values_on_one_line_have_different_names(tmp_path: Path) -> None:
    # Questions without an id all had the id "json/a.json:1".
    path = tmp_path / "json" / "a.json"
    path.parent.mkdir()
    nameless = {key: value for key, value in POPE.items() if key != "question_id"}
    values = [nameless, talk(RIDES, "yes", RIDES, "no", id=""), {**POPE, "image": "SPEC/a/1.jpg"}]
    path.write_text(json.dumps(values))
    names = ["json/a.json:1", "json/a.json:1.2-1", "json/a.json:1.2-2"]
    assert [item.record.question_id for item in read(path)] == [*names, POPE["question_id"]]
    # They do not depend on the questions that are used.
    (used,) = read_annotations([path], domains=["sdxl"])
    assert isinstance(used, Annotation)
    assert used.name == "json/a.json:1.3"


# Where a question of unknown wording has its category from: file, fields, picture, category.
CATEGORIES = [
    ("json/open.json", {}, "vg/VG_100K/1.jpg", None),
    ("json/open.json", {"category": "spatial"}, "vg/VG_100K/1.jpg", "spatial"),
    ("json/action.json", {"type": "Real_Spatial"}, "SPEC/relative_size/1/0.jpg", "spatial"),
    ("json/open.json", {"relation_type": "dall-e_action"}, "vg/VG_100K/1.jpg", "action"),
    ("json/open.json", {"category": "adversarial", "split": "test"}, "vg/VG_100K/1.jpg", None),
    ("json/open.json", {"note": "spatial or action"}, "vg/VG_100K/1.jpg", None),
    ("json/action.json", {}, "SPEC/relative_size/00000001/0.jpg", "comparative"),
    ("json/action.json", {}, "SPEC/relative_spatial/00000001/0.jpg", "spatial"),
    ("json/spatial.json", {}, "Dall-E_generated/action/00001.png", "action"),
    ("json/action.json", {}, "Dall-E_generated/spatial/00001.png", "spatial"),
    ("json/Real_Action.json", {}, "vg/VG_100K/1.jpg", "action"),
    ("json/VGComparative.json", {}, "vg/VG_100K/1.jpg", "comparative"),
    ("json/reaction.json", {}, "vg/VG_100K/1.jpg", None),
    ("spatial/open.json", {}, "vg/VG_100K/1.jpg", "spatial"),
    ("spatial/real-action.json", {}, "vg/VG_100K/1.jpg", "action"),
]


@pytest.mark.parametrize(("file", "fields", "image", "category"), CATEGORIES)
def test_the_category_of_a_question_of_unknown_wording(
    tmp_path: Path, file: str, fields: dict[str, str], image: str, category: str | None
) -> None:
    # It was an error without a --mapping.
    (item,) = read_annotations([write(tmp_path / file, {**OPEN, "image": image, **fields})])
    if category is None:
        assert isinstance(item, LeftOut)
        assert item.reason == NO_CATEGORY
        assert item.message.endswith("got 'Where is the cup relative to the plate?'")
        return
    assert isinstance(item, Annotation)
    record = item.record
    assert (record.category, record.task, record.pair_id) == (category, "generative", None)
    assert (record.subject, record.relation, record.object) == (None, None, None)
    assert (record.question, record.answer) == (
        "Where is the cup relative to the plate?",
        "on top of it",
    )
    assert record.instruction == "Answer in a phrase."


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"text": "Where is\nthe  cup?", "label": "It is on\n\nthe plate."}, Annotation),
        ({"label": "Yes, it is on the plate."}, Annotation),
        ({"label": " Yes. "}, Problem),
        ({"label": "NO"}, Problem),
        ({"text": "Describe the picture."}, Annotation),
        ({"text": "<image>"}, Annotation),
        ({"text": "Where is " + "the cup " * MAX_QUESTION}, LeftOut),
        ({"label": "here " * MAX_QUESTION}, LeftOut),
        ({"label": "over\x00there"}, LeftOut),
        ({"image": "vg/../../etc/passwd.jpg"}, LeftOut),
        ({"label": 1}, Problem),
        ({"image": "coco/1.jpg"}, Problem),
    ],
)
def test_what_becomes_of_a_question_of_unknown_wording(
    tmp_path: Path, changes: dict[str, Any], kind: type
) -> None:
    (item,) = read_annotations([write(tmp_path / "spatial.json", {**OPEN, **changes})])
    assert isinstance(item, kind)
    if isinstance(item, LeftOut):
        assert item.reason == NOT_VALID
        assert item.message.startswith("field ")
    if isinstance(item, Annotation):
        assert "\n" not in item.record.question + item.record.answer


def test_wordings_are_counted_whatever_becomes_of_the_questions(tmp_path: Path) -> None:
    values = [OPEN, {**OPEN, "label": "no"}, talk("Where is it?", "here"), POPE]
    wordings = Wordings()
    kinds = [
        type(item)
        for item in read_annotations(
            [write(tmp_path / "json" / "a.jsonl", *values)], wordings=wordings
        )
    ]
    assert kinds == [LeftOut, Problem, LeftOut, Annotation]
    assert wordings.total == 3
    assert "json/a.jsonl:2: Where is the cup relative to the plate? -> no\n" in wordings.format()


def test_reading_goes_on_after_many_problems(tmp_path: Path) -> None:
    # It stopped after 1,000; what follows would not be fetched.
    path = write(tmp_path / "a.jsonl", *[{**POPE, "label": "maybe"}] * 1500, POPE)
    items = list(read_annotations([path]))
    assert len(items) == 1501
    assert isinstance(items[-1], Annotation)


class TestDomains:
    """Questions about pictures of some domains only."""

    VALUES = (
        POPE,
        {**POPE, "image": "SPEC/a/1.jpg", "label": "maybe"},
        {**OPEN, "image": "SPEC/a/1.jpg"},
        talk("Hi", 1, image="SPEC/a/1.jpg"),
        {**POPE, "image": "Dall-E_generated/spatial/00001.png"},
    )

    def test_others_are_neither_errors_nor_counted(self, tmp_path: Path, built: Path) -> None:
        path = write(tmp_path / "a.jsonl", *self.VALUES)
        items = list(read_annotations([path], domains=["real", "dalle"]))
        assert [item.where for item in items] == [f"{path}:1", f"{path}:5"]
        records = built / "data" / "sdxl" / "adversarial.jsonl"
        items = list(read_annotations([path, records], domains=["real"]))
        assert [item.where for item in items] == [f"{path}:1"]

    def test_a_domain_without_questions(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", POPE)
        with pytest.raises(
            InputError,
            match=r"a\.jsonl: expected questions about pictures of dalle, sdxl, found none",
        ):
            list(read_annotations([path], domains=["sdxl", "real", "dalle"]))
        # Problems come first: they may be why there are none.
        path = write(tmp_path / "a.jsonl", {**POPE, "label": "maybe"})
        (problem,) = read_annotations([path], domains=["real"])
        assert isinstance(problem, Problem)


def test_the_contracts_own_records_read_back(tmp_path: Path, built: Path) -> None:
    lines = built / "data" / "real" / "test.jsonl"
    assert [question.record.to_json() for question in read(lines)] == [
        json.loads(line) for line in lines.read_text("utf-8").splitlines()
    ]
    verified = {"annotators": ["ann"], "agreed": 1, "verified_at": "2026-11-24T06:00:00Z"}
    record = {**json.loads(lines.read_text("utf-8").splitlines()[0]), "verification": verified}
    assert read(write(tmp_path / "test.jsonl", record))[0].record.verification == verified


BAD = [
    (b"", "a.jsonl:1: expected records, the file is empty"),
    (b" \n\n", "a.jsonl:1: expected records, the file is empty"),
    (b"nonsense\n", "a.jsonl:1: expected one JSON object per line"),
    (b'{"question_id": \n', "a.jsonl:1: expected one JSON object per line"),
    (b'{"a": 1}', "a.jsonl:1: expected the keys question_id, image, text, label"),
    (b'{\n"a": 1\n}', "a.jsonl:1: expected one JSON object per line"),
    (b"[1, 2]", "a.jsonl:1: expected a JSON object, got 1"),
    (b'[\n{"a": 1},\n', "a.jsonl:2: expected the keys"),
    (b"[] x", "a.jsonl: expected nothing after the array"),
    (
        b'{"question_id": NaN}',
        "a.jsonl:1: expected one JSON object per line, or one array: NaN is not JSON",
    ),
    (b"[" * 100_000, "a.jsonl:1: expected a JSON array of objects"),
    (
        b'{"a": ' * 100_000,
        "a.jsonl:1: expected one JSON object per line, or one array: nested too deeply",
    ),
    ("ä".encode("utf-16"), "a.jsonl:1: expected UTF-8"),
    (b'{"a": 1}\n{"b": "\xff"}\n', "a.jsonl:2: expected UTF-8, got byte 0xff"),
    (
        json.dumps({**POPE, "label": "maybe"}),
        "a.jsonl:1: expected the label yes or no, got 'maybe'",
    ),
    (json.dumps({**POPE, "label": 2}), "a.jsonl:1: expected text in 'label', got 2"),
    (json.dumps({**POPE, "label": None}), "a.jsonl:1: expected text in 'label', got null"),
    (json.dumps({**POPE, "label": True}), "a.jsonl:1: expected text in 'label', got true"),
    (json.dumps({**POPE, "text": "Is it a cat?"}), "a.jsonl:1: expected 'Is there a S REL"),
    (json.dumps({**POPE, "text": "Is there a " + "a " * 500_000}), "a.jsonl:1: expected"),
    (json.dumps({**POPE, "image": "vg/../../etc/passwd.jpg"}), "a.jsonl:1: field image_id: "),
    (json.dumps({**POPE, "image": "coco/1.jpg"}), "a.jsonl:1: expected a picture under vg/, SPEC/"),
    (
        json.dumps({**POPE, "image": "Dall-E_generated/action/1_cubist.png"}),
        "a.jsonl:1: field style: ",
    ),
    (
        json.dumps({**POPE, "question_id": "\ud800"}),
        "a.jsonl:1: field question_id: expected text, got half",
    ),
    (
        json.dumps({**POPE, "question_id": True}),
        "a.jsonl:1: expected a string or an integer as question_id",
    ),
    (
        json.dumps({**POPE, "split": "val"}),
        "a.jsonl:1: expected the split train, test, adversarial",
    ),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_files(tmp_path: Path, content: bytes | str, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.jsonl")
    assert str(caught.value).startswith(f"{tmp_path}/{message}")
    assert len(str(caught.value)) < 3000


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    values = [{**POPE, "label": "maybe"}] * 30
    with pytest.raises(InputError, match="a.jsonl:10: .*\n… 30 problems in all"):
        read(write(tmp_path / "a.jsonl", *values))


def test_what_cannot_be_read_does_not_hide_what_can(tmp_path: Path) -> None:
    lines = [
        json.dumps(POPE),
        "nonsense",
        json.dumps({**POPE, "label": "maybe"}),
        json.dumps({**POPE, "question_id": 2}),
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = list(read_annotations([tmp_path / "a.jsonl"]))
    assert [type(item) for item in found] == [Annotation, Problem, Problem, Annotation]
    assert [item.where.rpartition(":")[2] for item in found] == ["1", "2", "3", "4"]


def test_half_a_surrogate_pair_within_a_field(tmp_path: Path, built: Path) -> None:
    # It was a traceback of the validator's.
    record = json.loads((built / "data" / "real" / "test.jsonl").read_text("utf-8").splitlines()[0])
    verified = {"annotators": ["\ud800"], "agreed": 1, "verified_at": "2026-11-24T06:00:00Z"}
    with pytest.raises(
        InputError,
        match="a.jsonl:1: field verification: expected text, got half of a surrogate pair",
    ):
        read(write(tmp_path / "a.jsonl", {**record, "verification": verified}))
    with pytest.raises(
        InputError, match=r"a.jsonl:1: field '\\ud800': expected a field of the contract"
    ):
        read(write(tmp_path / "a.jsonl", {**record, "\ud800": 1}))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="expected an annotation file or a folder of them, found nothing there"
    ):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(
        InputError, match=r"expected \.json or \.jsonl files in the folder, found none"
    ):
        read(tmp_path)


def test_the_same_file_given_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", POPE)
    assert len(read(path, tmp_path, tmp_path / "." / "a.jsonl")) == 1


@given(
    st.lists(
        st.one_of(
            st.text(max_size=30), st.integers(), st.none(), st.dictionaries(st.text(), st.text())
        )
    )
)
def test_any_json_is_read_or_refused(values: list[Any]) -> None:
    # A folder of its own: hypothesis runs many examples in one test.
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(values), "utf-8")
        if values:
            with pytest.raises(InputError):
                read(path)
        else:
            assert read(path) == []


class TestMapping:
    """A file that declares the splits of files whose names do not."""

    def write_mapping(
        self, folder: Path, mapping: Any, text: str = "Is there a cat above to a car in the image?"
    ) -> Path:
        (folder / "json").mkdir()
        record = {"question_id": "a", "image": "vg/VG_100K/1.jpg", "text": text, "label": "yes"}
        (folder / "json" / "part2.jsonl").write_text(json.dumps(record))
        (folder / "map.json").write_text(
            mapping if isinstance(mapping, str) else json.dumps(mapping)
        )
        return folder / "map.json"

    @pytest.mark.parametrize("pattern", ["part2.jsonl", "part*", "json/part2.*"])
    def test_by_name(self, tmp_path: Path, pattern: str) -> None:
        mapping = self.write_mapping(tmp_path, {pattern: "train"})
        assert read(tmp_path / "json", mapping=mapping)[0].split == "train"
        assert (
            read(tmp_path / "json", mapping=mapping, split="adversarial")[0].split == "adversarial"
        )
        assert read(tmp_path / "json")[0].split == "test"

    def test_open_questions_that_no_grammar_reads(self, tmp_path: Path) -> None:
        declared = {"split": "test", "task": "generative", "category": "spatial"}
        mapping = self.write_mapping(
            tmp_path, {"part2*": declared}, "Where is the cat? Answer in a phrase."
        )
        # Its label is "yes", so that only the mapping says that it is open-ended.
        with pytest.raises(InputError, match=r"part2.jsonl:1: expected 'Is there a S"):
            read(tmp_path / "json")
        record = read(tmp_path / "json", mapping=mapping)[0].record
        assert (record.task, record.category, record.subject, record.relation) == (
            "generative",
            "spatial",
            None,
            None,
        )
        assert (record.question, record.instruction) == ("Where is the cat?", "Answer in a phrase.")

    @pytest.mark.parametrize(
        ("mapping", "message"),
        [
            ("[]", "map.json: expected a JSON object"),
            ("nothing", "map.json: expected a JSON object"),
            (
                {"part2*": "val"},
                "map.json: 'part2\\*': expected one of train, test, adversarial, got 'val'",
            ),
            ({"part2*": {"splits": "test"}}, "map.json: expected a JSON object"),
            ({"part3*": "test"}, "map.json: 'part3\\*' matches none of the annotation files"),
            (
                {"part2*": {"task": "generative"}},
                "part2.jsonl:1: expected questions that are generative",
            ),
        ],
    )
    def test_bad_mappings(self, tmp_path: Path, mapping: Any, message: str) -> None:
        path = self.write_mapping(tmp_path, mapping)
        with pytest.raises(InputError, match=message):
            read(tmp_path / "json", mapping=path)


class TestRealRecords:
    """All 1,549 real records at hand, to the last one."""

    def test_all_are_read(self, real_data: Path) -> None:
        questions = read(real_data / "mmrel")
        counts = Counter((question.split, question.record.domain) for question in questions)
        assert counts == {
            ("adversarial", "real"): 671,
            ("adversarial", "sdxl"): 179,
            ("adversarial", "dalle"): 99,
            ("test", "dalle"): 600,
        }
        records = [question.record for question in questions if question.split == "adversarial"]
        assert Counter(record.category for record in records) == {
            "spatial": 464,
            "action": 360,
            "comparative": 125,
        }
        assert Counter(record.answer for record in records) == {"yes": 458, "no": 491}
        assert len({record.image_id for record in records}) == 360
        rest = [question.record.answer for question in questions if question.split == "test"]
        assert Counter(rest) == {"yes": 412, "no": 188}

    def test_every_question_is_rebuilt_letter_by_letter(self, real_data: Path) -> None:
        for question in read(real_data / "mmrel"):
            record = question.record
            triplet = Triplet(str(record.subject), str(record.relation), str(record.object))
            assert make_question(record.domain, record.category, triplet) == record.question
            assert record.instruction == "Please answer with one word."

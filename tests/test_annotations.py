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
from mmrel_kit.questions.annotations import Annotation, read_annotations
from mmrel_kit.questions.records import Triplet, make_question
from tests.helpers.questions import POPE, read, write


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

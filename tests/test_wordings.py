"""The report of wordings that no grammar parses."""

from __future__ import annotations

import pytest

from mmrel_kit.questions import wordings as module
from mmrel_kit.questions.wordings import Wordings, find_wording


@pytest.mark.parametrize(
    ("questions", "wording"),
    [
        (
            (
                "What is the relation between a cup and a plate in the image?",
                "what is the relation between an old man and a T-shirt in the image",
            ),
            "what is the relation between a … and a … in the image",
        ),
        (
            (
                "What is the colour of a cup in the image?",
                "What is the shape of a bus in the image?",
            ),
            "what is the … of a … in the image",
        ),
        (("What is the dog doing to the cat?",), "what is the … doing to the …"),
        (("Describe this region: [0.1, 0.25, 0.5]",), "describe this region …"),
        (("", "?", " \n"), ""),
        (("犬はどこ?", "\ud800x"), "…"),
    ],
)
def test_questions_of_one_wording(questions: tuple[str, ...], wording: str) -> None:
    assert {find_wording(question) for question in questions} == {wording}


def test_a_long_question_has_a_short_wording() -> None:
    wording = find_wording("Is it " + "in the image or " * 10_000 + "near the cup?")
    assert len(wording.split()) == module.FIRST_WORDS + 1 + module.LAST_WORDS


def test_the_report() -> None:
    wordings = Wordings()
    for number in range(5):
        wordings.add(
            f"json/a.json:{number}", f"Where is\nthe cup{number}?", "on \x1b[2J" + "x" * 999
        )
    wordings.add("json/b.json:1", "Who rides the horse?", "a man")
    head, *groups = wordings.format().split("\n\n")
    assert head.startswith("6 questions that no grammar of mmrel ")
    assert "in 2 wordings" in head
    first, second = groups
    assert first.splitlines()[0] == "5  where is the …"
    assert len(first.splitlines()) == 1 + module.MAX_EXAMPLES
    assert first.splitlines()[1].startswith(
        "   json/a.json:0: Where is the cup0? -> on \\x1b[2Jxxx"
    )
    assert max(map(len, first.splitlines())) < 300
    assert second.splitlines()[0] == "1  who … the …"


def test_wordings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WORDINGS", 2)
    wordings = Wordings()
    for text in ("Where is it?", "Who is it?", "What is it?", "Where is it?", "Why is it?"):
        wordings.add("a.json:1", text, "x")
    report = wordings.format()
    assert "in 2 wordings" in report
    assert "2  where is it" in report
    assert report.endswith("\n2  (questions of further wordings)\n")
    assert wordings.total == 5

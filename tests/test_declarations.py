"""Splits that the names of upstream's files state."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrel_kit.questions.declarations import find_split


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("json/real_spatial.json", None),
        ("json/Fine-tuning/Fine-tuning_data.json", "train"),
        ("json/Fine-tuning/Test_QA/real_spatial.json", "test"),
        ("json/Fine-tuning/Test_QA/adversarial.jsonl", "adversarial"),
        ("json/Fine-tuning/train.json", "train"),
    ],
)
def test_names_of_the_authors_files(file: str, split: str | None) -> None:
    # The fine-tuning data became `test` by default.
    assert find_split({}, Path(file)) == split


def test_the_split_of_a_record_comes_first() -> None:
    path = Path("json/Fine-tuning/Fine-tuning_data.json")
    assert find_split({"split": "adversarial"}, path) == "adversarial"
    assert find_split({"category": "adversarial"}, path) == "adversarial"

"""The one reader of the taxonomy: what it refuses, and how words find their relation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmrel_kit.files import SCHEMA_FOLDER, InputError
from mmrel_kit.questions.taxonomy import inflections, read_taxonomy
from mmrel_kit.scoring.open_ended import load_taxonomy
from mmrel_kit.semidc.words import are_synonyms, make_triplet
from tests.conftest import REPOSITORY

RELATION = {"name": "ride", "opposites": [], "inverse": None, "synonyms": [], "forms": []}


def write(folder: Path, relation: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A taxonomy of one category and one relation, in which something may be otherwise."""
    category = {"open_vocabulary": True, "relations": [RELATION | (relation or {})]}
    taxonomy = {"styles": ["sketch"], "categories": {"action": category}} | changes
    path = folder / "taxonomy.json"
    path.write_text(json.dumps(taxonomy))
    return path


def test_the_taxonomy_of_a_file_is_read(tmp_path: Path) -> None:
    taxonomy = read_taxonomy(write(tmp_path))
    assert taxonomy.styles == ("sketch",)
    assert taxonomy.categories["action"].relations["ride"].opposites == ()
    assert read_taxonomy(SCHEMA_FOLDER / "taxonomy.json") == read_taxonomy()
    assert read_taxonomy() is read_taxonomy()


@pytest.mark.parametrize(
    ("relation", "changes", "message"),
    [
        ({"name": 7}, {}, "expected 'name' to be str, got 7"),
        ({"synonyms": "sit on"}, {}, "expected 'synonyms' to be list, got \"sit on\""),
        ({"forms": [None]}, {}, "expected 'forms' to be a list of text, got null in it"),
        ({"inverse": []}, {}, "expected 'inverse' to be str or NoneType, got []"),
        (
            {"opposites": ["walk"]},
            {},
            "the opposites and the inverse of 'ride' to be listed, got walk",
        ),
        (
            {"inverse": "carry"},
            {},
            "the opposites and the inverse of 'ride' to be listed, got carry",
        ),
        ({}, {"styles": None}, "expected 'styles' to be list, got null"),
        ({}, {"categories": []}, "expected 'categories' to be dict, got []"),
        ({}, {"categories": {"action": {}}}, "expected an object with 'open_vocabulary', got {}"),
    ],
)
def test_what_is_no_taxonomy_is_refused(
    tmp_path: Path, relation: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, relation, **changes)
    expected = re.escape(f"expected the taxonomy of relations in {path}; it cannot be read: ")
    with pytest.raises(InputError, match=f"{expected}.*{re.escape(message)}"):
        read_taxonomy(path)
    with pytest.raises(InputError, match=expected):
        load_taxonomy(path)


@pytest.mark.parametrize("content", [b"\xff", b"{", b"[]", b"[" * 99_999])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "taxonomy.json"
    with pytest.raises(InputError, match=r"taxonomy\.json; it cannot be read: .*No such file"):
        read_taxonomy(path)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"expected the taxonomy of relations in .*taxonomy\.json"):
        read_taxonomy(path)


def test_a_word_finds_its_relation() -> None:
    spatial, action, _ = read_taxonomy().categories.values()
    assert [action.find(word).name for word in ("riding", "ate", "haul")] == [
        "ride",
        "eat",
        "carry",
    ]  # type: ignore[union-attr]
    assert spatial.find("on top of") is None  # above or on
    assert spatial.find_all("on top of") == {"above", "on"}
    assert spatial.listed["on top of"].name == "above"
    assert action.find("juggle") is None
    assert "riding" not in action.listed


def test_a_verb_that_ends_in_y_is_known_in_its_past_tense() -> None:
    # Labelling had inflections of its own, without "carried": it became a verb beside "carry", and
    # one could be proposed as the false twin of the other.
    assert make_triplet("real", "action", "man", "carried", "box").relation == "carry"
    assert are_synonyms("action", "carried", "haul")


def test_no_inflection_is_a_word_of_another_relation() -> None:
    action = read_taxonomy().categories["action"]
    for name in action.relations:
        for form in inflections(name):
            assert action.find_all(form) == {name}


def test_it_needs_the_standard_library_alone() -> None:
    command = (
        "import sys, mmrel_kit.questions.taxonomy; print({'mmrel', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"

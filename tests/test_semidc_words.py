"""Words of models and people in the project's: names, articles, relations."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmrel_kit.files import InputError
from mmrel_kit.semidc.words import are_synonyms, make_triplet, spoken_article, tidy_name
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    "name", ["elephant", "hour", "heir", "honest-man", "umbrella", "x-ray", "SUV", "uncle", "urn"]
)
def test_an_stands_before_what_sounds_like_a_vowel(name: str) -> None:
    assert spoken_article(name) == "an"


@pytest.mark.parametrize(
    "name",
    [
        "unicorn",
        "unicycle",
        "uniform",
        "university",
        "user",
        "ewe",
        "European",
        "ukulele",
        "UFO",
        "horse",
        "TV",
    ],
)
def test_a_stands_before_what_sounds_like_a_consonant(name: str) -> None:
    assert spoken_article(name) == "a"


def test_words_are_brought_to_the_taxonomy_s() -> None:
    assert make_triplet("real", "action", " The Person", "sitting", "a  surfboard") == (
        "person",
        "sit",
        "surfboard",
    )
    assert make_triplet("real", "spatial", "cat", "to the left of", "TV") == ("cat", "left", "TV")
    assert make_triplet("real", "comparative", "bus", "larger", "car").relation == "bigger"
    assert are_synonyms("action", "look at", "watch")
    assert not are_synonyms("action", "sit", "stand")


WORDS = ("panda", "bear", "a", "an", "the", "man", "TV", "Zebra", "é", "in")


NAMES = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=5)


@given(NAMES, st.sampled_from(("", "a ", "An ", "THE  ", " the\t")))
def test_a_name_loses_its_leading_article_and_nothing_else(words: list[str], article: str) -> None:
    # The pattern had no anchor: "panda bear" became "pandbear", "man in a hat" became "min a hat".
    name = " ".join(" ".join(words).split())
    assume(name)
    assume(article or name.split()[0].lower() not in ("a", "an", "the") or " " not in name)
    is_capitalized = name.isalpha() and name.istitle()
    assert tidy_name(article + name) == (name.lower() if is_capitalized else name)


@pytest.mark.parametrize("name", ["panda bear", "pizza box", "sofa bed", "theory", "a", "the"])
def test_names_in_triplets_stay_whole(name: str) -> None:
    assert make_triplet("real", "action", "the dog", "carry", name).object == name
    assert make_triplet("real", "action", name, "carry", "an egg").subject == name
    # As an object it would be read back as "hat".
    assert make_triplet("real", "action", "man in a hat", "eat", name).subject == "man in a hat"


@pytest.mark.parametrize(
    ("category", "words", "told"),
    [
        # "Does a cup above a dog in the image?" was a question of the category action.
        ("action", ("cup", "above", "dog"), r"a verb \(hold, .*\), got the spatial word 'above'"),
        ("action", ("cup", "Inside", "dog"), "got the spatial word 'inside'"),
        ("action", ("cup", "larger", "dog"), "got the comparative word 'larger'"),
        ("action", ("cup", "behind", "dog"), "expected a verb .*, got 'behind'"),
        ("action", ("person", "in to", "boat"), "expected a verb .*, got 'in to'"),
        # It ends like a comparative: "Is a cup under than a dog in the image?"
        ("comparative", ("cup", "under", "dog"), "comparative .*, got the spatial word 'under'"),
        ("spatial", ("cat", "among", "dogs"), "expected a spatial relation among above"),
        # It may mean above or on.
        ("spatial", ("cat", "on top of", "dog"), "expected a spatial relation"),
        ("comparative", ("car", "blue", "bus"), "expected a comparative"),
        ("action", ("man", "look very closely", "dog"), "no question can be asked"),
        ("action", ("man", "ride", ""), "of 1 to 100 characters"),
        ("action", ("man", "ride", "x" * 101), "of 1 to 100 characters"),
        ("action", ("man", "ride", "horse?"), "no question can be asked"),
        ("colour", ("man", "ride", "horse"), "expected a category"),
    ],
)  # fmt: skip
def test_words_that_make_no_question_are_refused(
    category: str, words: tuple[str, str, str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        make_triplet("real", category, *words)


def test_words_need_no_extra() -> None:
    command = "import sys; from mmrel_kit.semidc import make_triplet; print(set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert not {"fastapi", "openai", "uvicorn", "PIL"} & ast.literal_eval(done.stdout)

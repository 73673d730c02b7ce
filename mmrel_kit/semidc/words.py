# SPDX-License-Identifier: Apache-2.0
"""Normalise the words of models and annotators: names, articles, relations."""

from __future__ import annotations

import re

import mmrel
from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet, article, make_question
from mmrel_kit.questions.taxonomy import find_misfit, read_taxonomy

MAX_NAME = 100  # characters of each part of a triplet
# Names whose first sound differs from their first letter. (Upstream writes "an unicycle".)
_SOUNDS_LIKE_CONSONANT = re.compile(
    r"eu|ew|one\b|u-|ufo|uk|uni(?:[cfqt]|on|son|v)|uran|us[aeu]\w|usb|ute|uti", re.I
)
_SOUNDS_LIKE_VOWEL = re.compile(
    r"heir|honest|hono|hour|x-?ray|(?-i:[FHLMNRSX](?:[A-Z0-9]|\b))", re.I
)
_LEADING_ARTICLE = re.compile(r"^(?:an?|the) (?=.)", re.I)


def make_triplet(domain: str, category: str, subject: str, relation: str, object_: str) -> Triplet:
    """Return a normalised triplet.

    Names lose a leading article, and a name of one capitalized word is put in lower case. The
    relation becomes the taxonomy's name.

    The relation may be the taxonomy's name, a synonym or an inflected verb. The grammar of
    questions depends on the domain.

    Raises:
        InputError: the relation is unknown in a closed category or belongs to another category, or
            no question can be asked about the triplet.
    """
    if category not in mmrel.CATEGORIES:
        known = ", ".join(mmrel.CATEGORIES)
        raise InputError(f"expected a category among {known}, got {category[:80]!r}")
    name = _find_relation(category, _collapse_spaces(relation).lower())
    triplet = Triplet(tidy_name(subject), name, tidy_name(object_))
    is_printable = all(word.isprintable() for word in triplet)
    if not is_printable or not all(1 <= len(word) <= MAX_NAME for word in triplet):
        raise InputError(
            f"expected a subject, a relation and an object of 1 to {MAX_NAME} characters, "
            f"got {tuple(triplet)}"
        )
    misfit = find_misfit(category, triplet.relation)
    if misfit:
        raise InputError(misfit)
    try:
        if "?" in "".join(triplet):
            raise InputError("a question ends at its question mark")
        make_question(domain, category, triplet, article=spoken_article)
    except InputError:
        raise InputError(
            f"no question can be asked about {' '.join(triplet)!r}: "
            "expected plain words, the verb in one"
        ) from None
    return triplet


def tidy_name(text: str) -> str:
    """Return a name without a leading article, and in lower case if it is one capitalized word.

    >>> [tidy_name(name) for name in ("a panda  bear", "The Person", "man in a hat", "TV")]
    ['panda bear', 'person', 'man in a hat', 'TV']
    """
    return lower_capitalized(_LEADING_ARTICLE.sub("", _collapse_spaces(text)))


def lower_capitalized(name: str) -> str:
    """Return a name in lower case if it is one capitalized word, otherwise unchanged."""
    return name.lower() if name.isalpha() and name.istitle() else name


def are_synonyms(category: str, word: str, other: str) -> bool:
    """Return whether two words may name the same relation, so that both are true or neither is."""
    vocabulary = read_taxonomy().categories[category]
    meanings = {word} | vocabulary.find_all(word)
    return not meanings.isdisjoint({other} | vocabulary.find_all(other))


def spoken_article(name: str) -> str:
    """Return "a" or "an" by a name's first sound; upstream chooses by the first letter.

    >>> names = ("elephant", "unicorn", "hour", "umbrella", "one-eyed cat")
    >>> [f"{spoken_article(name)} {name}" for name in names]
    ['an elephant', 'a unicorn', 'an hour', 'an umbrella', 'a one-eyed cat']
    """
    if _SOUNDS_LIKE_CONSONANT.match(name):
        return "a"
    return "an" if _SOUNDS_LIKE_VOWEL.match(name) else article(name)


def _find_relation(category: str, word: str) -> str:
    """Return the taxonomy's name for a relation; an open category also accepts other words."""
    vocabulary = read_taxonomy().categories[category]
    known = vocabulary.find(word)
    if known:
        return known.name
    if not vocabulary.is_open:
        names = ", ".join(vocabulary.relations)
        raise InputError(f"expected a {category} relation among {names}, got {word[:80]!r}")
    if category == "comparative" and not word.endswith("er"):
        raise InputError(f"expected a comparative (bigger, older …), got {word[:80]!r}")
    return word


def _collapse_spaces(text: str) -> str:
    return " ".join(text.split())

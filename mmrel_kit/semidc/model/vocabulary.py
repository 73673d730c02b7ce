# SPDX-License-Identifier: Apache-2.0
"""The words that triplets are made of: relations of the taxonomy, what counts as the same one, and articles."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import Any

import mmrel
from mmrel_kit.files import SCHEMA_FOLDER, InputError
from mmrel_kit.questions.records import Triplet, article, make_question
from mmrel_kit.questions.taxonomy import find_misfit

# Names whose first sound is not that of their first letter. Upstream words "an unicycle"; our questions need not.
_SOUNDS_LIKE_CONSONANT = re.compile(r"eu|ew|one\b|u-|ufo|uk|uni(?:[cfqt]|on|son|v)|uran|us[aeu]\w|usb|ute|uti", re.I)
_SOUNDS_LIKE_VOWEL = re.compile(r"heir|honest|hono|hour|x-?ray|(?-i:[FHLMNRSX](?:[A-Z0-9]|\b))", re.I)
_LEADING_ARTICLE = re.compile(r"(?:an?|the) (?=.)", re.I)


@dataclasses.dataclass(frozen=True)
class Relation:
    """A relation of the taxonomy: its name, those that cannot hold at once with it, and its other words."""

    name: str
    opposites: tuple[str, ...]
    synonyms: tuple[str, ...]
    forms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The relations of a category; an open one holds more than are listed."""

    is_open: bool
    relations: dict[str, Relation]

    def find(self, word: str) -> Relation | None:
        """The relation that a word names, by its name, inflected, or as a synonym of no other relation."""
        if word in self.relations:
            return self.relations[word]
        for kind in ("forms", "synonyms"):
            found = [relation for relation in self.relations.values() if word in getattr(relation, kind)]
            if len(found) == 1:
                return found[0]
        return None


@functools.cache
def load_vocabulary() -> dict[str, Vocabulary]:
    """The taxonomy's relations by category."""
    taxonomy = json.loads((SCHEMA_FOLDER / "taxonomy.json").read_text("utf-8"))
    return {
        category: Vocabulary(
            content["open_vocabulary"],
            {entry["name"]: _make_relation(entry, category) for entry in content["relations"]},
        )
        for category, content in taxonomy["categories"].items()
    }


def load_styles() -> tuple[str, ...]:
    """The manners of drawing."""
    return tuple(json.loads((SCHEMA_FOLDER / "taxonomy.json").read_text("utf-8"))["styles"])


def make_triplet(domain: str, category: str, subject: str, relation: str, object_: str) -> Triplet:
    """A triplet in the project's words: no articles, no capitalized words, the taxonomy's name for the relation.

    Raises:
        InputError: the relation is not one of a closed category or is a word of another category,
            or no question can be asked about the triplet.
    """
    if category not in mmrel.CATEGORIES:
        raise InputError(f"expected a category among {', '.join(mmrel.CATEGORIES)}, got {category[:80]!r}")
    vocabulary = load_vocabulary()[category]
    word = _tidy(relation).lower()
    known = vocabulary.find(word)
    if known is None and not vocabulary.is_open:
        raise InputError(f"expected a {category} relation among {', '.join(vocabulary.relations)}, got {word[:80]!r}")
    if category == "comparative" and not known and not word.endswith("er"):
        raise InputError(f"expected a comparative (bigger, older …), got {word[:80]!r}")
    triplet = Triplet(tidy_name(subject), known.name if known else word, tidy_name(object_))
    if not all(triplet) or max(map(len, triplet)) > 100 or not all(map(str.isprintable, triplet)):
        raise InputError(f"expected a subject, a relation and an object of 1 to 100 characters, got {tuple(triplet)}")
    if misfit := find_misfit(category, triplet.relation):
        raise InputError(misfit)
    try:
        if "?" in "".join(triplet):
            raise InputError("a question ends at its question mark")
        make_question(domain, category, triplet, article=spoken_article)
    except InputError:
        told = " ".join(triplet)
        raise InputError(f"no question can be asked about {told!r}: expected plain words, the verb in one") from None
    return triplet


def tidy_name(text: str) -> str:
    """Return a name without its leading article; one capitalized word is put in lower case.

    >>> [tidy_name(name) for name in ("a panda  bear", "The Person", "man in a hat", "TV")]
    ['panda bear', 'person', 'man in a hat', 'TV']
    """
    name = _tidy(text)
    if article_found := _LEADING_ARTICLE.match(name):
        name = name[article_found.end() :]
    return lower_capitalized(name)


def lower_capitalized(name: str) -> str:
    """Return a name of one capitalized word in lower case, any other as it is."""
    return name.lower() if name.isalpha() and name.istitle() else name


def are_same(category: str, word: str, other: str) -> bool:
    """Whether two words may name the same relation, so that one cannot be false where the other is true."""
    return not _meanings(category, word).isdisjoint(_meanings(category, other))


def spoken_article(name: str) -> str:
    """The article as it is spoken: by the first sound of a name, where upstream goes by the first letter.

    >>> [f"{spoken_article(name)} {name}" for name in ("elephant", "unicorn", "hour", "umbrella", "one-eyed cat")]
    ['an elephant', 'a unicorn', 'an hour', 'an umbrella', 'a one-eyed cat']
    """
    if _SOUNDS_LIKE_CONSONANT.match(name):
        return "a"
    return "an" if _SOUNDS_LIKE_VOWEL.match(name) else article(name)


def _make_relation(entry: dict[str, Any], category: str) -> Relation:
    forms = (*entry.get("forms", ()), *(_inflect(entry["name"]) if category == "action" else ()))
    return Relation(entry["name"], tuple(entry["opposites"]), tuple(entry["synonyms"]), forms)


def _inflect(verb: str) -> tuple[str, ...]:
    """Regular inflections, and a few that are none: they only serve to recognize a listed verb."""
    stem = verb.removesuffix("e")
    third = verb[:-1] + "ies" if verb.endswith("y") else verb + ("es" if verb.endswith(("ch", "s", "sh")) else "s")
    return (verb + "s", third, stem + "ing", stem + verb[-1] + "ing", stem + "ed", stem + verb[-1] + "ed")


def _meanings(category: str, word: str) -> set[str]:
    relations = load_vocabulary()[category].relations.values()
    named = {relation.name for relation in relations if word in (relation.name, *relation.forms, *relation.synonyms)}
    return named | {word}


def _tidy(text: str) -> str:
    return " ".join(text.split())

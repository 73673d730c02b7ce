# SPDX-License-Identifier: Apache-2.0
"""Read the taxonomy of relations, and judge which relations a category can have.

Only this module reads schema/taxonomy.json. It imports the standard library alone, so that scoring
can use it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.files import SCHEMA_FOLDER, InputError, make_json, parse_json

TAXONOMY = SCHEMA_FOLDER / "taxonomy.json"
# Words that belong to the verb before them ("look at"); any other verb is taken as one word.
PARTICLES = frozenset({
    "about", "across", "after", "against", "along", "around", "at", "away", "behind", "by",
    "down", "for", "from", "in", "inside", "into", "near", "off", "on", "onto", "out", "over",
    "past", "through", "to", "toward", "towards", "under", "up", "upon", "with",
})  # fmt: skip
_EXPECTED = {
    "spatial": "a place (above, on, in, under, left, right)",
    "action": "a verb (hold, ride, eat …)",
    "comparative": "a comparative (bigger, taller …)",
}


class Relation(NamedTuple):
    """A relation of the taxonomy.

    Attributes:
        name: the word that records use.
        opposites: names of the relations that exclude it.
        inverse: the relation of the object to the subject, or None.
        synonyms: other words for it; a word may be a synonym of several relations.
        forms: irregular inflections, if it is a verb.
    """

    name: str
    opposites: tuple[str, ...]
    inverse: str | None
    synonyms: tuple[str, ...]
    forms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The relations of a category.

    Attributes:
        is_open: whether the category has more relations than are listed.
        has_verbs: whether its relations are verbs, which are recognised in any inflection.
    """

    is_open: bool
    has_verbs: bool
    relations: dict[str, Relation]

    @functools.cached_property
    def listed(self) -> dict[str, Relation]:
        """Every listed word and its relation; the first relation if several list the word."""
        words: dict[str, Relation] = {}
        for relation in self.relations.values():
            for word in (*relation.synonyms, *relation.forms):
                words.setdefault(word, relation)
        return words | self.relations

    def find(self, word: str) -> Relation | None:
        """Return the relation of a word or an inflection; None if it names none or several."""
        if word in self.relations:
            return self.relations[word]
        for index in (self._by_form, self._by_synonym):
            matches = index.get(word, ())
            if len(matches) == 1:
                return matches[0]
        return None

    def find_all(self, word: str) -> set[str]:
        """Return the names of all relations that a word may mean."""
        names = {word} & set(self.relations)
        for index in (self._by_form, self._by_synonym):
            names.update(relation.name for relation in index.get(word, ()))
        return names

    @functools.cached_property
    def _by_form(self) -> dict[str, list[Relation]]:
        forms = {}
        for relation in self.relations.values():
            regular = inflections(relation.name) if self.has_verbs else ()
            forms[relation] = {*relation.forms, *regular}
        return _index(forms)

    @functools.cached_property
    def _by_synonym(self) -> dict[str, list[Relation]]:
        return _index({relation: relation.synonyms for relation in self.relations.values()})


class Taxonomy(NamedTuple):
    """The styles of drawn pictures, and the vocabulary of each category by its name."""

    styles: tuple[str, ...]
    categories: dict[str, Vocabulary]


def read_taxonomy(path: Path | None = None) -> Taxonomy:
    """Return the taxonomy of a file; without one, that of this package, which is read once.

    Raises:
        InputError: the file cannot be read, or is not a taxonomy.
    """
    return _read_own() if path is None else _read_file(path)


def inflections(verb: str) -> set[str]:
    """Return a phrase with its first word inflected; forms that do not exist are harmless.

    >>> sorted(inflections("ride on"))
    ['ride on', 'rided on', 'ridees on', 'rideing on', 'rides on', 'riding on']
    """
    head, space, rest = verb.partition(" ")
    forms = {head, head + "s", head + "es", head + "ing"}
    forms.add(head + ("d" if head.endswith("e") else "ed"))
    if head.endswith("ie"):
        forms.add(head[:-2] + "ying")
    elif head.endswith("e"):
        forms.add(head[:-1] + "ing")
    elif head.endswith("y"):
        forms |= {head[:-1] + "ies", head[:-1] + "ied"}
    else:
        forms |= {head + head[-1:] + "ing", head + head[-1:] + "ed"}
    return {form + space + rest for form in forms}


def judge_relation(category: str, relation: str) -> str:
    """Return whether a category can have a relation.

    Returns:
        `known`; `open`, an unlisted verb; `unknown`, an unlisted comparative; or `impossible`.

    >>> [judge_relation("action", word) for word in ("ride", "juggle", "above", "behind", "bigger")]
    ['known', 'open', 'impossible', 'impossible', 'impossible']
    """
    word = relation.casefold()
    if word in read_taxonomy().categories[category].listed:
        return "known"
    if category == "spatial" or _find_owners(word):
        return "impossible"
    if category != "action":
        return "unknown"
    # Prepositions that the taxonomy does not list ("behind") are not verbs either.
    return "impossible" if PARTICLES.issuperset(word.split()) else "open"


def find_misfit(category: str, relation: str) -> str | None:
    """Return why a relation is impossible in its category, or None.

    >>> find_misfit("action", "above")
    "expected a verb (hold, ride, eat …), got the spatial word 'above'"
    """
    if judge_relation(category, relation) != "impossible":
        return None
    owners = _find_owners(relation.casefold())
    owner = f"the {owners[0]} word " if owners else ""
    return f"expected {_EXPECTED[category]}, got {owner}{relation[:80]!r}"


def _find_owners(word: str) -> list[str]:
    """Return the categories that list a word."""
    categories = read_taxonomy().categories.items()
    return [name for name, vocabulary in categories if word in vocabulary.listed]


def _index(words: Mapping[Relation, Iterable[str]]) -> dict[str, list[Relation]]:
    """Return the relations by each of their words."""
    index: defaultdict[str, list[Relation]] = defaultdict(list)
    for relation, of_relation in words.items():
        for word in of_relation:
            index[word].append(relation)
    return dict(index)


# --- Parsing ---


@functools.cache
def _read_own() -> Taxonomy:
    return _read_file(TAXONOMY)


def _read_file(path: Path) -> Taxonomy:
    try:
        taxonomy = parse_json(path.read_text("utf-8"))
        categories = _get_field(taxonomy, "categories", dict)
        vocabularies = {name: _make_vocabulary(name, entry) for name, entry in categories.items()}
        return Taxonomy(_get_words(taxonomy, "styles"), vocabularies)
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected the taxonomy of relations in {path}; it cannot be read: {error}"
        ) from None


def _make_vocabulary(category: str, entry: object) -> Vocabulary:
    is_open = _get_field(entry, "open_vocabulary", bool)
    listed = [_make_relation(relation) for relation in _get_field(entry, "relations", list)]
    relations = {relation.name: relation for relation in listed}
    for relation in listed:
        others = list(relation.opposites)
        if relation.inverse is not None:
            others.append(relation.inverse)
        unknown = [other for other in others if other not in relations]
        if unknown:
            raise ValueError(
                f"{category}: expected the opposites and the inverse of {relation.name!r} "
                f"to be listed, got {', '.join(unknown)}"
            )
    return Vocabulary(is_open, category == "action", relations)


def _make_relation(entry: Any) -> Relation:
    return Relation(
        name=_get_field(entry, "name", str),
        opposites=_get_words(entry, "opposites"),
        inverse=_get_field(entry, "inverse", str, type(None)),
        synonyms=_get_words(entry, "synonyms"),
        forms=_get_words(entry, "forms") if "forms" in entry else (),
    )


def _get_field(entry: object, key: str, *kinds: type) -> Any:
    """Return a field of a JSON object, which must be of one of these types."""
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"expected an object with {key!r}, got {make_json(entry)[:80]}")
    value = entry[key]
    if not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"expected {key!r} to be {names}, got {make_json(value)[:80]}")
    return value


def _get_words(entry: object, key: str) -> tuple[str, ...]:
    """Return a field of a JSON object, which must be a list of text."""
    words = _get_field(entry, key, list)
    for word in words:
        if not isinstance(word, str):
            raise ValueError(
                f"expected {key!r} to be a list of text, got {make_json(word)[:80]} in it"
            )
    return tuple(words)

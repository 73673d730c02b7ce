# SPDX-License-Identifier: Apache-2.0
"""The taxonomy's relations by their words, and which words cannot be a relation of a category."""

from __future__ import annotations

import functools
import json
from typing import NamedTuple

import mmrel
from mmrel_kit.files import SCHEMA_FOLDER
from mmrel_kit.questions.records import PARTICLES

_EXPECTED = {
    "spatial": "a place (above, on, in, under, left, right)",
    "action": "a verb (hold, ride, eat …)",
    "comparative": "a comparative (bigger, taller …)",
}


class Relation(NamedTuple):
    """A relation of the taxonomy."""

    name: str
    opposites: tuple[str, ...]
    inverse: str | None


@functools.cache
def read_taxonomy() -> dict[str, dict[str, Relation]]:
    """Return, per category, the relations by each of their words."""
    taxonomy = json.loads((SCHEMA_FOLDER / "taxonomy.json").read_text("utf-8"))["categories"]
    words: dict[str, dict[str, Relation]] = {}
    for category, described in taxonomy.items():
        known = words.setdefault(category, {})
        for entry in described["relations"]:
            relation = Relation(entry["name"], tuple(entry["opposites"]), entry["inverse"])
            for word in (*entry["synonyms"], *entry.get("forms", ())):
                known.setdefault(word, relation)
            known[entry["name"]] = relation
    return words


def judge_relation(category: str, relation: str) -> str:
    """Return `known`, `open` (a verb that is not listed), `unknown`, or `impossible`.

    >>> [judge_relation("action", word) for word in ("ride", "juggle", "above", "behind", "bigger")]
    ['known', 'open', 'impossible', 'impossible', 'impossible']
    """
    word = relation.casefold()
    if word in read_taxonomy()[category]:
        return "known"
    if category == "spatial" or _find_owners(word):
        return "impossible"
    if category != "action":
        return "unknown"
    # Prepositions that the taxonomy does not list ("behind") are no verbs either.
    return "impossible" if PARTICLES.issuperset(word.split()) else "open"


def find_misfit(category: str, relation: str) -> str | None:
    """Return why a relation is impossible in its category, or None.

    >>> find_misfit("action", "above")
    "expected a verb (hold, ride, eat …), got the spatial word 'above'"
    """
    if judge_relation(category, relation) != "impossible":
        return None
    owners = _find_owners(relation.casefold())
    kind = f"the {owners[0]} word " if owners else ""
    return f"expected {_EXPECTED[category]}, got {kind}{relation[:80]!r}"


def _find_owners(word: str) -> list[str]:
    """Return the categories that list a word."""
    return [category for category in mmrel.CATEGORIES if word in read_taxonomy()[category]]

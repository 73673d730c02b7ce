# SPDX-License-Identifier: Apache-2.0
"""Reads open-ended answers by the relations that they name."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relation_accuracy import AnswerError, fold_text, split_words, take_reply

# Phrases that hold a relation's word and name no relation of the two objects.
_NO_RELATION = {
    phrase: frozenset[str]()
    for phrase in (
        "in front of",
        *(f"{word} {which} {noun}" for word in ("in", "on") for which in ("the", "this") for noun in
          ("image", "picture", "photo", "scene", "foreground", "background", "middle", "center")),
    )
}  # fmt: skip
_OPEN_CHARACTERS = 20_000  # of an open-ended answer are looked at


class Vocabulary(NamedTuple):
    """The relations of one category that an open-ended answer may name."""

    phrases: Mapping[str, frozenset[str]]  # phrase -> the relations it may mean ("on top of": above, on)
    opposites: frozenset[tuple[str, str]] = frozenset()  # in both orders
    inverses: frozenset[tuple[str, str]] = frozenset()  # in both orders


def inflections(verb: str) -> set[str]:
    """Returns the regular inflections of a phrase's first word; those that do not exist do no harm.

    >>> sorted(inflections("ride on"))
    ['ride on', 'rided on', 'ridees on', 'rideing on', 'rides on', 'riding on']
    """
    head, space, rest = verb.partition(" ")
    forms = {head, head + "s", head + "es", head + "ing", head + ("d" if head.endswith("e") else "ed")}
    if head.endswith("ie"):
        forms.add(head[:-2] + "ying")
    elif head.endswith("e"):
        forms.add(head[:-1] + "ing")
    elif head.endswith("y"):
        forms |= {head[:-1] + "ies", head[:-1] + "ied"}
    else:
        forms |= {head + head[-1:] + "ing", head + head[-1:] + "ed"}
    return {form + space + rest for form in forms}


def load_taxonomy(path: str | os.PathLike[str] | None = None) -> dict[str, Vocabulary]:
    """Read the relations from a `taxonomy.json`.

    Args:
        path: the file; by default the one that came with this module: in `mmrel_schema/` beside it
            where it was installed, in `schema/` in a clone.

    Returns:
        category -> Vocabulary; verbs (category `action`) stand in all their inflections.

    Raises:
        AnswerError: the file is not there or is no taxonomy.
    """
    if path is None:
        path = Path(__file__).resolve().parents[2] / "schema" / "taxonomy.json"
    path = Path(path)
    taxonomy = {}
    try:
        for category, entry in json.loads(path.read_text(encoding="utf-8"))["categories"].items():
            phrases: defaultdict[str, set[str]] = defaultdict(set)
            opposites, inverses = set(), set()
            for relation in entry["relations"]:
                name, inverse = relation["name"], relation["inverse"]
                for phrase in (name, *relation["synonyms"], *relation.get("forms", ())):
                    for form in inflections(phrase) if category == "action" else (phrase,):
                        phrases[form].add(name)
                for other in relation["opposites"]:
                    opposites |= {(name, other), (other, name)}
                if inverse:
                    inverses |= {(name, inverse), (inverse, name)}
            known = {phrase: frozenset(names) for phrase, names in phrases.items()}
            taxonomy[category] = Vocabulary(known, frozenset(opposites), frozenset(inverses))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnswerError(f"expected the taxonomy of relations in {path}; it cannot be read: {error!r}") from error
    return taxonomy


def _find(tokens: Sequence[str], phrases: Mapping[str, frozenset[str]]) -> Iterator[tuple[frozenset[str], int, int]]:
    """Finds phrases of up to six words, the longest first: (relations, first token, token after the last)."""
    at = 0
    while at < len(tokens):
        for end in range(min(at + 6, len(tokens)), at, -1):
            names = phrases.get(" ".join(tokens[at:end]))
            if names is not None:
                if names:
                    yield names, at, end
                at = end - 1
                break
        at += 1


def _is_swapped(tokens: Sequence[str], start: int, end: int, comparative: bool) -> bool:
    """Says whether the relation at `start:end` is told of the object ("O"), not of the subject ("S").

    The first of the two after the relation is what it relates to ("above the S"); failing that, the last one
    before it is what it is told of ("the O is below"). A comparative relates to what follows "than".
    """

    def first(part: Iterable[str], stops: tuple[str, ...]) -> str | None:
        return next((token for token in part if token in ("S", "O", *stops)), None)

    before = first(reversed(tokens[max(0, start - 12) : start]), (".", "and", "but"))
    after = first(tokens[end : end + 12], (".",))
    if comparative and "than" not in tokens[end : end + 2]:
        return (before if before in ("S", "O") else after) == "O"
    return after == "S" if after in ("S", "O") else before == "O"


def _is_denied(tokens: Sequence[str], start: int) -> bool:
    """Says whether not or no is among the three words before the relation, in its part of the sentence."""
    for token in reversed(tokens[max(0, start - 3) : start]):
        if token in ("not", "never", "no") or token.endswith("n't"):
            return True
        if token in (".", "but", "and"):
            break
    return False


def read_relation(text: str, record: Mapping[str, Any], taxonomy: Mapping[str, Vocabulary]) -> str | None:
    """Compares the relation that an open-ended answer names with the reference, without a model: version 1.0.

    The relations of the record's category are looked for in the answer, by name, synonym and inflection. One
    that is the reference's holds; for spatial and comparative relations so does its inverse told in the other
    order ("the car is under the flower" for flower above car). What is denied ("not above"), opposite, or the
    same in the wrong order contradicts. The answer is correct if a relation in it holds and none contradicts.

    Args:
        text: the answer.
        record: keys `answer`, and where known `category`, `subject`, `relation`, `object`; without `relation`
            the one that the reference answer names is used.
        taxonomy: of `load_taxonomy`.

    Returns:
        "correct", "incorrect", or None (no answer: no relation that is known is named).

    >>> record = {"category": "spatial", "subject": "flower", "relation": "above", "object": "car"}
    >>> answers = ("The car is below the flower", "under", "red")
    >>> [read_relation(answer, record, load_taxonomy()) for answer in answers]
    ['correct', 'incorrect', None]
    """
    category = record.get("category")
    vocabulary = taxonomy.get(category or "", Vocabulary({}))
    wanted = split_words(fold_text(record.get("relation") or record.get("answer") or ""))
    reference = next((names for names, *_ in _find(wanted.split(), vocabulary.phrases)), frozenset({wanted}))
    phrases = {**_NO_RELATION, **vocabulary.phrases, **dict.fromkeys(inflections(wanted), reference)}
    tokens = _mark_objects(split_words(take_reply(text)[:_OPEN_CHARACTERS]), record).split()
    verdicts = set()
    for names, start, end in _find(tokens, phrases):
        if category != "action" and _is_swapped(tokens, start, end, category == "comparative"):
            holds = any((name, other) in vocabulary.inverses for name in names for other in reference)
            contradicts = not names.isdisjoint(reference)
        else:
            holds = not names.isdisjoint(reference)
            contradicts = any((name, other) in vocabulary.opposites for name in names for other in reference)
        if _is_denied(tokens, start):
            holds, contradicts = False, holds
        verdicts.add("contradicts" if contradicts else "holds" if holds else "other")
    if not verdicts:
        return None
    return "correct" if "holds" in verdicts and "contradicts" not in verdicts else "incorrect"


def _mark_objects(words: str, record: Mapping[str, Any]) -> str:
    """Puts "S" for the subject and "O" for the object, so that their names are not read as relations."""
    names = {mark: split_words(fold_text(record.get(key) or "")) for mark, key in (("S", "subject"), ("O", "object"))}
    if names["S"] == names["O"]:
        return words
    for mark, name in sorted(names.items(), key=lambda item: -len(item[1])):
        if name:
            words = re.sub(rf"(?:^|(?<= )){re.escape(name)}(?:'s|es|s)?(?= |$)", mark, words)
    return words

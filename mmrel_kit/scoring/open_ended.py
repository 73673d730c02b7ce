# SPDX-License-Identifier: Apache-2.0
"""Read open-ended answers by the relations that they name, without a model."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.questions.taxonomy import Vocabulary, inflections, read_taxonomy
from relation_accuracy import fold_text, split_words, take_reply

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


class Lexicon(NamedTuple):
    """What an open-ended answer may say of the relations of one category.

    Attributes:
        phrases: phrase -> the relations that it may mean ("on top of": above, on).
        opposites: pairs of relations that exclude each other, in both orders.
        inverses: pairs of which one is the other, seen from the object; in both orders.
    """

    phrases: Mapping[str, frozenset[str]]
    opposites: frozenset[tuple[str, str]] = frozenset()
    inverses: frozenset[tuple[str, str]] = frozenset()


def load_taxonomy(path: str | os.PathLike[str] | None = None) -> dict[str, Lexicon]:
    """Return what answers may say of the relations of a `taxonomy.json`.

    Args:
        path: the file; None takes that of this package.

    Returns:
        category -> Lexicon; verbs (category `action`) are in it in all their inflections.

    Raises:
        InputError: the file cannot be read, or is not a taxonomy.
    """
    taxonomy = read_taxonomy(None if path is None else Path(path))
    return {name: _make_lexicon(vocabulary) for name, vocabulary in taxonomy.categories.items()}


def _make_lexicon(vocabulary: Vocabulary) -> Lexicon:
    phrases: defaultdict[str, set[str]] = defaultdict(set)
    opposites, inverses = set(), set()
    for relation in vocabulary.relations.values():
        name = relation.name
        for phrase in (name, *relation.synonyms, *relation.forms):
            for form in inflections(phrase) if vocabulary.has_verbs else (phrase,):
                phrases[form].add(name)
        for other in relation.opposites:
            opposites |= {(name, other), (other, name)}
        if relation.inverse:
            inverses |= {(name, relation.inverse), (relation.inverse, name)}
    known = {phrase: frozenset(names) for phrase, names in phrases.items()}
    return Lexicon(known, frozenset(opposites), frozenset(inverses))


def _find(
    tokens: Sequence[str], phrases: Mapping[str, frozenset[str]]
) -> Iterator[tuple[frozenset[str], int, int]]:
    """Find phrases of up to six words, the longest first: (relations, first token, token after the last)."""
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
    """Return whether the relation at `start:end` is told of the object ("O"), not of the subject ("S").

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
    """Return whether not or no is among the three words before the relation, in its part of the sentence."""
    for token in reversed(tokens[max(0, start - 3) : start]):
        if token in ("not", "never", "no") or token.endswith("n't"):
            return True
        if token in (".", "but", "and"):
            break
    return False


def read_relation(
    text: str, record: Mapping[str, Any], taxonomy: Mapping[str, Lexicon]
) -> str | None:
    """Compare the relation that an open-ended answer names with the reference, without a model: version 1.0.

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
    lexicon = taxonomy.get(category or "", Lexicon({}))
    wanted = split_words(fold_text(record.get("relation") or record.get("answer") or ""))
    reference = next(
        (names for names, *_ in _find(wanted.split(), lexicon.phrases)), frozenset({wanted})
    )
    phrases = {**_NO_RELATION, **lexicon.phrases, **dict.fromkeys(inflections(wanted), reference)}
    tokens = _mark_objects(split_words(take_reply(text)[:_OPEN_CHARACTERS]), record).split()
    verdicts = set()
    for names, start, end in _find(tokens, phrases):
        if category != "action" and _is_swapped(tokens, start, end, category == "comparative"):
            holds = any((name, other) in lexicon.inverses for name in names for other in reference)
            contradicts = not names.isdisjoint(reference)
        else:
            holds = not names.isdisjoint(reference)
            contradicts = any(
                (name, other) in lexicon.opposites for name in names for other in reference
            )
        if _is_denied(tokens, start):
            holds, contradicts = False, holds
        verdicts.add("contradicts" if contradicts else "holds" if holds else "other")
    if not verdicts:
        return None
    return "correct" if "holds" in verdicts and "contradicts" not in verdicts else "incorrect"


def _mark_objects(words: str, record: Mapping[str, Any]) -> str:
    """Put "S" for the subject and "O" for the object, so that their names are not read as relations."""
    names = {
        mark: split_words(fold_text(record.get(key) or ""))
        for mark, key in (("S", "subject"), ("O", "object"))
    }
    if names["S"] == names["O"]:
        return words
    for mark, name in sorted(names.items(), key=lambda item: -len(item[1])):
        if name:
            words = re.sub(rf"(?:^|(?<= )){re.escape(name)}(?:'s|es|s)?(?= |$)", mark, words)
    return words

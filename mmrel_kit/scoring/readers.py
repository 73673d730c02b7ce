# SPDX-License-Identifier: Apache-2.0
"""Reads answers to MMRel's questions: yes or no by `words` or as published scorers do, and relations by name.

What an answer says is decided here; `relation_accuracy` counts it. The standard library alone.
"""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mmrel_kit.files import InputError
from mmrel_kit.questions.taxonomy import Vocabulary, inflections, read_taxonomy


class RecordError(ValueError):
    """The references, or the release that holds them, are not what the contract says."""


_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_TAG = re.compile(r"</?(?!yes\b|no\b)[a-z][^<>]*>")
_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[.,:;!?/\n\r\u2013\u2014\u3001\u3002\u2028\u2029-]")
# normalize() sorts a run of combining marks in quadratic time (80,000 take 6 s): it is given short runs.
_NOT_ASCII = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]{1,64}")

_LABEL = (
    r"(?:the |my )?(?:final |correct |right |short |best )?"
    r"(?:answer|response|reply|output|prediction|conclusion)"
    r"(?: to (?:the|this|that|your) question)?(?: (?:is|would be|should be))?|assistant|gpt|model|boxed|text"
)
_LEAD = re.compile(rf"[. ]*(?:(?:\d{{1,3}}|[a-h]|{_LABEL})(?= |$)[. ]*){{0,6}}(yes|no)(?= |$)")
_IDIOM = re.compile(
    r"(?:^|(?<= ))(?:no (?:idea|clue|doubt|question|matter|problem|worries|wonder|comment|information"
    r"|response|(?:\w+ )?answer|way (?:to|of)|(?:image|picture|photo)s?(?: is| was| has been)? "
    r"(?:provided|attached|uploaded|given|available|included))"
    r"|(?:not|cannot|[a-z]{1,8}n't) (?:say |answer )?(?:yes|no)(?: n?or (?:yes|no))?)(?= |$)"
)
# "no" stands on its own at the end of its part of the sentence, or before a word that it cannot belong to.
_OWN_NO = re.compile(
    r"(?:^| )no(?= \.|$| (?:yes|no|and|or|but|i|it|it's|there|there's|the|a|an|this|that|that's|these|those"
    r"|they|he|she|we|you)(?: |$))"
)


def _fold(text: str) -> str:
    """Returns the text in Unicode's compatibility form, without case and invisible characters."""
    if not text.isascii():
        text = _NOT_ASCII.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
        text = _INVISIBLE.sub("", text).replace("\u2019", "'").replace("\u2010", "-")
    return text.casefold()


def _reply(text: str) -> str:
    """Returns the folded text after a model's reasoning; nothing if the reasoning does not end."""
    reply = _fold(text).rpartition("</think>")[2]
    return "" if "<think>" in reply else reply


def _words(folded: str) -> str:
    """Returns the words of a folded text, a space between them; "." is whatever divides a sentence."""
    tokens = _TOKEN.findall(_TAG.sub(" ", folded))
    return " ".join(token if token[0].isalnum() else "." for token in tokens)


def read_words(text: str, label: str = "") -> str | None:
    """Reads yes, no or no answer by the words `yes` and `no` alone: the reader of MMRel, version 1.0.

    1. Case, mark-up, quotes and brackets do not count; Unicode is normalised (NFKC). Where a model shows its
       reasoning, only what follows the last `</think>` is read; reasoning that does not end holds no answer.
    2. `yes` and `no` are whole words ("eyes", "nope" and "no-one" hold neither). Idioms in which they answer
       nothing are passed over ("no idea", "no doubt", "no way to tell", "no image provided", "not yes").
    3. The one that *leads* is the answer. Before it may stand numbering ("1.", "(b)") and a label ("Answer:",
       "The answer is", "Assistant:").
    4. Without a lead, the one of the two words that stands in the text is; if both stand there, there is no
       answer.
    5. There is no answer, either, when the opposite of the lead *stands on its own* further on: any other
       "yes", and a "no" that belongs to no noun, being at the end of its part of the sentence or before
       "and", "or", "but", an article or a pronoun. ("Yes, there is no dog" has one answer, "Yes. No." and
       "No, yes it is" have none.)

    Args:
        text: the answer, of any length (time is linear in it).
        label: not looked at; published readers do.

    Returns:
        "yes", "no", or None for no answer.

    >>> [read_words(text) for text in ("**Yes**, no dog is there", "There is no dog", "Yes/No", "No idea")]
    ['yes', 'no', None, None]
    """
    return _read_words(text) if len(text) > 80 else _read_short(text)


def _read_words(text: str) -> str | None:
    words = _IDIOM.sub("~", _words(_reply(text)))
    yes, no = (f" {word} " in f" {words} " for word in ("yes", "no"))
    lead = _LEAD.match(words)
    if not lead:
        return None if yes == no else "yes" if yes else "no"
    opposite = yes if lead[1] == "no" else _OWN_NO.search(words)
    return None if opposite else lead[1]


_read_short = functools.lru_cache(maxsize=4096)(_read_words)  # most answers are the same few words


def _read_pope(text: str, label: str) -> str | None:
    """Reads like POPE's evaluate.py (also LLaVA, R-Bench): yes, unless "no" is in the first sentence."""
    words = text.split(".", 1)[0].replace(",", "").split(" ")
    return "yes" if {"No", "not", "no"}.isdisjoint(words) else "no"


def _read_vcd(text: str, label: str) -> str | None:
    """Reads like VCD's eval_pope.py: the label if it stands in the answer, else its opposite."""
    if label in text.lower():
        return label
    return "no" if label == "yes" else "yes"


def _read_amber(text: str, label: str) -> str | None:
    """Reads like AMBER's inference.py: exactly Yes or No."""
    return {"Yes": "yes", "No": "no"}.get(text)


def _read_lmms_eval(text: str, label: str) -> str | None:
    """Reads like the pope task of lmms-eval: exactly yes or no, in any case, between white space."""
    word = text.lower().strip()
    return word if word in ("yes", "no") else None


def _read_vlmevalkit(text: str, label: str) -> str | None:
    """Reads like VLMEvalKit's YOrN_Extraction: one of the two words stands there and the other does not.

    A punctuation mark that touches a space anywhere is deleted everywhere, any other becomes a space, and all
    are deleted if a comma stands between digits; then the first 32 full stops not before a digit are deleted.
    """
    given = text = text.lower()
    grouped = re.search(r"\d,\d", given)
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        if mark in given:
            loose = grouped or mark + " " in given or " " + mark in given
            text = text.replace(mark, "" if loose else " ")
    words = set(re.sub(r"\.(?!\d)", "", text, count=32).split())
    found = words & {"yes", "no"}
    return found.pop() if len(found) == 1 else None


class Reader(NamedTuple):
    """A way to read answers, and to count what it could not read."""

    name: str
    version: str  # a change that moves old numbers raises the first figure
    read: Callable[[str, str], str | None]  # (answer, label) -> "yes", "no" or None
    positive: Literal["yes", "no"] = "yes"
    recall_over_read: bool = False  # recall leaves out what could not be read; elsewhere that is missed


READERS = {
    reader.name: reader
    for reader in (
        Reader("words", "1.0", read_words),
        Reader("pope", "1.0", _read_pope),
        Reader("vcd", "1.0", _read_vcd),
        Reader("amber", "1.0", _read_amber, positive="no"),
        Reader("lmms-eval", "1.0", _read_lmms_eval, recall_over_read=True),
        Reader("vlmevalkit", "1.0", _read_vlmevalkit),
    )
}


# ---- open-ended answers ------------------------------------------------------------------------------------

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
    """What an open-ended answer may say of the relations of one category."""

    phrases: Mapping[str, frozenset[str]]  # phrase -> the relations it may mean ("on top of": above, on)
    opposites: frozenset[tuple[str, str]] = frozenset()  # in both orders
    inverses: frozenset[tuple[str, str]] = frozenset()  # in both orders


def load_taxonomy(path: str | os.PathLike[str] | None = None) -> dict[str, Lexicon]:
    """Return what answers may say of the relations of a `taxonomy.json`.

    Args:
        path: the file; None takes that of this package.

    Returns:
        category -> Lexicon; verbs (category `action`) are in it in all their inflections.

    Raises:
        RecordError: the file cannot be read, or is not a taxonomy.
    """
    try:
        taxonomy = read_taxonomy(None if path is None else Path(path))
    except InputError as error:
        raise RecordError(str(error)) from None
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


def read_relation(text: str, record: Mapping[str, Any], taxonomy: Mapping[str, Lexicon]) -> str | None:
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
    vocabulary = taxonomy.get(category or "", Lexicon({}))
    wanted = _words(_fold(record.get("relation") or record.get("answer") or ""))
    reference = next((names for names, *_ in _find(wanted.split(), vocabulary.phrases)), frozenset({wanted}))
    phrases = {**_NO_RELATION, **vocabulary.phrases, **dict.fromkeys(inflections(wanted), reference)}
    tokens = _mark_objects(_words(_reply(text)[:_OPEN_CHARACTERS]), record).split()
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
    names = {mark: _words(_fold(record.get(key) or "")) for mark, key in (("S", "subject"), ("O", "object"))}
    if names["S"] == names["O"]:
        return words
    for mark, name in sorted(names.items(), key=lambda item: -len(item[1])):
        if name:
            words = re.sub(rf"(?:^|(?<= )){re.escape(name)}(?:'s|es|s)?(?= |$)", mark, words)
    return words

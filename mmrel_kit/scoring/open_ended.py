# SPDX-License-Identifier: Apache-2.0
"""Read open-ended answers by the relations that they name, without a model."""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.questions.taxonomy import Vocabulary, inflections, read_taxonomy
from relation_accuracy import AnswerError, Judge, divide, fold_text, split_words, take_reply

# Phrases that hold a relation's word and name no relation of the two objects.
_PLACES = (
    *("image", "picture", "photo", "scene"),
    *("foreground", "background", "middle", "center"),
)
_NO_RELATION = {
    "in front of": frozenset[str](),
    **{
        " ".join(words): frozenset[str]()
        for words in itertools.product(("in", "on"), ("the", "this"), _PLACES)
    },
}
_OPEN_CHARACTERS = 20_000  # of an open-ended answer are looked at


class TaxonomyJudge:
    """Judges open-ended answers by the relations of a `taxonomy.json`; a judge of the metric.

    Args:
        path: the file; None takes that of this package.

    Raises:
        InputError: the file cannot be read, or is not a taxonomy.
    """

    __name__ = "taxonomy 1.0"  # by which a report names the judge

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.lexicons = load_taxonomy(path)

    def __call__(self, answer: str, record: Mapping[str, Any]) -> str | None:
        """Return "correct", "incorrect", or None for no answer; see `read_relation`."""
        return read_relation(answer, record, self.lexicons)


@functools.cache
def _load_judge() -> TaxonomyJudge:
    """Return the judge by this package's taxonomy, which is read once."""
    return TaxonomyJudge()


def judge_answer(answer: str, record: Mapping[str, Any], judge: Judge | None = None) -> str | None:
    """Return the verdict of a judge, or of the taxonomy, on an answer.

    Raises:
        AnswerError: the judge returns something else than a verdict.
    """
    verdict = (judge or _load_judge())(answer, record)
    if verdict not in ("correct", "incorrect", None):
        wanted = f"judge {name_judge(judge)}: expected correct, incorrect or None"
        raise AnswerError(f"{wanted}; got {type(verdict).__name__} {verdict!r:.60}")
    return verdict


def name_judge(judge: Judge | None) -> str:
    """Return the name by which a report names a judge."""
    judge = judge or _load_judge()
    return getattr(judge, "__name__", type(judge).__name__)


def make_figures(counts: Counter[Any]) -> dict[str, Any]:
    """Return counts and ratios of open-ended questions, from those of `relation_accuracy.tally`."""
    correct, incorrect = counts["open", "correct"], counts["open", "incorrect"]
    no_answer = counts["open", "unread"] + counts["open", "silent"]
    n = correct + incorrect + no_answer
    return {
        "n": n,
        "correct": correct,
        "incorrect": incorrect,
        "no_answer": no_answer,
        "accuracy": divide(correct, n),
        "no_answer_share": divide(no_answer, n),
    }


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


def _find_phrases(
    tokens: Sequence[str], phrases: Mapping[str, frozenset[str]]
) -> Iterator[tuple[frozenset[str], int, int]]:
    """Yield the relations of each phrase of up to six words, its first token, and the one after.

    Where phrases overlap, the longest counts.
    """
    start = 0
    while start < len(tokens):
        for end in range(min(start + 6, len(tokens)), start, -1):
            relations = phrases.get(" ".join(tokens[start:end]))
            if relations is not None:
                if relations:
                    yield relations, start, end
                start = end - 1
                break
        start += 1


def _is_swapped(tokens: Sequence[str], start: int, end: int, is_comparative: bool) -> bool:
    """Return whether the relation at `start:end` has the object ("O") as its subject.

    Its own object is the first of "S" and "O" after it ("above the S"); without one, its subject is
    the last before it ("the O is below"). The object of a comparative follows "than".
    """
    before = _find_first(reversed(tokens[max(0, start - 12) : start]), (".", "and", "but"))
    after = _find_first(tokens[end : end + 12], (".",))
    if is_comparative and "than" not in tokens[end : end + 2]:
        return (before or after) == "O"
    if after:
        return after == "S"
    return before == "O"


def _find_first(tokens: Iterable[str], stops: tuple[str, ...]) -> str | None:
    """Return the first "S" or "O" before a token that divides the sentence, or None."""
    for token in tokens:
        if token in ("S", "O"):
            return token
        if token in stops:
            break
    return None


def _is_denied(tokens: Sequence[str], start: int) -> bool:
    """Return whether one of the three words before the relation, in its clause, denies it."""
    for token in reversed(tokens[max(0, start - 3) : start]):
        if token in ("not", "never", "no") or token.endswith("n't"):
            return True
        if token in (".", "but", "and"):
            break
    return False


def read_relation(
    text: str, record: Mapping[str, Any], taxonomy: Mapping[str, Lexicon]
) -> str | None:
    """Compare the relations in an open-ended answer with the reference: version 1.0.

    The relations of the record's category are looked up in the answer by name, synonym and
    inflection. The reference's own agrees; so does its inverse in the other order, except of
    actions ("the car is under the flower" for flower above car). A denied relation ("not above"),
    an opposite, and the same relation in the wrong order contradict. The answer is correct if a
    relation in it agrees and none contradicts.

    Args:
        text: the answer.
        record: keys `answer`, and where known `category`, `subject`, `relation`, `object`; without
            `relation` the one in the reference answer is used.
        taxonomy: of `load_taxonomy`.

    Returns:
        "correct", "incorrect", or None for no answer: no known relation is in it.

    >>> record = {"category": "spatial", "subject": "flower", "relation": "above", "object": "car"}
    >>> answers = ("The car is below the flower", "under", "red")
    >>> [read_relation(answer, record, load_taxonomy()) for answer in answers]
    ['correct', 'incorrect', None]
    """
    category = record.get("category")
    lexicon = taxonomy.get(category or "", Lexicon({}))
    wanted = split_words(fold_text(record.get("relation") or record.get("answer") or ""))
    reference = frozenset({wanted})
    for relations, _, _ in _find_phrases(wanted.split(), lexicon.phrases):
        reference = relations
        break
    phrases = {**_NO_RELATION, **lexicon.phrases, **dict.fromkeys(inflections(wanted), reference)}
    tokens = _mark_objects(split_words(take_reply(text)[:_OPEN_CHARACTERS]), record).split()
    is_known = agrees = contradicts = False
    for relations, start, end in _find_phrases(tokens, phrases):
        is_known = True
        is_same = not relations.isdisjoint(reference)
        is_swapped = category != "action" and _is_swapped(
            tokens, start, end, is_comparative=category == "comparative"
        )
        if is_swapped:
            is_right = _share_a_pair(relations, reference, lexicon.inverses)
            is_wrong = is_same
        else:
            is_right = is_same
            is_wrong = _share_a_pair(relations, reference, lexicon.opposites)
        if _is_denied(tokens, start):
            is_right, is_wrong = False, is_right
        agrees = agrees or (is_right and not is_wrong)
        contradicts = contradicts or is_wrong
    if not is_known:
        return None
    return "correct" if agrees and not contradicts else "incorrect"


def _share_a_pair(
    relations: Iterable[str], others: Iterable[str], pairs: frozenset[tuple[str, str]]
) -> bool:
    return not pairs.isdisjoint(itertools.product(relations, others))


def _mark_objects(words: str, record: Mapping[str, Any]) -> str:
    """Replace the subject by "S" and the object by "O", so that no relation is read in a name."""
    subject, object_ = (
        split_words(fold_text(record.get(key) or "")) for key in ("subject", "object")
    )
    if subject == object_:
        return words
    # The longer name first: it may hold the other.
    for name, mark in sorted(((subject, "S"), (object_, "O")), key=lambda pair: -len(pair[0])):
        if name:
            words = re.sub(rf"(?:^|(?<= )){re.escape(name)}(?:'s|es|s)?(?= |$)", mark, words)
    return words

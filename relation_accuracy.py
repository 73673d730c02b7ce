"""Reads answers to MMRel's questions, counts them and says how accurate they are.

The reference metric of MMRel, in the standard library alone: how an answer is read, what is counted, what becomes of
an answer that cannot be read, and what a report must say to be comparable. METRIC.md explains every figure;
`relation_report` adds intervals, comparisons, blind baselines and the plot.

    python relation_accuracy.py ANSWERS --root RELEASE --config all --split test
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import re
import sys
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

__version__ = "1.0.0"

DOMAINS = ("real", "sdxl", "dalle")
SPLITS = ("train", "test", "adversarial")
CATEGORIES = ("spatial", "action", "comparative")
TASKS = ("discriminative", "generative", "both")

# One verdict is one small integer, 4 * label + said. Labels: 0 no, 1 yes, 2 open-ended. Said: 0 no (or incorrect),
# 1 yes (or correct), 2 something that is no answer, 3 nothing at all (null, or a request that failed).
LABELS = {"no": 0, "yes": 1, "open": 2}
SAID = {"no": 0, "incorrect": 0, "yes": 1, "correct": 1, None: 2}
SILENT = 3
RIGHT = frozenset({0, 5, 9})
# A tally is 15 counts: of the 12 verdicts, then these three.
WRONG_PAIRS, RIGHT_PAIRS, PAIRED = 12, 13, 14

GROUPINGS = ("cell", "domain", "category", "split", "style", "relation")
MEANS = ("accuracy", "precision", "recall", "f1", "pair_accuracy")

# What harnesses write in place of an answer when the request failed: lmms-eval 0.7, VLMEvalKit.
FAILED = ("[LMMS_EVAL_REQUEST_FAILED", "Failed to obtain answer via API")


class AnswerError(ValueError):
    """The answers are not in a shape that can be read."""


class RecordError(ValueError):
    """The references, or the release that holds them, are not what the contract says."""


class MatchError(LookupError):
    """Answers and questions do not belong together, one to one."""


# ---- reading an answer -------------------------------------------------------------------------------------------

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_TAG = re.compile(r"</?(?!yes\b|no\b)[a-z][^<>]*>")
_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[.,:;!?/\n\r\u2013\u2014\u3001\u3002\u2028\u2029-]")
# normalize() sorts a run of combining marks in quadratic time (40,000 of them: 6 s), so it is given short runs.
_NOT_ASCII = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]{1,64}")

_LABEL = (
    r"(?:the |my )?(?:final |correct |right |short |best )?(?:answer|response|reply|output|prediction|conclusion)"
    r"(?: to (?:the|this|that|your) question)?(?: (?:is|would be|should be))?|assistant|gpt|model|boxed|text"
)
_LEAD = re.compile(rf"[. ]*(?:(?:\d{{1,3}}|[a-h]|{_LABEL})(?= |$)[. ]*){{0,6}}(yes|no)(?= |$)")
_IDIOM = re.compile(
    r"(?:^|(?<= ))(?:no (?:idea|clue|doubt|question|matter|problem|worries|wonder|comment|information|response"
    r"|way (?:to|of)|(?:\w+ )?answer"
    r"|(?:image|picture|photo)s?(?: is| was| has been)? (?:provided|attached|uploaded|given|available|included))"
    r"|(?:not|cannot|[a-z]{1,8}n't) (?:say |answer )?(?:yes|no)(?: n?or (?:yes|no))?)(?= |$)"
)
# "no" stands on its own at the end of its part of the sentence, or before a word that it cannot belong to.
_OWN_NO = re.compile(
    r"(?:^| )no(?= \.|$| (?:yes|no|and|or|but|i|it|it's|there|there's|the|a|an|this|that|that's|these|those|they"
    r"|he|she|we|you)(?: |$))"
)


def _fold(text: str) -> str:
    """Returns the text in Unicode's compatibility form, without case, invisible characters and typographic marks."""
    if not text.isascii():
        text = _NOT_ASCII.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
        text = _INVISIBLE.sub("", text).replace("\u2019", "'").replace("\u2010", "-")
    return text.casefold()


def _words(folded: str) -> str:
    """Returns the words of a folded text, one space between them; a lone "." is whatever divides a sentence."""
    tokens = _TOKEN.findall(_TAG.sub(" ", folded))
    return " ".join(token if token[0].isalnum() else "." for token in tokens)


def read_words(text: str, label: str = "") -> str | None:
    """Reads yes, no or no answer by the words `yes` and `no` alone: the reader of MMRel, version 1.0.

    1. Case, mark-up, quotes and brackets do not count; Unicode is normalised (NFKC). Where a model shows its
       reasoning, only what follows the last `</think>` is read; reasoning that does not end holds no answer.
    2. `yes` and `no` are whole words ("eyes", "nope" and "no-one" hold neither). Idioms in which they answer nothing
       are passed over ("no idea", "no doubt", "no way to tell", "no image provided", "not yes").
    3. The one that *leads* is the answer. Before it may stand numbering ("1.", "(b)") and a label ("Answer:",
       "The answer is", "Assistant:").
    4. Without a lead, the one of the two words that stands in the text is; if both stand there, there is no answer.
    5. There is no answer, either, when the opposite of the lead *stands on its own* further on: any other "yes", and
       a "no" that belongs to no noun, being at the end of its part of the sentence or before "and", "or", "but", an
       article or a pronoun. ("Yes, there is no dog" has one answer, "Yes. No." and "No, yes it is" have none.)

    Args:
        text: the answer, of any length (time is linear in it).
        label: not looked at; published readers do.

    Returns:
        "yes", "no", or None for no answer.

    >>> [read_words(text) for text in ("**Yes**, there is no dog", "There is no dog", "Yes/No", "I have no idea")]
    ['yes', 'no', None, None]
    """
    answer = _fold(text).rpartition("</think>")[2]
    if "<think>" in answer:
        return None
    words = _IDIOM.sub("~", _words(answer))
    yes, no = (f" {word} " in f" {words} " for word in ("yes", "no"))
    lead = _LEAD.match(words)
    if not lead:
        return None if yes == no else "yes" if yes else "no"
    opposite = yes if lead[1] == "no" else _OWN_NO.search(words)
    return None if opposite else lead[1]


def _read_pope(text: str, label: str) -> str | None:
    """Reads like POPE's evaluate.py (LLaVA and R-Bench too): whatever does not hold "no" in its first sentence is yes."""
    words = text.split(".", 1)[0].replace(",", "").split(" ")
    return "yes" if {"No", "not", "no"}.isdisjoint(words) else "no"


def _read_vcd(text: str, label: str) -> str | None:
    """Reads like VCD's eval_pope.py: right if the label stands anywhere in the answer, else the opposite of the label."""
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

    A punctuation mark that touches a space anywhere is deleted everywhere, any other becomes a space, and all are
    deleted if a comma stands between digits; then the first 32 full stops not before a digit are deleted.
    """
    text = text.lower()
    grouped = re.search(r"\d,\d", text)
    for mark in ";/[]\"{}()=+\\_-><@`,?!":
        if mark in text:
            loose = grouped or mark + " " in text or " " + mark in text
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


# ---- open-ended answers ------------------------------------------------------------------------------------------

# Phrases that hold a relation's word and name no relation of the two objects.
_NO_RELATION = {
    phrase: frozenset[str]()
    for phrase in (
        "in front of",
        *(f"{word} {which} {noun}" for word in ("in", "on") for which in ("the", "this") for noun in
          ("image", "picture", "photo", "photograph", "scene", "foreground", "background", "middle", "center")),
    )
}  # fmt: skip


class Vocabulary(NamedTuple):
    """The relations of one category that an open-ended answer may name."""

    phrases: Mapping[str, frozenset[str]]  # phrase -> the relations it may mean ("on top of": above, on)
    opposites: frozenset[tuple[str, str]] = frozenset()  # in both orders
    inverses: frozenset[tuple[str, str]] = frozenset()  # in both orders


def inflections(verb: str) -> set[str]:
    """Returns the regular inflections of a verb or of a phrase's first word; those that do not exist do no harm.

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
    """Reads the relations from a `taxonomy.json`, by default the one in the folder `schema` beside this module.

    Returns:
        category -> Vocabulary; verbs (category `action`) stand in all their inflections.

    Raises:
        RecordError: the file is not there or is no taxonomy.
    """
    path = Path(path) if path else Path(__file__).with_name("schema") / "taxonomy.json"
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
        raise RecordError(f"expected the taxonomy of relations in {path}; it cannot be read: {error!r}") from error
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
    """Says whether the relation at `start:end` is told of the object, not of the subject (tokens "O" and "S").

    The first of the two after the relation is what it relates to ("above the S"); failing that, the last one before
    it is what it is told of ("the O is below"). A comparative relates to what follows "than".
    """

    def first(part: Iterable[str], stops: tuple[str, ...]) -> str | None:
        return next((token for token in part if token in ("S", "O", *stops)), None)

    before = first(reversed(tokens[max(0, start - 12) : start]), (".", "and", "but"))
    after = first(tokens[end : end + 12], (".",))
    if comparative and "than" not in tokens[end : end + 2]:
        return (before if before in ("S", "O") else after) == "O"
    return after == "S" if after in ("S", "O") else before == "O"


def read_relation(text: str, record: Mapping[str, Any], taxonomy: Mapping[str, Vocabulary]) -> str | None:
    """Compares the relation that an open-ended answer names with the reference, without a model: version 1.0.

    The relations of the record's category are looked for in the answer, by name, synonym and inflection. One that is
    the reference's holds; for spatial and comparative relations so does its inverse told in the other order ("the car
    is under the flower" for flower above car). What is denied ("not above"), opposite, or the same in the wrong order
    contradicts. The answer is correct if a relation in it holds and none contradicts.

    Args:
        text: the answer.
        record: keys `answer`, and where known `category`, `subject`, `relation`, `object`; without `relation` the one
            that the reference answer names is used.
        taxonomy: of `load_taxonomy`.

    Returns:
        "correct", "incorrect", or None (no answer: no relation that is known is named).

    >>> record = {"category": "spatial", "subject": "flower", "relation": "above", "object": "car", "answer": "above"}
    >>> [read_relation(text, record, load_taxonomy()) for text in ("The car is below the flower.", "under", "Red")]
    ['correct', 'incorrect', None]
    """
    category = record.get("category")
    vocabulary = taxonomy.get(category or "", Vocabulary({}))
    wanted = _words(_fold(record.get("relation") or record["answer"]))
    reference = next((names for names, *_ in _find(wanted.split(), vocabulary.phrases)), frozenset({wanted}))
    phrases = {**_NO_RELATION, **vocabulary.phrases, **dict.fromkeys(inflections(wanted), reference)}
    tokens = _mark_objects(_words(_fold(text)), record).split()
    verdicts = set()
    for names, start, end in _find(tokens, phrases):
        if category != "action" and _is_swapped(tokens, start, end, category == "comparative"):
            holds = any((name, other) in vocabulary.inverses for name in names for other in reference)
            contradicts = not names.isdisjoint(reference)
        else:
            holds = not names.isdisjoint(reference)
            contradicts = any((name, other) in vocabulary.opposites for name in names for other in reference)
        if any(token in ("not", "never", "no") or token.endswith("n't") for token in tokens[max(0, start - 3) : start]):
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


# ---- counting ----------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """The groups that a question stands in; null where the reference does not say."""

    split: str | None
    domain: str | None
    category: str | None
    style: str | None
    relation: str | None

    @property
    def cell(self) -> str | None:
        """Domain and category, the paper's seven cells: "real/spatial"."""
        return f"{self.domain}/{self.category}" if self.domain and self.category else None


class Question(NamedTuple):
    """What the metric needs to know of a question."""

    label: str  # "yes", "no" or "open"
    place: Place
    image_id: str | None
    pair_id: str | None
    record: Mapping[str, Any]


class Scores:
    """One small verdict per question, from which every figure is counted; merges in any order.

    Args:
        reader: a name in READERS.
        judge: (answer, record) -> "correct", "incorrect" or None, for open-ended answers in place of the taxonomy.
        taxonomy: of `load_taxonomy`; read when the first open-ended answer comes.

    Attributes:
        codes: question_id -> verdict, 4 * label + said (see LABELS, SAID).
        where, images, pairs: of each question, in the order of `codes`: number of its place, picture, pair.
    """

    def __init__(
        self,
        reader: str = "words",
        judge: Callable[[str, Mapping[str, Any]], str | None] | None = None,
        taxonomy: Mapping[str, Vocabulary] | None = None,
    ) -> None:
        if reader not in READERS:
            raise AnswerError(f"expected a reader out of {', '.join(READERS)}; got {reader!r}")
        self.reader, self._judge, self._taxonomy = reader, judge, taxonomy
        self.codes: dict[str, int] = {}
        self.where, self._places = array("L"), dict[Place, int]()
        self.images: list[str | None] = []
        self.pairs: list[str | None] = []

    @property
    def judge(self) -> str:
        """Name of what reads open-ended answers."""
        return getattr(self._judge, "__name__", type(self._judge).__name__) if self._judge else "taxonomy 1.0"

    @property
    def places(self) -> list[Place]:
        """The places that `where` numbers."""
        return list(self._places)

    def add(self, question_id: str, question: Question, answer: str | None) -> None:
        """Reads the answer (null: none came) to a question and keeps the verdict.

        Raises:
            MatchError: the question has a verdict.
            AnswerError: a judge returned something else than it may.
        """
        if answer is None or answer.lstrip().startswith(FAILED):
            self._keep(question_id, question, SILENT)
        elif question.label != "open":
            self.add_read(question_id, question, READERS[self.reader].read(answer, question.label))
        elif self._judge:
            verdict = self._judge(answer, question.record)
            if verdict not in ("correct", "incorrect", None):
                raise AnswerError(f"expected correct, incorrect or None of {self.judge}; got {verdict!r}: {question_id}")
            self.add_read(question_id, question, verdict)
        else:
            if self._taxonomy is None:
                self._taxonomy = load_taxonomy()
            self.add_read(question_id, question, read_relation(answer, question.record, self._taxonomy))

    def add_read(self, question_id: str, question: Question, said: str | None) -> None:
        """Keeps the verdict on an answer that has been read: yes, no, correct, incorrect or None."""
        self._keep(question_id, question, SAID[said])

    def _keep(self, question_id: str, question: Question, said: int) -> None:
        if question_id in self.codes:
            raise MatchError(f"expected one answer to each question; {question_id!r} has two: leave one")
        self.codes[question_id] = 4 * LABELS[question.label] + said
        self.where.append(self._places.setdefault(question.place, len(self._places)))
        self.images.append(question.image_id)
        self.pairs.append(question.pair_id)

    def merge(self, other: Scores) -> Scores:
        """Takes over the verdicts of another process or shard, and returns itself.

        Raises:
            MatchError: a question stands in both, or they were read by different readers.
        """
        if (self.reader, self.judge) != (other.reader, other.judge):
            raise MatchError(f"expected answers read alike; got {self.reader}, {self.judge} and {other.reader}, {other.judge}")
        both = sorted(self.codes.keys() & other.codes.keys())
        if both:
            raise MatchError(f"expected every question in one part only; in two: {_some(both)}")
        self.codes.update(other.codes)
        numbers = [self._places.setdefault(place, len(self._places)) for place in other.places]
        self.where.extend(numbers[number] for number in other.where)
        self.images += other.images
        self.pairs += other.pairs
        return self

    def pair_keys(self) -> list[tuple[str | None, str] | None]:
        """Names the pair of each question, in the order of `codes`: a pair_id is unique within a split only."""
        splits = [place.split for place in self._places]
        return [pair and (splits[place], pair) for place, pair in zip(self.where, self.pairs)]

    def right_pairs(self) -> dict[tuple[str | None, str], bool]:
        """Says of each pair with a yes and a no whether all its questions are answered right."""
        bits = [4 * (code not in RIGHT) | (1, 2, 0)[code // 4] for code in range(12)]
        seen: dict[Any, int] = {}
        for key, code in zip(self.pair_keys(), self.codes.values()):
            seen[key] = seen.get(key, 0) | bits[code]
        seen.pop(None, None)
        return {key: bit < 4 for key, bit in seen.items() if bit & 3 == 3}

    def figures(self) -> dict[str, Any]:
        """Counts everything: see METRIC.md for each figure, its range and when it is null.

        Returns:
            The figures of all yes/no questions, then `macro` (means over the cells), `by` (grouping -> group ->
            figures) and `open_ended` (the same of the open-ended questions; null where there are none).
        """
        counts, reader = self._count(), READERS[self.reader]
        total = _group(counts, ["all"] * len(self._places)).get("all", [0] * 15)
        groups = {name: _group(counts, [getattr(place, name) for place in self._places]) for name in GROUPINGS}
        by = {
            name: {key: yes_no_figures(tally, reader) for key, tally in parts.items() if any(tally[:8])}
            for name, parts in groups.items()
        }
        open_by = {
            name: {key: open_figures(tally) for key, tally in parts.items() if any(tally[8:12])}
            for name, parts in groups.items()
        }
        return {
            **yes_no_figures(total, reader),
            "macro": {name: _mean([cell[name] for cell in by["cell"].values()]) for name in MEANS},
            "by": by,
            "open_ended": {**open_figures(total), "by": open_by} if any(total[8:12]) else None,
        }

    def _count(self) -> Counter[tuple[tuple[int, ...], int]]:
        """Counts (places, slot of a tally): verdicts and paired questions by their place, pairs by their yes's."""
        counts: Counter[tuple[tuple[int, ...], int]] = Counter()
        for (place, code), number in Counter(zip(self.where, self.codes.values())).items():
            counts[(place,), code] = number
        right = self.right_pairs()
        homes: dict[Any, tuple[int, ...]] = {}
        for key, code, place in zip(self.pair_keys(), self.codes.values(), self.where):
            if key in right:
                counts[(place,), PAIRED] += 1
                if code // 4 == LABELS["yes"] and place not in homes.setdefault(key, (place,)):
                    homes[key] += (place,)
        counts.update((homes[key], RIGHT_PAIRS if is_right else WRONG_PAIRS) for key, is_right in right.items())
        return counts


def _group(counts: Mapping[tuple[tuple[int, ...], int], int], names: Sequence[str | None]) -> dict[str, list[int]]:
    """Adds counts up into tallies by the names of the places (null: in no group), in the paper's order.

    A pair belongs to the groups of its yes questions: they name the relation that holds, its no may name another.
    """
    order = {part: at for at, part in enumerate((*DOMAINS, *CATEGORIES, *SPLITS))}
    known = {name for name in names if name is not None}
    ordered = sorted(known, key=lambda name: [(order.get(part, 99), part) for part in name.split("/")])
    tallies = {name: [0] * 15 for name in ordered}
    for (places, slot), number in counts.items():
        for name in {names[place] for place in places}:
            if name is not None:
                tallies[name][slot] += number
    return tallies


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean, null where a value is: a mean over what happens to be defined would flatter."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def yes_no_figures(tally: Sequence[int], reader: Reader = READERS["words"]) -> dict[str, int | float | None]:
    """Returns the figures of the yes/no questions of a tally.

    What could not be read is wrong in accuracy, is in no cell of the table, never enters precision, and is missed in
    recall and F1 where its label is the positive class (unless the reader leaves it out there).

    Args:
        tally: 15 counts: of the 12 verdicts (4 * label + said), pairs wrong, pairs right, questions in those pairs.
        reader: gives the positive class.

    Returns:
        n, tp, fp, tn, fn, no_answer, pairs and unpaired as counts; the others between 0 and 1, null if undefined.

    >>> figures = yes_no_figures([1383, 117, 0, 0, 318, 1182, 0, 0] + [0] * 7)
    >>> figures["accuracy"], figures["precision"], figures["recall"], figures["f1"]
    (0.855, 0.9099307159353349, 0.788, 0.8445873526259379)
    """
    no, yes = tally[:4], tally[4:8]
    said_no, said_yes, unread = (no[said] + yes[said] for said in range(3))
    unread += no[SILENT] + yes[SILENT]
    tp, fp, tn, fn, missed = yes[1], no[1], no[0], yes[0], yes[2] + yes[3]
    if reader.positive == "no":
        tp, fp, tn, fn, missed = tn, fn, tp, fp, no[2] + no[3]
    positives = tp + fn + (0 if reader.recall_over_read else missed)
    n = said_no + said_yes + unread
    return {
        "n": n, "tp": tp, "fp": fp, "tn": tn, "fn": fn, "no_answer": unread,
        "accuracy": _ratio(tp + tn, n),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, positives),
        "f1": _ratio(2 * tp, tp + fp + positives),
        "yes_ratio": _ratio(said_yes, said_no + said_yes),
        "no_answer_share": _ratio(unread, n),
        "pairs": tally[WRONG_PAIRS] + tally[RIGHT_PAIRS],
        "pair_accuracy": _ratio(tally[RIGHT_PAIRS], tally[WRONG_PAIRS] + tally[RIGHT_PAIRS]),
        "unpaired": n - tally[PAIRED],
    }  # fmt: skip


def open_figures(tally: Sequence[int]) -> dict[str, int | float | None]:
    """Returns the figures of the open-ended questions of a tally (see `yes_no_figures`)."""
    incorrect, correct, unread, silent = tally[8:12]
    n = incorrect + correct + unread + silent
    return {
        "n": n, "correct": correct, "incorrect": incorrect, "no_answer": unread + silent,
        "accuracy": _ratio(correct, n), "no_answer_share": _ratio(unread + silent, n),
    }  # fmt: skip


# ---- answers and questions ---------------------------------------------------------------------------------------


def _some(names: Sequence[str]) -> str:
    """Lists the first ten of some names, and how many there are."""
    shown = ", ".join(name if len(name) <= 80 else name[:77] + "..." for name in map(repr, names[:10]))
    return f"{len(names):,} ({shown}{', ...' if len(names) > 10 else ''})"


def _identifier(value: object, key: str, where: str, error: type[ValueError]) -> str:
    """Returns an id as text, so that 17 and "17" are one."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise error(f"expected text or a whole number as {key}; got {_shown(value)} at {where}")


def _shown(value: object) -> str:
    return f"{type(value).__name__} {repr(value)[:60]}"


def collect_answers(rows: Iterable[tuple[str, Any]]) -> dict[str, str | None]:
    """Collects answers by question_id.

    Args:
        rows: (where it stands, object). The id is `question_id` (AMBER: `id`). The answer is the one of `answer`,
            `response` and `prediction` that stands there, else `text`; it is text, or null where none came.

    Raises:
        AnswerError: a row without id or answer, with two of them, or with an answer that is neither text nor null.
        MatchError: a question is answered twice.
    """
    answers: dict[str, str | None] = {}
    twice = []
    for where, row in rows:
        if not isinstance(row, Mapping):
            raise AnswerError(f"expected an object with question_id and answer; got {_shown(row)} at {where}")
        key = "question_id" if "question_id" in row else "id"
        keys = [name for name in ("answer", "response", "prediction") if name in row] or ["text"]
        if key not in row or keys[0] not in row:
            raise AnswerError(
                f"expected question_id and answer (or text, response, prediction); got {_some(list(row))} at {where}"
            )
        if len(keys) > 1:
            raise AnswerError(f"expected one answer; got {' and '.join(keys)} at {where}: leave only the model's")
        answer = row[keys[0]]
        if not (answer is None or isinstance(answer, str)):
            raise AnswerError(
                f"expected text, or null where no answer came; got {_shown(answer)} at {where}: give what the model wrote"
            )
        identifier = _identifier(row[key], key, where, AnswerError)
        if identifier in answers:
            twice.append(f"{identifier} at {where}")
        answers[identifier] = answer
    if twice:
        raise MatchError(f"expected one answer to each question; answered again: {_some(twice)}: leave one of each")
    return answers


def index_questions(rows: Iterable[tuple[str, Any]]) -> dict[str, Question]:
    """Indexes references by question_id.

    Args:
        rows: (where it stands, record of the contract). Keys `question_id` and `answer` are needed; `split`,
            `domain`, `category`, `style`, `relation`, `pair_id`, `image_id`, `task` are optional, and a grouping
            holds those questions that state its key.

    Raises:
        RecordError: a record that lacks a key, has a label other than yes or no, or stands twice.
    """
    questions: dict[str, Question] = {}
    places: dict[Place, Place] = {}
    for where, row in rows:
        if not isinstance(row, Mapping) or "question_id" not in row or not isinstance(row.get("answer"), str):
            raise RecordError(f"expected a record with question_id and, as text, answer; got {_shown(row)} at {where}")
        identifier = _identifier(row["question_id"], "question_id", where, RecordError)
        label = "open" if row.get("task") == "generative" else row["answer"].strip().casefold()
        if label not in LABELS or (label == "open") != (row.get("task") == "generative"):
            raise RecordError(
                f"expected the label yes or no; got {_shown(row['answer'])} at {where}"
                " (an open-ended question says so: task generative)"
            )
        if identifier in questions:
            raise RecordError(f"expected each question once; {identifier!r} stands again at {where}")
        place = Place(*(_optional(row, key, where) for key in Place._fields))
        questions[identifier] = Question(
            label,
            places.setdefault(place, place),
            _optional(row, "image_id", where),
            _optional(row, "pair_id", where),
            row,
        )
    return questions


def _optional(row: Mapping[str, Any], key: str, where: str) -> str | None:
    value = row.get(key)
    return value if value is None or type(value) is str else _identifier(value, key, where, RecordError)


def match(
    answers: Mapping[str, str | None],
    questions: Mapping[str, Question],
    scores: Scores,
    asked: Callable[[Question], bool] = lambda question: True,
    partial: bool = False,
) -> int:
    """Adds the answers to the scores, after checking that they are those to the questions asked.

    Args:
        answers: of `collect_answers`.
        questions: of `index_questions`.
        scores: takes the verdicts.
        asked: chooses the questions; answers to other known ones are set aside and counted.
        partial: score what is there, where answers are missing or belong to no known question.

    Returns:
        How many questions are asked.

    Raises:
        MatchError: nothing is asked; or answers are missing, or to no known question (unless partial), or all are.
    """
    chosen = {identifier: question for identifier, question in questions.items() if asked(question)}
    if questions and not chosen:
        raise MatchError(f"expected questions of the task, config and split chosen; none of {len(questions):,} is")
    missing = [identifier for identifier in chosen if identifier not in answers]
    unknown = [identifier for identifier in answers if identifier not in questions]
    if chosen and len(missing) == len(chosen):
        raise MatchError(
            f"expected answers to {len(chosen):,} questions such as {_some(list(chosen)[:2])}; got only answers to"
            f" {_some(list(answers))}: give the answer file of these questions"
        )
    if (missing or unknown) and not partial:
        faults = [f"missing: {_some(missing)}"] * bool(missing) + [f"unknown: {_some(unknown)}"] * bool(unknown)
        raise MatchError(
            f"expected one answer to each of {len(chosen):,} questions; {'; '.join(faults)}."
            " Give them all, or score what is there: --partial (partial=True)"
        )
    for identifier, question in chosen.items():
        if identifier in answers:
            scores.add(identifier, question, answers[identifier])
    scores.unknown += len(unknown)
    scores.set_aside += len(answers) - len(unknown) - (len(chosen) - len(missing))
    return len(chosen)


# ---- ways in -----------------------------------------------------------------------------------------------------


def report(
    scores: Scores,
    asked: int,
    release: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Puts the figures together with what makes them comparable.

    Args:
        scores: the verdicts, of all shards.
        asked: how many questions were asked in all.
        release: what was scored (of `load_release`).
        run: what the caller states of the model: `model`, `prompt`, `decoding`.

    Returns:
        `Scores.figures` and: notes (sentences), coverage (counts, and share answered), reader, open_reader, package,
        release, run.
    """
    figures = scores.figures()
    answered, reader = len(scores.codes), READERS[scores.reader]
    silent = sum(code % 4 == SILENT for code in scores.codes.values())
    notes = [f"positive class: {reader.positive}"] * (reader.positive != "yes")
    if figures["yes_ratio"] in (0, 1):
        said = "yes" if figures["yes_ratio"] else "no"
        notes.append(f"always {said}: every answer that could be read is {said}; pair accuracy shows what that is worth")
    if (figures["no_answer_share"] or 0) > 0.05:
        notes.append(f"{figures['no_answer']:,} answers could not be read as yes or no: look at some of them")
    if silent:
        notes.append(f"{silent:,} answers are null or failed requests: ask these questions again")
    if answered < asked:
        notes.append(f"partial: {asked - answered:,} of {asked:,} questions are not answered and not in the figures")
    return {
        **figures,
        "notes": notes,
        "coverage": {
            "questions": asked,
            "answered": answered,
            "share": _ratio(answered, asked),
            "missing": asked - answered,
            "unknown": scores.unknown,
            "set_aside": scores.set_aside,
            "silent": silent,
        },
        "reader": {"name": reader.name, "version": reader.version, "positive": reader.positive},
        "open_reader": scores.judge if figures["open_ended"] else None,
        "package": {"name": "mmrel", "version": __version__},
        "release": dict(release) if release else None,
        "run": dict(run or {}),
    }


def compute(
    predictions: Iterable[Any],
    references: Iterable[Any],
    *,
    reader: str = "words",
    task: str = "discriminative",
    partial: bool = False,
    judge: Judge | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Scores answers against references.

    Args:
        predictions: objects with `question_id` and `answer` (see `collect_answers`), in any order; or plain answers
            (text or null) in the order of the references.
        references: records of the contract (see `index_questions`); or, beside plain answers, plain labels.
        reader: a name in READERS.
        task: discriminative (the yes/no questions), generative (the open-ended ones) or both; answers to the other
            ones are set aside and counted.
        partial: score what is there, where answers are missing or belong to no known question.
        judge: see Scores.
        run: what you state of `model`, `prompt` and `decoding`; goes into the report.

    Returns:
        The report (see `report`), of plain numbers, text, lists and dicts.

    Raises:
        AnswerError, RecordError, MatchError: see `collect_answers`, `index_questions`, `match`.

    >>> compute(predictions=["Yes.", "There is no dog"], references=["yes", "yes"])["accuracy"]
    0.5
    """
    if isinstance(predictions, (str, Mapping)) or isinstance(references, (str, Mapping)):
        raise AnswerError("expected lists of predictions and of references; got one object or text")
    predictions, references = list(predictions), list(references)
    references = [
        {"question_id": at, "answer": row} if isinstance(row, str) else row for at, row in enumerate(references)
    ]
    questions = index_questions((f"references[{at}]", row) for at, row in enumerate(references))
    if not any(isinstance(row, Mapping) for row in predictions):
        if len(predictions) != len(references):
            raise MatchError(
                f"expected as many plain answers as references, in their order; got {len(predictions):,} and"
                f" {len(references):,}: give objects with question_id and answer to match them by id"
            )
        predictions = [
            {"question_id": row["question_id"], "answer": answer} for row, answer in zip(references, predictions)
        ]
    answers = collect_answers((f"predictions[{at}]", row) for at, row in enumerate(predictions))
    scores = Scores(reader, judge)
    asked = match(answers, questions, scores, functools.partial(is_asked, task=task), partial)
    return report(scores, asked, run=run)


def is_asked(question: Question, task: str = "discriminative", config: str = "all", split: str = "all") -> bool:
    """Says whether a question is of the task, config (domain) and split; "all" and "both" choose every one."""
    place = question.place
    return (
        (task == "both" or (task == "generative") == (question.label == "open"))
        and config in ("all", place.domain)
        and split in ("all", place.split)
    )


def _rows(path: str) -> Iterator[tuple[str, Any]]:
    """Reads JSON lines or an array, from a file or "-": (file:line or file[index], value)."""
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        else:
            text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnswerError(f"expected UTF-8 text, JSON lines or an array; got other bytes in {name}: {error}") from error
    is_array = text.lstrip()[:1] == "["
    for number, line in enumerate([text] if is_array else text.split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise AnswerError(
                    f"expected JSON, an object a line or one array; got {_shown(line.strip())} at {name}:{number}: {error}"
                ) from error
            yield from ((f"{name}[{at}]", row) for at, row in enumerate(value)) if is_array else [(f"{name}:{number}", value)]


def read_answers(*paths: str) -> dict[str, str | None]:
    """Reads answer files, which together hold one answer to each question; "-" is standard input.

    Raises:
        OSError: a file cannot be read.
        AnswerError, MatchError: see `collect_answers`.
    """
    return collect_answers(row for path in paths for row in _rows(path))


def load_release(root: str | os.PathLike[str], config: str = "all", split: str = "all") -> tuple[dict[str, Question], dict[str, Any]]:
    """Reads the records of a release, and checks them against its checksums.

    Args:
        root: the folder that holds checksums.json and data/.
        config: all, or a domain that must be there.
        split: all, or a split that must be there.

    Returns:
        question_id -> Question, of all configs and splits on disk; and name, version, note and the sha256 of
        checksums.json.

    Raises:
        RecordError: no release, or one that differs from its checksums.
    """
    root = Path(root)
    try:
        sums = (root / "checksums.json").read_bytes()
        stated = json.loads(sums)
        files = {name: entry["sha256"] for name, entry in stated["files"].items() if name.endswith(".jsonl")}
        info = {key: stated[key] for key in ("name", "version")} | {"note": stated.get("note")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(
            f"expected a release, with checksums.json and data/, in {root}; got {error!r}: give its folder as --root"
        ) from error
    rows: list[tuple[str, Any]] = []
    wanted = 0
    for name, sha256 in files.items():
        folder, domain, file = name.split("/") if name.count("/") == 2 else ("", "", "")
        needed = config in ("all", domain) and split in ("all", file.removesuffix(".jsonl"))
        path = root / name
        if folder != "data" or not (needed or path.exists()):
            continue
        wanted += needed
        rows += _records(path, sha256, file.removesuffix(".jsonl"))
    if not wanted:
        raise RecordError(f"expected records of config {config}, split {split} in {root}; it has {', '.join(files) or 'none'}")
    return index_questions(rows), {**info, "sha256": hashlib.sha256(sums).hexdigest()}


def _records(path: Path, sha256: str, split: str) -> Iterator[tuple[str, Any]]:
    """Reads one file of records, and adds the split, which its name states."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"expected the records in {path}, which checksums.json lists; got {error}: fetch them") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RecordError(f"expected {path} as checksums.json states it; got other bytes: fetch the release again")
    for number, line in enumerate(data.decode("utf-8").split("\n"), 1):
        if line.strip():
            row = json.loads(line)
            yield f"{path}:{number}", {**row, "split": split} if isinstance(row, dict) else row


# ---- command line ------------------------------------------------------------------------------------------------

_COLUMNS = (
    ("n", "n"), ("acc", "accuracy"), ("prec", "precision"), ("rec", "recall"), ("F1", "f1"), ("pair acc", "pair_accuracy"),
    ("pairs", "pairs"), ("yes", "yes_ratio"), ("no answer", "no_answer_share"),
)  # fmt: skip
_OPEN_COLUMNS = (("n", "n"), ("acc", "accuracy"), ("correct", "correct"), ("incorrect", "incorrect"), ("no answer", "no_answer_share"))  # fmt: skip


def shown(value: float | None) -> str:
    """Shows a count as it is, a ratio in percent, and an em dash for what is undefined.

    >>> shown(3000), shown(0.855), shown(None)
    ('3000', '85.50', '—')
    """
    return "—" if value is None else str(value) if isinstance(value, int) else f"{100 * value:.2f}"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Sets rows of text in columns, the first `left` of them to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = (
        "  ".join(cell.ljust(width) if at < left else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths)))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def heading(result: Mapping[str, Any]) -> str:
    """Says in a few lines what was scored and how: release, reader, coverage, what the caller states, and notes."""
    release, reader, coverage = result["release"], result["reader"], result["coverage"]
    lines = []
    if release:
        lines.append(f"{release['name']} {release['version']} (checksums.json {release['sha256'][:16]})")
        lines[-1] += f", config {release['config']}, split {release['split']}"
        lines += [release["note"]] * bool(release["note"])
    lines += [f"{key}: {value}" for key, value in result["run"].items()]
    how = f"reader {reader['name']} {reader['version']}, " * bool(result["n"])
    how += f"open-ended answers by {result['open_reader']}, " * bool(result["open_ended"])
    lines.append(f"{how}package {result['package']['version']}: answered {coverage['answered']:,} of {coverage['questions']:,}")
    aside = [f"{coverage[key]:,} {text}" for key, text in _ASIDE if coverage[key]]
    lines += [f"not scored: {', '.join(aside)}"] * bool(aside)
    return "\n".join(lines + [f"note: {note}" for note in result["notes"]])


_ASIDE = (("set_aside", "answers to other questions of the release"), ("unknown", "answers to no known question"))


def table(result: Mapping[str, Any]) -> str:
    """Sets a report as a table in percent: the paper's cells in its order, then domains, categories, splits, styles."""
    parts = [("yes/no", result, result["macro"], _COLUMNS), ("open-ended", result["open_ended"], None, _OPEN_COLUMNS)]
    blocks = []
    for title, part, macro, columns in parts:
        if not part or not part["n"]:
            continue
        rows = [[title, *(head for head, _ in columns)]]
        for grouping in ("cell", "domain", "category", "split", "style"):
            for name, figures in part["by"][grouping].items():
                rows.append([name.replace("/", " "), *(shown(figures[key]) for _, key in columns)])
        rows.append(["all (micro)", *(shown(part[key]) for _, key in columns)])
        if macro and part["by"]["cell"]:
            rows.append(["all (macro over cells)", *(shown(macro[key]) if key in macro else "" for _, key in columns)])
        blocks.append(aligned(rows))
    return "\n\n".join(blocks)


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Returns the arguments that this command and `relation_report` share."""
    parser = argparse.ArgumentParser(prog=prog, description=description, epilog="METRIC.md explains every figure.")
    parser.add_argument("answers", nargs="+", metavar="ANSWERS", help="JSON lines or array with question_id and answer; - for standard input; several files are shards of one")  # fmt: skip
    parser.add_argument("--root", required=True, metavar="RELEASE", help="folder of a release")
    parser.add_argument("--config", default="all", choices=("all", *DOMAINS), help="default: all")
    parser.add_argument("--split", default="test", choices=("all", *SPLITS), help="default: test")
    parser.add_argument("--task", default=TASKS[0], choices=TASKS, help="default: discriminative, the yes/no questions")
    parser.add_argument("--reader", default="words", choices=READERS, help="how answers are read; default: words")
    parser.add_argument("--partial", action="store_true", help="score what is there where answers are missing or unknown")
    parser.add_argument("--json", metavar="F", help="write the report, with every grouping, to this file")
    for name in ("model", "prompt", "decoding"):
        parser.add_argument(f"--{name}", metavar="TEXT", help=f"what you state of the {name}; goes into the report")
    return parser


def score_files(args: argparse.Namespace, answers: Sequence[str], questions: Mapping[str, Question]) -> tuple[Scores, int]:
    """Scores answer files against questions, as the arguments of `make_parser` say: (scores, questions asked)."""
    scores = Scores(args.reader, taxonomy=None)
    choose = functools.partial(is_asked, task=args.task, config=args.config, split=args.split)
    return scores, match(read_answers(*answers), questions, scores, choose, args.partial)


def run_command(command: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Runs a command; a user's error becomes one line on standard error and status 1, a closed pipe status 1."""
    args = parser.parse_args(argv)
    try:
        command(args)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit has somewhere to go
        return 1
    except (AnswerError, RecordError, MatchError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


def _command(args: argparse.Namespace) -> None:
    questions, release = load_release(args.root, args.config, args.split)
    scores, asked = score_files(args, args.answers, questions)
    result = report(scores, asked, stated_release(args, release), stated_run(args))
    if args.json:
        write_json(result, args.json)
    print(heading(result), table(result), sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Scores answer files against a release and prints the paper's table; returns the exit status."""
    return run_command(_command, make_parser("relation_accuracy", "Scores answers to MMRel's questions."), argv)


if __name__ == "__main__":
    sys.exit(main())

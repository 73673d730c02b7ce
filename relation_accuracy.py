# SPDX-License-Identifier: Apache-2.0
"""Score answers to MMRel's questions: read each answer, count, and report how accurate they are.

The reference metric of MMRel, in the standard library alone; this file works when it is copied
alone. The readers of other benchmarks, open-ended answers, files of answers and releases need the
package `mmrel_kit` beside it:

    python relation_accuracy.py ANSWERS --root RELEASE --config all --split test
    python relation_accuracy.py report ANSWERS --repo-id NS/MMRel --baselines

docs/metric.md explains every figure.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

__version__ = "1.0.0"

DOMAINS = ("real", "sdxl", "dalle")
SPLITS = ("train", "test", "adversarial")
CATEGORIES = ("spatial", "action", "comparative")
TASKS = ("discriminative", "generative", "both")

# One verdict is one small integer, label + said. Said: 0 no or
# incorrect, 1 yes or correct, 2 something that is no answer, 3 nothing at all (null, or a failed request).
LABELS = {"no": 0, "yes": 4, "open": 8}
SAID = {"no": 0, "incorrect": 0, "yes": 1, "correct": 1, None: 2}
SILENT = 3
RIGHT = frozenset({0, 5, 9})
# A tally is 15 counts: of the 12 verdicts, then these three.
WRONG_PAIRS, RIGHT_PAIRS, PAIRED = 12, 13, 14

GROUPINGS = ("cell", "domain", "category", "split", "style", "relation")
MEANS = ("accuracy", "precision", "recall", "f1", "pair_accuracy")

# What harnesses write in place of an answer when the request failed: lmms-eval 0.7, VLMEvalKit.
FAILED = ("[LMMS_EVAL_REQUEST_FAILED", "Failed to obtain answer via API")

Judge = Callable[[str, Mapping[str, Any]], "str | None"]


class AnswerError(ValueError):
    """The answers or the references cannot be scored; the message says which, and why."""


# --- Reading yes and no ---

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


def fold_text(text: str) -> str:
    """Return the text in Unicode's compatibility form, without case and invisible characters."""
    if not text.isascii():
        text = _NOT_ASCII.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
        text = _INVISIBLE.sub("", text).replace("\u2019", "'").replace("\u2010", "-")
    return text.casefold()


def take_reply(text: str) -> str:
    """Return the folded text after a model's reasoning; nothing if the reasoning does not end."""
    reply = fold_text(text).rpartition("</think>")[2]
    return "" if "<think>" in reply else reply


def split_words(folded: str) -> str:
    """Return the words of a folded text, a space between them; "." is what divides a sentence."""
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
    words = _IDIOM.sub("~", split_words(take_reply(text)))
    yes, no = (f" {word} " in f" {words} " for word in ("yes", "no"))
    lead = _LEAD.match(words)
    if not lead:
        return None if yes == no else "yes" if yes else "no"
    opposite = yes if lead[1] == "no" else _OWN_NO.search(words)
    return None if opposite else lead[1]


_read_short = functools.lru_cache(maxsize=4096)(_read_words)  # most answers are the same few words


class Reader(NamedTuple):
    """A way to read answers, and to count what it could not read."""

    name: str
    version: str  # a change that moves old numbers raises the first figure
    read: Callable[[str, str], str | None]  # (answer, label) -> "yes", "no" or None
    positive: Literal["yes", "no"] = "yes"
    recall_over_read: bool = (
        False  # recall leaves out what could not be read; elsewhere that is missed
    )


WORDS = Reader("words", "1.0", read_words)


def find_reader(name: str) -> Reader:
    """Return a reader by its name.

    Raises:
        AnswerError: there is none of that name.
        ModuleNotFoundError: it is in the package `mmrel_kit`, which is missing.
    """
    if name == WORDS.name:
        return WORDS
    try:
        from mmrel_kit.scoring.readers import READERS
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            _explain_missing(f"the reader {name!r}"), name=error.name
        ) from error
    if name not in READERS:
        raise AnswerError(f"expected a reader out of {', '.join(READERS)}; got {name!r}")
    return READERS[name]


def _explain_missing(wanted: str) -> str:
    """Return the line that names `mmrel_kit`, where this file was copied without it."""
    missing = f"{wanted} needs the package mmrel_kit, which is not beside {Path(__file__).name}"
    return f"{missing}: use a clone of MMRel, or run 'pip install .' in one"


# --- Counting ---


class Group(NamedTuple):
    """What a question is grouped by; None where the reference does not say."""

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
    group: Group
    image_id: str | None
    pair_id: str | None
    record: Mapping[str, Any]


class Scores:
    """One small verdict per question, from which every figure is counted; parts merge in any order.

    Args:
        reader: `words`, or the name of a reader in `mmrel_kit.scoring.readers`.
        judge: (answer, record) -> "correct", "incorrect" or None; judges open-ended answers in
            place of the taxonomy.
        taxonomy: of `mmrel_kit.scoring.open_ended`; by default read when the first open-ended
            answer comes.

    Attributes:
        codes: question_id -> verdict, label + said (see LABELS and SAID).
        where, images, pairs: for each question, in the order of `codes`: number in `groups`,
            image_id, pair_id.
        groups: Group -> its number.
        unknown, set_aside: how many answers were to no known question, or to one that was not asked.
    """

    def __init__(
        self,
        reader: str = "words",
        judge: Judge | None = None,
        taxonomy: Mapping[str, Any] | None = None,
    ) -> None:
        self.reader = find_reader(reader)
        self.judge = judge
        self.taxonomy = taxonomy
        self.codes: dict[str, int] = {}
        self.where = array("L")
        self.images: list[str | None] = []
        self.pairs: list[str | None] = []
        self.groups: dict[Group, int] = {}
        self.unknown = self.set_aside = 0

    def add(self, rows: Iterable[tuple[str, Question, str | None]]) -> None:
        """Reads answers (null: none came) to questions and keeps the verdicts.

        Args:
            rows: (question_id, question, answer).

        Raises:
            AnswerError: a question has a verdict already, or the judge returned no verdict.
        """
        identifiers, questions, said = [], [], []
        for identifier, question, answer in rows:
            identifiers.append(identifier)
            questions.append(question)
            said.append(self._read(question, answer))
        self.keep(identifiers, questions, said)

    def keep(
        self, identifiers: Sequence[str], questions: Sequence[Question], said: Sequence[int]
    ) -> None:
        """Keeps the verdicts on answers that have been read: values of SAID, or SILENT.

        Raises:
            AnswerError: a question has a verdict already.
        """
        codes = dict(
            zip(
                identifiers,
                [
                    LABELS[question.label] + value
                    for question, value in zip(questions, said, strict=False)
                ],
                strict=False,
            )
        )
        if len(codes) < len(identifiers):
            twice = [name for name, number in Counter(identifiers).items() if number > 1]
            raise AnswerError(
                f"expected one answer to each question; with two: {_some(twice)}: leave one of each"
            )
        both = sorted(self.codes.keys() & codes.keys())
        if both:
            raise AnswerError(
                f"expected no question that has been scored; got {_some(both)} again: leave one of each"
            )
        self.codes.update(codes)
        groups = {
            id(question.group): question.group for question in questions
        }  # few, and no hash of five texts
        numbers = {
            key: self.groups.setdefault(group, len(self.groups)) for key, group in groups.items()
        }
        self.where.extend([numbers[id(question.group)] for question in questions])
        self.images += [question.image_id for question in questions]
        self.pairs += [question.pair_id for question in questions]

    def _read(self, question: Question, answer: str | None) -> int:
        if answer is None or answer.lstrip().startswith(FAILED):
            return SILENT
        if question.label != "open":
            return SAID[self.reader.read(answer, question.label)]
        verdict = self._judge_open(answer, question.record)
        if verdict in ("correct", "incorrect", None):
            return SAID[verdict]
        raise AnswerError(
            f"expected correct, incorrect or None of {self.judge_name}; got {_shown(verdict)}"
        )

    def _judge_open(self, answer: str, record: Mapping[str, Any]) -> str | None:
        if self.judge is not None:
            return self.judge(answer, record)
        try:
            from mmrel_kit.scoring import open_ended
        except ModuleNotFoundError as error:
            line = _explain_missing("an open-ended answer")
            raise ModuleNotFoundError(line, name=error.name) from error
        if self.taxonomy is None:
            self.taxonomy = open_ended.load_taxonomy()
        return open_ended.read_relation(answer, record, self.taxonomy)

    @property
    def judge_name(self) -> str:
        """What reads open-ended answers: the judge's name, or the taxonomy and its reader's version."""
        return (
            getattr(self.judge, "__name__", type(self.judge).__name__)
            if self.judge
            else "taxonomy 1.0"
        )

    def merge(self, other: Scores) -> Scores:
        """Takes over the verdicts of another process or shard, and returns itself.

        Raises:
            AnswerError: a question stands in both, or they were not read alike.
        """
        mine, theirs = ((part.reader.name, part.judge_name) for part in (self, other))
        if mine != theirs:
            raise AnswerError(
                f"expected parts that were read alike; got {mine} and {theirs}: read them again"
            )
        both = sorted(self.codes.keys() & other.codes.keys())
        if both:
            raise AnswerError(
                f"expected every question in one part only; in both: {_some(both)}: leave one of each"
            )
        self.codes.update(other.codes)
        numbers = [self.groups.setdefault(group, len(self.groups)) for group in other.groups]
        self.where.extend([numbers[number] for number in other.where])
        self.images += other.images
        self.pairs += other.pairs
        self.unknown += other.unknown
        self.set_aside += other.set_aside
        return self

    def figures(self) -> dict[str, Any]:
        """Counts everything; docs/metric.md explains each figure, its range and when it is null.

        Returns:
            The figures of all yes/no questions, then `macro` (their means over the cells), `by` (grouping ->
            group -> figures) and `open_ended` (the same for the open-ended questions; null where there are
            none).
        """
        counts = self._count()
        total = _tally(counts, ["all"] * len(self.groups)).get("all", [0] * 15)
        parts = {
            name: _tally(counts, [getattr(group, name) for group in self.groups])
            for name in GROUPINGS
        }
        yes_no, opened = (
            {
                name: {key: make(tally) for key, tally in part.items() if any(tally[asked])}
                for name, part in parts.items()
            }
            for asked, make in ((slice(8), self.yes_no_figures), (slice(8, 12), open_figures))
        )
        return {
            **self.yes_no_figures(total),
            "macro": {
                name: _mean([cell[name] for cell in yes_no["cell"].values()]) for name in MEANS
            },
            "by": yes_no,
            "open_ended": {**open_figures(total), "by": opened} if any(total[8:12]) else None,
        }

    def yes_no_figures(self, tally: Sequence[int]) -> dict[str, Any]:
        """Returns `yes_no_figures` by this reader's positive class."""
        return yes_no_figures(tally, self.reader)

    def pair_kinds(self) -> dict[str | None, dict[str | None, int]]:
        """Says what is in each pair: split -> pair_id -> its questions, packed into one integer.

        Equal pairs give equal integers, which count fast; `unpacked` takes one apart. A pair_id is unique
        within its split only.
        """
        kinds: dict[str | None, dict[str | None, int]] = {group.split: {} for group in self.groups}
        of_group = [kinds[group.split] for group in self.groups]
        for group, pair, code in zip(self.where, self.pairs, self.codes.values(), strict=False):
            pairs = of_group[group]
            pairs[pair] = pairs.get(pair, 0) << 32 | 16 * group + code + 1
        for pairs in kinds.values():
            pairs.pop(None, None)
        return kinds

    def _count(self) -> Counter[tuple[tuple[int, ...], int]]:
        """Counts by (groups, slot of a tally); a pair counts in the groups of its yes questions."""
        verdicts = Counter(
            [
                16 * group + code
                for group, code in zip(self.where, self.codes.values(), strict=False)
            ]
        )
        counts: Counter[tuple[tuple[int, ...], int]] = Counter()
        counts.update({((key // 16,), key % 16): number for key, number in verdicts.items()})
        for kind, number in Counter(
            chain.from_iterable(map(dict.values, self.pair_kinds().values()))
        ).items():
            questions = unpacked(kind)
            if is_whole(questions):
                homes = {group for group, code in questions if 4 <= code < 8}
                counts[tuple(homes), WRONG_PAIRS + is_right(questions)] += number
                for group, _ in questions:
                    counts[(group,), PAIRED] += number
        return counts


def unpacked(kind: int) -> list[tuple[int, int]]:
    """Takes apart what `Scores.pair_kinds` packed: (group, verdict) of each question."""
    questions = []
    while kind:
        key = (kind & 0xFFFFFFFF) - 1
        questions.append((key >> 4, key & 15))
        kind >>= 32
    return questions


def is_whole(questions: Iterable[tuple[int, int]]) -> bool:
    """Says whether a pair has a yes and a no; otherwise it is no pair, and its questions are left out."""
    return len({code // 4 for _, code in questions}) > 1


def is_right(questions: Iterable[tuple[int, int]]) -> bool:
    """Says whether all questions of a pair are answered right."""
    return all(code in RIGHT for _, code in questions)


def _tally(
    counts: Mapping[tuple[tuple[int, ...], int], int], names: Sequence[str | None]
) -> dict[str, list[int]]:
    """Adds counts up by the names of the groups (null: in no group), in the paper's order of names."""
    order = {part: at for at, part in enumerate((*DOMAINS, *CATEGORIES, *SPLITS))}
    known = {name for name in names if name is not None}
    ordered = sorted(
        known, key=lambda name: [(order.get(part, 99), part) for part in name.split("/")]
    )
    tallies = {name: [0] * 15 for name in ordered}
    for (groups, slot), number in counts.items():
        for name in {names[group] for group in groups}:
            if name is not None:
                tallies[name][slot] += number
    return tallies


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean, null where a value is: a mean over what happens to be defined would flatter."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def yes_no_figures(tally: Sequence[int], reader: Reader = WORDS) -> dict[str, Any]:
    """Returns the figures of the yes/no questions of a tally.

    No answer is wrong in accuracy, stands in none of tp, fp, tn, fn, never enters precision, and is a miss in
    recall and F1 where the label is the positive class (unless the reader leaves it out there).

    Args:
        tally: 15 counts: of the 12 verdicts (label + said), pairs wrong, pairs right, questions in those
            pairs.
        reader: gives the positive class.

    Returns:
        Counts n, tp, fp, tn, fn, no_answer, pairs, unpaired; all others between 0 and 1, or null if
        undefined.

    >>> figures = yes_no_figures([1383, 117, 0, 0, 318, 1182] + [0] * 9)
    >>> figures["accuracy"], figures["precision"], figures["recall"], figures["f1"]
    (0.855, 0.9099307159353349, 0.788, 0.8445873526259379)
    """
    no, yes = tally[:4], tally[4:8]
    n, said_no, said_yes = sum(no) + sum(yes), no[0] + yes[0], no[1] + yes[1]
    tp, fp, tn, fn, missed = yes[1], no[1], no[0], yes[0], yes[2] + yes[3]
    if reader.positive == "no":
        tp, fp, tn, fn, missed = tn, fn, tp, fp, no[2] + no[3]
    positives = tp + fn + (0 if reader.recall_over_read else missed)
    no_answer, pairs = n - said_no - said_yes, tally[WRONG_PAIRS] + tally[RIGHT_PAIRS]
    return {
        "n": n, "tp": tp, "fp": fp, "tn": tn, "fn": fn, "no_answer": no_answer,
        "accuracy": _ratio(tp + tn, n), "precision": _ratio(tp, tp + fp), "recall": _ratio(tp, positives),
        "f1": _ratio(2 * tp, tp + fp + positives),
        "yes_ratio": _ratio(said_yes, said_yes + said_no), "no_answer_share": _ratio(no_answer, n),
        "pairs": pairs, "pair_accuracy": _ratio(tally[RIGHT_PAIRS], pairs), "unpaired": n - tally[PAIRED],
    }  # fmt: skip


def open_figures(tally: Sequence[int]) -> dict[str, Any]:
    """Returns the figures of the open-ended questions of a tally (see `yes_no_figures`)."""
    incorrect, correct, unread, silent = tally[8:12]
    n, no_answer = sum(tally[8:12]), unread + silent
    return {
        "n": n, "correct": correct, "incorrect": incorrect, "no_answer": no_answer,
        "accuracy": _ratio(correct, n), "no_answer_share": _ratio(no_answer, n),
    }  # fmt: skip


# --- Answers and references ---


def _some(names: Sequence[str]) -> str:
    """Lists the first ten of some names, and says how many there are."""
    shown = ", ".join(
        name if len(name) <= 80 else name[:77] + "..." for name in map(repr, names[:10])
    )
    return f"{len(names):,} ({shown}{', ...' if len(names) > 10 else ''})"


def _shown(value: object) -> str:
    return f"{type(value).__name__} {repr(value)[:60]}"


def _text(row: Mapping[str, Any], key: str, where: str) -> str | None:
    """Returns an id or a name as text, so that 17 and "17" are one; null where there is none."""
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise AnswerError(f"expected text or a whole number as {key}; got {_shown(value)} at {where}")


def collect_answers(rows: Iterable[tuple[str, Any]]) -> dict[str, str | None]:
    """Collects answers by question_id.

    Args:
        rows: (where it stands, object). The id is `question_id` (in AMBER `id`); the answer is the one of
            `answer`, `response` and `prediction` that stands there, else `text`: text, or null where none
            came.

    Raises:
        AnswerError: a row has no id or answer, has two answers, or one that is neither text nor
            null; or a question is answered twice.
    """
    answers: dict[str, str | None] = {}
    twice = []
    for where, row in rows:
        if not isinstance(row, Mapping):
            raise AnswerError(
                f"expected an object with question_id and answer; got {_shown(row)} at {where}"
            )
        identifier = _text(row, "question_id" if "question_id" in row else "id", where)
        keys = [key for key in ("answer", "response", "prediction") if key in row] or ["text"]
        if identifier is None or keys[0] not in row:
            keys = list(map(str, row))
            raise AnswerError(
                f"expected question_id and answer (response, prediction, text); got {_some(keys)} at {where}"
            )
        if len(keys) > 1:
            raise AnswerError(
                f"expected one answer; got {' and '.join(keys)} at {where}: leave only the model's"
            )
        answer = row[keys[0]]
        if not (answer is None or isinstance(answer, str)):
            raise AnswerError(
                f"expected what the model wrote, as text, or null; got {_shown(answer)} at {where}"
            )
        if identifier in answers:
            twice.append(f"{identifier} at {where}")
        answers[identifier] = answer
    if twice:
        raise AnswerError(
            f"expected one answer to each question; answered again: {_some(twice)}: leave one of each"
        )
    return answers


def index_questions(rows: Iterable[tuple[str, Any]]) -> dict[str, Question]:
    """Indexes references by question_id.

    Args:
        rows: (where it stands, record of the contract). `question_id` and `answer` are needed. `split`,
            `domain`, `category`, `style`, `relation`, `image_id`, `pair_id` are optional: a grouping holds
            the questions that state its key. `task` is generative for an open-ended question.

    Raises:
        AnswerError: a record without id or answer, with a label other than yes or no, or that stands twice.
    """
    questions: dict[str, Question] = {}
    groups: dict[Group, Group] = {}
    for where, row in rows:
        if (
            not isinstance(row, Mapping)
            or row.get("question_id") is None
            or not isinstance(row.get("answer"), str)
        ):
            raise AnswerError(
                f"expected a record with question_id and, as text, answer; got {_shown(row)} at {where}"
            )
        identifier, image_id, pair_id, *names = (_text(row, key, where) for key in _KEYS)
        label = "open" if row.get("task") == "generative" else row["answer"].strip().casefold()
        if label not in ("open", "yes", "no") or (
            label == "open" and row.get("task") != "generative"
        ):
            raise AnswerError(
                f"expected the label yes or no; got {_shown(row['answer'])} at {where}"
                " (an open-ended question states the task generative)"
            )
        if identifier in questions:
            raise AnswerError(
                f"expected each question once; {identifier!r} stands again at {where}"
            )
        group = Group(*names)
        questions[str(identifier)] = Question(
            label, groups.setdefault(group, group), image_id, pair_id, row
        )
    return questions


_KEYS = ("question_id", "image_id", "pair_id", *Group._fields)


def is_asked(
    question: Question, task: str = TASKS[0], config: str = "all", split: str = "all"
) -> bool:
    """Says whether a question is of a task, config (domain) and split; "both" and "all" take in every one."""
    of_task = task == "both" or (task == "generative") == (question.label == "open")
    return (
        of_task
        and config in ("all", question.group.domain)
        and split in ("all", question.group.split)
    )


def match(
    answers: Mapping[str, str | None],
    questions: Mapping[str, Question],
    scores: Scores,
    asked: Callable[[Question], bool] = is_asked,
    partial: bool = False,
) -> int:
    """Adds answers to the scores, once it is sure that they are those to the questions asked.

    Args:
        answers: of `collect_answers`.
        questions: of `index_questions`.
        scores: takes the verdicts.
        asked: chooses the questions; answers to other known ones are set aside and counted.
        partial: score what is there, where answers are missing or belong to no known question.

    Returns:
        How many questions are asked.

    Raises:
        AnswerError: nothing is asked; or answers are missing or to no known question (unless partial); or all
            are.
    """
    chosen = {identifier: question for identifier, question in questions.items() if asked(question)}
    if questions and not chosen:
        raise AnswerError(
            f"expected questions of the task, config and split chosen; none of {len(questions):,} is one"
        )
    missing = [identifier for identifier in chosen if identifier not in answers]
    unknown = [identifier for identifier in answers if identifier not in questions]
    if chosen and len(missing) == len(chosen):
        raise AnswerError(
            f"expected answers to {len(chosen):,} questions, such as {next(iter(chosen))!r}; got answers to"
            f" {_some(list(answers))}, none of them asked: give the answers to these questions"
        )
    if (missing or unknown) and not partial:
        faults = [
            f"{text} {_some(names)}"
            for text, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise AnswerError(
            f"expected one answer to each of {len(chosen):,} questions; {'; '.join(faults)}."
            " Give them all, or score what is there with --partial (partial=True)"
        )
    scores.add(
        (name, question, answers[name]) for name, question in chosen.items() if name in answers
    )
    scores.unknown += len(unknown)
    scores.set_aside += len(answers) - len(unknown) - len(chosen) + len(missing)
    return len(chosen)


# --- Scoring ---


def report(
    scores: Scores,
    asked: int,
    release: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Puts the figures together with what makes them comparable.

    Args:
        scores: the verdicts, all parts merged.
        asked: how many questions were asked, in all parts.
        release: what was scored (see `mmrel_kit.scoring.release`); None if not known.
        run: what the caller states of `model`, `prompt` and `decoding`.

    Returns:
        `Scores.figures`, and: notes (sentences), coverage (counts, and the share answered), reader,
        open_reader, package, release, run.
    """
    figures = scores.figures()
    silent = sum(
        number for code, number in Counter(scores.codes.values()).items() if code % 4 == SILENT
    )
    notes = [f"the positive class is {scores.reader.positive}"] * (scores.reader.positive != "yes")
    if figures["yes_ratio"] in (0, 1):
        said = "yes" if figures["yes_ratio"] else "no"
        notes.append(
            f"always {said}: every answer is {said}, whatever the picture; see the pair accuracy"
        )
    if figures["no_answer"] > 0.05 * figures["n"]:
        notes.append(
            f"{figures['no_answer']:,} answers could not be read as yes or no: look at some of them"
        )
    if silent:
        notes.append(f"{silent:,} answers are null or failed requests: ask these questions again")
    if len(scores.codes) < asked:
        notes.append(
            f"partial: {asked - len(scores.codes):,} of {asked:,} questions are not answered and do not count"
        )
    coverage = {
        "questions": asked,
        "answered": len(scores.codes),
        "missing": asked - len(scores.codes),
    }
    coverage |= {"unknown": scores.unknown, "set_aside": scores.set_aside, "silent": silent}
    return {
        **figures,
        "notes": notes,
        "coverage": {**coverage, "share": _ratio(len(scores.codes), asked)},
        "reader": {
            "name": scores.reader.name,
            "version": scores.reader.version,
            "positive": scores.reader.positive,
        },
        "open_reader": scores.judge_name if figures["open_ended"] else None,
        "package": {"name": "mmrel", "version": __version__},
        "release": dict(release) if release else None,
        "run": dict(run or {}),
    }


def compute(
    predictions: Iterable[Any],
    references: Iterable[Any],
    *,
    reader: str = "words",
    task: str = TASKS[0],
    partial: bool = False,
    judge: Judge | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Scores answers against references.

    Args:
        predictions: objects with `question_id` and `answer` in any order (see `collect_answers`); or plain
            answers, text or null, in the order of the references.
        references: records of the contract (see `index_questions`); what `load_dataset` returns,
            plain or streaming: its pictures are not decoded, its questions are of its split; or,
            beside plain answers, plain labels.
        reader: `words`, or the name of a reader in `mmrel_kit.scoring.readers`.
        task: discriminative (the yes/no questions), generative (the open-ended ones) or both; answers to the
            others are set aside and counted.
        partial: score what is there, where answers are missing or belong to no known question.
        judge: see Scores.
        run: what you state of `model`, `prompt` and `decoding`; goes into the report.

    Returns:
        The report (see `report`): plain numbers, texts, lists and dicts.

    Raises:
        AnswerError: see `collect_answers`, `index_questions` and `match`.
        ModuleNotFoundError: see `find_reader`; open-ended answers need `mmrel_kit` too.

    >>> compute(predictions=["Yes.", "There is no dog"], references=["yes", "yes"])["accuracy"]
    0.5
    """
    for given in (predictions, references):
        if isinstance(given, str) or (isinstance(given, Mapping) and not _is_dataset_dict(given)):
            wanted = "lists of predictions and of references"
            raise AnswerError(f"expected {wanted}; got a single object or text")
    answers, records = list(_rows_of(predictions)), list(_rows_of(references))
    plain = not any(isinstance(answer, Mapping) for answer in answers)
    if plain:
        if len(answers) != len(records):
            raise AnswerError(
                f"expected as many plain answers as references, in the same order; got {len(answers):,} and"
                f" {len(records):,}: give objects with question_id and answer to match them by id"
            )
        records = [
            {"question_id": at, "answer": row} if isinstance(row, str) else row
            for at, row in enumerate(records)
        ]
    questions = index_questions((f"references[{at}]", row) for at, row in enumerate(records))
    if plain:
        answers = [
            {"question_id": row["question_id"], "answer": answer}
            for row, answer in zip(records, answers, strict=False)
        ]
    scores = Scores(reader, judge)
    collected = collect_answers((f"predictions[{at}]", row) for at, row in enumerate(answers))
    asked = match(collected, questions, scores, functools.partial(is_asked, task=task), partial)
    result = report(scores, asked, run=run)
    paired = (question for question in questions.values() if question.pair_id)
    if hasattr(references, "split") and any(question.group.split is None for question in paired):
        result["notes"].append(
            "the references do not say the split of each question: a pair_id that is in two splits"
            " counts as one pair; give the dict of all splits to keep them apart"
        )
    return result


def _is_dataset_dict(rows: Mapping[Any, Any]) -> bool:
    """Whether this is a dict of splits, as `load_dataset` returns without `split`."""
    return bool(rows) and all(hasattr(part, "features") for part in rows.values())


def _rows_of(rows: Any, split: str | None = None) -> Iterator[Any]:
    """Yield the elements of a list, or the rows of a dataset or a dict of datasets.

    Iterating a dataset decodes every picture, so all other columns are selected first.
    (`remove_columns` of a stream decodes the pictures to remove them.)
    A row without a `split` gets the split of its dataset.
    """
    if isinstance(rows, Mapping):
        for name, part in rows.items():
            yield from _rows_of(part, str(name))
        return
    features = getattr(rows, "features", None)
    if not hasattr(rows, "with_format"):
        yield from rows
        return
    if features:
        kept = [name for name, feature in features.items() if not hasattr(feature, "decode")]
        rows = rows.with_format(None).select_columns(kept)
    split = split or str(getattr(rows, "split", None) or "")
    # "test" and "test[:10]" name one split, "train+test" does not.
    named = re.fullmatch(r"(\w+)(?:\[[^\]+]*\])?", split)
    stated = {"split": named[1]} if named else {}
    for row in rows:
        yield {**stated, **row} if isinstance(row, Mapping) else row


def _run() -> int:
    """Run this file as the command `score`, or `report` where that is the first word."""
    given = sys.argv[1:]
    if given[:1] not in (["score"], ["report"]):
        given = ["score", *given]
    try:
        from mmrel_kit.cli import guard_start, main
    except ModuleNotFoundError as error:
        if error.name != "mmrel_kit":
            raise
        sys.exit(f"{Path(__file__).name}: {_explain_missing('the command')}")
    guard_start("relation_accuracy.py")
    return main(given, verbs=("score", "report"), prog="relation_accuracy.py")


if __name__ == "__main__":
    sys.exit(_run())

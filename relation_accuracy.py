# SPDX-License-Identifier: Apache-2.0
"""Reads answers to MMRel's questions, counts them and says how accurate they are.

The reference metric of MMRel, in the standard library alone: what is counted, what becomes of an answer that
cannot be read, and what a report must say to be comparable. How an answer is read stands in `relation_readers`.
METRIC.md explains every figure; `relation_report` adds intervals, comparisons, blind baselines and the plot.

    python relation_accuracy.py ANSWERS --root RELEASE --config all --split test
    python relation_accuracy.py ANSWERS --repo-id NS/MMRel
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from mmrel_kit.scoring.readers import (
    READERS as READERS,
)
from mmrel_kit.scoring.readers import (
    Lexicon as Lexicon,
)
from mmrel_kit.scoring.readers import (
    Reader as Reader,
)
from mmrel_kit.scoring.readers import (
    RecordError as RecordError,
)
from mmrel_kit.scoring.readers import (
    load_taxonomy as load_taxonomy,
)
from mmrel_kit.scoring.readers import (
    read_relation as read_relation,
)
from mmrel_kit.scoring.readers import (
    read_words as read_words,
)

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

INDEX, TAXONOMY = "checksums.json", "schema/taxonomy.json"
_RECORDS_FILE = re.compile(r"data/(\w+)/(\w+)\.jsonl")
_ROOTS = "the folder of a release, or hf://datasets/NS/NAME[@REVISION],"
_HUB_ROOT = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@(.+))?")

# What harnesses write in place of an answer when the request failed: lmms-eval 0.7, VLMEvalKit.
FAILED = ("[LMMS_EVAL_REQUEST_FAILED", "Failed to obtain answer via API")


Judge = Callable[[str, Mapping[str, Any]], "str | None"]


class AnswerError(ValueError):
    """The answers are not in a shape that can be read."""


class MatchError(LookupError):
    """Answers and questions do not belong together, one to one."""


# ---- counting ----------------------------------------------------------------------------------------------


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
    """One small verdict per question, from which every figure is counted; parts merge in any order.

    Args:
        reader: a name in READERS.
        judge: (answer, record) -> "correct", "incorrect" or None; judges open-ended answers in place of the
            taxonomy.
        taxonomy: of `load_taxonomy`; by default read when the first open-ended answer comes.

    Attributes:
        codes: question_id -> verdict, label + said (see LABELS and SAID).
        where, images, pairs: for each question, in the order of `codes`: number in `places`, image_id,
            pair_id.
        places: Place -> its number.
        unknown, set_aside: how many answers were to no known question, or to one that was not asked.
    """

    def __init__(
        self,
        reader: str = "words",
        judge: Judge | None = None,
        taxonomy: Mapping[str, Lexicon] | None = None,
    ) -> None:
        if reader not in READERS:
            raise AnswerError(f"expected a reader out of {', '.join(READERS)}; got {reader!r}")
        self.reader = READERS[reader]
        self.judge, self.taxonomy = judge, taxonomy
        self.codes: dict[str, int] = {}
        self.where = array("L")
        self.images: list[str | None] = []
        self.pairs: list[str | None] = []
        self.places: dict[Place, int] = {}
        self.unknown = self.set_aside = 0

    def add(self, rows: Iterable[tuple[str, Question, str | None]]) -> None:
        """Reads answers (null: none came) to questions and keeps the verdicts.

        Args:
            rows: (question_id, question, answer).

        Raises:
            MatchError: a question has a verdict already.
            AnswerError: the judge returned something that is no verdict.
        """
        identifiers, questions, said = [], [], []
        for identifier, question, answer in rows:
            identifiers.append(identifier)
            questions.append(question)
            said.append(self._read(question, answer))
        self.keep(identifiers, questions, said)

    def keep(self, identifiers: Sequence[str], questions: Sequence[Question], said: Sequence[int]) -> None:
        """Keeps the verdicts on answers that have been read: values of SAID, or SILENT.

        Raises:
            MatchError: a question has a verdict already.
        """
        codes = dict(
            zip(
                identifiers,
                [LABELS[question.label] + value for question, value in zip(questions, said, strict=False)],
                strict=False,
            )
        )
        if len(codes) < len(identifiers):
            twice = [name for name, number in Counter(identifiers).items() if number > 1]
            raise MatchError(f"expected one answer to each question; with two: {_some(twice)}: leave one of each")
        both = sorted(self.codes.keys() & codes.keys())
        if both:
            raise MatchError(f"expected no question that has been scored; got {_some(both)} again: leave one of each")
        self.codes.update(codes)
        places = {id(question.place): question.place for question in questions}  # few, and no hash of five texts
        numbers = {key: self.places.setdefault(place, len(self.places)) for key, place in places.items()}
        self.where.extend([numbers[id(question.place)] for question in questions])
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
        raise AnswerError(f"expected correct, incorrect or None of {self.judge_name}; got {_shown(verdict)}")

    def _judge_open(self, answer: str, record: Mapping[str, Any]) -> str | None:
        if self.judge:
            return self.judge(answer, record)
        if self.taxonomy is None:
            self.taxonomy = load_taxonomy()
        return read_relation(answer, record, self.taxonomy)

    @property
    def judge_name(self) -> str:
        """What reads open-ended answers: the judge's name, or the taxonomy and its reader's version."""
        return getattr(self.judge, "__name__", type(self.judge).__name__) if self.judge else "taxonomy 1.0"

    def merge(self, other: Scores) -> Scores:
        """Takes over the verdicts of another process or shard, and returns itself.

        Raises:
            MatchError: a question stands in both, or they were not read alike.
        """
        mine, theirs = ((part.reader.name, part.judge_name) for part in (self, other))
        if mine != theirs:
            raise MatchError(f"expected parts that were read alike; got {mine} and {theirs}: read them again")
        both = sorted(self.codes.keys() & other.codes.keys())
        if both:
            raise MatchError(f"expected every question in one part only; in both: {_some(both)}: leave one of each")
        self.codes.update(other.codes)
        numbers = [self.places.setdefault(place, len(self.places)) for place in other.places]
        self.where.extend([numbers[number] for number in other.where])
        self.images += other.images
        self.pairs += other.pairs
        self.unknown += other.unknown
        self.set_aside += other.set_aside
        return self

    def figures(self) -> dict[str, Any]:
        """Counts everything; METRIC.md explains each figure, its range and when it is null.

        Returns:
            The figures of all yes/no questions, then `macro` (their means over the cells), `by` (grouping ->
            group -> figures) and `open_ended` (the same for the open-ended questions; null where there are
            none).
        """
        counts = self._count()
        total = _tally(counts, ["all"] * len(self.places)).get("all", [0] * 15)
        parts = {name: _tally(counts, [getattr(place, name) for place in self.places]) for name in GROUPINGS}
        yes_no, opened = (
            {
                name: {key: make(tally) for key, tally in part.items() if any(tally[asked])}
                for name, part in parts.items()
            }
            for asked, make in ((slice(8), self.yes_no_figures), (slice(8, 12), open_figures))
        )
        return {
            **self.yes_no_figures(total),
            "macro": {name: _mean([cell[name] for cell in yes_no["cell"].values()]) for name in MEANS},
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
        kinds: dict[str | None, dict[str | None, int]] = {place.split: {} for place in self.places}
        of_place = [kinds[place.split] for place in self.places]
        for place, pair, code in zip(self.where, self.pairs, self.codes.values(), strict=False):
            pairs = of_place[place]
            pairs[pair] = pairs.get(pair, 0) << 32 | 16 * place + code + 1
        for pairs in kinds.values():
            pairs.pop(None, None)
        return kinds

    def _count(self) -> Counter[tuple[tuple[int, ...], int]]:
        """Counts by (places, slot of a tally); a pair counts in the places of its yes questions."""
        verdicts = Counter([16 * place + code for place, code in zip(self.where, self.codes.values(), strict=False)])
        counts: Counter[tuple[tuple[int, ...], int]] = Counter()
        counts.update({((key // 16,), key % 16): number for key, number in verdicts.items()})
        for kind, number in Counter(chain.from_iterable(map(dict.values, self.pair_kinds().values()))).items():
            questions = unpacked(kind)
            if is_whole(questions):
                homes = {place for place, code in questions if 4 <= code < 8}
                counts[tuple(homes), WRONG_PAIRS + is_right(questions)] += number
                for place, _ in questions:
                    counts[(place,), PAIRED] += number
        return counts


def unpacked(kind: int) -> list[tuple[int, int]]:
    """Takes apart what `Scores.pair_kinds` packed: (place, verdict) of each question."""
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


def _tally(counts: Mapping[tuple[tuple[int, ...], int], int], names: Sequence[str | None]) -> dict[str, list[int]]:
    """Adds counts up by the names of the places (null: in no group), in the paper's order of names."""
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


def yes_no_figures(tally: Sequence[int], reader: Reader = READERS["words"]) -> dict[str, Any]:
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


# ---- answers and questions ---------------------------------------------------------------------------------


def _some(names: Sequence[str]) -> str:
    """Lists the first ten of some names, and says how many there are."""
    shown = ", ".join(name if len(name) <= 80 else name[:77] + "..." for name in map(repr, names[:10]))
    return f"{len(names):,} ({shown}{', ...' if len(names) > 10 else ''})"


def _shown(value: object) -> str:
    return f"{type(value).__name__} {repr(value)[:60]}"


def _text(row: Mapping[str, Any], key: str, where: str, error: type[ValueError]) -> str | None:
    """Returns an id or a name as text, so that 17 and "17" are one; null where there is none."""
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise error(f"expected text or a whole number as {key}; got {_shown(value)} at {where}")


def collect_answers(rows: Iterable[tuple[str, Any]]) -> dict[str, str | None]:
    """Collects answers by question_id.

    Args:
        rows: (where it stands, object). The id is `question_id` (in AMBER `id`); the answer is the one of
            `answer`, `response` and `prediction` that stands there, else `text`: text, or null where none
            came.

    Raises:
        AnswerError: a row without id or answer, with two answers, or with one that is neither text nor null.
        MatchError: a question is answered twice.
    """
    answers: dict[str, str | None] = {}
    twice = []
    for where, row in rows:
        if not isinstance(row, Mapping):
            raise AnswerError(f"expected an object with question_id and answer; got {_shown(row)} at {where}")
        identifier = _text(row, "question_id" if "question_id" in row else "id", where, AnswerError)
        keys = [key for key in ("answer", "response", "prediction") if key in row] or ["text"]
        if identifier is None or keys[0] not in row:
            keys = list(map(str, row))
            raise AnswerError(
                f"expected question_id and answer (response, prediction, text); got {_some(keys)} at {where}"
            )
        if len(keys) > 1:
            raise AnswerError(f"expected one answer; got {' and '.join(keys)} at {where}: leave only the model's")
        answer = row[keys[0]]
        if not (answer is None or isinstance(answer, str)):
            raise AnswerError(f"expected what the model wrote, as text, or null; got {_shown(answer)} at {where}")
        if identifier in answers:
            twice.append(f"{identifier} at {where}")
        answers[identifier] = answer
    if twice:
        raise MatchError(f"expected one answer to each question; answered again: {_some(twice)}: leave one of each")
    return answers


def index_questions(rows: Iterable[tuple[str, Any]]) -> dict[str, Question]:
    """Indexes references by question_id.

    Args:
        rows: (where it stands, record of the contract). `question_id` and `answer` are needed. `split`,
            `domain`, `category`, `style`, `relation`, `image_id`, `pair_id` are optional: a grouping holds
            the questions that state its key. `task` is generative for an open-ended question.

    Raises:
        RecordError: a record without id or answer, with a label other than yes or no, or that stands twice.
    """
    questions: dict[str, Question] = {}
    places: dict[Place, Place] = {}
    for where, row in rows:
        if not isinstance(row, Mapping) or row.get("question_id") is None or not isinstance(row.get("answer"), str):
            raise RecordError(f"expected a record with question_id and, as text, answer; got {_shown(row)} at {where}")
        identifier, image_id, pair_id, *names = (_text(row, key, where, RecordError) for key in _KEYS)
        label = "open" if row.get("task") == "generative" else row["answer"].strip().casefold()
        if label not in ("open", "yes", "no") or (label == "open" and row.get("task") != "generative"):
            raise RecordError(
                f"expected the label yes or no; got {_shown(row['answer'])} at {where}"
                " (an open-ended question states the task generative)"
            )
        if identifier in questions:
            raise RecordError(f"expected each question once; {identifier!r} stands again at {where}")
        place = Place(*names)
        questions[str(identifier)] = Question(label, places.setdefault(place, place), image_id, pair_id, row)
    return questions


_KEYS = ("question_id", "image_id", "pair_id", *Place._fields)


def is_asked(question: Question, task: str = TASKS[0], config: str = "all", split: str = "all") -> bool:
    """Says whether a question is of a task, config (domain) and split; "both" and "all" take in every one."""
    of_task = task == "both" or (task == "generative") == (question.label == "open")
    return of_task and config in ("all", question.place.domain) and split in ("all", question.place.split)


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
        MatchError: nothing is asked; or answers are missing or to no known question (unless partial); or all
            are.
    """
    chosen = {identifier: question for identifier, question in questions.items() if asked(question)}
    if questions and not chosen:
        raise MatchError(f"expected questions of the task, config and split chosen; none of {len(questions):,} is one")
    missing = [identifier for identifier in chosen if identifier not in answers]
    unknown = [identifier for identifier in answers if identifier not in questions]
    if chosen and len(missing) == len(chosen):
        raise MatchError(
            f"expected answers to {len(chosen):,} questions, such as {next(iter(chosen))!r}; got answers to"
            f" {_some(list(answers))}, none of them asked: give the answers to these questions"
        )
    if (missing or unknown) and not partial:
        faults = [f"{text} {_some(names)}" for text, names in (("missing", missing), ("unknown", unknown)) if names]
        raise MatchError(
            f"expected one answer to each of {len(chosen):,} questions; {'; '.join(faults)}."
            " Give them all, or score what is there with --partial (partial=True)"
        )
    scores.add((name, question, answers[name]) for name, question in chosen.items() if name in answers)
    scores.unknown += len(unknown)
    scores.set_aside += len(answers) - len(unknown) - len(chosen) + len(missing)
    return len(chosen)


# ---- ways in -----------------------------------------------------------------------------------------------


def report(
    scores: Scores, asked: int, release: Mapping[str, Any] | None = None, run: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Puts the figures together with what makes them comparable.

    Args:
        scores: the verdicts, all parts merged.
        asked: how many questions were asked, in all parts.
        release: what was scored (see `load_release`); null if not known.
        run: what the caller states of `model`, `prompt` and `decoding`.

    Returns:
        `Scores.figures`, and: notes (sentences), coverage (counts, and the share answered), reader,
        open_reader, package, release, run.
    """
    figures = scores.figures()
    silent = sum(number for code, number in Counter(scores.codes.values()).items() if code % 4 == SILENT)
    notes = [f"the positive class is {scores.reader.positive}"] * (scores.reader.positive != "yes")
    if figures["yes_ratio"] in (0, 1):
        said = "yes" if figures["yes_ratio"] else "no"
        notes.append(f"always {said}: every answer is {said}, whatever the picture; see the pair accuracy")
    if figures["no_answer"] > 0.05 * figures["n"]:
        notes.append(f"{figures['no_answer']:,} answers could not be read as yes or no: look at some of them")
    if silent:
        notes.append(f"{silent:,} answers are null or failed requests: ask these questions again")
    if len(scores.codes) < asked:
        notes.append(f"partial: {asked - len(scores.codes):,} of {asked:,} questions are not answered and do not count")
    coverage = {"questions": asked, "answered": len(scores.codes), "missing": asked - len(scores.codes)}
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
        reader: a name in READERS.
        task: discriminative (the yes/no questions), generative (the open-ended ones) or both; answers to the
            others are set aside and counted.
        partial: score what is there, where answers are missing or belong to no known question.
        judge: see Scores.
        run: what you state of `model`, `prompt` and `decoding`; goes into the report.

    Returns:
        The report (see `report`): plain numbers, texts, lists and dicts.

    Raises:
        AnswerError, RecordError, MatchError: see `collect_answers`, `index_questions` and `match`.

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
            raise MatchError(
                f"expected as many plain answers as references, in the same order; got {len(answers):,} and"
                f" {len(records):,}: give objects with question_id and answer to match them by id"
            )
        records = [
            {"question_id": at, "answer": row} if isinstance(row, str) else row for at, row in enumerate(records)
        ]
    questions = index_questions((f"references[{at}]", row) for at, row in enumerate(records))
    if plain:
        answers = [
            {"question_id": row["question_id"], "answer": answer} for row, answer in zip(records, answers, strict=False)
        ]
    scores = Scores(reader, judge)
    collected = collect_answers((f"predictions[{at}]", row) for at, row in enumerate(answers))
    asked = match(collected, questions, scores, functools.partial(is_asked, task=task), partial)
    result = report(scores, asked, run=run)
    paired = (question for question in questions.values() if question.pair_id)
    if hasattr(references, "split") and any(question.place.split is None for question in paired):
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


def _rows(path: str) -> Iterator[tuple[str, Any]]:
    """Reads JSON lines or an array from a file or "-": (file:line or file[index], value)."""
    name = "standard input" if path == "-" else path
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnswerError(
            f"expected UTF-8 text, JSON lines or an array, in {name}; got other bytes: {error}"
        ) from error
    is_array = text.lstrip()[:1] == "["
    for number, line in enumerate([text] if is_array else text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            got = _shown(line.strip())
            raise AnswerError(
                f"expected JSON, an object a line or one array; got {got} at {name}:{number}: {error}"
            ) from error
        if is_array:
            yield from ((f"{name}[{at}]", row) for at, row in enumerate(value))
        else:
            yield f"{name}:{number}", value


def read_answers(*paths: str) -> dict[str, str | None]:
    """Reads answer files, the shards of one; "-" is standard input.

    Raises:
        OSError: a file cannot be read.
        AnswerError, MatchError: see `collect_answers`.
    """
    return collect_answers(row for path in paths for row in _rows(path))


def find_release(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a release; fetch the records first where it is on the Hub.

    Args:
        root: a folder, or hf://datasets/NS/NAME[@REVISION]; None is the drawn sample of a clone.

    Raises:
        RecordError: there is no sample beside this file, or the Hub has no such release.
        ConnectionError: the Hub cannot be reached, and its records were not fetched before.
        ModuleNotFoundError: huggingface_hub is not installed.
    """
    if root is None:
        folder = Path(__file__).resolve().parent
        if not (folder / INDEX).is_file():
            raise RecordError(
                f"expected a release to score against; none is beside {Path(__file__).name}:"
                " give --root, the folder of one, or --repo-id, its repository on the Hub"
            )
        return folder
    text = os.fspath(root)
    if "://" in text:
        return fetch_records(text)
    if not text:
        raise RecordError(f"expected {_ROOTS} as root; got an empty text: name the release")
    return Path(os.path.expanduser(text))


def fetch_records(root: str) -> Path:
    """Fetch what scoring needs of a release on the Hub: index, records, taxonomy; no pictures.

    All files come from one commit, are compared with checksums.json, and stay in the cache of
    huggingface_hub: a second call needs no network.

    Args:
        root: hf://datasets/NS/NAME[@REVISION]: a branch, tag or commit; by default the main branch.

    Returns:
        The folder of that commit in the cache.

    Raises:
        RecordError: no such repository or revision, no release in it, or files that differ from
            its checksums.json.
        ConnectionError: the Hub cannot be reached, and a file was not fetched before.
        ModuleNotFoundError: huggingface_hub is not installed.
    """
    named = _HUB_ROOT.fullmatch(root.rstrip("/"))
    if not named or ".." in root:
        raise RecordError(f"expected {_ROOTS} as root; got {root!r}: correct the address")
    repo_id, revision = named[1], unquote(named[2] or "main")
    unreachable = _ask_hub(repo_id, revision)
    index = _download(repo_id, revision, INDEX, unreachable)
    commit = index.parent.name
    _, files = _read_index(index)
    for name, sha256 in files.items():
        if name != TAXONOMY and not _RECORDS_FILE.fullmatch(name):
            continue
        path = _download(repo_id, commit, name, unreachable)
        if _sha256(path) != sha256 and not unreachable:
            # The copy in the cache may be damaged: fetch it once more.
            path = _download(repo_id, commit, name, unreachable, force=True)
        if _sha256(path) != sha256:
            fault = f"expected {name} of {repo_id}@{commit} to be what its checksums.json states"
            raise RecordError(f"{fault}; it differs: choose another revision, or push it again")
    return index.parent


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _broken_connections() -> tuple[type[Exception], ...]:
    """Return what huggingface_hub raises when no answer comes; raise where it is not installed."""
    try:
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        missing = "expected huggingface_hub, to read a release on the Hub; it is not installed"
        raise ModuleNotFoundError(f"{missing}: pip install huggingface_hub") from error
    # The client of huggingface_hub 1 and later has errors of its own, which are no OSError.
    httpx = getattr(huggingface_hub.utils, "httpx", None)
    return (OSError, httpx.HTTPError) if httpx else (OSError,)


def _ask_hub(repo_id: str, revision: str) -> str | None:
    """Return why the Hub does not answer, or None if it does.

    Asked first because `hf_hub_download` tries for 25 seconds, with a log line each time, to reach
    a Hub that is not there.
    """
    broken = _broken_connections()
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo_id, INDEX, repo_type="dataset", revision=revision)
    try:
        get_hf_file_metadata(url, timeout=10.0)  # seconds
    except errors.HfHubHTTPError:
        return None  # an answer, which `_download` gets again and reports
    except broken as error:
        return _first_line(error)
    return None


def _download(
    repo_id: str,
    revision: str,
    name: str,
    unreachable: str | None,
    force: bool = False,
) -> Path:
    """Return the path in the cache of one file of a dataset repository.

    Args:
        repo_id: the repository.
        revision: branch, tag or commit.
        name: the file's path in it.
        unreachable: of `_ask_hub`; only the cache is read where the Hub does not answer.
        force: fetch the file even if the cache has it.
    """
    failed: tuple[type[Exception], ...] = (ValueError, RuntimeError, *_broken_connections())
    from huggingface_hub import constants, errors, hf_hub_download

    wanted = f"{name} of {repo_id}@{revision}"
    login = "log in with `hf auth login`"
    try:
        path = hf_hub_download(
            repo_id,
            name,
            repo_type="dataset",
            revision=revision,
            force_download=force,
            local_files_only=unreachable is not None,
        )
    except errors.GatedRepoError:
        fault = f"{repo_id} is gated: ask for access on its page, then {login}"
        raise RecordError(fault) from None
    except errors.RepositoryNotFoundError:
        fault = f"the Hub has no dataset {repo_id}, or it is private: correct the name, or {login}"
        raise RecordError(fault) from None
    except errors.RevisionNotFoundError:
        fault = f"{repo_id} has no branch, tag or commit {revision!r}: correct the revision"
        raise RecordError(fault) from None
    except errors.LocalEntryNotFoundError as error:
        reason = unreachable or _first_line(error.__cause__ or error)
        fault = f"the Hub cannot be reached ({reason}): run again with a network"
        if constants.HF_HUB_OFFLINE:
            fault = "HF_HUB_OFFLINE is set: run once without it"
        raise ConnectionError(f"{wanted} was not fetched before, and {fault}") from None
    except errors.EntryNotFoundError:
        fault = f"expected a release, but there is no {wanted}: choose another"
        raise RecordError(f"{fault} repository or revision") from None
    except failed as error:
        fault = f"{wanted} could not be fetched ({_first_line(error)})"
        raise ConnectionError(f"{fault}: run again; what was fetched is kept") from None
    return Path(path)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error, short, without signed addresses."""
    lines = re.sub(r"\?\S+", "", str(error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def load_release(
    root: str | os.PathLike[str] | None = None, config: str = "all", split: str = "all"
) -> tuple[dict[str, Question], dict[str, Any]]:
    """Read the records of a release and compare them with its checksums.

    Args:
        root: see `find_release`.
        config: all, or the domain that is needed; others are read where they are on disk.
        split: all, or the split that is needed.

    Returns:
        question_id -> Question; and the release's name, version, note, sha256 (of checksums.json), config and
        split.

    Raises:
        RecordError: no release, nothing of that config and split, or records that differ from the checksums.
        ConnectionError, ModuleNotFoundError: see `find_release`.
    """
    folder = find_release(root)
    info, files = _read_index(folder / INDEX)
    rows: list[tuple[str, Any]] = []
    found = False
    for name, sha256 in files.items():
        parts = _RECORDS_FILE.fullmatch(name)
        if parts:
            needed = config in ("all", parts[1]) and split in ("all", parts[2])
            found |= needed
            if needed or (folder / name).exists():
                rows += _records(folder / name, sha256, parts[2])
    if not found:
        wanted = f"records of config {config} and split {split}"
        raise RecordError(f"expected {wanted}; {folder / INDEX} lists none: choose others")
    return index_questions(rows), {**info, "config": config, "split": split}


def _read_index(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read checksums.json: name, version, note, sha256 of the release; path -> sha256 of a file."""
    try:
        sums = path.read_bytes()
        stated = json.loads(sums)
        info = {"name": stated["name"], "version": stated["version"], "note": stated.get("note")}
        files = {name: entry["sha256"] for name, entry in sorted(stated["files"].items())}
        if not all(isinstance(value, (str, type(None))) for value in info.values()):
            raise TypeError("name, version and note are not text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(
            f"expected a release, described by {path}; got {error!r}: give its folder as --root"
        ) from error
    return {**info, "sha256": hashlib.sha256(sums).hexdigest()}, files


def _records(path: Path, sha256: str, split: str) -> Iterator[tuple[str, Any]]:
    """Read a file of records and add the split, which only its name states."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise RecordError(f"expected {path} to be what checksums.json states; it differs: fetch the release again")
        rows = [json.loads(line) for line in data.decode("utf-8").split("\n") if line]
    except OSError as error:
        raise RecordError(
            f"expected {path}, which checksums.json lists; got {error}: fetch the release again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"expected JSON lines in {path}; got {error}") from error
    for number, row in enumerate(rows, 1):
        yield f"{path}:{number}", {**row, "split": split} if isinstance(row, dict) else row


# ---- command line ------------------------------------------------------------------------------------------

_YES_NO = {
    "n": "n", "acc": "accuracy", "prec": "precision", "rec": "recall", "F1": "f1",
    "pair acc": "pair_accuracy", "pairs": "pairs", "yes": "yes_ratio", "no answer": "no_answer_share",
}  # fmt: skip
_OPEN = {
    "n": "n",
    "acc": "accuracy",
    "correct": "correct",
    "incorrect": "incorrect",
    "no answer": "no_answer_share",
}


def shown(value: float | None) -> str:
    """Shows a count as it is, a ratio in percent, and an em dash for what is undefined.

    >>> shown(3000), shown(0.855), shown(None)
    ('3000', '85.50', '—')
    """
    return "—" if value is None else str(value) if isinstance(value, int) else f"{100 * value:.2f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Sets rows of text in columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=False)]
    lines = (
        [
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def heading(result: Mapping[str, Any]) -> str:
    """Says in a few lines what was scored and how: release, model, reader, coverage, notes."""
    lines, release, coverage = [], result["release"], result["coverage"]
    if release:
        where = f"config {release['config']}, split {release['split']}"
        lines.append(f"{release['name']} {release['version']}, checksums.json {release['sha256'][:16]}, {where}")
        lines += [release["note"]] * bool(release["note"])
    lines += [f"{key}: {value}" for key, value in result["run"].items() if value]
    how = [f"reader {result['reader']['name']} {result['reader']['version']}"] * bool(result["n"])
    how += [f"open-ended answers judged by {result['open_reader']}"] * bool(result["open_ended"])
    how += [f"{result['package']['name']} {result['package']['version']}"]
    lines.append(f"{', '.join(how)}; {coverage['answered']:,} of {coverage['questions']:,} questions answered")
    if coverage["set_aside"]:
        lines.append(f"{coverage['set_aside']:,} answers are to questions of another task, config or split: set aside")
    if coverage["unknown"]:
        lines.append(f"{coverage['unknown']:,} answers are to no known question: left out")
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])])


def table(result: Mapping[str, Any]) -> str:
    """Sets a report in tables, in percent: the paper's cells, domains, categories, splits, styles, all."""
    blocks = []
    for title, part, columns in (("yes/no", result, _YES_NO), ("open-ended", result["open_ended"], _OPEN)):
        if part and part["n"]:
            groupings = [part["by"][name] for name in GROUPINGS if name != "relation"]
            groupings.append({"all": part, "mean of the cells": part["by"]["cell"] and part.get("macro", {})})
            rows = [[title, *columns]]
            for group in filter(None, groupings):
                rows.append([""] * len(rows[0]))
                rows += [[key, *_row(figures, columns)] for key, figures in group.items() if figures]
            blocks.append(aligned(rows))
    return "\n\n".join(blocks)


def _row(figures: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    return [shown(figures[name]) if name in figures else "" for name in columns.values()]


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that this command and relation_report share."""
    parser = argparse.ArgumentParser(prog=prog, description=description, epilog="METRIC.md explains every figure.")
    add = parser.add_argument
    given = "JSON lines or array of question_id and answer; - is standard input; several files are shards of one"
    add("answers", nargs="+", metavar="ANSWERS", help=given)
    where = "folder of a release, or hf://datasets/NS/NAME[@REVISION] (default: the drawn sample of a clone)"
    add("--root", metavar="RELEASE", help=where)
    add("--repo-id", metavar="NS/NAME", help="a release on the Hub; only its records are fetched")
    add("--revision", metavar="REV", help="branch, tag or commit of --repo-id (main)")
    add("--config", default="all", choices=("all", *DOMAINS), help="domain (all)")
    add("--split", default="test", choices=("all", *SPLITS), help="split (test)")
    add(
        "--task",
        default=TASKS[0],
        choices=TASKS,
        help="yes/no questions, open-ended ones or both (discriminative)",
    )
    add("--reader", default="words", choices=READERS, help="how a yes/no answer is read (words)")
    add("--partial", action="store_true", help="score what is there, though answers are missing or unknown")
    add("--json", metavar="F", help="write the report, with the figures of every relation, into this file")
    for name in ("model", "prompt", "decoding"):
        add(f"--{name}", metavar="TEXT", help=f"what you state of the {name}; goes into the report")
    return parser


def choose_release(args: argparse.Namespace) -> Path:
    """Return the folder of the release that the arguments of `make_parser` name."""
    if args.repo_id is None and args.revision is not None:
        address = f"hf://datasets/NS/NAME@{args.revision}"
        raise RecordError(f"--revision belongs to --repo-id; with --root write {address}")
    if args.repo_id is None:
        return find_release(args.root)
    if args.root is not None:
        raise RecordError("--root and --repo-id each name a release: give one of them")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.repo_id):
        raise RecordError(f"expected NS/NAME, a dataset on the Hub, as --repo-id; got {args.repo_id!r}")
    revision = "" if args.revision is None else f"@{args.revision}"
    return find_release(f"hf://datasets/{args.repo_id}{revision}")


def score_files(
    args: argparse.Namespace, folder: Path, paths: Sequence[str], questions: Mapping[str, Question]
) -> tuple[Scores, int]:
    """Score answer files by the arguments of `make_parser`.

    Args:
        args: the arguments.
        folder: of `choose_release`.
        paths: the answer files.
        questions: of `load_release`.

    Returns:
        The scores, and how many questions are asked.
    """
    taxonomy = load_taxonomy(folder / TAXONOMY) if args.task != TASKS[0] else None
    scores = Scores(args.reader, taxonomy=taxonomy)
    asked = functools.partial(is_asked, task=args.task, config=args.config, split=args.split)
    return scores, match(read_answers(*paths), questions, scores, asked, args.partial)


def stated(args: argparse.Namespace) -> dict[str, str | None]:
    """Returns what the caller states of the run."""
    return {"model": args.model, "prompt": args.prompt, "decoding": args.decoding}


def write_json(result: Mapping[str, Any], path: str) -> None:
    """Writes a report; raises OSError if the file cannot be written."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    # A lone surrogate, such as a byte of --model that is not UTF-8, becomes an escape of JSON.
    Path(path).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


_UNPRINTABLE = re.compile(r"[^\n -~\u00a0-\ud7ff\ue000-\U0010ffff]")


def printable(text: str) -> str:
    r"""Return text with control characters and lone surrogates escaped; line ends stay.

    >>> printable("a\x1b[2J\n\ud800")
    'a\\x1b[2J\n\\ud800'
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def sample_line(args: argparse.Namespace) -> list[str]:
    """Return the first line of the output where the arguments name no release, else nothing."""
    if args.root is not None or args.repo_id is not None:
        return []
    others = "name a release with --root or --repo-id"
    return [f"Scored on the drawn sample of this clone, not on the benchmark: {others}."]


def run_command(
    command: Callable[[argparse.Namespace], str], parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> int:
    """Prints what a command returns, and returns the exit status.

    A user's error is one line on standard error, with status 1; so is Ctrl-C, with status 130. When
    nobody reads the output any more, as after `| head`, the status is 1 and nothing is said.
    """
    try:
        try:
            print(printable(command(parser.parse_args(argv))))
        finally:
            print(end="", flush=True)  # argparse's help, too
    except BrokenPipeError:
        status = 1
    except KeyboardInterrupt:
        again = "the same command starts again from the beginning"
        print(f"{parser.prog}: stopped; {again}", file=sys.stderr)
        status = 130
    except (AnswerError, RecordError, MatchError, OSError, ModuleNotFoundError) as error:
        print(f"{parser.prog}: {printable(str(error))}", file=sys.stderr)
        status = 1
    else:
        return 0
    _settle_output()
    return status


def _settle_output() -> None:
    """Drops what cannot be written to standard output; Python complains of it at its end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(args: argparse.Namespace) -> str:
    folder = choose_release(args)
    questions, release = load_release(folder, args.config, args.split)
    scores, asked = score_files(args, folder, args.answers, questions)
    result = report(scores, asked, release, stated(args))
    if args.json:
        write_json(result, args.json)
    return "\n".join([*sample_line(args), heading(result), "", table(result)])


def main(argv: Sequence[str] | None = None) -> int:
    """Scores answer files against a release, prints the paper's table, and returns the exit status."""
    return run_command(_command, make_parser("relation_accuracy", "Scores answers to the questions of MMRel."), argv)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Score answers to MMRel's questions: read each answer, match it by id, count, report.

    python relation_accuracy.py ANSWERS --root RELEASE --config all --split test

Copied alone, this file scores yes/no answers with the standard library. Other readers, open-ended
answers, datasets and the command need `mmrel_kit`. docs/metric.md explains every figure and rule.
"""

from __future__ import annotations

import importlib
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

__version__ = "1.0.0"

DOMAINS = ("real", "sdxl", "dalle")
SPLITS = ("train", "test", "adversarial")
CATEGORIES = ("spatial", "action", "comparative")
# The labels of a task's questions; an open-ended question is "open".
LABELS = {"discriminative": ("yes", "no"), "generative": ("open",), "both": ("yes", "no", "open")}
TASKS = tuple(LABELS)
GROUPINGS = ("cell", "domain", "category", "split", "style", "relation")
MEANS = ("accuracy", "precision", "recall", "f1", "pair_accuracy")
# What harnesses write in place of an answer when the request failed: lmms-eval 0.7, VLMEvalKit.
FAILED = ("[LMMS_EVAL_REQUEST_FAILED", "Failed to obtain answer via API")


class AnswerError(ValueError):
    """The answers or the references cannot be scored; the message says which, and why."""


# --- Read yes or no ---

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_TAG = re.compile(r"</?(?!yes\b|no\b)[a-z][^<>]*>")
_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[.,:;!?/\n\r\u2013\u2014\u3001\u3002\u2028\u2029-]")
# normalize() sorts a run of combining marks in quadratic time, so it gets short runs.
_NOT_ASCII = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]{1,64}")
_LABEL = (
    r"(?:the |my )?(?:final |correct |right |short |best )?"
    r"(?:answer|response|reply|output|prediction|conclusion)"
    r"(?: to (?:the|this|that|your) question)?(?: (?:is|would be|should be))?"
    r"|assistant|gpt|model|boxed|text"
)
_LEAD = re.compile(rf"[. ]*(?:(?:\d{{1,3}}|[a-h]|{_LABEL})(?= |$)[. ]*){{0,6}}(yes|no)(?= |$)")
_IDIOM = re.compile(
    r"(?:^|(?<= ))(?:no (?:idea|clue|doubt|question|matter|problem|worries|wonder|comment"
    r"|information|response|(?:\w+ )?answer|way (?:to|of)"
    r"|(?:image|picture|photo)s?(?: is| was| has been)? "
    r"(?:provided|attached|uploaded|given|available|included))"
    r"|(?:not|cannot|[a-z]{1,8}n't) (?:say |answer )?(?:yes|no)(?: n?or (?:yes|no))?)(?= |$)"
)
# A "no" that belongs to no noun: at the end of a part of the sentence, or before one of these.
_OWN_NO = re.compile(
    r"(?:^| )no(?= \.|$| (?:yes|no|and|or|but|i|it|it's|there|there's|the|a|an|this|that|that's"
    r"|these|those|they|he|she|we|you)(?: |$))"
)


def fold_text(text: str) -> str:
    """Return text in Unicode's compatibility form, without case and invisible characters."""
    if not text.isascii():
        text = _NOT_ASCII.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
        text = _INVISIBLE.sub("", text).replace("\u2019", "'").replace("\u2010", "-")
    return text.casefold()


def take_reply(text: str) -> str:
    """Return the folded text after a model's reasoning; nothing if the reasoning does not end."""
    reply = fold_text(text).rpartition("</think>")[2]
    return "" if "<think>" in reply else reply


def split_words(folded: str) -> str:
    """Return the words of folded text with a space between them; "." divides a sentence."""
    tokens = _TOKEN.findall(_TAG.sub(" ", folded))
    return " ".join(token if token[0].isalnum() else "." for token in tokens)


def read_words(text: str, label: str = "") -> str | None:
    """Read yes, no or no answer (None) by the words `yes` and `no` alone; the label is not used.

    The word that leads is the answer, after numbering or a label such as "The answer is", unless
    its opposite follows on its own. Without a lead, it is the only one of the two in the text.
    Idioms in which they answer nothing ("no idea", "not yes") do not count.

    >>> [read_words(text) for text in ("**Yes**, no dog is there", "No dog", "Yes/No", "No idea")]
    ['yes', 'no', None, None]
    """
    return _read_words(text) if len(text) > 80 else _read_short(text)


def _read_words(text: str) -> str | None:
    words = _IDIOM.sub("~", split_words(take_reply(text)))
    has_yes, has_no = (f" {word} " in f" {words} " for word in ("yes", "no"))
    lead = _LEAD.match(words)
    if lead:
        opposite = has_yes if lead[1] == "no" else _OWN_NO.search(words)
        return None if opposite else lead[1]
    if has_yes == has_no:
        return None
    return "yes" if has_yes else "no"


_read_short = lru_cache(maxsize=4096)(_read_words)  # most answers are the same few words


class Reader(NamedTuple):
    """A way to read yes/no answers; `read` gets the answer and the label."""

    name: str
    version: str  # the first number changes when old scores would
    read: Callable[[str, str], str | None]
    positive: str = "yes"
    recall_over_read: bool = False  # recall leaves out what could not be read; it is no miss


WORDS = Reader("words", "1.0", read_words)


def find_reader(name: str) -> Reader:
    """Return the reader of a name; those beside `words` are in `mmrel_kit.scoring.readers`."""
    if name == WORDS.name:
        return WORDS
    readers: dict[str, Reader] = _import_kit("scoring.readers", f"the reader {name!r}").READERS
    if name not in readers:
        _fail("reader", f"one of {', '.join(readers)}", name)
    return readers[name]


def _import_kit(module: str, wanted: str) -> Any:
    """Import a module of `mmrel_kit`, which is missing where this file was copied alone."""
    try:
        return importlib.import_module(f"mmrel_kit.{module}")
    except ModuleNotFoundError as error:
        if error.name != "mmrel_kit":
            raise
        missing = f"{wanted} needs the package mmrel_kit, which is not beside {Path(__file__).name}"
        advice = "use a clone of MMRel, or run 'pip install .' in one"
        raise ModuleNotFoundError(f"{missing}: {advice}", name=error.name) from error


# --- Match answers and questions by id ---


class Question(NamedTuple):
    """What the metric needs of a record."""

    label: str  # yes or no; open if it is open-ended
    groups: tuple[tuple[str, str], ...]  # (grouping, name) of all that it counts in
    pair: tuple[str | None, str] | None  # split and pair_id
    image_id: str | None
    record: Mapping[str, Any]


class Row(NamedTuple):
    """A question and the reply to it."""

    question: Question
    reply: str  # yes or no; correct or incorrect; unread in the answer; silent: no answer came


def collect_answers(rows: Iterable[tuple[str, Any]]) -> dict[str, str | None]:
    """Return answers by question_id, None where none came.

    `rows` are pairs of where an object is, for errors, and the object. Its id is `question_id` (in
    AMBER `id`), its answer the one of `answer`, `response` and `prediction`, else `text`.
    """
    answers: dict[str, str | None] = {}
    for where, row in rows:
        if not isinstance(row, Mapping):
            _fail(where, "an object with question_id and answer", row)
        name = _take_text(row, "question_id" if "question_id" in row else "id", where)
        keys = [key for key in ("answer", "response", "prediction") if key in row] or ["text"]
        if name is None or len(keys) > 1 or keys[0] not in row:
            wanted = "question_id and one of answer, response, prediction, text"
            _fail(where, wanted, list(row))
        answer = row[keys[0]]
        if not isinstance(answer, (str, type(None))):
            _fail(where, "what the model wrote, as text, or null", answer)
        if name in answers:
            _fail(where, "no second answer to a question", name, "leave one of each")
        answers[name] = answer
    return answers


def index_questions(rows: Iterable[tuple[str, Any]]) -> dict[str, Question]:
    """Return questions by question_id.

    `rows` are pairs of where a record of the contract is, for errors, and the record. It needs
    `question_id` and `answer`, and `task` if it is open-ended.
    """
    questions: dict[str, Question] = {}
    for where, row in rows:
        if not isinstance(row, Mapping) or not isinstance(row.get("answer"), str):
            _fail(where, "a record with question_id and, as text, answer", row)
        name, image_id, pair_id, split, *names = [_take_text(row, key, where) for key in _KEYS]
        is_open = row.get("task") == "generative"
        label = "open" if is_open else row["answer"].strip().casefold()
        if name is None or not (is_open or label in ("yes", "no")):
            _fail(where, "question_id, and the label yes or no unless the task is generative", row)
        if name in questions:
            _fail(where, "no question_id twice", name)
        pair = None if pair_id is None else (split, pair_id)
        questions[name] = Question(label, _list_groups(split, *names), pair, image_id, row)
    return questions


_KEYS = ("question_id", "image_id", "pair_id", "split", "domain", "category", "style", "relation")


@lru_cache(maxsize=4096)
def _list_groups(*names: str | None) -> tuple[tuple[str, str], ...]:
    """Return the grouping and name of all that a question counts in; equal ones are one object."""
    split, domain, category, style, relation = names
    cell = f"{domain}/{category}" if domain and category else None
    named = zip(GROUPINGS, (cell, domain, category, split, style, relation), strict=True)
    return (("all", "all"), *((grouping, name) for grouping, name in named if name is not None))


def _take_text(row: Mapping[str, Any], key: str, where: str) -> Any:
    """Return an id or a name as text, so that 17 and "17" are one."""
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, (str, type(None))):
        _fail(where, f"text or a whole number as {key}", value)
    return value


def _fail(where: str, wanted: str, got: object, advice: str = "") -> NoReturn:
    got = _list(got) if isinstance(got, list) else f"{type(got).__name__} {repr(got)[:60]}"
    message = f"{where}: expected {wanted}; got {got}"
    raise AnswerError(f"{message}: {advice}" if advice else message)


def _list(names: list[Any]) -> str:
    """Return the number of names, and the first ten."""
    first = ", ".join(repr(name)[:80] for name in names[:10])
    return f"{len(names):,} ({first}{', ...' if len(names) > 10 else ''})"


# (answer, record) -> "correct", "incorrect", or None for no answer
Judge = Callable[[str, Mapping[str, Any]], "str | None"]


@dataclass
class Scores:
    """The answered questions by question_id, and what was asked and not answered."""

    reader: Reader = WORDS
    judge: Judge | None = None  # of open-ended answers; None for the taxonomy of `mmrel_kit`
    rows: dict[str, Row] = field(default_factory=dict)
    asked: int = 0  # questions
    unknown: int = 0  # answers to no known question
    set_aside: int = 0  # answers to questions that were not asked

    def read(self, question: Question, answer: str | None) -> Row:
        """Return the row of a question and the answer to it."""
        if answer is None or answer.lstrip().startswith(FAILED):
            reply = "silent"
        elif question.label == "open":
            reply = _open_ended().judge_answer(answer, question.record, self.judge) or "unread"
        else:
            reply = self.reader.read(answer, question.label) or "unread"
        return Row(question, reply)


def _open_ended() -> Any:
    return _import_kit("scoring.open_ended", "an open-ended answer")


def is_correct(label: str, reply: str) -> bool:
    """Return whether a reply is right; no answer is not."""
    return reply in (label, "correct")


def judge_answer(
    answer: str | None, record: Mapping[str, Any], reader: str = "words"
) -> str | None:
    """Judge one answer: "correct", "incorrect", or None for no answer.

    >>> judge_answer("Yes, it is.", {"question_id": "q1", "answer": "no"})
    'incorrect'
    """
    (question,) = index_questions([("record", record)]).values()
    reply = Scores(find_reader(reader)).read(question, answer).reply
    if reply in ("unread", "silent"):
        return None
    return "correct" if is_correct(question.label, reply) else "incorrect"


def match(
    answers: Mapping[str, str | None],
    questions: Mapping[str, Question],
    scores: Scores,
    asked: Callable[[Question], bool],
    partial: bool = False,
) -> None:
    """Add the answers to the questions that `asked` chooses to the scores; set others aside.

    Raises:
        AnswerError: nothing is asked, or answers are missing or to no known question; if partial,
            only where all of them are.
    """
    chosen = {name: question for name, question in questions.items() if asked(question)}
    again = [name for name in chosen if name in scores.rows]
    missing = [name for name in chosen if name not in answers]
    unknown = [name for name in answers if name not in questions]
    if questions and not chosen:
        _fail("questions", "some of the task, config and split chosen", list(questions))
    if again:
        _fail("questions", "none that was scored before", again)
    if chosen and len(missing) == len(chosen):
        wanted = f"some to the {len(chosen):,} questions asked, such as {missing[0]!r}"
        _fail("answers", wanted, list(answers), "give the answers to these questions")
    if (missing or unknown) and not partial:
        faults = {"missing": missing, "unknown": unknown}
        got = "; ".join(f"{fault} {_list(names)}" for fault, names in faults.items() if names)
        advice = "give them all, or score what is there with --partial (partial=True)"
        wanted = f"expected an answer to each of {len(chosen):,} questions"
        raise AnswerError(f"{wanted}; got {got}: {advice}")
    for name, question in chosen.items():
        if name in answers:
            scores.rows[name] = scores.read(question, answers[name])
    scores.asked += len(chosen)
    scores.unknown += len(unknown)
    scores.set_aside += len(answers) - len(unknown) - (len(chosen) - len(missing))


# --- Count ---


def tally(rows: Iterable[Row]) -> dict[tuple[str, str], Counter[Any]]:
    """Count rows by grouping and name; those of ("all", "all") are all.

    A counter holds questions by (label, reply), `pairs` (of one `pair_id` in a split, with a yes
    and a no), `right pairs` (every question is answered right) and `paired` questions. A pair
    counts where its yes question is, since the no of an action names another verb.
    """
    outcomes = []
    pairs = defaultdict(list)
    for question, reply in rows:
        outcome = question.groups, question.label, reply
        outcomes.append(outcome)
        if question.pair is not None and question.label != "open":
            pairs[question.pair].append(outcome)
    tallies: defaultdict[tuple[str, str], Counter[Any]] = defaultdict(Counter)
    for (groups, label, reply), number in Counter(outcomes).items():
        for group in groups:
            tallies[group][label, reply] += number
    for pair, number in Counter(map(tuple, pairs.values())).items():
        if len({label for _, label, _ in pair}) < 2:
            continue
        is_right = all(is_correct(label, reply) for _, label, reply in pair)
        for group in set().union(*(groups for groups, label, _ in pair if label == "yes")):
            tallies[group]["pairs"] += number
            tallies[group]["right pairs"] += number * is_right
        for groups, _, _ in pair:
            for group in groups:
                tallies[group]["paired"] += number
    return tallies


def yes_no_figures(counts: Counter[Any], reader: Reader = WORDS) -> dict[str, Any]:
    """Return counts and ratios of yes/no questions; a ratio is from 0 to 1, None if undefined.

    No answer is wrong in accuracy, never enters precision, and is a miss in recall and F1 where
    the label is the positive class (unless the reader leaves it out there).
    """
    positive, negative = ("yes", "no") if reader.positive == "yes" else ("no", "yes")
    tp, fn = counts[positive, positive], counts[positive, negative]
    tn, fp = counts[negative, negative], counts[negative, positive]
    missed = counts[positive, "unread"] + counts[positive, "silent"]
    no_answer = missed + counts[negative, "unread"] + counts[negative, "silent"]
    n = tp + fn + tn + fp + no_answer
    positives = tp + fn if reader.recall_over_read else tp + fn + missed
    return {
        "n": n,
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
        "no_answer": no_answer,
        "accuracy": divide(tp + tn, n),
        "precision": divide(tp, tp + fp),
        "recall": divide(tp, positives),
        "f1": divide(2 * tp, tp + fp + positives),
        "yes_ratio": divide(counts["yes", "yes"] + counts["no", "yes"], n - no_answer),
        "no_answer_share": divide(no_answer, n),
        "pairs": counts["pairs"],
        "pair_accuracy": divide(counts["right pairs"], counts["pairs"]),
        "unpaired": n - counts["paired"],
    }


def divide(part: int, whole: int) -> float | None:
    """Return a ratio, or None where it is undefined."""
    return part / whole if whole else None


def tabulate(
    tallies: Mapping[tuple[str, str], Counter[Any]],
    figures: Callable[[Counter[Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Return the figures of all questions and, under `by`, of each group in the paper's order."""
    order = (*DOMAINS, *CATEGORIES, *SPLITS)

    def rank(group: tuple[str, str]) -> list[tuple[int, str]]:
        parts = group[1].split("/")
        return [(order.index(part) if part in order else len(order), part) for part in parts]

    by: dict[str, dict[str, Any]] = {grouping: {} for grouping in GROUPINGS}
    result = figures(tallies.get(("all", "all"), Counter()))
    for grouping, name in sorted(tallies, key=rank):
        part = figures(tallies[grouping, name])
        if part["n"] and grouping != "all":
            by[grouping][name] = part
    return {**result, "by": by}


def make_figures(scores: Scores) -> dict[str, Any]:
    """Return the paper's table: figures of all yes/no questions, `by`, `macro` and `open_ended`.

    `macro` are means over the cells, None where one has none; `open_ended` is None where there is
    no such question.
    """
    tallies = tally(scores.rows.values())
    result = tabulate(tallies, lambda counts: yes_no_figures(counts, scores.reader))
    result["macro"] = {}
    for name in MEANS:
        values = [cell[name] for cell in result["by"]["cell"].values()]
        is_defined = values and None not in values
        result["macro"][name] = sum(values) / len(values) if is_defined else None
    result["open_ended"] = None
    if any(row.question.label == "open" for row in scores.rows.values()):
        result["open_ended"] = tabulate(tallies, _open_ended().make_figures)
    return result


def report(
    scores: Scores,
    release: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the figures, with what makes them comparable.

    `release` is what was scored (see `mmrel_kit.scoring.release`), `run` what the caller states.
    """
    result = make_figures(scores)
    reader, answered = scores.reader, len(scores.rows)
    missing = scores.asked - answered
    silent = sum(row.reply == "silent" for row in scores.rows.values())
    notes = []
    if reader.positive != "yes":
        notes.append(f"the positive class is {reader.positive}")
    if result["yes_ratio"] in (0, 1):
        word = "yes" if result["yes_ratio"] else "no"
        same = f"every answer is {word}, whatever the picture"
        notes.append(f"always {word}: {same}; see the pair accuracy")
    if result["no_answer"] > 0.05 * result["n"]:
        unread = f"{result['no_answer']:,} answers could not be read as yes or no"
        notes.append(f"{unread}: look at some of them")
    if silent:
        notes.append(f"{silent:,} answers are null or failed requests: ask these questions again")
    if missing:
        unanswered = f"{missing:,} of {scores.asked:,} questions are not answered"
        notes.append(f"partial: {unanswered} and do not count")
    coverage = {"questions": scores.asked, "answered": answered, "missing": missing}
    coverage |= {"unknown": scores.unknown, "set_aside": scores.set_aside, "silent": silent}
    return {
        **result,
        "notes": notes,
        "coverage": {**coverage, "share": divide(answered, scores.asked)},
        "reader": {"name": reader.name, "version": reader.version, "positive": reader.positive},
        "open_reader": _open_ended().name_judge(scores.judge) if result["open_ended"] else None,
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
    """Score answers against references, and return the report that docs/metric.md explains.

    Args:
        predictions: objects with `question_id` and `answer`; or plain answers in the order of the
            references, text or None.
        references: records of the contract, or what `load_dataset` returns; beside plain answers
            also plain labels.
        reader: `words`, or the name of a reader in `mmrel_kit.scoring.readers`.
        task: discriminative (yes/no questions), generative (open-ended ones) or both.
        partial: score what is there, where answers are missing or to no known question.
        judge: judges open-ended answers in place of the taxonomy of `mmrel_kit`.
        run: what you state of `model`, `prompt` and `decoding`; goes into the report.

    Raises:
        AnswerError: predictions and references cannot be read, or do not match.
        ModuleNotFoundError: what is asked for needs `mmrel_kit`.

    >>> compute(predictions=["Yes.", "There is no dog"], references=["yes", "yes"])["accuracy"]
    0.5
    """
    if task not in TASKS:
        _fail("task", f"one of {', '.join(TASKS)}", task)
    answers, records = _list_rows(predictions), _list_rows(references)
    if not any(isinstance(answer, Mapping) for answer in answers):
        if len(answers) != len(records):
            _fail("predictions", f"as many plain answers as references, {len(records):,}", answers)
        for at, record in enumerate(records):
            if isinstance(record, str):
                records[at] = {"question_id": at, "answer": record}
            answers[at] = {"question_id": records[at]["question_id"], "answer": answers[at]}
    questions = index_questions((f"references[{at}]", row) for at, row in enumerate(records))
    collected = collect_answers((f"predictions[{at}]", row) for at, row in enumerate(answers))
    scores = Scores(find_reader(reader), judge)
    asked_labels = LABELS[task]
    match(collected, questions, scores, lambda question: question.label in asked_labels, partial)
    result = report(scores, run=run)
    if hasattr(references, "with_format"):
        result["notes"] += _import_kit("scoring.datasets", "a dataset").list_notes(records)
    return result


def _list_rows(rows: Any) -> list[Any]:
    """Return the elements of a list, or the rows of what `load_dataset` returns."""
    parts = rows.values() if isinstance(rows, Mapping) else [rows]
    if parts and all(hasattr(part, "with_format") for part in parts):
        return list(_import_kit("scoring.datasets", "a dataset").list_rows(rows))
    if isinstance(rows, (str, Mapping)):
        _fail("compute", "lists of predictions and of references", rows)
    return list(rows)


def _run() -> int:
    """Run this file as the command `score`, or `report` where that is the first word."""
    given = sys.argv[1:]
    if given[:1] not in (["score"], ["report"]):
        given = ["score", *given]
    try:
        cli = _import_kit("cli", "the command")
    except ModuleNotFoundError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    cli.guard_start("relation_accuracy.py")
    status: int = cli.main(given, verbs=("score", "report"), prog="relation_accuracy.py")
    return status


if __name__ == "__main__":
    sys.exit(_run())

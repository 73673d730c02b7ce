# SPDX-License-Identifier: Apache-2.0
"""The record of a question, and the grammars that parse a question and word a triplet."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.files import SCHEMA_FOLDER, InputError, make_json
from mmrel_kit.questions.taxonomy import PARTICLES

ANSWERS = ("yes", "no")

# Upstream's grammars. Whether "to" follows a relation depends on the domain: always in real, never
# in sdxl, in dalle only after left and right (true of 1,549 real yes/no records).
SPATIAL = ("above", "on", "in", "under", "left", "right", "over")
_SPATIAL = re.compile(rf"Is there an? (.+?) ({'|'.join(SPATIAL)})(?: to)? an? (.+) in the image\?")
_ACTION = re.compile(r"Does an? (.+) an? (.+) in the image\?")
_COMPARATIVE = re.compile(r"Is an? (.+) (\S+) than an? (.+) in the image\?")
# The wording of our own open questions; the answer names the relation. Upstream's is not known.
OPEN_QUESTION = "What is the {category} relation of {subject} to {object} in the image?"
_OPEN = re.compile(
    OPEN_QUESTION.replace("?", r"\?").format(
        category=f"({'|'.join(mmrel.CATEGORIES)})", subject="an? (.+?)", object="an? (.+)"
    )
)
MAX_QUESTION = 2000  # characters, as in the contract
_DALLE_NAME = re.compile(r"[0-9]+(?:_(?P<style>.+))?\.\w+")


class Triplet(NamedTuple):
    """Subject, relation and object of a question."""

    subject: str
    relation: str
    object: str


class ParsedQuestion(NamedTuple):
    """Category, task and triplet of a question; the relation of an open question is None."""

    category: str
    task: str
    subject: str
    relation: str | None
    object: str


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One question about one picture; schema/record.schema.json describes the fields."""

    question_id: str
    image_id: str
    domain: str
    category: str
    task: str
    subject: str | None
    relation: str | None
    object: str | None
    question: str
    instruction: str | None
    answer: str
    style: str | None
    pair_id: str | None
    source: str
    verification: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as its JSON object, without a `verification` of None."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        if fields["verification"] is None:
            del fields["verification"]
        return fields


def parse_question(question: str) -> ParsedQuestion:
    """Parse a question, without its instruction, by MMRel's grammars.

    >>> parsed = parse_question("Is there a flower above to a car in the image?")
    >>> parsed.category, parsed.subject, parsed.relation, parsed.object
    ('spatial', 'flower', 'above', 'car')

    Raises:
        InputError: no grammar matches it.
    """
    parsed = _match_grammars(question) if len(question) <= MAX_QUESTION else None
    if parsed and _is_clean(parsed):
        return parsed
    raise InputError(
        "expected 'Is there a S REL [to] a O in the image?', 'Does a S VERB a O in the image?', "
        f"'Is a S ADJ than a O in the image?' or '{OPEN_QUESTION}', got {question[:200]!r}"
    )


def make_prompt(record: Mapping[str, Any]) -> str:
    """Return the prompt that goes with the picture: the question, then the instruction, if any.

    >>> record = {"question": "Is a bus bigger than a cup in the image?"}
    >>> make_prompt({**record, "instruction": "Answer with one word."})
    'Is a bus bigger than a cup in the image? Answer with one word.'
    """
    return " ".join(filter(None, (record["question"], record["instruction"])))


def article(name: str) -> str:
    """Return upstream's article: "an" before a, e, i, o, u (true of 3,098 in real records)."""
    return "an" if name[:1].lower() in set("aeiou") else "a"


def make_question(
    domain: str,
    category: str,
    triplet: Triplet,
    task: str = "discriminative",
    article: Callable[[str], str] = article,
) -> str:
    """Return the question about a triplet in upstream's words; the inverse of `parse_question`.

    `article` returns the article of a name. Upstream's is "an" before every vowel ("an unicycle");
    `parse_question` accepts either.

    >>> make_question("real", "spatial", Triplet("flower", "above", "car"))
    'Is there a flower above to a car in the image?'

    Raises:
        InputError: the question would be parsed as another triplet.
    """
    subject, relation, object_ = triplet
    first, second = f"{article(subject)} {subject}", f"{article(object_)} {object_}"
    if task == "generative":
        question = OPEN_QUESTION.format(category=category, subject=first, object=second)
    elif category == "spatial":
        is_dalle_side = domain == "dalle" and relation in ("left", "right")
        to = " to" if domain == "real" or is_dalle_side else ""
        question = f"Is there {first} {relation}{to} {second} in the image?"
    elif category == "action":
        question = f"Does {first} {relation} {second} in the image?"
    else:
        question = f"Is {first} {relation} than {second} in the image?"
    asked = None if task == "generative" else relation
    if parse_question(question) != ParsedQuestion(category, task, subject, asked, object_):
        raise InputError(
            f"{category} triplet {tuple(triplet)}: "
            f"its question {question!r} is parsed as another triplet"
        )
    return question


def make_pair_id(image_id: str, category: str, subject: str, object_: str) -> str:
    """Return the id of the yes/no questions about one picture, category and unordered pair."""
    parts = (image_id, category, *sorted((subject.casefold(), object_.casefold())))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def parse_image_path(path: str) -> tuple[str, str | None]:
    """Return domain and style of a picture's path under the upstream root.

    Raises:
        InputError: the path is not one of MMRel's.
    """
    root, _, rest = path.partition("/")
    domain = {"vg": "real", "SPEC": "sdxl", "Dall-E_generated": "dalle"}.get(root)
    if domain is None or not rest:
        raise InputError(
            f"expected a picture under vg/, SPEC/ or Dall-E_generated/, got {path[:200]!r}"
        )
    match = _DALLE_NAME.fullmatch(path.rpartition("/")[2]) if domain == "dalle" else None
    return domain, match["style"] if match else None


def check_record(record: dict[str, Any]) -> str | None:
    """Return how a record violates the contract, or None."""
    for name, value in record.items():
        text = make_json(value) if isinstance(value, (dict, list)) else str(value)
        if not _is_encodable(name):
            return f"field {name[:80]!a}: expected a field of the contract"
        if not _is_encodable(text):
            return f"field {name}: expected text, got half of a surrogate pair in {text[:80]!a}"
    return contract_validator()(record)


@functools.cache
def contract_validator() -> Callable[[Any], str | None]:
    """Return a function that returns how a record violates the contract, or None."""
    schema = (SCHEMA_FOLDER / "record.schema.json").read_text("utf-8")
    return mmrel.make_validator(json.loads(schema))


def _match_grammars(question: str) -> ParsedQuestion | None:
    match = _SPATIAL.fullmatch(question)
    if match:
        return ParsedQuestion("spatial", "discriminative", *match.groups())
    match = _COMPARATIVE.fullmatch(question)
    if match:
        return ParsedQuestion("comparative", "discriminative", *match.groups())
    match = _OPEN.fullmatch(question)
    if match:
        return ParsedQuestion(match[1], "generative", match[2], None, match[3])
    match = _ACTION.fullmatch(question)
    words = match[1].split(" ") if match else []
    if not match or len(words) < 2:
        return None
    # A verb is one word, or two with a particle.
    length = 2 if len(words) > 2 and words[-1] in PARTICLES else 1
    subject, verb = " ".join(words[:-length]), " ".join(words[-length:])
    return ParsedQuestion("action", "discriminative", subject, verb, match[2])


def _is_clean(parsed: ParsedQuestion) -> bool:
    """Return whether all names are non-empty, without outer spaces and question marks."""
    names = (parsed.subject, parsed.object, parsed.relation or "relation")
    return all(name and name == name.strip() and "?" not in name for name in names)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

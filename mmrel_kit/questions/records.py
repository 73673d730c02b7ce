# SPDX-License-Identifier: Apache-2.0
"""The record, and the grammars that turn a question into a triplet and back."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from mmrel_kit.files import SCHEMA_FOLDER, InputError, make_json
from mmrel_kit.questions.taxonomy import PARTICLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

ANSWERS = ("yes", "no")

# Upstream's grammars. Whether "to" follows a relation depends on the domain: always in real, never
# in sdxl, in dalle only after left and right (seen in the 1,549 yes/no records at hand).
SPATIAL = ("above", "on", "in", "under", "left", "right", "over")
_SPATIAL = re.compile(rf"Is there an? (.+?) ({'|'.join(SPATIAL)})(?: to)? an? (.+) in the image\?")
_ACTION = re.compile(r"Does an? (.+) an? (.+) in the image\?")
_COMPARATIVE = re.compile(r"Is an? (.+) (\S+) than an? (.+) in the image\?")
# Our own open questions; the answer names the relation. The form of upstream's is not known.
OPEN_QUESTION = "What is the {category} relation of {subject} to {object} in the image?"
_OPEN = re.compile(
    OPEN_QUESTION.replace("?", r"\?").format(
        category=f"({'|'.join(mmrel.CATEGORIES)})", subject="an? (.+?)", object="an? (.+)"
    )
)
MAX_QUESTION = 2000  # characters; the contract's bound
_DALLE_NAME = re.compile(r"[0-9]+(?:_(?P<style>.+))?\.\w+")


class Triplet(NamedTuple):
    """Subject, relation and object that a question is about."""

    subject: str
    relation: str
    object: str


class ParsedQuestion(NamedTuple):
    """Category, task and triplet of a question, by its grammar.

    An open question leaves out the relation.
    """

    category: str
    task: str
    subject: str
    relation: str | None
    object: str


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One question about one picture; schema/record.schema.json gives each field its meaning."""

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
    """Read a question without its instruction by MMRel's grammars.

    >>> parse_question("Is there a flower above to a car in the image?")
    ParsedQuestion(category='spatial', task='discriminative', subject='flower', relation='above', object='car')

    Raises:
        InputError: no grammar reads it.
    """
    reading = _match(question) if len(question) <= MAX_QUESTION else None
    if reading and _is_clean(reading):
        return reading
    raise InputError(
        "expected 'Is there a S REL [to] a O in the image?', 'Does a S VERB a O in the image?', "
        f"'Is a S ADJ than a O in the image?' or '{OPEN_QUESTION}', got {question[:200]!r}"
    )


def make_prompt(record: Mapping[str, Any]) -> str:
    """Return what a model is sent beside the picture: the question, then the instruction, if any.

    >>> record = {"question": "Is a bus bigger than a cup in the image?"}
    >>> make_prompt({**record, "instruction": "Answer with one word."})
    'Is a bus bigger than a cup in the image? Answer with one word.'
    """
    return " ".join(filter(None, (record["question"], record["instruction"])))


def article(name: str) -> str:
    """Return upstream's article: "an" before a, e, i, o, u (true of all 3,098 at hand)."""
    return "an" if name[:1].lower() in set("aeiou") else "a"


def make_question(
    domain: str,
    category: str,
    triplet: Triplet,
    task: str = "discriminative",
    article: Callable[[str], str] = article,
) -> str:
    """Word a triplet as upstream does; the inverse of `parse_question`, which reads either article.

    Args:
        domain: where the picture comes from.
        category: kind of relation.
        triplet: what is asked about.
        task: yes/no or open question.
        article: returns the article of a name; upstream's own says "an unicycle", new questions
            need not.

    >>> make_question("real", "spatial", Triplet("flower", "above", "car"))
    'Is there a flower above to a car in the image?'

    Raises:
        InputError: the question would not be read back as the triplet.
    """
    subject, relation, object_ = triplet
    first, second = f"{article(subject)} {subject}", f"{article(object_)} {object_}"
    if task == "generative":
        question = OPEN_QUESTION.format(category=category, subject=first, object=second)
    elif category == "spatial":
        is_beside = domain == "dalle" and relation in ("left", "right")
        to = " to" if domain == "real" or is_beside else ""
        question = f"Is there {first} {relation}{to} {second} in the image?"
    elif category == "action":
        question = f"Does {first} {relation} {second} in the image?"
    else:
        question = f"Is {first} {relation} than {second} in the image?"
    asked = None if task == "generative" else relation
    if parse_question(question) != ParsedQuestion(category, task, subject, asked, object_):
        wrong = f"its question {question!r} reads as another triplet"
        raise InputError(f"{category} triplet {tuple(triplet)}: {wrong}")
    return question


def make_pair_id(image_id: str, category: str, subject: str, object_: str) -> str:
    """Return the id of a group of yes/no questions.

    They have one picture, one category and one unordered pair of objects.
    """
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
        wanted = "expected a picture under vg/, SPEC/ or Dall-E_generated/"
        raise InputError(f"{wanted}, got {path[:200]!r}")
    match = _DALLE_NAME.fullmatch(path.rpartition("/")[2]) if domain == "dalle" else None
    return domain, match["style"] if match else None


def check_record(record: dict[str, Any]) -> str | None:
    """Return what is wrong with a record by the contract, or None."""
    for name, value in record.items():
        text = make_json(value) if isinstance(value, (dict, list)) else str(value)
        if not _is_encodable(name):
            return f"field {name[:80]!a}: expected a field of the contract"
        if not _is_encodable(text):
            got = f"half of a surrogate pair in {text[:80]!a}"
            return f"field {name}: expected text, got {got}"
    return contract_validator()(record)


@functools.cache
def contract_validator() -> Callable[[Any], str | None]:
    """Return the contract as a function: None, or what is wrong with a record."""
    schema = (SCHEMA_FOLDER / "record.schema.json").read_text("utf-8")
    return mmrel.make_validator(json.loads(schema))


def _match(question: str) -> ParsedQuestion | None:
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


def _is_clean(reading: ParsedQuestion) -> bool:
    names = (reading.subject, reading.object, reading.relation or "relation")
    return all(name and name == name.strip() and "?" not in name for name in names)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

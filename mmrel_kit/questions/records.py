# SPDX-License-Identifier: Apache-2.0
"""Reads what people have of MMRel's questions into records, and turns questions and triplets into each other."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from mmrel_kit.files import SCHEMA_FOLDER, InputError
from mmrel_kit.questions.taxonomy import PARTICLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

ANSWERS = ("yes", "no")

# Upstream's grammars. "to" stands after the relation by domain: always in real, never in sdxl, in dalle only after
# left and right (seen in the 1,549 yes/no records at hand).
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


class Reading(NamedTuple):
    """What a question's grammar tells: its category, task and triplet (an open question leaves out the relation)."""

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
        """The record as its JSON object; `verification` stands there only where there is one."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        if fields["verification"] is None:
            del fields["verification"]
        return fields


def parse_question(question: str) -> Reading:
    """Read a question without its instruction by MMRel's grammars.

    >>> parse_question("Is there a flower above to a car in the image?")
    Reading(category='spatial', task='discriminative', subject='flower', relation='above', object='car')

    Raises:
        InputError: no grammar reads it.
    """
    if len(question) <= MAX_QUESTION and (reading := _match(question)) and _is_clean(reading):
        return reading
    raise InputError(
        "expected 'Is there a S REL [to] a O in the image?', 'Does a S VERB a O in the image?', "
        f"'Is a S ADJ than a O in the image?' or '{OPEN_QUESTION}', got {question[:200]!r}"
    )


def make_prompt(record: Mapping[str, Any]) -> str:
    """What a model is sent beside the picture: the question, and behind it the instruction, where there is one.

    >>> make_prompt({"question": "Is a bus bigger than a cup in the image?", "instruction": "Answer with one word."})
    'Is a bus bigger than a cup in the image? Answer with one word.'
    """
    return " ".join(filter(None, (record["question"], record["instruction"])))


def article(name: str) -> str:
    """Upstream's article: "an" before the letters a, e, i, o, u (all 3,098 articles at hand follow it)."""
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
        article: gives a name its article; upstream's own says "an unicycle", new questions need not.

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
        to = " to" if domain == "real" or (domain == "dalle" and relation in ("left", "right")) else ""
        question = f"Is there {first} {relation}{to} {second} in the image?"
    elif category == "action":
        question = f"Does {first} {relation} {second} in the image?"
    else:
        question = f"Is {first} {relation} than {second} in the image?"
    expected = Reading(category, task, subject, None if task == "generative" else relation, object_)
    if parse_question(question) != expected:
        raise InputError(f"{category} triplet {tuple(triplet)}: its question {question!r} reads as another triplet")
    return question


def make_pair_id(image_id: str, category: str, subject: str, object_: str) -> str:
    """Name the group of yes/no questions of one picture, one category and one unordered pair of objects."""
    parts = (image_id, category, *sorted((subject.casefold(), object_.casefold())))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def parse_image_path(path: str) -> tuple[str, str | None]:
    """Domain and style of a picture's path under the upstream root.

    Raises:
        InputError: the path is not one of MMRel's.
    """
    root, _, rest = path.partition("/")
    domain = {"vg": "real", "SPEC": "sdxl", "Dall-E_generated": "dalle"}.get(root)
    if domain is None or not rest:
        raise InputError(f"expected a picture under vg/, SPEC/ or Dall-E_generated/, got {path[:200]!r}")
    match = _DALLE_NAME.fullmatch(path.rpartition("/")[2]) if domain == "dalle" else None
    return domain, match["style"] if match else None


def check_record(record: dict[str, Any]) -> str | None:
    """What is wrong with a record by the contract, or null."""
    for name, value in record.items():
        if isinstance(value, str) and not _is_encodable(value):
            return f"field {name}: expected text, got half of a surrogate pair in {value[:80]!a}"
    return contract_validator()(record)


@functools.cache
def contract_validator() -> Callable[[Any], str | None]:
    """The contract as a function: null, or what is wrong with a record."""
    return mmrel.make_validator(json.loads((SCHEMA_FOLDER / "record.schema.json").read_text("utf-8")))


def _match(question: str) -> Reading | None:
    if match := _SPATIAL.fullmatch(question):
        return Reading("spatial", "discriminative", *match.groups())
    if match := _COMPARATIVE.fullmatch(question):
        return Reading("comparative", "discriminative", *match.groups())
    if match := _OPEN.fullmatch(question):
        return Reading(match[1], "generative", match[2], None, match[3])
    if (match := _ACTION.fullmatch(question)) and len(words := match[1].split(" ")) > 1:
        verb = 2 if len(words) > 2 and words[-1] in PARTICLES else 1
        return Reading("action", "discriminative", " ".join(words[:-verb]), " ".join(words[-verb:]), match[2])
    return None


def _is_clean(reading: Reading) -> bool:
    names = (reading.subject, reading.object, reading.relation or "relation")
    return all(name and name == name.strip() and "?" not in name for name in names)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

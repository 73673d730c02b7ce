# SPDX-License-Identifier: Apache-2.0
"""Proposals and items to verify, and the JSON lines that carry them from model to people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.files import (
    RELEASE_RULES,
    InputError,
    Value,
    encode_json,
    read_objects,
    write_json_lines,
)
from mmrel_kit.questions.records import Triplet, parse_image_path
from mmrel_kit.semidc.words import make_triplet

ORIGINS = ("model", "drawn", "negative")
_FORBIDDEN = frozenset('\\:*?"<>|\0')  # characters in the path of a picture


class Proposal(NamedTuple):
    """A triplet for people to judge that is not yet in a project.

    Attributes:
        image_id: path of the picture below the folder of pictures.
        triplet: proposed to be true; if the origin is `negative`, proposed to be false.
        confidence: the model's confidence from 0 to 1, or None.
        spread: counts and confidences over several replies of the model, or None.
        origin: one of `ORIGINS`.
        source: step, prompt and model that made the proposal.
    """

    image_id: str
    category: str
    triplet: Triplet
    confidence: float | None
    spread: dict[str, Any] | None
    origin: str
    source: str


class Item(NamedTuple):
    """A proposal in a project; for the fields in common, see `Proposal`.

    Attributes:
        id: number in the project, from 1.
        sha256: hash of the picture.
    """

    id: int
    image_id: str
    sha256: str
    category: str
    triplet: Triplet
    confidence: float | None
    origin: str
    source: str


def read_json_objects(path: Path) -> Iterator[Value]:
    """Yield the objects of a step's JSON lines; the file may be empty.

    Raises:
        InputError: a line is not a JSON object, or contains lone surrogates.
    """
    for where, value in read_objects(path, rules=RELEASE_RULES):
        encode_json(value, where)
        yield Value(where, value)


def check_image_id(image_id: Any, where: str) -> str:
    """Return a picture's path from a file, if it is safe below the folder of pictures.

    Raises:
        InputError: the path is malformed or leads out of the folder.
    """
    is_text = isinstance(image_id, str) and image_id.isprintable()
    if not is_text or _FORBIDDEN.intersection(image_id):
        raise InputError(f"{where}: expected the path of a picture, got {str(image_id)[:80]!r}")
    if any(part in ("", ".", "..") for part in image_id.split("/")):
        raise InputError(
            f"{where}: expected a path without empty, '.' or '..' parts, got {image_id[:80]!r}"
        )
    try:
        parse_image_path(image_id)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return str(image_id)


def write_proposals(path: Path, proposals: Iterable[Proposal]) -> int:
    """Write proposals as JSON lines and return their number."""
    return write_json_lines(path, map(_proposal_to_json, proposals))


def read_proposals(paths: Iterable[Path], images: Path) -> Iterator[tuple[Proposal, str]]:
    """Yield the proposals of several files, each with the hash of its picture.

    Raises:
        InputError: a line is not a proposal, or its picture is missing.
    """
    hashes: dict[str, str] = {}
    for path in paths:
        for where, value in read_json_objects(path):
            proposal = _proposal_from_json(value, where)
            if proposal.image_id not in hashes:
                hashes[proposal.image_id] = hash_picture(images, proposal.image_id, where)
            yield proposal, hashes[proposal.image_id]


def hash_picture(images: Path, image_id: str, where: str) -> str:
    """Return the hash of a picture's bytes.

    Raises:
        InputError: the picture cannot be read.
    """
    try:
        return hashlib.sha256((images / image_id).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"{where}: picture {image_id!r} cannot be read under {images}: {error.strerror}"
        ) from None


def read_triplet(value: dict[str, Any], where: str, domain: str) -> tuple[str, Triplet]:
    """Return the category and the normalised triplet of a JSON object.

    Raises:
        InputError: a field is missing or not text, or `make_triplet` refuses the words.
    """
    words = [value.get(name) for name in ("category", *Triplet._fields)]
    if not all(isinstance(word, str) for word in words):
        raise InputError(
            f"{where}: expected category, subject, relation and object as text, "
            f"got {str(value)[:120]}"
        )
    category, subject, relation, object_ = map(str, words)
    try:
        return category, make_triplet(domain, category, subject, relation, object_)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _proposal_to_json(proposal: Proposal) -> dict[str, Any]:
    return {
        "image_id": proposal.image_id,
        "category": proposal.category,
        **proposal.triplet._asdict(),
        "confidence": proposal.confidence,
        "spread": proposal.spread,
        "origin": proposal.origin,
        "source": proposal.source,
    }


def _proposal_from_json(value: dict[str, Any], where: str) -> Proposal:
    image_id = check_image_id(value.get("image_id"), where)
    confidence, origin = value.get("confidence"), value.get("origin", "model")
    is_number = confidence is None or isinstance(confidence, (int, float))
    if not is_number or origin not in ORIGINS:
        raise InputError(f"{where}: expected a confidence and the origin model, drawn or negative")
    domain, _ = parse_image_path(image_id)
    category, triplet = read_triplet(value, where, domain)
    spread, source = value.get("spread"), str(value.get("source") or Path(where).name)
    return Proposal(image_id, category, triplet, confidence, spread, origin, source)

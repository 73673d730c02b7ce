# SPDX-License-Identifier: Apache-2.0
"""Items to verify and their files: what passes from the model's steps to those of people."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.files import (
    RELEASE_RULES,
    InputError,
    Value,
    make_json,
    read_objects,
    write_json_lines,
)
from mmrel_kit.questions.records import Triplet, parse_image_path
from mmrel_kit.semidc.words import make_triplet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ORIGINS = ("model", "drawn", "negative")
_FORBIDDEN = frozenset('\\:*?"<>|\0')  # in the path of a picture


class Proposal(NamedTuple):
    """An item that is not yet in a project.

    Attributes:
        image_id: path of the picture below the folder of pictures.
        category: of the relation.
        triplet: what is proposed to be true; of the origin `negative`, to be false.
        confidence: the model's, from 0 to 1, or None.
        spread: what several replies of the model said, or None.
        origin: one of `ORIGINS`.
        source: the step, the prompt and the model that it comes from.
    """

    image_id: str
    category: str
    triplet: Triplet
    confidence: float | None
    spread: dict[str, Any] | None
    origin: str
    source: str


class Item(NamedTuple):
    """A triplet that people judge on a picture; for the fields that it shares, see `Proposal`.

    Attributes:
        id: its number in the project.
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


def read_lines(path: Path) -> Iterator[Value]:
    """Yield the objects of a step's file, one a line; a step that kept nothing writes none.

    Raises:
        InputError: a line is not a JSON object, or has text that UTF-8 cannot hold.
    """
    for where, value in read_objects(path, rules=RELEASE_RULES):
        try:
            make_json(value).encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair
            got = ascii(error.object)[:200]
            raise InputError(f"{where}: expected text that UTF-8 can hold, got {got}") from None
        yield Value(where, value)


def check_image_id(image_id: Any, where: str) -> str:
    """Return the path of a picture below the folder of pictures, which a file gave.

    Raises:
        InputError: it is not such a path, or leads elsewhere.
    """
    is_text = isinstance(image_id, str) and image_id.isprintable()
    if not is_text or _FORBIDDEN.intersection(image_id):
        got = str(image_id)[:80]
        raise InputError(f"{where}: expected the path of a picture, got {got!r}")
    if any(part in ("", ".", "..") for part in image_id.split("/")):
        wanted = "expected a path without empty, '.' or '..' parts"
        raise InputError(f"{where}: {wanted}, got {image_id[:80]!r}")
    try:
        parse_image_path(image_id)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return str(image_id)


def write_proposals(path: Path, proposals: Iterable[Proposal]) -> int:
    """Write items to verify, one a line, and return their number."""
    return write_json_lines(path, map(_proposal_to_json, proposals))


def read_proposals(paths: Iterable[Path], images: Path) -> Iterator[tuple[Proposal, str]]:
    """Yield items to verify, each with the hash of its picture.

    Raises:
        InputError: a line is not an item, or its picture is missing.
    """
    hashes: dict[str, str] = {}
    for path in paths:
        for where, value in read_lines(path):
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
        fault = f"picture {image_id!r} cannot be read under {images}: {error.strerror}"
        raise InputError(f"{where}: {fault}") from None


def read_triplet(value: dict[str, Any], where: str, domain: str) -> tuple[str, Triplet]:
    """Return the category and the triplet of a JSON object, in the project's words.

    Raises:
        InputError: a field is missing or is no text, or the words make no triplet.
    """
    words = [value.get(name) for name in ("category", *Triplet._fields)]
    if not all(isinstance(word, str) for word in words):
        wanted = "expected category, subject, relation and object as text"
        raise InputError(f"{where}: {wanted}, got {str(value)[:120]}")
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
        wanted = "expected a confidence and the origin model, drawn or negative"
        raise InputError(f"{where}: {wanted}")
    domain, _ = parse_image_path(image_id)
    category, triplet = read_triplet(value, where, domain)
    return Proposal(
        image_id=image_id,
        category=category,
        triplet=triplet,
        confidence=confidence,
        spread=value.get("spread"),
        origin=origin,
        source=str(value.get("source") or Path(where).name),
    )

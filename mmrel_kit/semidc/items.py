# SPDX-License-Identifier: Apache-2.0
"""What passes between the steps: files of JSON lines, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.commands.options import parse_share
from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet, parse_image_path
from mmrel_kit.semidc.people.store import Proposal
from mmrel_kit.semidc.words import make_triplet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Shard(NamedTuple):
    """Part `number` (from 1) of `parts` of the pictures."""

    number: int = 1
    parts: int = 1

    def holds(self, image_id: str) -> bool:
        """Whether a picture belongs to this part; the same on every machine."""
        return int(hashlib.sha256(image_id.encode()).hexdigest(), 16) % self.parts == self.number - 1


def parse_shard(text: str) -> Shard:
    """Read `i/n`, from 1/n to n/n."""
    try:
        return Shard(*parse_share(text))
    except ArgumentTypeError as error:
        raise InputError(f"--shard: {error}") from None


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with file and line.

    Raises:
        InputError: a line is not a JSON object, or not text that UTF-8 can hold.
    """
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path}:{number}"
            try:
                value = json.loads(line.decode())
                if b"\\ud" in line.lower():  # half a pair of surrogates, perhaps
                    json.dumps(value, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: expected a JSON object on each line: {error}, got {line[:80]!r}") from None
            if not isinstance(value, dict):
                raise InputError(f"{where}: expected a JSON object, got {line[:80]!r}")
            yield where, value


def write_lines(path: Path, values: Iterable[dict[str, Any]]) -> int:
    """Write JSON lines; the file is there whole or as before. Returns their number.

    Raises:
        InputError: a text has half a pair of surrogates, which UTF-8 cannot hold.
    """
    aside = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with open(aside, "w", encoding="utf-8", newline="\n") as lines:
        for value in values:
            try:
                lines.write(json.dumps(value, ensure_ascii=False) + "\n")
            except UnicodeEncodeError as error:
                wanted = "expected text that UTF-8 can hold"
                raise InputError(f"{path}: {wanted}, got {ascii(error.object)[:200]}") from None
            count += 1
    os.replace(aside, path)
    return count


def check_image_id(image_id: Any, where: str) -> str:
    """A picture's path below the folder of pictures, or an `InputError`: paths from files are not to be trusted."""
    try:
        if not isinstance(image_id, str) or set(image_id) & set('\\:*?"<>|\0') or not image_id.isprintable():
            raise InputError(f"expected the path of a picture, got {str(image_id)[:80]!r}")
        if any(part in ("", ".", "..") for part in image_id.split("/")):
            raise InputError(f"expected a path without empty, '.' or '..' parts, got {image_id[:80]!r}")
        parse_image_path(image_id)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return image_id


def write_proposals(path: Path, proposals: Iterable[Proposal]) -> int:
    """Write items to be verified, one a line."""
    return write_lines(path, (_proposal_to_json(proposal) for proposal in proposals))


def read_proposals(paths: Iterable[Path], images: Path) -> Iterator[tuple[Proposal, str]]:
    """Items to be verified, each with the hash of its picture.

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
    """Hash of a picture's bytes."""
    try:
        return hashlib.sha256((images / image_id).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{where}: picture {image_id!r} cannot be read under {images}: {error.strerror}") from None


def _proposal_to_json(proposal: Proposal) -> dict[str, Any]:
    fields = proposal._asdict()
    triplet = fields.pop("triplet")
    return {"image_id": fields.pop("image_id"), "category": fields.pop("category"), **triplet._asdict(), **fields}


def _proposal_from_json(value: dict[str, Any], where: str) -> Proposal:
    image_id = check_image_id(value.get("image_id"), where)
    category, words = value.get("category"), [value.get(name) for name in Triplet._fields]
    confidence, origin = value.get("confidence"), value.get("origin", "model")
    if not isinstance(category, str) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{where}: expected category, subject, relation and object as text, got {str(value)[:120]}")
    if not (confidence is None or isinstance(confidence, (int, float))) or origin not in ("model", "drawn", "negative"):
        raise InputError(f"{where}: expected a confidence and the origin model, drawn or negative")
    try:
        triplet = make_triplet(parse_image_path(image_id)[0], category, *map(str, words))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    source = str(value.get("source") or Path(where).name)
    return Proposal(image_id, category, triplet, confidence, value.get("spread"), origin, source)

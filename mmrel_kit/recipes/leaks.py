# SPDX-License-Identifier: Apache-2.0
"""Find train questions that share a picture or a triplet with the held-out splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.recipes.questions import read_pictures

HELD_OUT = ("test", "adversarial")


class Leaks(NamedTuple):
    """Leaking train questions, each with the held-out question that it matches.

    Attributes:
        by_picture: question_id -> split and id of a question about the same picture, by name or
            content.
        by_triplet: question_id -> split and id of a question about the same triplet in another
            picture; upper and lower case are the same.
    """

    by_picture: dict[str, str]
    by_triplet: dict[str, str]


def find_leaks(release: mmrel.Release) -> Leaks:
    """Compare all train questions of a release with all held-out ones, across its domains."""
    pictures: dict[str, str] = {}
    triplets: dict[tuple[str, ...], str] = {}
    for split in HELD_OUT:
        for records, data in read_pictures(release, "all", split):
            for name in (records[0]["image_id"], _hash(data)):
                pictures.setdefault(name, f"{split} {records[0]['question_id']}")
            for record in records:
                triplet = _make_triplet(record)
                if triplet:
                    triplets.setdefault(triplet, f"{split} {record['question_id']}")
    leaks = Leaks({}, {})
    for records, data in read_pictures(release, "all", "train"):
        same_picture = pictures.get(records[0]["image_id"]) or pictures.get(_hash(data))
        for record in records:
            triplet = _make_triplet(record)
            if same_picture:
                leaks.by_picture[record["question_id"]] = same_picture
            elif triplet in triplets:
                leaks.by_triplet[record["question_id"]] = triplets[triplet]
    return leaks


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _make_triplet(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return category, subject, relation and object in lower case; None if one is unknown."""
    parts = [record[key] for key in ("category", "subject", "relation", "object")]
    return tuple(part.casefold() for part in parts) if all(parts) else None

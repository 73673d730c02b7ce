# SPDX-License-Identifier: Apache-2.0
"""Finds what of a release's train split stands in its test or adversarial split too, by picture or by triplet."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.recipes.questions import read_pictures

if TYPE_CHECKING:
    from collections.abc import Mapping

    import mmrel

HELD_OUT = ("test", "adversarial")


class Leaks(NamedTuple):
    """Questions of the train split that give something of the held-out splits away, with where that stands there.

    Attributes:
        by_picture: question_id -> the held-out question about the same picture, by its name or its bytes.
        by_triplet: question_id -> the held-out question about the same triplet (another picture), in any case.
    """

    by_picture: dict[str, str]
    by_triplet: dict[str, str]


def find_leaks(release: mmrel.Release) -> Leaks:
    """Hold all train questions of a release against all held-out ones, across its domains."""
    pictures: dict[str, str] = {}
    triplets: dict[tuple[str, ...], str] = {}
    for split in HELD_OUT:
        for records, data in read_pictures(release, "all", split):
            for name in (records[0]["image_id"], _hash(data)):
                pictures.setdefault(name, f"{split} {records[0]['question_id']}")
            for record in records:
                if triplet := _triplet(record):
                    triplets.setdefault(triplet, f"{split} {record['question_id']}")
    leaks = Leaks({}, {})
    for records, data in read_pictures(release, "all", "train"):
        found = pictures.get(records[0]["image_id"]) or pictures.get(_hash(data))
        for record in records:
            if found:
                leaks.by_picture[record["question_id"]] = found
            elif (triplet := _triplet(record)) in triplets:
                leaks.by_triplet[record["question_id"]] = triplets[triplet]
    return leaks


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _triplet(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Category, subject, relation and object; null where the record does not know them."""
    parts = [record[key] for key in ("category", "subject", "relation", "object")]
    return tuple(part.casefold() for part in parts) if all(parts) else None

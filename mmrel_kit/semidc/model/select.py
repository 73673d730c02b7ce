# SPDX-License-Identifier: Apache-2.0
"""Select pictures that a model can be asked about; count the rejected ones by reason.

A picture must open, must not repeat an earlier one, and must be large enough. If its things are
known, two to twelve of them must be large, few may be small, and the large ones must not overlap
much.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.files import InputError, read_json
from mmrel_kit.pictures.validate import check_picture
from mmrel_kit.semidc.items import check_image_id, read_json_objects

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MIN_SIDE = 128  # pixels of the shorter side
LARGE = 0.01  # smallest share of the picture's area that a large thing covers
MIN_LARGE, MAX_LARGE = 2, 12  # large things
MAX_SMALL = 20  # small things; more make a crowd
# Mean over all pairs of large things: their common area, divided by the area of the smaller one.
MAX_OVERLAP = 0.5


class Thing(NamedTuple):
    """A thing in a picture: its name and its box (left, top, width, height) in pixels."""

    name: str
    x: float
    y: float
    w: float
    h: float


class Candidate(NamedTuple):
    """A picture to ask about. No things, or a size of 0, means that these are unknown."""

    image_id: str
    width: int
    height: int
    things: tuple[Thing, ...] = ()


def select(
    candidates: Iterable[Candidate], images: Path, drops: Counter[str]
) -> Iterator[Candidate]:
    """Yield the candidates that pass all rules, with the things that a name identifies.

    A name identifies a thing if the thing is large and no other thing has the name.

    An unknown size is read from the picture. Rejected pictures are added to `drops` by reason.
    """
    seen: set[bytes] = set()
    for candidate in candidates:
        try:
            width, height = _read_size(images / candidate.image_id, seen)
        except InputError as error:
            drops[str(error)] += 1
            continue
        if not candidate.width:
            candidate = candidate._replace(width=width, height=height)
        problem = find_scene_problem(candidate)
        if problem:
            drops[problem] += 1
            continue
        names = Counter(thing.name for thing in candidate.things)
        things = tuple(thing for thing in _find_large(candidate) if names[thing.name] == 1)
        if candidate.things and len(things) < MIN_LARGE:
            drops[f"fewer than {MIN_LARGE} large things with a unique name"] += 1
            continue
        yield candidate._replace(things=things)


def find_scene_problem(candidate: Candidate) -> str | None:
    """Return the rule that a picture's size or things break, or None."""
    if min(candidate.width, candidate.height) < MIN_SIDE:
        return f"smaller than {MIN_SIDE} pixels"
    if not candidate.things:
        return None
    large = _find_large(candidate)
    if len(large) < MIN_LARGE:
        return f"fewer than {MIN_LARGE} large things"
    if len(large) > MAX_LARGE:
        return f"more than {MAX_LARGE} large things"
    if len(candidate.things) - len(large) > MAX_SMALL:
        return f"more than {MAX_SMALL} small things"
    overlaps = [_overlap(a, b) for a, b in itertools.combinations(large, 2)]
    if sum(overlaps) > MAX_OVERLAP * len(overlaps):
        return "large things overlap too much"
    return None


def read_folder(images: Path) -> Iterator[Candidate]:
    """Yield the pictures below a folder that holds vg/, SPEC/ or Dall-E_generated/.

    Raises:
        InputError: the folder holds no pictures, or pictures outside these three folders.
    """
    files = (path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = sorted(path for path in files if path.is_file())
    if not paths:
        suffixes = ", ".join(SUFFIXES)
        raise InputError(f"{images}: expected pictures ({suffixes}) in the folder, found none")
    for path in paths:
        image_id = check_image_id(path.relative_to(images).as_posix(), str(images))
        yield Candidate(image_id, width=0, height=0)


def read_visual_genome(folder: Path) -> Iterator[Candidate]:
    """Yield pictures with their things from files of Visual Genome 1.0, 1.2 or 1.4.

    The folder holds image_data.json, and objects.json or relationships.json; if it holds both,
    their things are joined.

    Raises:
        InputError: the files do not have the fields of these versions.
    """
    try:
        yield from _join_files(folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{folder}: expected files of the shapes of Visual Genome 1.0, 1.2 or 1.4; "
            f"{type(error).__name__}: {error}"
        ) from None


def _join_files(folder: Path) -> Iterator[Candidate]:
    objects, relationships = folder / "objects.json", folder / "relationships.json"
    pictures = {_read_id(entry): entry for _, entry in read_json(folder / "image_data.json")}
    if not objects.is_file() and not relationships.is_file():
        raise InputError(
            f"{folder}: expected objects.json or relationships.json beside image_data.json, "
            "found neither"
        )
    related: dict[int, set[Thing]] = {}
    if relationships.is_file():
        for _, entry in read_json(relationships):
            things = related[_read_id(entry)] = set()
            for relationship in entry["relationships"]:
                things.add(_read_thing(relationship["subject"]))
                things.add(_read_thing(relationship["object"]))
    if objects.is_file():
        for _, entry in read_json(objects):
            number = _read_id(entry)
            things = related.pop(number, set())
            things.update(_read_thing(value) for value in entry["objects"])
            if number in pictures:
                yield _make_candidate(pictures[number], things)
    for number, things in related.items():
        if number in pictures:
            yield _make_candidate(pictures[number], things)


def read_candidates(path: Path) -> Iterator[Candidate]:
    """Yield the candidates of a file that `mmrel label select` wrote.

    Raises:
        InputError: a line is not a candidate.
    """
    for where, value in read_json_objects(path):
        try:
            things = tuple(Thing(**thing) for thing in value.get("things", ()))
            image_id = check_image_id(value["image_id"], where)
            yield Candidate(image_id, value["width"], value["height"], things)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{where}: expected image_id, width, height and things, got {error}"
            ) from None


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as its JSON object."""
    return {**candidate._asdict(), "things": [thing._asdict() for thing in candidate.things]}


def _read_size(path: Path, seen: set[bytes]) -> tuple[int, int]:
    """Return the width and height of a picture, and add its hash to `seen`.

    Raises:
        InputError: the picture cannot be used; the message holds only the reason.
    """
    try:
        data = path.read_bytes()
        picture = check_picture(data, str(path))
    except FileNotFoundError:
        raise InputError("picture is missing") from None
    except (OSError, InputError):
        raise InputError("picture does not open") from None
    digest = hashlib.sha256(data).digest()
    if digest in seen:
        raise InputError("duplicate picture")
    seen.add(digest)
    return picture.size


def _find_large(candidate: Candidate) -> list[Thing]:
    least = LARGE * candidate.width * candidate.height
    return [thing for thing in candidate.things if thing.w * thing.h >= least]


def _overlap(a: Thing, b: Thing) -> float:
    """Return the common area of two things, divided by the area of the smaller one."""
    width = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    height = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min(a.w * a.h, b.w * b.h)


def _make_candidate(entry: dict[str, Any], things: set[Thing]) -> Candidate:
    # Only the URL contains the folder of a picture (VG_100K or VG_100K_2).
    image_id = "vg/" + "/".join(entry["url"].split("/")[-2:])
    named = sorted(thing for thing in things if thing.name)
    return Candidate(image_id, entry["width"], entry["height"], tuple(named))


def _read_thing(value: dict[str, Any]) -> Thing:
    names = value.get("names") or [value.get("name", "")]
    name = " ".join(str(names[0]).lower().split())
    return Thing(name, value["x"], value["y"], value["w"], value["h"])


def _read_id(entry: dict[str, Any]) -> int:
    """Return the number of an entry's picture; version 1.0 names it `id`."""
    return int(entry["image_id"] if "image_id" in entry else entry["id"])

# SPDX-License-Identifier: Apache-2.0
"""Selects pictures that a model can be asked about; what is left out is counted by reason.

Rules, in this order: the picture opens, is large enough and stands once; where its things are known: between two and
twelve of them are large, few are small, and the large ones do not cover each other.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from mmrel_kit.files import InputError
from mmrel_kit.semidc.items import check_image_id, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MIN_SIDE = 128  # pixels of the shorter side
LARGE = 0.01  # share of the picture's area from which a thing is large enough to ask about
MIN_LARGE, MAX_LARGE = 2, 12  # things
MAX_SMALL = 20  # things; more make a crowd
MAX_OVERLAP = 0.5  # mean, over all pairs of large things, of the shared area by the smaller one's
CHUNK = 1 << 20


class Thing(NamedTuple):
    """A thing in a picture: its name and its box in pixels."""

    name: str
    x: float
    y: float
    w: float
    h: float


class Candidate(NamedTuple):
    """A picture that may be asked about; `things` is empty where nothing is known of them."""

    image_id: str
    width: int
    height: int
    things: tuple[Thing, ...] = ()


def select(candidates: Iterator[Candidate], images: Path, drops: Counter[str]) -> Iterator[Candidate]:
    """Pass on what the rules allow; of its things those that are large and stand once by name, which can be named."""
    seen: set[bytes] = set()
    for candidate in candidates:
        reason = _find_flaw(images / candidate.image_id, seen) or find_complexity(candidate)
        if reason:
            drops[reason] += 1
            continue
        names = Counter(thing.name for thing in candidate.things)
        things = tuple(t for t in _find_large(candidate) if names[t.name] == 1)
        if candidate.things and len(things) < MIN_LARGE:
            drops[f"fewer than {MIN_LARGE} large things that stand alone by their name"] += 1
            continue
        yield candidate._replace(things=things)


def find_complexity(candidate: Candidate) -> str | None:
    """Why a scene is left out, or null."""
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
    return "large things cover each other" if sum(overlaps) > MAX_OVERLAP * len(overlaps) else None


def read_folder(images: Path) -> Iterator[Candidate]:
    """The pictures under a folder that holds vg/, SPEC/ or Dall-E_generated/; nothing is known of their things."""
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"{images}: expected pictures ({', '.join(SUFFIXES)}) in the folder, found none")
    for path in found:
        image_id = check_image_id(path.relative_to(images).as_posix(), str(images))
        try:
            with Image.open(path) as picture:
                width, height = picture.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            width = height = MIN_SIDE  # whether it opens is told with the reason
        yield Candidate(image_id, width, height)


def read_visual_genome(folder: Path) -> Iterator[Candidate]:
    """Pictures with their things from Visual Genome's own files, of version 1.0, 1.2 or 1.4.

    Args:
        folder: holds image_data.json, and objects.json or relationships.json or both; things of both are joined.

    Raises:
        InputError: the files are not of these shapes.
    """
    try:
        yield from _join(folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"{folder}: expected files of the shapes of Visual Genome 1.0, 1.2 or 1.4; {told}") from None


def _join(folder: Path) -> Iterator[Candidate]:
    sizes = {_id(entry, "image_id"): entry for entry in _read_array(folder / "image_data.json")}
    related: dict[int, set[Thing]] = {}
    objects, relationships = folder / "objects.json", folder / "relationships.json"
    if not objects.is_file() and not relationships.is_file():
        raise InputError(f"{folder}: expected objects.json or relationships.json beside image_data.json, found neither")
    if relationships.is_file():
        for entry in _read_array(relationships):
            ends = (r[end] for r in entry["relationships"] for end in ("subject", "object"))
            related[_id(entry, "image_id")] = {_read_thing(end) for end in ends}
    for entry in _read_array(objects) if objects.is_file() else ():
        number = _id(entry, "image_id")
        known = related.pop(number, set()) | {_read_thing(thing) for thing in entry["objects"]}
        if number in sizes:
            yield _make_candidate(sizes[number], known)
    for number, known in related.items():
        if number in sizes:
            yield _make_candidate(sizes[number], known)


def read_candidates(path: Path) -> Iterator[Candidate]:
    """Candidates from the file that `select` wrote."""
    for where, value in read_lines(path):
        try:
            things = tuple(Thing(**thing) for thing in value.get("things", ()))
            yield Candidate(check_image_id(value["image_id"], where), value["width"], value["height"], things)
        except (KeyError, TypeError) as error:
            raise InputError(f"{where}: expected image_id, width, height and things, got {error}") from None


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """A candidate as its JSON object."""
    return {**candidate._asdict(), "things": [thing._asdict() for thing in candidate.things]}


def _find_flaw(path: Path, seen: set[bytes]) -> str | None:
    """What is wrong with a picture's file, or null; its hash is added to those seen."""
    try:
        data = path.read_bytes()
        with Image.open(path) as picture:
            picture.load()
    except FileNotFoundError:
        return "picture is missing"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "picture does not open"
    digest = hashlib.sha256(data).digest()
    if digest in seen:
        return "picture stands twice"
    seen.add(digest)
    return None


def _find_large(candidate: Candidate) -> list[Thing]:
    least = LARGE * candidate.width * candidate.height
    return [thing for thing in candidate.things if thing.w * thing.h >= least]


def _overlap(a: Thing, b: Thing) -> float:
    wide = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    high = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    return wide * high / min(a.w * a.h, b.w * b.h) if wide > 0 and high > 0 else 0.0


def _make_candidate(entry: dict[str, Any], things: set[Thing]) -> Candidate:
    # The folder of a picture (VG_100K or VG_100K_2) stands in its URL alone.
    image_id = "/".join(("vg", *entry["url"].split("/")[-2:]))
    return Candidate(image_id, entry["width"], entry["height"], tuple(sorted(thing for thing in things if thing.name)))


def _read_thing(value: dict[str, Any]) -> Thing:
    names = value.get("names") or [value.get("name", "")]
    return Thing(" ".join(str(names[0]).lower().split()), value["x"], value["y"], value["w"], value["h"])


def _id(entry: dict[str, Any], key: str) -> int:
    return int(entry[key] if key in entry else entry["id"])  # version 1.0 says id throughout


def _read_array(path: Path) -> Iterator[Any]:
    """Elements of a JSON array one by one: relationships.json has some 700 MB."""
    decoder = json.JSONDecoder()
    with open(path, encoding="utf-8") as file:
        text = file.read(CHUNK).lstrip("\ufeff \t\r\n")
        if not text.startswith("["):
            raise InputError(f"{path}: expected a JSON array, got {text[:40]!r}")
        at = 1
        while True:
            while at < len(text) and text[at] in ", \t\r\n":
                at += 1
            if text[at : at + 1] == "]":
                return
            try:
                value, at = decoder.raw_decode(text, at)
            except ValueError as error:
                if not (more := file.read(max(CHUNK, len(text)))):
                    raise InputError(f"{path}: expected a whole JSON array: {error}") from None
                text, at = text[at:] + more, 0
                continue
            yield value

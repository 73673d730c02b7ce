# SPDX-License-Identifier: Apache-2.0
"""Select pictures that a model can be asked about; what is left out is counted by reason.

Rules, in this order: the picture opens, is the first with its content, and is large enough. Where
its things are known: between two and twelve of them are large, few are small, and the large ones do
not cover each other.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.files import InputError, read_json
from mmrel_kit.pictures.validate import check_picture
from mmrel_kit.semidc.items import check_image_id, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MIN_SIDE = 128  # pixels of the shorter side
LARGE = 0.01  # share of the picture's area from which a thing is large enough to ask about
MIN_LARGE, MAX_LARGE = 2, 12  # things
MAX_SMALL = 20  # things; more make a crowd
MAX_OVERLAP = 0.5  # mean, over all pairs of large things, of the shared area by the smaller one's


class Thing(NamedTuple):
    """A thing in a picture: its name and its box in pixels."""

    name: str
    x: float
    y: float
    w: float
    h: float


class Candidate(NamedTuple):
    """A picture that may be asked about; no things and a size of 0 say that they are not known."""

    image_id: str
    width: int
    height: int
    things: tuple[Thing, ...] = ()


def select(
    candidates: Iterable[Candidate], images: Path, drops: Counter[str]
) -> Iterator[Candidate]:
    """Yield the candidates that the rules allow.

    Of a candidate's things those stay that can be named: large, and alone with their name.

    Args:
        candidates: pictures; a size that is not known is taken from the picture.
        images: folder that holds the pictures at their paths.
        drops: what is left out is counted here, by reason.
    """
    seen: set[bytes] = set()
    for candidate in candidates:
        try:
            width, height = _read_size(images / candidate.image_id, seen)
        except InputError as flaw:
            drops[str(flaw)] += 1
            continue
        if not candidate.width:
            candidate = candidate._replace(width=width, height=height)
        if reason := find_complexity(candidate):
            drops[reason] += 1
            continue
        names = Counter(thing.name for thing in candidate.things)
        things = tuple(thing for thing in _find_large(candidate) if names[thing.name] == 1)
        if candidate.things and len(things) < MIN_LARGE:
            drops[f"fewer than {MIN_LARGE} large things that stand alone by their name"] += 1
            continue
        yield candidate._replace(things=things)


def find_complexity(candidate: Candidate) -> str | None:
    """Return why a scene is left out, or None."""
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
        return "large things cover each other"
    return None


def read_folder(images: Path) -> Iterator[Candidate]:
    """Yield the pictures below a folder that holds vg/, SPEC/ or Dall-E_generated/.

    Neither their things nor their sizes are known.

    Raises:
        InputError: the folder holds no pictures, or others.
    """
    files = (path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = sorted(path for path in files if path.is_file())
    if not paths:
        wanted = f"expected pictures ({', '.join(SUFFIXES)}) in the folder"
        raise InputError(f"{images}: {wanted}, found none")
    for path in paths:
        image_id = check_image_id(path.relative_to(images).as_posix(), str(images))
        yield Candidate(image_id, width=0, height=0)


def read_visual_genome(folder: Path) -> Iterator[Candidate]:
    """Yield pictures with their things from Visual Genome's files, of version 1.0, 1.2 or 1.4.

    Args:
        folder: holds image_data.json, and objects.json or relationships.json or both, whose things
            are joined.

    Raises:
        InputError: the files are not of these shapes.
    """
    try:
        yield from _join(folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        wanted = "expected files of the shapes of Visual Genome 1.0, 1.2 or 1.4"
        raise InputError(f"{folder}: {wanted}; {type(error).__name__}: {error}") from None


def _join(folder: Path) -> Iterator[Candidate]:
    objects, relationships = folder / "objects.json", folder / "relationships.json"
    sizes = {_id(entry, "image_id"): entry for _, entry in read_json(folder / "image_data.json")}
    if not objects.is_file() and not relationships.is_file():
        wanted = "expected objects.json or relationships.json beside image_data.json"
        raise InputError(f"{folder}: {wanted}, found neither")
    related: dict[int, set[Thing]] = {}
    if relationships.is_file():
        for _, entry in read_json(relationships):
            ends = (r[end] for r in entry["relationships"] for end in ("subject", "object"))
            related[_id(entry, "image_id")] = {_read_thing(end) for end in ends}
    if objects.is_file():
        for _, entry in read_json(objects):
            number = _id(entry, "image_id")
            things = related.pop(number, set()) | {_read_thing(one) for one in entry["objects"]}
            if number in sizes:
                yield _make_candidate(sizes[number], things)
    for number, things in related.items():
        if number in sizes:
            yield _make_candidate(sizes[number], things)


def read_candidates(path: Path) -> Iterator[Candidate]:
    """Yield the candidates of a file that `select` wrote.

    Raises:
        InputError: a line is not a candidate.
    """
    for where, value in read_lines(path):
        try:
            things = tuple(Thing(**thing) for thing in value.get("things", ()))
            image_id = check_image_id(value["image_id"], where)
            yield Candidate(image_id, value["width"], value["height"], things)
        except (KeyError, TypeError) as error:
            wanted = "expected image_id, width, height and things"
            raise InputError(f"{where}: {wanted}, got {error}") from None


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as its JSON object."""
    return {**candidate._asdict(), "things": [thing._asdict() for thing in candidate.things]}


def _read_size(path: Path, seen: set[bytes]) -> tuple[int, int]:
    """Return width and height of a picture; its hash is added to those seen.

    Raises:
        InputError: the picture cannot be used; the message is the bare reason.
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
        raise InputError("picture stands twice")
    seen.add(digest)
    return picture.size


def _find_large(candidate: Candidate) -> list[Thing]:
    least = LARGE * candidate.width * candidate.height
    return [thing for thing in candidate.things if thing.w * thing.h >= least]


def _overlap(a: Thing, b: Thing) -> float:
    wide = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    high = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / min(a.w * a.h, b.w * b.h)


def _make_candidate(entry: dict[str, Any], things: set[Thing]) -> Candidate:
    # Only the URL names the folder of a picture (VG_100K or VG_100K_2).
    image_id = "/".join(("vg", *entry["url"].split("/")[-2:]))
    named = sorted(thing for thing in things if thing.name)
    return Candidate(image_id, entry["width"], entry["height"], tuple(named))


def _read_thing(value: dict[str, Any]) -> Thing:
    names = value.get("names") or [value.get("name", "")]
    name = " ".join(str(names[0]).lower().split())
    return Thing(name, value["x"], value["y"], value["w"], value["h"])


def _id(entry: dict[str, Any], key: str) -> int:
    return int(entry[key] if key in entry else entry["id"])  # version 1.0 says id throughout

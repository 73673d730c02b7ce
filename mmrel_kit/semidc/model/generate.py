# SPDX-License-Identifier: Apache-2.0
"""Has an image model draw triplets in four styles; people then check each picture against its triplet."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from mmrel_kit.endpoint import Request
from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet
from mmrel_kit.questions.taxonomy import read_taxonomy
from mmrel_kit.semidc.items import read_lines
from mmrel_kit.semidc.model.propose import newest_prompt, read_prompt
from mmrel_kit.semidc.people.store import Proposal
from mmrel_kit.semidc.words import make_triplet, spoken_article

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mmrel_kit.endpoint import Endpoint

PARAMETERS = {"response_format": "b64_json"}
SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class Wish(NamedTuple):
    """What is to be drawn, and how."""

    category: str
    triplet: Triplet
    style: str


def generate(
    wishes: Iterable[Wish],
    endpoint: Endpoint,
    images: Path,
    drops: Counter[str],
    progress: Callable[[], None] = lambda: None,
) -> list[Proposal]:
    """Have pictures drawn, keep each under a name made from its content, and return them as items to be verified.

    Args:
        wishes: triplets with a style.
        endpoint: the image model (`kind` is images).
        images: folder that holds the pictures at their paths.
        drops: what became no picture is counted here, by reason.
        progress: called after each reply.
    """
    name = newest_prompt("image")
    text = read_prompt(name)
    by_id = {str(number): wish for number, wish in enumerate(dict.fromkeys(wishes))}
    proposals = []
    for reply in endpoint.ask(Request(id_, make_prompt(text, wish)) for id_, wish in by_id.items()):
        progress()
        wish = by_id[reply.request.id]
        if reply.text is None:
            drops[f"no reply: {reply.failure}"] += 1
            continue
        try:
            image_id = keep_picture(reply.text, wish, images)
        except InputError as error:
            drops[str(error)] += 1
            continue
        source = f"generate {name} {endpoint.model}"
        proposals.append(Proposal(image_id, wish.category, wish.triplet, None, None, "drawn", source))
    return sorted(proposals)


def read_wishes(path: Path, styles: Iterable[str]) -> Iterator[Wish]:
    """Triplets of a file of JSON lines (category, subject, relation, object), each in every style."""
    known = read_taxonomy().styles
    chosen = tuple(styles) or known
    if unknown := sorted(set(chosen) - set(known)):
        raise InputError(f"expected styles among {', '.join(known)}, got {', '.join(unknown)}")
    for where, value in read_lines(path):
        words = [value.get(name) for name in ("category", *Triplet._fields)]
        if not all(isinstance(word, str) for word in words):
            raise InputError(f"{where}: expected category, subject, relation and object, got {str(value)[:120]}")
        category, *rest = map(str, words)
        try:
            triplet = make_triplet("dalle", category, *rest)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        yield from (Wish(category, triplet, style) for style in chosen)


def make_prompt(text: str, wish: Wish) -> str:
    """Fill in style and triplet."""
    subject, relation, object_ = wish.triplet
    values = {
        "style": wish.style,
        "subject": f"{spoken_article(subject)} {subject}",
        "object": f"{spoken_article(object_)} {object_}",
        "statement": f"{subject} {relation} {'than ' if wish.category == 'comparative' else ''}{object_}",
    }
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def keep_picture(encoded: str, wish: Wish, images: Path) -> str:
    """Write a drawn picture, unless it is there; returns its path, made from its content and style.

    Raises:
        InputError: it is no picture.
    """
    try:
        data = base64.b64decode(encoded, validate=True)
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            suffix = SUFFIXES[picture.format or ""]
    except (OSError, ValueError, KeyError, SyntaxError, Image.DecompressionBombError):
        raise InputError("reply: no picture (PNG, JPEG or WebP)") from None
    # Upstream numbers its drawings; the number is the content's hash, so that the same picture stands once.
    number = int(hashlib.sha256(data).hexdigest()[:15], 16)
    image_id = f"Dall-E_generated/{wish.category}/{number:018d}_{wish.style}.{suffix}"
    path = images / image_id
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + ".partial")
        aside.write_bytes(data)
        os.replace(aside, path)
    return image_id

# SPDX-License-Identifier: Apache-2.0
"""Have an image model draw triplets in four styles; people then verify each picture."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmrel_kit.endpoint import Request
from mmrel_kit.files import InputError, write_bytes
from mmrel_kit.pictures.validate import check_picture
from mmrel_kit.questions.records import Triplet
from mmrel_kit.questions.taxonomy import read_taxonomy
from mmrel_kit.semidc.items import Proposal, read_lines, read_triplet
from mmrel_kit.semidc.model.propose import newest_prompt, read_prompt
from mmrel_kit.semidc.words import spoken_article

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
    """Have pictures drawn, keep each by its content, and return them as items to verify.

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
        proposals.append(
            Proposal(image_id, wish.category, wish.triplet, None, None, "drawn", source)
        )
    return sorted(proposals)


def read_wishes(path: Path, styles: Iterable[str]) -> Iterator[Wish]:
    """Yield the triplets of a file (category, subject, relation, object), each in every style.

    Args:
        path: JSON lines.
        styles: manners of drawing; empty for all of the taxonomy.

    Raises:
        InputError: a style is not known, or a line is not a triplet.
    """
    known = read_taxonomy().styles
    chosen = tuple(styles) or known
    if unknown := sorted(set(chosen) - set(known)):
        raise InputError(f"expected styles among {', '.join(known)}, got {', '.join(unknown)}")
    for where, value in read_lines(path):
        category, triplet = read_triplet(value, where, "dalle")
        for style in chosen:
            yield Wish(category, triplet, style)


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
    """Write a drawn picture unless it is there; return its path, made from content and style.

    Raises:
        InputError: it is no picture.
    """
    try:
        data = base64.b64decode(encoded, validate=True)
        suffix = SUFFIXES[check_picture(data, "reply").format or ""]
    except (ValueError, KeyError):  # no base64, no picture (an InputError), another format
        raise InputError("reply: no picture (PNG, JPEG or WebP)") from None
    # Upstream numbers its drawings; here the number is the content's hash, so that the same
    # picture is kept once.
    number = int(hashlib.sha256(data).hexdigest()[:15], 16)
    image_id = f"Dall-E_generated/{wish.category}/{number:018d}_{wish.style}.{suffix}"
    if not (images / image_id).is_file():
        write_bytes(images / image_id, data)
    return image_id

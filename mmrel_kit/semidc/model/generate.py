# SPDX-License-Identifier: Apache-2.0
"""Generate pictures of triplets with an image model, in four styles, for people to verify."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmrel_kit.endpoint import Endpoint, Request
from mmrel_kit.files import InputError, write_bytes
from mmrel_kit.pictures.validate import check_picture
from mmrel_kit.questions.records import Triplet
from mmrel_kit.questions.taxonomy import read_taxonomy
from mmrel_kit.semidc.items import Proposal, read_json_objects, read_triplet
from mmrel_kit.semidc.model.propose import newest_prompt, read_prompt
from mmrel_kit.semidc.words import spoken_article

PARAMETERS = {"response_format": "b64_json"}
SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class Drawing(NamedTuple):
    """A triplet to generate a picture of, and the style of the picture."""

    category: str
    triplet: Triplet
    style: str


def generate(
    drawings: Iterable[Drawing],
    endpoint: Endpoint,
    images: Path,
    drops: Counter[str],
    progress: Callable[[], None] = lambda: None,
) -> list[Proposal]:
    """Generate pictures, save them, and return them as sorted proposals.

    Duplicate drawings are ignored, and failures are added to `drops` by reason. `progress` is
    called after each reply.
    """
    name = newest_prompt("image")
    template = read_prompt(name)
    by_id = {str(number): drawing for number, drawing in enumerate(dict.fromkeys(drawings))}
    proposals = []
    requests = (Request(id_, make_prompt(template, drawing)) for id_, drawing in by_id.items())
    for reply in endpoint.ask(requests):
        progress()
        drawing = by_id[reply.request.id]
        if reply.text is None:
            drops[f"no reply: {reply.failure}"] += 1
            continue
        try:
            image_id = save_picture(reply.text, drawing, images)
        except InputError as error:
            drops[str(error)] += 1
            continue
        source = f"generate {name} {endpoint.model}"
        proposals.append(
            Proposal(image_id, drawing.category, drawing.triplet, None, None, "drawn", source)
        )
    return sorted(proposals)


def read_drawings(path: Path, styles: Iterable[str]) -> Iterator[Drawing]:
    """Yield the triplets of JSON lines, each in every style: all of the taxonomy if none is given.

    Raises:
        InputError: a style is unknown, or a line is not a triplet.
    """
    known = read_taxonomy().styles
    chosen = tuple(styles) or known
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise InputError(f"expected styles among {', '.join(known)}, got {', '.join(unknown)}")
    for where, value in read_json_objects(path):
        category, triplet = read_triplet(value, where, "dalle")
        for style in chosen:
            yield Drawing(category, triplet, style)


def make_prompt(template: str, drawing: Drawing) -> str:
    """Insert the style and the triplet into a prompt."""
    subject, relation, object_ = drawing.triplet
    than = "than " if drawing.category == "comparative" else ""
    values = {
        "style": drawing.style,
        "subject": f"{spoken_article(subject)} {subject}",
        "object": f"{spoken_article(object_)} {object_}",
        "statement": f"{subject} {relation} {than}{object_}",
    }
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def save_picture(encoded: str, drawing: Drawing, images: Path) -> str:
    """Write a generated picture unless the file exists; return its path below `images`.

    Raises:
        InputError: the reply is not a picture.
    """
    try:
        data = base64.b64decode(encoded, validate=True)
        suffix = SUFFIXES[check_picture(data, "reply").format or ""]
    except (ValueError, KeyError):  # not base64, not a picture, or another format
        raise InputError("reply: no picture (PNG, JPEG or WebP)") from None
    # Upstream numbers its pictures. Here the number is a hash of the content, so that the same
    # picture is stored once.
    number = int(hashlib.sha256(data).hexdigest()[:15], 16)
    image_id = f"Dall-E_generated/{drawing.category}/{number:018d}_{drawing.style}.{suffix}"
    if not (images / image_id).is_file():
        write_bytes(images / image_id, data)
    return image_id

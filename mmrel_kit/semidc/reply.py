# SPDX-License-Identifier: Apache-2.0
"""The JSON reply with a model's triplets: `propose` requests it, `audit` reads it from stores."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import mmrel
from mmrel_kit.files import InputError

_TRIPLET: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["subject", "relation", "object", "confidence"],
    "properties": {
        "subject": {"type": "string"},
        "relation": {"type": "string"},
        "object": {"type": "string"},
        "confidence": {"type": "number"},
    },
}
REPLY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["triplets"],
    "properties": {"triplets": {"type": "array", "items": _TRIPLET}},
}


def parse_reply(text: str) -> list[dict[str, Any]]:
    """Return the unchanged triplets of a reply, as dicts of `REPLY_SCHEMA`.

    Raises:
        InputError: the text is not JSON of the schema; the message holds only the reason.
    """
    try:
        value = json.loads(_strip_fence(text))
    except (ValueError, RecursionError):
        raise InputError("not JSON") from None
    if _schema_validator()(value):
        raise InputError("does not match the schema")
    triplets: list[dict[str, Any]] = value["triplets"]
    return triplets


def _strip_fence(text: str) -> str:
    """Return a reply without the code fence that models often put around JSON."""
    lines = text.strip().splitlines()
    if len(lines) > 2 and lines[0].startswith("```") and lines[-1] == "```":
        return "\n".join(lines[1:-1])
    return text


@functools.cache
def _schema_validator() -> Callable[[Any], str | None]:
    return mmrel.make_validator(REPLY_SCHEMA)

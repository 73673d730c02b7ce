# SPDX-License-Identifier: Apache-2.0
"""Read values of the command line; each error says what was expected and what came."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from pathlib import Path

MAX_DIGITS = 9
_SHARE = re.compile(rf"([0-9]{{1,{MAX_DIGITS}}})/([0-9]{{1,{MAX_DIGITS}}})")


def parse_share(text: str) -> tuple[int, int]:
    """Read which share of how many is meant.

    >>> parse_share("3/64")
    (3, 64)

    Raises:
        ArgumentTypeError: it is something else than I/N with 1 <= I <= N.
    """
    match = _SHARE.fullmatch(text)
    if match:
        index, count = int(match[1]), int(match[2])
        if 1 <= index <= count:
            return index, count
    raise ArgumentTypeError(f"expected I/N with 1 <= I <= N, such as 3/64, got {text[:80]!a}")


def parse_path(text: str) -> Path:
    """Read a path; an empty one, as of a variable that is not set, is not the current folder.

    Raises:
        ArgumentTypeError: it is empty.
    """
    if text:
        return Path(text)
    raise ArgumentTypeError("expected a path, got ''; write . for the current folder")


def parse_positive(text: str) -> int:
    """Read a whole number from 1 on.

    >>> parse_positive("4")
    4

    Raises:
        ArgumentTypeError: it is something else.
    """
    if re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", text) and int(text) >= 1:
        return int(text)
    raise ArgumentTypeError(f"expected a whole number from 1 on, such as 4, got {text[:80]!a}")

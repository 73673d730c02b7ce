# SPDX-License-Identifier: Apache-2.0
"""Validate a picture: its format, its size, and that it can be decoded."""

from __future__ import annotations

import io
import re
import warnings

from PIL import Image

from mmrel_kit.files import InputError, Problem

FORMATS = ("JPEG", "PNG", "WEBP")
# Beyond it, Pillow and the Hub's viewer refuse a picture as a decompression bomb.
MAX_PIXELS = 178_956_970
MAX_REASON = 120  # characters of Pillow's message
_ADDRESS = re.compile(r"\s*<[^<>]* at 0x[0-9A-Fa-f]+>")
# What Pillow's decoders raise for damaged files; its UnidentifiedImageError is an OSError.
_FAILURES = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, MemoryError)


def check_picture(data: bytes, where: str) -> Image.Image:
    """Return the decoded picture; `where` names it in errors.

    Raises:
        InputError: it is not a JPEG, PNG or WebP, is damaged, or has more than `MAX_PIXELS`.
    """
    image = decode_picture(data, where)
    if isinstance(image, Problem):
        raise InputError(str(image))
    return image


def decode_picture(data: bytes, where: str) -> Image.Image | Problem:
    """Return the decoded picture, or what is wrong with it; see `check_picture`."""
    expected = f"expected a picture of at most {MAX_PIXELS} pixels"
    try:
        with warnings.catch_warnings():
            # Bombs are refused below; other warnings are about metadata.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                return Problem(where, f"{expected}, got {width} x {height}")
            image.load()
    except Image.DecompressionBombError:
        return Problem(where, f"{expected}, got far more")
    except _FAILURES as error:
        reason = _describe_failure(error)
        return Problem(where, f"expected a complete {', '.join(FORMATS)} picture: {reason}")
    return image


def check_header(data: bytes, where: str) -> None:
    """Check that data begin like a picture, without decoding it; see `check_picture`.

    Raises:
        InputError: it is not a JPEG, PNG or WebP, or has more than `MAX_PIXELS`.
    """
    size = read_size(data)
    if size is None:
        raise InputError(f"{where}: expected a {', '.join(FORMATS)} picture, got other data")
    if size[0] * size[1] > MAX_PIXELS:
        got = f"{size[0]} x {size[1]}"
        raise InputError(f"{where}: expected a picture of at most {MAX_PIXELS} pixels, got {got}")


def read_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a picture in pixels, from its header; None if it is unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=FORMATS).size
    except (*_FAILURES, Image.DecompressionBombError):
        return None


def _describe_failure(error: BaseException) -> str:
    """Return Pillow's message on one line, without addresses of objects.

    >>> _describe_failure(OSError("cannot identify image file <_io.BytesIO object at 0x7f3a>"))
    'cannot identify image file'
    """
    text = _ADDRESS.sub("", " ".join(str(error).split()))
    return text[:MAX_REASON] or type(error).__name__

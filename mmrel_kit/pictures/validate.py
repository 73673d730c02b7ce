# SPDX-License-Identifier: Apache-2.0
"""Validate a picture: its format, its size, and that it can be decoded."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from PIL import Image, ImageFile

from mmrel_kit.files import InputError, Problem

FORMATS = ("JPEG", "PNG", "WEBP")
# Beyond it, Pillow and the Hub's viewer refuse a picture as a decompression bomb.
MAX_PIXELS = 178_956_970
MAX_REASON = 120  # characters of Pillow's message
_ADDRESS = re.compile(r"\s*<[^<>]* at 0x[0-9A-Fa-f]+>")
# What Pillow's decoders raise for damaged files; its UnidentifiedImageError is an OSError.
_FAILURES = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, MemoryError)
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PNG_FILTERS = bytes(range(5))
_INFLATED_AT_ONCE = 1 << 20  # bytes
_INFLATER = "mmrel-inflate"  # name of the decoder at Pillow


class VerifiedPicture(NamedTuple):
    """A picture whose data are complete, with its size in pixels.

    `image` has the metadata of the file, but not its pixels.
    """

    image: Image.Image
    width: int
    height: int


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
    return _decode(data, where, lambda image: None)


def decode_grey(data: bytes, where: str, min_side: int) -> Image.Image | Problem:
    """Return the picture in grey, or what is wrong with it; see `check_picture`.

    It has a half, a quarter or an eighth of its size while that many pixels are left of the shorter
    side. A JPEG is decoded in that size.
    """
    image = _decode(data, where, lambda image: _draft_grey(image, min_side))
    if isinstance(image, Problem):
        return image
    grey = image.convert("L")
    factor = _find_factor(grey, min_side)
    return grey.reduce(factor) if factor > 1 else grey


def _draft_grey(image: ImageFile.ImageFile, min_side: int) -> None:
    factor = _find_factor(image, min_side)
    image.draft("L", (image.width // factor, image.height // factor))


def _find_factor(image: Image.Image, min_side: int) -> int:
    """Return the largest of 1, 2, 4 and 8 by which the shorter side can be divided."""
    factor = 1
    while factor < 8 and min(image.size) // (2 * factor) >= min_side:
        factor *= 2
    return factor


def _decode(
    data: bytes, where: str, prepare: Callable[[ImageFile.ImageFile], object]
) -> Image.Image | Problem:
    """Open a picture, prepare it for decoding, and decode it."""
    expected = f"expected a picture of at most {MAX_PIXELS} pixels"
    try:
        with warnings.catch_warnings():
            # Bombs are refused below; other warnings are about metadata.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                return Problem(where, f"{expected}, got {width} x {height}")
            prepare(image)
            image.load()
    except Image.DecompressionBombError:
        return Problem(where, f"{expected}, got far more")
    except _FAILURES as error:
        reason = _describe_failure(error)
        return Problem(where, f"expected a complete {', '.join(FORMATS)} picture: {reason}")
    return image


def verify_picture(data: bytes, where: str) -> VerifiedPicture | Problem:
    """Check a picture like `decode_picture`, with the same verdict, but do not make its pixels.

    All data are decompressed: the coefficients of a JPEG, and the rows of a PNG, whose filters are
    not applied. This takes about half the time. Where it fails, and for other formats, the picture
    is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height <= MAX_PIXELS and _avoid_pixels(image, data):
                image.load()
                return VerifiedPicture(image, width, height)
    except (*_FAILURES, zlib.error, Image.DecompressionBombError):
        pass  # decoding says what is wrong
    decoded = decode_picture(data, where)
    if isinstance(decoded, Problem):
        return decoded
    return VerifiedPicture(decoded, *decoded.size)


def _avoid_pixels(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Make `load` decompress a picture without most of the other work; return whether it will."""
    if len(image.tile) != 1:
        return False
    if image.format == "JPEG":
        # The decoder reads all coefficients, and makes pixels from the first of each 64 alone.
        image.draft(image.mode, (1, 1))
        return True
    tile = image.tile[0]
    if tile[0] != "zip" or data[12:16] != b"IHDR":
        return False
    depth, colour, interlaced = data[24], data[25], data[28]
    if interlaced:
        return False
    bits = image.width * depth * _PNG_CHANNELS[colour]
    inflater: Any = (_INFLATER, *tile[1:3], (1 + (bits + 7) // 8, image.height))
    image.tile = [inflater]
    return True


class _PngInflater(ImageFile.PyDecoder):
    """Decompresses the rows of a PNG, and checks their number and the kinds of their filters."""

    def init(self, args: tuple[Any, ...]) -> None:
        self._stride, rows = args
        self._missing = self._stride * rows
        self._stream = zlib.decompressobj()

    def decode(self, buffer: Any) -> tuple[int, int]:
        """Return the bytes that were decompressed, -1 after the last row; and 0 for no error."""
        used = len(buffer)
        while buffer and self._missing:
            start = self._missing % self._stride  # of the next row, whose first byte is its filter
            rows = self._stream.decompress(buffer, min(self._missing, _INFLATED_AT_ONCE))
            if rows[start :: self._stride].strip(_PNG_FILTERS):
                raise ValueError("a row of a PNG has an unknown filter")
            self._missing -= len(rows)
            buffer = self._stream.unconsumed_tail
        if not self._missing:
            return -1, 0
        if self._stream.eof:
            raise EOFError("a PNG has fewer rows than its header says")
        return used, 0


Image.register_decoder(_INFLATER, _PngInflater)


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

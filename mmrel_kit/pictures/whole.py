# SPDX-License-Identifier: Apache-2.0
"""Check that a picture is whole: it decodes, and is of a known format and a bearable size."""

from __future__ import annotations

import io
import re
import warnings

from PIL import Image

from mmrel_kit.files import InputError

FORMATS = ("JPEG", "PNG", "WEBP")
# Pillow's own bound, from which on it refuses a picture as a decompression bomb; so does the Hub's viewer.
MAX_PIXELS = 178_956_970
MAX_REASON = 120  # characters of what Pillow says
_ADDRESS = re.compile(r"\s*<[^<>]* at 0x[0-9A-Fa-f]+>")


def check_picture(data: bytes, where: str) -> Image.Image:
    """Decode a picture whole, to know that it opens.

    Raises:
        InputError: it is not a JPEG, PNG or WebP, is damaged, or holds more than `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs are refused below; other warnings are of metadata
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise InputError(f"{where}: expected a picture of at most {MAX_PIXELS} pixels, got {width} x {height}")
            image.load()
    except Image.DecompressionBombError:
        raise InputError(f"{where}: expected a picture of at most {MAX_PIXELS} pixels, got far more") from None
    except InputError:
        raise
    # Pillow's decoders let these through for damaged files, beside its own UnidentifiedImageError (an OSError).
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, MemoryError) as error:
        reason = describe_failure(error)
        raise InputError(f"{where}: expected a whole {', '.join(FORMATS)} picture: {reason}") from None
    return image


def describe_failure(error: BaseException) -> str:
    """Return what Pillow says of a picture, on one line, without addresses of objects.

    >>> describe_failure(OSError("cannot identify image file <_io.BytesIO object at 0x7f3a>"))
    'cannot identify image file'
    """
    text = _ADDRESS.sub("", " ".join(str(error).split()))
    return text[:MAX_REASON] or type(error).__name__

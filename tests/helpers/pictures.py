# SPDX-License-Identifier: Apache-2.0
"""Pictures of the tests, whole ones and others."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def make_jpeg() -> bytes:
    """Return a JPEG of noise, 40 x 30."""
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 50).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def make_png(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a PNG whose header says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, body in (
        (b"IHDR", header),
        (b"IDAT", data or zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ):
        chunks += (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
    return b"\x89PNG\r\n\x1a\n" + chunks

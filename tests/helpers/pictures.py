# SPDX-License-Identifier: Apache-2.0
"""Encoded pictures, whole and damaged."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def make_jpeg() -> bytes:
    """Return a JPEG of noise, 40 x 30 pixels."""
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 50).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def make_png(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a PNG whose header states a size that its data need not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [
        _make_chunk(b"IHDR", header),
        _make_chunk(b"IDAT", data or zlib.compress(b"\0" * 100)),
        _make_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _make_chunk(kind: bytes, body: bytes) -> bytes:
    length = struct.pack(">I", len(body))
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return length + kind + body + checksum

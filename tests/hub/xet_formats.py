# SPDX-License-Identifier: Apache-2.0
"""Readers of what hf_xet uploads: xorbs hold chunks, shards list the chunks of each file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pyarrow

# Compression of a chunk: 0 none, 1 LZ4, 2 LZ4 over grouped bytes (see `ungroup`).
GROUPED_LZ4 = 2


def merkle_hex(raw: bytes) -> str:
    """Return a hash as Xet prints it: four little-endian 64-bit numbers."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def read_xorb(path: Path, first: int, end: int) -> Iterator[bytes]:
    """Yield the chunks `first` to `end` of a xorb, decompressed."""
    with path.open("rb") as file:
        for number in range(end):
            # A header of 8 bytes: version, compressed size (3), compression, size (3).
            header = file.read(8)
            compressed_size = int.from_bytes(header[1:4], "little")
            compression = header[4]
            size = int.from_bytes(header[5:8], "little")
            if number < first:
                file.seek(compressed_size, 1)
                continue
            data = file.read(compressed_size)
            if compression:
                data = pyarrow.decompress(data, decompressed_size=size, codec="lz4", asbytes=True)
            if compression == GROUPED_LZ4:
                data = ungroup(data)
            yield data


def ungroup(data: bytes) -> bytes:
    """Undo Xet's grouping: first bytes of all groups of four, then all second ones, and so on."""
    ungrouped = bytearray(len(data))
    start = 0
    for position in range(4):
        length = len(range(position, len(data), 4))
        ungrouped[position::4] = data[start : start + length]
        start += length
    return bytes(ungrouped)


def read_shard(data: bytes) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Yield the SHA-256 of each file in a shard with its chunks: (xorb, first chunk, end chunk)."""
    at = 48
    while data[at : at + 32] != b"\xff" * 32:
        flags, count = struct.unpack_from("<II", data, at + 32)
        has_verification = flags >> 31 & 1
        has_sha256 = flags >> 30 & 1
        at += 48
        chunks = []
        for _ in range(count):
            first, end = struct.unpack_from("<II", data, at + 40)
            chunks.append((merkle_hex(data[at : at + 32]), first, end))
            at += 48
        if has_verification:
            at += 48 * count
        if has_sha256:
            yield merkle_hex(data[at : at + 32]), chunks
            at += 48

# SPDX-License-Identifier: Apache-2.0
"""What hf_xet sends to a content-addressed store, read back: xorbs hold chunks, shards say which make up a file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pyarrow


def merkle_hex(raw: bytes) -> str:
    """Xet prints a hash as four little-endian 64-bit numbers."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def read_xorb(path: Path, first: int, end: int) -> Iterator[bytes]:
    """Yield chunks `first` to `end` of a xorb, unpacked; a chunk has a header of 8 bytes before its data."""
    with path.open("rb") as file:
        for number in range(end):
            header = file.read(8)
            packed, size = (int.from_bytes(header[at : at + 3], "little") for at in (1, 5))
            if number < first:
                file.seek(packed, 1)
                continue
            data = file.read(packed)
            if header[
                4
            ]:  # 1: LZ4 frame; 2: LZ4 over bytes that were sorted by their place in a group of four
                data = pyarrow.decompress(data, decompressed_size=size, codec="lz4", asbytes=True)
            yield ungroup(data) if header[4] == 2 else data


def ungroup(data: bytes) -> bytes:
    """Undo Xet's byte grouping: all first bytes of each four, then all second ones, and so on."""
    out, start = bytearray(len(data)), 0
    for place in range(4):
        length = len(range(place, len(data), 4))
        out[place::4] = data[start : start + length]
        start += length
    return bytes(out)


def read_shard(data: bytes) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Yield each file of a shard: its SHA-256 and the chunks that it is made of."""
    at = 48
    while data[at : at + 32] != b"\xff" * 32:
        flags, count = struct.unpack_from("<II", data, at + 32)
        at += 48
        terms = []
        for _ in range(count):
            first, end = struct.unpack_from("<II", data, at + 40)
            terms.append((merkle_hex(data[at : at + 32]), first, end))
            at += 48
        at += 48 * count if flags >> 31 else 0
        if flags >> 30 & 1:
            yield merkle_hex(data[at : at + 32]), terms
            at += 48

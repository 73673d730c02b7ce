# SPDX-License-Identifier: Apache-2.0
"""Check that damaged archives give the same rows or a ReleaseError, and never fewer rows."""

from __future__ import annotations

import contextlib
import random
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mmrel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ARCHIVE = "data/real/test-00000.tar"
BLOCK = mmrel.TAR_BLOCK
FEW = 420  # mutations, a multiple of the number of kinds
MANY = 3080
MAX_MEMORY = 8 << 20  # bytes that reading this small archive may need, whatever its headers say


def flip_bytes(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice([1, 1, 1, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def flip_in_header(data: bytearray, draw: random.Random) -> None:
    start = draw.choice(find_headers(data))
    data[start + draw.randrange(300)] ^= 1 << draw.randrange(8)


def zero_header(data: bytearray, draw: random.Random) -> None:
    start = draw.choice(find_headers(data))
    data[start : start + BLOCK] = bytes(BLOCK)


def zero_last_header(data: bytearray, draw: random.Random) -> None:
    # The archive used to end here: with fewer rows, and no error.
    start = find_headers(data)[-draw.randint(1, 2)]
    data[start : start + BLOCK] = bytes(BLOCK)


def zero_to_the_end(data: bytearray, draw: random.Random) -> None:
    start = draw.choice(find_headers(data)[-8:])
    data[start:] = bytes(len(data) - start)


def zero_blocks(data: bytearray, draw: random.Random) -> None:
    start, count = draw.randrange(len(data) // BLOCK), draw.randint(1, 4)
    end = min(len(data), (start + count) * BLOCK)
    data[start * BLOCK : end] = bytes(end - start * BLOCK)


def truncate(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def truncate_to_a_record(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) // mmrel.TAR_RECORD * mmrel.TAR_RECORD :]


def append(data: bytearray, draw: random.Random) -> None:
    data += draw.choice([bytes(BLOCK), bytes(mmrel.TAR_RECORD), b"x" * BLOCK])


def swap_blocks(data: bytearray, draw: random.Random) -> None:
    one, other = (draw.randrange(len(data) // BLOCK) * BLOCK for _ in range(2))
    block = data[one : one + BLOCK]
    data[one : one + BLOCK] = data[other : other + BLOCK]
    data[other : other + BLOCK] = block


def delete_block(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data) // BLOCK) * BLOCK
    del data[start : start + BLOCK]
    data += bytes(BLOCK)


def repeat_block(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data) // BLOCK) * BLOCK
    data[start:start] = data[start : start + BLOCK]
    del data[-BLOCK:]


def move_sample(data: bytearray, draw: random.Random) -> None:
    """Move the first pictures with their records to the end: every member stays whole."""
    headers = find_headers(data)
    start = headers[2 * draw.randrange(1, len(headers) // 2)]
    end = len(bytes(data).rstrip(b"\0"))
    end += -end % BLOCK
    data[:end] = data[start:end] + data[:start]


def delete_sample(data: bytearray, draw: random.Random) -> None:
    """Delete a picture and its records, and keep the size."""
    headers = [*find_headers(data), len(data) - 2 * BLOCK]
    number = 2 * draw.randrange(len(headers) // 2)
    size = headers[number + 2] - headers[number]
    del data[headers[number] : headers[number + 2]]
    data += bytes(size)


KINDS = (
    *(flip_bytes, flip_in_header, zero_header, zero_last_header, zero_to_the_end, zero_blocks),
    *(truncate, truncate_to_a_record, append, swap_blocks, delete_block, repeat_block),
    *(move_sample, delete_sample),
)


def find_headers(data: bytearray) -> list[int]:
    """Return where the members of an archive begin."""
    return [
        start for start in range(0, len(data), BLOCK) if data[start + 257 : start + 262] == b"ustar"
    ]


class Loader:
    """Reads one archive of a release, as the builder does for plain loads and for streams."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.path = root / ARCHIVE
        self.builder = mmrel.MMRel(str(cache), config_name="real", base_path=str(root))
        self.lax = mmrel.MMRel(str(cache), config_name="real", base_path=str(root), verify=False)
        self.pictures = cache / mmrel.PICTURES

    def read(self, builder: mmrel.MMRel, embed: bool) -> list[Any]:
        """Return keys and rows, with pictures as bytes; check the size first, as a load does."""
        builder.release.check_file(ARCHIVE)
        rows = []
        for key, row in builder._generate_examples([(ARCHIVE, str(self.path))], embed):
            rows.append((key, row))
        if not embed:
            rows = [(key, {**row, "image": self._read_image(row)}) for key, row in rows]
        shutil.rmtree(self.pictures, ignore_errors=True)
        return rows

    def _read_image(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"bytes": Path(row["image"]["path"]).read_bytes(), "path": row["image_id"]}


@pytest.fixture
def loader(release: Path, tmp_path: Path) -> Loader:
    return Loader(release, tmp_path / "cache")


def mutate(whole: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    draw = random.Random(16)
    for number in range(count):
        kind: Callable[[bytearray, random.Random], None] = KINDS[number % len(KINDS)]
        data = bytearray(whole)
        kind(data, draw)
        yield f"{number} {kind.__name__}", bytes(data)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.damage)])
def test_the_same_rows_or_an_error(loader: Loader, count: int) -> None:
    whole = loader.path.read_bytes()
    expected = loader.read(loader.builder, embed=True)
    assert loader.read(loader.builder, embed=False) == expected
    assert len(expected) > 5
    outcomes: Counter[str] = Counter()
    for name, data in mutate(whole, count):
        loader.path.write_bytes(data)
        for embed in (True, False):
            try:
                rows = loader.read(loader.builder, embed)
            except mmrel.ReleaseError as error:
                assert ARCHIVE in str(error), name
                assert len(str(error)) < 1000
                assert not any(loader.pictures.glob("*/*")), name
                outcomes["errors"] += 1
            else:
                assert rows == expected, name
                assert data == whole, name
                outcomes["same"] += 1
    assert outcomes.total() == 2 * count
    assert outcomes["same"] < count / 5  # such as two swapped blocks of zeros


def test_without_verification_the_structure_is_still_checked(loader: Loader) -> None:
    whole = loader.path.read_bytes()
    expected = loader.read(loader.lax, embed=True)
    for name, data in mutate(whole, FEW):
        loader.path.write_bytes(data)
        try:
            rows = loader.read(loader.lax, embed=True)
        except mmrel.ReleaseError as error:
            assert ARCHIVE in str(error), name
        else:
            # Only the hash shows that whole members were replaced by zeros at the end.
            may_lack = "zero_to_the_end" in name or "delete_sample" in name
            assert may_lack or len(rows) == len(expected), name


def test_memory_is_bounded(loader: Loader) -> None:
    whole = loader.path.read_bytes()
    tracemalloc.start()
    for _, data in mutate(whole, FEW):
        loader.path.write_bytes(data)
        tracemalloc.reset_peak()
        with contextlib.suppress(mmrel.ReleaseError):
            loader.read(loader.builder, embed=True)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    tracemalloc.stop()


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
def test_through_load(release: Path, tmp_path: Path, streaming: bool) -> None:
    path = release / ARCHIVE
    whole = path.read_bytes()
    expected = len(list(mmrel.load("real", "test", streaming, release)))
    for number, (name, data) in enumerate(mutate(whole, 3 * len(KINDS))):
        path.write_bytes(data)
        cache = str(tmp_path / f"cache{number}")
        try:
            rows = list(mmrel.load("real", "test", streaming, release, cache_dir=cache))
        except mmrel.ReleaseError as error:
            # A stream decodes pictures before it reaches the end of their archive.
            assert ARCHIVE in str(error) or "is damaged" in str(error), name
        else:
            assert len(rows) == expected
            assert data == whole, name


def test_filters_lose_nothing(loader: Loader, release: Path, tmp_path: Path) -> None:
    # A changed category used to be left out as one that is not wanted, without an error.
    whole = loader.path.read_bytes()
    for old, new in ((b'"spatial"', b'"spatiel"'), (b'"generative"', b'"generatiwe"')):
        assert old in whole
        loader.path.write_bytes(whole.replace(old, new, 1))
        for verify in (True, False):
            with pytest.raises(mmrel.ReleaseError, match="field (category|task)"):
                list(
                    mmrel.load(
                        "real",
                        "test",
                        True,
                        release,
                        categories=["spatial"],
                        tasks=["generative"],
                        verify=verify,
                    )
                )

# SPDX-License-Identifier: Apache-2.0
"""Read the Parquet files of a split, picture by picture, and check the viewer's requirements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from mmrel_kit.build.tables import GROUP_DECODED_BYTES, GROUP_ROWS, make_schema
from mmrel_kit.check.formats import PictureEntry, ReadItem, Unreadable
from mmrel_kit.files import Problem

# pyarrow's ParquetFile.read() fails on a file with more bytes of pictures, one copy per row.
FILE_DECODED_BYTES = 1 << 31
# The pictures of a row group take at most this in any release; `build` now writes smaller ones. Its
# other columns may add the tolerance.
GROUP_STORED_BYTES = 96 << 20
STORED_TOLERANCE = 1.05


def read_tables(root: Path, names: Sequence[str]) -> Iterator[ReadItem]:
    """Read the Parquet files of a split, one row group in memory."""
    for name in names:
        try:
            with pq.ParquetFile(root / name) as file:
                schema = file.schema_arrow
                if not schema.equals(make_schema(), check_metadata=True):
                    got = schema.to_string()[:400]
                    message = f"expected the columns and metadata of a release, got {got}"
                    yield Unreadable(Problem(name, message))
                    return
                yield from _check_groups(name, file)
                metadata = file.metadata
            # Each picture of a row group is read once, as the value of a dictionary.
            with pq.ParquetFile(
                root / name, metadata=metadata, read_dictionary=["image.bytes"]
            ) as file:
                yield from _read_rows(name, file)
        except (pa.ArrowException, OSError) as error:
            yield Unreadable(Problem(name, f"expected a readable Parquet file: {str(error)[:200]}"))
            return


def _check_groups(name: str, file: pq.ParquetFile) -> Iterator[Problem]:
    """Check the row groups by the footer of the file."""
    for index in range(file.num_row_groups):
        group = file.metadata.row_group(index)
        where = f"{name}: row group {index}"
        columns = [group.column(number) for number in range(group.num_columns)]
        stored = sum(column.total_compressed_size for column in columns)
        if group.num_rows > GROUP_ROWS or stored > GROUP_STORED_BYTES * STORED_TOLERANCE:
            message = (
                f"expected at most {GROUP_ROWS} rows and {GROUP_STORED_BYTES} bytes, "
                f"got {group.num_rows} rows and {stored} bytes"
            )
            yield Problem(where, message)
        if not all(column.has_offset_index for column in columns):
            message = "expected a page index, got none; write the file with write_page_index"
            yield Problem(where, message)
        picture = next(column for column in columns if column.path_in_schema == "image.bytes")
        if not picture.has_dictionary_page:
            message = "expected a dictionary page of the pictures, got a copy in each row"
            yield Problem(where, message)


def _read_rows(name: str, file: pq.ParquetFile) -> Iterator[PictureEntry | Problem]:
    """Read the rows of each picture; those of one picture may span several row groups."""
    decoded = 0
    where = name
    pending: list[dict[str, Any]] = []
    for index in range(file.num_row_groups):
        where = f"{name}: row group {index}"
        rows = _read_group(file, index)
        size = sum(len((row["image"] or {}).get("bytes") or b"") for row in rows)
        decoded += size
        yield from _check_group(where, rows, size, pending)
        pending += rows
        groups = _group_rows(pending)
        for group in groups[:-1]:
            yield PictureEntry(where, group)
        pending = groups[-1] if groups else []
        del rows, groups  # so that two row groups are not in memory
    if pending:
        yield PictureEntry(where, pending)
    if decoded >= FILE_DECODED_BYTES:
        message = f"{decoded} bytes once decoded; reading a file at once fails from 2 GiB on"
        yield Problem(name, message, is_warning=True)


def _read_group(file: pq.ParquetFile, index: int) -> list[dict[str, Any]]:
    """Read the rows of a row group; those with the same picture share its Arrow buffer."""
    rows: list[dict[str, Any]] = []
    for batch in file.read_row_group(index).to_batches():
        texts = batch.select(mmrel.COLUMNS).to_pylist()
        for image, row in zip(_read_images(batch.column("image")), texts, strict=True):
            rows.append({"image": image, **row})
    return rows


def _read_images(images: pa.StructArray) -> Iterator[dict[str, Any] | None]:
    """Yield the picture and the path of each row; None where both are null."""
    stored = images.field("bytes")
    pictures = [value.as_buffer() for value in stored.dictionary]
    paths = images.field("path").to_pylist()
    for is_valid, picture, path in zip(
        images.is_valid().to_pylist(), stored.indices.to_pylist(), paths, strict=True
    ):
        data = None if picture is None else pictures[picture]
        yield {"bytes": data, "path": path} if is_valid else None


def _check_group(
    where: str, rows: list[dict[str, Any]], size: int, before: list[dict[str, Any]]
) -> Iterator[Problem]:
    """Check a row group.

    `size` is the bytes of its pictures, one copy per row; `before` has the rows of the last picture
    before it.
    """
    if not rows:
        return
    pictures = [row["image_id"] for row in rows]
    is_unreadable = size >= FILE_DECODED_BYTES
    if size > GROUP_DECODED_BYTES and (len(set(pictures)) > 1 or is_unreadable):
        expected = f"at most {GROUP_DECODED_BYTES} bytes of pictures once decoded"
        yield Problem(where, f"expected {expected}, got {size}")
    continues_picture = bool(before) and before[-1]["image_id"] == pictures[0]
    if continues_picture and pictures[0] != pictures[-1]:
        message = f"expected row groups cut between pictures, got {pictures[0]!r} on both sides"
        yield Problem(where, message)


def _group_rows(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group consecutive rows of the same picture."""
    return [list(group) for _, group in groupby(rows, key=lambda row: row["image_id"])]

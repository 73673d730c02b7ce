# SPDX-License-Identifier: Apache-2.0
"""Writes and reads the Parquet of a release: a row per question, the picture embedded, stored once per row group."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from mmrel_kit.card.facts import describe_features

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mmrel_kit.pictures.archives import Picture

# The Hub's viewer fetches whole row groups a hundred rows at a time, at most 300,000,000 stored bytes; readers on
# top of Arrow fail where a row group's pictures take 2 GiB once each row has its own copy.
GROUP_ROWS = 100
GROUP_STORED_BYTES = 96 << 20
GROUP_DECODED_BYTES = 256 << 20
_PLAIN = ("question_id", "question")  # hardly ever twice the same
_REPEATED = ("image.bytes", "image.path", *(column for column in mmrel.COLUMNS if column not in _PLAIN))


def make_schema(columns: Sequence[str] = mmrel.COLUMNS) -> pa.Schema:
    """Arrow schema of a table with a picture; the metadata tells `datasets` and the viewer that `image` is one.

    The struct is exactly as the viewer expects it.
    """
    image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    fields = [pa.field("image", image), *(pa.field(column, pa.string()) for column in columns)]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": describe_features(columns)}})})


def write_table(path: Path, pictures: Iterable[Picture]) -> None:
    """Write the rows of some pictures; row groups are cut between pictures. Same pictures, same bytes."""
    schema = make_schema()
    compression = dict.fromkeys((*_PLAIN, *_REPEATED), "SNAPPY") | {"image.bytes": "NONE"}
    with pq.ParquetWriter(
        path,
        schema,
        use_dictionary=list(_REPEATED),
        dictionary_pagesize_limit=1 << 30,
        write_statistics=[name for name in (*_PLAIN, *_REPEATED) if name != "image.bytes"],
        write_page_index=True,
        compression=compression,
    ) as writer:
        for group in cut_groups(pictures):
            writer.write_table(_make_table(group, schema), row_group_size=sum(len(p.records) for p in group))


def cut_groups(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Pictures whose rows make a row group together, bounded in rows, stored and decoded bytes."""
    group: list[Picture] = []
    rows = stored = decoded = 0
    for picture in _split_long(pictures):
        size, count = len(picture.data), len(picture.records)
        if group and (
            rows + count > GROUP_ROWS
            or stored + size > GROUP_STORED_BYTES
            or decoded + size * count > GROUP_DECODED_BYTES
        ):
            yield group
            group, rows, stored, decoded = [], 0, 0, 0
        group.append(picture)
        rows, stored, decoded = rows + count, stored + size, decoded + size * count
    if group:
        yield group


def _split_long(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """Pictures as they are; one with more questions than a row group holds comes several times."""
    for picture in pictures:
        most = max(1, min(GROUP_ROWS, GROUP_DECODED_BYTES // max(1, len(picture.data))))
        for start in range(0, len(picture.records), most):
            yield picture._replace(records=picture.records[start : start + most])


def _make_table(pictures: list[Picture], schema: pa.Schema) -> pa.Table:
    records = [record for picture in pictures for record in picture.records]
    image = pa.StructArray.from_arrays(
        [
            pa.array([picture.data for picture in pictures for _ in picture.records], pa.binary()),
            pa.array([record.image_id for record in records], pa.string()),
        ],
        fields=list(schema.field("image").type),
    )
    columns = [pa.array([getattr(record, column) for record in records], pa.string()) for column in mmrel.COLUMNS]
    return pa.Table.from_arrays([image, *columns], schema=schema)

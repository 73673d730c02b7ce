# SPDX-License-Identifier: Apache-2.0
"""Write the Parquet of a release: a row per question, its picture stored once per row group."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from mmrel_kit.card.stats import describe_features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mmrel_kit.pictures.archives import Sample

# The Hub's viewer fetches whole row groups a hundred rows at a time, at most 300,000,000 stored
# bytes; readers on top of Arrow fail where a row group's pictures take 2 GiB once each row has its
# own copy.
GROUP_ROWS = 100
GROUP_STORED_BYTES = 96 << 20
GROUP_DECODED_BYTES = 256 << 20
_PLAIN = ("question_id", "question")  # hardly ever twice the same
_OTHERS = tuple(column for column in mmrel.COLUMNS if column not in _PLAIN)
_REPEATED = ("image.bytes", "image.path", *_OTHERS)


def make_schema(columns: Sequence[str] = mmrel.COLUMNS) -> pa.Schema:
    """Return the Arrow schema of a table with a picture and columns of text.

    Its metadata names `image` a picture to `datasets` and the viewer. The struct is exactly as the
    viewer expects it.
    """
    image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    fields = [pa.field("image", image), *(pa.field(column, pa.string()) for column in columns)]
    info = json.dumps({"info": {"features": describe_features(columns)}})
    return pa.schema(fields, metadata={"huggingface": info})


class TableWriter:
    """Writes the rows of pictures into a Parquet file; row groups are cut between pictures.

    The same pictures give the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self._schema = make_schema()
        compression = dict.fromkeys((*_PLAIN, *_REPEATED), "SNAPPY") | {"image.bytes": "NONE"}
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            use_dictionary=list(_REPEATED),
            dictionary_pagesize_limit=1 << 30,
            write_statistics=[name for name in (*_PLAIN, *_REPEATED) if name != "image.bytes"],
            write_page_index=True,
            compression=compression,
        )
        self._group: list[Sample] = []
        self._rows = self._stored = self._decoded = 0

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._write_group()
        finally:
            self._writer.close()

    def add(self, sample: Sample) -> None:
        """Add the rows of a picture; one with more than a row group holds is stored again."""
        most = max(1, min(GROUP_ROWS, GROUP_DECODED_BYTES // max(1, len(sample.data))))
        for start in range(0, len(sample.records), most):
            self._add_rows(sample._replace(records=sample.records[start : start + most]))

    def _add_rows(self, sample: Sample) -> None:
        size, rows = len(sample.data), len(sample.records)
        is_full = (
            self._rows + rows > GROUP_ROWS
            or self._stored + size > GROUP_STORED_BYTES
            or self._decoded + size * rows > GROUP_DECODED_BYTES
        )
        if is_full:
            self._write_group()
        self._group.append(sample)
        self._rows += rows
        self._stored += size
        self._decoded += size * rows

    def _write_group(self) -> None:
        if self._group:
            self._writer.write_table(make_table(self._group, self._schema), self._rows)
        self._group = []
        self._rows = self._stored = self._decoded = 0


def make_table(samples: Sequence[Sample], schema: pa.Schema) -> pa.Table:
    """Return the rows of some pictures as one Arrow table."""
    records = [record for sample in samples for record in sample.records]
    pictures = [sample.data for sample in samples for _ in sample.records]
    paths = [record.image_id for record in records]
    image = pa.StructArray.from_arrays(
        [pa.array(pictures, pa.binary()), pa.array(paths, pa.string())],
        fields=list(schema.field("image").type),
    )
    columns = []
    for name in mmrel.COLUMNS:
        columns.append(pa.array([getattr(record, name) for record in records], pa.string()))
    return pa.Table.from_arrays([image, *columns], schema=schema)

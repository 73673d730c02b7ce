# SPDX-License-Identifier: Apache-2.0
"""Write the Parquet files of a release: a row per question, each picture once per row group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from mmrel_kit.card.stats import describe_features
from mmrel_kit.pictures.archives import Sample
from mmrel_kit.questions.records import Record

# The Hub's viewer fetches a hundred rows at a time, in whole row groups of at most 300,000,000
# stored bytes. Readers based on Arrow fail on a row group whose pictures take 2 GiB with one copy
# per row.
GROUP_ROWS = 100
GROUP_STORED_BYTES = 96 << 20
GROUP_DECODED_BYTES = 256 << 20
_STORED_COLUMNS = ("image.bytes", "image.path", *mmrel.COLUMNS)
_UNIQUE_COLUMNS = ("question_id", "question")  # values hardly repeat, so they need no dictionary


def make_schema(columns: Sequence[str] = mmrel.COLUMNS) -> pa.Schema:
    """Return the Arrow schema of a table with a picture and columns of text.

    Its metadata makes `datasets` and the viewer treat `image` as a picture. The viewer expects
    exactly this struct.
    """
    image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    fields = [pa.field("image", image), *(pa.field(column, pa.string()) for column in columns)]
    info = json.dumps({"info": {"features": describe_features(columns)}})
    return pa.schema(fields, metadata={"huggingface": info})


class TableWriter:
    """Writes pictures and their records to a Parquet file; row groups end between pictures.

    The same input gives the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self._schema = make_schema()
        compression = dict.fromkeys(_STORED_COLUMNS, "SNAPPY")
        compression["image.bytes"] = "NONE"
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            use_dictionary=[name for name in _STORED_COLUMNS if name not in _UNIQUE_COLUMNS],
            dictionary_pagesize_limit=1 << 30,
            write_statistics=[name for name in _STORED_COLUMNS if name != "image.bytes"],
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
        """Add the rows of a picture; they take several row groups if one cannot hold them all."""
        copies = GROUP_DECODED_BYTES // max(1, len(sample.data))
        step = max(1, min(GROUP_ROWS, copies))
        for start in range(0, len(sample.records), step):
            self._add_rows(sample._replace(records=sample.records[start : start + step]))

    def _add_rows(self, sample: Sample) -> None:
        size = len(sample.data)
        rows = len(sample.records)
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
    records: list[Record] = []
    pictures: list[bytes] = []
    for sample in samples:
        records += sample.records
        pictures += [sample.data] * len(sample.records)
    paths = [record.image_id for record in records]
    image = pa.StructArray.from_arrays(
        [pa.array(pictures, pa.binary()), pa.array(paths, pa.string())],
        fields=list(schema.field("image").type),
    )
    columns = []
    for name in mmrel.COLUMNS:
        columns.append(pa.array([getattr(record, name) for record in records], pa.string()))
    return pa.Table.from_arrays([image, *columns], schema=schema)

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

# Limits of a row group. The Hub's viewer fetches a hundred rows at a time, in whole row groups of
# at most 300,000,000 stored bytes. Readers based on Arrow hold a copy of the picture per row, and
# fail on a row group where these take 2 GiB. The writer holds the pictures about four times.
GROUP_ROWS = 100
GROUP_STORED_BYTES = 24 << 20
GROUP_DECODED_BYTES = 256 << 20


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
        self._schema = _make_written_schema()
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            # Texts without a dictionary and compression read faster, and are 0.6 % of a file more.
            use_dictionary=["image.bytes"],
            dictionary_pagesize_limit=1 << 30,
            write_statistics=["image.path", *mmrel.COLUMNS],
            write_page_index=True,
            compression="NONE",
            store_schema=False,
        )
        for key, value in _make_metadata().items():
            self._writer.add_key_value_metadata({key: value})
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
    """Return the rows of some pictures as one Arrow table, which holds each picture once."""
    records: list[Record] = []
    indices: list[int] = []
    for index, sample in enumerate(samples):
        records += sample.records
        indices += [index] * len(sample.records)
    pictures = pa.DictionaryArray.from_arrays(
        pa.array(indices, pa.int32()), pa.array([sample.data for sample in samples], pa.binary())
    )
    paths = pa.array([record.image_id for record in records], pa.string())
    image = pa.StructArray.from_arrays([pictures, paths], fields=list(schema.field("image").type))
    columns = []
    for name in mmrel.COLUMNS:
        columns.append(pa.array([getattr(record, name) for record in records], pa.string()))
    return pa.Table.from_arrays([image, *columns], schema=schema)


def _make_written_schema() -> pa.Schema:
    """Return `make_schema` with a dictionary of pictures.

    So Arrow need not copy a picture per row. The file must not state this type (`_make_metadata`),
    since the viewer treats only plain binary as a picture.
    """
    schema = make_schema()
    bytes_, path = schema.field("image").type
    pictures = pa.field("bytes", pa.dictionary(pa.int32(), bytes_.type))
    return schema.set(0, pa.field("image", pa.struct([pictures, path])))


def _make_metadata() -> dict[bytes, bytes]:
    """Return the metadata of a file with `make_schema`, which tell readers its Arrow types."""
    file = pa.BufferOutputStream()
    pq.ParquetWriter(file, make_schema()).close()
    metadata: dict[bytes, bytes] = pq.read_metadata(pa.BufferReader(file.getvalue())).metadata
    return metadata

# SPDX-License-Identifier: Apache-2.0
"""The Parquet files that a build writes: each picture once per row group, in memory too."""

from __future__ import annotations

import base64
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmrel
from mmrel_kit.build import tables
from mmrel_kit.pictures.archives import Sample
from mmrel_kit.questions.records import Record

ROWS = 5  # of each picture
SIZE = 50_000  # bytes of a picture


def make_samples(count: int) -> list[Sample]:
    """Return pictures of random bytes, each with `ROWS` questions."""
    samples = []
    for number in range(count):
        image_id = f"vg/VG_100K/{number}.jpg"
        records = []
        for row in range(ROWS):
            texts = dict.fromkeys(mmrel.COLUMNS, f"{number} {row}") | {"image_id": image_id}
            records.append(Record(**texts))
        samples.append(Sample(image_id, Random(number).randbytes(SIZE), records))
    return samples


def test_rows_of_a_picture_share_its_bytes_in_memory() -> None:
    # Arrow used to get a copy per row, and a worker of a build took 720 MB.
    table = tables.make_table(make_samples(4), tables._make_written_schema())
    assert table.num_rows == 4 * ROWS
    assert table.nbytes < 4 * SIZE * 1.1


def test_the_file_states_plain_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The Hub's viewer shows no picture of a column whose Arrow type is a dictionary.
    monkeypatch.setattr(tables, "GROUP_STORED_BYTES", 3 * SIZE)
    samples = make_samples(7)
    path = tmp_path / "a.parquet"
    with tables.TableWriter(path) as writer:
        for sample in samples:
            writer.add(sample)
    with pq.ParquetFile(path) as file:
        assert file.schema_arrow.equals(tables.make_schema(), check_metadata=True)
        stored = base64.b64decode(file.metadata.metadata[b"ARROW:schema"])
        schema = pa.ipc.read_schema(pa.py_buffer(stored))
        assert schema.equals(tables.make_schema(), check_metadata=True)
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
        rows = pa.concat_tables(file.read_row_group(index) for index in range(len(groups)))
    assert [group.num_rows for group in groups] == [3 * ROWS, 3 * ROWS, ROWS]
    for group in groups:
        column = group.column(0)
        assert column.path_in_schema == "image.bytes"
        assert column.has_dictionary_page
        assert column.has_offset_index
        assert column.total_compressed_size < group.num_rows // ROWS * SIZE * 1.1
    expected = []
    for sample in samples:
        expected += [{"bytes": sample.data, "path": sample.image_id}] * ROWS
    assert rows["image"].to_pylist() == expected

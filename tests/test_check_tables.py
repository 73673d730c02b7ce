# SPDX-License-Identifier: Apache-2.0
"""`check` on the Parquet files: the rows, and what the Hub's viewer needs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.helpers.edit_release import edit_table, list_problems, seal


class TestTables:
    def test_a_changed_cell(self, release: Path) -> None:
        def edit(table: pa.Table) -> pa.Table:
            answers = ["no" if a == "yes" else a for a in table["answer"].to_pylist()]
            return table.set_column(
                table.schema.get_field_index("answer"), table.schema.field("answer"), [answers]
            )

        assert "row group 0: column answer differs from data/real/test.jsonl:1" in edit_table(
            release, edit
        )

    def test_rows_that_no_record_has(self, release: Path) -> None:
        # Only the rows of the records were compared.
        def edit(table: pa.Table) -> pa.Table:
            return pa.concat_tables([table, table.slice(table.num_rows - 1)])

        expected = "row group 0: expected 3 rows as data/real/test.jsonl:"
        assert expected in edit_table(release, edit)

    def test_another_picture(self, release: Path) -> None:
        def edit(table: pa.Table) -> pa.Table:
            images = [{**image, "bytes": b"x"} for image in table["image"].to_pylist()]
            return table.set_column(
                0, table.schema.field("image"), [pa.array(images, table.schema.field("image").type)]
            )

        assert "row group 0: column image differs from data/real/test.jsonl:1" in edit_table(
            release, edit
        )

    @pytest.mark.parametrize(
        "schema",
        [
            pa.struct([pa.field("path", pa.string()), pa.field("bytes", pa.binary())]),
            pa.struct([pa.field("bytes", pa.large_binary()), pa.field("path", pa.string())]),
        ],
        ids=["path first", "large binary"],
    )
    def test_another_image_type(self, release: Path, schema: pa.DataType) -> None:
        def edit(table: pa.Table) -> pa.Table:
            image = pa.array(table["image"].to_pylist(), schema)
            return table.set_column(0, "image", [image]).replace_schema_metadata(
                table.schema.metadata
            )

        assert "expected the columns and metadata of a release" in edit_table(release, edit)

    def test_no_metadata(self, release: Path) -> None:
        edited = edit_table(release, lambda table: table.replace_schema_metadata(None))
        assert "expected the columns and metadata of a release" in edited

    def test_a_feature_that_old_readers_do_not_know(self, release: Path) -> None:
        metadata = json.dumps(
            {"info": {"features": {"image": {"_type": "Image"}, "answer": {"_type": "List"}}}}
        )
        edited = edit_table(
            release, lambda table: table.replace_schema_metadata({"huggingface": metadata})
        )
        assert "expected the columns and metadata of a release" in edited

    def test_no_page_index(self, release: Path) -> None:
        assert "expected a page index" in edit_table(
            release, lambda table: table, write_page_index=False
        )

    def test_pictures_once_per_row(self, release: Path) -> None:
        assert "expected a dictionary page of the pictures" in edit_table(
            release, lambda t: t, use_dictionary=False
        )

    def test_row_groups_cut_within_a_picture(self, release: Path) -> None:
        edited = edit_table(release, lambda table: table, row_group_size=4)
        assert "expected row groups cut between pictures" in edited

    def test_large_row_groups(self, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mmrel_kit.check.tables.GROUP_ROWS", 2)
        monkeypatch.setattr("mmrel_kit.check.tables.GROUP_DECODED_BYTES", 100)
        monkeypatch.setattr("mmrel_kit.check.tables.FILE_DECODED_BYTES", 100)
        assert "expected at most 2 rows" in list_problems(release)
        assert "bytes of pictures once decoded" in list_problems(release)
        assert "warning: data/dalle/adversarial-00000-of-00002.parquet" in list_problems(release)

    def test_not_parquet(self, release: Path) -> None:
        path = sorted((release / "data" / "real").glob("test-*.parquet"))[0]
        path.write_bytes(b"PAR1" + b"\0" * 100)
        seal(release)
        assert "expected a readable Parquet file" in list_problems(release)

# SPDX-License-Identifier: Apache-2.0
"""Write and read the tables of hub_eval/ for the Hub's own evaluation (see `card.hub_eval`)."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import mmrel
from mmrel_kit.build.tables import GROUP_ROWS
from mmrel_kit.card.hub_eval import CONFIG, MAX_SIDE, METADATA, SPLITS, find_splits, make_eval
from mmrel_kit.pictures.validate import check_picture
from mmrel_kit.questions.records import make_prompt

QUALITY = 90  # of JPEG


def write_hub_eval(root: Path) -> None:
    """Write eval.yaml and hub_eval/ of a release from its archives."""
    import yaml

    (root / CONFIG).mkdir()
    schema = pa.schema([(name, pa.string()) for name in ("image", "input", "target", *METADATA)])
    for split in SPLITS:
        archives = sorted(root.glob(f"data/*/{split}-*.tar"))
        if not archives:
            continue
        path = root / CONFIG / f"{split}-00000-of-00001.parquet"
        with pq.ParquetWriter(path, schema, dictionary_pagesize_limit=1 << 30) as writer:
            for rows in _group_rows(_read_rows(archives)):
                writer.write_table(pa.Table.from_pylist(rows, schema), len(rows))
    text = yaml.safe_dump(make_eval(find_splits(root)), sort_keys=False, width=120)
    (root / "eval.yaml").write_text(text, "utf-8", newline="\n")


def read_texts(root: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield split, column and text of each cell; skip the pictures."""
    for split in find_splits(root):
        for path in sorted(root.glob(f"{CONFIG}/{split}-*.parquet")):
            with pq.ParquetFile(path) as file:
                columns = [name for name in file.schema_arrow.names if name != "image"]
                for batch in file.iter_batches(columns=columns):
                    for column in columns:
                        for value in batch.column(column).to_pylist():
                            yield split, column, value


def make_data_uri(data: bytes, where: str) -> str:
    """Return a picture as a data URI; scale a large one down, as JPEG.

    `where` names the picture in errors.

    Raises:
        InputError: the picture is damaged.
    """
    image = check_picture(data, where)
    media_type = Image.MIME[str(image.format)]
    if max(image.size) > MAX_SIDE:
        image = image.convert("RGB")
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        data, media_type = buffer.getvalue(), "image/jpeg"
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _read_rows(archives: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield a row for each yes/no question."""
    for path in archives:
        with open(path, "rb") as file:
            for records, data in mmrel.read_archive(file, path.name, path.stat().st_size):
                yes_no = [record for record in records if record["task"] == "discriminative"]
                if not yes_no:
                    continue
                uri = make_data_uri(data, f"{path}: {records[0]['image_id']}")
                for record in yes_no:
                    row = {"image": uri, "input": make_prompt(record), "target": record["answer"]}
                    for name in METADATA:
                        row[name] = record[name]
                    yield row


def _group_rows(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut rows into row groups, only between pictures."""
    group: list[dict[str, Any]] = []
    for row in rows:
        if len(group) >= GROUP_ROWS and row["image_id"] != group[-1]["image_id"]:
            yield group
            group = []
        group.append(row)
    if group:
        yield group

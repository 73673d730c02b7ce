# SPDX-License-Identifier: Apache-2.0
"""Reads the Parquet re-release of MMRel's DALL-E part: a row per question, the picture in each of its rows.

Its columns are `image, question_id, question, answer, source, eval_type, relation_type`; category and task are read
from `relation_type` (`dall-e_action`) and `eval_type`, the picture's name from the path that stands beside its bytes.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from mmrel_kit.files import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

COLUMNS = ("image", "question_id", "question", "answer", "eval_type", "relation_type")
ROWS = 8  # in memory at a time; a picture has about 1.5 MB
_MAGIC = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpg"), (b"RIFF", "webp"))
_DALLE = re.compile(r"(?:.*/)?(?:(?P<folder>action|spatial|comparative)/)?(?P<name>[^/]+)")


class Row(NamedTuple):
    """A question of the re-release, with MMRel's name for its picture."""

    where: str
    image_id: str
    picture: bytes
    question_id: Any
    question: str
    answer: str
    task: str | None
    category: str


def read_rerelease(path: Path) -> Iterator[Row]:
    """The rows of a file of the re-release, a few in memory at a time.

    Raises:
        InputError: the file is no Parquet, lacks a column, or a row lacks its picture or its kind of relation.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            if missing := set(COLUMNS) - set(file.schema_arrow.names):
                raise InputError(
                    f"{path}: expected the columns {', '.join(COLUMNS)}, {', '.join(sorted(missing))} missing"
                )
            number = 0
            for batch in file.iter_batches(batch_size=ROWS, columns=list(COLUMNS)):
                for value in batch.to_pylist():
                    number += 1
                    yield _read_row(value, f"{path}:{number}")
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: expected a readable Parquet file: {str(error)[:200]}") from None


def _read_row(value: dict[str, Any], where: str) -> Row:
    image = value["image"]
    picture = image.get("bytes") if isinstance(image, dict) else None
    if not picture or len(picture) > mmrel.MAX_PICTURE_BYTES:
        raise InputError(
            f"{where}: expected a picture of 1 to {mmrel.MAX_PICTURE_BYTES} bytes, got {len(picture or b'')}"
        )
    kind = str(value["relation_type"] or "").lower()
    category = next((name for name in mmrel.CATEGORIES if name in kind), None)
    if category is None:
        raise InputError(
            f"{where}: expected a relation_type with {', '.join(mmrel.CATEGORIES)} in it, got {kind[:80]!r}"
        )
    evaluated = str(value["eval_type"] or "").lower()
    task = "generative" if evaluated.startswith(("gen", "open")) else None
    return Row(
        where, _name_picture(image.get("path"), picture, category), picture, value["question_id"],
        str(value["question"] or ""), str(value["answer"] or ""), task, category,
    )  # fmt: skip


def _name_picture(path: str | None, picture: bytes, category: str) -> str:
    """MMRel's path of a picture: by the path beside it, else by its content (then its style is not known)."""
    ending = next((ending for magic, ending in _MAGIC if picture.startswith(magic)), "png")
    match = _DALLE.fullmatch(path or "")
    folder = match["folder"] if match and match["folder"] else category
    name = match["name"] if match else f"{hashlib.sha256(picture).hexdigest()[:16]}.{ending}"
    return f"Dall-E_generated/{folder}/{name}"

# SPDX-License-Identifier: Apache-2.0
"""Read the Parquet re-release of MMRel's DALL-E part: a row per question, with its picture.

Its columns are `image, question_id, question, answer, source, eval_type, relation_type`. The
category comes from `relation_type` (`dall-e_action`), the task from `eval_type`, and the picture's
name from the path stored with its bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.files import InputError

COLUMNS = ("image", "question_id", "question", "answer", "eval_type", "relation_type")
ROWS = 8  # in memory at a time; a picture has about 1.5 MB
_MAGIC = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpg"), (b"RIFF", "webp"))
_DALLE = re.compile(r"(?:.*/)?(?:(?P<folder>action|spatial|comparative)/)?(?P<name>[^/]+)")


class RereleaseRow(NamedTuple):
    """A question of the re-release, with MMRel's path of its picture.

    Attributes:
        where: file and number of the row.
        question_id: id of any type, as the file has it.
        question: the question with its instruction.
        task: `generative`, or None where the grammar decides.
    """

    where: str
    image_id: str
    picture: bytes
    question_id: Any
    question: str
    answer: str
    task: str | None
    category: str


def read_rerelease(path: Path) -> Iterator[RereleaseRow]:
    """Yield the rows of a file of the re-release, a few in memory at a time.

    Raises:
        InputError: the file is not Parquet or lacks a column, or a row lacks its picture or its
            relation type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            missing = set(COLUMNS) - set(file.schema_arrow.names)
            if missing:
                raise InputError(
                    f"{path}: expected the columns {', '.join(COLUMNS)}, "
                    f"{', '.join(sorted(missing))} missing"
                )
            number = 0
            for batch in file.iter_batches(batch_size=ROWS, columns=list(COLUMNS)):
                for value in batch.to_pylist():
                    number += 1
                    yield _read_row(value, f"{path}:{number}")
    except (pa.ArrowException, OSError) as error:
        reason = str(error)[:200]
        raise InputError(f"{path}: expected a readable Parquet file: {reason}") from None


def _read_row(value: dict[str, Any], where: str) -> RereleaseRow:
    image = value["image"]
    picture = image.get("bytes") if isinstance(image, dict) else None
    if not picture or len(picture) > mmrel.MAX_PICTURE_BYTES:
        raise InputError(
            f"{where}: expected a picture of 1 to {mmrel.MAX_PICTURE_BYTES} bytes, "
            f"got {len(picture or b'')}"
        )
    relation_type = str(value["relation_type"] or "").lower()
    category = next((name for name in mmrel.CATEGORIES if name in relation_type), None)
    if category is None:
        raise InputError(
            f"{where}: expected a relation_type with {', '.join(mmrel.CATEGORIES)} in it, "
            f"got {relation_type[:80]!r}"
        )
    eval_type = str(value["eval_type"] or "").lower()
    return RereleaseRow(
        where=where,
        image_id=_name_picture(image.get("path"), picture, category),
        picture=picture,
        question_id=value["question_id"],
        question=str(value["question"] or ""),
        answer=str(value["answer"] or ""),
        task="generative" if eval_type.startswith(("gen", "open")) else None,
        category=category,
    )


def _name_picture(path: str | None, picture: bytes, category: str) -> str:
    """Return MMRel's path of a picture: from the path stored with it, else a hash of its bytes.

    A hash leaves its style unknown.
    """
    match = _DALLE.fullmatch(path or "")
    folder = match["folder"] if match and match["folder"] else category
    if match:
        return f"Dall-E_generated/{folder}/{match['name']}"
    ending = next((ending for magic, ending in _MAGIC if picture.startswith(magic)), "png")
    return f"Dall-E_generated/{folder}/{hashlib.sha256(picture).hexdigest()[:16]}.{ending}"

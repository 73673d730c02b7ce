# SPDX-License-Identifier: Apache-2.0
"""List the rows of what `load_dataset` returns, as references or predictions of the metric."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any


def list_rows(rows: Any, split: str | None = None) -> list[Any]:
    """Return the rows of a dataset, or of a dict of datasets by split.

    Columns that are decoded, such as pictures, are left out. A row without a `split` gets that of
    its dataset: "test" and "test[:10]" name one split, "train+test" does not.
    """
    if isinstance(rows, Mapping):
        return [row for name, part in rows.items() for row in list_rows(part, str(name))]
    kept = [name for name, kind in (rows.features or {}).items() if not hasattr(kind, "decode")]
    if kept:
        # Not remove_columns: of a stream, that decodes the pictures to remove them.
        rows = rows.with_format(None).select_columns(kept)
    named = re.fullmatch(r"(\w+)(?:\[[^\]+]*\])?", split or str(rows.split or ""))
    stated = {"split": named[1]} if named else {}
    return [{**stated, **row} for row in rows]


def list_notes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a note for the report if rows with a pair_id do not say their split."""
    for row in rows:
        if row.get("pair_id") is not None and row.get("split") is None:
            return [
                "the references do not say the split of each question: a pair_id that is in two"
                " splits counts as one pair; give the dict of all splits to keep them apart"
            ]
    return []

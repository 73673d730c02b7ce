# SPDX-License-Identifier: Apache-2.0
"""Find the split, task and category that mapping files, fields and names of files declare."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.files import InputError, parse_json

# The fields of a record that hold its content, and so do not declare a category.
_CONTENT = frozenset({
    "question_id", "id", "image_id", "image", "question", "text", "answer", "label",
    "conversations", "instruction",
})  # fmt: skip
MAX_FIELD = 200  # characters of a field that may declare a category
# The words of a name: "SDXL_spatial", "dall-e_action", "RealSpatial".
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class Declaration(NamedTuple):
    """What a mapping file or a row of the re-release declares about questions; None is nothing."""

    split: str | None = None
    task: str | None = None
    category: str | None = None


def read_mapping(path: Path) -> dict[str, Declaration]:
    """Read a mapping file: a JSON object from patterns of file names to splits or declarations.

    `{"part2*.json": "train", "gen/*.json": {"split": "test", "task": "generative", "category":
    "action"}}`: with the task, questions that no grammar parses are open-ended whatever their
    answers; the category is theirs.

    Raises:
        InputError: the file is invalid.
    """
    mapping: dict[str, Declaration] = {}
    try:
        for name, value in parse_json(path.read_text("utf-8-sig")).items():
            fields = {"split": value} if isinstance(value, str) else value
            mapping[name] = Declaration(**fields)
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: expected a JSON object from file names to splits: {error}"
        ) from None
    choices = (mmrel.SPLITS, mmrel.TASKS, mmrel.CATEGORIES)
    for name, declared in mapping.items():
        for value, allowed in zip(declared, choices, strict=True):
            if value is not None and value not in allowed:
                raise InputError(
                    f"{path}: {name!r}: expected one of {', '.join(allowed)}, got {value!r}"
                )
    return mapping


def map_files(files: Sequence[Path], mapping: Path | None) -> dict[Path, Declaration]:
    """Return what the mapping declares about each file, by the first pattern that matches it.

    Raises:
        InputError: the mapping is invalid, or one of its patterns matches no file.
    """
    patterns = read_mapping(mapping) if mapping else {}
    declarations = dict.fromkeys(files, Declaration())
    unused = set(patterns)
    for path in files:
        matching = [pattern for pattern in patterns if _matches(path, pattern)]
        unused.difference_update(matching)
        if matching:
            declarations[path] = patterns[matching[0]]
    if unused:
        names = ", ".join(map(str, files))[:500]
        raise InputError(
            f"{mapping}: {min(unused)!r} matches none of the annotation files: {names}"
        )
    return declarations


def find_split(fields: Mapping[str, Any], path: Path) -> str | None:
    """Return the split that a record's fields or the name of its file state; None if neither does.

    Upstream's `json/Fine-tuning/` states its splits by its names: `Fine-tuning_data.json` is
    `train`, and the files in `Test_QA/` are `test` unless their own names say otherwise.

    Raises:
        InputError: the record states an unknown split.
    """
    split = fields.get("split")
    if split in mmrel.SPLITS:
        return str(split)
    if split is None and fields.get("category") == "adversarial":
        return "adversarial"
    if split not in (None, "", "dalle_normal"):
        raise InputError(
            f"expected the split {', '.join(mmrel.SPLITS)} or dalle_normal, got {split!r}; "
            "or pass --split or --mapping"
        )
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    for name in ("adversarial", "train", "test"):
        if name in words:
            return name
    if {"fine", "tuning"} <= words:
        return "train"
    if split == "dalle_normal" or path.parent.name == "Test_QA":
        return "test"
    return None


def find_category(fields: Mapping[str, Any], image_id: str, path: Path) -> str | None:
    """Return the category of a question whose wording does not show it; None if nothing names one.

    The first of these that names a category decides: the record's fields, the folder of the
    picture (`SPEC/relative_size`, `Dall-E_generated/action`), the name of the file, and that of its
    folder.
    """
    texts = []
    for key, value in fields.items():
        if key not in _CONTENT and isinstance(value, str) and len(value) <= MAX_FIELD:
            texts.append(value)
    texts += [image_id.split("/")[1], path.stem, path.parent.name]
    for text in texts:
        category = _name_category(text)
        if category:
            return category
    return None


def _name_category(text: str) -> str | None:
    """Return the category among the words of a text; None if there is none or several.

    >>> [_name_category(text) for text in ("relative_size", "RealSpatial", "spatial-action")]
    ['comparative', 'spatial', None]
    """
    # SPEC's subset of comparisons.
    text = text.replace("relative_size", "comparative")
    words = {word.lower() for word in _WORDS.findall(text)}
    named = words.intersection(mmrel.CATEGORIES)
    return named.pop() if len(named) == 1 else None


def _matches(path: Path, pattern: str) -> bool:
    """Return whether a pattern matches a file's name or the end of its path."""
    return fnmatch(path.name, pattern) or fnmatch(path.as_posix(), f"*/{pattern}")

# SPDX-License-Identifier: Apache-2.0
"""Reads annotation files as people have them: POPE/VCD-shaped, LLaVA conversations, the contract's own records."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from mmrel_kit.files import MAX_PROBLEMS, InputError, Problem, parse_json, scan_json
from mmrel_kit.questions.records import (
    ANSWERS,
    Reading,
    Record,
    check_record,
    make_pair_id,
    parse_image_path,
    parse_question,
)
from mmrel_kit.questions.rerelease import read_rerelease

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

ANNOTATION_SUFFIXES = (".json", ".jsonl")
DEFAULT_SPLIT = "test"


class Question(NamedTuple):
    """A record, the split it belongs to, and where it was read.

    Attributes:
        split: the split.
        record: the record.
        where: file and line.
        is_assumed: whether nothing named the split, so that it is `test` by default.
    """

    split: str
    record: Record
    where: str
    is_assumed: bool = False


class Told(NamedTuple):
    """What a mapping file (or a column of the re-release) tells of questions; null where it tells nothing."""

    split: str | None = None
    task: str | None = None
    category: str | None = None


def read_annotations(
    paths: Sequence[Path], problems: list[str], split: str | None = None, mapping: Path | None = None
) -> Iterator[Question]:
    """Read annotation files, or folders of them, one question at a time, in constant memory.

    Args:
        paths: .json or .jsonl files in POPE/VCD shape, LLaVA conversations or the contract's own records, folders of
            them, or .parquet files of the DALL-E re-release.
        problems: what cannot be read is added to it, each with file and line; what can be goes on.
        split: overrides what the files say.
        mapping: a file that `read_mapping` reads.

    Raises:
        InputError: there is no such file, or no annotation file in a folder, or the mapping cannot be used.
    """
    files = find_files(paths)
    told = _map_files(files, mapping)
    for path in files:
        for where, value, of_row in _read_file(path, problems):
            try:
                yield from _read_value(value, path, where, told[path]._replace(split=split or told[path].split), of_row)
            except InputError as error:
                problems.append(f"{where}: {error}")
                if len(problems) >= MAX_PROBLEMS:
                    return


def read_mapping(path: Path) -> dict[str, Told]:
    """Read a mapping file: a JSON object from patterns of file names to a split, or to split, task and category.

    `{"part2*.json": "train", "gen/*.json": {"split": "test", "task": "generative", "category": "action"}}`: task and
    category let open questions in that no grammar reads; their triplet stays unknown.

    Raises:
        InputError: it is something else.
    """
    try:
        found = parse_json(path.read_text("utf-8-sig"))
        mapping = {
            name: Told(**({"split": value} if isinstance(value, str) else value)) for name, value in found.items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: expected a JSON object from file names to splits: {error}") from None
    choices = ((0, mmrel.SPLITS), (1, mmrel.TASKS), (2, mmrel.CATEGORIES))
    for name, told in mapping.items():
        for index, known in choices:
            if told[index] not in (None, *known):
                raise InputError(f"{path}: {name!r}: expected one of {', '.join(known)}, got {told[index]!r}")
    return mapping


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files that `read_annotations` reads, each once; raises `InputError` where there are none."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in ANNOTATION_SUFFIXES and p.is_file())
            if not found:
                raise InputError(f"{path}: expected {' or '.join(ANNOTATION_SUFFIXES)} files in the folder, found none")
            files.extend(found)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: expected an annotation file or a folder of them, found nothing there")
    return list(dict.fromkeys(path.resolve() for path in files))


def _map_files(files: Sequence[Path], mapping: Path | None) -> dict[Path, Told]:
    """What the mapping says of each file, by the first pattern that fits its name or the end of its path."""
    patterns = read_mapping(mapping) if mapping else {}
    told = dict.fromkeys(files, Told())
    unused = set(patterns)
    for path in files:
        fitting = [name for name in patterns if fnmatch(path.name, name) or fnmatch(path.as_posix(), f"*/{name}")]
        unused -= set(fitting)
        if fitting:
            told[path] = patterns[fitting[0]]
    if unused:
        raise InputError(
            f"{mapping}: {min(unused)!r} fits none of the annotation files: {', '.join(map(str, files))[:500]}"
        )
    return told


def _read_file(path: Path, problems: list[str]) -> Iterator[tuple[str, Any, Told]]:
    if path.suffix == ".parquet":
        for row in read_rerelease(path):
            value = {"question_id": row.question_id, "image": row.image_id, "text": row.question, "label": row.answer}
            yield row.where, value, Told(None, row.task, row.category) if row.task else Told()
    else:
        for found in scan_json(path):
            if isinstance(found, Problem):
                problems.append(str(found))
            else:
                yield found.where, found.value, Told()


def _read_value(value: Any, path: Path, where: str, told: Told, of_row: Told) -> list[Question]:
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, got {json.dumps(value)[:80]}")
    source = f"{path.parent.name}/{path.name}:{where.rpartition(':')[2]}"
    if "conversations" in value:
        records = _from_llava(value, source, told)
    elif "image" in value and "text" in value:
        records = [_from_pope(value, source, told if told.task else of_row)]
    elif "image_id" in value and "question" in value:
        records = [_from_contract(value)]
    else:
        raise InputError(
            "expected the keys question_id, image, text, label (POPE), id, image, conversations (LLaVA) or those of "
            f"schema/record.schema.json, got {', '.join(map(str, value))[:200] or 'no key'}"
        )
    named = told.split or _find_split(value, path)
    split, is_assumed = named or DEFAULT_SPLIT, named is None
    return [Question(split, record, where, is_assumed) for record in records]


def _from_pope(value: dict[str, Any], source: str, told: Told) -> Record:
    question, instruction = _split_instruction(_text(value, "text"))
    return _make_record(
        question_id=_question_id(value.get("question_id"), source),
        image_id=_text(value, "image"),
        question=question,
        instruction=instruction,
        answer=_text(value, "label"),
        source=source,
        told=told,
    )


def _from_llava(value: dict[str, Any], source: str, told: Told) -> list[Record]:
    """The turns of a conversation, one question each; none where the picture is not one of MMRel's."""
    turns = value["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError("expected conversations to be an array of objects")
    try:
        image_id = _text(value, "image") if "image" in value else ""
        parse_image_path(image_id)
    except InputError:
        return []
    records = []
    for number, (asked, answered) in enumerate(zip(turns[::2], turns[1::2], strict=False), 1):
        if (asked.get("from"), answered.get("from")) != ("human", "gpt"):
            raise InputError(f"expected turns of human and gpt in turn, got {asked.get('from')!r}")
        question, instruction = _split_instruction(_text(asked, "value").replace("<image>", ""))
        question_id = _question_id(value.get("id"), source)
        records.append(
            _make_record(
                question_id=question_id if len(turns) <= 2 else f"{question_id}-{number}",
                image_id=image_id,
                question=question,
                instruction=instruction,
                answer=_text(answered, "value"),
                source=source,
                told=told,
            )
        )
    return records


def _from_contract(value: dict[str, Any]) -> Record:
    if problem := check_record(value):
        raise InputError(problem)
    return Record(**value)


def _make_record(
    question_id: str, image_id: str, question: str, instruction: str | None, answer: str, source: str, told: Told
) -> Record:
    domain, style = parse_image_path(image_id)
    reading = _read_question(question, told)
    answer = answer.strip()
    pair_id, relation = None, reading.relation
    if reading.task == "discriminative":
        if answer.lower() not in ANSWERS:
            raise InputError(f"expected the label yes or no, got {answer[:80]!r}")
        answer = answer.lower()
        pair_id = make_pair_id(image_id, reading.category, reading.subject, reading.object)
    elif reading.subject:
        relation = answer
    record = Record(
        question_id=question_id,
        image_id=image_id,
        domain=domain,
        category=reading.category,
        task=reading.task,
        subject=reading.subject or None,
        relation=relation,
        object=reading.object or None,
        question=question,
        instruction=instruction,
        answer=answer,
        style=style,
        pair_id=pair_id,
        source=source,
    )
    if problem := check_record(record.to_json()):
        raise InputError(problem)
    return record


def _read_question(question: str, told: Told) -> Reading:
    """Read a question by its grammar; an open one that none reads has the category it is told and no triplet."""
    try:
        reading = parse_question(question)
    except InputError:
        if told.task != "generative" or not told.category:
            raise
        return Reading(told.category, told.task, "", None, "")
    if told.task not in (None, reading.task) or told.category not in (None, reading.category):
        raise InputError(
            f"expected questions that are {' and '.join(filter(None, (told.category, told.task)))}, as the file is "
            f"said to hold, got {question[:80]!r}, which is {reading.category} and {reading.task}"
        )
    return reading


def _split_instruction(text: str) -> tuple[str, str | None]:
    question, mark, rest = text.strip().partition("?")
    return question + mark, " ".join(rest.split()) or None


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"expected text in {key!r}, got {json.dumps(found)[:80]}")
    return found


def _question_id(value: Any, source: str) -> str:
    if value is None or value == "":
        return source
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InputError(f"expected a string or an integer as question_id, got {json.dumps(value)[:80]}")
    return str(value)


def _find_split(value: dict[str, Any], path: Path) -> str | None:
    """Return the split that the record names, else its file's name, else None."""
    named = value.get("split")
    if named in mmrel.SPLITS:
        return str(named)
    if named is None and value.get("category") == "adversarial":
        return "adversarial"
    if named not in (None, "", "dalle_normal"):
        raise InputError(
            f"expected the split {', '.join(mmrel.SPLITS)} or dalle_normal, got {named!r}; or pass --split or --mapping"
        )
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    return next((split for split in ("adversarial", "train", "test") if split in words), None)

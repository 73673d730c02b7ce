# SPDX-License-Identifier: Apache-2.0
"""Read annotation files into records.

Formats: POPE/VCD-shaped records, LLaVA conversations, records of the contract, and the Parquet
re-release of the DALL-E part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import mmrel
from mmrel_kit.files import MAX_PROBLEMS, InputError, Problem, parse_json, scan_json
from mmrel_kit.questions.records import (
    ANSWERS,
    ParsedQuestion,
    Record,
    check_record,
    make_pair_id,
    parse_image_path,
    parse_question,
)
from mmrel_kit.questions.rerelease import RereleaseRow, read_rerelease

ANNOTATION_SUFFIXES = (".json", ".jsonl")
DEFAULT_SPLIT = "test"


class Annotation(NamedTuple):
    """A record with its split.

    Attributes:
        where: file and line of the record.
        is_assumed: whether the split is only the default, `test`.
    """

    split: str
    record: Record
    where: str
    is_assumed: bool = False

    @property
    def file(self) -> str:
        """The file that the record was read from."""
        return self.where.rpartition(":")[0]


class Declaration(NamedTuple):
    """What a mapping file or a row of the re-release declares about questions; None is nothing."""

    split: str | None = None
    task: str | None = None
    category: str | None = None


def read_annotations(
    paths: Sequence[Path], split: str | None = None, mapping: Path | None = None
) -> Iterator[Annotation | Problem]:
    """Yield the questions of annotation files, one at a time, in constant memory.

    A record that cannot be read is yielded as a `Problem` with file and line. Reading stops after
    `MAX_PROBLEMS` of them.

    Args:
        paths: .json or .jsonl files of any format above, folders of them, or .parquet files of the
            re-release.
        split: overrides the splits that the files name.
        mapping: a file for `read_mapping`.

    Raises:
        InputError: a file does not exist, a folder has no annotation file, the mapping cannot be
            used, or a .parquet file is not one of the re-release.
    """
    declarations = _map_files(find_annotation_files(paths), mapping)
    problems = 0
    for path, declared in declarations.items():
        if split:
            declared = declared._replace(split=split)
        for item in _read_file(path, declared):
            yield item
            if isinstance(item, Problem):
                problems += 1
            if problems >= MAX_PROBLEMS:
                return


def read_mapping(path: Path) -> dict[str, Declaration]:
    """Read a mapping file: a JSON object from patterns of file names to splits or declarations.

    `{"part2*.json": "train", "gen/*.json": {"split": "test", "task": "generative", "category":
    "action"}}`: with task and category, open questions that no grammar parses are accepted, without
    a triplet.

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


def find_annotation_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files that `read_annotations` reads, each once.

    Raises:
        InputError: there is nothing at a path, or no annotation file in a folder.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            in_folder = [file for file in sorted(path.rglob("*")) if _is_annotation_file(file)]
            if not in_folder:
                raise InputError(
                    f"{path}: expected {' or '.join(ANNOTATION_SUFFIXES)} files in the folder, "
                    "found none"
                )
            files.extend(in_folder)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(
                f"{path}: expected an annotation file or a folder of them, found nothing there"
            )
    return list(dict.fromkeys(path.resolve() for path in files))


def _is_annotation_file(path: Path) -> bool:
    return path.suffix in ANNOTATION_SUFFIXES and path.is_file()


def _map_files(files: Sequence[Path], mapping: Path | None) -> dict[Path, Declaration]:
    """Return what the mapping declares about each file, by the first pattern that matches it."""
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


def _matches(path: Path, pattern: str) -> bool:
    """Return whether a pattern matches a file's name or the end of its path."""
    return fnmatch(path.name, pattern) or fnmatch(path.as_posix(), f"*/{pattern}")


def _read_file(path: Path, declared: Declaration) -> Iterator[Annotation | Problem]:
    if path.suffix == ".parquet":
        for row in read_rerelease(path):
            try:
                yield _read_row(row, path, declared)
            except InputError as error:
                yield Problem(row.where, str(error))
        return
    for item in scan_json(path):
        if isinstance(item, Problem):
            yield item
            continue
        try:
            yield from _read_value(item.value, path, item.where, declared)
        except InputError as error:
            yield Problem(item.where, str(error))


def _read_row(row: RereleaseRow, path: Path, declared: Declaration) -> Annotation:
    """Return the question of a row of the re-release."""
    if not declared.task:
        category = row.category if row.task else None
        declared = Declaration(declared.split, row.task, category)
    source = _name_source(path, row.where)
    text = _check_text(row.question, "question")
    question_id = _read_id(row.question_id, source)
    answer = _check_text(row.answer, "answer")
    record = _make_record(question_id, row.image_id, text, answer, source, declared)
    return _annotate(record, declared.split or _find_split({}, path), row.where)


def _read_value(value: Any, path: Path, where: str, declared: Declaration) -> list[Annotation]:
    """Return the questions of a JSON value, whose format follows from its keys."""
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, got {json.dumps(value)[:80]}")
    source = _name_source(path, where)
    if "conversations" in value:
        records = _from_llava(value, source, declared)
    elif "image" in value and "text" in value:
        records = [_from_pope(value, source, declared)]
    elif "image_id" in value and "question" in value:
        records = [_from_contract(value)]
    else:
        got = ", ".join(map(str, value))[:200] or "no key"
        raise InputError(
            "expected the keys question_id, image, text, label (POPE), "
            "id, image, conversations (LLaVA) or those of "
            f"schema/record.schema.json, got {got}"
        )
    split = declared.split or _find_split(value, path)
    return [_annotate(record, split, where) for record in records]


def _annotate(record: Record, split: str | None, where: str) -> Annotation:
    return Annotation(split or DEFAULT_SPLIT, record, where, is_assumed=split is None)


def _name_source(path: Path, where: str) -> str:
    """Return a record's `source`: folder, file and line."""
    return f"{path.parent.name}/{path.name}:{where.rpartition(':')[2]}"


def _from_pope(value: dict[str, Any], source: str, declared: Declaration) -> Record:
    text = _get_text(value, "text")
    question_id = _read_id(value.get("question_id"), source)
    image_id, answer = _get_text(value, "image"), _get_text(value, "label")
    return _make_record(question_id, image_id, text, answer, source, declared)


def _from_llava(value: dict[str, Any], source: str, declared: Declaration) -> list[Record]:
    """Return a record for each question and answer; none if the picture is not one of MMRel's."""
    turns = value["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError("expected conversations to be an array of objects")
    try:
        image_id = _get_text(value, "image") if "image" in value else ""
        parse_image_path(image_id)
    except InputError:
        return []
    records = []
    # A last turn without an answer is left out.
    for number, (human, gpt) in enumerate(zip(turns[::2], turns[1::2], strict=False), 1):
        if (human.get("from"), gpt.get("from")) != ("human", "gpt"):
            raise InputError(
                f"expected alternating turns of human and gpt, got {human.get('from')!r}"
            )
        text = _get_text(human, "value").replace("<image>", "")
        question_id = _read_id(value.get("id"), source)
        if len(turns) > 2:
            question_id = f"{question_id}-{number}"
        answer = _get_text(gpt, "value")
        records.append(_make_record(question_id, image_id, text, answer, source, declared))
    return records


def _from_contract(fields: dict[str, Any]) -> Record:
    """Return the record with these fields.

    Raises:
        InputError: they violate the contract.
    """
    problem = check_record(fields)
    if problem:
        raise InputError(problem)
    return Record(**fields)


def _make_record(
    question_id: str, image_id: str, text: str, answer: str, source: str, declared: Declaration
) -> Record:
    """Return the record of a question of upstream's files; `text` may end with an instruction."""
    question, instruction = _split_instruction(text)
    domain, style = parse_image_path(image_id)
    parsed = _parse_question(question, declared)
    answer = answer.strip()
    pair_id, relation = None, parsed.relation
    if parsed.task == "discriminative":
        if answer.lower() not in ANSWERS:
            raise InputError(f"expected the label yes or no, got {answer[:80]!r}")
        answer = answer.lower()
        pair_id = make_pair_id(image_id, parsed.category, parsed.subject, parsed.object)
    elif parsed.subject:
        relation = answer
    fields = {
        "question_id": question_id,
        "image_id": image_id,
        "domain": domain,
        "category": parsed.category,
        "task": parsed.task,
        "subject": parsed.subject or None,
        "relation": relation,
        "object": parsed.object or None,
        "question": question,
        "instruction": instruction,
        "answer": answer,
        "style": style,
        "pair_id": pair_id,
        "source": source,
    }
    return _from_contract(fields)


def _parse_question(question: str, declared: Declaration) -> ParsedQuestion:
    """Parse a question and compare it with the declarations.

    An open question that no grammar parses gets the declared category and no triplet.
    """
    try:
        parsed = parse_question(question)
    except InputError:
        if declared.task != "generative" or not declared.category:
            raise
        return ParsedQuestion(declared.category, declared.task, "", None, "")
    is_declared_task = declared.task in (None, parsed.task)
    is_declared_category = declared.category in (None, parsed.category)
    if not (is_declared_task and is_declared_category):
        kinds = " and ".join(filter(None, (declared.category, declared.task)))
        raise InputError(
            f"expected questions that are {kinds}, as declared for the file, "
            f"got {question[:80]!r}, which is {parsed.category} and {parsed.task}"
        )
    return parsed


def _split_instruction(text: str) -> tuple[str, str | None]:
    question, mark, rest = text.strip().partition("?")
    return question + mark, " ".join(rest.split()) or None


def _get_text(value: dict[str, Any], key: str) -> str:
    return _check_text(value.get(key), key)


def _check_text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"expected text in {key!r}, got {json.dumps(value)[:80]}")
    return value


def _read_id(value: Any, source: str) -> str:
    """Return a question's id as text; its source if it has none."""
    if value is None or value == "":
        return source
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InputError(
            f"expected a string or an integer as question_id, got {json.dumps(value)[:80]}"
        )
    return str(value)


def _find_split(value: dict[str, Any], path: Path) -> str | None:
    """Return the split that the record or its file's name contains; None if neither does."""
    split = value.get("split")
    if split in mmrel.SPLITS:
        return str(split)
    if split is None and value.get("category") == "adversarial":
        return "adversarial"
    if split not in (None, "", "dalle_normal"):
        raise InputError(
            f"expected the split {', '.join(mmrel.SPLITS)} or dalle_normal, got {split!r}; "
            "or pass --split or --mapping"
        )
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    for split in ("adversarial", "train", "test"):
        if split in words:
            return split
    return None

# SPDX-License-Identifier: Apache-2.0
"""Read annotation files as people have them, into records.

Known are POPE/VCD shape, LLaVA conversations, the contract's own records, the Parquet re-release.
"""

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
    ParsedQuestion,
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

    from mmrel_kit.questions.rerelease import Row

ANNOTATION_SUFFIXES = (".json", ".jsonl")
DEFAULT_SPLIT = "test"


class Annotation(NamedTuple):
    """A record, the split that it belongs to, and where it was read.

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

    @property
    def file(self) -> str:
        """The file that the record was read from."""
        return self.where.rpartition(":")[0]


class Declared(NamedTuple):
    """What a mapping file, or a row of the re-release, declares of questions; None: nothing."""

    split: str | None = None
    task: str | None = None
    category: str | None = None


def read_annotations(
    paths: Sequence[Path], split: str | None = None, mapping: Path | None = None
) -> Iterator[Annotation | Problem]:
    """Yield the questions of annotation files, one at a time, in constant memory.

    What cannot be read is a `Problem` with file and line; reading goes on behind it, up to
    `MAX_PROBLEMS` of them.

    Args:
        paths: .json or .jsonl files in POPE/VCD shape, LLaVA conversations or the contract's own
            records, folders of them, or .parquet files of the DALL-E re-release.
        split: overrides what the files say.
        mapping: a file that `read_mapping` reads.

    Raises:
        InputError: there is no such file, no annotation file in a folder, the mapping cannot be
            used, or a .parquet file is not one of the re-release.
    """
    files = find_annotation_files(paths)
    declared = _map_files(files, mapping)
    problems = 0
    for path in files:
        of_file = declared[path]
        if split:
            of_file = of_file._replace(split=split)
        for found in _read_file(path, of_file):
            yield found
            if isinstance(found, Problem):
                problems += 1
            if problems >= MAX_PROBLEMS:
                return


def read_mapping(path: Path) -> dict[str, Declared]:
    """Read a mapping file: a JSON object from patterns of file names to what their files hold.

    `{"part2*.json": "train", "gen/*.json": {"split": "test", "task": "generative", "category":
    "action"}}`: task and category let open questions in that no grammar reads; their triplet stays
    unknown.

    Raises:
        InputError: it is something else.
    """
    mapping: dict[str, Declared] = {}
    try:
        for name, value in parse_json(path.read_text("utf-8-sig")).items():
            fields = {"split": value} if isinstance(value, str) else value
            mapping[name] = Declared(**fields)
    except (ValueError, AttributeError, TypeError) as error:
        wanted = "expected a JSON object from file names to splits"
        raise InputError(f"{path}: {wanted}: {error}") from None
    known = (mmrel.SPLITS, mmrel.TASKS, mmrel.CATEGORIES)
    for name, declared in mapping.items():
        for value, values in zip(declared, known, strict=True):
            if value is not None and value not in values:
                wanted = f"expected one of {', '.join(values)}"
                raise InputError(f"{path}: {name!r}: {wanted}, got {value!r}")
    return mapping


def find_annotation_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files that `read_annotations` reads, each once.

    Raises:
        InputError: there is nothing at a path, or no annotation file in a folder.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.rglob("*"))
            found = [file for file in inside if file.suffix in ANNOTATION_SUFFIXES]
            found = [file for file in found if file.is_file()]
            if not found:
                wanted = f"expected {' or '.join(ANNOTATION_SUFFIXES)} files in the folder"
                raise InputError(f"{path}: {wanted}, found none")
            files.extend(found)
        elif path.is_file():
            files.append(path)
        else:
            wanted = "expected an annotation file or a folder of them"
            raise InputError(f"{path}: {wanted}, found nothing there")
    return list(dict.fromkeys(path.resolve() for path in files))


def _map_files(files: Sequence[Path], mapping: Path | None) -> dict[Path, Declared]:
    """Return what the mapping declares of each file.

    The first pattern counts that fits the file's name or the end of its path.
    """
    patterns = read_mapping(mapping) if mapping else {}
    declared = dict.fromkeys(files, Declared())
    unused = set(patterns)
    for path in files:
        fitting = [name for name in patterns if _fits(path, name)]
        unused -= set(fitting)
        if fitting:
            declared[path] = patterns[fitting[0]]
    if unused:
        named = ", ".join(map(str, files))[:500]
        wanted = f"{min(unused)!r} fits none of the annotation files"
        raise InputError(f"{mapping}: {wanted}: {named}")
    return declared


def _fits(path: Path, pattern: str) -> bool:
    return fnmatch(path.name, pattern) or fnmatch(path.as_posix(), f"*/{pattern}")


def _read_file(path: Path, declared: Declared) -> Iterator[Annotation | Problem]:
    if path.suffix == ".parquet":
        for row in read_rerelease(path):
            try:
                yield _read_row(row, path, declared)
            except InputError as error:
                yield Problem(row.where, str(error))
        return
    for found in scan_json(path):
        if isinstance(found, Problem):
            yield found
            continue
        try:
            yield from _read_value(found.value, path, found.where, declared)
        except InputError as error:
            yield Problem(found.where, str(error))


def _read_row(row: Row, path: Path, declared: Declared) -> Annotation:
    if not declared.task:
        category = row.category if row.task else None
        declared = Declared(declared.split, row.task, category)
    source = _name_source(path, row.where)
    text = _check_text(row.question, "question")
    question_id = _read_id(row.question_id, source)
    answer = _check_text(row.answer, "answer")
    record = _make_record(question_id, row.image_id, text, answer, source, declared)
    return _annotate(record, declared.split or _find_split({}, path), row.where)


def _read_value(value: Any, path: Path, where: str, declared: Declared) -> list[Annotation]:
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


def _from_pope(value: dict[str, Any], source: str, declared: Declared) -> Record:
    text = _get_text(value, "text")
    question_id = _read_id(value.get("question_id"), source)
    image_id, answer = _get_text(value, "image"), _get_text(value, "label")
    return _make_record(question_id, image_id, text, answer, source, declared)


def _from_llava(value: dict[str, Any], source: str, declared: Declared) -> list[Record]:
    """Return a record for each turn; none where the picture is not one of MMRel's."""
    turns = value["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError("expected conversations to be an array of objects")
    try:
        image_id = _get_text(value, "image") if "image" in value else ""
        parse_image_path(image_id)
    except InputError:
        return []
    records = []
    for number, (asked, answered) in enumerate(zip(turns[::2], turns[1::2], strict=False), 1):
        if (asked.get("from"), answered.get("from")) != ("human", "gpt"):
            got = repr(asked.get("from"))
            raise InputError(f"expected turns of human and gpt in turn, got {got}")
        text = _get_text(asked, "value").replace("<image>", "")
        question_id = _read_id(value.get("id"), source)
        if len(turns) > 2:
            question_id = f"{question_id}-{number}"
        answer = _get_text(answered, "value")
        records.append(_make_record(question_id, image_id, text, answer, source, declared))
    return records


def _from_contract(fields: dict[str, Any]) -> Record:
    """Return the record that has these fields.

    Raises:
        InputError: the contract does not allow them.
    """
    problem = check_record(fields)
    if problem:
        raise InputError(problem)
    return Record(**fields)


def _make_record(
    question_id: str,
    image_id: str,
    text: str,
    answer: str,
    source: str,
    declared: Declared,
) -> Record:
    """Make a record from what upstream's files give; `text` is the question and its instruction."""
    question, instruction = _split_instruction(text)
    domain, style = parse_image_path(image_id)
    reading = _read_question(question, declared)
    answer = answer.strip()
    pair_id, relation = None, reading.relation
    if reading.task == "discriminative":
        if answer.lower() not in ANSWERS:
            raise InputError(f"expected the label yes or no, got {answer[:80]!r}")
        answer = answer.lower()
        pair_id = make_pair_id(image_id, reading.category, reading.subject, reading.object)
    elif reading.subject:
        relation = answer
    fields = {
        "question_id": question_id,
        "image_id": image_id,
        "domain": domain,
        "category": reading.category,
        "task": reading.task,
        "subject": reading.subject or None,
        "relation": relation,
        "object": reading.object or None,
        "question": question,
        "instruction": instruction,
        "answer": answer,
        "style": style,
        "pair_id": pair_id,
        "source": source,
    }
    return _from_contract(fields)


def _read_question(question: str, declared: Declared) -> ParsedQuestion:
    """Read a question by its grammar.

    An open question that no grammar reads has the category that is declared, and no triplet.
    """
    try:
        reading = parse_question(question)
    except InputError:
        if declared.task != "generative" or not declared.category:
            raise
        return ParsedQuestion(declared.category, declared.task, "", None, "")
    is_task = declared.task in (None, reading.task)
    is_category = declared.category in (None, reading.category)
    if not (is_task and is_category):
        kinds = " and ".join(filter(None, (declared.category, declared.task)))
        raise InputError(
            f"expected questions that are {kinds}, as the file is said to hold, "
            f"got {question[:80]!r}, which is {reading.category} and {reading.task}"
        )
    return reading


def _split_instruction(text: str) -> tuple[str, str | None]:
    question, mark, rest = text.strip().partition("?")
    return question + mark, " ".join(rest.split()) or None


def _get_text(value: dict[str, Any], key: str) -> str:
    return _check_text(value.get(key), key)


def _check_text(found: Any, key: str) -> str:
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"expected text in {key!r}, got {json.dumps(found)[:80]}")
    return found


def _read_id(value: Any, source: str) -> str:
    if value is None or value == "":
        return source
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        wanted = "expected a string or an integer as question_id"
        raise InputError(f"{wanted}, got {json.dumps(value)[:80]}")
    return str(value)


def _find_split(value: dict[str, Any], path: Path) -> str | None:
    """Return the split that the record names, else its file's name, else None."""
    named = value.get("split")
    if named in mmrel.SPLITS:
        return str(named)
    if named is None and value.get("category") == "adversarial":
        return "adversarial"
    if named not in (None, "", "dalle_normal"):
        wanted = f"expected the split {', '.join(mmrel.SPLITS)} or dalle_normal"
        raise InputError(f"{wanted}, got {named!r}; or pass --split or --mapping")
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    return next((split for split in ("adversarial", "train", "test") if split in words), None)

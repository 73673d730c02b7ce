# SPDX-License-Identifier: Apache-2.0
"""Reads annotation files as people have them: POPE/VCD-shaped, LLaVA conversations, the contract's own records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mmrel
from release.records import ANSWERS, InputError, Record, check_record, make_pair_id, parse_image_path, parse_question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

ANNOTATION_SUFFIXES = (".json", ".jsonl")
MAX_RECORD = 1 << 20  # characters of a line
SHOWN_PROBLEMS = 10
_SPACE = re.compile(r"[ \t\r\n]*")


class Question(NamedTuple):
    """A record, the split it belongs to, and where it was read."""

    split: str
    record: Record
    where: str


def read_annotations(paths: Sequence[Path], problems: list[str], split: str | None = None) -> Iterator[Question]:
    """Read annotation files, or folders of them, one question at a time.

    Args:
        paths: .json or .jsonl files in POPE/VCD shape, LLaVA conversations or the contract's own records, or folders.
        problems: what cannot be read is added to it, each with file and line; what can be goes on.
        split: overrides what the files say.

    Raises:
        InputError: there is no such file, or no annotation file in a folder.
    """
    for path in _find_files(paths):
        for where, value in _read_values(path, problems):
            try:
                yield from _read_value(value, path, where, split)
            except InputError as error:
                problems.append(f"{where}: {error}")


def raise_problems(problems: list[str]) -> None:
    """Raise an `InputError` with the first ten problems and their number, if there is any."""
    if problems:
        more = f"\n… {len(problems)} problems in all" if len(problems) > SHOWN_PROBLEMS else ""
        raise InputError("\n".join(problems[:SHOWN_PROBLEMS]) + more)


def _find_files(paths: Sequence[Path]) -> list[Path]:
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


def _read_values(path: Path, problems: list[str]) -> Iterator[tuple[str, Any]]:
    """The JSON values of a file, lines or elements of one array, each with `file:line`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.object.count(b"\n", 0, error.start) + 1
        problems.append(f"{path}:{at}: expected UTF-8, got byte 0x{error.object[error.start]:02x} at {error.start}")
        return
    if not text.strip():
        problems.append(f"{path}:1: expected records, the file is empty")
    elif text.lstrip().startswith("["):
        yield from _read_array(path, text, problems)
    else:
        # A record per line; str.splitlines would also cut at separators that may stand inside a JSON string.
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
            if not line.strip():
                continue
            try:
                yield f"{path}:{number}", _parse_json(line)
            except ValueError as error:
                problems.append(
                    f"{path}:{number}: expected one JSON object per line, or one array: {error}, got {line[:80]!r}"
                )
                if len(problems) > 1000:
                    return


def _read_array(path: Path, text: str, problems: list[str]) -> Iterator[tuple[str, Any]]:
    """Elements of an array one by one, because the parser of the standard library forgets their lines."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    space = re.compile(r"[ \t\r\n]*")
    at = space.match(text, text.index("[") + 1).end()  # type: ignore[union-attr]
    line, counted = 1, 0
    while not text.startswith("]", at):
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{line}: expected a JSON array of objects: {error or type(error).__name__}")
            return
        yield f"{path}:{line}", value
        at = space.match(text, at).end()  # type: ignore[union-attr]
        if text.startswith(",", at):
            at = space.match(text, at + 1).end()  # type: ignore[union-attr]
        elif not text.startswith("]", at):
            problems.append(f"{path}:{line}: expected ',' or ']' after this element, got {text[at : at + 20]!r}")
            return
    if text[at + 1 :].strip():
        problems.append(f"{path}: expected nothing after the array, got {text[at + 1 :].strip()[:40]!r}")


def _parse_json(text: str) -> Any:
    if len(text) > MAX_RECORD:
        raise ValueError(f"a record has at most {MAX_RECORD} characters, this one {len(text)}")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_value(value: Any, path: Path, where: str, split: str | None) -> list[Question]:
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, got {json.dumps(value)[:80]}")
    source = f"{path.parent.name}/{path.name}:{where.rpartition(':')[2]}"
    if "conversations" in value:
        records = _from_llava(value, source)
    elif "image" in value and "text" in value:
        records = [_from_pope(value, source)]
    elif "image_id" in value and "question" in value:
        records = [_from_contract(value)]
    else:
        raise InputError(
            "expected the keys question_id, image, text, label (POPE), id, image, conversations (LLaVA) or those of "
            f"schema/record.schema.json, got {', '.join(map(str, value))[:200] or 'no key'}"
        )
    for record in records:
        if problem := check_record(record.to_json()):
            raise InputError(problem)
    chosen = split or _find_split(value, path)
    return [Question(chosen, record, where) for record in records]


def _from_pope(value: dict[str, Any], source: str) -> Record:
    question, instruction = _split_instruction(_text(value, "text"))
    return _make_record(
        question_id=_question_id(value.get("question_id"), source),
        image_id=_text(value, "image"),
        question=question,
        instruction=instruction,
        answer=_text(value, "label"),
        source=source,
    )


def _from_llava(value: dict[str, Any], source: str) -> list[Record]:
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
            )
        )
    return records


def _from_contract(value: dict[str, Any]) -> Record:
    if problem := check_record(value):
        raise InputError(problem)
    return Record(**value)


def _make_record(
    question_id: str, image_id: str, question: str, instruction: str | None, answer: str, source: str
) -> Record:
    domain, style = parse_image_path(image_id)
    reading = parse_question(question)
    answer = answer.strip()
    pair_id, relation = None, reading.relation
    if reading.task == "discriminative":
        if answer.lower() not in ANSWERS:
            raise InputError(f"expected the label yes or no, got {answer[:80]!r}")
        answer = answer.lower()
        pair_id = make_pair_id(image_id, reading.category, reading.subject, reading.object)
    else:
        relation = answer
    return Record(
        question_id=question_id,
        image_id=image_id,
        domain=domain,
        category=reading.category,
        task=reading.task,
        subject=reading.subject,
        relation=relation,
        object=reading.object,
        question=question,
        instruction=instruction,
        answer=answer,
        style=style,
        pair_id=pair_id,
        source=source,
    )


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


def _find_split(value: dict[str, Any], path: Path) -> str:
    """The split that the record names, else its file's name, else test."""
    named = value.get("split")
    if named in mmrel.SPLITS:
        return str(named)
    if named is None and value.get("category") == "adversarial":
        return "adversarial"
    if named not in (None, "", "dalle_normal"):
        raise InputError(
            f"expected the split {', '.join(mmrel.SPLITS)} or dalle_normal, got {named!r}; or pass --split"
        )
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    return next((split for split in ("adversarial", "train", "test") if split in words), "test")

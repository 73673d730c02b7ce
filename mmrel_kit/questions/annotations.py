# SPDX-License-Identifier: Apache-2.0
"""Read annotation files into records.

Formats: POPE/VCD-shaped records, LLaVA conversations, records of the contract, and the Parquet
re-release of the DALL-E part.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.files import RECORD_RULES, InputError, Problem, scan_json
from mmrel_kit.questions.declarations import Declaration, find_category, find_split, map_files
from mmrel_kit.questions.formats import (
    RawQuestion,
    find_domain,
    from_llava,
    from_pope,
    from_row,
    get_text,
)
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
from mmrel_kit.questions.wordings import Wordings

ANNOTATION_SUFFIXES = (".json", ".jsonl")
DEFAULT_SPLIT = "test"
# Conversations about other pictures may be far longer than a record.
RULES = RECORD_RULES._replace(longest=1 << 24)

# Why a question, or a conversation, does not become a record.
NO_CATEGORY = "no category"  # no grammar parses it, and nothing names its category
NOT_VALID = "not valid"  # no grammar parses it, and the contract refuses its text
UNREADABLE = "unreadable"  # a line that is no question, or one of yes and no of unknown wording
OTHER_PICTURE = "other picture"  # a conversation about no picture of MMRel's
# A conversation of another dataset about a picture of MMRel's, as LLaVA's training data has them
# about Visual Genome: no grammar parses it, and nothing names a category.
OTHER_QUESTION = "other question"
NOT_OURS = (OTHER_PICTURE, OTHER_QUESTION)


class Annotation(NamedTuple):
    """A record with its split.

    Attributes:
        where: file and line of the record.
        is_assumed: whether the split is only the default, `test`.
        name: an id from the place of the question in its file, unique in it; "" is the record's
            source.
    """

    split: str
    record: Record
    where: str
    is_assumed: bool = False
    name: str = ""

    @property
    def file(self) -> str:
        """The file that the record was read from."""
        return self.where.rpartition(":")[0]


class LeftOut(NamedTuple):
    """A question, or a whole conversation, that does not become a record.

    Attributes:
        where: file and line.
        reason: `NO_CATEGORY`, `NOT_VALID`, `OTHER_PICTURE`, `OTHER_QUESTION`, or `UNREADABLE` (see
            `leave_out`).
        message: what was expected, for `build --strict`; "" if it is no question of MMRel's.
    """

    where: str
    reason: str
    message: str = ""


def leave_out(problem: Problem) -> LeftOut:
    """Return a problem as a question that is left out, where one must not stop the others."""
    return LeftOut(problem.where, UNREADABLE, problem.message)


def read_annotations(
    paths: Sequence[Path],
    split: str | None = None,
    mapping: Path | None = None,
    domains: Collection[str] | None = None,
    wordings: Wordings | None = None,
) -> Iterator[Annotation | Problem | LeftOut]:
    """Yield the questions of annotation files, one at a time, in constant memory.

    A question that no grammar parses is open-ended, unless its answer is yes or no: it becomes a
    record without a triplet, or a `LeftOut` if nothing names its category. A LLaVA conversation
    about another picture than MMRel's is one `LeftOut`, as is a question of a conversation that is
    not MMRel's. What cannot be read is a `Problem` with file and line. Reading continues after each
    of them.

    Args:
        paths: .json or .jsonl files of any format above, folders of them, or .parquet files of the
            re-release.
        split: overrides the splits that the files name.
        mapping: a file for `read_mapping`.
        domains: skip the questions about pictures of other domains; None reads all.
        wordings: counts the questions that no grammar parses, whatever becomes of them.

    Raises:
        InputError: a file does not exist, a folder has no annotation file, the mapping cannot be
            used, a .parquet file is not one of the re-release, or, after the last question,
            one of `domains` has none although there was no problem.
    """
    declarations = map_files(find_annotation_files(paths), mapping)
    missing = set(domains or ())
    has_problems = False
    for path, declared in declarations.items():
        if split:
            declared = declared._replace(split=split)
        for item in _FileReader(path, declared, domains, wordings or Wordings()).read():
            if isinstance(item, Problem):
                has_problems = True
            elif isinstance(item, Annotation):
                missing.discard(item.record.domain)
            yield item
    if missing and not has_problems:
        raise InputError(
            f"{', '.join(map(str, paths))[:500]}: expected questions about pictures of "
            f"{', '.join(sorted(missing))}, found none; name other domains or annotation files"
        )


def find_annotation_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files that `read_annotations` reads, each once, in the order of their paths.

    Raises:
        InputError: there is nothing at a path, or no annotation file in a folder.
    """
    files: set[Path] = set()
    for path in paths:
        if path.is_dir():
            in_folder = [file for file in path.rglob("*") if _is_annotation_file(file)]
            if not in_folder:
                raise InputError(
                    f"{path}: expected {' or '.join(ANNOTATION_SUFFIXES)} files in the folder, "
                    "found none"
                )
            files.update(file.resolve() for file in in_folder)
        elif path.is_file():
            files.add(path.resolve())
        else:
            raise InputError(
                f"{path}: expected an annotation file or a folder of them, found nothing there"
            )
    return sorted(files)


def _is_annotation_file(path: Path) -> bool:
    return path.suffix in ANNOTATION_SUFFIXES and path.is_file()


class _FileReader:
    """Reads the questions of one annotation file; the arguments are those of `read_annotations`."""

    def __init__(
        self,
        path: Path,
        declared: Declaration,
        domains: Collection[str] | None,
        wordings: Wordings,
    ) -> None:
        self._path = path
        self._declared = declared
        self._domains = domains
        self._wordings = wordings
        self._where = ""  # file and line of the current value
        self._number = 0  # of the current value among those that begin on its line

    def read(self) -> Iterator[Annotation | Problem | LeftOut]:
        """Yield the questions."""
        if self._path.suffix == ".parquet":
            if self._is_wanted("dalle"):
                for row in read_rerelease(self._path):
                    self._move_to(row.where)
                    yield from self._read_questions(from_row(row))
            return
        for item in scan_json(self._path, rules=RULES):
            if isinstance(item, Problem):
                yield item
                continue
            self._move_to(item.where)
            try:
                yield from self._read_value(item.value)
            except InputError as error:
                yield Problem(self._where, str(error))

    def _move_to(self, where: str) -> None:
        self._number = self._number + 1 if where == self._where else 1
        self._where = where

    def _is_wanted(self, domain: str) -> bool:
        return self._domains is None or domain in self._domains

    def _read_value(self, value: Any) -> Iterator[Annotation | Problem | LeftOut]:
        """Yield the questions of a JSON value, whose format follows from its keys."""
        if not isinstance(value, dict):
            raise InputError(f"expected a JSON object, got {json.dumps(value)[:80]}")
        if "conversations" in value:
            domain = find_domain(value.get("image"))
            if domain is None:
                yield LeftOut(self._where, OTHER_PICTURE)
            elif self._is_wanted(domain):
                yield from self._read_questions(from_llava(value))
        elif "image" in value and "text" in value:
            domain, _ = parse_image_path(get_text(value, "image"))
            if self._is_wanted(domain):
                yield from self._read_questions(from_pope(value))
        elif "image_id" in value and "question" in value:
            record = _from_contract(value)
            if self._is_wanted(record.domain):
                yield self._annotate(record, value)
        else:
            got = ", ".join(map(str, value))[:200] or "no key"
            raise InputError(
                "expected the keys question_id, image, text, label (POPE), "
                "id, image, conversations (LLaVA) or those of "
                f"schema/record.schema.json, got {got}"
            )

    def _read_questions(
        self, questions: Iterator[RawQuestion]
    ) -> Iterator[Annotation | Problem | LeftOut]:
        """Yield the record of each question, or why there is none."""
        try:
            for question in questions:
                yield self._read_question(question)
        except InputError as error:
            yield Problem(self._where, str(error))

    def _read_question(self, raw: RawQuestion) -> Annotation | Problem | LeftOut:
        try:
            return self._make_record(raw)
        except InputError as error:
            return Problem(self._where, str(error))

    def _make_record(self, raw: RawQuestion) -> Annotation | LeftOut:
        """Return the record of a question of upstream's files."""
        question, instruction = _split_instruction(raw.text)
        domain, style = parse_image_path(raw.image_id)
        fields: dict[str, Any] = {
            "question_id": self._make_id(raw),
            "image_id": raw.image_id,
            "domain": domain,
            "question": question,
            "instruction": instruction,
            "answer": raw.answer.strip(),
            "style": style,
            "source": self._source,
        }
        try:
            parsed = parse_question(question)
        except InputError:
            category = self._find_category(raw)
            if category is None and "conversations" in raw.fields:
                return LeftOut(self._where, OTHER_QUESTION)
            self._wordings.add(self._source, question, raw.answer)
            if not self._is_open(raw):
                raise
            return self._make_open(raw, fields, category)
        self._check_declared(question, parsed, raw.declared)
        fields |= _make_triplet(raw, parsed)
        return self._annotate(_from_contract(fields), raw.fields, raw.turn)

    def _find_category(self, raw: RawQuestion) -> str | None:
        """Return the category of a question that no grammar parses, if anything names it."""
        return (
            self._declared.category
            or raw.declared.category
            or find_category(raw.fields, raw.image_id, self._path)
        )

    def _make_open(
        self, raw: RawQuestion, fields: dict[str, Any], category: str | None
    ) -> Annotation | LeftOut:
        """Return the record of an open-ended question that no grammar parses: without a triplet."""
        if category is None:
            message = (
                "expected a question that a grammar parses, or its category in --mapping, a field "
                f"of the record or the file's name, got {fields['question'][:200]!r}"
            )
            return LeftOut(self._where, NO_CATEGORY, message)
        fields |= {
            "category": category,
            "task": "generative",
            "subject": None,
            "relation": None,
            "object": None,
            "question": _join_lines(fields["question"]),
            "answer": _join_lines(fields["answer"]),
            "pair_id": None,
        }
        problem = check_record(fields)
        if problem:
            return LeftOut(self._where, NOT_VALID, problem)
        return self._annotate(Record(**fields), raw.fields, raw.turn)

    def _annotate(self, record: Record, fields: Mapping[str, Any], turn: int = 0) -> Annotation:
        split = self._declared.split or find_split(fields, self._path)
        return Annotation(
            split=split or DEFAULT_SPLIT,
            record=record,
            where=self._where,
            is_assumed=split is None,
            name=self._name_place(turn),
        )

    @property
    def _source(self) -> str:
        """A record's `source`: folder, file and line."""
        return f"{self._path.parent.name}/{self._path.name}:{self._where.rpartition(':')[2]}"

    def _name_place(self, turn: int) -> str:
        """Return a name of the current place: the source, number on the line, and turn."""
        name = self._source
        if self._number > 1:
            name += f".{self._number}"
        return f"{name}-{turn}" if turn else name

    def _make_id(self, raw: RawQuestion) -> str:
        """Return a question's id as text; its place if it has none."""
        id_ = raw.question_id
        if id_ is None or id_ == "":
            return self._name_place(raw.turn)
        if isinstance(id_, bool) or not isinstance(id_, (str, int)):
            raise InputError(
                f"expected a string or an integer as question_id, got {json.dumps(id_)[:80]}"
            )
        return f"{id_}-{raw.turn}" if raw.turn else str(id_)

    def _is_open(self, raw: RawQuestion) -> bool:
        """Return whether a question that no grammar parses is open-ended."""
        task = self._declared.task or raw.declared.task
        if task:
            return task == "generative"
        return _read_label(raw.answer) not in ANSWERS

    def _check_declared(self, question: str, parsed: ParsedQuestion, row: Declaration) -> None:
        """Compare task and category of a parsed question with those that are declared."""
        task, category = self._declared.task or row.task, self._declared.category
        if task in (None, parsed.task) and category in (None, parsed.category):
            return
        kinds = " and ".join(filter(None, (category, task)))
        raise InputError(
            f"expected questions that are {kinds}, as declared for the file, "
            f"got {question[:80]!r}, which is {parsed.category} and {parsed.task}"
        )


def _from_contract(fields: dict[str, Any]) -> Record:
    """Return the record with these fields.

    Raises:
        InputError: they violate the contract.
    """
    problem = check_record(fields)
    if problem:
        raise InputError(problem)
    return Record(**fields)


def _make_triplet(raw: RawQuestion, parsed: ParsedQuestion) -> dict[str, Any]:
    """Return the fields of a record that follow from a parsed question and its answer."""
    answer = raw.answer.strip()
    pair_id, relation = None, parsed.relation
    if parsed.task == "discriminative":
        answer = _read_label(answer)
        if answer not in ANSWERS:
            raise InputError(f"expected the label yes or no, got {raw.answer.strip()[:80]!r}")
        pair_id = make_pair_id(raw.image_id, parsed.category, parsed.subject, parsed.object)
    else:
        relation = answer
    return {
        "category": parsed.category,
        "task": parsed.task,
        "subject": parsed.subject,
        "relation": relation,
        "object": parsed.object,
        "answer": answer,
        "pair_id": pair_id,
    }


def _split_instruction(text: str) -> tuple[str, str | None]:
    question, mark, rest = text.strip().partition("?")
    return question + mark, _join_lines(rest) or None


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def _read_label(answer: str) -> str:
    """Return an answer as a label: "Yes." is "yes"."""
    return answer.strip().lower().removesuffix(".")

# SPDX-License-Identifier: Apache-2.0
"""Holds a release against the contract and what the Hub's viewer needs; everything that is wrong is told at once."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import mmrel
from mmrel_kit.build.hub_eval import read_texts
from mmrel_kit.build.tables import GROUP_DECODED_BYTES, GROUP_ROWS, GROUP_STORED_BYTES, make_schema
from mmrel_kit.card import croissant
from mmrel_kit.card.facts import Facts, count_picture, list_categories, make_facts, merge_facts
from mmrel_kit.card.hub_eval import CONFIG, find_splits
from mmrel_kit.card.readme import EXAMPLE, make_dataset_infos, make_front_matter
from mmrel_kit.check.viewer import Statistics
from mmrel_kit.files import INDEX, SCHEMA_FOLDER, InputError, describe_file
from mmrel_kit.pictures.archives import Picture, check_picture, describe_merge, sample_key
from mmrel_kit.questions.records import Record, check_record, make_pair_id, parse_question
from mmrel_kit.questions.taxonomy import find_misfit

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE_FILES = ("upload.py", "mmrel_kit/check/release.py")  # which the source repository has, and no release
# What the source repository has in common with a release.
SAMPLE = ("data", "schema", "dataset_infos.json", "checksums.json")
REQUIRED = ("README.md", "dataset_infos.json", "schema/record.schema.json", "schema/taxonomy.json", "loader/mmrel.py")
FILE_DECODED_BYTES = 1 << 31  # what pyarrow's ParquetFile.read() can hold of a file once each row has its picture
EXIF_ORIENTATION = 0x0112
EXAMPLES = 3  # of a warning that counts questions
MAX_ROW = 2000  # characters of a row's text, up to which the viewer shows all of the first hundred rows
_DATA_FILE = re.compile(r"data/(\w+)/([a-z]+)(?:\.jsonl|-[0-9]{5}\.tar|-[0-9]{5}-of-[0-9]{5}\.parquet)")
_ADULT_TAGS = {"not-for-all-audiences", "nsfw", "porn", "hentai", "inappropriate"}


class Problem(NamedTuple):
    """Something wrong with a release, and where; a warning is told and does not refuse it."""

    where: str
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        return f"{'warning: ' if self.is_warning else ''}{self.where}: {self.message}"


class Entry(NamedTuple):
    """A picture as one of the three faces tells it: its records (or rows), its bytes where the face has them."""

    where: str
    records: list[dict[str, Any]]
    data: bytes | None


@dataclasses.dataclass
class Checker:
    """Collects the problems of the release in `root`; `index` is its checksums.json."""

    root: Path
    index: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    ids: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: set[str] = dataclasses.field(default_factory=set)
    statistics: Statistics = dataclasses.field(default_factory=Statistics)
    longest: int = 0
    misfits: int = 0
    misfit_examples: list[str] = dataclasses.field(default_factory=list)

    def add(self, where: str, message: str, is_warning: bool = False) -> None:
        """Note a problem."""
        self.problems.append(Problem(where, message, is_warning))


def check_release(root: Path) -> list[Problem]:
    """All problems of a release, warnings last; nothing: it is whole and as the contract demands.

    Checked are the checksums, each record against the schema and the grammars, the three faces of each split row for
    row, every picture (decoded once), what the Hub's viewer needs, the card and dataset_infos.json against the files.

    Raises:
        InputError: `root` is the source repository, whose sample `check_sample` checks.
    """
    if is_source(root):
        raise InputError(
            f"{root}: this is the source repository, not a release; check its sample with: "
            f"python upload.py check {root} --sample"
        )
    return _check(root)


def check_sample(root: Path) -> list[Problem]:
    """Return the problems of the sample in the source repository; other files are not looked at.

    Raises:
        InputError: `root` is not the source repository.
    """
    if not is_source(root):
        raise InputError(f"{root}: expected the source repository; leave out --sample for a release")
    return [found for found in _check(root) if found.is_warning or found.where.startswith(SAMPLE)]


def is_source(root: Path) -> bool:
    """Return whether a folder is a clone of the source repository."""
    return all((root / name).is_file() for name in SOURCE_FILES)


def _check(root: Path) -> list[Problem]:
    checker = Checker(root)
    splits: dict[tuple[str, str], list[str]] = {}
    for name in _check_files(checker):
        if match := _DATA_FILE.fullmatch(name):
            splits.setdefault((match[1], match[2]), []).append(name)
    facts = [_check_split(checker, *key, sorted(names)) for key, names in sorted(splits.items())]
    if not splits:
        checker.add(INDEX, "expected questions under data/, none are listed")
    elif not checker.broken:
        _check_card(checker, merge_facts(facts))
        _check_values(checker)
        _check_misfits(checker)
    return sorted(set(checker.problems), key=lambda problem: (problem.is_warning, problem.where, problem.message))


def _check_files(checker: Checker) -> list[str]:
    """Compare the folder with checksums.json; returns the files that stand in both."""
    root = checker.root
    try:
        checker.index = json.loads((root / INDEX).read_text("utf-8"))
        files = checker.index["files"].items()
        listed = {str(name): (described["sha256"], described["size"]) for name, described in files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        checker.add(INDEX, f"expected the sha256 and size of each file, got {type(error).__name__}: {error}")
        return []
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    found = {name for name in found if not name.startswith(".") and name != INDEX}
    for name in sorted(found - set(listed)):
        checker.add(name, f"{INDEX} does not list it; take it away or build the release again")
    for name in (*(name for name in REQUIRED if name not in listed), *sorted(set(listed) - found)):
        checker.add(name, f"missing; {INDEX} or the layout of a release wants it")
    for name in sorted(found & set(listed)):
        described = describe_file(root / name)
        if (described["sha256"], described["size"]) != listed[name]:
            checker.add(name, f"expected {listed[name][1]} bytes, sha256 {listed[name][0]}; got {described}")
        if name.startswith("data/") and name != EXAMPLE and not _is_data_file(name):
            checker.add(name, "expected data/<domain>/<split>.jsonl, -00000.tar or -00000-of-00001.parquet")
        if "/" not in name and name.endswith(".py"):
            checker.add(name, "a script at the top stops load_dataset on datasets >= 4; it belongs in loader/")
    for name in ("record.schema.json", "taxonomy.json"):
        if f"schema/{name}" in found and (root / "schema" / name).read_bytes() != (SCHEMA_FOLDER / name).read_bytes():
            checker.add(f"schema/{name}", f"differs from the contract of this package ({mmrel.__version__})")
    return sorted(found & set(listed))


def _is_data_file(name: str) -> bool:
    match = _DATA_FILE.fullmatch(name)
    return bool(match) and match[1] in mmrel.DOMAINS and match[2] in mmrel.SPLITS  # type: ignore[index]


def _check_split(checker: Checker, domain: str, split: str, names: list[str]) -> Facts:
    """Read the three faces of a split side by side, one picture in memory."""
    archives = [name for name in names if name.endswith(".tar")]
    tables = [name for name in names if name.endswith(".parquet")]
    stem = f"data/{domain}/{split}"
    expected = [f"{stem}.jsonl", *(f"{stem}-{n:05d}.tar" for n in range(len(archives)))]
    expected += [f"{stem}-{n:05d}-of-{len(archives):05d}.parquet" for n in range(len(archives))]
    if sorted(expected) != names:
        checker.broken.add(stem)
        checker.add(stem, f"expected the faces {', '.join(expected)}, got {', '.join(names)}")
        return make_facts(domain, split, Counter(), 0)
    counts: Counter[str] = Counter()
    seen: dict[str, str] = {}  # pictures by their name to WebDataset readers
    faces = zip_longest(_read_lines(checker, stem), _read_archives(checker, archives), _read_tables(checker, tables))
    for lines, archived, rows in faces:
        if lines is None or archived is None or rows is None:
            if not {stem, *names} & checker.broken:
                ended = [
                    face for face, entry in zip(expected[:3], (lines, archived, rows), strict=True) if entry is None
                ]
                checker.add(stem, f"expected the same pictures in all three faces, {', '.join(ended)} ends before")
                checker.broken.add(stem)
            break
        picture = _compare(checker, domain, lines, archived, rows)
        if picture is None:
            checker.broken.add(stem)
            break
        key = sample_key(picture.image_id)
        twin = seen.get(key)
        if twin == picture.image_id:
            checker.add(lines.where, f"expected all questions of {picture.image_id!r} to stand together")
        elif twin is not None:
            checker.add(lines.where, describe_merge(picture.image_id, twin))
        else:
            seen[key] = picture.image_id
        _check_pixels(checker, picture, archived.where, domain, split)
        _note_texts(checker, picture, domain, split)
        count_picture(picture, counts)
    return make_facts(domain, split, counts, sum((checker.root / name).stat().st_size for name in tables))


def _compare(checker: Checker, domain: str, lines: Entry, archived: Entry, rows: Entry) -> Picture | None:
    """Hold what the faces say of a picture against each other; null where they differ."""
    if lines.records != archived.records:
        checker.add(archived.where, f"the records differ from {lines.where}")
        return None
    for record, row in zip_longest(lines.records, rows.records):
        wanted = record and {column: record[column] for column in mmrel.COLUMNS}
        if wanted and {"image": {"bytes": archived.data, "path": record["image_id"]}, **wanted} != row:
            differing = [name for name in wanted if not row or wanted[name] != row[name]] or ["image"]
            checker.add(rows.where, f"column {', '.join(differing)} differs from {lines.where}")
            return None
    if any(record["domain"] != domain for record in lines.records):
        checker.add(lines.where, f"field domain: expected {domain!r}")
    return Picture(lines.records[0]["image_id"], archived.data or b"", [Record(**r) for r in lines.records])


def _read_lines(checker: Checker, stem: str) -> Iterator[Entry]:
    """The records of the .jsonl file by picture, each held against the contract."""

    def read() -> Iterator[tuple[str, dict[str, Any]]]:
        name = f"{stem}.jsonl"
        with open(checker.root / name, "rb") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{name}:{number}"
                try:
                    record = json.loads(line.decode())
                    problem = check_record(record) if isinstance(record, dict) else "expected a JSON object"
                except (ValueError, RecursionError) as error:
                    problem = f"expected a record, got {type(error).__name__}: {error}"
                if problem:
                    checker.add(where, problem)
                    checker.broken.add(name)
                    return
                _check_meaning(checker, where, record)
                yield where, record

    for _, group in groupby(read(), key=lambda pair: pair[1]["image_id"]):
        pairs = list(group)
        yield Entry(pairs[0][0], [record for _, record in pairs], None)


def _check_meaning(checker: Checker, where: str, record: dict[str, Any]) -> None:
    """What a schema cannot say of a record."""
    if (first := checker.ids.setdefault(record["question_id"], where)) != where:
        checker.add(where, f"question_id {record['question_id']!r} stands already at {first}")
    triplet = record["subject"], record["relation"], record["object"]
    if record["relation"] is not None and find_misfit(record["category"], record["relation"]):
        checker.misfits += 1
        if len(checker.misfit_examples) < EXAMPLES:
            checker.misfit_examples.append(f"{where}: {record['question'][:120]!r}")
    if record["task"] == "discriminative":
        expected = make_pair_id(record["image_id"], record["category"], triplet[0], triplet[2])
        if record["pair_id"] != expected:
            checker.add(where, f"field pair_id: expected {expected!r} for this picture and objects")
        try:
            reading = parse_question(record["question"])
        except InputError as error:
            checker.add(where, f"field question: {error}")
            return
        if (reading.category, reading.subject, reading.relation, reading.object) != (record["category"], *triplet):
            checker.add(where, f"field question: reads as {tuple(reading)}, the record says {triplet}")
    checker.longest = max(checker.longest, sum(len(value) for value in record.values() if isinstance(value, str)))


def _read_archives(checker: Checker, names: list[str]) -> Iterator[Entry]:
    for name in names:
        path, kinds = checker.root / name, set[str]()
        try:
            with open(path, "rb") as file:
                for records, data in mmrel.read_archive(file, name, path.stat().st_size):
                    kinds.update(str(record.get("category")) for record in records)
                    yield Entry(f"{name}:{records[0].get('image_id')}", records, data)
            told, held = checker.index["files"][name].get("categories"), list_categories(kinds)
            if told != held:
                checker.add(name, f"{INDEX} says that it holds the categories {told}, it holds {held}")
        except mmrel.ReleaseError as error:
            checker.broken.add(name)
            where, _, message = str(error).partition(": ")
            checker.add(where, message)
            return


def _read_tables(checker: Checker, names: list[str]) -> Iterator[Entry]:
    for name in names:
        try:
            with pq.ParquetFile(checker.root / name) as file:
                _check_groups(checker, name, file)
                if checker.broken & {name}:
                    return
                yield from _read_table(checker, name, file)
        except (pa.ArrowException, OSError) as error:
            checker.broken.add(name)
            checker.add(name, f"expected a readable Parquet file: {str(error)[:200]}")
            return


def _read_table(checker: Checker, name: str, file: pq.ParquetFile) -> Iterator[Entry]:
    """The rows of a table by picture, one row group in memory; a picture with very many rows spans several."""
    decoded = 0
    rows: list[dict[str, Any]] = []
    for index in range(file.num_row_groups):
        where = f"{name}: row group {index}"
        group = file.read_row_group(index).to_pylist()
        size = sum(len((row["image"] or {}).get("bytes") or b"") for row in group)
        decoded += size
        pictures = [row["image_id"] for row in group]
        if size > GROUP_DECODED_BYTES and len(set(pictures)) > 1:
            checker.add(where, f"expected at most {GROUP_DECODED_BYTES} bytes of pictures once decoded, got {size}")
        if rows and pictures and pictures[0] == rows[-1]["image_id"] != pictures[-1]:
            checker.add(where, f"expected row groups cut between pictures, {pictures[0]!r} stands on both sides")
        rows += group
        *whole, rows = [list(found) for _, found in groupby(rows, key=lambda row: row["image_id"])]
        yield from (Entry(where, found, None) for found in whole)
    if rows:
        yield Entry(where, rows, None)
    if decoded >= FILE_DECODED_BYTES:
        checker.add(name, f"{decoded} bytes once decoded; readers that take a file whole fail from 2 GiB on", True)


def _check_groups(checker: Checker, name: str, file: pq.ParquetFile) -> None:
    """The viewer's demands on a Parquet file, from its footer."""
    if not file.schema_arrow.equals(make_schema(), check_metadata=True):
        checker.add(name, f"expected the columns and metadata of a release, got {file.schema_arrow.to_string()[:400]}")
        checker.broken.add(name)
        return
    for index in range(file.num_row_groups):
        group = file.metadata.row_group(index)
        where = f"{name}: row group {index}"
        columns = [group.column(number) for number in range(group.num_columns)]
        stored = sum(column.total_compressed_size for column in columns)
        if group.num_rows > GROUP_ROWS or stored > GROUP_STORED_BYTES * 1.05:
            checker.add(
                where,
                f"expected at most {GROUP_ROWS} rows and {GROUP_STORED_BYTES} bytes, "
                f"got {group.num_rows} rows and {stored} bytes",
            )
        if not all(column.has_offset_index for column in columns):
            checker.add(where, "expected a page index, got none; write it with write_page_index")
        picture = next(column for column in columns if column.path_in_schema == "image.bytes")
        if not picture.has_dictionary_page:
            checker.add(where, "expected a dictionary of the pictures, got them once per row")


def _note_texts(checker: Checker, picture: Picture, domain: str, split: str) -> None:
    for record in picture.records:
        for column in mmrel.COLUMNS:
            checker.statistics.add_text(domain, split, column, getattr(record, column))


def _check_pixels(checker: Checker, picture: Picture, where: str, domain: str, split: str) -> None:
    try:
        image = check_picture(picture.data, where)
    except InputError as error:
        checker.add(where, str(error).partition(f"{where}: ")[2])
        return
    checker.statistics.add_width(domain, split, "image", image.width)
    if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
        checker.add(where, "turned by EXIF orientation, which the Hub's viewer ignores; turn the pixels", True)


def _check_values(checker: Checker) -> None:
    """Warn of what the viewer's statistics and preview cannot do."""
    checker.statistics.unite(mmrel.DOMAINS)
    for split, column, value in read_texts(checker.root):
        checker.statistics.add_text(CONFIG, split, column, value)
    for failure in checker.statistics.find_failures():
        checker.add(f"config {failure.config}, split {failure.split}", str(failure), True)
    if checker.longest > MAX_ROW:
        checker.add(
            "data", f"a row has {checker.longest} characters; from {MAX_ROW} on the viewer shows fewer rows", True
        )


def _check_misfits(checker: Checker) -> None:
    """Warn of relations that their category cannot have; `audit` counts the same ones."""
    if checker.misfits:
        examples = ", ".join(checker.misfit_examples)
        message = f"{checker.misfits} questions with a relation of another category, "
        message += f"for example {examples}; "
        message += "python upload.py build --drop impossible_triplet leaves them out"
        checker.add("data", message, True)


def _check_croissant(checker: Checker, facts: list[Facts]) -> None:
    """croissant.json, where there is one, says what checksums.json says."""
    if (path := checker.root / croissant.NAME).exists():
        files, note = checker.index["files"], checker.index.get("note")
        if path.read_text("utf-8") != croissant.make_croissant(facts, files, note):
            checker.add(croissant.NAME, "expected what the files hold; build the release again")


def _check_card(checker: Checker, facts: list[Facts]) -> None:
    """The YAML on top of the card and dataset_infos.json say what the files say, and keep the viewer on."""
    import yaml

    try:
        if (checker.root / "dataset_infos.json").read_text("utf-8") != make_dataset_infos(facts):
            checker.add("dataset_infos.json", "expected what the files hold; build the release again")
        text = (checker.root / "README.md").read_text("utf-8")
        match = re.match(r"---\n(.*?\n)---\n", text, flags=re.DOTALL)
        front = yaml.safe_load(match[1]) if match else None
        _check_croissant(checker, facts)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        checker.add("README.md", f"expected a card with YAML on top: {error}")
        return
    if not isinstance(front, dict):
        checker.add("README.md:1", "expected YAML between two lines ---, found none")
        return
    for key, value in make_front_matter(facts, find_splits(checker.root)).items():
        if key in ("configs", "dataset_info") and front.get(key) != value:
            checker.add("README.md", f"{key} in the YAML: expected what the files hold; build the release again")
    if front.get("viewer") is False or _ADULT_TAGS & set(map(str, front.get("tags") or [])):
        checker.add("README.md", "the YAML turns the Hub's viewer off (viewer: false, or a tag for adults)")

# SPDX-License-Identifier: Apache-2.0
"""Builds a release: plan, pack shard by shard, finish. Nothing stands in the output folder before all is well."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL
import pyarrow

import mmrel
from release.annotations import raise_problems, read_annotations
from release.archives import Picture, check_picture, make_json, write_archive
from release.card import TEMPLATE, Facts, fill_template, generate, make_dataset_infos, merge_facts
from release.plan import SHARD_BYTES, Plan
from release.records import SCHEMA_FOLDER, InputError
from release.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from release.plan import Partners, Shard
    from release.sources import PictureFolder

PROJECT = SCHEMA_FOLDER.parent
INDEX = "checksums.json"
PARTS = "parts"  # in the working folder: of each finished shard its records and what it holds
CHUNK = 1 << 20


class Part(NamedTuple):
    """A finished shard: its name, its facts, and sha256 and size of its files by their path in the release."""

    name: str
    facts: Facts
    files: dict[str, dict[str, Any]]


class Built(NamedTuple):
    """What a build made: facts of each split, and how its yes/no questions stand together, by split and category."""

    facts: list[Facts]
    partners: dict[tuple[str, str], Partners]


def build_release(
    paths: Sequence[Path],
    pictures: PictureFolder,
    out: Path,
    split: str | None = None,
    note: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[Iterable[Shard], int], Iterable[Shard]] = lambda shards, total: shards,
) -> Built:
    """Build a release from annotation files and pictures.

    The work is done beside `out`, in `<out>.partial`, and moved there in one step; a release that stands in `out` is
    replaced then. A build that was stopped goes on after the shards that it had finished.

    Args:
        paths: annotation files, or folders of them.
        pictures: where pictures are read from.
        out: folder of the release.
        split: overrides the split that the files name.
        note: a sentence that the card, checksums.json and `python mmrel.py` carry.
        shard_bytes: most bytes of pictures in an archive.
        progress: wraps the shards as they are packed.

    Raises:
        InputError: the input cannot be used, or `out` holds something else than a release; `out` is as before.
    """
    out = Path(os.path.abspath(out))
    check_out(out)
    work = out.with_name(out.name + ".partial")
    (work / PARTS).mkdir(parents=True, exist_ok=True)
    plan = Plan(work / "plan.sqlite")
    try:
        problems: list[str] = []
        plan.add(read_annotations(paths, problems, split), problems)
        plan.place_pictures(pictures, shard_bytes)
        shards = plan.shards()
        parts = [pack_shard(plan, shard, pictures, work) for shard in progress(shards, len(shards))]
        facts = finish(work, parts, note)
        partners = plan.count_partners()
    finally:
        plan.close()
        (work / "plan.sqlite").unlink()
        if not any((work / PARTS).iterdir()):
            shutil.rmtree(work)
    shutil.rmtree(work / PARTS)
    _replace_folder(work, out)
    return Built(facts, partners)


def pack_shard(plan: Plan, shard: Shard, pictures: PictureFolder, work: Path) -> Part:
    """Write a shard's archive, table and records, unless they stand there already.

    Every picture is decoded once, to know that it opens; its bytes are kept as they came.

    Raises:
        InputError: with all pictures of the shard that do not open.
    """
    name = f"{shard.domain}-{shard.split}-{shard.index:05d}"
    part_file = work / PARTS / f"{name}.json"
    fingerprint = f"{shard.fingerprint} {make_versions()}"
    if part_file.exists():
        done = json.loads(part_file.read_text("utf-8"))
        if done["fingerprint"] == fingerprint:
            return Part(name, Facts(*done["facts"]), done["files"])
    stem = work / "data" / shard.domain / f"{shard.split}-{shard.index:05d}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    archive, table = stem.with_suffix(".tar"), stem.with_name(f"{stem.name}-of-{shard.count:05d}.parquet")
    problems: list[str] = []
    counts: Counter[str] = Counter()
    passing = _read_pictures(plan, shard, pictures, problems)
    passing = count_pictures(passing, counts)
    passing = _write_lines(part_file.with_suffix(".jsonl"), write_archive(archive, passing))
    write_table(table, passing)
    if problems:
        archive.unlink()
        table.unlink()
        raise_problems(problems)
    facts = make_facts(shard.domain, shard.split, counts, table.stat().st_size)
    part = Part(name, facts, {path.relative_to(work).as_posix(): describe_file(path) for path in (archive, table)})
    write_aside(part_file, json.dumps({"fingerprint": fingerprint, "facts": facts, "files": part.files}).encode())
    return part


def finish(work: Path, parts: Sequence[Part], note: str | None) -> list[Facts]:
    """Join the shards of a release: records, schema, loader, card, checksums."""
    facts = merge_facts(part.facts for part in parts)
    files = {name: described for part in parts for name, described in part.files.items()}
    for old in sorted((work / "data").rglob("*.*")):
        if old.relative_to(work).as_posix() not in files:
            old.unlink()  # of a build that was stopped, with other input
    for part in parts:
        with open(work / "data" / part.facts.domain / f"{part.facts.split}.jsonl", "ab") as lines:
            lines.write((work / PARTS / f"{part.name}.jsonl").read_bytes())
    for name in ("schema/record.schema.json", "schema/taxonomy.json", "LICENSE"):
        _copy(PROJECT / name, work / name)
    _copy(PROJECT / "mmrel.py", work / "loader" / "mmrel.py")
    (work / "dataset_infos.json").write_text(make_dataset_infos(facts), "utf-8", newline="\n")
    card = fill_template(TEMPLATE.read_text("utf-8"), generate(facts, note))
    (work / "README.md").write_text(card, "utf-8", newline="\n")
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if path.is_file() and name not in files and path.parent != work / PARTS and name not in (INDEX, "plan.sqlite"):
            files[name] = describe_file(path)
    (work / INDEX).write_text(make_index(files, note), "utf-8", newline="\n")
    return facts


def count_pictures(pictures: Iterable[Picture], counts: Counter[str]) -> Iterator[Picture]:
    """Count what `make_facts` needs while pictures pass."""
    for picture in pictures:
        counts["pictures"] += 1
        for record in picture.records:
            counts["rows"] += 1
            counts["num_bytes"] += len(picture.data) + len(picture.image_id)
            counts["num_bytes"] += sum(len((getattr(record, name) or "").encode()) for name in mmrel.COLUMNS)
            counts[f"{record.category} {record.task}"] += 1
        yield picture


def make_facts(domain: str, split: str, counts: Counter[str], table_bytes: int) -> Facts:
    """The facts of what `count_pictures` counted."""
    kinds = {kind: number for kind, number in sorted(counts.items()) if " " in kind}
    return Facts(domain, split, counts["rows"], counts["pictures"], counts["num_bytes"], table_bytes, kinds)


def make_index(files: dict[str, dict[str, Any]], note: str | None) -> str:
    """Text of checksums.json: sha256 and size of each file, and the versions of what wrote them."""
    index = {
        "name": "mmrel",
        "version": mmrel.__version__,
        "note": note,
        "written_by": make_versions(),
        "files": dict(sorted(files.items())),
    }
    return json.dumps(index, indent=2, ensure_ascii=False) + "\n"


def make_versions() -> dict[str, str]:
    """Versions of what wrote a release."""
    return {"mmrel": mmrel.__version__, "pillow": PIL.__version__, "pyarrow": pyarrow.__version__}


def describe_file(path: Path) -> dict[str, Any]:
    """A file's sha256 and size in bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return {"sha256": digest.hexdigest(), "size": path.stat().st_size}


def write_aside(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_bytes(data)
    os.replace(aside, path)


def check_out(out: Path) -> None:
    """Raise `InputError` where `out` holds something that is not a release's and would be lost."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: expected a folder or nothing, got a file; name another --out")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    try:
        listed = set(json.loads((out / INDEX).read_text("utf-8"))["files"]) | {INDEX}
    except (OSError, ValueError, KeyError, TypeError):
        listed = set()
    if foreign := sorted(found - listed):
        raise InputError(
            f"{out}: expected nothing or a release there, found {foreign[0]!r} ({len(foreign)} files that no "
            f"{INDEX} lists); name another --out or empty it"
        )


def _read_pictures(plan: Plan, shard: Shard, pictures: PictureFolder, problems: list[str]) -> Iterator[Picture]:
    for image_id, records in plan.read(shard.domain, shard.split, shard.index):
        data = pictures.read(image_id)
        try:
            check_picture(data, f"{records[0].source}: picture {image_id!r}")
        except InputError as error:
            problems.append(str(error))
        yield Picture(image_id, data, records)


def _write_lines(path: Path, pictures: Iterable[Picture]) -> Iterator[Picture]:
    with open(path, "w", encoding="utf-8", newline="\n") as lines:
        for picture in pictures:
            lines.writelines(make_json(record.to_json()) + "\n" for record in picture.records)
            yield picture


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _replace_folder(work: Path, out: Path) -> None:
    """Put the finished folder in place; an older release goes only once the new one can follow."""
    old = out.with_name(out.name + ".old")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(out, old)
    os.rename(work, out)
    shutil.rmtree(old, ignore_errors=True)

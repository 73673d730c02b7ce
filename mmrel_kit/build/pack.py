# SPDX-License-Identifier: Apache-2.0
"""Packs one shard of a release: archive, table and records, and what is known of them once they are finished."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL
import pyarrow

import mmrel
from mmrel_kit.build.archive import write_archive
from mmrel_kit.build.tables import write_table
from mmrel_kit.card.facts import Facts, count_picture, list_categories, make_facts
from mmrel_kit.files import InputError, describe_file, make_json, raise_problems, write_bytes
from mmrel_kit.pictures.archives import Picture
from mmrel_kit.pictures.whole import check_picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mmrel_kit.build.plan import Plan, Shard
    from mmrel_kit.pictures.sources import Pictures

CHUNK = 1 << 20


class Part(NamedTuple):
    """A finished shard.

    Attributes:
        name: of the shard.
        fingerprint: hash of everything that went into it, and of what made it.
        size: bytes of its pictures.
        facts: what the card says of it.
        files: sha256 and size of its files by their path in the release.
    """

    name: str
    fingerprint: str
    size: int
    facts: Facts
    files: dict[str, dict[str, Any]]


class Workplace(NamedTuple):
    """The folders of a build, which goes on beside its output."""

    out: Path

    @property
    def root(self) -> Path:
        """`<out>.partial`."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.root / "plan.sqlite"

    @property
    def parts(self) -> Path:
        """Of each finished shard its records, and its `Part`."""
        return self.root / "parts"

    @property
    def release(self) -> Path:
        """The release as far as it stands, moved to its place once it is whole."""
        return self.root / "release"


def pack_shard(plan: Plan, shard: Shard, pictures: Pictures, work: Workplace) -> Part:
    """Write a shard's archive, table and records, unless they stand there already.

    Every picture is decoded once, to know that it opens; its bytes are kept as they came. Files are written aside and
    moved to their places, the part's own last, so that a process that is killed leaves nothing that is half a shard.

    Raises:
        InputError: with all pictures of the shard that do not open.
    """
    if done := read_part(plan, shard, work):
        return done
    stem = f"data/{shard.domain}/{shard.split}-{shard.index:05d}"
    archive, table = work.release / f"{stem}.tar", work.release / f"{stem}-of-{shard.count:05d}.parquet"
    lines = work.parts / f"{shard.name}.jsonl"
    asides = [_make_aside(path) for path in (archive, table, lines)]
    problems: list[str] = []
    counts: Counter[str] = Counter()
    try:
        passing = count_pictures(_read_pictures(plan, shard, pictures, problems), counts)
        write_table(asides[1], _write_lines(asides[2], write_archive(asides[0], passing)))
        raise_problems(problems)
        described = {name.relative_to(work.release).as_posix(): describe_file(aside)
                     for name, aside in ((archive, asides[0]), (table, asides[1]))}  # fmt: skip
        facts = make_facts(shard.domain, shard.split, counts, asides[1].stat().st_size)
        described[f"{stem}.tar"]["categories"] = list_categories(counts)
        for aside, path in zip(asides, (archive, table, lines), strict=True):
            os.replace(aside, path)
    finally:
        for aside in asides:
            aside.unlink(missing_ok=True)
    part = Part(shard.name, _make_fingerprint(plan, shard), shard.size, facts, described)
    write_bytes(_part_file(work, shard), json.dumps(part).encode())
    return part


def read_part(plan: Plan, shard: Shard, work: Workplace) -> Part | None:
    """The finished part of a shard, or null where it is not packed, or was from other input or by other versions."""
    try:
        name, fingerprint, size, facts, files = json.loads(_part_file(work, shard).read_text("utf-8"))
        whole = all((work.release / path).stat().st_size == file["size"] for path, file in files.items())
        part = Part(name, fingerprint, size, Facts(*facts), files)
    except (OSError, ValueError, TypeError):
        return None
    return part if whole and fingerprint == _make_fingerprint(plan, shard) else None


def count_pictures(pictures: Iterable[Picture], counts: Counter[str]) -> Iterator[Picture]:
    """Count pictures while they pass."""
    for picture in pictures:
        count_picture(picture, counts)
        yield picture


def make_versions() -> dict[str, str]:
    """Versions of what wrote a release."""
    return {"mmrel": mmrel.__version__, "pillow": PIL.__version__, "pyarrow": pyarrow.__version__}


def _make_aside(path: Path) -> Path:
    """A name beside a file that no other process uses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")


def _make_fingerprint(plan: Plan, shard: Shard) -> str:
    return f"{plan.make_fingerprint(shard)} {make_versions()}"


def _part_file(work: Workplace, shard: Shard) -> Path:
    return work.parts / f"{shard.name}.json"


def _read_pictures(plan: Plan, shard: Shard, pictures: Pictures, problems: list[str]) -> Iterator[Picture]:
    for image_id, place, records in plan.read(shard):
        where = f"{records[0].source}: picture {image_id!r}"
        data = b""
        try:
            data = pictures.read(place)
            if len(data) != place.size:
                raise InputError(f"{where}: expected {place.size} bytes as planned, got {len(data)}; build again")
            check_picture(data, where)
        except (InputError, OSError) as error:
            problems.append(str(error))
        yield Picture(image_id, data, records)


def _write_lines(path: Path, pictures: Iterable[Picture]) -> Iterator[Picture]:
    with open(path, "w", encoding="utf-8", newline="\n") as lines:
        for picture in pictures:
            lines.writelines(make_json(record.to_json()) + "\n" for record in picture.records)
            yield picture

# SPDX-License-Identifier: Apache-2.0
"""Pack one shard of a release: its archive, table and records, and what is known of them."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL
import pyarrow

import mmrel
from mmrel_kit.build.archive import ArchiveWriter
from mmrel_kit.build.tables import TableWriter
from mmrel_kit.card.stats import SplitStats, count_picture, list_categories, make_stats
from mmrel_kit.files import (
    InputError,
    Problem,
    describe_file,
    make_json,
    raise_problems,
    write_bytes,
    write_whole,
)
from mmrel_kit.pictures.archives import Sample
from mmrel_kit.pictures.whole import decode_picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mmrel_kit.build.plan import BuildPlan, PlannedPicture, Shard
    from mmrel_kit.pictures.sources import Pictures


class ShardManifest(NamedTuple):
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
    facts: SplitStats
    files: dict[str, dict[str, Any]]


class WorkFolder(NamedTuple):
    """The folders of a build, which goes on beside its output."""

    out: Path

    @property
    def root(self) -> Path:
        """`<out>.partial`."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def plan(self) -> Path:
        """The plan.

        The number changes with its tables: a build goes on only from a plan that it can read.
        """
        return self.root / "plan-2.sqlite"

    @property
    def parts(self) -> Path:
        """The records of each finished shard, and its `ShardManifest`."""
        return self.root / "parts"

    @property
    def release(self) -> Path:
        """The release as far as it is built; moved to its place once it is whole."""
        return self.root / "release"


def write_shard(
    plan: BuildPlan, shard: Shard, pictures: Pictures, work: WorkFolder
) -> ShardManifest:
    """Write a shard's archive, table and records, unless they are packed already.

    Every picture is decoded once, to know that it opens; its bytes stay as they are. The three
    files are written at once and moved to their places, the part's own file last, so that a
    process that is killed leaves nothing that is half a shard.

    Raises:
        InputError: with all pictures of the shard that do not open.
    """
    done = read_manifest(plan, shard, work)
    if done:
        return done
    stem = f"data/{shard.domain}/{shard.split}-{shard.index:05d}"
    archive, table = f"{stem}.tar", f"{stem}-of-{shard.count:05d}.parquet"
    with (
        write_whole(work.release / archive) as archive_aside,
        write_whole(work.release / table) as table_aside,
        write_whole(work.parts / f"{shard.name}.jsonl") as lines_aside,
    ):
        samples = _read_samples(plan, shard, pictures)
        counts = _write_faces(samples, archive_aside, table_aside, lines_aside)
        files = {archive: describe_file(archive_aside), table: describe_file(table_aside)}
    files[archive]["categories"] = list_categories(counts)
    facts = make_stats(shard.domain, shard.split, counts, files[table]["size"])
    part = ShardManifest(shard.name, _make_fingerprint(plan, shard), shard.size, facts, files)
    write_bytes(_part_file(work, shard), json.dumps(part).encode())
    return part


def read_manifest(plan: BuildPlan, shard: Shard, work: WorkFolder) -> ShardManifest | None:
    """Return the finished part of a shard.

    None: it is not packed, or was packed from other input or by other versions.
    """
    try:
        text = _part_file(work, shard).read_text("utf-8")
        name, fingerprint, size, facts, files = json.loads(text)
        part = ShardManifest(name, fingerprint, size, SplitStats(*facts), files)
        for path, described in files.items():
            if (work.release / path).stat().st_size != described["size"]:
                return None
    except (OSError, ValueError, TypeError):
        return None
    return part if fingerprint == _make_fingerprint(plan, shard) else None


def make_problem(error: InputError) -> Problem:
    """Return an error about one thing as a `Problem`: where, and what is wrong there."""
    where, _, message = str(error).partition(": ")
    return Problem(where, message)


def list_versions() -> dict[str, str]:
    """Return the versions of what wrote a release."""
    return {
        "mmrel": mmrel.__version__,
        "pillow": PIL.__version__,
        "pyarrow": pyarrow.__version__,
    }


def _write_faces(
    samples: Iterator[Sample | Problem], archive_path: Path, table_path: Path, lines_path: Path
) -> Counter[str]:
    """Write archive, table and records side by side, one picture in memory.

    Returns:
        What `count_picture` counts.

    Raises:
        InputError: with all problems among the samples.
    """
    counts: Counter[str] = Counter()
    problems: list[Problem] = []
    with (
        ArchiveWriter(archive_path) as archive,
        TableWriter(table_path) as table,
        open(lines_path, "w", encoding="utf-8", newline="\n") as lines,
    ):
        for sample in samples:
            if isinstance(sample, Problem):
                problems.append(sample)
                continue
            count_picture(sample, counts)
            records = [make_json(record.to_json()) for record in sample.records]
            archive.add(sample.image_id, records, sample.data)
            table.add(sample)
            lines.writelines(record + "\n" for record in records)
    raise_problems(problems)
    return counts


def _read_samples(plan: BuildPlan, shard: Shard, pictures: Pictures) -> Iterator[Sample | Problem]:
    for planned in plan.read(shard):
        sample: Sample | Problem
        try:
            sample = _read_sample(planned, pictures)
        except InputError as error:
            sample = make_problem(error)
        except OSError as error:
            sample = Problem(_name_picture(planned), str(error))
        yield sample


def _read_sample(planned: PlannedPicture, pictures: Pictures) -> Sample | Problem:
    """Read a picture and decode it once; its bytes stay as they are.

    Raises:
        InputError: it cannot be read.
        OSError: the same.
    """
    where, expected = _name_picture(planned), planned.location.size
    data = pictures.read(planned.location)
    if len(data) != expected:
        message = f"expected {expected} bytes as planned, got {len(data)}; build again"
        return Problem(where, message)
    image = decode_picture(data, where)
    if isinstance(image, Problem):
        return image
    return Sample(planned.image_id, data, planned.records)


def _name_picture(planned: PlannedPicture) -> str:
    return f"{planned.records[0].source}: picture {planned.image_id!r}"


def _make_fingerprint(plan: BuildPlan, shard: Shard) -> str:
    return f"{plan.make_fingerprint(shard)} {list_versions()}"


def _part_file(work: WorkFolder, shard: Shard) -> Path:
    return work.parts / f"{shard.name}.json"

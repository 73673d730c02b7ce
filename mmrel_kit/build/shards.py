# SPDX-License-Identifier: Apache-2.0
"""Write the shards of a release: of each its archive, table and records, and a manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import PIL
import pyarrow

import mmrel
from mmrel_kit.build.archive import ArchiveWriter
from mmrel_kit.build.plan import BuildPlan, PlannedPicture, Shard
from mmrel_kit.build.tables import TableWriter
from mmrel_kit.card.stats import SplitStats, count_picture, list_categories, make_stats
from mmrel_kit.files import (
    InputError,
    Problem,
    describe_file,
    make_json,
    make_problem,
    raise_problems,
    write_atomically,
    write_bytes,
)
from mmrel_kit.pictures.archives import Sample
from mmrel_kit.pictures.validate import verify_picture
from mmrel_kit.sources.local import Pictures
from mmrel_kit.workers import run_tasks


class ShardManifest(NamedTuple):
    """The contents of a finished shard.

    Attributes:
        fingerprint: hash of its input, and the versions of what wrote it.
        size: bytes of its pictures.
        files: sha256 and size of its files, by path in the release.
    """

    name: str
    fingerprint: str
    size: int
    stats: SplitStats
    files: dict[str, dict[str, Any]]


class WorkFolder(NamedTuple):
    """The folder `<out>.partial`, in which the release at `out` is built."""

    out: Path

    @property
    def root(self) -> Path:
        """`<out>.partial`."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def plan(self) -> Path:
        """The file of the plan.

        The number changes with its tables, so that a build resumes only from a plan it can read.
        """
        return self.root / "plan-3.sqlite"

    @property
    def shards(self) -> Path:
        """The records and the manifest of each finished shard."""
        return self.root / "parts"

    @property
    def release(self) -> Path:
        """The unfinished release, which is moved to `out` at the end."""
        return self.root / "release"

    def manifest(self, shard: Shard) -> Path:
        """Return the path of a shard's manifest."""
        return self.shards / f"{shard.name}.json"


def write_shards(
    plan: BuildPlan, shards: Sequence[Shard], pictures: Pictures, work: WorkFolder, workers: int
) -> Iterator[ShardManifest]:
    """Write shards and yield the manifest of each; a problem in one does not stop the others.

    Raises:
        InputError: some shards have problems; raised after the last shard, with all of them.
        ChildProcessError: see `run_tasks`.
    """
    problems = []
    with closing(run_tasks(_try_shard, shards, workers, (plan, pictures, work))) as results:
        for result in results:
            if isinstance(result, Problem):
                problems.append(result)
            else:
                yield result
    raise_problems(problems)


def write_shard(
    plan: BuildPlan, shard: Shard, pictures: Pictures, work: WorkFolder
) -> ShardManifest:
    """Write the archive, table and records of a shard, unless they are written already.

    Every picture is decoded once to check it; its bytes are not changed. The three files are
    written side by side and then moved into place, the manifest last, so a process that is killed
    leaves no half-written shard.

    Raises:
        InputError: pictures of the shard cannot be opened; lists all of them.
    """
    finished = read_manifest(plan, shard, work)
    if finished:
        return finished
    stem = f"data/{shard.domain}/{shard.split}-{shard.index:05d}"
    archive = f"{stem}.tar"
    table = f"{stem}-of-{shard.count:05d}.parquet"
    with (
        write_atomically(work.release / archive) as archive_path,
        write_atomically(work.release / table) as table_path,
        write_atomically(work.shards / f"{shard.name}.jsonl") as lines_path,
    ):
        samples = _read_samples(plan, shard, pictures)
        counts, described = _write_files(samples, archive_path, table_path, lines_path)
        files = {archive: described, table: describe_file(table_path)}
    files[archive]["categories"] = list_categories(counts)
    stats = make_stats(shard.domain, shard.split, counts, files[table]["size"])
    fingerprint = _make_fingerprint(plan, shard)
    manifest = ShardManifest(shard.name, fingerprint, shard.size, stats, files)
    write_bytes(work.manifest(shard), json.dumps(manifest).encode())
    return manifest


def read_manifest(plan: BuildPlan, shard: Shard, work: WorkFolder) -> ShardManifest | None:
    """Return the manifest of a finished shard.

    None if the shard is not written, or was written from other input or by other versions.
    """
    try:
        text = work.manifest(shard).read_text("utf-8")
        name, fingerprint, size, stats, files = json.loads(text)
        manifest = ShardManifest(name, fingerprint, size, SplitStats(*stats), files)
        for path, entry in files.items():
            if (work.release / path).stat().st_size != entry["size"]:
                return None
    except (OSError, ValueError, TypeError):
        return None
    return manifest if fingerprint == _make_fingerprint(plan, shard) else None


def list_versions() -> dict[str, str]:
    """Return the versions of the software that writes a release."""
    return {"mmrel": mmrel.__version__, "pillow": PIL.__version__, "pyarrow": pyarrow.__version__}


def _try_shard(
    plan: BuildPlan, pictures: Pictures, work: WorkFolder, shard: Shard
) -> ShardManifest | Problem:
    try:
        return write_shard(plan, shard, pictures, work)
    except InputError as error:
        return make_problem(error)


def _write_files(
    samples: Iterator[Sample | Problem], archive_path: Path, table_path: Path, lines_path: Path
) -> tuple[Counter[str], dict[str, Any]]:
    """Write archive, table and records side by side, with the pictures of a row group in memory.

    Returns:
        The counts of `count_picture`, and the archive's entry in checksums.json.

    Raises:
        InputError: there are problems among the samples; lists all of them.
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
    return counts, archive.describe()


def _read_samples(plan: BuildPlan, shard: Shard, pictures: Pictures) -> Iterator[Sample | Problem]:
    for planned in plan.read(shard):
        try:
            yield _read_sample(planned, pictures)
        except InputError as error:
            yield make_problem(error)
        except OSError as error:
            yield Problem(_describe_picture(planned), str(error))


def _read_sample(planned: PlannedPicture, pictures: Pictures) -> Sample | Problem:
    """Read a picture and check its data."""
    where = _describe_picture(planned)
    expected = planned.location.size
    data = pictures.read(planned.location)
    if len(data) != expected:
        message = f"expected {expected} bytes as planned, got {len(data)}; build again"
        return Problem(where, message)
    verified = verify_picture(data, where)
    if isinstance(verified, Problem):
        return verified
    return Sample(planned.image_id, data, planned.records)


def _describe_picture(planned: PlannedPicture) -> str:
    return f"{planned.records[0].source}: picture {planned.image_id!r}"


def _make_fingerprint(plan: BuildPlan, shard: Shard) -> str:
    return f"{plan.make_fingerprint(shard)} {list_versions()}"

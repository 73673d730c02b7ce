# SPDX-License-Identifier: Apache-2.0
"""Prove what stands on the Hub: every file by size and hash, and every config and split by loading it.

The hashes come from the Hub's metadata (`deep` reads the files themselves). The loading goes through
`datasets.load_dataset` in streaming mode, as users do it, and compares the first and the last row of each split with
the release on the disk.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import DatasetCard, HfApi, HfFileSystem
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from mmrel_kit.commands.options import parse_path
from mmrel_kit.files import INDEX, InputError
from mmrel_kit.hub import calls
from mmrel_kit.hub.calls import Patience
from mmrel_kit.hub.plan import Checksum, check_name, is_same, list_release, refuse_script

BLOCK = 16 << 20  # bytes asked for at a time by `--deep`
KEY = "question_id"  # unique in a release


@dataclass(frozen=True, slots=True)
class Load:
    """How one split loaded.

    Attributes:
        config: Name of the config.
        split: Name of the split.
        rows: Rows that it has in the release on the disk.
        first: Key of its first row there.
        last: Key of its last row there.
        problem: What was not as it should be; empty when all was.
    """

    config: str
    split: str
    rows: int
    first: str
    last: str
    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found.

    Attributes:
        revision: The commit that was looked at.
        same: Number of files that stand there as in the release.
        foreign: Number of files there that are none of the release's.
        differences: One line for each file that is missing or different, and for a script that stops loading.
        loads: One entry for each config and split.
    """

    revision: str
    same: int
    foreign: int
    differences: tuple[str, ...]
    loads: tuple[Load, ...]

    @property
    def is_good(self) -> bool:
        """Whether the Hub holds the release, and it loads."""
        return not self.differences and not any(load.problem for load in self.loads)

    def __str__(self) -> str:
        head = f"revision {self.revision}: {self.same} files as in the release, {self.foreign} of others"
        lines = [head, *(f"differs: {line}" for line in self.differences)]
        names = ("config", "split", "rows", "first row", "last row", "loads")
        table = [names, *((x.config, x.split, str(x.rows), x.first, x.last, x.problem or "yes") for x in self.loads)]
        widths = [max(len(row[column]) for row in table) for column in range(len(names) - 1)]
        return "\n".join([*lines, *(_table_line(row, widths) for row in table)])


class Edges(NamedTuple):
    """The ends of a split, read from the disk."""

    rows: int
    first: dict[str, Any]
    last: dict[str, Any]


def verify(
    root: Path,
    repo_id: str,
    *,
    revision: str = "main",
    deep: bool = False,
    patience: Patience = calls.PATIENCE,
) -> Report:
    """Compare what stands on the Hub with the release in `root`.

    Args:
        root: The release that was published.
        repo_id: `NAMESPACE/NAME`.
        revision: Branch, tag or commit.
        deep: Read every file from the Hub and hash it, instead of believing the Hub's metadata.
        patience: Time-outs and repeats.

    Raises:
        InputError: There is no release in `root`, or no such name.
        HubError: The Hub could not be asked.
    """
    check_name(repo_id)
    if not (root / INDEX).is_file():
        raise InputError(f"no release in {root}: there is no {INDEX}")
    release = list_release(root, json.loads((root / INDEX).read_bytes()))
    with calls.bounded(patience.timeout):
        commit, remote = _list_remote(repo_id, revision, patience)
        differences = list(_compare(root, repo_id, release, remote))
        intact = {path: remote[path] for path in sorted(release) if path in remote}
        if deep:
            differences += _compare_contents(repo_id, commit, release, intact, patience)
        loads = tuple(_load_all(root, repo_id, commit))
    wrong = {line.split(":")[0] for line in differences}
    same = sum(path not in wrong for path in release)
    return Report(commit, same, len(remote.keys() - release.keys()), tuple(differences), loads)


# --- Files ------------------------------------------------------------------------------------------------------------


def _list_remote(repo_id: str, revision: str, patience: Patience) -> tuple[str, dict[str, Any]]:
    """The commit that a revision names, and what the Hub knows of each file there."""
    api = HfApi(library_name="mmrel")

    def call() -> tuple[str, dict[str, Any]] | None:
        try:
            commit = str(api.dataset_info(repo_id, revision=revision).sha)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None
        return commit, calls.list_files(api, repo_id, commit)

    listed = calls.insist(calls.LOOK, call, repo_id, patience)
    if listed is None:
        raise calls.HubError(f"{repo_id} has no revision {revision}, or the token lacks {calls.READ}")
    return listed


def _compare(root: Path, repo_id: str, release: Mapping[str, Checksum], remote: Mapping[str, Any]) -> Iterator[str]:
    """Yield `path: what is wrong` for each file whose metadata is not the release's."""
    for path, checksum in sorted(release.items()):
        entry = remote.get(path)
        if entry is None:
            yield f"{path}: missing on the Hub"
        elif entry.size != checksum.size:
            yield f"{path}: {entry.size} bytes on the Hub, {checksum.size} in the release"
        elif not is_same(root / path, checksum, entry):
            found = entry.lfs.sha256 if entry.lfs else f"git {entry.blob_id}"
            yield f"{path}: its hash on the Hub is {found}, in the release {checksum.sha256}"
    try:
        refuse_script(repo_id, remote, "the repository")
    except InputError as error:
        yield f"layout: {error}"


def _compare_contents(
    repo_id: str, commit: str, release: Mapping[str, Checksum], paths: Mapping[str, Any], patience: Patience
) -> list[str]:
    """Read files from the Hub piece by piece and compare their hashes."""
    from tqdm import tqdm

    files, differences = HfFileSystem(), []
    total = sum(paths[path].size for path in paths)
    with tqdm(total=total, unit="B", unit_scale=True, desc="reading", disable=None) as bar:
        for path in paths:
            read = functools.partial(_hash_remote, files, f"datasets/{repo_id}@{commit}/{path}", bar.update)
            found = calls.insist(calls.LOOK, read, repo_id, patience)
            if found != release[path].sha256:
                differences.append(f"{path}: its content on the Hub has SHA-256 {found}, not {release[path].sha256}")
    return differences


def _hash_remote(files: HfFileSystem, address: str, count: Callable[[int], object]) -> str:
    """SHA-256 of a file on the Hub, read in blocks, each of which is asked for again if it fails."""
    digest = hashlib.sha256()
    with files.open(address, "rb", block_size=BLOCK, cache_type="none") as file:
        while piece := file.read(BLOCK):
            digest.update(piece)
            count(len(piece))
    return digest.hexdigest()


# --- Loading ----------------------------------------------------------------------------------------------------------


def _load_all(root: Path, repo_id: str, commit: str) -> Iterator[Load]:
    """Load each config and split that the release's card declares."""
    for config in DatasetCard.load(root / "README.md").data.to_dict()["configs"]:
        for part in config["data_files"]:
            edges = read_edges(sorted(root.glob(part["path"])))
            problem = _load(repo_id, commit, config["config_name"], part["split"], edges)
            keys = (edges.first[KEY], edges.last[KEY])
            yield Load(config["config_name"], part["split"], edges.rows, *keys, problem)


def read_edges(files: list[Path]) -> Edges:
    """Count the rows of a split's Parquet files and read its first and last one, of one row group each."""
    from pyarrow import parquet

    tables = [table for table in map(parquet.ParquetFile, files) if table.metadata.num_rows]
    first = tables[0].read_row_group(0).slice(0, 1).to_pylist()[0]
    last_group = tables[-1].read_row_group(tables[-1].num_row_groups - 1)
    last = last_group.slice(last_group.num_rows - 1, 1).to_pylist()[0]
    return Edges(sum(table.metadata.num_rows for table in tables), first, last)


def _load(repo_id: str, commit: str, config: str, split: str, edges: Edges) -> str:
    """Stream the ends of one split and return what is wrong with them, if anything.

    They are asked for by key: Parquet's statistics find them without reading what lies between, and the stream is read
    to its end, since Arrow may abort a process that leaves one open (apache/arrow issue 45214).
    """
    from datasets import Image, load_dataset
    from datasets.exceptions import DatasetsError

    ends = [edges.first] if edges.rows == 1 else [edges.first, edges.last]
    filters = [[(KEY, "==", row[KEY])] for row in ends]  # one or the other
    try:
        stream = load_dataset(repo_id, config, split=split, streaming=True, revision=commit, filters=filters)
        rows = list(stream.cast_column("image", Image(decode=False)))
    except (DatasetsError, *calls.FAILURES) as error:
        return f"no: {calls.describe(error)}"
    if len(rows) != len(ends):
        return f"no: {len(rows)} rows have the keys of the first and the last"
    wrong = [name for name, row, end in zip(("first", "last"), rows, ends, strict=False) if row != end]
    return f"no: the {' and the '.join(wrong)} row differs" if wrong else ""


def _table_line(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])


# --- The command ------------------------------------------------------------------------------------------------------


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `upload.py verify`."""
    parser.add_argument("release", type=parse_path, metavar="DIR", help="the release that was published")
    parser.add_argument("--repo-id", required=True, metavar="NS/NAME", help="the dataset repository")
    parser.add_argument("--revision", default="main", metavar="R", help="branch, tag or commit (default: main)")
    parser.add_argument("--deep", action="store_true", help="read and hash every file, not only its metadata")


def run_verify(
    args: argparse.Namespace, say: Callable[[str], object] = print, patience: Patience = calls.PATIENCE
) -> int:
    """Run `upload.py verify`; return the exit status, 1 when anything differs.

    Raises:
        InputError: see `verify`.
        HubError: see `verify`.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    options = {"revision": args.revision, "deep": args.deep, "patience": patience}
    report = verify(args.release, args.repo_id, **options)
    say(str(report))
    return 0 if report.is_good else 1

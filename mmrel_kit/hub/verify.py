# SPDX-License-Identifier: Apache-2.0
"""Verify a published release: every file by size and hash, every config and split by loading it.

The hashes come from the metadata of the Hub, or with `deep` from the files themselves. Loading uses
`datasets.load_dataset` in streaming mode, and compares the first and the last row of each split
with the release on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import DatasetCard, HfApi, HfFileSystem

from mmrel_kit.failures import FAILURES, describe
from mmrel_kit.files import InputError, format_table
from mmrel_kit.hub import calls
from mmrel_kit.hub.calls import HubError, RetryPolicy
from mmrel_kit.hub.plan import (
    Checksum,
    check_name,
    check_no_script,
    is_same,
    list_release,
    read_index,
)

BLOCK = 16 << 20  # bytes asked for at a time by `--deep`
KEY = "question_id"  # unique in a release


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of loading one split.

    Attributes:
        rows: number of rows in the release on disk.
        first: key of the first row on disk.
        last: key of the last row on disk.
        problem: difference between Hub and disk; empty if there is none.
    """

    config: str
    split: str
    rows: int
    first: str
    last: str
    problem: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify`.

    Attributes:
        same: number of files of the release with the same content on the Hub.
        foreign: number of files on the Hub that do not belong to the release.
        differences: a line for each file that is missing or differs, and for a script that prevents
            loading.
    """

    revision: str
    same: int
    foreign: int
    differences: tuple[str, ...]
    loads: tuple[LoadResult, ...]

    @property
    def is_good(self) -> bool:
        """Whether all files are the same, and all splits load."""
        return not self.differences and not any(load.problem for load in self.loads)

    def __str__(self) -> str:
        counts = f"{self.same} files as in the release, {self.foreign} of others"
        lines = [f"revision {self.revision}: {counts}"]
        lines += [f"differs: {line}" for line in self.differences]
        rows = [("config", "split", "rows", "first row", "last row", "loads")]
        for load in self.loads:
            status = load.problem or "yes"
            rows.append((load.config, load.split, str(load.rows), load.first, load.last, status))
        return "\n".join([*lines, format_table(rows)])


class SplitEnds(NamedTuple):
    """The number of rows of a split, and its first and last row."""

    rows: int
    first: dict[str, Any]
    last: dict[str, Any]


def verify(
    root: Path,
    repo_id: str,
    *,
    revision: str = "main",
    deep: bool = False,
    policy: RetryPolicy = calls.RETRY_POLICY,
) -> Verification:
    """Compare a repository with the release in `root`.

    `deep` downloads and hashes every file, instead of trusting the metadata of the Hub.

    Raises:
        InputError: there is no release in `root`, or the name is invalid.
        HubError: a call to the Hub failed.
    """
    check_name(repo_id)
    release = list_release(root, read_index(root))
    with calls.hub_session(policy.timeout):
        commit, remote = _list_remote(repo_id, revision, policy)
        differences = list(_compare(root, repo_id, release, remote))
        if deep:
            common = {path: remote[path] for path in sorted(release) if path in remote}
            differences += _compare_contents(repo_id, commit, release, common, policy)
        loads = tuple(_load_all(root, repo_id, commit))
    wrong = {line.split(":")[0] for line in differences}
    same = sum(path not in wrong for path in release)
    foreign = len(remote.keys() - release.keys())
    return Verification(commit, same, foreign, tuple(differences), loads)


# --- Files ---


def _list_remote(repo_id: str, revision: str, policy: RetryPolicy) -> tuple[str, dict[str, Any]]:
    """Return the commit of a revision, and the metadata of each file there."""
    api = HfApi(library_name="mmrel")
    find = partial(calls.find_info, api, repo_id, revision)
    info = calls.call_with_retries(calls.LOOK, find, repo_id, policy)
    if info is None:
        raise HubError(f"{repo_id} has no revision {revision}, or the token lacks {calls.READ}")
    list_files = partial(calls.list_files, api, repo_id, str(info.sha))
    return str(info.sha), calls.call_with_retries(calls.LOOK, list_files, repo_id, policy)


def _compare(
    root: Path, repo_id: str, release: Mapping[str, Checksum], remote: Mapping[str, Any]
) -> Iterator[str]:
    """Yield a line for each file whose metadata differs from the release."""
    for path, checksum in sorted(release.items()):
        entry = remote.get(path)
        if entry is None:
            yield f"{path}: missing on the Hub"
        elif entry.size != checksum.size:
            yield f"{path}: {entry.size} bytes on the Hub, {checksum.size} in the release"
        elif not is_same(root / path, checksum, entry):
            got = entry.lfs.sha256 if entry.lfs else f"git {entry.blob_id}"
            yield f"{path}: its hash on the Hub is {got}, in the release {checksum.sha256}"
    try:
        check_no_script(repo_id, remote, "the repository")
    except InputError as error:
        yield f"layout: {error}"


def _compare_contents(
    repo_id: str,
    commit: str,
    release: Mapping[str, Checksum],
    files: Mapping[str, Any],
    policy: RetryPolicy,
) -> list[str]:
    """Download files block by block, and return a line for each whose hash differs."""
    from tqdm import tqdm

    file_system = HfFileSystem()
    differences = []
    total = sum(entry.size for entry in files.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc="reading", disable=None) as bar:
        for path in files:
            address = f"datasets/{repo_id}@{commit}/{path}"
            read = partial(_hash_remote, file_system, address, bar.update)
            got = calls.call_with_retries(calls.LOOK, read, repo_id, policy)
            expected = release[path].sha256
            if got != expected:
                differences.append(
                    f"{path}: its content on the Hub has SHA-256 {got}, not {expected}"
                )
    return differences


def _hash_remote(file_system: HfFileSystem, address: str, advance: Callable[[int], object]) -> str:
    """Return the SHA-256 of a file on the Hub; call `advance` with the bytes of each block.

    The file system requests a block again if it fails.
    """
    digest = hashlib.sha256()
    with file_system.open(address, "rb", block_size=BLOCK, cache_type="none") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


# --- Loading ---


def _load_all(root: Path, repo_id: str, commit: str) -> Iterator[LoadResult]:
    """Load each config and split that the card of the release declares."""
    for config in DatasetCard.load(root / "README.md").data.to_dict()["configs"]:
        for part in config["data_files"]:
            name = config["config_name"]
            split = part["split"]
            ends = read_ends(sorted(root.glob(part["path"])))
            problem = _load(repo_id, commit, name, split, ends)
            yield LoadResult(name, split, ends.rows, ends.first[KEY], ends.last[KEY], problem)


def read_ends(files: list[Path]) -> SplitEnds:
    """Count the rows in the Parquet files of a split; read the first and the last row."""
    from pyarrow import parquet

    tables = [table for table in map(parquet.ParquetFile, files) if table.metadata.num_rows]
    first = tables[0].read_row_group(0).slice(0, 1).to_pylist()[0]
    last_group = tables[-1].read_row_group(tables[-1].num_row_groups - 1)
    last = last_group.slice(last_group.num_rows - 1, 1).to_pylist()[0]
    return SplitEnds(sum(table.metadata.num_rows for table in tables), first, last)


def _load(repo_id: str, commit: str, config: str, split: str, ends: SplitEnds) -> str:
    """Stream the first and the last row of a split; return how they differ, or an empty text.

    A filter by key selects them, so that Parquet statistics skip the rows between. The stream is
    read to its end, because Arrow may abort a process that leaves one open (apache/arrow issue
    45214).
    """
    from datasets import Image, load_dataset
    from datasets.exceptions import DatasetsError

    expected = {"first": ends.first}
    if ends.rows > 1:
        expected["last"] = ends.last
    filters = [[(KEY, "==", row[KEY])] for row in expected.values()]  # the outer list means "or"
    try:
        stream = load_dataset(
            repo_id, config, split=split, streaming=True, revision=commit, filters=filters
        )
        rows = list(stream.cast_column("image", Image(decode=False)))
    except (DatasetsError, *FAILURES) as error:
        return f"no: {describe(error)}"
    if len(rows) != len(expected):
        return f"no: {len(rows)} rows have the keys of the first and the last"
    wrong = [name for name, row in zip(expected, rows, strict=True) if row != expected[name]]
    if not wrong:
        return ""
    return f"no: the {' and the '.join(wrong)} row differs"

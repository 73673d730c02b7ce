# SPDX-License-Identifier: Apache-2.0
"""Verify a published release: every file by size and hash, every config and split by loading it.

The hashes come from the Hub's metadata (`deep` reads the files themselves). Loading goes through
`datasets.load_dataset` in streaming mode, as users do it, and compares the first and the last row
of each split with the release on disk.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import DatasetCard, HfApi, HfFileSystem
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from mmrel_kit.failures import FAILURES, describe
from mmrel_kit.files import InputError, format_table
from mmrel_kit.hub import calls
from mmrel_kit.hub.calls import HubError, RetryPolicy
from mmrel_kit.hub.plan import (
    Checksum,
    check_name,
    is_same,
    list_release,
    read_index,
    refuse_script,
)

BLOCK = 16 << 20  # bytes asked for at a time by `--deep`
KEY = "question_id"  # unique in a release


@dataclass(frozen=True, slots=True)
class LoadResult:
    """How one split loaded.

    Attributes:
        config: name of the config.
        split: name of the split.
        rows: number of its rows in the release on disk.
        first: key of its first row there.
        last: key of its last row there.
        problem: why it does not load as it should; empty if it does.
    """

    config: str
    split: str
    rows: int
    first: str
    last: str
    problem: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found.

    Attributes:
        revision: the commit that was looked at.
        same: number of files that are there as in the release.
        foreign: number of files there that are none of the release's.
        differences: a line for each file that is missing or differs, and for a script that stops
            loading.
        loads: an entry for each config and split.
    """

    revision: str
    same: int
    foreign: int
    differences: tuple[str, ...]
    loads: tuple[LoadResult, ...]

    @property
    def is_good(self) -> bool:
        """Whether the Hub holds the release, and it loads."""
        return not self.differences and not any(load.problem for load in self.loads)

    def __str__(self) -> str:
        counts = f"{self.same} files as in the release, {self.foreign} of others"
        lines = [f"revision {self.revision}: {counts}"]
        lines += [f"differs: {line}" for line in self.differences]
        rows = [("config", "split", "rows", "first row", "last row", "loads")]
        for load in self.loads:
            ends = (load.first, load.last)
            rows.append((load.config, load.split, str(load.rows), *ends, load.problem or "yes"))
        return "\n".join([*lines, format_table(rows)])


class SplitEnds(NamedTuple):
    """The ends of a split, read from disk."""

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

    Args:
        root: the release that was published.
        repo_id: `NAMESPACE/NAME`.
        revision: branch, tag or commit.
        deep: read every file from the Hub and hash it, instead of believing the Hub's metadata.
        policy: time-outs and repeats.

    Raises:
        InputError: there is no release in `root`, or no such name.
        HubError: the Hub could not be asked.
    """
    check_name(repo_id)
    release = list_release(root, read_index(root))
    with calls.hub_session(policy.timeout):
        commit, remote = _list_remote(repo_id, revision, policy)
        differences = list(_compare(root, repo_id, release, remote))
        intact = {path: remote[path] for path in sorted(release) if path in remote}
        if deep:
            differences += _compare_contents(repo_id, commit, release, intact, policy)
        loads = tuple(_load_all(root, repo_id, commit))
    wrong = {line.split(":")[0] for line in differences}
    same = sum(path not in wrong for path in release)
    foreign = len(remote.keys() - release.keys())
    return Verification(commit, same, foreign, tuple(differences), loads)


# --- Files ---


def _list_remote(
    repo_id: str,
    revision: str,
    policy: RetryPolicy,
) -> tuple[str, dict[str, Any]]:
    """Return the commit that a revision names, and what the Hub knows of each file there."""
    api = HfApi(library_name="mmrel")

    def call() -> tuple[str, dict[str, Any]] | None:
        try:
            commit = str(api.dataset_info(repo_id, revision=revision).sha)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None
        return commit, calls.list_files(api, repo_id, commit)

    listed = calls.call_with_retries(calls.LOOK, call, repo_id, policy)
    if listed is None:
        raise HubError(f"{repo_id} has no revision {revision}, or the token lacks {calls.READ}")
    return listed


def _compare(
    root: Path,
    repo_id: str,
    release: Mapping[str, Checksum],
    remote: Mapping[str, Any],
) -> Iterator[str]:
    """Yield `path: what is wrong` for each file whose metadata differs from the release."""
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
    repo_id: str,
    commit: str,
    release: Mapping[str, Checksum],
    paths: Mapping[str, Any],
    policy: RetryPolicy,
) -> list[str]:
    """Read files from the Hub piece by piece and compare their hashes."""
    from tqdm import tqdm

    files, differences = HfFileSystem(), []
    total = sum(entry.size for entry in paths.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc="reading", disable=None) as bar:
        for path in paths:
            address = f"datasets/{repo_id}@{commit}/{path}"
            read = functools.partial(_hash_remote, files, address, bar.update)
            found = calls.call_with_retries(calls.LOOK, read, repo_id, policy)
            expected = release[path].sha256
            if found != expected:
                problem = f"its content on the Hub has SHA-256 {found}, not {expected}"
                differences.append(f"{path}: {problem}")
    return differences


def _hash_remote(files: HfFileSystem, address: str, count: Callable[[int], object]) -> str:
    """Return the SHA-256 of a file on the Hub, each of whose blocks is asked for again if it fails.

    Args:
        files: the Hub's file system.
        address: the file there.
        count: called with the number of bytes of each block.
    """
    digest = hashlib.sha256()
    with files.open(address, "rb", block_size=BLOCK, cache_type="none") as file:
        while piece := file.read(BLOCK):
            digest.update(piece)
            count(len(piece))
    return digest.hexdigest()


# --- Loading ---


def _load_all(root: Path, repo_id: str, commit: str) -> Iterator[LoadResult]:
    """Load each config and split that the release's card declares."""
    for config in DatasetCard.load(root / "README.md").data.to_dict()["configs"]:
        for part in config["data_files"]:
            name, split = config["config_name"], part["split"]
            edges = read_ends(sorted(root.glob(part["path"])))
            problem = _load(repo_id, commit, name, split, edges)
            yield LoadResult(name, split, edges.rows, edges.first[KEY], edges.last[KEY], problem)


def read_ends(files: list[Path]) -> SplitEnds:
    """Count the rows of a split's Parquet files; read its first and last one, of one group each."""
    from pyarrow import parquet

    tables = [table for table in map(parquet.ParquetFile, files) if table.metadata.num_rows]
    first = tables[0].read_row_group(0).slice(0, 1).to_pylist()[0]
    last_group = tables[-1].read_row_group(tables[-1].num_row_groups - 1)
    last = last_group.slice(last_group.num_rows - 1, 1).to_pylist()[0]
    return SplitEnds(sum(table.metadata.num_rows for table in tables), first, last)


def _load(repo_id: str, commit: str, config: str, split: str, edges: SplitEnds) -> str:
    """Stream the ends of one split and return what is wrong with them, if anything.

    They are asked for by key: Parquet's statistics find them without reading what lies between. The
    stream is read to its end, since Arrow may abort a process that leaves one open (apache/arrow
    issue 45214).
    """
    from datasets import Image, load_dataset
    from datasets.exceptions import DatasetsError

    ends = {"first": edges.first}
    if edges.rows > 1:
        ends["last"] = edges.last
    filters = [[(KEY, "==", row[KEY])] for row in ends.values()]  # one or the other
    try:
        stream = load_dataset(
            repo_id,
            config,
            split=split,
            streaming=True,
            revision=commit,
            filters=filters,
        )
        rows = list(stream.cast_column("image", Image(decode=False)))
    except (DatasetsError, *FAILURES) as error:
        return f"no: {describe(error)}"
    if len(rows) != len(ends):
        return f"no: {len(rows)} rows have the keys of the first and the last"
    pairs = zip(ends, rows, strict=True)
    wrong = [name for name, row in pairs if row != ends[name]]
    return f"no: the {' and the '.join(wrong)} row differs" if wrong else ""

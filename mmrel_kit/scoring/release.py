# SPDX-License-Identifier: Apache-2.0
"""Read the questions of a release, on disk or on the Hub, compared with its checksums.

Of a release on the Hub only the records and the taxonomy are downloaded, all from one commit. They
stay in the Hub's cache: a second call needs no network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.files import (
    INDEX,
    RELEASE_RULES,
    Problem,
    Value,
    describe_file,
    make_json,
    scan_json,
)
from relation_accuracy import Question, index_questions

TAXONOMY = "schema/taxonomy.json"
_RECORDS = re.compile(r"data/(\w+)/(\w+)\.jsonl")
_ROOTS = f"the folder of a release, or {mmrel.HUB}NS/NAME[@REVISION],"


def open_release(
    root: str | os.PathLike[str] | None = None,
    repo_id: str | None = None,
    revision: str | None = None,
) -> mmrel.Release:
    """Open a release; of one on the Hub, download what scoring reads.

    Args:
        root: a folder, or hf://datasets/NS/NAME[@REVISION].
        repo_id: a release on the Hub, `NS/NAME`. Without it and `root` it is the drawn sample.
        revision: branch, tag or commit of `repo_id`.

    Raises:
        ReleaseError: there is no release, it cannot be reached, or a file on the Hub differs from
            its checksums.json.
    """
    address = os.fspath(root) if root is not None else ""
    if "://" in address and not mmrel.parse_hub_address(address):
        raise mmrel.ReleaseError(f"expected {_ROOTS} as root; got {address!r}: correct the address")
    release = mmrel.Release(mmrel.find_release(root, repo_id, revision))
    if _is_on_hub(release):
        for name in sorted(release.files):
            if name == TAXONOMY or _RECORDS.fullmatch(name):
                fetch_file(release, name)
    return release


def load_release(
    root: str | os.PathLike[str] | mmrel.Release | None = None,
    config: str = "all",
    split: str = "all",
) -> tuple[dict[str, Question], dict[str, Any]]:
    """Read the questions of a release.

    Args:
        root: a release, or where it is (see `open_release`).
        config: all, or the domain that is needed; others are read where they are on disk.
        split: all, or the split that is needed.

    Returns:
        question_id -> Question; and what a report says of the release (see `describe_release`).

    Raises:
        ReleaseError: see `open_release`; or there are no records of that config and split, or
            records that differ from the checksums.
        AnswerError: a record cannot be scored.
    """
    release = root if isinstance(root, mmrel.Release) else open_release(root)
    info = describe_release(release, config, split)
    needed = find_records(release, config, split)
    rows: list[Value] = []
    for name, named in find_records(release).items():
        if name in needed or os.path.exists(release.path(name)):
            rows += _read_file(release, name, named)
    return index_questions(rows), info


def read_records(
    release: mmrel.Release,
    config: str = "all",
    split: str = "all",
) -> Iterator[Value]:
    """Yield the records of a config and split, in the release's order, each with its `split`.

    Raises:
        ReleaseError: there are none, or a file differs from checksums.json.
    """
    for name, named in find_records(release, config, split).items():
        yield from _read_file(release, name, named)


def find_records(release: mmrel.Release, config: str = "all", split: str = "all") -> dict[str, str]:
    """Return the files of records of a config and split: path in the release -> split.

    Raises:
        ReleaseError: there are none.
    """
    files = {}
    for name in sorted(release.files):
        parts = _RECORDS.fullmatch(name)
        if parts and config in ("all", parts[1]) and split in ("all", parts[2]):
            files[name] = parts[2]
    if not files:
        wanted = f"records of config {config} and split {split}"
        where = f"{release.root}/{INDEX}"
        raise mmrel.ReleaseError(f"expected {wanted}; {where} lists none: choose others")
    return files


def describe_release(release: mmrel.Release, config: str, split: str) -> dict[str, Any]:
    """Return what a report says of a release: name, version, note, sha256, config and split."""
    return {
        "name": "mmrel",
        "version": release.version,
        "note": release.note,
        "sha256": release.sha256,
        "config": config,
        "split": split,
    }


def fetch_file(release: mmrel.Release, name: str) -> Path:
    """Return where a file of a release is, which is what checksums.json states.

    A copy in the Hub's cache that differs is downloaded once more: it may be damaged.

    Raises:
        ReleaseError: the file is missing, or differs.
    """
    path = Path(release.fetch(name))
    if _is_intact(release, name, path):
        return path
    if not _is_on_hub(release):
        wanted = f"expected {path} to be what {INDEX} states"
        raise mmrel.ReleaseError(f"{wanted}; it differs: fetch the release again")
    path.resolve().unlink()
    path.unlink(missing_ok=True)  # a link to the former
    address = release.root.removeprefix(mmrel.HUB)
    wanted = f"expected {name} of {address} to be what its {INDEX} states"
    problem = f"{wanted}; it differs: choose another revision, or push it again"
    try:
        path = Path(release.fetch(name))
    except mmrel.ReleaseError as error:
        raise mmrel.ReleaseError(problem) from error
    if not _is_intact(release, name, path):
        raise mmrel.ReleaseError(problem)
    return path


def _is_intact(release: mmrel.Release, name: str, path: Path) -> bool:
    try:
        sha256 = describe_file(path)["sha256"]
    except OSError as error:
        wanted = f"expected {path}, which {INDEX} lists"
        raise mmrel.ReleaseError(f"{wanted}; got {error}: fetch the release again") from error
    return bool(sha256 == release.files[name]["sha256"])


def _is_on_hub(release: mmrel.Release) -> bool:
    return release.root.startswith(mmrel.HUB)


def _read_file(release: mmrel.Release, name: str, split: str) -> Iterator[Value]:
    """Yield the records of a file with the split, which only its name states."""
    path = fetch_file(release, name)
    for item in scan_json(path, rules=RELEASE_RULES):
        if isinstance(item, Problem):
            raise mmrel.ReleaseError(f"{item}; fetch the release again")
        if not isinstance(item.value, dict):
            got = make_json(item.value)[:80]
            problem = f"{item.where}: expected a record, got {got}"
            raise mmrel.ReleaseError(f"{problem}; fetch the release again")
        yield Value(item.where, {**item.value, "split": split})

# SPDX-License-Identifier: Apache-2.0
"""Damage a release, update its checksums, and list the problems that `check` reports."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pyarrow.parquet as pq

from mmrel_kit.check.release import check_release
from mmrel_kit.files import INDEX, describe_file
from mmrel_kit.workers import run_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from pathlib import Path

    import pyarrow as pa


def list_problems(root: Path) -> str:
    """Return the problems that `check` reports, one a line.

    They must be the same where splits are checked shard by shard, as several processes do.
    """
    problems = check_release(root)
    with patch("mmrel_kit.check.release.run_tasks", run_here):
        assert check_release(root, workers=2) == problems
    return "\n".join(map(str, problems))


def run_here(
    task: Callable[..., Any], items: Sequence[Any], workers: int, shared: tuple[Any, ...]
) -> Generator[Any, None, None]:
    """Run tasks that are meant for several processes in this one, since these start slowly."""
    assert workers > 1
    return run_tasks(task, items, 1, shared)


def seal(root: Path) -> Path:
    """Update checksums.json of a release that a test has changed, and return the folder."""
    index = json.loads((root / INDEX).read_text())
    files = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_file() and name != INDEX:
            files[name] = index["files"].get(name, {}) | describe_file(path)
    index["files"] = dict(sorted(files.items()))
    (root / INDEX).write_text(json.dumps(index))
    return root


def edit_index(root: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change checksums.json in place."""
    index = json.loads((root / INDEX).read_text())
    edit(index)
    (root / INDEX).write_text(json.dumps(index))


def edit_record(
    root: Path, edit: Callable[[dict[str, Any]], object], line: int = 1, name: str = "real/test"
) -> None:
    """Change the record in a line of data/NAME.jsonl."""
    path = root / "data" / f"{name}.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[line - 1])
    edit(record)
    lines[line - 1] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")
    seal(root)


def edit_table(root: Path, edit: Callable[[pa.Table], pa.Table], **options: Any) -> str:
    """Change the first table of real/test and return the problems that `check` reports.

    Args:
        root: the folder of the release.
        edit: return the changed table.
        options: arguments of `pyarrow.parquet.write_table` to override.
    """
    path = sorted((root / "data" / "real").glob("test-*.parquet"))[0]
    settings = {
        "use_dictionary": ["image.bytes"],
        "write_page_index": True,
        "row_group_size": 100,
        **options,
    }
    pq.write_table(edit(pq.read_table(path)), path, **settings)
    return list_problems(seal(root))


def read_tar(path: Path) -> list[tuple[str, bytes]]:
    """Read the members of an archive: (name, bytes)."""
    members = []
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file
            members.append((member.name, file.read()))
    return members


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive from (name, bytes) members."""
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, BytesIO(data))

# SPDX-License-Identifier: Apache-2.0
"""Change a release as nobody should, seal it again, and see what `check` says."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from mmrel_kit.check.release import check_release
from mmrel_kit.files import INDEX, describe_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pyarrow as pa


def list_problems(root: Path) -> str:
    """Return what `check` says of a release, a problem a line."""
    return "\n".join(map(str, check_release(root)))


def seal(root: Path) -> Path:
    """Write checksums.json anew, for a release that a test has changed."""
    index = json.loads((root / INDEX).read_text())
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    del paths[INDEX]
    files = {
        name: index["files"].get(name, {}) | describe_file(path) for name, path in paths.items()
    }
    index["files"] = dict(sorted(files.items()))
    (root / INDEX).write_text(json.dumps(index))
    return root


def edit_index(root: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change checksums.json."""
    index = json.loads((root / INDEX).read_text())
    edit(index)
    (root / INDEX).write_text(json.dumps(index))


def edit_record(
    root: Path, edit: Callable[[dict[str, Any]], object], line: int = 1, name: str = "real/test"
) -> None:
    """Change a record of the JSON lines of a split."""
    path = root / "data" / f"{name}.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[line - 1])
    edit(record)
    lines[line - 1] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")
    seal(root)


def edit_table(root: Path, edit: Callable[[pa.Table], pa.Table], **options: Any) -> str:
    """Change the first table of real/test, and return what `check` says then."""
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
    """Return the members of an archive, each with its name."""
    with tarfile.open(path) as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive."""
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, BytesIO(data))

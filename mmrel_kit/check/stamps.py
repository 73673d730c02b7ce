# SPDX-License-Identifier: Apache-2.0
"""Store that a release has passed its check, so that it is not checked again while unchanged.

The stamp is a small JSON file in the user's cache (`HF_HOME`), since a release holds no foreign
files. It has the size, times and inode of every file of the release. One that cannot be read, or
was written by other versions, counts as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from mmrel_kit.build.shards import list_versions
from mmrel_kit.check.release import check_release
from mmrel_kit.check.splits import Advance
from mmrel_kit.files import INDEX, Problem, make_json, write_bytes

MAX_STAMP = 64 << 20  # bytes, of about 400,000 files


def check_and_store(
    root: Path, advance: Advance = lambda size: None, workers: int = 1
) -> list[Problem]:
    """Return what `check_release` returns; store that the release has no problems, if so.

    Warnings are stored too. The arguments and errors are those of `check_release`.
    """
    before = _describe_release(root)
    problems = check_release(root, advance, workers)
    is_good = all(problem.is_warning for problem in problems)
    # A cache that cannot be written only means that the next check is a new one.
    with contextlib.suppress(OSError):
        path = find_stamp(root)
        if is_good and before is not None and _describe_release(root) == before:
            stamp = {"release": before, "warnings": [problem[:2] for problem in problems]}
            write_bytes(path, make_json(stamp).encode())
        else:
            path.unlink(missing_ok=True)
    return problems


def check_unless_stored(root: Path, show: Callable[[str], object]) -> list[Problem]:
    """Return the problems of a release; check it only if it has changed since its last check.

    `show` is called with a line that says so, and with the warnings of that check.

    Raises:
        InputError: see `check_release`.
    """
    warnings = _read_stamp(root)
    if warnings is None:
        return check_and_store(root)
    show(f"checked before, unchanged: {root}")
    for warning in warnings:
        show(str(warning))
    return warnings


def find_stamp(root: Path) -> Path:
    """Return the path of the stamp of a release, whether it exists or not."""
    key = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()
    return Path(constants.HF_HOME) / "mmrel" / "checked" / f"{key}.json"


def _read_stamp(root: Path) -> list[Problem] | None:
    """Return the warnings about a release that has passed its check and is unchanged, else None."""
    try:
        with open(find_stamp(root), "rb") as file:
            stamp = json.loads(file.read(MAX_STAMP))
        warnings = []
        for where, message in stamp["warnings"]:
            if not isinstance(where, str) or not isinstance(message, str):
                return None
            warnings.append(Problem(where, message, is_warning=True))
        current = _describe_release(root)
        is_current = current is not None and stamp["release"] == current
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    return warnings if is_current else None


def _describe_release(root: Path) -> dict[str, Any] | None:
    """Return what changes with a release and with what checks it; None if a file is unreadable."""
    files = {}
    try:
        sha256 = hashlib.sha256((root / INDEX).read_bytes()).hexdigest()
        for path in sorted(root.rglob("*")):
            if path.is_dir():
                continue
            stat = path.stat()
            name = ascii(path.relative_to(root).as_posix())
            # The time of the last change finds edits that restore the time of modification.
            files[name] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    except OSError:
        return None
    return {"versions": list_versions(), "index": sha256, "files": files}

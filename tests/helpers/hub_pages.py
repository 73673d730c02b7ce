# SPDX-License-Identifier: Apache-2.0
"""What the Hub says about a repository whose files lie in a folder, for `PictureHost`.

tests/hub/loopback_hub.py is a whole Hub with commits, which copies and hashes every file. This one
serves files of any size where they are, at any revision.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from mmrel_kit.files import read_chunks
from tests.hub.loopback_hub import LFS_SUFFIXES, PER_PAGE, Blob, file_row, folder_row, git_oid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMIT = "d" * 40  # the id of the only commit


def describe_blob(file: Path, path: str) -> Blob:
    """Describe a file with its checksums."""
    stat = file.stat()
    return _describe_blob(file, path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _describe_blob(file: Path, path: str, size: int, _changed: int) -> Blob:
    digest = hashlib.sha256()
    for chunk in read_chunks(file):
        digest.update(chunk)
    is_large = path.endswith(LFS_SUFFIXES)
    oid = "" if is_large else git_oid(file.read_bytes())
    return Blob(size, digest.hexdigest(), oid, is_large)


def make_hub_headers(file: Path, path: str) -> dict[str, str]:
    """Return the headers of `resolve`; X-Linked-Size only for a large file, which is redirected."""
    blob = describe_blob(file, path)
    headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{blob.oid}"'}
    if blob.lfs:
        headers["X-Linked-Etag"] = f'"{blob.sha256}"'
        headers["X-Linked-Size"] = str(blob.size)
    return headers


def answer_hub(
    repositories: Mapping[str, Path], endpoint: str, target: str, body: bytes
) -> tuple[Any, dict[str, str]] | None:
    """Return the JSON and the headers of an answer of the API, None where it has none.

    Args:
        repositories: the folders of the repositories by their names in lower case.
        endpoint: the address of the host.
        target: path and query of the request.
        body: the request's body.
    """
    address = urlsplit(target)
    match = re.fullmatch(
        r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.+))?)?",
        unquote(address.path),
    )
    root = repositories.get(match[1].lower()) if match else None
    if match is None or root is None:
        return None
    kind, folder = match[2], match[4]
    if kind == "paths-info":
        paths = parse_qs(body.decode()).get("paths", [])
        rows = [_make_row(root / path, path) for path in paths if (root / path).exists()]
        return rows, {}
    query = parse_qs(address.query)
    if kind == "tree":
        is_deep = query.get("recursive", [""])[0].lower() == "true"
        rows = list_rows(root, folder or "", is_deep)
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + PER_PAGE < len(rows):
            query["cursor"] = [str(start + PER_PAGE)]
            more = urlencode(query, doseq=True)
            headers["Link"] = f'<{endpoint}{address.path}?{more}>; rel="next"'
        return rows[start : start + PER_PAGE], headers
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    siblings = [{"rfilename": name} for name in sorted(files)]
    info = {"id": match[1], "sha": COMMIT, "private": False, "siblings": siblings, "tags": []}
    return {**info, "gated": False, "disabled": False, "downloads": 0, "likes": 0}, {}


def list_rows(root: Path, folder: str = "", is_deep: bool = True) -> list[dict[str, Any]]:
    """Return the rows of the files and folders in a folder; a file is hashed at its first use."""
    top = root / folder
    found = sorted(top.rglob("*") if is_deep else top.glob("*"))
    return [_make_row(path, path.relative_to(root).as_posix()) for path in found]


def _make_row(path: Path, name: str) -> dict[str, Any]:
    """Return the row of a file or folder in a tree."""
    return folder_row(name) if path.is_dir() else file_row(name, describe_blob(path, name))

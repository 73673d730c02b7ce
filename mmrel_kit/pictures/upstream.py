# SPDX-License-Identifier: Apache-2.0
"""What MMRel is made from: where each part is published, its size, checksum and licence."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from mmrel_kit.files import read_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REPOSITORY = "hf://datasets/jiahaonie/MMRel"
DOWNLOAD = "hf download jiahaonie/MMRel --repo-type dataset --include 'json/*'"
READ_AS_THEY_ARE = "Zip files are read as they are, without unpacking"
FETCHED_ONE_BY_ONE = "of the repository only the pictures asked for are fetched"


class UpstreamFile(NamedTuple):
    """A file or repository that MMRel is made from; size and sha256 are None for a repository."""

    name: str
    domain: str
    what: str
    url: str
    size: int | None
    sha256: str | None
    licence: str


UPSTREAM_FILES = (
    UpstreamFile(
        "images.zip",
        "real",
        "Visual Genome, first part (VG_100K)",
        "https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip",
        9_731_705_982,
        "51c682d2721f880150720bb416e0346a4c787e4c55d7f80dfd1bd3f73ba81646",
        "photographs with terms of their own; annotations CC-BY-4.0",
    ),
    UpstreamFile(
        "images2.zip",
        "real",
        "Visual Genome, second part (VG_100K_2)",
        "https://cs.stanford.edu/people/rak248/VG_100K_2/images2.zip",
        5_471_658_058,
        "99da1a0ddf87011319ff3b05cf9176ffee2731cc3c52951162d9ef0d68e3cfb5",
        "photographs with terms of their own; annotations CC-BY-4.0",
    ),
    UpstreamFile(
        "data.zip",
        "sdxl",
        "SPEC (relative_spatial, relative_size)",
        "https://huggingface.co/datasets/wjpoom/SPEC/resolve/main/data.zip",
        1_555_390_680,
        "77ada96030bd2f8fd93dbb5a988cfa097692464be06cd930be5c35fe5dce7186",
        "Apache-2.0",
    ),
    UpstreamFile(
        "MMRel",
        "dalle",
        "MMRel: all question files, DALL-E pictures",
        REPOSITORY,
        None,
        None,
        "CC-BY-4.0",
    ),
)


class Download(NamedTuple):
    """Whether a source file is in a folder.

    Attributes:
        file: the source file.
        status: `missing`, `whole`, `present` (a repository), or what is wrong: `expected …`.
    """

    file: UpstreamFile
    status: str


def check_downloads(
    folder: Path,
    progress: Callable[[Iterator[int], int], Iterator[int]] = lambda done, total: done,
) -> list[Download]:
    """Look for the source files in a folder and check their size and sha256.

    Args:
        folder: where they were fetched to.
        progress: wraps the bytes as they are read; its second argument is how many there are.
    """
    return [Download(file, _find_status(file, folder, progress)) for file in UPSTREAM_FILES]


def format_downloads(downloads: list[Download], folder: Path) -> str:
    """Return what to fetch into a folder and what is there, with the commands that follow."""
    lines = []
    for file, status in downloads:
        size = f"{file.size:,} bytes" if file.size else "a repository"
        lines.append(f"{file.name} ({file.domain}): {status}")
        lines.append(f"  {file.what}; {size}")
        lines.append(f"  {file.url}")
        if file.sha256:
            lines.append(f"  sha256 {file.sha256}")
        lines.append(f"  licence: {file.licence}")
    questions = folder / "questions"
    places = []
    for file, _ in downloads:
        place = folder / file.name if file.size else file.url
        places.append(f"{file.domain}={place}")
    lines += [
        "",
        f"{READ_AS_THEY_ARE}; {FETCHED_ONE_BY_ONE}:",
        f"  {DOWNLOAD} --local-dir {questions}",
        f"  mmrel build --annotations {questions / 'json'} --out mmrel --images {' '.join(places)}",
    ]
    return "\n".join(lines)


def _find_status(
    file: UpstreamFile,
    folder: Path,
    progress: Callable[[Iterator[int], int], Iterator[int]],
) -> str:
    path = folder / file.name
    if not path.exists():
        return "missing"
    if file.size is None:
        return "present"
    size = path.stat().st_size
    if size != file.size:
        hint = "fetch the rest" if size < file.size else "fetch it again"
        return f"expected {file.size} bytes, got {size}; {hint}"
    digest = hashlib.sha256()
    for _ in progress(_hash(path, digest), size):
        pass
    found = digest.hexdigest()
    return "whole" if found == file.sha256 else f"expected sha256 {file.sha256}, got {found}"


def _hash(path: Path, digest: hashlib._Hash) -> Iterator[int]:
    for chunk in read_chunks(path):
        digest.update(chunk)
        yield len(chunk)

# SPDX-License-Identifier: Apache-2.0
"""The files that MMRel is built from: where each is published, its size, checksum and licence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmrel_kit.files import read_chunks

REPOSITORY = "hf://datasets/jiahaonie/MMRel"
DOWNLOAD = "hf download jiahaonie/MMRel --repo-type dataset --include 'json/*'"


class UpstreamFile(NamedTuple):
    """A file or repository that MMRel is built from; size and sha256 are None for a repository."""

    name: str
    domain: str
    content: str
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
    """The status of an upstream file in a folder of downloads.

    Attributes:
        file: the upstream file.
        status: `missing`, `verified`, `present` (a repository), or what is wrong: `expected …`.
    """

    file: UpstreamFile
    status: str


def check_downloads(
    folder: Path, progress: Callable[[Iterator[int], int], Iterator[int]] = lambda done, total: done
) -> list[Download]:
    """Look for the upstream files in a folder and check their size and sha256.

    `progress` wraps the bytes as they are read; its second argument is their total.
    """
    return [Download(file, _check_file(file, folder, progress)) for file in UPSTREAM_FILES]


def format_downloads(downloads: list[Download], folder: Path) -> str:
    """List the upstream files with their status, and the commands that follow."""
    lines, sources = [], []
    for file, status in downloads:
        size = f"{file.size:,} bytes" if file.size else "a repository"
        lines.append(f"{file.name} ({file.domain}): {status}")
        lines.append(f"  {file.content}; {size}")
        lines.append(f"  {file.url}")
        if file.sha256:
            lines.append(f"  sha256 {file.sha256}")
        lines.append(f"  licence: {file.licence}")
        sources.append(f"{file.domain}={folder / file.name if file.size else file.url}")
    questions = folder / "questions"
    lines += [
        "",
        "Zip files are read without unpacking; of the repository only the pictures asked for are "
        "fetched:",
        f"  {DOWNLOAD} --local-dir {questions}",
        f"  mmrel build --annotations {questions / 'json'} --out mmrel "
        f"--images {' '.join(sources)}",
    ]
    return "\n".join(lines)


def _check_file(
    file: UpstreamFile, folder: Path, progress: Callable[[Iterator[int], int], Iterator[int]]
) -> str:
    """Return the status of an upstream file in a folder."""
    path = folder / file.name
    if not path.exists():
        return "missing"
    if file.size is None:
        return "present"
    size = path.stat().st_size
    if size != file.size:
        advice = "fetch the rest" if size < file.size else "fetch it again"
        return f"expected {file.size} bytes, got {size}; {advice}"
    digest = hashlib.sha256()
    for _ in progress(_hash(path, digest), size):
        pass
    sha256 = digest.hexdigest()
    if sha256 != file.sha256:
        return f"expected sha256 {file.sha256}, got {sha256}"
    return "verified"


def _hash(path: Path, digest: hashlib._Hash) -> Iterator[int]:
    """Update a digest with a file, and yield the bytes of each chunk."""
    for chunk in read_chunks(path):
        digest.update(chunk)
        yield len(chunk)

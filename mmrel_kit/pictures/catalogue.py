# SPDX-License-Identifier: Apache-2.0
"""What MMRel is made from: where each part is published, how large it is, its checksum and licence."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from mmrel_kit.files import read_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Published(NamedTuple):
    """A file (or repository) that one fetches, and what is known of it; size and sha256 are null for a repository."""

    name: str
    domain: str
    what: str
    url: str
    size: int | None
    sha256: str | None
    licence: str


PUBLISHED = (
    Published(
        "images.zip",
        "real",
        "Visual Genome, first part (VG_100K)",
        "https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip",
        9_731_705_982,
        "51c682d2721f880150720bb416e0346a4c787e4c55d7f80dfd1bd3f73ba81646",
        "photographs with terms of their own; annotations CC-BY-4.0",
    ),
    Published(
        "images2.zip",
        "real",
        "Visual Genome, second part (VG_100K_2)",
        "https://cs.stanford.edu/people/rak248/VG_100K_2/images2.zip",
        5_471_658_058,
        "99da1a0ddf87011319ff3b05cf9176ffee2731cc3c52951162d9ef0d68e3cfb5",
        "photographs with terms of their own; annotations CC-BY-4.0",
    ),
    Published(
        "data.zip",
        "sdxl",
        "SPEC (relative_spatial, relative_size)",
        "https://huggingface.co/datasets/wjpoom/SPEC/resolve/main/data.zip",
        1_555_390_680,
        "77ada96030bd2f8fd93dbb5a988cfa097692464be06cd930be5c35fe5dce7186",
        "Apache-2.0",
    ),
    Published(
        "MMRel",
        "dalle",
        "MMRel: all question files, DALL-E pictures",
        "hf://datasets/jiahaonie/MMRel",
        None,
        None,
        "CC-BY-4.0",
    ),
)


class State(NamedTuple):
    """What stands in a folder of a published file: `missing`, `whole`, `present` (a repository), or what is wrong."""

    published: Published
    state: str


def check_sources(
    folder: Path, progress: Callable[[Iterator[int], int], Iterator[int]] = lambda done, total: done
) -> list[State]:
    """Look for the published files in a folder and hold them against their size and sha256.

    Args:
        folder: where they were fetched to.
        progress: wraps the bytes as they are read; its second argument is how many there are.
    """
    states = []
    for published in PUBLISHED:
        path = folder / published.name
        if not path.exists():
            states.append(State(published, "missing"))
        elif published.size is None:
            states.append(State(published, "present"))
        elif (size := path.stat().st_size) != published.size:
            hint = "fetch the rest" if size < published.size else "fetch it again"
            states.append(State(published, f"expected {published.size} bytes, got {size}; {hint}"))
        else:
            digest = hashlib.sha256()
            for _ in progress(_hash(path, digest), size):
                pass
            found = digest.hexdigest()
            state = "whole" if found == published.sha256 else f"expected sha256 {published.sha256}, got {found}"
            states.append(State(published, state))
    return states


def make_list(states: list[State], folder: Path) -> str:
    """Return what to fetch into a folder and what is there, as text, with the commands that follow."""
    lines = []
    for published, state in states:
        size = f"{published.size:,} bytes" if published.size else "a repository"
        lines += [
            f"{published.name} ({published.domain}): {state}",
            f"  {published.what}; {size}",
            f"  {published.url}",
        ]
        lines += [f"  sha256 {published.sha256}"] if published.sha256 else []
        lines += [f"  licence: {published.licence}"]
    lines += [
        "",
        "Zip files are read as they are, without unpacking; of the repository only the pictures asked for are fetched:",
        f"  hf download jiahaonie/MMRel --repo-type dataset --include 'json/*' --local-dir {folder / 'questions'}",
        f"  python upload.py build --annotations {folder / 'questions' / 'json'} --out mmrel --images "
        f"real={folder / 'images.zip'} real={folder / 'images2.zip'} sdxl={folder / 'data.zip'} "
        "dalle=hf://datasets/jiahaonie/MMRel",
    ]
    return "\n".join(lines)


def _hash(path: Path, digest: hashlib._Hash) -> Iterator[int]:
    for chunk in read_chunks(path):
        digest.update(chunk)
        yield len(chunk)

# SPDX-License-Identifier: Apache-2.0
"""Fetch the question files, and list the pictures that they ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub.hf_api import RepoFile

from mmrel_kit.files import MAX_LISTED_PROBLEMS, InputError, Problem, read_chunks
from mmrel_kit.questions.annotations import ANNOTATION_SUFFIXES, Annotation, read_annotations
from mmrel_kit.questions.wordings import Wordings
from mmrel_kit.sources.fetching import check_path
from mmrel_kit.sources.hub import HubRepository, has_checksum
from mmrel_kit.web import WebClient


@dataclass
class Wanted:
    """What question files ask for.

    Attributes:
        files: image id -> the first file with a question about it.
        problems: lines that could not be read, the first of them.
        unreadable: number of those lines.
        wordings: questions that no grammar parses.
    """

    files: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unreadable: int = 0
    wordings: Wordings = field(default_factory=Wordings)


def read_wanted(paths: Sequence[Path], domains: Sequence[str] | None) -> Wanted:
    """Return what the questions about pictures of some domains ask for; None is all domains.

    Raises:
        InputError: a path is no annotation file, or a domain has no question.
    """
    wanted = Wanted()
    for item in read_annotations(paths, domains=domains, wordings=wanted.wordings):
        if isinstance(item, Problem):
            wanted.unreadable += 1
            if wanted.unreadable <= MAX_LISTED_PROBLEMS:
                wanted.problems.append(item)
        elif isinstance(item, Annotation):
            wanted.files.setdefault(item.record.image_id, item.file)
    return wanted


class QuestionFiles:
    """The question files of a repository on the Hub.

    The address is `hf://datasets/OWNER/NAME[@REVISION][/FOLDER]`.

    Raises:
        InputError: there is no such repository, or no question file in it.
    """

    def __init__(self, where: str) -> None:
        self._repository = HubRepository(where)
        self.where = self._repository.where
        self.files = [
            file
            for file in self._repository.list_files()
            if file.path.endswith(ANNOTATION_SUFFIXES)
        ]
        if not self.files:
            kinds = " or ".join(ANNOTATION_SUFFIXES)
            raise InputError(f"{self.where}: expected {kinds} files there, found none")
        for file in self.files:
            check_path(file.path)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    async def fetch(self, client: WebClient, folder: Path) -> list[Path]:
        """Fetch the files into a folder, at their paths in the repository; return their paths.

        Raises:
            InputError: a file has not the checksum that the Hub states.
            WebError: a file could not be read.
        """
        fetches = [self._fetch_file(client, file, folder) for file in self.files]
        return list(await asyncio.gather(*fetches))

    async def _fetch_file(self, client: WebClient, file: RepoFile, folder: Path) -> Path:
        path = folder / file.path
        if not _is_whole(path, file):
            await client.download(self._repository.resolve(file.path), path, file.size)
            if not _is_whole(path, file):
                path.unlink()
                raise InputError(
                    f"{self._repository.name_file(file.path)}: expected the checksum that the Hub "
                    "states, got another; run the same command again"
                )
        return path


def _is_whole(path: Path, file: RepoFile) -> bool:
    return path.is_file() and has_checksum(read_chunks(path), file)

# SPDX-License-Identifier: Apache-2.0
"""Check a release, or the sample of the source repository, and list everything that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mmrel
from mmrel_kit.card.stats import merge_stats
from mmrel_kit.check.card import check_card
from mmrel_kit.check.layout import check_layout, find_files, group_splits
from mmrel_kit.check.records import QuestionChecks
from mmrel_kit.check.splits import Split
from mmrel_kit.check.viewer import ViewerStatistics, check_values
from mmrel_kit.files import INDEX, PROJECT, SCHEMAS, InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    Advance = Callable[[int], object]

# Files that the source repository has, and no release.
SOURCE_FILES = ("upload.py", "mmrel_kit/check/release.py")
# What the source repository has in common with a release.
SAMPLE = ("data", *SCHEMAS, "dataset_infos.json", INDEX)


def _be_silent(size: int) -> None:
    pass


def check_release(root: Path, advance: Advance = _be_silent) -> list[Problem]:
    """Return all problems of a release, warnings last; none if it is as the contract demands.

    Checked are the checksums; each record against the schema and the grammars; the three faces of
    each split row for row; every picture, decoded once; what the Hub's viewer needs; the card and
    dataset_infos.json against the files.

    Args:
        root: folder of the release.
        advance: is called with the bytes of each picture that was checked.

    Raises:
        InputError: `root` is the source repository, whose sample `check_sample` checks.
    """
    if is_source(root):
        advice = f"check its sample with: mmrel check {root} --sample"
        raise InputError(f"{root}: this is the source repository, not a release; {advice}")
    return _sort_problems(_check(root, advance))


def check_sample(root: Path, advance: Advance = _be_silent) -> list[Problem]:
    """Return the problems of the sample in the source repository; other files are not looked at.

    Args:
        root: folder of the clone.
        advance: see `check_release`.

    Raises:
        InputError: `root` is not the source repository.
    """
    if not is_source(root):
        advice = "leave out --sample for a release"
        raise InputError(f"{root}: expected the source repository; {advice}")
    problems = _sort_problems(_check(root, advance))
    return [found for found in problems if found.is_warning or found.where.startswith(SAMPLE)]


def is_source(root: Path) -> bool:
    """Return whether a folder is a clone of the source repository, or the sample of a wheel."""
    is_clone = all((root / name).is_file() for name in SOURCE_FILES)
    return is_clone or root.resolve() == PROJECT


def _sort_problems(problems: Iterator[Problem]) -> list[Problem]:
    def rank(problem: Problem) -> tuple[bool, str, str]:
        return problem.is_warning, problem.where, problem.message

    return sorted(set(problems), key=rank)


def _check(root: Path, advance: Advance) -> Iterator[Problem]:
    try:
        index = mmrel.parse_index((root / INDEX).read_bytes())
    except (OSError, mmrel.ReleaseError) as error:
        yield _describe_index(error)
        return
    files = index["files"]
    found = find_files(root)
    yield from check_layout(root, files, found)
    names = group_splits(found & files.keys())
    splits = [Split(domain, name, root, listed) for (domain, name), listed in names.items()]
    if splits:
        yield from _check_contents(root, index, splits, advance)
    else:
        yield Problem(INDEX, "expected questions under data/, none are listed")


def _check_contents(
    root: Path, index: dict[str, Any], splits: list[Split], advance: Advance
) -> Iterator[Problem]:
    questions, statistics = QuestionChecks(), ViewerStatistics()
    for split in splits:
        yield from split.check(index["files"], questions, statistics, advance)
    # A card can only be checked against splits that were read to their ends.
    if all(split.is_whole for split in splits):
        facts = merge_stats(split.make_stats() for split in splits)
        yield from check_card(root, index, facts)
        yield from check_values(root, statistics)
        yield from questions.find_misfits()


def _describe_index(error: Exception) -> Problem:
    if isinstance(error, mmrel.ReleaseError):
        return Problem(INDEX, str(error))
    if isinstance(error, FileNotFoundError):
        return Problem(INDEX, "expected the index of a release, found no such file")
    return Problem(INDEX, f"expected the index of a release, got {type(error).__name__}: {error}")

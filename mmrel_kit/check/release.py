# SPDX-License-Identifier: Apache-2.0
"""Check a release, or the sample of the source repository, and list all problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.card.stats import merge_stats
from mmrel_kit.check.card import check_card
from mmrel_kit.check.layout import check_layout, find_files, group_splits
from mmrel_kit.check.records import RecordChecker
from mmrel_kit.check.splits import SplitChecker
from mmrel_kit.check.viewer import ViewerStatistics, check_values
from mmrel_kit.files import INDEX, PROJECT, SCHEMAS, InputError, Problem

Advance = Callable[[int], object]

# Files that only the source repository has.
SOURCE_FILES = ("upload.py", "mmrel_kit/check/release.py")
# Files that the source repository has in common with a release.
SAMPLE = ("data", *SCHEMAS, "dataset_infos.json", INDEX)


def check_release(root: Path, advance: Advance = lambda size: None) -> list[Problem]:
    """Return all problems of a release, sorted, warnings last; empty if it is valid.

    This checks the checksums, each record against the schema and the grammars, the three formats of
    each split row by row, every picture by decoding it once, the requirements of the Hub's viewer,
    and the card, dataset_infos.json and croissant.json against the data.

    `advance` is called with the bytes of each checked picture.

    Raises:
        InputError: `root` is the source repository; use `check_sample` for its sample.
    """
    if is_source(root):
        raise InputError(
            f"{root}: this is the source repository, not a release; check its sample with: "
            f"mmrel check {root} --sample"
        )
    return _sort_problems(_check(root, advance))


def check_sample(root: Path, advance: Advance = lambda size: None) -> list[Problem]:
    """Return the problems of the sample in the source repository, whose other files are ignored.

    Raises:
        InputError: `root` is not the source repository.
    """
    if not is_source(root):
        raise InputError(
            f"{root}: expected the source repository; leave out --sample for a release"
        )
    problems = _sort_problems(_check(root, advance))
    return [item for item in problems if item.is_warning or item.where.startswith(SAMPLE)]


def is_source(root: Path) -> bool:
    """Return whether a folder is a clone of the source repository, or the sample in a wheel."""
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
        yield _describe_index_error(error)
        return
    listed = index["files"]
    existing = find_files(root)
    yield from check_layout(root, listed, existing)
    groups = group_splits(existing & listed.keys())
    splits = [SplitChecker(domain, name, root, files) for (domain, name), files in groups.items()]
    if splits:
        yield from _check_contents(root, index, splits, advance)
    else:
        yield Problem(INDEX, "expected questions under data/, none are listed")


def _check_contents(
    root: Path, index: dict[str, Any], splits: list[SplitChecker], advance: Advance
) -> Iterator[Problem]:
    records = RecordChecker()
    statistics = ViewerStatistics()
    for split in splits:
        yield from split.check(index["files"], records, statistics, advance)
    # The card can only be checked against splits that were read completely.
    if all(split.is_complete for split in splits):
        stats = merge_stats(split.make_stats() for split in splits)
        yield from check_card(root, index, stats)
        yield from check_values(root, statistics)
        yield from records.warn_misfits()


def _describe_index_error(error: Exception) -> Problem:
    if isinstance(error, mmrel.ReleaseError):
        return Problem(INDEX, str(error))
    if isinstance(error, FileNotFoundError):
        return Problem(INDEX, "expected the index of a release, got no such file")
    return Problem(INDEX, f"expected the index of a release, got {type(error).__name__}: {error}")

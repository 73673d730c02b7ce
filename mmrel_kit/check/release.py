# SPDX-License-Identifier: Apache-2.0
"""Check a release, or the sample of the source repository, and list all problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import mmrel
from mmrel_kit.card.stats import make_stats, merge_stats
from mmrel_kit.check.card import check_card
from mmrel_kit.check.layout import check_content, check_layout, find_files, group_splits
from mmrel_kit.check.records import check_ids, warn_misfits
from mmrel_kit.check.splits import (
    Advance,
    CheckedPart,
    Listed,
    SplitPart,
    check_keys,
    check_part,
    cut_split,
    is_joined,
    plan_split,
)
from mmrel_kit.check.viewer import ViewerStatistics, check_values
from mmrel_kit.files import INDEX, PROJECT, SCHEMAS, InputError, Problem, describe_file
from mmrel_kit.workers import run_tasks

# Files that only the source repository has.
SOURCE_FILES = ("upload.py", "mmrel_kit/check/release.py")
# Files that the source repository has in common with a release.
SAMPLE = ("data", *SCHEMAS, "dataset_infos.json", INDEX)


def check_release(
    root: Path, advance: Advance = lambda size: None, workers: int = 1
) -> list[Problem]:
    """Return all problems of a release, sorted, warnings last; empty if it is valid.

    This checks the checksums, each record against the schema and the grammars, the three formats of
    each split row by row, the data of every picture (see `verify_picture`), the requirements of the
    Hub's viewer, and the card, dataset_infos.json and croissant.json against the data.

    Args:
        root: folder of the release.
        advance: called with the bytes of each checked picture.
        workers: number of processes, which check whole shards; the result is the same.

    Raises:
        InputError: `root` is the source repository; use `check_sample` for its sample.
        ChildProcessError: see `run_tasks`.
    """
    if is_source(root):
        raise InputError(
            f"{root}: this is the source repository, not a release; check its sample with: "
            f"mmrel check {root} --sample"
        )
    return _sort_problems(_check(root, advance, workers))


def check_sample(
    root: Path, advance: Advance = lambda size: None, workers: int = 1
) -> list[Problem]:
    """Return the problems of the sample in the source repository, whose other files are ignored.

    The other arguments are those of `check_release`.

    Raises:
        InputError: `root` is not the source repository.
    """
    if not is_source(root):
        raise InputError(
            f"{root}: expected the source repository; leave out --sample for a release"
        )
    problems = _sort_problems(_check(root, advance, workers))
    return [item for item in problems if item.is_warning or item.where.startswith(SAMPLE)]


def is_source(root: Path) -> bool:
    """Return whether a folder is a clone of the source repository, or the sample in a wheel."""
    is_clone = all((root / name).is_file() for name in SOURCE_FILES)
    return is_clone or root.resolve() == PROJECT


def _sort_problems(problems: Iterator[Problem]) -> list[Problem]:
    def rank(problem: Problem) -> tuple[bool, str, str]:
        return problem.is_warning, problem.where, problem.message

    return sorted(set(problems), key=rank)


def _check(root: Path, advance: Advance, workers: int) -> Iterator[Problem]:
    try:
        index = mmrel.parse_index((root / INDEX).read_bytes())
    except (OSError, mmrel.ReleaseError) as error:
        yield _describe_index_error(error)
        return
    listed = index["files"]
    existing = find_files(root)
    yield from check_layout(root, listed, existing)
    groups = group_splits(existing & listed.keys())
    planned = [plan_split(domain, split, files) for (domain, split), files in groups.items()]
    wholes = [split for split in planned if isinstance(split, SplitPart)]
    yield from (split for split in planned if isinstance(split, Problem))
    splits = _check_splits(root, listed, wholes, advance, workers)
    parts = list(chain.from_iterable(splits))
    yield from chain.from_iterable(part.problems for part in parts)
    hashed = {name: file for part in parts for name, file in part.files.items()}
    for name in existing & listed.keys():
        yield from check_content(name, listed[name], hashed.get(name) or describe_file(root / name))
    yield from check_ids([part.records for part in parts])
    for split in splits:
        yield from check_keys(split)
    if not groups:
        yield Problem(INDEX, "expected questions under data/, none are listed")
    # The card can only be checked against splits that were read completely.
    elif len(wholes) == len(planned) and all(part.is_complete for part in parts):
        yield from _check_documents(root, index, parts)


def _check_splits(
    root: Path, listed: Listed, wholes: Sequence[SplitPart], advance: Advance, workers: int
) -> list[list[CheckedPart]]:
    """Check some splits; return the parts of each.

    With several workers a split is cut into its shards. If these differ in any way, it is checked
    again as a whole, so that the problems do not depend on the number of workers.
    """
    if workers == 1:
        return [[check_part(root, listed, whole, advance)] for whole in wholes]
    cut = [cut_split(root, whole) for whole in wholes]
    checked: dict[str, list[CheckedPart]] = {whole.lines.name: [] for whole in wholes}
    tasks = run_tasks(check_part, list(chain.from_iterable(cut)), workers, (root, listed))
    with closing(tasks) as results:
        for result in results:
            checked[result.part.lines.name].append(result)
            for size in result.sizes:
                advance(size)
    splits = []
    for whole, parts in zip(wholes, checked.values(), strict=True):
        if is_joined(parts):
            splits.append(parts)
        else:
            splits.append([check_part(root, listed, whole)])
    return splits


def _check_documents(
    root: Path, index: dict[str, Any], parts: Sequence[CheckedPart]
) -> Iterator[Problem]:
    """Compare the files that describe a release with its data; warn about the viewer."""
    statistics = ViewerStatistics()
    stats = []
    for checked in parts:
        part = checked.part
        statistics.merge(checked.statistics)
        table_bytes = sum((root / name).stat().st_size for name in part.tables)
        stats.append(make_stats(part.domain, part.split, checked.counts, table_bytes))
    yield from check_card(root, index, merge_stats(stats))
    yield from check_values(root, statistics)
    yield from warn_misfits([checked.records for checked in parts])


def _describe_index_error(error: Exception) -> Problem:
    if isinstance(error, mmrel.ReleaseError):
        return Problem(INDEX, str(error))
    if isinstance(error, FileNotFoundError):
        return Problem(INDEX, "expected the index of a release, got no such file")
    return Problem(INDEX, f"expected the index of a release, got {type(error).__name__}: {error}")

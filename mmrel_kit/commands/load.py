# SPDX-License-Identifier: Apache-2.0
"""The verbs `show` and `path`: print a config's contents, or where files for other tools are."""

from __future__ import annotations

import argparse
import importlib
from collections import Counter
from typing import Any

import mmrel
from mmrel_kit.commands.options import Verbs, add_release
from mmrel_kit.files import PROJECT
from mmrel_kit.recipes import FOLDER

# What `mmrel path NAME` prints, and what it is.
PATHS = {
    "lmms-eval": (FOLDER / "lmms_eval", "folder for --include_path"),
    # inspect accepts an absolute path only with the name of a task.
    "inspect": (f"{FOLDER / 'inspect_task.py'}@mmrel_questions", "file and task for inspect eval"),
    "evaluate": (FOLDER / "mmrel_accuracy", "folder for evaluate.load"),
    "answers": (FOLDER / "sample_answers", "made-up answers to the sample"),
    "sample": (PROJECT, "the drawn sample"),
}


def show(args: argparse.Namespace) -> int:
    """Show what a config contains: counts, three questions with their answers, and their source."""
    mmrel.make_validator({})  # a missing package is an error before the work
    importlib.import_module("PIL.Image")
    release = mmrel.Release(mmrel.find_release(args.root, args.repo_id, args.revision))
    loaded = mmrel.load(args.config, root=release.root)
    if release.note:
        print(release.note)
    print(f"MMRel {release.version}, config {args.config}, from {release.root}")
    print(f"checksums.json sha256 {release.sha256}\n")
    heads = ("pictures", "questions", *mmrel.CATEGORIES, *mmrel.TASKS, "yes", "no")
    print(f"{'split':<11}" + "".join(f"  {head}" for head in heads))
    for split, rows in loaded.items():
        counts = Counter(rows["category"]) + Counter(rows["task"]) + Counter(rows["answer"])
        counts.update(questions=len(rows), pictures=len(set(rows["image_id"])))
        print(f"{split:<11}" + "".join(f"{counts[head]:>{len(head) + 2}}" for head in heads))
    rows = next(iter(loaded.values()))
    for row in rows.select(sorted({0, len(rows) // 2, len(rows) - 1})):
        width, height = row["image"].size
        print(f"\n{row['image_id']} ({width} x {height})")
        print(f"  {row['question']} {row['instruction'] or ''}\n  -> {row['answer']}")
    return 0


def path(args: argparse.Namespace) -> int:
    """Print the file or folder that another tool needs."""
    location, _ = PATHS[args.name]
    print(location)
    return 0


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs."""
    parser = verbs.add("show", show, "real")
    add: Any = parser.add_argument
    add("config", nargs="?", default="all", choices=mmrel.CONFIGS, help="domain (%(default)s)")
    add_release(parser)
    uses = "; ".join(f"{name}: {use}" for name, (_, use) in PATHS.items())
    verbs.add("path", path, "lmms-eval").add_argument("name", choices=PATHS, help=uses)

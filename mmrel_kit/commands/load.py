# SPDX-License-Identifier: Apache-2.0
"""The verbs `show` and `path`: print a config's contents, or where files for other tools are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mmrel
from mmrel_kit.files import PROJECT
from mmrel_kit.recipes import FOLDER

if TYPE_CHECKING:
    import argparse

    from mmrel_kit.commands.options import Verbs

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
    return mmrel.show(args)


def path(args: argparse.Namespace) -> int:
    """Print the file or folder that another tool needs."""
    location, _ = PATHS[args.name]
    print(location)
    return 0


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs."""
    mmrel.add_arguments(verbs.add("show", show, "real"))
    uses = "; ".join(f"{name}: {use}" for name, (_, use) in PATHS.items())
    verbs.add("path", path, "lmms-eval").add_argument("name", choices=PATHS, help=uses)

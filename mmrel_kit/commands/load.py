# SPDX-License-Identifier: Apache-2.0
"""The verbs `show` and `path`: what a config holds, and where files for other tools are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mmrel
from mmrel_kit.files import PROJECT
from mmrel_kit.recipes import FOLDER

if TYPE_CHECKING:
    import argparse

    from mmrel_kit.commands.options import Verbs

# What other tools want to be given: a file or a folder.
PATHS = {
    "lmms-eval": FOLDER / "lmms_eval",
    # inspect takes a whole path only with the name of a task behind it.
    "inspect": f"{FOLDER / 'inspect_task.py'}@mmrel_questions",
    "evaluate": FOLDER / "mmrel_accuracy",
    "answers": FOLDER / "sample_answers",
    "sample": PROJECT,
}


def show(args: argparse.Namespace) -> int:
    """Show what a config holds: counts, three questions with their answers, and their source."""
    return mmrel.show(args)


def path(args: argparse.Namespace) -> int:
    """Print the file or folder that another tool wants to be given."""
    print(PATHS[args.name])
    return 0


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs."""
    mmrel.add_arguments(verbs.add("show", show, "real"))
    named = (
        "lmms-eval: folder for --include_path; inspect: file and task for inspect eval; evaluate: folder "
        "for evaluate.load; answers: made-up answers to the sample; sample: the drawn sample"
    )
    finding = verbs.add("path", path, "lmms-eval")
    finding.add_argument("name", choices=PATHS, help=named)

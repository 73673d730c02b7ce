# SPDX-License-Identifier: Apache-2.0
"""Fetch the sources of MMRel; build, check, publish and verify a release.

In a clone, `python upload.py VERB` does the same as `mmrel VERB` of the installed package.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mmrel_kit import cli

if __name__ == "__main__":  # one-line errors for Ctrl-C and missing packages during imports
    cli.guard_start("upload.py")

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = ("get", "fetch", "build", "finish", "check", "audit", "sheet", "push", "verify")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb and return its exit status."""
    return cli.main(argv, VERBS, "upload.py")


if __name__ == "__main__":
    sys.exit(main())

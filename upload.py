# SPDX-License-Identifier: Apache-2.0
"""The maintainer's door: fetch the sources, build a release, check it, publish it, verify it.

`python upload.py VERB` in a clone is `mmrel VERB` where the package is installed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mmrel_kit import cli

if __name__ == "__main__":  # Ctrl-C and a missing package are one line while the rest loads, too
    cli.guard_start("upload.py")

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = ("fetch", "build", "finish", "check", "audit", "sheet", "push", "verify")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status."""
    return cli.main(argv, VERBS, "upload.py")


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Declare verbs, and parse values of the command line with errors that say what was expected."""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from mmrel_kit.files import Share

RESTARTS = "the same command starts again from the beginning"
MAX_DIGITS = 9
_SHARE = re.compile(rf"([0-9]{{1,{MAX_DIGITS}}})/([0-9]{{1,{MAX_DIGITS}}})")


class Verbs:
    """Add verbs to a parser; each runs a function, whose docstring is its help.

    If `only` is not None, other verbs are ignored.
    """

    def __init__(self, parser: ArgumentParser, only: Collection[str] | None = None) -> None:
        self._choices = parser.add_subparsers(required=True, metavar="VERB")
        self._prog = parser.prog
        self._only = only

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], int],
        example: str,
        after_interrupt: str = RESTARTS,
    ) -> ArgumentParser:
        """Add a verb and return its parser.

        `run` returns the exit status; `example` has arguments for the help; `after_interrupt` says
        how to continue after Ctrl-C.
        """
        about = (run.__doc__ or "").partition("\n")[0]
        verb = self._add_parser(name, about)
        verb.epilog = f"example: {verb.prog} {example}"
        verb.set_defaults(run=run, prog=verb.prog, after_interrupt=after_interrupt)
        return verb

    def add_group(self, name: str, about: str) -> Verbs:
        """Add a verb that has verbs of its own."""
        return Verbs(self._add_parser(name, about))

    def _add_parser(self, name: str, about: str) -> ArgumentParser:
        if self._only is not None and name not in self._only:
            return ArgumentParser(prog=f"{self._prog} {name}")
        parser: ArgumentParser = self._choices.add_parser(name, help=about, description=about)
        return parser


def add_release(parser: ArgumentParser) -> None:
    """Add the options that name a release: --root, --repo-id and --revision."""
    import mmrel

    add: Any = parser.add_argument
    default = "the drawn sample, or the release of this file"
    where = f"folder of a release, or {mmrel.HUB}NS/NAME[@REVISION] ({default})"
    add("--root", metavar="RELEASE", help=where)
    add("--repo-id", metavar="NS/NAME", help="a release on the Hub")
    add("--revision", metavar="REV", help="branch, tag or commit of --repo-id (main)")


def add_questions(parser: ArgumentParser, splits: Sequence[str]) -> None:
    """Add the options that choose questions: --config, --task and, if there are splits, --split."""
    import mmrel

    add: Any = parser.add_argument
    add("--config", default="all", choices=mmrel.CONFIGS, help="domain (%(default)s)")
    if splits:
        add("--split", default="test", choices=splits, help="split (%(default)s)")
    task = "yes/no questions, open-ended questions or both (%(default)s)"
    add("--task", default=mmrel.TASKS[0], choices=(*mmrel.TASKS, "both"), help=task)


def parse_share(text: str) -> Share:
    """Parse a share, I/N.

    >>> parse_share("3/64")
    Share(number=3, total=64)

    Raises:
        ArgumentTypeError: the text is not I/N with 1 <= I <= N.
    """
    match = _SHARE.fullmatch(text)
    if match:
        share = Share(int(match[1]), int(match[2]))
        if 1 <= share.number <= share.total:
            return share
    raise ArgumentTypeError(f"expected I/N with 1 <= I <= N, such as 3/64, got {text[:80]!a}")


def parse_path(text: str) -> Path:
    """Parse a path; refuse an empty one, for example from a shell variable that is not set.

    Raises:
        ArgumentTypeError: the path is empty.
    """
    if text:
        return Path(text)
    raise ArgumentTypeError("expected a path, got ''; write . for the current folder")


def parse_positive(text: str) -> int:
    """Parse a whole number from 1 on.

    >>> parse_positive("4")
    4

    Raises:
        ArgumentTypeError: the text is not such a number.
    """
    if re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", text) and int(text) >= 1:
        return int(text)
    raise ArgumentTypeError(f"expected a whole number from 1 on, such as 4, got {text[:80]!a}")

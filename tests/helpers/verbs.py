# SPDX-License-Identifier: Apache-2.0
"""The verbs of the command, read from its parser."""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator


def list_verbs(parser: ArgumentParser) -> Iterator[tuple[str, ArgumentParser]]:
    """Yield every verb with its parser: "build", "label", "label propose" and so on."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for name, verb in action.choices.items():
                yield name, verb
                for inner, inner_parser in list_verbs(verb):
                    yield f"{name} {inner}", inner_parser


def list_runnable(parser: ArgumentParser) -> list[tuple[str, ArgumentParser]]:
    """Return the verbs that run something, which groups such as "label" do not."""
    return [(name, verb) for name, verb in list_verbs(parser) if verb.get_default("run")]

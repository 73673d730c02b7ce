# SPDX-License-Identifier: Apache-2.0
"""Read yes or no as the published scorers do, each with its own rules and its own counting.

The readers reproduce what the originals do, mistakes included; the reference reader `words` is in
`relation_accuracy`. docs/metric.md compares them.
"""

from __future__ import annotations

import re

from relation_accuracy import WORDS, Reader


def _read_pope(text: str, label: str) -> str | None:
    """Read like POPE's evaluate.py (LLaVA, R-Bench): no if the first sentence has one, else yes."""
    words = text.split(".", 1)[0].replace(",", "").split(" ")
    return "yes" if {"No", "not", "no"}.isdisjoint(words) else "no"


def _read_vcd(text: str, label: str) -> str | None:
    """Read like VCD's eval_pope.py: the label if the answer contains it, else its opposite."""
    if label in text.lower():
        return label
    return "no" if label == "yes" else "yes"


def _read_amber(text: str, label: str) -> str | None:
    """Read like AMBER's inference.py: exactly Yes or No."""
    return {"Yes": "yes", "No": "no"}.get(text)


def _read_lmms_eval(text: str, label: str) -> str | None:
    """Read like the pope task of lmms-eval: exactly yes or no, in any case, between white space."""
    word = text.lower().strip()
    return word if word in ("yes", "no") else None


def _read_vlmevalkit(text: str, label: str) -> str | None:
    """Read like VLMEvalKit's YOrN_Extraction: the one of the two words that is in the answer.

    A punctuation mark that touches a space anywhere is deleted everywhere, any other becomes a
    space, and all are deleted if a comma is between digits; then the first 32 full stops that are
    not before a digit are deleted.
    """
    given = text = text.lower()
    grouped = re.search(r"\d,\d", given)
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        if mark in given:
            loose = grouped or mark + " " in given or " " + mark in given
            text = text.replace(mark, "" if loose else " ")
    words = set(re.sub(r"\.(?!\d)", "", text, count=32).split())
    replies = words & {"yes", "no"}
    return replies.pop() if len(replies) == 1 else None


READERS = {
    reader.name: reader
    for reader in (
        WORDS,
        Reader("pope", "1.0", _read_pope),
        Reader("vcd", "1.0", _read_vcd),
        Reader("amber", "1.0", _read_amber, positive="no"),
        Reader("lmms-eval", "1.0", _read_lmms_eval, recall_over_read=True),
        Reader("vlmevalkit", "1.0", _read_vlmevalkit),
    )
}

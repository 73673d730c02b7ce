# SPDX-License-Identifier: Apache-2.0
"""Report the wordings of questions that no grammar parses, for the maintainers of the grammars."""

from __future__ import annotations

import re
from typing import NamedTuple

import mmrel
from mmrel_kit.files import escape_unprintable
from mmrel_kit.questions.records import MAX_QUESTION

MAX_WORDINGS = 200  # questions of further ones are counted together
MAX_EXAMPLES = 3  # of a wording
MAX_TEXT = 200  # characters of a question or an answer in the report
# Words of a wording that are kept; of a longer one, the first and the last.
FIRST_WORDS = 16
LAST_WORDS = 6
GAP = "…"
_WORD = re.compile(r"\w+")
# Words that make a wording. All others, such as the names of objects, are its variable parts.
_WORDING = """
a the this that these those there here it its one two both each other any some
what which where who how why when whether
is are was were be been being do does did doing done has have having can could will would should
please describe name tell give choose select answer state identify explain compare compared
and or not no yes if than then as more most less
of to in on at by with from for between among about into over under above below behind beside
near next front left right top bottom relative
relation relations relationship relationships related spatial spatially action actions
comparative comparison position positioned located location size category type
subject object objects thing things region
image images picture pictures photo scene
sentence word words phrase option options following
"""
_KEPT = frozenset(_WORDING.split())


class Example(NamedTuple):
    """A question of a wording, with its answer; `source` is its file and line."""

    source: str
    question: str
    answer: str


class Wordings:
    r"""Counts questions by wording, in bounded memory, with some examples of each.

    A wording is a question in lower case whose words are replaced by "…" unless they belong to a
    list of words that such questions are made of (articles, prepositions, "relation", "image" …).
    So "What is the relation between a cup and a plate in the image?" has the wording "what is the
    relation between a … and a … in the image", as has the same question about an old man and a car.
    Grouping by the first and last words alone would not tell it from "What is the colour of a cup
    in the image?". A long question is reduced to its first and last words.

    >>> wordings = Wordings()
    >>> wordings.add("json/open.json:1", "What is the relation of a cup to an old man?", "above")
    >>> wordings.add("json/open.json:2", "What is the relation of an owl to a bee?", "left of")
    >>> print(wordings.format().partition("\n\n")[2])
    2  what is the relation of a … to a …
       json/open.json:1: What is the relation of a cup to an old man? -> above
       json/open.json:2: What is the relation of an owl to a bee? -> left of
    <BLANKLINE>
    """

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[Example]] = {}
        self._others = 0

    def add(self, source: str, question: str, answer: str) -> None:
        """Count a question; `source` is its file and line."""
        self.total += 1
        wording = find_wording(question)
        if wording not in self._counts and len(self._counts) == MAX_WORDINGS:
            self._others += 1
            return
        self._counts[wording] = self._counts.get(wording, 0) + 1
        examples = self._examples.setdefault(wording, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(Example(_shorten(source), _shorten(question), _shorten(answer)))

    def format(self) -> str:
        """Format the report: each wording with its count and examples, the most frequent first."""
        number = len(self._counts)
        lines = [
            f"{self.total} questions that no grammar of mmrel {mmrel.__version__} parses, "
            f"in {number} wordings.",
            "Please send this file to the maintainers of the package. It quotes annotation files, "
            "and nothing else.",
        ]
        for wording, count in sorted(self._counts.items(), key=lambda item: (-item[1], item[0])):
            lines += ["", f"{count}  {wording}"]
            indent = " " * (len(str(count)) + 2)
            for example in self._examples[wording]:
                lines.append(f"{indent}{example.source}: {example.question} -> {example.answer}")
        if self._others:
            lines += ["", f"{self._others}  (questions of further wordings)"]
        return "\n".join(lines) + "\n"


def find_wording(question: str) -> str:
    """Return the wording of a question; see `Wordings`.

    >>> find_wording("Where is the old cup, relative to an apple-tree?")
    'where is the … relative to a …'
    """
    words: list[str] = []
    for word in _WORD.findall(question[:MAX_QUESTION].lower()):
        kept = "a" if word == "an" else word
        if kept in _KEPT:
            words.append(kept)
        elif not words or words[-1] != GAP:
            words.append(GAP)
    if len(words) > FIRST_WORDS + LAST_WORDS:
        words = [*words[:FIRST_WORDS], GAP, *words[-LAST_WORDS:]]
    return " ".join(words)


def _shorten(text: str) -> str:
    """Return a text in one line, cut to a length, without control characters."""
    line = " ".join(text[: 10 * MAX_TEXT].split())
    if len(line) > MAX_TEXT:
        line = line[:MAX_TEXT] + GAP
    return escape_unprintable(line)

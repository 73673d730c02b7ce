# SPDX-License-Identifier: Apache-2.0
"""Finds what version 1.0.0 let into a project: damaged names, and relations of another category.

It removed the first "a ", "an " or "the " from anywhere in a name, each time a name was read:
"panda bear" became "pandbear", "man in a hat" became "min a hat" and then "min hat". The project
keeps no trace of the original. So names are compared with what models and files said (`raw`);
without that, a word is suspected where it falls into two words of the project's other names.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet, make_question, parse_image_path
from mmrel_kit.questions.taxonomy import find_misfit
from mmrel_kit.semidc.items import read_json_objects
from mmrel_kit.semidc.reply import parse_reply
from mmrel_kit.semidc.words import lower_capitalized, spoken_article, tidy_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mmrel_kit.semidc.people.store import Project

ARTICLES = ("a", "an", "the")
GUESSES = 3  # at most so many originals of a name
REMOVALS = 2  # version 1.0.0 read most names twice: when proposed, and when added to a project
_ARTICLE_ANYWHERE = re.compile(r"(?:an?|the) (?=.)", re.I)  # the pattern of version 1.0.0
_SQLITE = b"SQLite format 3\0"


class Uses(NamedTuple):
    """How many items and how many corrections hold a name."""

    items: int
    corrections: int


class Damage(NamedTuple):
    """A damaged name, what it may have been, how often it is used, and whether raw names say so."""

    name: str
    originals: tuple[str, ...]
    uses: Uses
    is_certain: bool


def damage_name(name: str) -> str:
    """Return what version 1.0.0 made of a name.

    >>> damage_name("panda bear"), damage_name("a pizza")
    ('pandbear', 'pizza')
    """
    return lower_capitalized(_ARTICLE_ANYWHERE.sub("", " ".join(name.split()), count=1))


def find_damage(uses: Mapping[str, Uses], raw: Collection[str] = ()) -> list[Damage]:
    """Return the damaged names of a project, the certain ones first, then by how often they occur.

    Args:
        uses: the names of the project.
        raw: names as models and files state them.
    """
    originals, right = _list_originals(raw), {tidy_name(name) for name in raw}
    stored = _list_originals(uses)
    words = {word for name in uses for word in name.split()}
    genuine = {word for name in right for word in name.split()}
    found = []
    for name, used in uses.items():
        if name in right:
            continue
        if known := originals.get(name):
            found.append(Damage(name, tuple(sorted(known)), used, is_certain=True))
        elif guesses := sorted(stored.get(name, ())) or _restore(name, words | genuine, genuine):
            found.append(Damage(name, tuple(guesses), used, is_certain=False))
    return sorted(found, key=lambda damage: (not damage.is_certain, -sum(damage.uses), damage.name))


def count_names(project: Project) -> dict[str, Uses]:
    """Return how often each name is used in a project's items and in its corrections."""
    items, corrections = Counter[str](), Counter[str]()
    for item in project.items():
        items.update({item.triplet.subject, item.triplet.object})
    for decision in project.decisions():
        if decision.triplet:
            corrections.update({decision.triplet.subject, decision.triplet.object})
    return {name: Uses(items[name], corrections[name]) for name in items | corrections}


def read_raw_names(paths: Iterable[Path]) -> set[str]:
    """Return the names that files state: stores of replies, `candidates.jsonl`, triplets to draw.

    Raises:
        InputError: a file is none of these.
    """
    names: set[str] = set()
    for path in paths:
        with open(path, "rb") as file:
            is_store = file.read(len(_SQLITE)) == _SQLITE
        found = _read_store(path) if is_store else _read_file(path)
        names.update(name for name in found if isinstance(name, str))
    return names


def rename(project: Project, names: Mapping[str, str]) -> tuple[int, list[str]]:
    """Rename things in items and corrections.

    Returns:
        How many items and corrections changed, and a line for each triplet that had to stay because
        no question could be asked about the new one.

    Raises:
        InputError: a new name is renamed as well; nothing is changed.
    """
    if twice := sorted(set(names.values()) & set(names)):
        raise InputError(f"--rename: expected names that stay, got {twice[0]!r} on both sides")
    refused: dict[str, None] = {}

    def change(image_id: str, category: str, triplet: Triplet) -> Triplet:
        subject, relation, object_ = triplet
        new = Triplet(names.get(subject, subject), relation, names.get(object_, object_))
        if new == triplet:
            return triplet
        try:
            make_question(parse_image_path(image_id)[0], category, new, article=spoken_article)
        except InputError:
            refused[f"{category}: no question can be asked about {' '.join(new)!r}"] = None
            return triplet
        return new

    changed = project.rename(change)
    return changed, list(refused)


def parse_renames(texts: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Read `OLD=NEW`, each with a name of the project to the left.

    Raises:
        InputError: a text is not of that shape, or the project has no such name.
    """
    names: dict[str, str] = {}
    for text in texts:
        old, _, new = text.partition("=")
        new = tidy_name(new)
        if not new or len(new) > 100 or not new.isprintable() or "?" in new:
            expected = "expected --rename OLD=NEW, NEW of 1 to 100 characters"
            raise InputError(f"{expected}, got {text[:250]!r}")
        if old not in known:
            raise InputError(f"--rename: expected a name of the project, got {old[:100]!r}")
        names[old] = new
    return names


def describe_damage(found: Sequence[Damage]) -> list[str]:
    """Return one line for each damaged name."""
    lines = []
    for name, originals, uses, is_certain in found:
        told = " or ".join(map(repr, originals[:GUESSES]))
        kind = "was" if is_certain else "perhaps"
        counts = f"{uses.items} items, {uses.corrections} corrections"
        lines.append(f"{name!r} ({counts}): {kind} {told}")
    return lines


def count_misfits(project: Project) -> Counter[str]:
    """Count items and corrections whose relation is a word of another category, by reason."""
    categories: dict[int, str] = {}
    misfits: Counter[str] = Counter()
    for item in project.items():
        categories[item.id] = item.category
        if misfit := find_misfit(item.category, item.triplet.relation):
            misfits[f"{item.category} item: {misfit}"] += 1
    for decision in project.decisions():
        category = categories[decision.item]
        if decision.triplet and (misfit := find_misfit(category, decision.triplet.relation)):
            misfits[f"{category} correction: {misfit}"] += 1
    return misfits


def _list_originals(names: Iterable[str]) -> dict[str, set[str]]:
    """Return the names that version 1.0.0 made of others, each with what it should have been."""
    originals: dict[str, set[str]] = defaultdict(set)
    for name in names:
        form = " ".join(name.split())
        right = {tidy_name(form), tidy_name(tidy_name(form))}
        while (damaged := damage_name(form)) != form:
            if damaged not in right:
                originals[damaged].add(tidy_name(name))
            form = damaged
    return originals


def _restore(name: str, words: Collection[str], genuine: Collection[str]) -> list[str]:
    """Return what a name may have been, by splitting those of its words that no file states."""
    restored = [name]
    for word in dict.fromkeys(name.split()):
        parts = [] if word in genuine else list(islice(_split_word(word, words), GUESSES))
        if parts:
            restored = [_replace(one, word, part) for one in restored for part in parts][:GUESSES]
    return [] if restored == [name] else restored


def _split_word(word: str, words: Collection[str], removals: int = REMOVALS) -> Iterator[str]:
    """Yield the known words that a word was joined from, by removing articles at their ends."""
    for at in range(1, len(word)):
        rest = word[at:]
        for first in (word[:at] + article for article in ARTICLES):
            if rest in ARTICLES or first not in words or first == word:
                continue
            if rest in words:
                yield f"{first} {rest}"
            elif removals > 1:
                yield from (f"{first} {more}" for more in _split_word(rest, words, removals - 1))


def _replace(name: str, word: str, by: str) -> str:
    return " ".join(by if one == word else one for one in name.split())


def _read_store(path: Path) -> Iterator[object]:
    from mmrel_kit import endpoint

    for text in endpoint.read_reply_texts(path):
        try:
            stated = parse_reply(text)
        except InputError:  # another task's reply
            continue
        for triplet in stated:
            yield from (triplet["subject"], triplet["object"])


def _read_file(path: Path) -> Iterator[object]:
    for where, value in read_json_objects(path):
        things = value.get("things")
        if isinstance(things, list) and all(isinstance(thing, dict) for thing in things):
            yield from (thing.get("name") for thing in things)
        elif "origin" in value:
            raise InputError(
                f"{where}: expected what models or files said, got an item to verify, "
                "whose names may be damaged; name replies.sqlite, candidates.jsonl or such files"
            )
        elif "subject" in value and "object" in value:
            yield from (value["subject"], value["object"])
        else:
            got = ascii(str(value)[:80])
            raise InputError(f"{where}: expected things, or subject and object, got {got}")

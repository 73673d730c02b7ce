# SPDX-License-Identifier: Apache-2.0
"""Find defects that version 1.0.0 left in a project: damaged names, and misplaced relations.

Version 1.0.0 removed the first "a ", "an " or "the " from anywhere in a name, each time it read the
name: "panda bear" became "pandbear", and "man in a hat" became "min a hat" and then "min hat". The
project does not hold the original names. They can be restored from raw names, as models and files
state them. Without raw names, a word is suspect if it can be split into words of other names.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet, make_question, parse_image_path
from mmrel_kit.questions.taxonomy import find_misfit
from mmrel_kit.semidc.items import read_json_objects
from mmrel_kit.semidc.people.store import Project
from mmrel_kit.semidc.reply import parse_reply
from mmrel_kit.semidc.words import lower_capitalized, spoken_article, tidy_name

ARTICLES = ("a", "an", "the")
MAX_GUESSES = 3  # possible originals of a name
# Version 1.0.0 read most names twice: when proposed, and when added to a project.
MAX_REMOVALS = 2
_ARTICLE_ANYWHERE = re.compile(r"(?:an?|the) (?=.)", re.I)  # the pattern of version 1.0.0
_SQLITE_HEADER = b"SQLite format 3\0"


class Uses(NamedTuple):
    """Numbers of items and of corrections that use a name."""

    items: int
    corrections: int


class Damage(NamedTuple):
    """A damaged name.

    Attributes:
        originals: names that it may have been.
        is_certain: True if the originals are raw names, False if they are guesses.
    """

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
    """Return the damaged names of a project: the certain ones first, then by number of uses.

    `raw` has names as models and files state them.
    """
    intact = {tidy_name(name) for name in raw}
    from_raw, from_project = _list_originals(raw), _list_originals(uses)
    intact_words = _list_words(intact)
    words = intact_words | _list_words(uses)
    damages = []
    for name, count in uses.items():
        if name in intact:
            continue
        originals = sorted(from_raw.get(name, ()))
        is_certain = bool(originals)
        if not originals:
            originals = sorted(from_project.get(name, ()))
        if not originals:
            originals = _restore(name, words, intact_words)
        if originals:
            damages.append(Damage(name, tuple(originals), count, is_certain))
    damages.sort(key=lambda damage: (not damage.is_certain, -sum(damage.uses), damage.name))
    return damages


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
    """Return the names in stores of replies, files of candidates, and files of triplets to draw.

    Raises:
        InputError: a file is none of these.
    """
    names: set[str] = set()
    for path in paths:
        with open(path, "rb") as file:
            is_store = file.read(len(_SQLITE_HEADER)) == _SQLITE_HEADER
        values = _read_store(path) if is_store else _read_file(path)
        names.update(value for value in values if isinstance(value, str))
    return names


def rename(project: Project, names: Mapping[str, str]) -> tuple[int, list[str]]:
    """Rename things in items and corrections.

    Returns:
        The number of items and corrections that changed, and a line for each triplet that stays
        because no question could be asked about the new one.

    Raises:
        InputError: a new name is also an old one; nothing is changed.
    """
    on_both_sides = sorted(set(names.values()) & set(names))
    if on_both_sides:
        raise InputError(
            f"--rename: expected names that stay, got {on_both_sides[0]!r} on both sides"
        )
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
    """Parse texts of the form `OLD=NEW`, where OLD is a name of the project.

    Raises:
        InputError: a text has another form, or the project has no such name.
    """
    names: dict[str, str] = {}
    for text in texts:
        old, _, new = text.partition("=")
        new = tidy_name(new)
        if not new or len(new) > 100 or not new.isprintable() or "?" in new:
            raise InputError(
                f"expected --rename OLD=NEW, NEW of 1 to 100 characters, got {text[:250]!r}"
            )
        if old not in known:
            raise InputError(f"--rename: expected a name of the project, got {old[:100]!r}")
        names[old] = new
    return names


def format_damage(damage: Damage) -> str:
    """Return a line about a damaged name."""
    originals = " or ".join(map(repr, damage.originals[:MAX_GUESSES]))
    certainty = "was" if damage.is_certain else "perhaps"
    uses = f"{damage.uses.items} items, {damage.uses.corrections} corrections"
    return f"{damage.name!r} ({uses}): {certainty} {originals}"


def count_misfits(project: Project) -> Counter[str]:
    """Count items and corrections whose relation is a word of another category, by reason."""
    categories: dict[int, str] = {}
    misfits: Counter[str] = Counter()
    for item in project.items():
        categories[item.id] = item.category
        misfit = find_misfit(item.category, item.triplet.relation)
        if misfit:
            misfits[f"{item.category} item: {misfit}"] += 1
    for decision in project.decisions():
        if decision.triplet is None:
            continue
        category = categories[decision.item]
        misfit = find_misfit(category, decision.triplet.relation)
        if misfit:
            misfits[f"{category} correction: {misfit}"] += 1
    return misfits


def _list_words(names: Iterable[str]) -> set[str]:
    words: set[str] = set()
    for name in names:
        words.update(name.split())
    return words


def _list_originals(names: Iterable[str]) -> dict[str, set[str]]:
    """Return what version 1.0.0 made of these names: damaged names, each with its originals."""
    originals: dict[str, set[str]] = defaultdict(set)
    for name in names:
        form = " ".join(name.split())
        intact = {tidy_name(form), tidy_name(tidy_name(form))}
        damaged = damage_name(form)
        while damaged != form:
            if damaged not in intact:
                originals[damaged].add(tidy_name(name))
            form, damaged = damaged, damage_name(damaged)
    return originals


def _restore(name: str, words: Collection[str], intact_words: Collection[str]) -> list[str]:
    """Return possible originals of a name, by splitting those of its words that are not intact."""
    names = [name]
    for word in dict.fromkeys(name.split()):
        if word in intact_words:
            continue
        splits = list(itertools.islice(_split_word(word, words), MAX_GUESSES))
        if splits:
            pairs = itertools.product(names, splits)
            names = [_replace_word(old, word, split) for old, split in pairs][:MAX_GUESSES]
    return [] if names == [name] else names


def _split_word(word: str, words: Collection[str], removals: int = MAX_REMOVALS) -> Iterator[str]:
    """Yield the words that may have been joined to this one when the first lost a final article.

    >>> list(_split_word("pandbear", {"panda", "bear"}))
    ['panda bear']
    """
    for at in range(1, len(word)):
        rest = word[at:]
        if rest in ARTICLES:
            continue
        for article in ARTICLES:
            first = word[:at] + article
            if first not in words or first == word:
                continue
            if rest in words:
                yield f"{first} {rest}"
            elif removals > 1:
                for split in _split_word(rest, words, removals - 1):
                    yield f"{first} {split}"


def _replace_word(name: str, old: str, new: str) -> str:
    return " ".join(new if word == old else word for word in name.split())


def _read_store(path: Path) -> Iterator[object]:
    from mmrel_kit import endpoint

    for text in endpoint.read_reply_texts(path):
        try:
            triplets = parse_reply(text)
        except InputError:  # a reply to another task
            continue
        for triplet in triplets:
            yield triplet["subject"]
            yield triplet["object"]


def _read_file(path: Path) -> Iterator[object]:
    for where, value in read_json_objects(path):
        things = value.get("things")
        if isinstance(things, list) and all(isinstance(thing, dict) for thing in things):
            for thing in things:
                yield thing.get("name")
        elif "origin" in value:
            raise InputError(
                f"{where}: expected raw names, got an item to verify, whose names may be damaged; "
                "name a store of replies, or a file of candidates or of triplets to draw"
            )
        elif "subject" in value and "object" in value:
            yield value["subject"]
            yield value["object"]
        else:
            got = ascii(str(value)[:80])
            raise InputError(f"{where}: expected things, or subject and object, got {got}")

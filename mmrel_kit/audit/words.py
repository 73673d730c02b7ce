# SPDX-License-Identifier: Apache-2.0
"""Find contradictions, impossible relations and spellings of one object in questions' words."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING

from mmrel_kit.questions.taxonomy import judge_relation, read_taxonomy

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

# Claims of one picture that exclude each other: what one forbids, the other says; or both say the
# same, one with no.
CONTRADICTIONS = """
select * from (
    with conflicts as (
        select x.image_id || char(10) || x.category || char(10) || x.claim as key,
        x.id as one, y.id as other from claims x join claims y using (image_id, category, claim)
        where x.answer = 'yes' and y.answer = 'no'
        union all
        select x.image_id || char(10) || x.category || char(10)
        || min(x.claim, y.claim) || max(x.claim, y.claim),
        x.id, y.id from forbidden f join claims x using (id)
        join claims y on y.image_id = f.image_id and y.category = f.category and y.claim = f.claim
        where x.answer = 'yes' and y.answer = 'yes'
    )
    select key, one, 1 from conflicts union all select key, other, 1 from conflicts
)
"""
# Letters, from which on names that differ by one letter are taken for one that is misspelt.
VARIANT_LENGTH = 7
EXAMPLES = 5
_PLURALS = (("ies", "y"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("sses", "ss"))


def make_claims(db: sqlite3.Connection) -> None:
    """Store what each yes/no question claims, and what a yes to it forbids.

    One meaning has one wording.
    """
    db.create_function("judge", 2, judge_relation, deterministic=True)
    db.executescript(
        "drop table if exists temp.claims; drop table if exists temp.forbidden;"
        "create temp table claims (id integer primary key, image_id, category, answer, claim);"
        "create temp table forbidden (id, image_id, category, claim);"
    )
    rows = db.execute(
        "select rowid, image_id, category, answer, subject, relation, object from questions "
        "where task = 'discriminative'"
    )
    insert_claim = "insert into claims values (?,?,?,?,?)"
    insert_forbidden = "insert into forbidden values (?,?,?,?)"
    for id_, image, category, answer, *triplet in rows:
        claim = _claim(category, *triplet)
        db.execute(insert_claim, (id_, image, category, answer, claim))
        for forbidden in _forbids(category, *triplet):
            db.execute(insert_forbidden, (id_, image, category, forbidden))
    db.executescript("create index temp.by_claim on claims (image_id, category, claim)")


def _claim(category: str, subject: str, relation: str, object_: str) -> str:
    """Return a triplet in one wording: "b right of a" becomes "a left of b"."""
    first, second = subject.casefold(), object_.casefold()
    known = read_taxonomy().categories[category].listed
    found = known.get(relation.casefold())
    if found:
        relation = found.name
        inverse = found.inverse
        if inverse and known[inverse].inverse == relation and inverse < relation:
            first, relation, second = second, inverse, first
    return "\t".join((first, relation.casefold(), second))


def _forbids(category: str, subject: str, relation: str, object_: str) -> Iterator[str]:
    """Yield claims that cannot hold together with a triplet.

    These are the same relation the other way round, and its opposites.
    """
    found = read_taxonomy().categories[category].listed.get(relation.casefold())
    if category == "action" or not found or subject.casefold() == object_.casefold():
        return
    claims = [_claim(category, object_, relation, subject)]
    claims += [_claim(category, subject, opposite, object_) for opposite in found.opposites]
    yield from dict.fromkeys(claims)


def find_variants(db: sqlite3.Connection) -> tuple[int, list[str]]:
    """Return how many names of objects have several spellings, and examples.

    Spellings differ by case, space, plural, or one letter.
    """
    query = (
        "select name, count(*) from (select subject as name from questions "
        "union all select object from questions) where name is not null group by name"
    )
    names = dict(db.execute(query))
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_fold(name), []).append(name)
    spelt = [group for group in groups.values() if len(group) > 1]
    spelt += [[groups[a][0], groups[b][0]] for a, b in _find_near(sorted(groups))]
    examples = []
    for group in sorted(spelt, key=lambda group: -sum(names[name] for name in group))[:EXAMPLES]:
        rarest = min(group, key=lambda name: names[name])
        query = "select line from questions where subject = ? or object = ? order by rowid limit 1"
        (line,) = db.execute(query, (rarest, rarest)).fetchone()
        spellings = ", ".join(f"{name!r} ({names[name]})" for name in group)
        examples.append(f"{line}: {spellings}")
    return len(spelt), examples


def _fold(name: str) -> str:
    """Return a name without case, spaces, hyphens and the plural's ending."""
    folded = re.sub(r"[\W_]", "", name.casefold())
    for ending, singular in _PLURALS:
        if folded.endswith(ending) and len(folded) > len(ending) + 1:
            return folded.removesuffix(ending) + singular
    is_plural = folded.endswith("s") and not folded.endswith(("ss", "us", "is"))
    return folded[:-1] if is_plural and len(folded) > 3 else folded


def _find_near(names: list[str]) -> list[tuple[str, str]]:
    """Return pairs of long names that differ by one letter.

    It is left out, put in, changed or swapped with the next.
    """
    shortened: dict[str, list[str]] = {}
    for name in names:
        if len(name) >= VARIANT_LENGTH:
            for form in {name, *(name[:at] + name[at + 1 :] for at in range(len(name)))}:
                shortened.setdefault(form, []).append(name)
    pairs = {pair for group in shortened.values() for pair in combinations(sorted(group), 2)}
    return sorted(pair for pair in pairs if pair[0][0] == pair[1][0])

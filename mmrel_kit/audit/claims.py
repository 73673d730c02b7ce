# SPDX-License-Identifier: Apache-2.0
"""Store what each yes/no question claims, so that contradictions can be queried."""

from __future__ import annotations

import sqlite3

from mmrel_kit.audit.queries import (
    CREATE_CLAIMS,
    INDEX_CLAIMS,
    INSERT_CLAIM,
    INSERT_FORBIDDEN,
    SELECT_TRIPLETS,
)
from mmrel_kit.questions.taxonomy import judge_relation, read_taxonomy


def store_claims(db: sqlite3.Connection) -> None:
    """Store the claim of each yes/no question, and the claims that a yes to it forbids.

    The SQL function `judge` is `judge_relation`.
    """
    db.create_function("judge", 2, judge_relation, deterministic=True)
    db.executescript(CREATE_CLAIMS)
    for id_, image_id, category, answer, *triplet in db.execute(SELECT_TRIPLETS):
        claim = _make_claim(category, *triplet)
        db.execute(INSERT_CLAIM, (id_, image_id, category, answer, claim))
        for forbidden in _list_forbidden(category, *triplet):
            db.execute(INSERT_FORBIDDEN, (id_, image_id, category, forbidden))
    db.execute(INDEX_CLAIMS)


def _make_claim(category: str, subject: str, relation: str, object_: str) -> str:
    """Return a triplet in the one wording of its meaning: "b right of a" as "a left of b"."""
    first, second = subject.casefold(), object_.casefold()
    listed = read_taxonomy().categories[category].listed
    known = listed.get(relation.casefold())
    if known:
        relation = known.name
        inverse = known.inverse
        if inverse and listed[inverse].inverse == relation and inverse < relation:
            first, relation, second = second, inverse, first
    return "\t".join((first, relation.casefold(), second))


def _list_forbidden(category: str, subject: str, relation: str, object_: str) -> list[str]:
    """Return the claims that a triplet excludes: the relation the other way round, its opposites.

    Relations of the category `action` and unlisted ones exclude nothing.
    """
    known = read_taxonomy().categories[category].listed.get(relation.casefold())
    if category == "action" or not known or subject.casefold() == object_.casefold():
        return []
    claims = [_make_claim(category, object_, relation, subject)]
    for opposite in known.opposites:
        claims.append(_make_claim(category, subject, opposite, object_))
    return list(dict.fromkeys(claims))

# SPDX-License-Identifier: Apache-2.0
"""Compare pictures of a release's splits: by their bytes, and by what they show.

The latter needs ImageHash (extra `audit`).
"""

from __future__ import annotations

import hashlib
import importlib
from typing import TYPE_CHECKING, Any

from mmrel_kit.extras import explain_import
from mmrel_kit.pictures.archives import read_archives
from mmrel_kit.pictures.validate import check_picture
from mmrel_kit.questions.table import make_order

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    import mmrel

# Of 64 bits; ImageHash's phash of a picture saved anew as JPEG, or scaled, differs in 0 to 4.
NEAR = 4
BANDS = NEAR + 1  # hashes that differ in 4 bits are equal in one of 5 parts at least
_BITS = 64


def rank_split(column: str) -> str:
    """Return an SQL expression for the rank of a split.

    Of a picture that is in two splits the rarer one keeps it.
    """
    return f"({make_order(column, ('adversarial', 'test', 'train'))})"


# Pictures of two names and two splits with the same bytes; of one name, questions show them.
SAME_BYTES = f"""
select sha256, id, 0 from (
    select sha256, split, image_id, min(image_id) over same as a, max(image_id) over same as b,
    min({rank_split("split")}) over same as least, max({rank_split("split")}) over same as most
    from prints window same as (partition by sha256)
) join firsts using (split, image_id) where a < b and least < most
"""
# Pictures for which a rarer split has another one that shows nearly the same.
SIMILAR = f"""
select * from (
    with twins as (
        select p.split, p.image_id, (
            select y.rowid from near n join prints y on y.phash = n.other where n.one = p.phash
            and {rank_split("y.split")} < {rank_split("p.split")} and y.sha256 != p.sha256 limit 1
        ) as twin from prints p
    )
    select t.image_id, f.id, 0 from twins t join firsts f using (split, image_id)
    where twin is not null
    union all
    select t.image_id, f.id, 0 from twins t join prints y on y.rowid = t.twin
    join firsts f on f.split = y.split and f.image_id = y.image_id
)
"""


def make_tables(db: sqlite3.Connection) -> None:
    """Make the tables of pictures, empty where they were not read, and their first questions."""
    db.executescript(
        "create table if not exists prints (split, image_id, sha256, phash);"
        "create table if not exists near (one, other);"
        "create temp view if not exists firsts as "
        "select min(rowid) as id, split, image_id from questions group by split, image_id;"
    )


def read_prints(
    db: sqlite3.Connection,
    release: mmrel.Release,
    progress: Callable[[Iterator[int], int], Iterator[int]],
) -> list[str]:
    """Read the pictures of a release and compare them; return remarks on what could not be done."""
    make_tables(db)
    imagehash, problem = _load_imagehash()
    archives = release.archives("all")
    total = sum(release.files[name]["size"] for names in archives.values() for name in names)
    for _ in progress(_read_archives(db, release, archives, imagehash), total):
        pass
    db.execute("create index by_sha256 on prints (sha256)")
    db.execute("create index by_phash on prints (phash, split)")
    if problem:
        return [f"what pictures show was not compared: {problem}"]
    _find_near(db)
    return []


def _load_imagehash() -> tuple[Any, str | None]:
    """Return the library that compares what pictures show, or None and what to install."""
    try:
        return importlib.import_module("imagehash"), None
    except ImportError as error:
        return None, explain_import(error) or str(error)


def _read_archives(
    db: sqlite3.Connection, release: mmrel.Release, archives: dict[str, list[str]], imagehash: Any
) -> Iterator[int]:
    for split, names in archives.items():
        for records, data in read_archives(release, names):
            shown = None
            if imagehash:
                picture = check_picture(data, f"{release.root}: picture {records[0]['image_id']!r}")
                shown = str(imagehash.phash(picture))
            row = (split, records[0]["image_id"], hashlib.sha256(data).hexdigest(), shown)
            db.execute("insert into prints values (?,?,?,?)", row)
            yield len(data)


def _find_near(db: sqlite3.Connection) -> None:
    """Store pairs of perceptual hashes that differ in at most `NEAR` bits, equal ones too."""
    db.create_function("differ", 2, _count_different_bits, deterministic=True)
    db.execute("create temp table bands (band, part, phash)")
    db.executemany("insert into bands values (?,?,?)", _cut(db))
    db.execute("create index temp.by_part on bands (band, part)")
    db.execute(
        "insert into near select distinct a.phash, b.phash from bands a "
        "join bands b using (band, part) "
        "where a.phash <= b.phash and differ(a.phash, b.phash) <= ?",
        (NEAR,),
    )
    db.execute("insert into near select other, one from near where one != other")
    db.execute("create index by_one on near (one, other)")


def _count_different_bits(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def _cut(db: sqlite3.Connection) -> Iterator[tuple[int, int, str]]:
    for (phash,) in db.execute("select distinct phash from prints"):
        bits = int(phash, 16)
        for band in range(BANDS):
            start, end = band * _BITS // BANDS, (band + 1) * _BITS // BANDS
            yield band, bits >> start & (1 << end - start) - 1, phash

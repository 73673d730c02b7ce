# SPDX-License-Identifier: Apache-2.0
"""The project file: items to verify, who sees which, and every decision, in an SQLite file that loses none."""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import sqlite3
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mmrel_kit.semidc.items import Proposal

VERDICTS = ("accept", "correct", "reject", "skip")
LEASE_SECONDS = 300  # how long an item that is shown to somebody is kept from others
_TABLES = """
create table if not exists meta (key text primary key, value text not null);
create table if not exists pictures (image_id text primary key, sha256 text not null);
create table if not exists items (
    id integer primary key, image_id text not null references pictures, category text not null,
    subject text not null, relation text not null, object text not null,
    confidence real, spread text, origin text not null, source text not null,
    state text not null default 'open' check (state in ('open', 'disputed', 'settled')),
    unique (image_id, category, subject, relation, object)
);
create index if not exists by_state on items (state, id);
create table if not exists decisions (
    id text primary key, item integer not null references items, annotator text not null,
    verdict text not null check (verdict in ('accept', 'correct', 'reject', 'skip')),
    subject text, relation text, object text,
    adjudicates integer not null, seconds real, decided_at text not null, undone_at text
);
create index if not exists by_item on decisions (item, annotator) where undone_at is null;
create index if not exists by_annotator on decisions (annotator, item) where undone_at is null;
create index if not exists by_order on decisions (annotator) where undone_at is null;
create index if not exists by_sha256 on pictures (sha256);
create table if not exists leases (annotator text primary key, item integer not null, adjudicates integer not null,
    until real not null);
create index if not exists by_leased on leases (item);
create view if not exists standing as select rowid as place, * from decisions where undone_at is null;
"""
# Counts that triggers keep: counting all items anew would make each decision as slow as the project
# is large.
_TALLIES = """
begin immediate;
create table if not exists tallies (
    kind text, name text, count integer not null, primary key (kind, name)
);
create trigger if not exists item_added after insert on items begin
    insert into tallies values ('state', new.state, 1)
        on conflict (kind, name) do update set count = count + 1;
end;
create trigger if not exists item_changed after update of state on items begin
    update tallies set count = count - 1 where kind = 'state' and name = old.state;
    insert into tallies values ('state', new.state, 1)
        on conflict (kind, name) do update set count = count + 1;
end;
create trigger if not exists item_removed after delete on items begin
    update tallies set count = count - 1 where kind = 'state' and name = old.state;
end;
create trigger if not exists decision_added after insert on decisions
when new.undone_at is null begin
    insert into tallies values ('by', new.annotator, 1)
        on conflict (kind, name) do update set count = count + 1;
end;
create trigger if not exists decision_undone after update of undone_at on decisions
when old.undone_at is null and new.undone_at is not null begin
    update tallies set count = count - 1 where kind = 'by' and name = new.annotator;
end;
insert into tallies select 'state', state, count(*) from items
    where not exists (select 1 from tallies where kind = 'state') group by state;
insert into tallies select 'by', annotator, count(*) from standing
    where not exists (select 1 from tallies where kind = 'by') group by annotator;
commit;
"""
_ITEM = "i.id, i.image_id, p.sha256, i.category, i.subject, i.relation, i.object, i.confidence, i.origin, i.source"
_SAID = "id, item, annotator, verdict, subject, relation, object, seconds, adjudicates, decided_at"
_DECISIONS = f"select {_SAID} from standing"
_FROM = f"select {_ITEM} from items i join pictures p using (image_id) where "
# Open to an annotator: not decided by them, and not taken by as many others as are needed.
_OPEN = """i.state = 'open' and i.id > :after
    and not exists (select 1 from standing d where d.item = i.id and d.annotator = :annotator)
    and (select count(*) from standing d where d.item = i.id and d.verdict != 'skip')
      + (select count(*) from leases l where l.item = i.id and l.annotator != :annotator and l.until > :now) < :people
    order by i.id limit 1"""
_DISPUTED = """i.state = 'disputed'
    and not exists (select 1 from standing d where d.item = i.id and d.annotator = :annotator)
    and not exists (select 1 from leases l where l.item = i.id and l.annotator != :annotator and l.until > :now)
    order by i.id limit 1"""


class Decision(NamedTuple):
    """What somebody says of an item; `triplet` is the correction. The client names it, so that it may be sent again."""

    id: str
    item: int
    annotator: str
    verdict: str
    triplet: Triplet | None = None
    seconds: float | None = None
    adjudicates: bool = False
    decided_at: str = ""


class Progress(NamedTuple):
    """How far the project is: items decided by this annotator, settled, disputed, all."""

    mine: int
    settled: int
    disputed: int
    items: int


class Project:
    """A project file, shared by threads; each decision is committed to the disk before it is acknowledged.

    Args:
        path: SQLite file.
        make: make it where it is missing; otherwise that is an error.
    """

    def __init__(self, path: Path, make: bool = False) -> None:
        if not make and not path.is_file():
            wanted = "expected a project file, found none"
            raise InputError(f"{path}: {wanted}; `mmrel label verify` makes one")
        try:
            self._db = sqlite3.connect(
                path, check_same_thread=False, isolation_level=None, timeout=30
            )
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            self._db.executescript(_TABLES)
            known = self._db.execute("select 1 from sqlite_master where name = 'tallies'")
            if known.fetchone() is None:
                self._db.executescript(_TALLIES)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path}: expected a project file: {error}") from None
        self.path = path
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get_setting(self, key: str, default: str | None = None) -> str | None:
        """A setting of the project."""
        row = self._db.execute("select value from meta where key = ?", (key,)).fetchone()
        return str(row[0]) if row else default

    def set_setting(self, key: str, value: str) -> None:
        """Keep a setting of the project."""
        with self._transaction():
            self._db.execute("insert or replace into meta values (?, ?)", (key, value))

    def signing_key(self) -> bytes:
        """A random key of the project, which signs the names of those who are signed in."""
        with self._transaction():
            self._db.execute(
                "insert or ignore into meta values ('secret', ?)", (secrets.token_hex(32),)
            )
        return bytes.fromhex(str(self.get_setting("secret")))

    @property
    def people(self) -> int:
        """How many people decide on each item."""
        return int(self.get_setting("people", "2") or 2)

    def set_people(self, people: int) -> None:
        """Change how many people decide on each item; a new number judges decided items anew."""
        with self._transaction():
            before = self.people
            self._db.execute("insert or replace into meta values ('people', ?)", (str(people),))
            if people == before:
                return
            rows = self._db.execute(f"{_DECISIONS} order by item, place")
            for item, decisions in itertools.groupby(map(_make_decision, rows), lambda d: d.item):
                self._set_state(item, _find_state(decisions, people))

    def add(self, proposals: Iterable[tuple[Proposal, str]]) -> int:
        """Add items with the hash of their picture; those that stand there already are left. Returns the new ones."""
        added = 0
        with self._transaction():
            for proposal, sha256 in proposals:
                self._add_picture(proposal.image_id, sha256)
                added += self._db.execute(
                    "insert or ignore into items (image_id, category, subject, relation, object, confidence, spread, "
                    "origin, source) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (proposal.image_id, proposal.category, *proposal.triplet, proposal.confidence,
                     json.dumps(proposal.spread) if proposal.spread else None, proposal.origin, proposal.source),
                ).rowcount  # fmt: skip
        return added

    def rename(self, change: Callable[[str, str, Triplet], Triplet]) -> int:
        """Change names in items and corrections, and return how many of them; verdicts stay.

        An item that becomes equal to another one is merged with it: its decisions move there. Of a
        person who has decided on both, the decision on the other item stands.

        Args:
            change: returns the new triplet for a picture's path, a category and a triplet.
        """
        changed = 0
        with self._transaction():
            for item in self.items():
                triplet = change(item.image_id, item.category, item.triplet)
                if triplet != item.triplet:
                    self._rename_item(item, triplet)
                    changed += 1
            by_id = {item.id: item for item in self.items()}
            for decision in self.decisions():
                if decision.triplet:
                    item = by_id[decision.item]
                    triplet = change(item.image_id, item.category, decision.triplet)
                    changed += self._rename_correction(decision, item, triplet)
        return changed

    def pictures(self) -> dict[str, str]:
        """Hash of every picture of the project's list, by its path."""
        with self._lock:
            return dict(self._db.execute("select image_id, sha256 from pictures").fetchall())

    def find_picture(self, sha256: str) -> str | None:
        """Path of a picture of the project's list, or null."""
        with self._lock:
            row = self._db.execute(
                "select image_id from pictures where sha256 = ?", (sha256,)
            ).fetchone()
        return str(row[0]) if row else None

    def next_item(self, annotator: str, adjudicate: bool = False) -> Item | None:
        """The item that an annotator is to see: the one that they have, else the next one; it is kept for them."""
        with self._transaction():
            lease = self._db.execute(
                "select item from leases where annotator = ? and adjudicates = ? and until > ?",
                (annotator, adjudicate, time.time()),
            ).fetchone()
            item = (
                self._item(lease[0])
                if lease and self._is_wanted(lease[0], annotator, adjudicate)
                else None
            )
            item = item or self._find_next(annotator, adjudicate)
            if item:
                self._lease(annotator, item.id, adjudicate)
            else:
                self._db.execute("delete from leases where annotator = ?", (annotator,))
        return item

    def decide(self, decision: Decision) -> None:
        """Keep a decision, once, however often it is sent.

        Raises:
            InputError: the item was not shown to this annotator, or is decided meanwhile; nothing is kept.
        """
        with self._transaction():
            if known := self._decision(decision.id):
                if known[:5] != decision[:5]:
                    raise InputError(
                        f"decision {decision.id[:40]!r} is kept already and says something else"
                    )
                return
            lease = self._db.execute(
                "select adjudicates, until from leases where annotator = ? and item = ?",
                (decision.annotator, decision.item),
            ).fetchone()
            if lease is None:
                raise InputError(
                    "this item is not the one that was shown to you; you see the right one now"
                )
            adjudicates, until = bool(lease[0]), lease[1]
            if not self._is_wanted(
                decision.item, decision.annotator, adjudicates, held=until > time.time()
            ):
                raise InputError(
                    "others have decided on this item meanwhile; you see the next one now"
                )
            self._db.execute(
                "insert into decisions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null)",
                (decision.id, decision.item, decision.annotator, decision.verdict,
                 *(decision.triplet or (None, None, None)), adjudicates, decision.seconds, _now()),
            )  # fmt: skip
            self._db.execute("delete from leases where annotator = ?", (decision.annotator,))
            self._update_state(decision.item)

    def undo(self, annotator: str, decision_id: str) -> tuple[Item, bool]:
        """Take back the annotator's last decision; they see its item again. Returns it, and whether they adjudicate.

        Raises:
            InputError: it is not their last one, or it was settled by another since.
        """
        with self._transaction():
            row = self._db.execute(
                "select item, adjudicates, undone_at from decisions where id = ? and annotator = ?",
                (decision_id, annotator),
            ).fetchone()
            if row is None:
                raise InputError(
                    "expected one of your own decisions to undo, found none of that name"
                )
            item, adjudicates, undone_at = row
            if undone_at is None:
                if self.last_decision(annotator) != decision_id:
                    raise InputError("only your last decision can be undone, one after the other")
                settled = "select 1 from standing where item = ? and adjudicates and id != ?"
                if self._db.execute(settled, (item, decision_id)).fetchone():
                    raise InputError(
                        "this item has been settled by another since; it stays as it is"
                    )
                self._db.execute(
                    "update decisions set undone_at = ? where id = ?", (_now(), decision_id)
                )
                self._update_state(item)
                self._lease(annotator, item, adjudicates)
            return self._item(item), bool(adjudicates)

    def peek(self, annotator: str, item: Item) -> Item | None:
        """The next item with another picture that the annotator may come to see; it is not kept for them."""
        values = {
            "annotator": annotator,
            "now": time.time(),
            "people": self.people,
            "after": item.id,
        }
        with self._lock:
            row = self._db.execute(
                _FROM + _OPEN.replace("order by", "and i.image_id != :shown order by"),
                values | {"shown": item.image_id},
            ).fetchone()
        return _make_item(row) if row else None

    def list_names(self, limit: int = 2000) -> list[str]:
        """Names of things that stand in the project's items, to complete what people type."""
        with self._lock:
            rows = self._db.execute(
                "select subject from items union select object from items order by 1 limit ?",
                (limit,),
            ).fetchall()
        return [name for (name,) in rows]

    def last_decision(self, annotator: str) -> str | None:
        """Name of the annotator's last decision that stands, or null."""
        with self._lock:
            row = self._db.execute(
                "select id from decisions indexed by by_order "
                "where annotator = ? and undone_at is null order by rowid desc limit 1",
                (annotator,),
            ).fetchone()
        return str(row[0]) if row else None

    def progress(self, annotator: str) -> Progress:
        """How far the project is, and what this annotator did."""
        with self._lock:
            query = "select name, count from tallies where kind = ?"
            states = dict(self._db.execute(query, ("state",)).fetchall())
            mine = dict(self._db.execute(f"{query} and name = ?", ("by", annotator)).fetchall())
        settled, disputed = states.get("settled", 0), states.get("disputed", 0)
        return Progress(mine.get(annotator, 0), settled, disputed, sum(states.values()))

    def items(self, state: str | None = None) -> Iterator[Item]:
        """All items, or those of a state: open, disputed, settled."""
        with self._lock:
            rows = self._db.execute(
                f"{_FROM} i.state = coalesce(?, i.state) order by i.id", (state,)
            ).fetchall()
        return map(_make_item, rows)

    def find_item(self, item: int) -> Item | None:
        """An item by its number, or null."""
        with self._lock:
            row = self._db.execute(f"{_FROM} i.id = ?", (item,)).fetchone()
        return _make_item(row) if row else None

    def votes(self, item: int) -> list[dict[str, Any]]:
        """What people said of an item, without their names, the most frequent first."""
        said = Counter((d.verdict, d.triplet) for d in self.decisions(item) if d.verdict != "skip")
        return [
            {"verdict": v, "triplet": triplet, "count": count}
            for (v, triplet), count in said.most_common()
        ]

    def decisions(self, item: int | None = None) -> Iterator[Decision]:
        """All decisions that stand, skips as well, in the order of their coming; or those on an item."""
        with self._lock:
            # One query for both (`item = coalesce(?, item)`) could not use the index.
            condition, values = ("", ()) if item is None else ("where item = ?", (item,))
            rows = self._db.execute(f"{_DECISIONS} {condition} order by place", values).fetchall()
        return map(_make_decision, rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """One thread at a time; other processes wait. All is committed at the end, or nothing."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def _add_picture(self, image_id: str, sha256: str) -> None:
        known = self._db.execute(
            "select sha256 from pictures where image_id = ?", (image_id,)
        ).fetchone()
        if known and known[0] != sha256:
            raise InputError(
                f"picture {image_id!r} differs from the one that people have judged; name it anew"
            )
        self._db.execute("insert or ignore into pictures values (?, ?)", (image_id, sha256))

    def _rename_item(self, item: Item, triplet: Triplet) -> None:
        is_same = " and ".join(f"{name} = ?" for name in ("image_id", "category", *Triplet._fields))
        values = (item.image_id, item.category, *triplet)
        twin = self._db.execute(f"select id from items where {is_same}", values).fetchone()
        if twin is None:
            query = "update items set subject = ?, relation = ?, object = ? where id = ?"
            self._db.execute(query, (*triplet, item.id))
            return
        (kept,) = twin
        self._db.execute(
            "update decisions set undone_at = ? where item = ? and undone_at is null "
            "and annotator in (select annotator from standing where item = ?)",
            (_now(), item.id, kept),
        )
        self._db.execute("update decisions set item = ? where item = ?", (kept, item.id))
        self._db.execute("delete from leases where item = ?", (item.id,))
        self._db.execute("delete from items where id = ?", (item.id,))
        self._update_state(kept)

    def _rename_correction(self, decision: Decision, item: Item, triplet: Triplet) -> bool:
        """Change a correction, and return whether it changed; one that repeats its item accepts."""
        accepts = triplet == item.triplet
        if triplet == decision.triplet and not accepts:
            return False
        said = ("accept", None, None, None) if accepts else ("correct", *triplet)
        self._db.execute(
            "update decisions set verdict = ?, subject = ?, relation = ?, object = ? where id = ?",
            (*said, decision.id),
        )
        self._update_state(item.id)
        return True

    def _find_next(self, annotator: str, adjudicate: bool) -> Item | None:
        values = {"annotator": annotator, "now": time.time(), "people": self.people, "after": 0}
        if adjudicate:
            row = self._db.execute(_FROM + _DISPUTED, values).fetchone()
            return _make_item(row) if row else None
        # From the annotator's last item on; what became free before it (undone, left behind) comes at the end.
        last = self._db.execute(
            "select max(item) from standing where annotator = ?", (annotator,)
        ).fetchone()[0]
        for after in dict.fromkeys((last or 0, 0)):
            if row := self._db.execute(_FROM + _OPEN, values | {"after": after}).fetchone():
                return _make_item(row)
        return None

    def _is_wanted(self, item: int, annotator: str, adjudicates: bool, held: bool = True) -> bool:
        """Whether a decision of this annotator on an item is still wanted; `held`: nobody else was let in since."""
        condition = _DISPUTED if adjudicates else _OPEN
        now = float("inf") if held else time.time()  # who holds an item does not yield to others
        values = {"annotator": annotator, "now": now, "people": self.people, "after": item - 1}
        row = self._db.execute(
            _FROM + condition.replace("order by", "and i.id = :item order by"),
            values | {"item": item},
        )
        return row.fetchone() is not None

    def _lease(self, annotator: str, item: int, adjudicates: bool) -> None:
        values = (annotator, item, adjudicates, time.time() + LEASE_SECONDS)
        self._db.execute("insert or replace into leases values (?, ?, ?, ?)", values)

    def _item(self, item: int) -> Item:
        return _make_item(self._db.execute(f"{_FROM} i.id = ?", (item,)).fetchone())

    def _decision(self, decision_id: str) -> Decision | None:
        query = f"select {_SAID} from decisions where id = ?"
        row = self._db.execute(query, (decision_id,)).fetchone()
        return _make_decision(row) if row else None

    def _update_state(self, item: int) -> None:
        self._set_state(item, _find_state(self.decisions(item), self.people))

    def _set_state(self, item: int, state: str) -> None:
        query = "update items set state = ? where id = ? and state != ?"
        self._db.execute(query, (state, item, state))


def _find_state(decisions: Iterable[Decision], people: int) -> str:
    """Return an item's state: settled once enough people agree, or one judges between them."""
    decided = [decision for decision in decisions if decision.verdict != "skip"]
    if any(decision.adjudicates for decision in decided):
        return "settled"
    if len(decided) < people:
        return "open"
    return "settled" if len({(d.verdict, d.triplet) for d in decided}) == 1 else "disputed"


def _make_item(row: tuple[Any, ...]) -> Item:
    return Item._make((*row[:4], Triplet(*row[4:7]), *row[7:]))


def _make_decision(row: tuple[Any, ...]) -> Decision:
    triplet = Triplet(*row[4:7]) if row[4] is not None else None
    return Decision._make((*row[:4], triplet, row[7], bool(row[8]), row[9]))


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

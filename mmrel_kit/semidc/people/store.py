# SPDX-License-Identifier: Apache-2.0
"""The project file: an SQLite file with items to verify, who sees which, and all decisions."""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Item, Proposal
from mmrel_kit.semidc.people import queries

VERDICTS = ("accept", "correct", "reject", "skip")
LEASE_SECONDS = 300  # for which an item that somebody sees is withheld from others
MAX_NAMES = 2000  # that the page offers to complete what annotators type


class Decision(NamedTuple):
    """An annotator's verdict on an item.

    Attributes:
        id: chosen by the client, so that sending a decision twice stores it once.
        verdict: one of `VERDICTS`.
        triplet: the correction; None for other verdicts.
        seconds: time from showing the item to the decision, or None.
        adjudicates: True if the decision settles a disagreement of others.
        decided_at: time in UTC, set by the project.
    """

    id: str
    item: int
    annotator: str
    verdict: str
    triplet: Triplet | None = None
    seconds: float | None = None
    adjudicates: bool = False
    decided_at: str = ""


class Progress(NamedTuple):
    """Numbers of items: decided on by this annotator, settled, disputed, and all."""

    mine: int
    settled: int
    disputed: int
    items: int


class Project:
    """A project file. Threads may share it; a decision is on disk before `decide` returns.

    `make` creates the SQLite file if it is missing.

    Raises:
        InputError: the file is missing, or is not a project file.
    """

    def __init__(self, path: Path, make: bool = False) -> None:
        if not make and not path.is_file():
            raise InputError(
                f"{path}: expected a project file, found none; `mmrel label verify` makes one"
            )
        try:
            self._db = sqlite3.connect(
                path, check_same_thread=False, isolation_level=None, timeout=30
            )
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            self._db.executescript(queries.CREATE_TABLES)
            if self._db.execute(queries.HAS_TALLIES).fetchone() is None:
                self._db.executescript(queries.CREATE_TALLIES)
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path}: expected a project file: {error}") from None
        self.path = path
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- Settings ---

    def get_setting(self, key: str) -> str | None:
        """Return a setting of the project, or None."""
        row = self._db.execute(queries.GET_SETTING, (key,)).fetchone()
        return str(row[0]) if row else None

    def set_setting(self, key: str, value: str) -> None:
        """Store a setting of the project."""
        with self._transaction():
            self._db.execute(queries.SET_SETTING, (key, value))

    def signing_key(self) -> bytes:
        """Return the project's random key, which signs the cookies of annotators."""
        with self._transaction():
            self._db.execute(queries.SET_DEFAULT, ("secret", secrets.token_hex(32)))
        return bytes.fromhex(str(self.get_setting("secret")))

    @property
    def people(self) -> int:
        """Return the number of people who decide on each item."""
        return int(self.get_setting("people") or 2)

    def set_people(self, people: int) -> None:
        """Set the number of people who decide on each item, and update the items' states."""
        with self._transaction():
            before = self.people
            self._db.execute(queries.SET_SETTING, ("people", str(people)))
            if people == before:
                return
            rows = self._db.execute(queries.LIST_DECISIONS_BY_ITEM)
            for item, decisions in itertools.groupby(map(_make_decision, rows), lambda d: d.item):
                self._set_state(item, _find_state(decisions, people))

    # --- Items and pictures ---

    def add(self, proposals: Iterable[tuple[Proposal, str]]) -> int:
        """Add proposals, each with the hash of its picture, and return the number of new items.

        Raises:
            InputError: a picture has changed since it was added; nothing is added.
        """
        added = 0
        with self._transaction():
            for proposal, sha256 in proposals:
                self._add_picture(proposal.image_id, sha256)
                spread = json.dumps(proposal.spread) if proposal.spread else None
                values = (
                    *(proposal.image_id, proposal.category, *proposal.triplet),
                    *(proposal.confidence, spread, proposal.origin, proposal.source),
                )
                added += self._db.execute(queries.ADD_ITEM, values).rowcount
        return added

    def rename(self, change: Callable[[str, str, Triplet], Triplet]) -> int:
        """Change triplets of items and corrections; verdicts stay.

        An item that becomes equal to another one is merged into it, with its decisions. If a
        person decided on both, only the decision on the other item remains valid.

        `change` returns the new triplet for a picture's path, a category and a triplet.

        Returns:
            The number of items and corrections that changed.
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

    def items(self, state: str | None = None) -> Iterator[Item]:
        """Return all items, or those of a state: open, disputed or settled."""
        if state is None:
            return map(_make_item, self._fetch(queries.LIST_ITEMS))
        return map(_make_item, self._fetch(queries.LIST_ITEMS_IN_STATE, (state,)))

    def find_item(self, item: int) -> Item | None:
        """Return an item by its number, or None."""
        return self._fetch_item(queries.GET_ITEM, {"item": item})

    def pictures(self) -> dict[str, str]:
        """Return the hash of each of the project's pictures, by path."""
        return dict(self._fetch(queries.LIST_PICTURES))

    def find_picture(self, sha256: str) -> str | None:
        """Return the path of the project's picture with a hash, or None."""
        rows = self._fetch(queries.FIND_PICTURE, (sha256,))
        return str(rows[0][0]) if rows else None

    def list_names(self) -> list[str]:
        """Return names of things in the project's items, to complete what annotators type."""
        return [name for (name,) in self._fetch(queries.LIST_NAMES, (MAX_NAMES,))]

    # --- What an annotator sees and decides ---

    def next_item(self, annotator: str, adjudicate: bool = False) -> Item | None:
        """Return the item that an annotator should see, and lease it to them.

        This is the item that they see already, or else the next open (or disputed) one.
        """
        with self._transaction():
            item = self._find_leased(annotator, adjudicate)
            if item is None:
                item = self._find_next(annotator, adjudicate)
            if item:
                self._lease(annotator, item.id, adjudicate)
            else:
                self._db.execute(queries.DELETE_LEASE, (annotator,))
        return item

    def peek(self, annotator: str, item: Item) -> Item | None:
        """Return the next open item with another picture, without leasing it."""
        values = self._describe_annotator(annotator)
        values |= {"after": item.id, "image_id": item.image_id}
        return self._fetch_item(queries.PEEK_OPEN, values)

    def decide(self, decision: Decision) -> None:
        """Store a decision; storing it again has no effect.

        Raises:
            InputError: the item was not shown to this annotator, or others have decided on it in
                the meantime; nothing is stored.
        """
        with self._transaction():
            known = self._find_decision(decision.id)
            if known:
                if known[:5] != decision[:5]:
                    raise InputError(
                        f"decision {decision.id[:40]!r} was saved before with other content"
                    )
                return
            adjudicates = self._check_lease(decision)
            words = decision.triplet or (None, None, None)
            values = (
                *(decision.id, decision.item, decision.annotator, decision.verdict, *words),
                *(adjudicates, decision.seconds, _now()),
            )
            self._db.execute(queries.ADD_DECISION, values)
            self._db.execute(queries.DELETE_LEASE, (decision.annotator,))
            self._update_state(decision.item)

    def undo(self, annotator: str, decision_id: str) -> tuple[Item, bool]:
        """Undo an annotator's last decision and lease its item to them.

        Returns:
            The item, and whether the decision was an adjudication.

        Raises:
            InputError: it is not their last decision, or somebody else has settled the item since.
        """
        with self._transaction():
            row = self._db.execute(queries.GET_OWN_DECISION, (decision_id, annotator)).fetchone()
            if row is None:
                raise InputError("expected one of your own decisions to undo, got an unknown one")
            number, adjudicates, undone_at = row
            if undone_at is None:
                if self.last_decision(annotator) != decision_id:
                    raise InputError("only your last decision can be undone; undo later ones first")
                if self._db.execute(queries.IS_ADJUDICATED, (number, decision_id)).fetchone():
                    raise InputError("somebody else has settled this item since; it stays settled")
                self._db.execute(queries.UNDO_DECISION, (_now(), decision_id))
                self._update_state(number)
                self._lease(annotator, number, adjudicates)
            item = _make_item(self._db.execute(queries.GET_ITEM, {"item": number}).fetchone())
            return item, bool(adjudicates)

    def decisions(self, item: int | None = None) -> Iterator[Decision]:
        """Return all valid decisions, or those on an item, oldest first; skips included."""
        if item is None:
            return map(_make_decision, self._fetch(queries.LIST_DECISIONS))
        return map(_make_decision, self._fetch(queries.LIST_DECISIONS_ON_ITEM, (item,)))

    def last_decision(self, annotator: str) -> str | None:
        """Return the id of the annotator's last valid decision, or None."""
        rows = self._fetch(queries.LAST_DECISION, (annotator,))
        return str(rows[0][0]) if rows else None

    def votes(self, item: int) -> list[dict[str, Any]]:
        """Return the verdicts on an item with their counts, most frequent first, without names."""
        decisions = [d for d in self.decisions(item) if d.verdict != "skip"]
        counts = Counter((decision.verdict, decision.triplet) for decision in decisions)
        return [
            {"verdict": verdict, "triplet": triplet, "count": count}
            for (verdict, triplet), count in counts.most_common()
        ]

    def progress(self, annotator: str) -> Progress:
        """Return the progress of the project and of an annotator."""
        with self._lock:
            states = dict(self._db.execute(queries.COUNT_ITEMS).fetchall())
            mine = self._db.execute(queries.COUNT_DECISIONS, (annotator,)).fetchone()
        settled, disputed = states.get("settled", 0), states.get("disputed", 0)
        return Progress(mine[0] if mine else 0, settled, disputed, sum(states.values()))

    # --- Private ---

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit everything at the end or nothing; other threads and processes wait."""
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

    def _fetch(self, query: str, values: Any = ()) -> list[Any]:
        """Return all rows of a query; threads take turns."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def _fetch_item(self, query: str, values: dict[str, Any]) -> Item | None:
        rows = self._fetch(query, values)
        return _make_item(rows[0]) if rows else None

    def _add_picture(self, image_id: str, sha256: str) -> None:
        known = self._db.execute(queries.GET_HASH, (image_id,)).fetchone()
        if known and known[0] != sha256:
            raise InputError(
                f"picture {image_id!r} differs from the one that people have judged; "
                "save it under another name"
            )
        self._db.execute(queries.ADD_PICTURE, (image_id, sha256))

    def _rename_item(self, item: Item, triplet: Triplet) -> None:
        values = (item.image_id, item.category, *triplet)
        twin = self._db.execute(queries.FIND_TWIN, values).fetchone()
        if twin is None:
            self._db.execute(queries.RENAME_ITEM, (*triplet, item.id))
            return
        (kept,) = twin
        self._db.execute(queries.UNDO_DUPLICATES, (_now(), item.id, kept))
        self._db.execute(queries.MOVE_DECISIONS, (kept, item.id))
        self._db.execute(queries.DELETE_LEASES_OF_ITEM, (item.id,))
        self._db.execute(queries.DELETE_ITEM, (item.id,))
        self._update_state(kept)

    def _rename_correction(self, decision: Decision, item: Item, triplet: Triplet) -> bool:
        """Change a correction and return whether it changed; one equal to its item accepts it."""
        if triplet == item.triplet:
            new: tuple[str | None, ...] = ("accept", None, None, None)
        elif triplet == decision.triplet:
            return False
        else:
            new = ("correct", *triplet)
        self._db.execute(queries.CHANGE_DECISION, (*new, decision.id))
        self._update_state(item.id)
        return True

    def _find_leased(self, annotator: str, adjudicate: bool) -> Item | None:
        """Return the item that is leased to an annotator, if it still needs their decision."""
        values = (annotator, adjudicate, time.time())
        row = self._db.execute(queries.GET_LEASED_ITEM, values).fetchone()
        return self._find_if_needed(row[0], annotator, adjudicate) if row else None

    def _find_next(self, annotator: str, adjudicate: bool) -> Item | None:
        values = self._describe_annotator(annotator)
        if adjudicate:
            return self._fetch_item(queries.NEXT_DISPUTED, values)
        # Continue after the annotator's last item. Earlier ones that became open again come last.
        last = self._db.execute(queries.LAST_ITEM, (annotator,)).fetchone()[0] or 0
        item = self._fetch_item(queries.NEXT_OPEN, values | {"after": last})
        if item is None and last:
            item = self._fetch_item(queries.NEXT_OPEN, values | {"after": 0})
        return item

    def _find_if_needed(
        self, item: int, annotator: str, adjudicates: bool, is_held: bool = True
    ) -> Item | None:
        """Return an item if it needs a decision of this annotator.

        `is_held` says whether their lease is valid, so that the leases of others do not count.
        """
        values = self._describe_annotator(annotator) | {"item": item}
        if is_held:
            values["now"] = float("inf")
        query = queries.CHECK_DISPUTED if adjudicates else queries.CHECK_OPEN
        return self._fetch_item(query, values)

    def _check_lease(self, decision: Decision) -> bool:
        """Return whether a decision is an adjudication; raise if it is not wanted."""
        values = (decision.annotator, decision.item)
        row = self._db.execute(queries.GET_LEASE, values).fetchone()
        if row is None:
            raise InputError(
                "this item is not the one that was shown to you; you see the right one now"
            )
        adjudicates, is_held = bool(row[0]), row[1] > time.time()
        if not self._find_if_needed(decision.item, decision.annotator, adjudicates, is_held):
            raise InputError("others have decided on this item meanwhile; you see the next one now")
        return adjudicates

    def _lease(self, annotator: str, item: int, adjudicates: bool) -> None:
        values = (annotator, item, adjudicates, time.time() + LEASE_SECONDS)
        self._db.execute(queries.SET_LEASE, values)

    def _describe_annotator(self, annotator: str) -> dict[str, Any]:
        """Return the parameters of all queries for open and disputed items."""
        return {"annotator": annotator, "now": time.time(), "people": self.people}

    def _find_decision(self, decision_id: str) -> Decision | None:
        row = self._db.execute(queries.GET_DECISION, (decision_id,)).fetchone()
        return _make_decision(row) if row else None

    def _update_state(self, item: int) -> None:
        self._set_state(item, _find_state(self.decisions(item), self.people))

    def _set_state(self, item: int, state: str) -> None:
        self._db.execute(queries.SET_STATE, (state, item, state))


def _find_state(decisions: Iterable[Decision], people: int) -> str:
    """Return the state of an item: settled once enough people agree, or one adjudicates."""
    verdicts = [decision for decision in decisions if decision.verdict != "skip"]
    if any(decision.adjudicates for decision in verdicts):
        return "settled"
    if len(verdicts) < people:
        return "open"
    is_unanimous = len({(decision.verdict, decision.triplet) for decision in verdicts}) == 1
    return "settled" if is_unanimous else "disputed"


def _make_item(row: tuple[Any, ...]) -> Item:
    return Item._make((*row[:4], Triplet(*row[4:7]), *row[7:]))


def _make_decision(row: tuple[Any, ...]) -> Decision:
    triplet = Triplet(*row[4:7]) if row[4] is not None else None
    return Decision._make((*row[:4], triplet, row[7], bool(row[8]), row[9]))


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

"""The project file: who sees what, what becomes of decisions, and that none is lost."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from release.records import InputError, Triplet
from semidc import store
from semidc.store import Decision, Project, Proposal

if TYPE_CHECKING:
    from collections.abc import Iterator

STAND = Triplet("person", "stand", "surfboard")


def propose(count: int) -> Iterator[tuple[Proposal, str]]:
    for n in range(count):
        triplet = Triplet("person", "ride", f"horse {n}")
        yield Proposal(f"vg/VG_100K/{n // 2}.jpg", "action", triplet, 0.5, None, "model", "test"), f"{n // 2:064x}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project.sqlite", make=True)
    made.add(propose(4))
    yield made
    made.close()


def decide(project: Project, name: str, verdict: str = "accept", adjudicate: bool = False, **options: object) -> int:
    item = project.next_item(name, adjudicate)
    assert item
    number = f"{name}-{item.id}-{project.progress(name).mine}"
    project.decide(Decision(number, item.id, name, verdict, **options))  # type: ignore[arg-type]
    return item.id


def states(project: Project) -> list[str]:
    with sqlite3.connect(project.path) as db:
        return [state for (state,) in db.execute("select state from items order by id")]


def test_the_file_is_written_through_to_the_disk(project: Project) -> None:
    assert project._db.execute("pragma journal_mode").fetchone() == ("wal",)
    assert project._db.execute("pragma synchronous").fetchone() == (2,)


def test_items_are_added_once(project: Project) -> None:
    assert project.add(propose(6)) == 2
    assert project.progress("ann").items == 6


def test_a_picture_that_changed_is_refused_and_nothing_is_added(project: Project) -> None:
    added = [(proposal, "f" * 64) for proposal, _ in propose(6)]
    with pytest.raises(InputError, match=r"picture 'vg/VG_100K/0.jpg' differs from the one that people have judged"):
        project.add(added)
    assert project.progress("ann").items == 4


def test_each_item_is_decided_by_as_many_people_as_are_needed(project: Project) -> None:
    project.set_people(2)
    for name in ("ann", "ben"):
        assert [decide(project, name) for _ in range(4)] == [1, 2, 3, 4]
        assert project.next_item(name) is None
    assert project.next_item("cy") is None
    assert states(project) == ["settled"] * 4


def test_an_item_that_is_shown_to_enough_people_is_kept_from_others(project: Project) -> None:
    project.set_people(1)
    shown = [project.next_item(name) for name in ("ann", "ben", "ann", "cy")]
    assert [item.id if item else None for item in shown] == [1, 2, 1, 3]


def test_what_is_left_behind_goes_to_others(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.set_people(1)
    item = project.next_item("ann")
    now = store.time.time() + store.LEASE_SECONDS + 1
    monkeypatch.setattr(store.time, "time", lambda: now)
    other = project.next_item("ben")
    assert item == other
    with pytest.raises(InputError, match="others have decided on this item meanwhile"):
        project.decide(Decision("a", 1, "ann", "accept"))
    project.decide(Decision("b", 1, "ben", "accept"))
    assert [d.annotator for d in project.decisions()] == ["ben"]


def test_who_comes_back_late_may_decide_where_nobody_else_did(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.next_item("ann")
    now = store.time.time() + store.LEASE_SECONDS + 1
    monkeypatch.setattr(store.time, "time", lambda: now)
    project.decide(Decision("a", 1, "ann", "accept"))
    assert [d.annotator for d in project.decisions()] == ["ann"]


def test_only_the_item_that_was_shown_can_be_decided(project: Project) -> None:
    project.next_item("ann")
    with pytest.raises(InputError, match="not the one that was shown to you"):
        project.decide(Decision("a", 2, "ann", "accept"))
    with pytest.raises(InputError, match="not the one that was shown to you"):
        project.decide(Decision("a", 1, "ben", "accept"))
    assert not list(project.decisions())


def test_a_decision_that_is_sent_again_is_kept_once(project: Project) -> None:
    project.next_item("ann")
    decision = Decision("a", 1, "ann", "correct", STAND)
    project.decide(decision)
    project.decide(decision)
    assert [d.triplet for d in project.decisions()] == [STAND]
    with pytest.raises(InputError, match="is kept already and says something else"):
        project.decide(Decision("a", 1, "ann", "reject"))


def test_undo_takes_back_the_last_decision_and_the_one_before(project: Project) -> None:
    for _ in range(3):
        decide(project, "ann")
    assert project.last_decision("ann") == "ann-3-2"
    with pytest.raises(InputError, match="only your last decision can be undone"):
        project.undo("ann", "ann-1-0")
    for expected in (3, 3, 2):  # sent again, it is undone once
        item, _ = project.undo("ann", {3: "ann-3-2", 2: "ann-2-1"}[expected])
        assert item.id == expected
    assert project.next_item("ann").id == 2  # type: ignore[union-attr]
    with pytest.raises(InputError, match="one of your own decisions"):
        project.undo("ben", "ann-1-0")
    assert [d.item for d in project.decisions()] == [1]


def test_an_item_that_was_skipped_is_left_to_others(project: Project) -> None:
    assert decide(project, "ann", "skip") == 1
    assert project.next_item("ann").id == 2  # type: ignore[union-attr]
    assert [decide(project, name) for name in ("ben", "cy")] == [1, 1]
    assert states(project)[0] == "settled"


@pytest.mark.parametrize("last", ["accept", "reject", "correct"])
def test_a_third_person_settles_what_two_disagree_on(project: Project, last: str) -> None:
    decide(project, "ann", "correct", triplet=STAND)
    decide(project, "ben", "reject")
    assert states(project)[0] == "disputed"
    assert [(v["verdict"], v["count"]) for v in project.votes(1)] == [("correct", 1), ("reject", 1)]
    assert project.next_item("ann", adjudicate=True) is None
    assert project.next_item("cy").id == 2  # type: ignore[union-attr]  # an ordinary turn does not show it
    decide(project, "cy", last, adjudicate=True, triplet=STAND if last == "correct" else None)
    assert states(project)[0] == "settled"
    with pytest.raises(InputError, match="has been settled by another since"):
        project.undo("ben", "ben-1-0")
    project.undo("cy", "cy-1-0")
    assert states(project)[0] == "disputed"


def test_two_who_correct_alike_agree(project: Project) -> None:
    for name in ("ann", "ben"):
        decide(project, name, "correct", triplet=STAND)
    assert states(project)[0] == "settled"


def test_more_people_reopen_what_was_settled(project: Project) -> None:
    project.set_people(1)
    decide(project, "ann")
    assert states(project)[0] == "settled"
    project.set_people(2)
    assert states(project)[0] == "open"
    assert project.next_item("ben").id == 1  # type: ignore[union-attr]


def test_many_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path / "project.sqlite", make=True)
    project.add(propose(60))
    project.set_people(2)

    def work(name: str) -> None:
        while project.next_item(name):
            decide(project, name)

    threads = [threading.Thread(target=work, args=(f"person {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    decided = [(d.item, d.annotator) for d in project.decisions()]
    assert len(decided) == len(set(decided)) == 120
    assert states(project) == ["settled"] * 60
    project.close()


def test_what_is_no_project_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.sqlite: expected a project file, found none"):
        Project(tmp_path / "no.sqlite")
    (tmp_path / "text").write_bytes(b"this is text " * 99)
    with pytest.raises(InputError, match="text: expected a project file"):
        Project(tmp_path / "text")


WORK = """
import sys
from pathlib import Path
from semidc.store import Decision, Project
project = Project(Path(sys.argv[1]))
while item := project.next_item("ann"):
    project.decide(Decision(f"ann-{item.id}", item.id, "ann", "accept"))
    print(f"kept ann-{item.id}", flush=True)
"""


def test_of_500_decisions_none_is_lost_by_kill_9(tmp_path: Path) -> None:
    project = Project(tmp_path / "project.sqlite", make=True)
    project.add(propose(600))
    kept: list[str] = []
    while len(kept) < 500:
        command = [sys.executable, "-c", WORK, str(project.path)]
        root = Path(store.__file__).parent.parent
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                kept += re.findall(r"kept (\S+)\n", line)
                if len(kept) % 125 == 0:
                    process.kill()
    standing = [d.id for d in project.decisions()]
    assert set(kept) <= set(standing)
    assert len(standing) == len(set(standing)) >= 500
    project.close()

"""The project file: who sees what, what becomes of decisions, and that none is lost."""

from __future__ import annotations

import contextlib
import random
import re
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmrel_kit.files import InputError
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Proposal
from mmrel_kit.semidc.people import store
from mmrel_kit.semidc.people.store import Decision, Project
from tests.helpers.labelling import decide

if TYPE_CHECKING:
    from collections.abc import Iterator

STAND = Triplet("person", "stand", "surfboard")


def propose(count: int) -> Iterator[tuple[Proposal, str]]:
    for n in range(count):
        triplet = Triplet("person", "ride", f"horse {n}")
        yield (
            Proposal(f"vg/VG_100K/{n // 2}.jpg", "action", triplet, 0.5, None, "model", "test"),
            f"{n // 2:064x}",
        )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project.sqlite", make=True)
    made.add(propose(4))
    yield made
    made.close()


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
    with pytest.raises(
        InputError, match=r"picture 'vg/VG_100K/0.jpg' differs from the one that people have judged"
    ):
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


def test_what_is_left_behind_goes_to_others(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    with pytest.raises(InputError, match="was saved before with other content"):
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
    # An ordinary turn does not show it.
    assert project.next_item("cy").id == 2  # type: ignore[union-attr]
    decide(project, "cy", last, adjudicate=True, triplet=STAND if last == "correct" else None)
    assert states(project)[0] == "settled"
    with pytest.raises(InputError, match="somebody else has settled this item since"):
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
from mmrel_kit.semidc.people.store import Decision, Project
from tests.helpers.labelling import decide
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
        root = Path(__file__).resolve().parent.parent
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


# ---- large projects: what is kept counted, and a change of how many people decide


def plain_states(project: Project) -> list[str]:
    """The state of every item by looking at all its decisions."""
    found = []
    decisions = list(project.decisions())
    for item in project.items():
        decided = [d for d in decisions if d.item == item.id and d.verdict != "skip"]
        said = {(d.verdict, d.triplet) for d in decided}
        if any(d.adjudicates for d in decided):
            found.append("settled")
        elif len(decided) < project.people:
            found.append("open")
        else:
            found.append("settled" if len(said) == 1 else "disputed")
    return found


def check_counts(project: Project, *names: str) -> None:
    """Counts and last decisions as they are by looking at everything."""
    counted = Counter(states(project))
    standing = list(project.decisions())
    for name in names:
        own = [d.id for d in standing if d.annotator == name]
        expected = (len(own), counted["settled"], counted["disputed"], counted.total())
        assert project.progress(name) == expected
        assert project.last_decision(name) == (own[-1] if own else None)


def play(project: Project, chance: random.Random, names: tuple[str, ...], steps: int) -> None:
    """Decide, adjudicate, skip and undo at random."""
    for step in range(steps):
        name, adjudicates = chance.choice(names), chance.random() < 0.3
        last = project.last_decision(name)
        if last and chance.random() < 0.2:
            with contextlib.suppress(InputError):  # settled by another since
                project.undo(name, last)
        elif item := project.next_item(name, adjudicates):
            verdict = chance.choice(store.VERDICTS)
            triplet = STAND if verdict == "correct" else None
            number = f"{name}-{item.id}-{step}-{chance.random()}"
            project.decide(Decision(number, item.id, name, verdict, triplet))


@contextlib.contextmanager
def expect_refusal(message: str) -> Iterator[None]:
    """Allow an `InputError` that starts with this message, and no other."""
    try:
        yield
    except InputError as error:
        assert str(error).startswith(message)


@pytest.mark.parametrize("seed", range(12))
def test_states_and_counts_are_those_of_all_decisions(tmp_path: Path, seed: int) -> None:
    chance, names = random.Random(seed), ("ann", "ben", "cy", "dan")
    project = Project(tmp_path / "project.sqlite", make=True)
    project.add(propose(15))
    for _ in range(6):
        play(project, chance, names, 25)
        check_counts(project, *names, "nobody")
        project.set_people(chance.choice((1, 2, 3)))
        assert states(project) == plain_states(project)
        check_counts(project, *names)
    project.close()


def test_nothing_is_judged_anew_where_the_number_of_people_stays(project: Project) -> None:
    # Every start with --people K judged every item anew: 303 s for 50,000 decisions.
    for name in ("ann", "ben"):
        decide(project, name)
    statements: list[str] = []
    project._db.set_trace_callback(statements.append)
    project.set_people(2)
    project._db.set_trace_callback(None)
    assert not [text for text in statements if "decisions" in text or "items" in text]
    assert project.get_setting("people") == "2"


def test_no_statement_of_a_decision_looks_at_all_decisions_or_items(project: Project) -> None:
    # A decision looked at all of them, by a condition that no index serves; so did the counts.
    statements: list[str] = []
    project._db.set_trace_callback(statements.append)
    decide(project, "ann")
    decide(project, "ben")
    project.votes(1)
    project.peek("ann", project.find_item(1))  # type: ignore[arg-type]
    project.last_decision("ann")
    project.find_picture("0" * 64)
    project._db.set_trace_callback(None)
    plans = []
    for text in statements:
        if text.startswith("select"):
            query = f"explain query plan {text.replace('Inf', '9e999')}"
            plans += [row[3] for row in project._db.execute(query)]
    assert len(plans) > 10
    scanned = {plan for plan in plans if plan.startswith("SCAN")}
    assert scanned <= {"SCAN CONSTANT ROW"}


OLD_OBJECTS = (
    *("trigger item_added", "trigger item_changed", "trigger item_removed"),
    *("trigger decision_added", "trigger decision_undone", "table tallies"),
    *("index by_order", "index by_sha256"),
)


def make_old(project: Project) -> Path:
    """Make the file what version 1.0.0 left: no counts, fewer indexes."""
    for name in OLD_OBJECTS:
        project._db.execute(f"drop {name}")
    project.close()
    return project.path


def test_a_project_of_version_1_0_0_is_counted_once_opened(project: Project) -> None:
    play(project, random.Random(1), ("ann", "ben", "cy"), 12)
    path = make_old(project)
    for _ in range(2):
        opened = Project(path)
        check_counts(opened, "ann", "ben", "cy")
        play(opened, random.Random(2), ("ann", "ben", "cy"), 5)
        check_counts(opened, "ann", "ben", "cy")
        opened.close()


def test_two_who_open_an_old_project_at_once_count_it_once(project: Project) -> None:
    play(project, random.Random(1), ("ann", "ben"), 12)
    path, barrier = make_old(project), threading.Barrier(4)
    opened: list[Project] = []

    def work() -> None:
        barrier.wait()
        mine = Project(path)
        opened.append(mine)
        play(mine, random.Random(len(opened)), (f"person {id(mine)}",), 3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    check_counts(opened[0], "ann", "ben", *(f"person {id(one)}" for one in opened))
    for one in opened:
        one.close()


def test_people_decide_while_their_number_changes(tmp_path: Path) -> None:
    path = tmp_path / "project.sqlite"
    Project(path, make=True).add(propose(30))

    def work(name: str) -> None:
        mine, chance = Project(path), random.Random(name)
        for _ in range(15):
            # An item that this person was shown may be settled once fewer people have to decide.
            with expect_refusal("others have decided on this item meanwhile"):
                play(mine, chance, (name,), 1)
        mine.close()

    names = ("ann", "ben", "cy")
    lead = Project(path)
    with ThreadPoolExecutor() as threads:
        workers = [threads.submit(work, name) for name in names]
        while not all(worker.done() for worker in workers):
            for people in (1, 3, 2):
                lead.set_people(people)
    for worker in workers:
        worker.result()
    assert states(lead) == plain_states(lead)
    check_counts(lead, *names)
    lead.close()


CHANGE = """
import sys
from pathlib import Path
from mmrel_kit.semidc.people.store import Project
project = Project(Path(sys.argv[1]))
while True:
    for people in (1, 3, 2):
        project.set_people(people)
        print("changed", flush=True)
"""


def test_kill_9_leaves_states_that_fit_the_number_of_people(tmp_path: Path) -> None:
    path = tmp_path / "project.sqlite"
    project = Project(path, make=True)
    project.add(propose(200))
    play(project, random.Random(1), ("ann", "ben", "cy"), 500)
    root = Path(__file__).resolve().parent.parent
    for number in range(5):
        command = [sys.executable, "-c", CHANGE, str(path)]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for _ in range(number + 1):
                process.stdout.readline()
            process.kill()
        assert states(project) == plain_states(project)
        check_counts(project, "ann", "ben", "cy")
    project.close()

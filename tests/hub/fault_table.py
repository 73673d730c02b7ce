# SPDX-License-Identifier: Apache-2.0
"""Publish against a Hub that misbehaves, once for each fault at each step, and print what came of it.

    python -m tests.hub.fault_table [--only TEXT] [--jobs N]

In every line the release must be there whole and exactly once, or `main` as before and the command ended with one clear
sentence; nothing lost, nothing doubled, no token in any output. The exit status is 1 when a line breaks that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.helpers.edit_release import seal
from tests.helpers.folders import snapshot
from tests.helpers.make_release import make_release
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import TOKEN, LoopbackHub, Rule

REPO = "ns/MMRel"
PASSING = ("500", "503", "429", "reset", "close", "delay", "lost")
COMMON = ("whoami", "create_repo", "info", "tree", "preupload", "validate", "commit", "tag")
LFS, XET = ("batch", "put", "verify"), ("xet_token", "xorb", "shard")
FOREVER = -1


@dataclass(frozen=True)
class Case:
    """One line: rules for the Hub, how the release is sent, and what must come of it.

    `outcome` is "published", "as before" or "untagged" (published, but the command failed for want of the tag).
    """

    title: str
    rules: tuple[Rule, ...]
    xet: bool
    outcome: str = "published"
    says: str = ""
    policy: dict[str, float] = field(default_factory=dict)
    during: Callable[[LoopbackHub], None] | None = None


def passing_cases() -> list[Case]:
    """Every passing fault, once, at every step: the push must survive it."""
    cases = []
    for xet, steps in ((False, (*COMMON, *LFS)), (True, (*XET, "preupload", "commit"))):
        cases += [
            Case(f"{step} {kind}", (Rule(step, kind),), xet) for step in steps for kind in PASSING
        ]
    cases.append(Case("put 403 (address expired)", (Rule("put", "403"),), xet=False))
    cases.append(Case("commit garbled answer", (Rule("commit", "garbled"),), xet=False))
    cases.append(
        Case(
            "commit 500, then its look-up 500",
            (Rule("commit", "500"), Rule("commits", "500")),
            xet=False,
        )
    )
    lost = (Rule("commit", "lost"), Rule("commits", "reset"))
    cases.append(Case("commit lost, then its look-up reset", lost, xet=False))
    return cases


def lasting_cases() -> list[Case]:
    """Faults that do not pass: nothing may change, and one sentence must say what is the matter."""
    cases = []
    for xet in (False, True):
        for kind, says in (
            ("500", "500"),
            ("reset", "connection"),
            ("hang", "no answer within 1 s"),
        ):
            cases.append(
                Case(
                    f"commit {kind} for ever",
                    (Rule("commit", kind, FOREVER),),
                    xet,
                    "as before",
                    says,
                )
            )
        late = (Rule("commit", "delay", FOREVER),)
        cases.append(Case("commit lands after every time-out", late, xet))
        send = "xorb" if xet else "put"
        slow = {"tries": 1}
        cases.append(
            Case(
                f"{send} 500 for ever", (Rule(send, "500", FOREVER),), xet, "as before", "500", slow
            )
        )
        cases.append(
            Case(
                f"{send} reset for ever",
                (Rule(send, "reset", FOREVER),),
                xet,
                "as before",
                "sending",
                slow,
            )
        )
        cases.append(
            Case(f"{send} 413 (quota)", (Rule(send, "413", FOREVER),), xet, "as before", "no room")
        )
        cases.append(
            Case(f"{send} 507 (quota)", (Rule(send, "507", FOREVER),), xet, "as before", "no room")
        )
        cases.append(
            Case(
                "commit 413 (quota)", (Rule("commit", "413", FOREVER),), xet, "as before", "no room"
            )
        )
        cases.append(
            Case(
                "commit 403",
                (Rule("commit", "403", FOREVER),),
                xet,
                "as before",
                "lacks write access",
            )
        )
        cases.append(
            Case(
                "commit 401 (expired)",
                (Rule("commit", "401", FOREVER),),
                xet,
                "as before",
                "expired",
            )
        )
        cases.append(
            Case(
                "preupload 404 (deleted)",
                (Rule("preupload", "404", FOREVER),),
                xet,
                "as before",
                "no such",
            )
        )
        hold = (Rule("validate", "delay"),)
        cases.append(
            Case(
                "stale parent",
                hold,
                xet,
                "as before",
                "somebody else",
                {"timeout": 9},
                commit_meanwhile,
            )
        )
        cases.append(Case("kill -9 while sending", (), xet))
        cases.append(
            Case("tag 500 for ever", (Rule("tag", "500", FOREVER),), xet, "untagged", "has no tag")
        )
    for step in ("whoami", "create_repo", "tree", "info"):
        slow = {"tries": 1 if step == "tree" else 3}
        cases.append(
            Case(
                f"{step} 503 for ever",
                (Rule(step, "503", FOREVER),),
                False,
                "as before",
                "503",
                slow,
            )
        )
    cases.append(
        Case(
            "batch quota (object error)",
            (Rule("batch", "quota", FOREVER),),
            False,
            "as before",
            "no room",
        )
    )
    full = (Rule("batch", "403", FOREVER, message="Private repository storage limit reached"),)
    cases.append(Case("batch 403 (storage limit)", full, False, "as before", "no room"))
    cases.append(
        Case("batch 401 (expired)", (Rule("batch", "401", FOREVER),), False, "as before", "expired")
    )
    cases.append(
        Case(
            "xet_token 401 (expired)",
            (Rule("xet_token", "401", FOREVER),),
            True,
            "as before",
            "expired",
        )
    )
    late = (Rule("whoami", "429", FOREVER, retry_after=3600),)
    cases.append(Case("whoami 429, asks for an hour", late, False, "as before", "3601 s"))
    return cases


def commit_meanwhile(hub: LoopbackHub) -> None:
    """Commit as somebody else, once the push has sent everything."""
    hub.wait_for("validate")
    hub.commit(REPO, {"theirs.txt": b"by somebody else"})


@dataclass(frozen=True)
class Line:
    """What came of a case; `wrong` is empty when it is as it must be."""

    case: Case
    status: int
    said: str
    seconds: float
    wrong: str


def run_case(case: Case) -> Line:
    """Run one case against a Hub of its own, on which an older release and somebody's file stand."""
    with tempfile.TemporaryDirectory() as name, LoopbackHub(Path(name) / "hub", delay=1.6) as hub:
        folder = Path(name)
        new = make_release(folder / "new", seed=1)
        if not any(rule.step == "create_repo" for rule in case.rules):
            stand_older(hub, folder / "old")
        hub.rules += [replace(rule) for rule in case.rules]
        client, start = Client(hub, folder / "home", xet=case.xet), time.perf_counter()
        if case.title.startswith("kill"):
            kill_while_sending(client, new)
        before = len(hub.repos[REPO.lower()].history()) if REPO.lower() in hub.repos else 1
        during = threading.Thread(target=case.during or (lambda hub: None), args=(hub,))
        during.start()
        done = client.run("push", new, REPO, "--tag", "v1.1.0", **case.policy)
        seconds = time.perf_counter() - start
        during.join()
        return Line(
            case, done.returncode, done.stderr.strip(), seconds, judge(hub, case, new, before, done)
        )


def stand_older(hub: LoopbackHub, folder: Path) -> None:
    """Let an older release stand on the Hub, with a file that the new one lacks, and a file of somebody else."""
    make_release(folder, seed=0)
    (folder / "README.md").write_text("---\n---\nAn older card.\n")
    (folder / "data" / "real" / "test-00007.tar").write_bytes(b"a shard that the new release lacks")
    seal(folder)
    hub.create(REPO)
    hub.commit(REPO, {**snapshot(folder), "notes.txt": b"somebody's notes"})


def kill_while_sending(client: Client, root: Path) -> None:
    """Start a push that hangs in the middle of sending, and kill it there."""
    step = "xorb" if client.xet else "put"
    client.hub.rules.append(Rule(step, "delay", FOREVER, skip=0 if client.xet else 4))
    client.hub.delay = 30
    process = client.start("push", root, REPO, timeout=60)
    client.hub.wait_for(step, 1 if client.xet else 5)
    process.kill()
    process.communicate()
    client.hub.rules.clear()


def judge(hub: LoopbackHub, case: Case, root: Path, before: int, done: Any) -> str:
    """What is wrong with the outcome, or nothing."""
    output = done.stdout + done.stderr
    if hub.leaks or hub.external or TOKEN in output:
        return "the token, or a request, went where it should not"
    if "signature=" in output or "Traceback" in output:
        return f"more than a sentence: {done.stderr}"
    if any(rule.times > 0 for rule in hub.rules):
        return "the fault never struck"
    repo = hub.repos.get(REPO.lower())
    history = repo.history() if repo else []
    made = sum("mmrel-push" in commit.message for commit in history)
    if case.outcome == "as before":
        others = 1 if case.during else 0
        if done.returncode == 0 or made or len(history) > before + others:
            return f"should be as before: status {done.returncode}, {len(history)} commits"
    else:
        files = {
            path: hub.object(blob.sha256).read_bytes() for path, blob in history[0].files.items()
        }
        foreign = {
            path: content
            for path, content in files.items()
            if path in (".gitattributes", "notes.txt")
        }
        if made != 1 or len(history) != before + 1:
            return f"should be there once: {made} commits of ours, {len(history) - before} in all"
        if files != {**snapshot(root), **foreign}:
            return "should be there whole: the files differ"
        if (done.returncode == 0) != (case.outcome == "published"):
            return f"should end otherwise than with status {done.returncode}"
        if case.outcome == "published" and (repo is None or repo.tags != {"v1.1.0": history[0].id}):
            return "should be tagged"
    last = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    if done.returncode and not (
        last and last[0].startswith("mmrel push: ") and case.says in last[0]
    ):
        return f"should say {case.says!r} in one sentence"
    return ""


def main(argv: list[str] | None = None) -> int:
    """Run the cases, several at a time, and print one line for each."""
    parser = argparse.ArgumentParser(description="Publish against a Hub that misbehaves.")
    parser.add_argument("--only", default="", help="run the lines whose title holds this text")
    parser.add_argument(
        "--jobs", type=int, default=6, help="cases at a time; they mostly wait (default: 6)"
    )
    args = parser.parse_args(argv)
    cases = [case for case in (*passing_cases(), *lasting_cases()) if args.only in case.title]
    with ThreadPoolExecutor(args.jobs) as pool:
        lines = list(pool.map(run_case, cases))
    print(
        "| by | fault | outcome | status | s | what the command said |\n|---|---|---|---|---|---|"
    )  # noqa: T201
    for line in lines:
        outcome = f"WRONG: {line.wrong}" if line.wrong else line.case.outcome
        said = (
            line.said.splitlines()[-1].removeprefix("mmrel push: ")
            if line.status and line.said
            else ""
        )
        way = "Xet" if line.case.xet else "LFS"
        print(
            f"| {way} | {line.case.title} | {outcome} | {line.status} | {line.seconds:.1f} | {said} |"
        )  # noqa: T201
    wrong = sum(bool(line.wrong) for line in lines)
    print(f"\n{len(lines)} lines, {wrong} wrong")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

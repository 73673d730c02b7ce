# SPDX-License-Identifier: Apache-2.0
"""Publish to a Hub that fails, once for each fault at each step, and print a line for each.

    python -m tests.hub.fault_table [--only TEXT] [--jobs N]

After every push the release is on the Hub exactly once and whole, or `main` is unchanged and the
command ended with one clear sentence. No file is lost or duplicated, and no output holds a token.
The exit status is 1 where a line breaks this rule.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.helpers.edit_release import seal
from tests.helpers.folders import snapshot
from tests.helpers.make_release import make_release
from tests.hub.hub_client import Client
from tests.hub.loopback_hub import TOKEN, Commit, LoopbackHub, Repo, Rule

REPO = "ns/MMRel"
PASSING = ("500", "503", "429", "reset", "close", "delay", "lost")
COMMON = ("whoami", "create_repo", "info", "tree", "preupload", "validate", "commit", "tag")
LFS = ("batch", "put", "verify")
XET = ("xet_token", "xorb", "shard")
FOREVER = -1


@dataclass(frozen=True)
class Case:
    """A line of the table.

    Attributes:
        title: the fault, in words.
        rules: the rules of the Hub.
        xet: whether the release is sent with hf_xet.
        outcome: "published", "as before", or "untagged": published, but the command failed because
            the tag could not be created.
        says: text that the command's error contains.
        policy: overrides of the client's POLICY.
        meanwhile: what another person does on the Hub during the push.
    """

    title: str
    rules: tuple[Rule, ...]
    xet: bool
    outcome: str = "published"
    says: str = ""
    policy: dict[str, float] = field(default_factory=dict)
    meanwhile: Callable[[LoopbackHub], None] | None = None


def passing_cases() -> list[Case]:
    """Return the faults that occur once, at every step; the push must succeed in spite of them."""
    cases = []
    for xet, steps in ((False, (*COMMON, *LFS)), (True, (*XET, "preupload", "commit"))):
        for step in steps:
            for kind in PASSING:
                cases.append(Case(f"{step} {kind}", (Rule(step, kind),), xet))
    expired = (Rule("put", "403"),)
    garbled = (Rule("commit", "garbled"),)
    failed = (Rule("commit", "500"), Rule("commits", "500"))
    lost = (Rule("commit", "lost"), Rule("commits", "reset"))
    cases += [
        Case("put 403 (address expired)", expired, xet=False),
        Case("commit garbled answer", garbled, xet=False),
        Case("commit 500, then its look-up 500", failed, xet=False),
        Case("commit lost, then its look-up reset", lost, xet=False),
    ]
    return cases


def lasting_cases() -> list[Case]:
    """Return the faults that persist; nothing may change, and one sentence must say why."""
    cases = []
    for xet in (False, True):
        cases += _lasting_cases_of(xet)
    for step in ("whoami", "create_repo", "tree", "info"):
        tries = 1 if step == "tree" else 3
        case = _fails(step, "503", xet=False, says="503", title=f"{step} 503 for ever", tries=tries)
        cases.append(case)
    full = Rule("batch", "403", FOREVER, message="Private repository storage limit reached")
    busy = Rule("whoami", "429", FOREVER, retry_after=3600)
    cases += [
        _fails("batch", "quota", xet=False, says="no room", title="batch quota (object error)"),
        Case("batch 403 (storage limit)", (full,), False, "as before", "no room"),
        _fails("batch", "401", xet=False, says="expired", title="batch 401 (expired)"),
        _fails("xet_token", "401", xet=True, says="expired", title="xet_token 401 (expired)"),
        Case("whoami 429, asks for an hour", (busy,), False, "as before", "3601 s"),
    ]
    return cases


def _lasting_cases_of(xet: bool) -> list[Case]:
    send = "xorb" if xet else "put"
    late = (Rule("commit", "delay", FOREVER),)
    hold = (Rule("validate", "delay"),)
    no_tag = (Rule("tag", "500", FOREVER),)
    return [
        _fails("commit", "500", xet, says="500"),
        _fails("commit", "reset", xet, says="connection"),
        _fails("commit", "hang", xet, says="no answer within 1 s"),
        Case("commit lands after every time-out", late, xet),
        _fails(send, "500", xet, says="500", tries=1),
        _fails(send, "reset", xet, says="sending", tries=1),
        _fails(send, "413", xet, says="no room", title=f"{send} 413 (quota)"),
        _fails(send, "507", xet, says="no room", title=f"{send} 507 (quota)"),
        _fails("commit", "413", xet, says="no room", title="commit 413 (quota)"),
        _fails("commit", "403", xet, says="lacks write access", title="commit 403"),
        _fails("commit", "401", xet, says="expired", title="commit 401 (expired)"),
        _fails("preupload", "404", xet, says="no such", title="preupload 404 (deleted)"),
        Case(
            "stale parent",
            hold,
            xet,
            "as before",
            says="somebody else",
            policy={"timeout": 9},
            meanwhile=commit_meanwhile,
        ),
        Case("kill -9 while sending", (), xet),
        Case("tag 500 for ever", no_tag, xet, "untagged", "has no tag"),
    ]


def _fails(step: str, kind: str, xet: bool, says: str, title: str = "", **policy: float) -> Case:
    title = title or f"{step} {kind} for ever"
    return Case(title, (Rule(step, kind, FOREVER),), xet, "as before", says, policy)


def commit_meanwhile(hub: LoopbackHub) -> None:
    """Commit as another person once the push has sent everything."""
    hub.wait_for("validate")
    hub.commit(REPO, {"theirs.txt": b"by somebody else"})


@dataclass(frozen=True)
class Result:
    """The result of a case; `problem` is empty where the rule holds."""

    case: Case
    status: int
    error: str
    seconds: float
    problem: str


def run_case(case: Case) -> Result:
    """Run a case on a Hub with an older release and another person's file."""
    with tempfile.TemporaryDirectory() as name, LoopbackHub(Path(name) / "hub", delay=1.6) as hub:
        folder = Path(name)
        new = make_release(folder / "new", seed=1)
        if not any(rule.step == "create_repo" for rule in case.rules):
            publish_older(hub, folder / "old")
        hub.rules += [replace(rule) for rule in case.rules]
        client = Client(hub, folder / "home", xet=case.xet)
        start = time.perf_counter()
        if case.title.startswith("kill"):
            kill_while_sending(client, new)
        before = 1
        if REPO.lower() in hub.repos:
            before = len(hub.repo(REPO).history())
        meanwhile = threading.Thread(target=case.meanwhile or (lambda hub: None), args=(hub,))
        meanwhile.start()
        done = client.run("push", new, REPO, "--tag", "v1.1.0", **case.policy)
        seconds = time.perf_counter() - start
        meanwhile.join()
        problem = find_problem(hub, case, new, before, done)
        return Result(case, done.returncode, done.stderr.strip(), seconds, problem)


def publish_older(hub: LoopbackHub, folder: Path) -> None:
    """Publish an older release with a file that the new one lacks, and another person's file."""
    make_release(folder, seed=0)
    (folder / "README.md").write_text("---\n---\nAn older card.\n")
    (folder / "data" / "real" / "extra.jsonl").write_bytes(b"a file that the new release lacks")
    seal(folder)
    hub.create(REPO)
    hub.commit(REPO, {**snapshot(folder), "notes.txt": b"somebody's notes"})


def kill_while_sending(client: Client, root: Path) -> None:
    """Start a push that hangs while it sends files, and kill it."""
    step, sent_before = ("xorb", 0) if client.xet else ("put", 4)
    client.hub.rules.append(Rule(step, "delay", FOREVER, skip=sent_before))
    client.hub.delay = 30
    process = client.start("push", root, REPO, timeout=60)
    client.hub.wait_for(step, sent_before + 1)
    process.kill()
    process.communicate()
    client.hub.rules.clear()


Done = subprocess.CompletedProcess[str]


def find_problem(hub: LoopbackHub, case: Case, root: Path, before: int, done: Done) -> str:
    """Return the first thing wrong with a push, "" where there is none.

    Args:
        hub: the Hub after the push.
        case: the case.
        root: the folder of the release.
        before: how many commits the Hub had before the push.
        done: the command, with its output.
    """
    output = done.stdout + done.stderr
    if hub.leaks or hub.external or TOKEN in output:
        return "the token, or a request, went where it should not"
    if "signature=" in output or "Traceback" in output:
        return f"expected one sentence, got {done.stderr}"
    if any(rule.times > 0 for rule in hub.rules):
        return "the fault did not occur"
    repo = hub.repos.get(REPO.lower())
    history = repo.history() if repo else []
    if case.outcome == "as before":
        problem = _find_change(case, history, before, done)
    else:
        problem = _find_missing(hub, case, root, repo, history, before, done)
    if problem:
        return problem
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [""]
        if not lines[-1].startswith("mmrel push: ") or case.says not in lines[-1]:
            return f"should say {case.says!r} in one sentence"
    return ""


def _is_ours(commit: Commit) -> bool:
    return "mmrel-push" in commit.message


def _find_change(case: Case, history: list[Commit], before: int, done: Done) -> str:
    most = before + 1 if case.meanwhile else before
    if done.returncode == 0 or len(history) > most or any(map(_is_ours, history)):
        return f"should be as before: status {done.returncode}, {len(history)} commits"
    return ""


def _find_missing(
    hub: LoopbackHub,
    case: Case,
    root: Path,
    repo: Repo | None,
    history: list[Commit],
    before: int,
    done: Done,
) -> str:
    ours = sum(map(_is_ours, history))
    if ours != 1 or len(history) != before + 1:
        return f"should be there once: {ours} commits of ours, {len(history) - before} in all"
    expected = snapshot(root)
    files = {}
    for path, blob in history[0].files.items():
        files[path] = hub.object(blob.sha256).read_bytes()
        if path in (".gitattributes", "notes.txt"):  # not of the release
            expected[path] = files[path]
    if files != expected:
        return "should be there whole: the files differ"
    if (done.returncode == 0) != (case.outcome == "published"):
        return f"should not end with status {done.returncode}"
    if case.outcome == "published" and (repo is None or repo.tags != {"v1.1.0": history[0].id}):
        return "should be tagged"
    return ""


def format_line(result: Result) -> str:
    """Return a line of the table."""
    by = "Xet" if result.case.xet else "LFS"
    outcome = f"WRONG: {result.problem}" if result.problem else result.case.outcome
    message = ""
    if result.status and result.error:
        message = result.error.splitlines()[-1].removeprefix("mmrel push: ")
    cells = (by, result.case.title, outcome, result.status, f"{result.seconds:.1f}", message)
    return f"| {' | '.join(map(str, cells))} |"


def main(argv: list[str] | None = None) -> int:
    """Run the cases, several at a time, and print a line for each."""
    parser = argparse.ArgumentParser(description="Publish to a Hub that fails.")
    parser.add_argument("--only", default="", help="run the cases whose title contains this text")
    parser.add_argument(
        "--jobs", type=int, default=6, help="cases at a time; they mostly wait (default: 6)"
    )
    args = parser.parse_args(argv)
    cases = [case for case in (*passing_cases(), *lasting_cases()) if args.only in case.title]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(run_case, cases))
    print("| by | fault | outcome | status | s | the command's message |")
    print("|---|---|---|---|---|---|")
    for result in results:
        print(format_line(result))
    wrong = sum(result.problem != "" for result in results)
    print(f"\n{len(results)} lines, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Publishing, with real clients in processes of their own, against the loopback Hub.

`fault_table.py` has the faults of a Hub that misbehaves, at every step.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from mmrel_kit.failures import redact
from mmrel_kit.files import InputError
from mmrel_kit.hub import calls as hub_calls
from mmrel_kit.hub import plan as hub_plan
from mmrel_kit.hub.push import push
from tests.helpers.edit_release import edit_index, seal
from tests.helpers.folders import snapshot
from tests.helpers.make_release import make_large_release
from tests.hub import fault_table
from tests.hub.hub_client import REPOSITORY, Client
from tests.hub.loopback_hub import EXPIRED_TOKEN, READ_TOKEN, TOKEN, LoopbackHub, Rule

NAME = "NS/MMRel"
WAYS = [pytest.param(False, id="lfs"), pytest.param(True, id="xet", marks=pytest.mark.hub)]
LOAD = """
from datasets import load_dataset
for name in ("ns/mmrel", "NS/MMRel"):
    plain = load_dataset(name, "real")
    stream = load_dataset(name, "real", streaming=True)
    for split in plain:
        rows = list(plain[split])
        assert [r["question_id"] for r in stream[split]] == [r["question_id"] for r in rows]
        print(name, split, *(r["question_id"] for r in rows), rows[-1]["image"].size)
every = load_dataset("ns/mmrel", split="test")
print("default", len(every), sorted(set(every["domain"])))
"""
BUILDER = """
import mmrel
rows = mmrel.load("real", repo_id="NS/MMRel", streaming=True, split="test")
count = size = 0
for row in rows.cast_column("image", mmrel.datasets.Image(decode=False)):
    count, size = count + 1, size + len(row["image"]["bytes"])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(count, size, int(peak) // 1024)
"""


@pytest.fixture
def hub(tmp_path: Path):
    """A Hub for one test, which fails if a request left the machine or a token the Hub."""
    with LoopbackHub(tmp_path / "hub", delay=1.6) as hub:
        yield hub
    assert hub.external == []
    assert hub.leaks == []


@pytest.fixture
def client(hub: LoopbackHub, tmp_path: Path) -> Client:
    """A client of that Hub, by way of plain LFS."""
    return Client(hub, tmp_path / "home")


def published(hub: LoopbackHub, repo_id: str = NAME, revision: str = "main") -> dict[str, bytes]:
    """Return the content of each published file by path, without those that the Hub adds."""
    commit = hub.repo(repo_id).at(revision)
    assert commit
    files = {path: hub.object(blob.sha256).read_bytes() for path, blob in commit.files.items()}
    return {path: content for path, content in files.items() if path != ".gitattributes"}


# --- The way it should go


@pytest.mark.parametrize("xet", WAYS)
def test_push_verify_load(hub: LoopbackHub, client: Client, release: Path, xet: bool) -> None:
    client.xet = xet
    printed = client.upload(
        "push", str(release), "--repo-id", NAME, "--tag", "v1.0.0"
    )  # with all its checks
    assert f"{len(snapshot(release))} added, 0 changed, 0 removed, 0 unchanged" in printed
    assert published(hub) == snapshot(release)
    assert hub.repo(NAME).tags == {"v1.0.0": hub.repo(NAME).history()[0].id}
    assert (hub.count_requests("put") == 0) == xet
    assert hub.count_requests("commit") == 1

    hub.requests.clear()
    assert "nothing to do" in client.run("push", release, NAME, "--tag", "v1.0.0").stdout
    assert not any(
        hub.count_requests(step)
        for step in ("preupload", "put", "xorb", "commit", "tag", "create_repo")
    )

    table = client.run(
        "verify", release, NAME, "--revision", "v1.0.0", "--deep", timeout=5.0
    ).stdout
    assert {line.split()[-1] for line in table.splitlines()[2:]} == {"yes"}
    lines = client.python(LOAD).splitlines()
    assert lines[:2] == [line.replace(NAME, "ns/mmrel") for line in lines[2:4]]
    questions = [
        json.loads(line)["question_id"] for line in (release / "data/real/test.jsonl").open()
    ]
    assert lines[1].startswith(f"ns/mmrel test {' '.join(questions)} (")
    assert lines[4].endswith("['dalle', 'real', 'sdxl']")


def test_a_changed_card_sends_only_the_card(
    hub: LoopbackHub, client: Client, release: Path
) -> None:
    client.run("push", release, NAME)
    with (release / "README.md").open("a") as card:
        card.write("\nOne more sentence.\n")
    seal(release)
    hub.requests.clear()
    printed = client.run("push", release, NAME).stdout
    assert "~ README.md\n~ checksums.json\n0 added, 2 changed, 0 removed" in printed
    assert hub.count_requests("put") == 0
    assert len(hub.repo(NAME).history()) == 3
    assert published(hub) == snapshot(release)


def test_files_of_an_older_release_go_and_those_of_others_stay(
    hub: LoopbackHub, client: Client, release: Path
) -> None:
    client.run("push", release, NAME)
    hub.commit(NAME, {"notes.txt": b"somebody's", "data/real/theirs.jsonl": b"{}"})
    gone = release / "data" / "dalle" / "test.jsonl"
    gone.unlink()
    seal(release)
    assert (
        "- data/dalle/test.jsonl"
        in client.run("push", release, NAME, "--message", "Without DALL-E").stdout
    )
    assert published(hub) == {
        **snapshot(release),
        "notes.txt": b"somebody's",
        "data/real/theirs.jsonl": b"{}",
    }
    assert [commit.title for commit in hub.repo(NAME).history()][:2] == [
        "Without DALL-E",
        "by hand",
    ]


def test_dry_run_changes_nothing(hub: LoopbackHub, client: Client, release: Path) -> None:
    done = client.run("push", release, NAME, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "+ data/real/test.jsonl" in done.stdout
    assert hub.repos == {}
    client.run("push", release, NAME, "--private")
    assert hub.repo(NAME).private
    before = hub.repo(NAME).history()
    (release / "README.md").write_text("---\n---\n")
    assert "~ README.md" in client.run("push", seal(release), NAME, "--dry-run").stdout
    assert hub.repo(NAME).history() == before


def test_pull_request(hub: LoopbackHub, client: Client, release: Path) -> None:
    hub.create(NAME)
    before = hub.repo(NAME).branches["main"]
    client.token = READ_TOKEN  # anybody may open one
    hub.rules.append(Rule("commit", "lost"))
    done = client.run("push", release, NAME, "--create-pr")
    assert done.returncode == 0, done.stderr
    assert "/datasets/NS/MMRel/discussions/1" in done.stdout
    assert hub.repo(NAME).branches["main"] == before
    assert list(hub.repo(NAME).pulls) == ["refs/pr/1"]
    assert published(hub, revision="refs/pr/1") == snapshot(release)


def test_parts_of_large_files(hub: LoopbackHub, client: Client, release: Path) -> None:
    hub.multipart_above = 4096
    client.run("push", release, NAME)
    assert hub.count_requests("complete") > 0
    assert published(hub) == snapshot(release)


def test_many_pages_of_files(hub: LoopbackHub, client: Client, release: Path) -> None:
    client.run("push", release, NAME)
    hub.max_tree_rows = 5
    assert "0 added, 0 changed, 0 removed" in client.run("push", release, NAME).stdout


def test_a_gitignore_on_the_hub_hides_nothing(
    hub: LoopbackHub, client: Client, release: Path
) -> None:
    hub.create(NAME)
    hub.commit(NAME, {".gitignore": b"data/real/test.jsonl\ndata/real/test-00000.tar\n"})
    client.run("push", release, NAME)
    assert {**published(hub), ".gitignore": b""} == {**snapshot(release), ".gitignore": b""}


# --- What is refused


def refused(client: Client, release: Path, *options: str, name: str = NAME) -> str:
    """The one sentence with which a push ends that changes nothing."""
    hub = client.hub
    before = {repo.id: repo.branches["main"] for repo in hub.repos.values()}
    done = client.run("push", release, name, *options)
    assert done.returncode == 1
    assert {repo.id: repo.branches["main"] for repo in hub.repos.values()} == before
    assert TOKEN not in done.stdout + done.stderr
    assert done.stderr.startswith("mmrel push: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_bad_release(hub: LoopbackHub, client: Client, release: Path) -> None:
    (release / "data" / "real" / "test.jsonl").write_text("{}\n")
    done = subprocess.run(
        [sys.executable, REPOSITORY / "upload.py", "push", release, "--repo-id", NAME],
        env=client.environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "data/real/test.jsonl: expected" in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.requests == []


def test_no_release(client: Client, tmp_path: Path) -> None:
    assert "there is no checksums.json" in refused(client, tmp_path)


@pytest.mark.parametrize("name", ["MMRel", "ns/MM Rel", "a/b/c", "ns/MMRel.git", "../MMRel", ""])
def test_bad_names(name: str) -> None:
    with pytest.raises(InputError, match="name|NAME"):
        hub_plan.check_name(name)


def test_a_script_in_the_release(client: Client, release: Path) -> None:
    shutil.copy(release / "loader" / "mmrel.py", release / "mmrel.py")
    assert "datasets >= 4 could not load" in refused(client, seal(release))


def test_a_script_on_the_hub(hub: LoopbackHub, client: Client, release: Path) -> None:
    hub.create(NAME)
    hub.commit(NAME, {"MMREL.PY": b"somebody's"})
    assert "NS/MMRel on the Hub has MMREL.PY at its top" in refused(client, release)


def test_our_own_script_of_old_is_removed(hub: LoopbackHub, client: Client, release: Path) -> None:
    hub.create(NAME)
    listed = {"mmrel.py": {"sha256": hashlib.sha256(b"ours, once").hexdigest(), "size": 10}}
    index = json.dumps({"version": "0.1.0", "note": None, "files": listed}).encode()
    hub.commit(NAME, {"mmrel.py": b"ours, once", "checksums.json": index})
    assert "- mmrel.py" in client.run("push", release, NAME).stdout
    assert published(hub) == snapshot(release)


def test_somebody_elses_checksums(hub: LoopbackHub, client: Client, release: Path) -> None:
    hub.create(NAME)
    hub.commit(NAME, {"checksums.json": b"[]"})
    assert "is not that of a release of MMRel" in refused(client, release)


def test_private_is_not_public(hub: LoopbackHub, client: Client, release: Path) -> None:
    hub.create(NAME)
    assert "exists and is public" in refused(client, release, "--private")


def test_a_tag_of_another_revision(hub: LoopbackHub, client: Client, release: Path) -> None:
    repo = hub.create(NAME)
    repo.tags["v1.0.0"] = repo.branches["main"]
    assert "tag v1.0.0 of NS/MMRel points to" in refused(client, release, "--tag", "v1.0.0")


def test_pull_requests_have_limits(client: Client, release: Path) -> None:
    with pytest.raises(InputError, match="tag after merging"):
        push(release, NAME, create_pr=True, tag="v1.0.0")
    assert "push without --create-pr" in refused(client, release, "--create-pr")


@pytest.mark.parametrize(
    ("token", "name", "says"),
    [
        (EXPIRED_TOKEN, NAME, "the token is missing, mistyped or expired"),
        (READ_TOKEN, NAME, "the token may only read"),
        (TOKEN, "others/MMRel", "lacks the right to create repositories in that namespace"),
    ],
)
def test_permissions(client: Client, release: Path, token: str, name: str, says: str) -> None:
    client.token = token
    assert says in refused(client, release, name=name)


def test_no_write_access(hub: LoopbackHub, client: Client, release: Path) -> None:
    hub.create("others/MMRel")
    assert "the token lacks write access" in refused(client, release, name="others/MMRel")


def test_no_token(client: Client, release: Path) -> None:
    client.settings["HF_TOKEN"] = ""
    assert "log in with `hf auth login`" in refused(client, release)


# --- A Hub that misbehaves: a few of the lines of the fault table, which has them all


@pytest.mark.parametrize(
    "title", ["commit lost", "put 503", "create_repo reset", "stale parent", "commit 401 (expired)"]
)
def test_faults(title: str) -> None:
    cases = [*fault_table.passing_cases(), *fault_table.lasting_cases()]
    case = next(case for case in cases if case.title == title)
    assert fault_table.run_case(case).problem == ""


def test_412_names_both_revisions(hub: LoopbackHub, client: Client, release: Path) -> None:
    start = hub.create(NAME).branches["main"]
    hub.rules.append(Rule("validate", "delay"))

    def commit_meanwhile() -> None:
        hub.wait_for("validate")
        hub.commit(NAME, {"theirs.txt": b""})

    thread = threading.Thread(target=commit_meanwhile)
    thread.start()
    done = client.run("push", release, NAME, timeout=9.0)
    thread.join()
    assert done.returncode == 1
    assert f"is at {hub.repo(NAME).branches['main']}, no longer at {start}" in done.stderr
    assert set(published(hub)) == {"theirs.txt"}


def test_messages_and_logs_are_clean(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", "not-of-the-usual-form")
    cleaned = redact(
        "GET https://store/x?signature=secret with not-of-the-usual-form or hf_abcdefghij"
    )
    assert cleaned == "GET https://store/x?… with <token> or <token>"
    with hub_calls.hub_session(1.0), caplog.at_level(logging.WARNING):
        logging.getLogger("huggingface_hub.utils._http").addHandler(caplog.handler)
        logging.getLogger("huggingface_hub.utils._http").warning(
            "PUT %s", "http://store/x?signature=secret"
        )
    logging.getLogger("huggingface_hub.utils._http").removeHandler(caplog.handler)
    assert "signature" not in caplog.text
    assert "PUT http://store/x?…" in caplog.text


def test_every_call_has_a_timeout() -> None:
    from huggingface_hub.utils import get_session

    with hub_calls.hub_session(7.0):
        timeout = get_session().timeout
        assert (timeout.connect, timeout.read, timeout.write, timeout.pool) == (7.0, 7.0, 7.0, 7.0)
    assert get_session().timeout.read is None


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a"])
def test_hostile_paths(release: Path, path: str) -> None:
    edit_index(
        release, lambda index: index["files"].update({path: {"sha256": "0" * 64, "size": 1}})
    )
    with pytest.raises(InputError, match="no path inside a release"):
        hub_plan.read_index(release)


def test_a_release_whose_index_is_broken(client: Client, release: Path) -> None:
    # Where `check` was left out, as by verify, this was a traceback.
    (release / "checksums.json").write_text('{"version": "1.0.0", "note": null, "files": {"a": 1}}')
    says = (
        "checksums.json: expected version, note, and the sha256 and size of each file, "
        "got TypeError"
    )
    assert says in refused(client, release)
    done = client.run("verify", release, NAME)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_progress_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    # The variable of that name has the last word, where it is set.
    module = importlib.import_module("huggingface_hub.utils.tqdm")
    monkeypatch.setattr(module, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    enable_progress_bars()
    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda answer=is_terminal: answer)
        with hub_calls.hub_session(1.0):
            assert are_progress_bars_disabled() != is_terminal
        assert not are_progress_bars_disabled()


# --- Verifying


def test_verify_tells_differences(hub: LoopbackHub, client: Client, release: Path) -> None:
    client.run("push", release, NAME)
    other = (release / "data/sdxl/test-00000-of-00002.parquet").read_bytes()
    changes = {
        "LICENSE": b"shorter",
        "data/real/train.jsonl": None,
        "mmrel.py": b"",
        "notes.txt": b"",
    }
    hub.commit(NAME, {**changes, "data/dalle/test-00000-of-00002.parquet": other})
    done = client.run("verify", release, NAME)
    assert done.returncode == 1
    assert "differs: LICENSE: 7 bytes on the Hub" in done.stdout
    assert "differs: data/real/train.jsonl: missing on the Hub" in done.stdout
    assert "differs: data/dalle/test-00000-of-00002.parquet: " in done.stdout
    assert "differs: layout: the repository has mmrel.py at its top" in done.stdout
    assert "3 of others" in done.stdout


@pytest.mark.hub
def test_verify_deep_reads_the_files(hub: LoopbackHub, client: Client, release: Path) -> None:
    client.run("push", release, NAME)
    blob = hub.repo(NAME).history()[0].files["data/real/test-00000.tar"]
    hub.object(blob.sha256).write_bytes(b"\0" * blob.size)  # the metadata do not know of it
    hub.rules.append(Rule("object", "reset"))
    done = client.run("verify", release, NAME, "--deep", timeout=5.0)
    assert done.returncode == 1
    assert "differs: data/real/test-00000.tar: its content on the Hub has SHA-256" in done.stdout
    assert done.stdout.count("differs: ") == 1


def test_verify_without_repository(client: Client, release: Path) -> None:
    done = client.run("verify", release, NAME)
    assert done.returncode == 1
    assert "NS/MMRel has no revision main" in done.stderr


# --- The builder, streaming the archives


@pytest.mark.parametrize(
    "kind", ["reset", *(pytest.param(kind, marks=pytest.mark.hub) for kind in ("close", "500"))]
)
def test_builder_streams_from_the_hub(
    hub: LoopbackHub, client: Client, tmp_path: Path, kind: str
) -> None:
    """An archive is streamed; if the connection breaks, the rest is requested again."""
    release = make_large_release(tmp_path / "large", pictures=3)
    client.run("push", release, NAME)
    hub.rules.append(Rule("object", kind))  # in the midst of the archive
    count, size, _ = client.python(BUILDER).split()
    assert hub.rules[0].times == 0  # it struck
    assert int(count) == 3
    assert int(size) == sum(
        picture.stat().st_size for picture in (tmp_path / "large-sources").rglob("*.png")
    )


@pytest.mark.hub
def test_builder_streams_in_constant_memory(
    hub: LoopbackHub, client: Client, tmp_path: Path
) -> None:
    """A release of eight times the size takes no more memory, but for the noise of a process."""
    peaks = []
    for pictures in (8, 64):
        release = make_large_release(tmp_path / str(pictures), pictures)
        assert client.run("push", release, NAME, timeout=30.0).returncode == 0
        peaks.append(int(client.python(BUILDER).split()[2]))
    print("peak MB for archives of 24 and of 192 MB:", peaks)
    assert peaks[1] - peaks[0] < 40, peaks


# --- The loopback Hub itself


def test_hub_in_a_process_of_its_own(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.hub.loopback_hub", "--root", str(tmp_path)]
    settings = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, cwd=tmp_path, env=settings, **pipes) as process:
        assert process.stdout
        endpoint = json.loads(process.stdout.readline())["endpoint"]
        with urllib.request.urlopen(f"{endpoint}/_test/state", timeout=10) as answer:
            assert json.load(answer)["repos"] == {}
        process.communicate()
    assert process.returncode == 0


def test_what_would_leave_the_machine_is_seen(tmp_path: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        client = Client(hub, tmp_path / "home")
        client.python(
            "import urllib.request as r\n"
            "try: r.urlopen('https://example.org')\nexcept OSError: pass"
        )
        assert hub.external == ["CONNECT example.org:443"]

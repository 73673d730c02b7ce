# SPDX-License-Identifier: Apache-2.0
"""Load a release by the id of its repository: from the loopback Hub, and without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.hub_client import REPOSITORY, Client
from tests.hub.loopback_hub import LoopbackHub

NAME = "NS/MMRel"
NOWHERE = "http://127.0.0.1:9"  # no server listens there
PLAIN = """
import mmrel
for split, rows in mmrel.load("real", repo_id="NS/MMRel").items():
    print(split, *rows["question_id"])
"""
STREAM = """
import mmrel
for split, rows in mmrel.load("real", repo_id="NS/MMRel", streaming=True).items():
    print(split, *(row["question_id"] for row in rows))
"""
URL = """
import mmrel
print(mmrel.Release("hf://datasets/NS/MMRel").root)
print(mmrel.Release("hf://datasets/NS/MMRel@main").root)
"""


@pytest.fixture
def client(built: Path, tmp_path: Path):
    """A client of a Hub that holds the release."""
    with LoopbackHub(tmp_path / "hub", delay=0.5) as hub:
        hub.publish(NAME, built)
        yield Client(hub, tmp_path / "home")
    assert hub.external == []
    assert hub.leaks == []


def run(client: Client, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the project from another folder."""
    command = [sys.executable, str(REPOSITORY / arguments[0]), *arguments[1:]]
    settings = {**client.environment(), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, env=settings, cwd=client.home, text=True, capture_output=True, timeout=300
    )


def read_error(done: subprocess.CompletedProcess[str]) -> str:
    """Return the error of a command that failed, which must be one line."""
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_downloaded_release_loads_without_a_network(client: Client) -> None:
    # Every load used to call HfApi.dataset_info, which needs a network.
    loaded = client.python(PLAIN)
    assert [line.split()[0] for line in loaded.splitlines()] == ["train", "test"]
    client.settings = {"HF_HUB_OFFLINE": "1"}
    requests = len(client.hub.requests)
    assert client.python(PLAIN) == loaded
    assert client.python(STREAM) == loaded, "streaming reads the downloaded archives"
    assert len(client.hub.requests) == requests
    client.settings = {"HF_ENDPOINT": NOWHERE}
    assert client.python(PLAIN) == loaded


def test_a_url_is_pinned_to_a_commit(client: Client) -> None:
    commit = client.hub.repo(NAME).history()[0].id
    assert client.python(URL).split() == [f"hf://datasets/NS/MMRel@{commit}"] * 2


@pytest.mark.parametrize("settings", [{"HF_ENDPOINT": NOWHERE}, {"HF_HUB_OFFLINE": "1"}])
def test_a_missing_network_is_reported_in_one_line(
    client: Client, settings: dict[str, str]
) -> None:
    # It used to be 72 lines of an HTTP client's traceback.
    client.settings = settings
    error = read_error(run(client, "mmrel.py", "real", "--repo-id", NAME))
    missing = "hf://datasets/NS/MMRel/checksums.json"
    assert f"{missing} was not downloaded before and cannot be read now" in error


def test_archives_that_are_missing_offline_are_reported_in_one_line(client: Client) -> None:
    client.python(URL)
    client.python("import mmrel; mmrel.Release('hf://datasets/NS/MMRel').schema")
    client.settings = {"HF_HUB_OFFLINE": "1"}
    error = read_error(run(client, "mmrel.py", "real", "--repo-id", NAME))
    assert "hf://datasets/NS/MMRel@" in error
    assert "was not downloaded before and cannot be read now (" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--repo-id", NAME, "--revision", "v9"], "NS/MMRel has no branch, tag or commit 'v9'"),
        (["--repo-id", "NS/MMRell"], "'NS/MMRell'"),
        (["--repo-id", "NS/MMRel/data"], "expected repo_id to be NS/NAME, got 'NS/MMRel/data'"),
        (["--repo-id", ""], "expected repo_id to be NS/NAME, got ''"),
        (["--root", "hf://datasets/NS/MMRel@v9"], "NS/MMRel has no branch, tag or commit 'v9'"),
        (["--root", "hf://datasets/NS"], "expected hf://datasets/NS/NAME"),
    ],
)
def test_the_error_names_what_is_missing(
    client: Client, arguments: list[str], expected: str
) -> None:
    assert expected in read_error(run(client, "mmrel.py", "real", *arguments))


def test_a_repository_that_is_no_release_is_an_error(client: Client) -> None:
    client.hub.create("NS/other")
    client.hub.commit("NS/other", {"README.md": b"Something else.\n"})
    error = read_error(run(client, "mmrel.py", "real", "--repo-id", "NS/other"))
    assert "NS/other is no release of MMRel: it has no checksums.json" in error

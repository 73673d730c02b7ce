# SPDX-License-Identifier: Apache-2.0
"""The release that answers are scored against: a folder, the Hub, the sample, and broken ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmrel
from mmrel_kit.scoring.release import load_release
from tests.helpers.metric import (
    ANSWERS,
    GOOD,
    NOWHERE,
    ROOT,
    Captured,
    Patch,
    make_small_release,
    python,
    read_release_files,
    run,
    score,
    start,
    write_answers,
    write_release,
)
from tests.hub.loopback_hub import LoopbackHub, Rule


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of four yes/no questions and an open-ended one in test, and two in adversarial."""
    return make_small_release(tmp_path)


def test_records_that_differ_from_their_checksums(release: Path) -> None:
    path = release / "data/real/test.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(mmrel.ReleaseError, match="differs"):
        load_release(release)
    path.unlink()
    with pytest.raises(mmrel.ReleaseError, match="fetch the release again"):
        load_release(release, "all", "test")
    questions, _ = load_release(release, "dalle", "adversarial")  # what is not needed may be absent
    assert len(questions) == 2


@pytest.fixture
def hub(release: Path, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A Hub that holds the small release as NS/MMRel."""
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.create("NS/MMRel")
        hub.commit("NS/MMRel", read_release_files(release))
        yield hub
    assert hub.external == []
    assert hub.leaks == []


@pytest.mark.parametrize("verb", ["score", "report"])
def test_a_release_on_the_hub_is_scored_by_its_records_alone(
    hub: LoopbackHub, release: Path, tmp_path: Path, verb: str
) -> None:
    # A release on the Hub had to be downloaded first, with all of its pictures.
    answers = write_answers(tmp_path / "a.jsonl", {**GOOD, "q9": "above", "q20": "yes"})
    command = [verb, answers, "--task", "both"]
    expected = start(hub, tmp_path, *command, "--root", str(release))
    assert expected.returncode == 0, expected.stderr
    assert hub.requests == []

    def assert_equal(*where: str, **settings: str) -> None:
        done = start(hub, tmp_path, *command, *where, **settings)
        assert (done.returncode, done.stdout) == (0, expected.stdout), done.stderr

    assert_equal("--repo-id", "NS/MMRel")
    assert_equal("--root", "hf://datasets/NS/MMRel@main/")
    asked = [request.path for request in hub.requests if "/resolve/" in request.path]
    paths = (path.rpartition("/resolve/")[2].partition("/")[2] for path in asked)
    records = {"data/real/test.jsonl", "data/dalle/adversarial.jsonl"}
    schemas = {
        "schema/record.schema.json",
        "schema/taxonomy.json",
    }  # mmrel.Release reads the former
    assert set(paths) - {""} == {"checksums.json", *schemas, *records}
    hub.requests.clear()
    assert_equal("--repo-id", "NS/MMRel", HF_HUB_OFFLINE="1")
    assert_equal("--repo-id", "NS/MMRel", HF_ENDPOINT=NOWHERE)
    assert hub.requests == []


def test_a_revision_stays_what_it_is(hub: LoopbackHub, release: Path, tmp_path: Path) -> None:
    repo = hub.repo("NS/MMRel")
    commit = repo.tags["v1.0.0"] = repo.branches["main"]
    command = [write_answers(tmp_path / "a.jsonl", GOOD), "--repo-id", "NS/MMRel"]
    before = start(hub, tmp_path, *command)
    lines = (release / "data/real/test.jsonl").read_text().splitlines()[:2]
    write_release(release, {"data/real/test.jsonl": [json.loads(line) for line in lines]}, "Half.")
    hub.commit("NS/MMRel", read_release_files(release))
    for revision in ("v1.0.0", commit):
        done = start(hub, tmp_path, *command, "--revision", revision)
        assert (done.returncode, done.stdout) == (0, before.stdout), done.stderr
    assert "Half." in start(hub, tmp_path, *command, "--partial").stdout


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (["--repo-id", "NS/Other"], {}, "no dataset 'NS/Other' on the Hub"),
        (["--repo-id", "NS/MMRel", "--revision", "v9"], {}, "no branch, tag or commit 'v9'"),
        (
            ["--repo-id", "NS/Empty"],
            {},
            "NS/Empty is no release of MMRel: it has no checksums.json",
        ),
        (["--root", "hf://datasets/NS/MMRel"], {"HF_ENDPOINT": NOWHERE}, "check the network"),
        (["--repo-id", "NS/MMRel"], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
    ],
)
def test_releases_that_cannot_be_fetched(
    hub: LoopbackHub, tmp_path: Path, arguments: list[str], settings: dict[str, str], message: str
) -> None:
    hub.create("NS/Empty")
    done = start(hub, tmp_path, write_answers(tmp_path / "a.jsonl", GOOD), *arguments, **settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repo-id", "MMRel"], "expected repo_id to be NS/NAME"),
        (["--repo-id", "NS/MMRel", "--revision", ""], "got 'hf://datasets/NS/MMRel@'"),
        (
            ["--repo-id", "NS/MMRel", "--revision", "../../x"],
            "got 'hf://datasets/NS/MMRel@../../x'",
        ),
        (["--root", "https://127.0.0.1/datasets/NS/MMRel"], "hf://datasets/NS/NAME[@REVISION]"),
        (["--repo-id", "NS/MMRel", "--root", "mmrel"], "leave out what does not belong"),
        (
            ["--revision", "v1.0.0"],
            "repo_id= (--repo-id) with or without its revision= (--revision)",
        ),
        (["--root", "hf://datasets/NS/MMRel", "--revision", "x"], "leave out what does not belong"),
    ],
)
def test_wrong_names_of_releases(arguments: list[str], message: str, capsys: Captured) -> None:
    assert score(str(ANSWERS), *arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_hub_that_answers_with_an_error(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.rules.append(Rule("resolve", "500", times=99))
    done = start(hub, tmp_path, write_answers(tmp_path / "a.jsonl", GOOD), "--repo-id", "NS/MMRel")
    assert (done.returncode, done.stdout) == (1, "")
    assert "NS/MMRel/checksums.json was not downloaded before and cannot be read now" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_files_on_the_hub_that_differ_from_its_checksums(hub: LoopbackHub, tmp_path: Path) -> None:
    command = [write_answers(tmp_path / "a.jsonl", GOOD), "--repo-id", "NS/MMRel"]
    assert start(hub, tmp_path, *command).returncode == 0
    (copy,) = (tmp_path / "home").rglob("snapshots/*/data/real/test.jsonl")
    copy.write_bytes(b"damaged")
    done = start(hub, tmp_path, *command, HF_HUB_OFFLINE="1")
    assert "expected data/real/test.jsonl of NS/MMRel@" in done.stderr
    done = start(hub, tmp_path, *command)  # it is fetched again
    assert done.returncode == 0, done.stderr
    hub.commit("NS/MMRel", {"schema/taxonomy.json": b"{}"})
    done = start(hub, tmp_path, *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected schema/taxonomy.json of NS/MMRel@" in done.stderr
    assert done.stderr.count("\n") == 1


WITHOUT_DATASETS = """
import runpy, sys
sys.modules["datasets"] = None
sys.argv = ["relation_accuracy.py", *sys.argv[2:]]
runpy.run_path(ROOT, run_name="__main__")
"""


def test_a_release_needs_datasets(tmp_path: Path) -> None:
    code = WITHOUT_DATASETS.replace("ROOT", repr(str(ROOT / "relation_accuracy.py")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = python(tmp_path, environment, "-c", code, "score", str(ANSWERS))
    assert (done.returncode, done.stdout) == (1, "")
    missing = "datasets is not installed; install what it needs: pip install ."
    assert done.stderr == f"relation_accuracy.py: {missing}\n"


def test_a_root_is_the_root(
    release: Path, tmp_path: Path, monkeypatch: Patch, capsys: Captured
) -> None:
    answers = write_answers(tmp_path / "a.jsonl", GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    outputs = set()
    for root in ("release", "./release", f"../{tmp_path.name}/release", "~/release", str(release)):
        assert score(answers, f"--root={root}") == 0, root
        outputs.add(capsys.readouterr().out)
        assert load_release(root) == load_release(release)
    assert len(outputs) == 1
    monkeypatch.chdir(ROOT)  # a clone, whose sample must not be taken instead
    for root in ("my-relaese", "~/my-relaese", "data", "", "~nobody-here"):
        assert score(answers, "--root", root) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
    assert score(answers, "--root", ".") == 1
    assert (
        "give the answers to these questions" in capsys.readouterr().err
    )  # the sample's questions


def test_a_hostile_index(release: Path, tmp_path: Path, capsys: Captured) -> None:
    # A note that is no text was a traceback, an escape sequence went to the terminal.
    answers = write_answers(tmp_path / "a.jsonl", GOOD)
    stated = json.loads((release / "checksums.json").read_text())
    listed = {"data/real/test.jsonl": 1}
    changes = ({"note": 5}, {"version": ["1"]}, {"files": []}, {"files": listed})
    for change in changes:
        (release / "checksums.json").write_text(json.dumps({**stated, **change}))
        status, out, err = run(release, answers, capsys=capsys)
        assert (status, out, err.count("\n")) == (1, "", 1), change
    (release / "checksums.json").write_text(json.dumps({**stated, "note": "\x1b[2J \ud800 ä"}))
    target = str(tmp_path / "f.json")
    status, out, _ = run(release, answers, "--json", target, "--model", "\udcff", capsys=capsys)
    assert status == 0
    assert "\\x1b[2J \\ud800 ä\n" in out
    assert json.loads(Path(target).read_text("utf-8"))["run"]["model"] == "\udcff"
    data = b"[1]\n"
    (release / "data/real/test.jsonl").write_bytes(data)
    stated["files"]["data/real/test.jsonl"]["sha256"] = hashlib.sha256(data).hexdigest()
    (release / "checksums.json").write_text(json.dumps(stated))
    assert "expected a record" in run(release, answers, capsys=capsys)[2]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is in Python 3.11 and later")
def test_the_wheel_scores_open_ended_answers(tmp_path: Path) -> None:
    # An installed wheel had no taxonomy.json. This lays files out as pyproject.toml and setup.py
    # say; CI builds a real wheel.
    import tomllib

    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    for module in setuptools["py-modules"]:
        shutil.copy(ROOT / f"{module}.py", tmp_path)
    package = tmp_path / "mmrel_kit"
    shutil.copytree(ROOT / "mmrel_kit", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "schema", package / "sample" / "schema")
    code = """if True:
        from relation_accuracy import compute
        record = {"question_id": "q", "answer": "above", "category": "spatial"}
        record["task"] = "generative"
        answers = [{"question_id": "q", "answer": "It is over the car"}]
        report = compute(predictions=answers, references=[record], task="generative")
        print(report["open_ended"]["accuracy"])
    """
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (tmp_path / "empty").mkdir()
    done = python(tmp_path / "empty", environment, "-c", code)
    assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr

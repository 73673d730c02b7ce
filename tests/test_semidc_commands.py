"""The steps as commands: from pictures to records, and errors of a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrel_kit.files import InputError, write_json_lines
from mmrel_kit.questions.records import Triplet
from mmrel_kit.semidc.items import Proposal, read_proposals, write_proposals
from mmrel_kit.semidc.people.store import Project
from tests.helpers.labelling import (
    FIRST,
    decide,
    draw_picture,
    make_reply,
    run_label,
)
from tests.helpers.stub_endpoint import StubEndpoint


def test_the_commands_lead_from_pictures_to_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, file = tmp_path / "images", tmp_path / "items.jsonl"
    draw_picture(images, FIRST)
    status, out, _ = run_label(capsys, "select", "--images", images, "--out", tmp_path / "c.jsonl")
    assert (status, out.splitlines()[0]) == (0, f"1 pictures written to {tmp_path / 'c.jsonl'}")
    with StubEndpoint(lambda request: make_reply(("cat", "on", "dog", 0.5))) as stub:
        where = (
            "--base-url",
            stub.url,
            "--model",
            "m",
            "--store",
            tmp_path / "r.sqlite",
            "--parameter",
            "seed=1",
        )
        words = (
            "propose",
            tmp_path / "c.jsonl",
            "--category",
            "spatial",
            "--images",
            images,
            "--out",
            file,
            *where,
        )
        status, out, _ = run_label(capsys, *words)
        assert (status, stub.requests[0].body["seed"]) == (0, 1)
        assert "1 items to verify written to" in out
        status, out, err = run_label(capsys, *words, "--times", 5, "--max-requests", 2)
        assert status == 1
        kept = f"1 replies of 'm' at {stub.url} are in {tmp_path / 'r.sqlite'} (asked before)"
        assert out.startswith(f"{kept}; none of them is asked again\n")
        assert err == "stopped: the budget of 2 requests is spent; raise it to continue\n"
        run_label(capsys, *words)
    project = Project(tmp_path / "p.sqlite", make=True)
    project.set_people(1)
    project.add(read_proposals([file], images))
    decide(project, "ann", "accept")
    assert "3 questions are ready" in run_label(capsys, "ask", project.path)[1]
    assert "1 items: 1 settled" in run_label(capsys, "agree", project.path)[1]
    status, out, _ = run_label(
        capsys, "export", project.path, "--out", tmp_path / "json", "--split", "train"
    )
    assert (status, out) == (0, f"3 records written to {tmp_path / 'json/train.jsonl'}\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("agree none.sqlite", "agree: none.sqlite: expected a project file, found none"),
        ("select --images none --out c.jsonl", "select: none: expected pictures"),
        (
            "verify p.sqlite",
            "verify: expected --images, the folder that holds vg/, SPEC/ …, got ''",
        ),
        (
            "propose none.jsonl --category action --images . --out o"
            " --base-url http://127.0.0.1:9/v1 --model m",
            "propose: none.jsonl: No such file or directory",
        ),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run_label(capsys, *words.split())
    assert status == 1
    assert err.startswith(f"mmrel label {expected}")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []  # verify used to leave a project behind


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            b"\xff\xfe{}\n",
            "expected a JSON object in each line: 'utf-8' codec can't decode byte 0xff",
        ),
        (
            b'{"category": "action", "subject": "a\\ud800"}\n',
            "expected text that UTF-8 can hold, got ",
        ),
    ],
)
def test_lines_that_are_no_text_are_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes, problem: str
) -> None:
    # The command caught every ValueError, bugs among them, and so these without file and line.
    path, images = tmp_path / "items.jsonl", tmp_path / "images"
    images.mkdir()
    path.write_bytes(line)
    options = ("--images", images, "--items", path, "--port", 0)
    status, _, err = run_label(capsys, "verify", tmp_path / "p.sqlite", *options)
    assert status == 1
    assert err.startswith(f"mmrel label verify: {path}:1: {problem}")
    assert err.count("\n") == 1


def test_a_file_of_items_with_such_a_word_is_refused_by_its_line(tmp_path: Path) -> None:
    draw_picture(tmp_path, FIRST)
    triplet = Triplet("cup", "above", "dog")
    proposal = Proposal(FIRST, "action", triplet, 0.5, None, "model", "test")
    write_proposals(tmp_path / "p.jsonl", [proposal])
    with pytest.raises(InputError, match=r"p\.jsonl:1: .*, got the spatial word 'above'"):
        list(read_proposals([tmp_path / "p.jsonl"], tmp_path))


def test_nothing_is_written_that_is_no_text(tmp_path: Path) -> None:
    expected = r"lines\.jsonl: expected text that UTF-8 can hold, got '.*ud800"
    with pytest.raises(InputError, match=expected):
        write_json_lines(tmp_path / "lines.jsonl", [{"name": "a\ud800"}])
    assert not (tmp_path / "lines.jsonl").exists()


def test_an_address_that_cannot_be_is_one_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "images").mkdir()
    options = ("--images", tmp_path / "images", "--port", 99999)
    status, _, err = run_label(capsys, "verify", tmp_path / "p.sqlite", *options)
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith("mmrel label verify: 127.0.0.1:99999: cannot listen there: ")

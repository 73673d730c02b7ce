"""Asking a model for relations: what becomes a proposal, and what is counted instead."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmrel_kit.commands.options import parse_share
from mmrel_kit.endpoint import Endpoint
from mmrel_kit.files import Share
from mmrel_kit.semidc.model.propose import PARAMETERS, propose
from mmrel_kit.semidc.model.select import Candidate
from tests.helpers.labelling import (
    CAT,
    DOG,
    FIRST,
    SECOND,
    draw_picture,
    make_reply,
    make_things,
    run_label,
)
from tests.helpers.stub_endpoint import Fault, StubEndpoint, StubRequest


def run(
    folder: Path,
    say: Any,
    fault: Any = lambda request: None,
    category: str = "spatial",
    **options: Any,
) -> Any:
    with StubEndpoint(say, fault) as stub:
        proposals, drops = run_at(stub, folder, category, **options)
    return proposals, drops, stub


def run_at(stub: StubEndpoint, folder: Path, category: str = "spatial", **options: Any) -> Any:
    images, drops = folder / "images", Counter[str]()
    things = make_things(CAT, DOG)
    candidates = [
        Candidate(draw_picture(images, image_id), 200, 200, things) for image_id in (FIRST, SECOND)
    ]
    store, settings = folder / "replies.sqlite", {"retries": 0, "concurrency": 1}
    client = Endpoint(stub.url, "m", store, parameters=PARAMETERS, **settings)
    proposals = propose(candidates, category, client, images, drops, **options)
    client.close()
    return proposals, drops


def test_a_model_s_triplets_become_proposals(tmp_path: Path) -> None:
    said = make_reply(("Cat", "to the left of", "the dog", 0.8), ("dog", "on", "cat", 1.5))
    proposals, drops, stub = run(tmp_path, lambda request: f"```json\n{said}\n```")
    assert [(p.image_id, *p.triplet, p.confidence) for p in proposals] == [
        (FIRST, "cat", "left", "dog", 0.8), (FIRST, "dog", "on", "cat", 1.0),
        (SECOND, "cat", "left", "dog", 0.8), (SECOND, "dog", "on", "cat", 1.0),
    ]  # fmt: skip
    assert not drops
    assert {p.source for p in proposals} == {"propose spatial-1 m"}
    assert "Speak only of these things in it: cat, dog." in stub.requests[0].prompt
    assert stub.requests[0].body["response_format"]["json_schema"]["strict"] is True
    assert not {"{things}", "{relations}"} & set(stub.requests[0].prompt.split())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("I see a cat.", "reply: not JSON"),
        ("", "reply: not JSON"),
        ("[" * 50_000, "reply: not JSON"),
        ("[]", "reply: does not match the schema"),
        ('{"triplets": [{"subject": "cat"}]}', "reply: does not match the schema"),
        (make_reply(("cat", "on", 7, 0.5)), "reply: does not match the schema"),
        (make_reply(("cat", "on", "dog", "high")), "reply: does not match the schema"),
        (make_reply(("cat", "among", "dog", 0.5)), "triplet: outside the taxonomy"),
        (
            make_reply(("cat", "on", "unicorn", 0.5)),
            "triplet: about things that were not asked about",
        ),
        (make_reply(("cat", "on", "cat", 0.5)), "triplet: subject and object are the same"),
        (make_reply(("cat", "on", "dog?", 0.5)), "triplet: no question can be asked about it"),
        (make_reply(("cat", "on", "", 0.5)), "triplet: no question can be asked about it"),
    ],
)  # fmt: skip
def test_what_is_no_proposal_is_counted_by_reason(tmp_path: Path, said: str, reason: str) -> None:
    good = make_reply(("cat", "on", "dog", 0.5))
    proposals, drops, _ = run(tmp_path, lambda request: said if request.number == 1 else good)
    assert [p.image_id for p in proposals] == [SECOND]
    assert drops == {reason: 1}


def test_a_verb_of_another_category_is_no_proposal(tmp_path: Path) -> None:
    # Such a reply was proposed, rejected by people, and became a question with the answer no.
    said = make_reply(*(("cat", verb, "dog", 0.5) for verb in ("above", "bigger", "watch")))
    proposals, drops, _ = run(tmp_path, lambda request: said, category="action")
    assert {p.triplet for p in proposals} == {("cat", "look", "dog")}
    assert drops == {
        "triplet: expected a verb (hold, ride, eat …), got the spatial word 'above'": 2,
        "triplet: expected a verb (hold, ride, eat …), got the comparative word 'bigger'": 2,
    }


def test_refusals_and_failures_are_counted_and_failures_are_asked_again(tmp_path: Path) -> None:
    refusal = b'{"choices": [{"message": {"content": null, "refusal": "no"}}]}'

    def fault(request: StubRequest) -> Fault | None:
        return {1: Fault(body=refusal), 2: Fault(400)}.get(request.number)

    with StubEndpoint(lambda request: make_reply(("cat", "on", "dog", 0.5)), fault) as stub:
        proposals, drops = run_at(stub, tmp_path)
        assert (proposals, drops) == ([], {"reply: refusal": 1, "no reply: HTTP 400": 1})
        proposals, drops = run_at(stub, tmp_path)
    assert [p.image_id for p in proposals] == [SECOND]
    assert (len(stub.requests), drops) == (3, {"reply: refusal": 1})


def test_the_spread_of_several_answers_is_kept(tmp_path: Path) -> None:
    on, under = ("cat", "on", "dog", 0.9), ("cat", "under", "dog", 0.6)
    proposals, _, stub = run(
        tmp_path,
        lambda request: make_reply(on) if request.attempt < 3 else make_reply(on, under),
        times=3,
    )
    assert len(stub.requests) == 6
    assert [(p.triplet.relation, p.confidence, p.spread) for p in proposals[:2]] == [
        ("on", 0.9, {"asked": 3, "said": 3, "confidences": [0.9, 0.9, 0.9]}),
        ("under", 0.2, {"asked": 3, "said": 1, "confidences": [0.6]}),
    ]


def test_shards_part_the_pictures_among_machines() -> None:
    names = [f"vg/VG_100K/{n}.jpg" for n in range(200)]
    parts = [[name for name in names if parse_share(f"{n}/3").holds(name)] for n in (1, 2, 3)]
    assert sorted(sum(parts, [])) == sorted(names)
    assert min(map(len, parts)) > 40
    assert parse_share("1/1") == Share()
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(
            ArgumentTypeError, match="expected I/N with 1 <= I <= N, such as 3/64, got"
        ):
            parse_share(wrong)


def test_the_replies_of_propose_lie_beside_its_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lay in the working folder's replies.sqlite, whatever the output, model and endpoint."""
    monkeypatch.chdir(tmp_path)
    draw_picture(tmp_path / "images", FIRST)
    run_label(capsys, "select", "--images", "images", "--out", "c.jsonl")
    with StubEndpoint(lambda request: make_reply(("cat", "on", "dog", 0.5))) as stub:
        words = ("propose", "c.jsonl", "--category", "spatial", "--images", "images")
        endpoint = ("--base-url", stub.url, "--model", "m")
        status, out, _ = run_label(capsys, *words, "--out", "new/items.jsonl", *endpoint)
    assert (status, "1 items to verify written to new/items.jsonl" in out) == (0, True)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*l*")}
    assert files == {"c.jsonl", "new/items.jsonl", "new/items.jsonl.store.sqlite"}


def test_propose_without_an_answer_ends_with_1(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It ended with 0, and an empty file."""
    draw_picture(tmp_path / "images", FIRST)
    run_label(capsys, "select", "--images", tmp_path / "images", "--out", tmp_path / "c.jsonl")
    words = ("propose", tmp_path / "c.jsonl", "--category", "spatial")
    folders = ("--images", tmp_path / "images", "--out", tmp_path / "items.jsonl")
    with StubEndpoint(fault=lambda request: Fault(400)) as stub:
        status, out, _ = run_label(capsys, *words, *folders, "--base-url", stub.url, "--model", "m")
    assert (status, out.splitlines()[0]) == (1, "0 answered, 1 failed")

"""Questions from settled items: twins that are false, open ones, and what becomes none."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmrel_kit.questions.records import Triplet, parse_question
from mmrel_kit.questions.taxonomy import read_taxonomy
from mmrel_kit.semidc.items import Item, Proposal
from mmrel_kit.semidc.people import ask
from mmrel_kit.semidc.people.ask import Verified, make_questions, propose_negatives, read_verified
from mmrel_kit.semidc.people.store import Decision, Project
from mmrel_kit.semidc.words import are_synonyms
from tests.helpers.labelling import (
    FIRST,
    SECOND,
    add_unchecked,
    decide,
    make_project,
)


def asked(project: Project) -> list[tuple[str, str]]:
    return [(record.question, record.answer) for record in make_questions(project).records]


def test_a_spatial_triplet_gives_yes_its_swap_and_the_open_question(tmp_path: Path) -> None:
    project = make_project(tmp_path, (FIRST, "spatial", "unicorn above hour", "accept"))
    assert asked(project) == [
        ("Is there a unicorn above to an hour in the image?", "yes"),
        ("What is the spatial relation of a unicorn to an hour in the image?", "above"),
        ("Is there an hour above to a unicorn in the image?", "no"),
    ]
    assert all(parse_question(question) for question, _ in asked(project))


def test_a_comparative_triplet_is_swapped_and_turned_to_its_opposite(tmp_path: Path) -> None:
    project = make_project(tmp_path, (FIRST, "comparative", "elephant bigger ant", "accept"))
    assert [pair for pair in asked(project) if pair[1] == "no"] == [
        ("Is an ant bigger than an elephant in the image?", "no"),
        ("Is an elephant smaller than an ant in the image?", "no"),
    ]


def test_what_people_corrected_is_the_false_twin_of_what_is_true(tmp_path: Path) -> None:
    project = make_project(
        tmp_path, (FIRST, "action", "person sit surfboard", "correct", "person stand surfboard")
    )
    assert asked(project) == [
        ("Does a person stand a surfboard in the image?", "yes"),
        ("What is the action relation of a person to a surfboard in the image?", "stand"),
        ("Does a person sit a surfboard in the image?", "no"),
    ]
    assert propose_negatives(project) == []


def test_another_verb_is_false_only_once_people_said_so(tmp_path: Path) -> None:
    project = make_project(
        tmp_path,
        (FIRST, "action", "man push cart", "accept"),
        (SECOND, "action", "man ride cart", "accept"),
    )
    assert not [pair for pair in asked(project) if pair[1] == "no"]
    negatives = propose_negatives(project)
    assert [(p.image_id, *p.triplet, p.origin) for p in negatives] == [
        (FIRST, "man", "pull", "cart", "negative"),  # the opposite of push
        (SECOND, "man", "push", "cart", "negative"),  # what another picture shows of the same two
    ]
    hashes = project.pictures()
    project.add((proposal, hashes[proposal.image_id]) for proposal in negatives)
    assert propose_negatives(project) == []  # people have not looked at them yet
    decide(project, "ann", "accept")  # it is true: no negative, and another verb is looked for
    decide(project, "ann", "reject")
    assert [pair for pair in asked(project) if pair[1] == "no"] == [
        ("Does a man push a cart in the image?", "no")
    ]
    assert {p.triplet.relation for p in propose_negatives(project)} == {"ride"}


def test_a_false_verb_never_means_the_same(tmp_path: Path) -> None:
    project = make_project(
        tmp_path,
        (FIRST, "action", "man look dog", "accept"),
        (SECOND, "action", "man watch dog", "accept"),
    )
    assert propose_negatives(project) == []


def test_what_contradicts_itself_becomes_no_question(tmp_path: Path) -> None:
    project = make_project(
        tmp_path,
        (FIRST, "spatial", "cat left dog", "accept"),
        (FIRST, "spatial", "dog left cat", "accept"),
        (FIRST, "spatial", "cup left cup", "accept"),
        (SECOND, "spatial", "cat left dog", "accept"),
        (SECOND, "spatial", "cat above dog", "accept"),
    )
    questions = make_questions(project)
    assert [record.image_id for record in questions.records] == [SECOND] * 4
    assert questions.drops == {
        "contradicts another verified triplet of the picture": 2,
        "both things have the same name": 1,
        "open question left out: several relations are true of the two things": 2,
    }


def test_a_relation_of_another_category_becomes_no_question(tmp_path: Path) -> None:
    # Each way by which "Does a cup above a dog in the image?" became ground truth in version 1.0.0:
    # a rejected proposal, a rejected false verb, an accepted proposal, a typed correction.
    project = make_project(tmp_path, (FIRST, "action", "cup hold dog", "accept"))
    add_unchecked(
        project, ("action", "cup above dog", "model"), ("action", "cup bigger dog", "negative")
    )
    add_unchecked(
        project, ("action", "cup inside dog", "model"), ("action", "cup throw dog", "model")
    )
    add_unchecked(project, ("comparative", "cup under dog", "model"))
    for verdict in ("reject", "reject", "accept"):
        decide(project, "ann", verdict)
    decide(project, "ann", "correct", Triplet("cup", "left", "dog"))
    decide(project, "ann", "accept")
    questions = make_questions(project)
    assert [(record.question, record.answer) for record in questions.records] == [
        ("Does a cup hold a dog in the image?", "yes"),
        ("What is the action relation of a cup to a dog in the image?", "hold"),
        ("Does a cup throw a dog in the image?", "no"),
    ]
    verb = "expected a verb (hold, ride, eat …), got the"
    comparative = "expected a comparative (bigger, taller …), got the"
    assert questions.drops == {
        f"action triplet: {verb} spatial word 'above'": 1,
        f"action triplet: {verb} comparative word 'bigger'": 1,
        f"action triplet: {verb} spatial word 'inside'": 1,
        f"action triplet: {verb} spatial word 'left'": 1,
        f"comparative triplet: {comparative} spatial word 'under'": 1,
    }


def test_a_word_of_another_category_is_no_false_verb(tmp_path: Path) -> None:
    # Verbs are taken from other items of the project, and those of version 1.0.0 may be such words.
    project = make_project(tmp_path, (FIRST, "action", "cup hold dog", "accept"))
    add_unchecked(
        project, ("action", "cup above dog", "model"), ("action", "man inside dog", "negative")
    )
    assert propose_negatives(project) == []
    add_unchecked(project, ("action", "man throw dog", "model"))
    assert [p.triplet for p in propose_negatives(project)] == [("cup", "throw", "dog")]


# ---- large projects: what the quadratic code of version 1.0.0 said


def plain_false(verified: list[Verified], picture: tuple[str, str], found: Any) -> list[Verified]:
    """What is false of a picture in a category, by looking at every verified item."""
    false = [v for v in verified if (v.item.image_id, v.item.category) == picture]
    return [v for v in false if v.truth != v.item.triplet and v.item.triplet not in found]


def plain_waiting(project: Project) -> tuple[set[int], list[Triplet]]:
    """Items that lack a false verb, and the false verbs that are asked about."""
    verified = read_verified(project)
    truths = ask._find_truths(verified, Counter())
    waiting, asked_about = set(), []
    for picture, found in truths.items():
        false = plain_false(verified, picture, found)
        for truth, one in found.items():
            same = [v for v in false if v.item.triplet[::2] == truth[::2]]
            if same:
                asked_about.append(same[0].item.triplet)
                false.remove(same[0])
            else:
                waiting.add(one.item.id)
    return waiting, asked_about


def plain_rank(truth: Triplet, items: list[Item]) -> list[str]:
    known = read_taxonomy().categories["action"].relations.get(truth.relation)
    ranked: list[list[str]] = [list(known.opposites) if known else [], [], [], []]
    for subject, relation, object_ in (item.triplet for item in items):
        same = (subject == truth.subject, object_ == truth.object)
        if any(same):
            ranked[{(True, True): 1, (False, True): 2, (True, False): 3}[same]].append(relation)
    counts = map(Counter, ranked)
    ordered = (sorted(count.items(), key=lambda pair: (-pair[1], pair[0])) for count in counts)
    return list(dict.fromkeys(verb for verbs in ordered for verb, _ in verbs))


def plain_negatives(project: Project) -> list[Proposal]:
    items = list(project.items())
    pending = {ask._pair(item) for item in items if item.origin == "negative"} - {
        ask._pair(v.item) for v in read_verified(project) if v.item.origin == "negative"
    }
    proposals = []
    for verified in make_questions(project).awaiting_negative:
        truth, image_id = verified.truth or verified.item.triplet, verified.item.image_id
        pair = image_id, truth.subject, truth.object
        if pair in pending:
            continue
        taken = [i.triplet.relation for i in items if ask._pair(i) == pair]
        taken.append(truth.relation)
        verbs = plain_rank(truth, items)
        fitting = (
            verb for verb in verbs if not any(are_synonyms("action", verb, t) for t in taken)
        )
        if verb := next(fitting, None):
            source = f"ask: false verb for item {verified.item.id}"
            proposal = truth._replace(relation=verb)
            proposals.append(Proposal(image_id, "action", proposal, None, None, "negative", source))
    return proposals


@pytest.mark.parametrize("seed", range(25))
def test_ask_says_what_a_look_at_every_item_says(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    verbs = ("push", "pull", "hold", "grip", "sit", "stand", "look", "watch", "juggle", "feed")
    verbs = verbs[: chance.choice((4, 10))]
    project = Project(tmp_path / "project.sqlite", make=True)
    project.set_people(1)

    def draw_triplet() -> Triplet:
        subject, object_ = chance.choice(("man", "dog")), chance.choice(("cart", "cup", "cat"))
        return Triplet(subject, chance.choice(verbs), object_)

    pictures = [f"vg/VG_100K/{number}.jpg" for number in range(chance.choice((1, 4, 12)))]
    for _ in range(60):
        proposal = Proposal(
            chance.choice(pictures), "action", draw_triplet(), None, None,
            chance.choice(("model", "model", "negative")), "test",
        )  # fmt: skip
        project.add([(proposal, proposal.image_id)])
    for _ in range(chance.choice((20, 50))):
        if item := project.next_item("ann"):
            verdict = chance.choice(("accept", "reject", "correct", "skip"))
            correction = draw_triplet() if verdict == "correct" else None
            project.decide(Decision(f"{item.id}", item.id, "ann", verdict, correction))
    questions = make_questions(project)
    waiting, asked_about = plain_waiting(project)
    assert {v.item.id for v in questions.awaiting_negative} == waiting
    false = [r for r in questions.records if r.answer == "no"]
    assert [(r.subject, r.relation, r.object) for r in false] == asked_about
    assert propose_negatives(project) == plain_negatives(project)
    project.close()

"""The steps from pictures to records: select, propose, generate, ask, agree, export, each with what it leaves out."""

from __future__ import annotations

import io
import json
import random
from argparse import ArgumentTypeError
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import krippendorff
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics

from mmrel_kit import cli
from mmrel_kit.commands.options import parse_share
from mmrel_kit.endpoint import Endpoint
from mmrel_kit.files import InputError, Share, write_json_lines
from mmrel_kit.questions.records import Triplet, parse_question
from mmrel_kit.questions.taxonomy import read_taxonomy
from mmrel_kit.semidc.items import Item, Proposal, read_proposals, write_proposals
from mmrel_kit.semidc.model.generate import Wish, generate, make_prompt, read_wishes
from mmrel_kit.semidc.model.propose import PARAMETERS, propose, read_prompt
from mmrel_kit.semidc.model.select import Candidate, Thing, read_candidates, read_folder, read_visual_genome, select
from mmrel_kit.semidc.people import agree, ask
from mmrel_kit.semidc.people.ask import Verified, make_negatives, make_questions, read_verified
from mmrel_kit.semidc.people.export import export_label_studio, export_records
from mmrel_kit.semidc.people.store import Decision, Project
from mmrel_kit.semidc.words import are_same, make_triplet, spoken_article, tidy_name
from tests.helpers.questions import read as read_questions
from tests.helpers.stub_endpoint import Asked, Fault, StubEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, SECOND = "vg/VG_100K/1.jpg", "vg/VG_100K_2/2.jpg"


def draw(images: Path, image_id: str, size: tuple[int, int] = (200, 200)) -> str:
    path = images / image_id
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("RGB", size, random.Random(image_id).randbytes(3 * size[0] * size[1])).save(path)
    return image_id


# ---- words


@pytest.mark.parametrize("name", ["elephant", "hour", "heir", "honest-man", "umbrella", "x-ray", "SUV", "uncle", "urn"])
def test_an_stands_before_what_sounds_like_a_vowel(name: str) -> None:
    assert spoken_article(name) == "an"


@pytest.mark.parametrize(
    "name", ["unicorn", "unicycle", "uniform", "university", "user", "ewe", "European", "ukulele", "UFO", "horse", "TV"]
)
def test_a_stands_before_what_sounds_like_a_consonant(name: str) -> None:
    assert spoken_article(name) == "a"


def test_words_are_brought_to_the_taxonomy_s() -> None:
    assert make_triplet("real", "action", " The Person", "sitting", "a  surfboard") == ("person", "sit", "surfboard")
    assert make_triplet("real", "spatial", "cat", "to the left of", "TV") == ("cat", "left", "TV")
    assert make_triplet("real", "comparative", "bus", "larger", "car").relation == "bigger"
    assert are_same("action", "look at", "watch")
    assert not are_same("action", "sit", "stand")


WORDS = ("panda", "bear", "a", "an", "the", "man", "TV", "Zebra", "é", "in")
NAMES = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=5)


@given(NAMES, st.sampled_from(("", "a ", "An ", "THE  ", " the\t")))
def test_a_name_loses_its_leading_article_and_nothing_else(words: list[str], article: str) -> None:
    # The pattern had no anchor: "panda bear" became "pandbear", "man in a hat" became "min a hat".
    name = " ".join(" ".join(words).split())
    assume(name)
    assume(article or name.split()[0].lower() not in ("a", "an", "the") or " " not in name)
    is_capitalized = name.isalpha() and name.istitle()
    assert tidy_name(article + name) == (name.lower() if is_capitalized else name)


@pytest.mark.parametrize("name", ["panda bear", "pizza box", "sofa bed", "theory", "a", "the"])
def test_names_in_triplets_stay_whole(name: str) -> None:
    assert make_triplet("real", "action", "the dog", "carry", name).object == name
    assert make_triplet("real", "action", name, "carry", "an egg").subject == name
    # As an object it would be read back as "hat".
    assert make_triplet("real", "action", "man in a hat", "eat", name).subject == "man in a hat"


@pytest.mark.parametrize(
    ("category", "words", "told"),
    [
        # "Does a cup above a dog in the image?" was a question of the category action.
        ("action", ("cup", "above", "dog"), r"a verb \(hold, .*\), got the spatial word 'above'"),
        ("action", ("cup", "Inside", "dog"), "got the spatial word 'inside'"),
        ("action", ("cup", "larger", "dog"), "got the comparative word 'larger'"),
        ("action", ("cup", "behind", "dog"), "expected a verb .*, got 'behind'"),
        ("action", ("person", "in to", "boat"), "expected a verb .*, got 'in to'"),
        # It ends like a comparative: "Is a cup under than a dog in the image?"
        ("comparative", ("cup", "under", "dog"), "comparative .*, got the spatial word 'under'"),
        ("spatial", ("cat", "among", "dogs"), "expected a spatial relation among above"),
        ("spatial", ("cat", "on top of", "dog"), "expected a spatial relation"),  # above or on: it does not tell
        ("comparative", ("car", "blue", "bus"), "expected a comparative"),
        ("action", ("man", "look very closely", "dog"), "no question can be asked"),
        ("action", ("man", "ride", ""), "of 1 to 100 characters"),
        ("action", ("man", "ride", "x" * 101), "of 1 to 100 characters"),
        ("action", ("man", "ride", "horse?"), "no question can be asked"),
        ("colour", ("man", "ride", "horse"), "expected a category"),
    ],
)  # fmt: skip
def test_words_that_make_no_question_are_refused(category: str, words: tuple[str, str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        make_triplet("real", category, *words)


# ---- select


def make_things(*boxes: tuple[str, int, int, int, int]) -> tuple[Thing, ...]:
    return tuple(Thing(*box) for box in boxes)


CAT, DOG = ("cat", 0, 0, 80, 80), ("dog", 100, 100, 80, 80)


@pytest.mark.parametrize(
    ("things", "reason"),
    [
        ([CAT, DOG], None),
        ([], None),
        ([CAT], "fewer than 2 large things"),
        ([CAT, ("fly", 0, 0, 5, 5)], "fewer than 2 large things"),
        ([(f"tile {n}", 30 * (n % 6), 30 * (n // 6), 29, 29) for n in range(13)], "more than 12 large things"),
        ([CAT, DOG, *[(f"ant {n}", n, 0, 2, 2) for n in range(21)]], "more than 20 small things"),
        ([CAT, ("coat", 5, 5, 70, 70)], "large things cover each other"),
        ([CAT, ("cat", 100, 0, 80, 80), DOG], "fewer than 2 large things that stand alone by their name"),
    ],
)  # fmt: skip
def test_scenes_are_left_out_by_stated_rules(tmp_path: Path, things: list[Any], reason: str | None) -> None:
    drops: Counter[str] = Counter()
    candidate = Candidate(draw(tmp_path, FIRST), 200, 200, make_things(*things))
    kept = list(select(iter([candidate]), tmp_path, drops))
    assert (len(kept), drops) == ((0, {reason: 1}) if reason else (1, {}))


def test_pictures_of_a_folder_are_left_out_where_they_cannot_be_used(tmp_path: Path) -> None:
    draw(tmp_path, FIRST)
    draw(tmp_path, "vg/VG_100K/3.jpg", (100, 300))
    (tmp_path / "vg/VG_100K/2.jpg").write_bytes((tmp_path / FIRST).read_bytes())
    (tmp_path / "vg/VG_100K/4.jpg").write_bytes(b"\xff\xd8 no picture")
    drops: Counter[str] = Counter()
    assert [c.image_id for c in select(read_folder(tmp_path), tmp_path, drops)] == [FIRST]
    assert drops == {"picture stands twice": 1, "smaller than 128 pixels": 1, "picture does not open": 1}


def make_genome(folder: Path, version: str) -> None:
    """The same scene in the shape of version 1.0, or of 1.2 and 1.4."""
    key = {"1.0": "id"}.get(version, "image_id")
    object_key = {"1.0": "id"}.get(version, "object_id")
    url = "https://example.org/people/VG_100K_2/2.jpg"
    cat, dog = ({"name": n, "x": x, "y": x, "w": w, "h": h} for n, x, _, w, h in (CAT, DOG))
    if version == "1.4":
        cat["names"] = [cat.pop("name")]
    files = {
        "image_data": [{key: 2, "url": url, "width": 200, "height": 200}],
        "objects": [{key: 2, "objects": [{object_key: 1, "names": ["Cat "], **{k: cat[k] for k in "xywh"}}]}],
        "relationships": [{key: 2, "relationships": [
            {"predicate": "ON", "subject": {object_key: 1, **cat}, "object": {object_key: 2, **dog}}]}],
    }  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("version", ["1.0", "1.2", "1.4"])
@pytest.mark.parametrize("without", [None, "objects", "relationships"])
def test_visual_genome_s_files_are_read_in_every_shape(tmp_path: Path, version: str, without: str | None) -> None:
    make_genome(tmp_path, version)
    if without:
        (tmp_path / f"{without}.json").unlink()
    (candidate,) = read_visual_genome(tmp_path)
    assert candidate.image_id == SECOND
    assert set(candidate.things) == set(make_things(CAT) if without == "relationships" else make_things(CAT, DOG))


def test_visual_genome_s_files_are_told_where_they_are_none(tmp_path: Path) -> None:
    make_genome(tmp_path, "1.2")
    (tmp_path / "objects.json").write_text('[{"image_id": 2, "objects": [')
    with pytest.raises(InputError, match=r"objects.json:1: expected a JSON array of objects"):
        list(read_visual_genome(tmp_path))
    (tmp_path / "objects.json").write_text('[{"image_id": 2}]')
    with pytest.raises(InputError, match=r"expected files of the shapes of Visual Genome 1.0, 1.2 or 1.4"):
        list(read_visual_genome(tmp_path))


@pytest.mark.parametrize("path", ["../x.jpg", "/x.jpg", "vg/../x.jpg", "vg/a\\b.jpg", "C:/x.jpg", "other/x.jpg", 7])
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, path: Any) -> None:
    write_json_lines(tmp_path / "c.jsonl", [{"image_id": path, "width": 1, "height": 1}])
    with pytest.raises(InputError, match=r"c.jsonl:1: expected"):
        list(read_candidates(tmp_path / "c.jsonl"))


# ---- propose


def triplets(*said: tuple[Any, ...]) -> str:
    keys = ("subject", "relation", "object", "confidence")
    return json.dumps({"triplets": [dict(zip(keys, one, strict=True)) for one in said]})


def run(folder: Path, say: Any, fault: Any = lambda asked: None, category: str = "spatial", **options: Any) -> Any:
    with StubEndpoint(say, fault) as stub:
        proposals, drops = run_at(stub, folder, category, **options)
    return proposals, drops, stub


def run_at(stub: StubEndpoint, folder: Path, category: str = "spatial", **options: Any) -> Any:
    images, drops = folder / "images", Counter[str]()
    things = make_things(CAT, DOG)
    candidates = [Candidate(draw(images, image_id), 200, 200, things) for image_id in (FIRST, SECOND)]
    store, settings = folder / "replies.sqlite", {"retries": 0, "concurrency": 1}
    asking = Endpoint(stub.url, "m", store, parameters=PARAMETERS, **settings)
    proposals = propose(candidates, category, asking, images, drops, **options)
    asking.close()
    return proposals, drops


def test_a_model_s_triplets_become_proposals(tmp_path: Path) -> None:
    said = triplets(("Cat", "to the left of", "the dog", 0.8), ("dog", "on", "cat", 1.5))
    proposals, drops, stub = run(tmp_path, lambda asked: f"```json\n{said}\n```")
    assert [(p.image_id, *p.triplet, p.confidence) for p in proposals] == [
        (FIRST, "cat", "left", "dog", 0.8), (FIRST, "dog", "on", "cat", 1.0),
        (SECOND, "cat", "left", "dog", 0.8), (SECOND, "dog", "on", "cat", 1.0),
    ]  # fmt: skip
    assert not drops
    assert {p.source for p in proposals} == {"propose spatial-1 m"}
    assert "Speak only of these things in it: cat, dog." in stub.asked[0].prompt
    assert stub.asked[0].body["response_format"]["json_schema"]["strict"] is True
    assert not {"{things}", "{relations}"} & set(stub.asked[0].prompt.split())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("I see a cat.", "reply: not JSON"),
        ("", "reply: not JSON"),
        ("[" * 50_000, "reply: not JSON"),
        ("[]", "reply: not of the schema"),
        ('{"triplets": [{"subject": "cat"}]}', "reply: not of the schema"),
        (triplets(("cat", "on", 7, 0.5)), "reply: not of the schema"),
        (triplets(("cat", "on", "dog", "high")), "reply: not of the schema"),
        (triplets(("cat", "among", "dog", 0.5)), "triplet: outside the taxonomy"),
        (triplets(("cat", "on", "unicorn", 0.5)), "triplet: about things not asked for"),
        (triplets(("cat", "on", "cat", 0.5)), "triplet: the same thing twice"),
        (triplets(("cat", "on", "dog?", 0.5)), "triplet: no question can be asked about it"),
        (triplets(("cat", "on", "", 0.5)), "triplet: no question can be asked about it"),
    ],
)  # fmt: skip
def test_what_is_no_proposal_is_counted_by_reason(tmp_path: Path, said: str, reason: str) -> None:
    good = triplets(("cat", "on", "dog", 0.5))
    proposals, drops, _ = run(tmp_path, lambda asked: said if asked.number == 1 else good)
    assert [p.image_id for p in proposals] == [SECOND]
    assert drops == {reason: 1}


def test_a_verb_of_another_category_is_no_proposal(tmp_path: Path) -> None:
    # Such a reply was proposed, rejected by people, and became a question with the answer no.
    said = triplets(*(("cat", verb, "dog", 0.5) for verb in ("above", "bigger", "watch")))
    proposals, drops, _ = run(tmp_path, lambda asked: said, category="action")
    assert {p.triplet for p in proposals} == {("cat", "look", "dog")}
    assert drops == {
        "triplet: expected a verb (hold, ride, eat …), got the spatial word 'above'": 2,
        "triplet: expected a verb (hold, ride, eat …), got the comparative word 'bigger'": 2,
    }


def test_refusals_and_failures_are_counted_and_failures_are_asked_again(tmp_path: Path) -> None:
    refusal = b'{"choices": [{"message": {"content": null, "refusal": "no"}}]}'

    def fault(asked: Asked) -> Fault | None:
        return {1: Fault(body=refusal), 2: Fault(400)}.get(asked.number)

    with StubEndpoint(lambda asked: triplets(("cat", "on", "dog", 0.5)), fault) as stub:
        proposals, drops = run_at(stub, tmp_path)
        assert (proposals, drops) == ([], {"reply: refusal": 1, "no reply: HTTP 400": 1})
        proposals, drops = run_at(stub, tmp_path)
    assert [p.image_id for p in proposals] == [SECOND]
    assert (len(stub.asked), drops) == (3, {"reply: refusal": 1})


def test_the_spread_of_several_answers_is_kept(tmp_path: Path) -> None:
    on, under = ("cat", "on", "dog", 0.9), ("cat", "under", "dog", 0.6)
    proposals, _, stub = run(tmp_path, lambda asked: triplets(on) if asked.nth < 3 else triplets(on, under), times=3)
    assert len(stub.asked) == 6
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
        with pytest.raises(ArgumentTypeError, match="expected I/N with 1 <= I <= N, such as 3/64, got"):
            parse_share(wrong)


# ---- generate


def test_drawn_pictures_are_kept_by_their_content(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (32, 32), "gold").save(png, "PNG")
    triplet = Triplet("crocodile", "on", "desert")
    wishes = [Wish("spatial", triplet, style) for style in ("watercolor", "abstract", "oil-painting")]
    drops: Counter[str] = Counter()
    with StubEndpoint(lambda asked: b"no picture" if "abstract" in asked.prompt else png.getvalue()) as stub:
        asking = Endpoint(stub.url, "painter", tmp_path / "r.sqlite", kind="images", concurrency=1)
        proposals = generate(wishes, asking, tmp_path, drops)
        asking.close()
    assert [Path(p.image_id).name.partition("_")[2] for p in proposals] == ["oil-painting.png", "watercolor.png"]
    assert {(tmp_path / p.image_id).read_bytes() for p in proposals} == {png.getvalue()}
    assert drops == {"reply: no picture (PNG, JPEG or WebP)": 1}
    assert "in this manner: watercolor. It shows a crocodile and a desert" in stub.asked[0].prompt
    assert stub.asked[0].prompt.endswith("this must be plainly true: crocodile on desert.")


def test_triplets_to_draw_are_read_whole_or_refused_by_their_line(tmp_path: Path) -> None:
    # A picture of "pandbear" was asked for.
    path = tmp_path / "t.jsonl"
    wish = {"category": "action", "subject": "a panda bear", "relation": "hold"}
    write_json_lines(path, [{**wish, "object": "pizza box"}])
    (read,) = read_wishes(path, ["watercolor"])
    assert read.triplet == ("panda bear", "hold", "pizza box")
    assert "It shows a panda bear and a pizza box" in make_prompt(read_prompt("image-1"), read)
    write_json_lines(path, [{**wish, "relation": "above", "object": "cup"}])
    with pytest.raises(InputError, match=r"t\.jsonl:1: .*, got the spatial word 'above'"):
        list(read_wishes(path, []))


# ---- ask, agree, export


def make_project(folder: Path, *items: tuple[Any, ...]) -> Project:
    """A project of one person: of each item picture, category, triplet, verdict and correction (null: left open)."""
    project = Project(folder / "project.sqlite", make=True)
    project.set_people(1)
    for image_id, category, words, verdict, *correction in items:
        triplet = Triplet(*words.split())
        draw(folder / "images", image_id)
        write_proposals(folder / "p.jsonl", [Proposal(image_id, category, triplet, 0.5, None, "model", "test")])
        project.add(read_proposals([folder / "p.jsonl"], folder / "images"))
        decide(project, "ann", verdict, *(Triplet(*words.split()) for words in correction))
    return project


def decide(project: Project, name: str, verdict: str | None, correction: Triplet | None = None) -> None:
    if verdict and (item := project.next_item(name)):
        project.decide(Decision(f"{name} {item.id}", item.id, name, verdict, correction, 2.0))


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
    project = make_project(tmp_path, (FIRST, "action", "person sit surfboard", "correct", "person stand surfboard"))
    assert asked(project) == [
        ("Does a person stand a surfboard in the image?", "yes"),
        ("What is the action relation of a person to a surfboard in the image?", "stand"),
        ("Does a person sit a surfboard in the image?", "no"),
    ]
    assert make_negatives(project) == []


def test_another_verb_is_false_only_once_people_said_so(tmp_path: Path) -> None:
    project = make_project(
        tmp_path, (FIRST, "action", "man push cart", "accept"), (SECOND, "action", "man ride cart", "accept")
    )
    assert not [pair for pair in asked(project) if pair[1] == "no"]
    negatives = make_negatives(project)
    assert [(p.image_id, *p.triplet, p.origin) for p in negatives] == [
        (FIRST, "man", "pull", "cart", "negative"),  # the opposite of push
        (SECOND, "man", "push", "cart", "negative"),  # what another picture shows of the same two
    ]
    hashes = project.pictures()
    project.add((proposal, hashes[proposal.image_id]) for proposal in negatives)
    assert make_negatives(project) == []  # people have not looked at them yet
    decide(project, "ann", "accept")  # it is true: no negative, and another verb is looked for
    decide(project, "ann", "reject")
    assert [pair for pair in asked(project) if pair[1] == "no"] == [("Does a man push a cart in the image?", "no")]
    assert {p.triplet.relation for p in make_negatives(project)} == {"ride"}


def test_a_false_verb_never_means_the_same(tmp_path: Path) -> None:
    project = make_project(
        tmp_path, (FIRST, "action", "man look dog", "accept"), (SECOND, "action", "man watch dog", "accept")
    )
    assert make_negatives(project) == []


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


def add_old(project: Project, *items: tuple[str, str, str]) -> None:
    """Add items of the first picture as version 1.0.0 let them in: category, triplet, origin."""
    hashes = project.pictures()
    proposals = [Proposal(FIRST, c, Triplet(*w.split()), None, None, o, "old") for c, w, o in items]
    project.add((proposal, hashes[FIRST]) for proposal in proposals)


def test_a_relation_of_another_category_becomes_no_question(tmp_path: Path) -> None:
    # Each way by which "Does a cup above a dog in the image?" became ground truth in version 1.0.0:
    # a rejected proposal, a rejected false verb, an accepted proposal, a typed correction.
    project = make_project(tmp_path, (FIRST, "action", "cup hold dog", "accept"))
    add_old(project, ("action", "cup above dog", "model"), ("action", "cup bigger dog", "negative"))
    add_old(project, ("action", "cup inside dog", "model"), ("action", "cup throw dog", "model"))
    add_old(project, ("comparative", "cup under dog", "model"))
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


def test_export_leaves_out_what_is_impossible_and_says_so(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = make_project(tmp_path, (FIRST, "action", "cup hold dog", "accept"))
    add_old(project, ("action", "cup above dog", "model"))
    decide(project, "ann", "accept")
    status, out, _ = command(capsys, "export", project.path, "--out", tmp_path / "json")
    assert status == 0
    assert "  1 x action triplet: expected a verb" in out
    assert "got the spatial word 'above'" in out
    assert "above" not in (tmp_path / "json" / "test.jsonl").read_text()


def test_a_word_of_another_category_is_no_false_verb(tmp_path: Path) -> None:
    # Verbs are taken from other items of the project, and those of version 1.0.0 may be such words.
    project = make_project(tmp_path, (FIRST, "action", "cup hold dog", "accept"))
    add_old(project, ("action", "cup above dog", "model"), ("action", "man inside dog", "negative"))
    assert make_negatives(project) == []
    add_old(project, ("action", "man throw dog", "model"))
    assert [p.triplet for p in make_negatives(project)] == [("cup", "throw", "dog")]


def test_a_file_of_items_with_such_a_word_is_refused_by_its_line(tmp_path: Path) -> None:
    draw(tmp_path, FIRST)
    triplet = Triplet("cup", "above", "dog")
    proposal = Proposal(FIRST, "action", triplet, 0.5, None, "model", "test")
    write_proposals(tmp_path / "p.jsonl", [proposal])
    with pytest.raises(InputError, match=r"p\.jsonl:1: .*, got the spatial word 'above'"):
        list(read_proposals([tmp_path / "p.jsonl"], tmp_path))


# ---- ask at scale: what the quadratic code of version 1.0.0 said


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
    for verified in make_questions(project).waiting:
        truth, image_id = verified.truth or verified.item.triplet, verified.item.image_id
        pair = image_id, truth.subject, truth.object
        if pair in pending:
            continue
        taken = [i.triplet.relation for i in items if ask._pair(i) == pair]
        taken.append(truth.relation)
        verbs = plain_rank(truth, items)
        fitting = (verb for verb in verbs if not any(are_same("action", verb, t) for t in taken))
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
    assert {v.item.id for v in questions.waiting} == waiting
    false = [r for r in questions.records if r.answer == "no"]
    assert [(r.subject, r.relation, r.object) for r in false] == asked_about
    assert make_negatives(project) == plain_negatives(project)
    project.close()


def test_records_pass_the_contract_and_say_who_verified(tmp_path: Path) -> None:
    project = make_project(tmp_path, (FIRST, "action", "person sit surfboard", None))
    project.set_people(2)
    decide(project, "ann", "correct", Triplet("person", "stand", "surfboard"))
    decide(project, "ben", "reject")
    item = project.next_item("cy", adjudicate=True)
    assert item
    project.decide(Decision("cy", item.id, "cy", "correct", Triplet("person", "stand", "surfboard")))
    questions = export_records(project, tmp_path / "json" / "test.jsonl")
    read = [question.record for question in read_questions(tmp_path / "json")]
    assert read == questions.records
    for record in read:
        assert record.verification
        assert (record.verification["annotators"], record.verification["agreed"]) == (["ann", "ben", "cy"], 2)
    with pytest.raises(InputError, match="expected settled items, found none"):
        export_records(Project(tmp_path / "empty.sqlite", make=True), tmp_path / "none.jsonl")


def test_label_studio_gets_tasks_with_predictions(tmp_path: Path) -> None:
    project = make_project(tmp_path, (FIRST, "action", "person sit surfboard", None))
    assert export_label_studio(project, tmp_path / "ls", "/data/local-files/?d=") == 1
    (task,) = json.loads((tmp_path / "ls/tasks.json").read_text())
    assert task["data"]["image"] == f"/data/local-files/?d={FIRST}"
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("test", 0.5)
    assert prediction["result"][0]["value"] == {"choices": ["accept"]}


@pytest.fixture(params=range(20))
def units(request: pytest.FixtureRequest) -> Iterator[list[dict[str, str]]]:
    chance = random.Random(request.param)
    people = ["ann", "ben", "cy", "dan"][: chance.choice((2, 3, 4))]
    yield [
        {name: chance.choice("aaabbc") for name in people if chance.random() < 0.8}
        for _ in range(chance.choice((5, 60)))
    ]


def test_alpha_equals_an_outside_implementation(units: list[dict[str, str]]) -> None:
    names = sorted({name for unit in units for name in unit})
    table = [["abc".index(unit[name]) if name in unit else float("nan") for unit in units] for name in names]
    expected = krippendorff.alpha(table, level_of_measurement="nominal")
    assert agree.krippendorff_alpha(units) == pytest.approx(expected)


def test_kappa_equals_an_outside_implementation(units: list[dict[str, str]]) -> None:
    pairs = [(unit["ann"], unit["ben"]) for unit in units if {"ann", "ben"} <= set(unit)]
    expected = metrics.cohen_kappa_score(*zip(*pairs, strict=True))
    assert agree.cohen_kappa(pairs) == pytest.approx(expected)
    raw = metrics.accuracy_score(*zip(*pairs, strict=True))
    assert agree.raw_agreement([dict(zip("ab", pair, strict=True)) for pair in pairs]) == pytest.approx(raw)


def test_agreement_is_undefined_where_nothing_can_disagree() -> None:
    assert agree.raw_agreement([{"ann": "a"}]) is None
    assert agree.cohen_kappa([]) is None
    assert agree.cohen_kappa([("a", "a")]) is None
    assert agree.krippendorff_alpha([{"ann": "a", "ben": "a"}]) is None


def test_the_report_tells_people_categories_and_the_model_s_precision(tmp_path: Path) -> None:
    project = make_project(
        tmp_path,
        (FIRST, "action", "man push cart", None),
        (FIRST, "spatial", "cat left dog", None),
        (SECOND, "spatial", "cat left dog", None),
    )
    project.set_people(2)
    for verdicts in (("ann", "accept", "reject", "accept"), ("ben", "accept", "reject", "skip")):
        for verdict in verdicts[1:]:
            decide(project, verdicts[0], verdict)
    lines = [line.split() for line in agree.make_report(project).splitlines()]
    assert ["all", "2", "1.000", "1.000"] in lines
    assert ["ben", "3", "1", "0", "1", "1", "1.000", "2.0"] in lines
    assert ["ann", "/", "ben", "2", "1.000", "1.000"] in lines
    assert ["action", "1", "1", "1.000", "0.207", "–", "1.000"] in lines
    assert ["spatial", "0", "1", "0.000", "0.000", "–", "0.793"] in lines


# ---- the command line


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = cli.main(["label", *(str(word) for word in words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_commands_lead_from_pictures_to_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, file = tmp_path / "images", tmp_path / "items.jsonl"
    draw(images, FIRST)
    status, out, _ = command(capsys, "select", "--images", images, "--out", tmp_path / "c.jsonl")
    assert (status, out.splitlines()[0]) == (0, f"1 pictures written to {tmp_path / 'c.jsonl'}")
    with StubEndpoint(lambda asked: triplets(("cat", "on", "dog", 0.5))) as stub:
        where = ("--base-url", stub.url, "--model", "m", "--store", tmp_path / "r.sqlite", "--parameter", "seed=1")
        words = ("propose", tmp_path / "c.jsonl", "--category", "spatial", "--images", images, "--out", file, *where)
        status, out, _ = command(capsys, *words)
        assert (status, stub.asked[0].body["seed"]) == (0, 1)
        assert "1 items to verify written to" in out
        status, out, err = command(capsys, *words, "--times", 5, "--max-requests", 2)
        assert status == 1
        kept = f"1 replies of 'm' at {stub.url} are in {tmp_path / 'r.sqlite'} (asked before)"
        assert out.startswith(f"{kept}; none of them is asked again\n")
        assert err == "stopped: the budget of 2 requests is spent; raise it to go on\n"
        command(capsys, *words)
    project = Project(tmp_path / "p.sqlite", make=True)
    project.set_people(1)
    project.add(read_proposals([file], images))
    decide(project, "ann", "accept")
    assert "3 questions are ready" in command(capsys, "ask", project.path)[1]
    assert "1 items: 1 settled" in command(capsys, "agree", project.path)[1]
    status, out, _ = command(capsys, "export", project.path, "--out", tmp_path / "json", "--split", "train")
    assert (status, out) == (0, f"3 records written to {tmp_path / 'json/train.jsonl'}\n")


def test_the_replies_of_propose_lie_beside_its_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lay in the working folder's replies.sqlite, whatever the output, model and endpoint."""
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "images", FIRST)
    command(capsys, "select", "--images", "images", "--out", "c.jsonl")
    with StubEndpoint(lambda asked: triplets(("cat", "on", "dog", 0.5))) as stub:
        words = ("propose", "c.jsonl", "--category", "spatial", "--images", "images")
        endpoint = ("--base-url", stub.url, "--model", "m")
        status, out, _ = command(capsys, *words, "--out", "new/items.jsonl", *endpoint)
    assert (status, "1 items to verify written to new/items.jsonl" in out) == (0, True)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*l*")}
    assert files == {"c.jsonl", "new/items.jsonl", "new/items.jsonl.store.sqlite"}


def test_propose_without_an_answer_ends_with_1(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It ended with 0, and an empty file."""
    draw(tmp_path / "images", FIRST)
    command(capsys, "select", "--images", tmp_path / "images", "--out", tmp_path / "c.jsonl")
    words = ("propose", tmp_path / "c.jsonl", "--category", "spatial")
    folders = ("--images", tmp_path / "images", "--out", tmp_path / "items.jsonl")
    with StubEndpoint(fault=lambda asked: Fault(400)) as stub:
        status, out, _ = command(capsys, *words, *folders, "--base-url", stub.url, "--model", "m")
    assert (status, out.splitlines()[0]) == (1, "0 answered, 1 failed")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("agree", "none.sqlite"), "mmrel label agree: none.sqlite: expected a project file, found none"),
        (("select", "--images", "none", "--out", "c.jsonl"), "mmrel label select: none: expected pictures"),
        (("verify", "p.sqlite"), "mmrel label verify: expected --images, the folder that holds vg/, SPEC/ …, got ''"),
        (("propose", "none.jsonl", "--category", "action", "--images", ".", "--out", "o", "--base-url",
          "http://127.0.0.1:9/v1", "--model", "m"), "mmrel label propose: none.jsonl: No such file or directory"),
    ],
)  # fmt: skip
def test_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: Any, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = command(capsys, *words)
    assert status == 1
    assert err.startswith(told)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\xff\xfe{}\n", "expected UTF-8, got byte 0xff"),
        (b'{"category": "action", "subject": "a\\ud800"}\n', "expected text that UTF-8 can hold, got "),
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
    status, _, err = command(capsys, "verify", tmp_path / "p.sqlite", *options)
    assert status == 1
    assert err.startswith(f"mmrel label verify: {path}:1: {problem}")
    assert err.count("\n") == 1


def test_nothing_is_written_that_is_no_text(tmp_path: Path) -> None:
    told = r"lines\.jsonl: expected text that UTF-8 can hold, got '.*ud800"
    with pytest.raises(InputError, match=told):
        write_json_lines(tmp_path / "lines.jsonl", [{"name": "a\ud800"}])
    assert not (tmp_path / "lines.jsonl").exists()


def test_an_address_that_cannot_be_is_one_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "images").mkdir()
    options = ("--images", tmp_path / "images", "--port", 99999)
    status, _, err = command(capsys, "verify", tmp_path / "p.sqlite", *options)
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith("mmrel label verify: 127.0.0.1:99999: cannot listen there: ")

"""Check that the drawn sample is reproducible and complete, and that its splits are disjoint."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.drawing import draw_sample
from tests.drawing.draw_sample import PLACED, SPLITS, draw_sources
from tests.helpers.folders import snapshot

DOMAINS = {"vg": "real", "SPEC": "sdxl", "Dall-E_generated": "dalle"}
STYLE = "photo-realistic|watercolor|abstract|oil-painting"
PATHS = (
    r"vg/VG_100K(_2)?/\d+\.jpg",
    r"SPEC/relative_(spatial|size)/\d{8}/[0-3]\.jpg",
    rf"Dall-E_generated/(action|spatial)/\d{{5}}(_({STYLE}))?\.png",
)
PLACE = "left|right|above|over|on|in|under"
CATEGORY = "spatial|action|comparative"
QUESTIONS = {
    "spatial": rf"Is there an? (?P<s>.+) (?P<r>{PLACE})(?P<to> to)? an? (?P<o>.+) in the image\?",
    "action": r"Does an? (?P<s>\w+) (?P<r>\w+) an? (?P<o>.+) in the image\?",
    "comparative": r"Is an? (?P<s>.+) (?P<r>bigger|smaller) than an? (?P<o>.+) in the image\?",
    "open": rf"What is the (?P<r>{CATEGORY}) relation of an? (?P<s>.+) to an? (?P<o>.+)"
    r" in the image\?",
}
INSTRUCTION = " Please answer with one word."


def find_domain(image: str) -> str:
    """Return the domain of a picture by its path."""
    return DOMAINS[image.split("/", maxsplit=1)[0]]


def parse(text: str) -> tuple[str, re.Match[str]]:
    """Return the form of a question and the match of its parts."""
    assert text.endswith(INSTRUCTION)
    question = text.removesuffix(INSTRUCTION)
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", question), question
    matches = []
    for form, pattern in QUESTIONS.items():
        match = re.fullmatch(pattern, question)
        if match:
            matches.append((form, match))
    assert len(matches) == 1, question
    return matches[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, drawn once."""
    folder = tmp_path_factory.mktemp("sources")
    draw_sources(folder)
    return folder


@pytest.fixture(scope="module")
def splits(folder: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The questions by split and by picture."""
    grouped: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for split in SPLITS:
        pictures = defaultdict(list)
        for line in (folder / "json" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            assert record["split"] == split
            pictures[record["image"]].append(record)
        grouped[split] = pictures
    return grouped


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    draw_sources(tmp_path)
    assert snapshot(tmp_path) == snapshot(folder)


def test_pictures_decode_and_are_small(folder: Path, splits: dict[str, Any]) -> None:
    """Check that every picture has a question, a path as upstream's, and decodes."""
    files = snapshot(folder)
    pictures = {name: data for name, data in files.items() if not name.startswith("json/")}
    assert set(pictures) == {image for split in splits.values() for image in split}
    assert sum(map(len, pictures.values())) < 800_000
    for name in pictures:
        assert any(re.fullmatch(rule, name) for rule in PATHS), name
        with Image.open(folder / name) as image:
            image.load()
            assert image.format == ("PNG" if name.endswith("png") else "JPEG")


def test_each_split_has_twelve_pictures_a_domain_and_all_styles(splits: dict[str, Any]) -> None:
    for split in splits.values():
        counts = Counter(map(find_domain, split))
        assert set(counts) == set(DOMAINS.values())
        assert min(counts.values()) >= 12
        drawn = [image for image in split if find_domain(image) == "dalle"]
        styles = {re.sub(r".*/\d+", "", image) for image in drawn}
        assert len(styles) == 5


def test_no_picture_or_triplet_is_in_two_splits(folder: Path, splits: dict[str, Any]) -> None:
    """Check paths, bytes, and the true triplets of each domain."""
    seen: dict[Any, str] = {}
    for split, pictures in splits.items():
        for image, records in pictures.items():
            true = next(record for record in records if record["label"] == "yes")
            _, parts = parse(true["text"])
            triplet = (find_domain(image), parts["s"], parts["r"], parts["o"])
            for key in (image, (folder / image).read_bytes(), triplet):
                assert seen.setdefault(key, split) == split, (key, split)


def test_question_ids_are_unique(splits: dict[str, Any]) -> None:
    ids = []
    for split in splits.values():
        for records in split.values():
            ids += [record["question_id"] for record in records]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z0-9]{15}", question_id) for question_id in ids)


def test_each_picture_has_a_yes_a_no_and_an_open_ended_question(splits: dict[str, Any]) -> None:
    """Check that all three are about the same two objects, in the grammar of the domain."""
    for split in splits.values():
        for image, records in split.items():
            (form, yes), (no_form, no), (open_form, ask) = [parse(r["text"]) for r in records]
            assert [record["label"] for record in records] == ["yes", "no", yes["r"]], image
            assert (no_form, open_form, ask["r"]) == (form, "open", form)
            assert {yes["s"], yes["o"]} == {no["s"], no["o"]} == {ask["s"], ask["o"]}
            assert (yes["s"], yes["r"]) != (no["s"], no["r"])
            if form == "action":
                assert yes["s"] == no["s"]
                assert yes["r"] != no["r"]
            if form == "spatial":
                check_spatial_grammar(find_domain(image), yes, no)


def check_spatial_grammar(domain: str, yes: re.Match[str], no: re.Match[str]) -> None:
    """Check that the objects are swapped, and the words "to" and "above" of each domain."""
    assert (yes["s"], yes["r"], yes["o"]) == (no["o"], no["r"], no["s"])
    says_to = domain == "real" or (domain == "dalle" and yes["r"] in ("left", "right"))
    assert bool(yes["to"]) == bool(no["to"]) == says_to
    assert yes["r"] != ("above" if domain == "sdxl" else "over")


def test_placing_the_sample_keeps_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that schema/ keeps the paper's numbers, which no release contains."""
    clone, release = tmp_path / "clone", tmp_path / "release"
    for name in PLACED:
        for root in (clone, release):
            path = root / name if Path(name).suffix else root / name / "file"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(root.name)
    (clone / "schema" / "published.json").write_text("the paper's")
    monkeypatch.setattr(draw_sample, "REPOSITORY", clone)
    monkeypatch.setattr(draw_sample, "make_placed_index", lambda release: "")
    monkeypatch.setattr(draw_sample, "make_readme", lambda release: "")
    draw_sample.place_sample(release)
    placed = snapshot(clone)
    assert placed.pop("schema/published.json") == b"the paper's"
    assert {placed.pop("checksums.json"), placed.pop("README.md")} == {b""}
    assert set(placed.values()) == {b"release"}

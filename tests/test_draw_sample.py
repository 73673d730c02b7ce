"""The drawn sample: repeatable, complete, and with no picture or relation in two places."""

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

DOMAINS = {"vg": "real", "SPEC": "sdxl", "Dall-E_generated": "dalle"}
PATHS = (
    r"vg/VG_100K(_2)?/\d+\.jpg",
    r"SPEC/relative_(spatial|size)/\d{8}/[0-3]\.jpg",
    r"Dall-E_generated/(action|spatial)/"
    r"\d{5}(_(photo-realistic|watercolor|abstract|oil-painting))?\.png",
)
PLACE = "left|right|above|over|on|in|under"
QUESTIONS = {
    "spatial": rf"Is there an? (?P<s>.+) (?P<r>{PLACE})(?P<to> to)? an? (?P<o>.+) in the image\?",
    "action": r"Does an? (?P<s>\w+) (?P<r>\w+) an? (?P<o>.+) in the image\?",
    "comparative": r"Is an? (?P<s>.+) (?P<r>bigger|smaller) than an? (?P<o>.+) in the image\?",
    "open": r"What is the (?P<r>spatial|action|comparative) relation of an? (?P<s>.+) "
    r"to an? (?P<o>.+) in the image\?",
}
INSTRUCTION = " Please answer with one word."


def files(folder: Path) -> dict[str, bytes]:
    """Each file below a folder, by its path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def domain(image: str) -> str:
    """The domain that a picture's path tells."""
    return DOMAINS[image.split("/", maxsplit=1)[0]]


def read(text: str) -> tuple[str, re.Match[str]]:
    """The form of a question and its parts."""
    assert text.endswith(INSTRUCTION)
    question = text.removesuffix(INSTRUCTION)
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", question), question
    found = [(form, m) for form, rule in QUESTIONS.items() if (m := re.fullmatch(rule, question))]
    assert len(found) == 1, question
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, drawn once."""
    where = tmp_path_factory.mktemp("sources")
    draw_sources(where)
    return where


@pytest.fixture(scope="module")
def splits(folder: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The questions by split and picture."""
    grouped: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for split in SPLITS:
        pictures = defaultdict(list)
        for line in (folder / "json" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            assert record["split"] == split
            pictures[record["image"]].append(record)
        grouped[split] = pictures
    return grouped


def test_same_seed_gives_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Two draws are equal, byte for byte."""
    draw_sources(tmp_path)
    assert files(tmp_path) == files(folder)


def test_pictures_open_and_are_small(folder: Path, splits: dict[str, Any]) -> None:
    """The pictures on disk are those asked about, under upstream's paths, and decode."""
    pictures = {name: data for name, data in files(folder).items() if not name.startswith("json/")}
    assert set(pictures) == {image for split in splits.values() for image in split}
    assert sum(map(len, pictures.values())) < 800_000
    for name in pictures:
        assert any(re.fullmatch(rule, name) for rule in PATHS), name
        with Image.open(folder / name) as image:
            image.load()
            assert image.format == ("PNG" if name.endswith("png") else "JPEG")


def test_each_domain_has_twelve_pictures_a_split(splits: dict[str, Any]) -> None:
    """Nine cells, none of them thin, and all styles of dalle in each split."""
    for split in splits.values():
        counts = Counter(map(domain, split))
        assert set(counts) == set(DOMAINS.values())
        assert min(counts.values()) >= 12
        assert (
            len({re.sub(r".*/\d+", "", image) for image in split if domain(image) == "dalle"}) == 5
        )


def test_no_picture_or_relation_in_two_splits(folder: Path, splits: dict[str, Any]) -> None:
    """No path, no picture's bytes and, within a domain, no true triplet stands in two splits."""
    seen: dict[Any, str] = {}
    for split, pictures in splits.items():
        for image, records in pictures.items():
            _, parts = next(read(r["text"]) for r in records if r["label"] == "yes")
            triplet = (domain(image), parts["s"], parts["r"], parts["o"])
            for key in (image, (folder / image).read_bytes(), triplet):
                assert seen.setdefault(key, split) == split, (key, split)


def test_each_picture_has_its_yes_its_no_and_its_open_question(splits: dict[str, Any]) -> None:
    """All three are about the same two objects, in the grammar of the domain; ids are unique."""
    ids = Counter(
        r["question_id"] for split in splits.values() for records in split.values() for r in records
    )
    assert set(ids.values()) == {1}
    assert all(re.fullmatch("[a-z0-9]{15}", name) for name in ids)
    for split in splits.values():
        for image, records in split.items():
            (form, yes), (false_form, no), (open_form, ask) = (read(r["text"]) for r in records)
            assert [r["label"] for r in records] == ["yes", "no", yes["r"]], image
            assert (false_form, open_form, ask["r"]) == (form, "open", form)
            assert {yes["s"], yes["o"]} == {no["s"], no["o"]} == {ask["s"], ask["o"]}
            assert (yes["s"], yes["r"]) != (no["s"], no["r"])
            assert form != "action" or (yes["s"] == no["s"] and yes["r"] != no["r"])
            if form == "spatial":
                where = domain(image)
                assert (yes["s"], yes["r"], yes["o"]) == (no["o"], no["r"], no["s"])
                wanted = where == "real" or (where == "dalle" and yes["r"] in ("left", "right"))
                assert bool(yes["to"]) == bool(no["to"]) == wanted
                assert yes["r"] != ("above" if where == "sdxl" else "over")


def test_placing_the_sample_keeps_what_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder schema/ also holds the paper's numbers, which no release carries."""
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
    placed = files(clone)
    assert placed.pop("schema/published.json") == b"the paper's"
    assert {placed.pop("checksums.json"), placed.pop("README.md")} == {b""}
    assert set(placed.values()) == {b"release"}

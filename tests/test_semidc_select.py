"""Selecting pictures: the rules, Visual Genome's files, and paths that lead elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmrel_kit.files import InputError, write_json_lines
from mmrel_kit.semidc.model.select import (
    Candidate,
    read_candidates,
    read_folder,
    read_visual_genome,
    select,
)
from tests.helpers.labelling import (
    CAT,
    DOG,
    FIRST,
    SECOND,
    draw_picture,
    make_things,
)

TILES = [(f"tile {n}", 30 * (n % 6), 30 * (n // 6), 29, 29) for n in range(13)]


@pytest.mark.parametrize(
    ("things", "reason"),
    [
        ([CAT, DOG], None),
        ([], None),
        ([CAT], "fewer than 2 large things"),
        ([CAT, ("fly", 0, 0, 5, 5)], "fewer than 2 large things"),
        (TILES, "more than 12 large things"),
        ([CAT, DOG, *[(f"ant {n}", n, 0, 2, 2) for n in range(21)]], "more than 20 small things"),
        ([CAT, ("coat", 5, 5, 70, 70)], "large things overlap too much"),
        ([CAT, ("cat", 100, 0, 80, 80), DOG], "fewer than 2 large things with a unique name"),
    ],
)  # fmt: skip
def test_scenes_are_left_out_by_stated_rules(
    tmp_path: Path, things: list[Any], reason: str | None
) -> None:
    drops: Counter[str] = Counter()
    candidate = Candidate(draw_picture(tmp_path, FIRST), 200, 200, make_things(*things))
    kept = list(select(iter([candidate]), tmp_path, drops))
    assert (len(kept), drops) == ((0, {reason: 1}) if reason else (1, {}))


def test_pictures_of_a_folder_are_left_out_where_they_cannot_be_used(tmp_path: Path) -> None:
    draw_picture(tmp_path, FIRST)
    draw_picture(tmp_path, "vg/VG_100K/3.jpg", (100, 300))
    (tmp_path / "vg/VG_100K/2.jpg").write_bytes((tmp_path / FIRST).read_bytes())
    (tmp_path / "vg/VG_100K/4.jpg").write_bytes(b"\xff\xd8 no picture")
    drops: Counter[str] = Counter()
    assert [c.image_id for c in select(read_folder(tmp_path), tmp_path, drops)] == [FIRST]
    assert drops == {
        "duplicate picture": 1,
        "smaller than 128 pixels": 1,
        "picture does not open": 1,
    }


def test_a_picture_that_no_release_can_hold_is_left_out(tmp_path: Path) -> None:
    # Whatever Pillow opens was proposed and verified; the build refused it in the end.
    path = tmp_path / FIRST
    path.parent.mkdir(parents=True)
    Image.new("RGB", (200, 200), "teal").save(path, "GIF")
    drops: Counter[str] = Counter()
    assert list(select(read_folder(tmp_path), tmp_path, drops)) == []
    assert drops == {"picture does not open": 1}


def test_the_size_comes_from_the_picture_unless_it_is_stated(tmp_path: Path) -> None:
    draw_picture(tmp_path, FIRST, (300, 150))
    drops: Counter[str] = Counter()
    (found,) = select(read_folder(tmp_path), tmp_path, drops)
    assert (found.width, found.height) == (300, 150)
    stated = Candidate(FIRST, 600, 300)
    assert list(select([stated], tmp_path, drops)) == [stated]


def make_genome(folder: Path, version: str) -> None:
    """The same scene in the shape of version 1.0, or of 1.2 and 1.4."""
    key = {"1.0": "id"}.get(version, "image_id")
    object_key = {"1.0": "id"}.get(version, "object_id")
    url = "https://example.org/people/VG_100K_2/2.jpg"
    cat, dog = ({"name": n, "x": x, "y": x, "w": w, "h": h} for n, x, _, w, h in (CAT, DOG))
    if version == "1.4":
        cat["names"] = [cat.pop("name")]
    box = {side: cat[side] for side in "xywh"}
    subject, object_ = {object_key: 1, **cat}, {object_key: 2, **dog}
    relationship = {"predicate": "ON", "subject": subject, "object": object_}
    files = {
        "image_data": [{key: 2, "url": url, "width": 200, "height": 200}],
        "objects": [{key: 2, "objects": [{object_key: 1, "names": ["Cat "], **box}]}],
        "relationships": [{key: 2, "relationships": [relationship]}],
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("version", ["1.0", "1.2", "1.4"])
@pytest.mark.parametrize("without", [None, "objects", "relationships"])
def test_visual_genome_s_files_are_read_in_every_shape(
    tmp_path: Path, version: str, without: str | None
) -> None:
    make_genome(tmp_path, version)
    if without:
        (tmp_path / f"{without}.json").unlink()
    (candidate,) = read_visual_genome(tmp_path)
    assert candidate.image_id == SECOND
    assert set(candidate.things) == set(
        make_things(CAT) if without == "relationships" else make_things(CAT, DOG)
    )


def test_visual_genome_s_files_are_told_where_they_are_none(tmp_path: Path) -> None:
    make_genome(tmp_path, "1.2")
    (tmp_path / "objects.json").write_text('[{"image_id": 2, "objects": [')
    with pytest.raises(InputError, match=r"objects.json:1: expected a JSON array of objects"):
        list(read_visual_genome(tmp_path))
    (tmp_path / "objects.json").write_text('[{"image_id": 2}]')
    with pytest.raises(
        InputError, match=r"expected files of the shapes of Visual Genome 1.0, 1.2 or 1.4"
    ):
        list(read_visual_genome(tmp_path))


@pytest.mark.parametrize(
    "path", ["../x.jpg", "/x.jpg", "vg/../x.jpg", "vg/a\\b.jpg", "C:/x.jpg", "other/x.jpg", 7]
)
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, path: Any) -> None:
    write_json_lines(tmp_path / "c.jsonl", [{"image_id": path, "width": 1, "height": 1}])
    with pytest.raises(InputError, match=r"c.jsonl:1: expected"):
        list(read_candidates(tmp_path / "c.jsonl"))

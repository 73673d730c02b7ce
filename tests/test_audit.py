"""The audit: it detects every kind of finding where it was planted, and in real records."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mmrel
import upload
from mmrel_kit.audit.findings import Finding, audit_questions, audit_release, drop_questions
from mmrel_kit.audit.kinds import KINDS
from mmrel_kit.audit.pictures import HASHED_SIDE, MAX_DISTANCE
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.check.release import check_release
from mmrel_kit.pictures.validate import check_picture, decode_grey
from mmrel_kit.questions.published import read_published
from mmrel_kit.questions.records import Triplet, make_question
from mmrel_kit.questions.table import QuestionTable
from mmrel_kit.questions.taxonomy import judge_relation
from mmrel_kit.sources.local import PictureFolder

DRAWN = "vg/VG_100K/{}.jpg"


def ask(
    split: str, picture: str, category: str, text: str, label: str
) -> tuple[str, dict[str, str]]:
    triplet = Triplet(*(word.replace("_", " ") for word in text.split()))
    return split, {
        "image": picture,
        "text": make_question("real", category, triplet),
        "label": label,
    }


def write(folder: Path, *asked: tuple[str, dict[str, str]]) -> Path:
    (folder / "json").mkdir(parents=True)
    for number, (split, record) in enumerate(asked):
        with open(folder / "json" / f"{split}.jsonl", "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"question_id": f"q{number}", **record}) + "\n")
        path = folder / record["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.effect_noise((48, 48), 90).convert("RGB").save(path)
    return folder


def audit(folder: Path, *asked: tuple[str, dict[str, str]], **options: Any) -> dict[str, Finding]:
    write(folder, *asked)
    build_release(Job([folder / "json"], PictureFolder(folder), folder / "out"))
    found = audit_release(folder / "out", **options).findings
    assert len({finding.kind for finding in found}) == len(found)
    return {finding.kind: finding for finding in found}


ONE, TWO = DRAWN.format(1), DRAWN.format(2)
PAIR = [
    ask("test", ONE, "spatial", "cat above car", "yes"),
    ask("test", ONE, "spatial", "car above cat", "no"),
]
# What is asked, and what is found beside what the same records always give.
PLANTED = {
    "nothing": (PAIR, {}),
    "an open question": (
        [
            *PAIR,
            (
                "test",
                {
                    **PAIR[0][1],
                    "text": "What is the spatial relation of a cat to a car in the image?",
                    "label": "above",
                },
            ),
        ],
        {},
    ),
    "in two splits": (
        [*PAIR, ("train", PAIR[0][1])],
        {"repeated_across_splits": 1, "same_picture_across_splits": 1, "no_partner": 1},
    ),
    "in two splits, another label": (
        [*PAIR, ("train", {**PAIR[0][1], "label": "no"})],
        {
            "repeated_across_splits": 1,
            "same_picture_across_splits": 1,
            "no_partner": 1,
            "contradiction": 1,
        },
    ),
    "twice in a split": ([*PAIR, PAIR[0]], {"repeated_within_split": 1}),
    "no partner": ([*PAIR, ask("test", TWO, "action", "man ride horse", "yes")], {"no_partner": 1}),
    "no yes": (
        [
            ask("test", ONE, "comparative", "cat bigger car", "no"),
            ask("test", ONE, "comparative", "car smaller cat", "no"),
        ],
        {"group_without_yes": 1},
    ),
    "no no": (
        [
            ask("test", ONE, "action", "man ride horse", "yes"),
            ask("test", ONE, "action", "man feed horse", "yes"),
        ],
        {"group_without_no": 1},
    ),
    "both labels": (
        [*PAIR, ask("test", ONE, "spatial", "cat above car", "no")],
        {"repeated_within_split": 1, "contradiction": 1},
    ),
    "both ways": (
        [
            ask("test", ONE, "spatial", "cat left car", "yes"),
            ask("test", ONE, "spatial", "car left cat", "yes"),
        ],
        {"contradiction": 1, "group_without_no": 1},
    ),
    "said the other way round": (
        [
            ask("test", ONE, "spatial", "cat left car", "yes"),
            ask("test", ONE, "spatial", "car right cat", "no"),
        ],
        {"contradiction": 1},
    ),
    "a synonym": (
        [
            ask("test", ONE, "spatial", "cat over car", "yes"),
            ask("test", ONE, "spatial", "cat above car", "no"),
        ],
        {"contradiction": 1},
    ),
    "opposites": (
        [
            ask("test", ONE, "spatial", "cat on car", "yes"),
            ask("test", ONE, "spatial", "cat under car", "yes"),
        ],
        {"contradiction": 1, "group_without_no": 1},
    ),
    "no contradiction": (
        [
            ask("test", ONE, "spatial", "cat left car", "yes"),
            ask("test", ONE, "spatial", "car right cat", "yes"),
            ask("test", ONE, "spatial", "car left cat", "no"),
        ],
        {},
    ),
    "another picture": (
        [
            *PAIR,
            ask("test", TWO, "spatial", "car above cat", "yes"),
            ask("test", TWO, "spatial", "cat above car", "no"),
        ],
        {},
    ),
    "a place for a verb": (
        [
            ask("test", ONE, "action", "man above horse", "yes"),
            ask("test", ONE, "action", "man ride horse", "no"),
        ],
        {"impossible_triplet": 1},
    ),
    "an unknown comparison": (
        [
            ask("test", ONE, "comparative", "cat fluffier car", "yes"),
            ask("test", ONE, "comparative", "car fluffier cat", "no"),
        ],
        {"unknown_relation": 1},
    ),
    "one name": (
        [
            *PAIR,
            ask("test", TWO, "action", "cat chase cat", "yes"),
            ask("test", TWO, "action", "cat bite cat", "no"),
        ],
        {"subject_is_object": 2},
    ),
    "spelt in two ways": (
        [
            *PAIR,
            ask("test", TWO, "spatial", "Cats left t-shirt", "yes"),
            ask("test", TWO, "spatial", "t_shirt left Cats", "no"),
        ],
        {"spelling_variant": 2, "no_partner": 2},
    ),
    "misspelt": (
        [
            ask("test", ONE, "spatial", "refrigerator left refridgerator", "yes"),
            ask("test", ONE, "spatial", "refridgerator left refrigerator", "no"),
        ],
        {"spelling_variant": 1},
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_was_planted_is_found(case: str, tmp_path: Path) -> None:
    asked, expected = PLANTED[case]
    found = audit(tmp_path, *asked, thorough=False)
    assert {name: finding.count for name, finding in found.items()} == expected
    for finding in found.values():
        assert finding.examples
        assert all(re.match(r"data/real/\w+\.jsonl:", example) for example in finding.examples)


def test_every_kind_is_planted_and_has_a_meaning() -> None:
    planted = {"similar_picture_across_splits", "unbalanced_cell", "blind_baseline"}
    for _, expected in PLANTED.values():
        planted.update(expected)
    names = [kind.name for kind in KINDS]
    assert set(names) == planted
    assert len(names) == len(planted)
    for kind in KINDS:
        assert kind.meaning
        # Only a query says which questions to drop.
        assert isinstance(kind.check, str) or not kind.can_drop


def test_unbalanced_cells_and_blind_guesses(tmp_path: Path) -> None:
    asked = []
    for split in ("train", "test"):
        for number in range(24):
            picture = DRAWN.format(f"{len(split)}{number}")
            asked.append(ask(split, picture, "action", "man ride horse", "yes"))
            asked += [ask(split, picture, "action", "man feed horse", "no")] if number % 2 else []
    found = audit(tmp_path, *asked)
    assert found["unbalanced_cell"].count == 2
    assert (
        "data/real/test.jsonl: real action test: 24 yes, 12 no (67% yes)"
        in found["unbalanced_cell"].examples
    )
    # The majority by relation, learnt from the other split, predicts every answer.
    assert found["blind_baseline"].examples[0] == (
        "data/real/test.jsonl: real/action test: always yes 66.7%, always no 33.3%, "
        "majority by relation 100.0%"
    )


class TestPictures:
    """The same picture in two splits, by path, by bytes, by what it shows."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        asked = []
        for split, number in (
            ("train", 1),
            ("test", 2),
            ("train", 3),
            ("test", 4),
            ("adversarial", 5),
            ("train", 6),
        ):
            picture = DRAWN.format(number)
            asked += [
                ask(split, picture, "spatial", "cat above car", "yes"),
                ask(split, picture, "spatial", "car above cat", "no"),
            ]
        write(tmp_path, *asked)
        pictures = [tmp_path / DRAWN.format(number) for number in range(7)]
        pictures[2].write_bytes(pictures[1].read_bytes())  # the same bytes by another name
        shown = Image.open(pictures[3]).resize((96, 96))
        shown.save(pictures[4], quality=60)  # the same picture, scaled and saved again
        build_release(Job([tmp_path / "json"], PictureFolder(tmp_path), tmp_path / "out"))
        return tmp_path / "out"

    def test_by_bytes_and_by_what_they_show(self, folder: Path) -> None:
        pytest.importorskip(
            "imagehash", reason="ImageHash is not installed: pip install 'mmrel[audit]'"
        )
        found = {finding.kind: finding for finding in audit_release(folder).findings}
        assert found["same_picture_across_splits"].count == 1
        assert "VG_100K/2.jpg" in found["same_picture_across_splits"].examples[0]
        assert "VG_100K/1.jpg" in found["same_picture_across_splits"].examples[0]
        assert found["similar_picture_across_splits"].count == 1
        assert "VG_100K/3.jpg" in found["similar_picture_across_splits"].examples[0]
        assert "VG_100K/4.jpg" in found["similar_picture_across_splits"].examples[0]

    def test_changed_pictures_are_found_as_in_full_size(self) -> None:
        # Pictures are hashed from a reduced decode.
        imagehash = pytest.importorskip(
            "imagehash", reason="ImageHash is not installed: pip install 'mmrel[audit]'"
        )
        changes: list[Callable[[Image.Image], tuple[Image.Image, str]]] = [
            lambda image: (image, "PNG"),
            lambda image: (image, "JPEG"),
            lambda image: (image.resize((500, 420)), "JPEG"),
            lambda image: (image.resize((240, 200)), "WEBP"),
            lambda image: (image.point(lambda value: min(255, value + 8)), "JPEG"),
        ]
        full, reduced = [], []
        for number in range(8):
            image = draw_photograph(number)
            for change in changes:
                file = io.BytesIO()
                changed, form = change(image)
                changed.save(file, form)
                full.append((number, imagehash.phash(check_picture(file.getvalue(), "here"))))
                grey = decode_grey(file.getvalue(), "here", HASHED_SIDE)
                assert isinstance(grey, Image.Image)
                reduced.append((number, imagehash.phash(grey)))
        pairs = {find_near(full), find_near(reduced)}
        assert pairs == {frozenset((n, n) for n in range(8))}

    def test_without_the_library(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "imagehash", None)
        found = audit_release(folder)
        assert [f.count for f in found.findings if f.kind == "same_picture_across_splits"] == [1]
        expected = "ImageHash is not installed; install what it needs: pip install '.[audit]'"
        assert any(expected in remark for remark in found.remarks)

    def test_quick(self, folder: Path) -> None:
        found = audit_release(folder, thorough=False)
        assert not [f for f in found.findings if "picture" in f.kind]
        assert any(
            "pictures were compared by their paths alone" in remark for remark in found.remarks
        )


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("repeated_across_splits", {"adversarial": 2, "test": 1, "train": 0}),
        ("same_picture_across_splits", {"adversarial": 2, "test": 0, "train": 0}),
        ("no_partner", {"adversarial": 2, "test": 2, "train": 0}),
        ("contradiction", {"adversarial": 1, "test": 1, "train": 0}),
    ],
)
def test_dropping(
    kind: str, left: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yes, no = (record for _, record in PAIR)
    asked = [
        ("adversarial", yes),
        ("adversarial", no),
        ("test", yes),
        ("train", {**yes, "label": "no"}),
    ]
    if kind == "repeated_across_splits":
        asked.append(ask("test", ONE, "action", "man ride horse", "yes"))
    else:
        asked.append(ask("test", ONE, "spatial", "car above cat", "no"))
    write(tmp_path, *asked)
    inputs = ["--annotations", f"{tmp_path}/json", "--images", str(tmp_path)]
    assert upload.main(["build", *inputs, "--out", f"{tmp_path}/out", "--drop", kind]) == 0
    assert check_release(tmp_path / "out") == []
    lines = {
        path.stem: len(path.read_text().splitlines())
        for path in (tmp_path / "out").glob("data/*/*.jsonl")
    }
    dropped = len(asked) - sum(lines.values())
    assert lines == {split: number for split, number in left.items() if number}
    assert f"{dropped} questions were dropped ({kind})" in capsys.readouterr().out
    assert f"{dropped} questions were dropped ({kind})" in str(
        mmrel.Release(str(tmp_path / "out")).note
    )


triplets = st.tuples(
    st.sampled_from(["train", "test"]),
    st.sampled_from([ONE, TWO]),
    st.sampled_from(["left", "right", "above", "under", "on"]),
    st.permutations(["cat", "car", "cup"]),
    st.sampled_from(["yes", "no"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(triplets, min_size=1, max_size=12))
def test_what_is_dropped_is_found_no_more(drawn: list[Any]) -> None:
    import tempfile

    asked = [
        ask(split, picture, "spatial", f"{a} {relation} {b}", label)
        for split, picture, relation, (a, b, _), label in drawn
    ]
    from mmrel_kit.questions.annotations import read_annotations

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), *asked)
        plan = QuestionTable(Path(folder) / "plan.sqlite")
        plan.add(read_annotations([Path(folder) / "json"]))
        before = {finding.kind: finding.count for finding in audit_questions(plan)}
        kinds = (
            "repeated_across_splits",
            "repeated_within_split",
            "contradiction",
            "subject_is_object",
        )
        dropped = drop_questions(plan, kinds)
        after = Counter({finding.kind: finding.count for finding in audit_questions(plan)})
        plan.close()
    for kind in kinds:
        assert after[kind] == 0
        assert dropped[kind] <= len(asked)
        assert (dropped["repeated_across_splits"] > 0) == ("repeated_across_splits" in before)


def test_relations_are_judged_by_the_taxonomy() -> None:
    assert (
        judge_relation("spatial", "Above")
        == judge_relation("action", "ate")
        == judge_relation("comparative", "larger")
        == "known"
    )
    assert judge_relation("action", "juggle") == "open"
    assert judge_relation("comparative", "juicier") == "unknown"
    assert (
        judge_relation("spatial", "beside")
        == judge_relation("action", "left")
        == judge_relation("comparative", "above")
        == "impossible"
    )


def test_the_papers_sums() -> None:
    paper = read_published()
    totals = {
        task: sum(number for cells in domains.values() for number in cells.values())
        for task, domains in paper.whole.items()
    }
    assert totals["discriminative"] == pytest.approx(14.93, abs=0.02)
    assert totals["generative"] == pytest.approx(7.51, abs=0.03)
    sums = {
        split: sum(number for cells in domains.values() for number in cells.values())
        for split, domains in paper.splits.items()
    }
    assert sums == pytest.approx({"train": 11.38, "test": 3.91, "adversarial": 0.71})


def draw_photograph(seed: int) -> Image.Image:
    """Draw a picture with coarse and fine detail."""
    random = Random(seed)
    image = Image.new("RGB", (720, 600), "gray")
    for cells, weight in ((3, 0.5), (9, 0.4), (40, 0.3), (200, 0.1)):
        layer = Image.frombytes("RGB", (cells, cells), random.randbytes(cells * cells * 3))
        image = Image.blend(image, layer.resize(image.size, Image.Resampling.BICUBIC), weight)
    return image


def find_near(hashes: list[tuple[int, Any]]) -> frozenset[tuple[int, int]]:
    """Return the pairs of pictures whose hashes are near; check that all of a picture are."""
    pairs = set()
    for one, other in combinations(hashes, 2):
        is_near = one[1] - other[1] <= MAX_DISTANCE
        assert is_near or one[0] != other[0]
        if is_near:
            pairs.add((one[0], other[0]))
    return frozenset(pairs)


class TestCommand:
    """`upload.py audit`."""

    def test_several_workers_find_the_same(
        self, built: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        reports = []
        for workers in ("1", "2"):
            assert upload.main(["audit", str(built), "--workers", workers]) == 0
            reports.append(capsys.readouterr().out)
        assert reports[0] == reports[1]

    def test_json(self, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert upload.main(["audit", str(built), "--json", "--quick"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert all(list(finding) == ["kind", "count", "examples", "action"] for finding in found)

    def test_the_card(self, release: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = (release / "README.md").read_text("utf-8")
        assert "pictures were compared by their paths alone" in before
        assert upload.main(["audit", str(release), "--card"]) == 0
        assert "the whole benchmark" in capsys.readouterr().out.lower()
        card = (release / "README.md").read_text("utf-8")
        assert "pictures were compared by their paths alone" not in card
        assert "| discriminative real spatial | 4.86 |" in card
        assert check_release(release) == []

    def test_text_of_questions_is_no_markup(self, tmp_path: Path) -> None:
        asked = ask("test", ONE, "spatial", "<b>*cat* above [car](x)|`y`", "yes")
        audit(tmp_path, asked, thorough=False)
        card = (tmp_path / "out" / "README.md").read_text("utf-8")
        assert "<b>" not in card
        assert "&#60;b&#62;&#42;cat&#42;" in card

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"category": "colour"},
                "field category: expected one of spatial, action, comparative",
            ),
            ({"question": ["Is it?"]}, "field question: expected text"),
            ({"colour": "red"}, "unexpected keyword argument 'colour'"),
        ],
    )
    def test_a_line_that_is_no_record(
        self,
        release: Path,
        capsys: pytest.CaptureFixture[str],
        changes: dict[str, Any],
        message: str,
    ) -> None:
        # They were tracebacks.
        path = release / "data" / "real" / "test.jsonl"
        first, *others = path.read_text("utf-8").splitlines()
        path.write_text("\n".join([json.dumps({**json.loads(first), **changes}), *others]))
        assert upload.main(["audit", str(release), "--quick"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{release}/data/real/test.jsonl:1: expected a record: " in line
        assert message in line
        assert line.endswith(f"; run mmrel check {release} for all problems")

    def test_no_release(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert upload.main(["audit", str(tmp_path)]) == 1
        assert "expected a release" in capsys.readouterr().err


@pytest.fixture(scope="module")
def found(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Finding]]:
    folder = tmp_path_factory.mktemp("real")
    files = sorted((real_data / "mmrel").glob("*.jsonl"))
    for number, name in enumerate(
        sorted({json.loads(line)["image"] for f in files for line in f.read_text().splitlines()})
    ):
        path = folder / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), f"#{number * 7919 % (1 << 24):06x}").save(buffer, "PNG")
        path.write_bytes(buffer.getvalue())
    found = {}
    for name, paths in (("adversarial", files[:1]), ("all", files)):
        build_release(Job(paths, PictureFolder(folder / "pictures"), folder / name))
        audited = audit_release(folder / name, thorough=False)
        found[name] = {finding.kind: finding for finding in audited.findings}
        if name == "adversarial":
            lines = {line.name: line for table in audited.tables for line in table.rows}
            assert lines["adversarial sdxl all categories"].difference == -1
            assert lines["adversarial dalle all categories"].here == 99
    return found


class TestRealRecords:
    """The facts that the README of the real records states."""

    def test_the_adversarial_file(self, found: dict[str, dict[str, Finding]]) -> None:
        counts = {name: finding.count for name, finding in found["adversarial"].items()}
        assert counts["no_partner"] == 16
        assert counts["group_without_yes"] == 4
        assert set(counts) == {
            "no_partner",
            "group_without_yes",
            "subject_is_object",
            "spelling_variant",
            "unbalanced_cell",
        }

    def test_both_files(self, found: dict[str, dict[str, Finding]]) -> None:
        repeated = found["all"]["repeated_across_splits"]
        assert repeated.count == 41
        assert repeated.examples[0] == (
            "data/dalle/adversarial.jsonl:59: Dall-E_generated/action/00007_abstract.png: "
            "Does a book grow a tree in the image? yes | "
            "data/dalle/test.jsonl:10: Dall-E_generated/action/00007_abstract.png: "
            "Does a book grow a tree in the image? yes"
        )
        # With the same labels: none of the 41 contradicts itself.
        assert "contradiction" not in found["all"]
        assert (
            "data/dalle/test.jsonl: dalle action test: 412 yes, 188 no (69% yes)"
            in found["all"]["unbalanced_cell"].examples
        )

"""Questions of unknown wording, from annotation files to scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import load_dataset
from PIL import Image

import mmrel
import upload
from mmrel_kit import cli
from mmrel_kit.check.release import check_release
from tests.helpers.questions import OPEN, write

SPEC = "SPEC/relative_size/00000001/2.jpg"
DALLE = "Dall-E_generated/action/00001_abstract.png"
RIDES = {"question_id": "r", "image": DALLE, "text": "Does a man ride a horse in the image?"}
# The open-ended questions of a tree like upstream's, by file; the last one has no category.
OPEN_QUESTIONS = {
    "real_spatial_open.json": [OPEN],
    "open.json": [
        {**OPEN, "question_id": "o2", "image": SPEC, "label": "bigger"},
        {**OPEN, "question_id": "o3", "image": DALLE, "label": "The man rides it."},
        {**OPEN, "question_id": "o4", "text": "What is it?"},
    ],
}
FINE_TUNING = [
    {"id": 1, "image": "coco/1.jpg", "conversations": []},
    {"id": 1, "conversations": []},
    {
        "id": 1,
        "image": DALLE,
        "conversations": [
            {"from": "human", "value": f"<image>\n{RIDES['text']}"},
            {"from": "gpt", "value": "Yes"},
        ],
    },
]


def make_tree(folder: Path, only_open: bool = False) -> Path:
    """Write annotation files and pictures like upstream's; return their folder."""
    for name in (OPEN["image"], SPEC, DALLE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 40), 90).convert("RGB").save(folder / name)
    for name, values in OPEN_QUESTIONS.items():
        write(folder / "json" / name, *values)
    if not only_open:
        write(folder / "json" / "dalle_action.json", {**RIDES, "label": "yes"})
        fine_tuning = folder / "json" / "Fine-tuning" / "Fine-tuning_data.json"
        fine_tuning.parent.mkdir()
        fine_tuning.write_text(json.dumps(FINE_TUNING))
    return folder


def build(folder: Path, *options: str) -> int:
    """Build `out` from a tree; return the exit status."""
    inputs = ["--annotations", f"{folder}/json", "--images", str(folder)]
    return upload.main(["build", *inputs, "--out", f"{folder}/out", *options])


def test_what_a_build_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Such a tree stopped the build at the first open-ended question.
    assert build(make_tree(tmp_path)) == 0
    sentence = (
        "Part of the benchmark only: 1 open-ended questions are left out because their wording is "
        "unknown and nothing names their category."
    )
    printed = capsys.readouterr().out.splitlines()
    for line in (
        sentence,
        "open-ended questions of unknown wording, kept without a triplet: "
        "1 spatial, 1 action, 1 comparative",
        "questions that several files have, dropped but for one: 1",
        "conversations about other pictures, passed over: 2",
    ):
        assert line in printed
    assert mmrel.Release(tmp_path / "out").note == sentence
    # The fine-tuning file states the split of a question that another one has without a split.
    counts = {
        path.relative_to(tmp_path / "out" / "data").as_posix(): len(path.read_text().splitlines())
        for path in (tmp_path / "out").glob("data/*/*.jsonl")
    }
    assert counts == {
        "real/test.jsonl": 1,
        "sdxl/test.jsonl": 1,
        "dalle/test.jsonl": 1,
        "dalle/train.jsonl": 1,
    }


def test_counts_leave_out_missing_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (make_tree(tmp_path) / SPEC).unlink()
    assert build(tmp_path, "--allow-missing") == 0
    assert "without a triplet: 1 spatial, 1 action\n" in capsys.readouterr().out


@pytest.mark.parametrize("only_open", [False, True])
def test_a_release_with_them(
    tmp_path: Path, only_open: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(make_tree(tmp_path, only_open), *[] if only_open else ["--hub-eval"]) == 0
    out = tmp_path / "out"
    assert check_release(out) == []
    assert cli.main(["audit", str(out), "--card"]) == 0
    assert check_release(out) == []
    assert "| `question` |" in (out / "README.md").read_text("utf-8")

    cache = str(tmp_path / "cache")
    rows = mmrel.load("all", split="test", root=out, cache_dir=cache, tasks=["generative"])
    table = load_dataset("parquet", data_files=f"{out}/data/*/test-*.parquet", cache_dir=cache)
    for loaded in (rows, table["train"]):
        assert sorted(loaded["question_id"]) == ["o1", "o2", "o3"]
        for column in ("subject", "relation", "object", "pair_id"):
            assert set(loaded[column]) == {None}

    answers = [{"question_id": f"o{n}", "answer": text} for n, text in enumerate(
        ("It is on the plate.", "smaller", "The man is riding it."), 1
    )]  # fmt: skip
    path = write(tmp_path / "answers.jsonl", *answers)
    capsys.readouterr()
    for verb in ("score", "report"):
        inputs = [str(path), "--root", str(out), "--split", "test", "--task", "generative"]
        assert cli.main([verb, *inputs]) == 0
        assert "real/spatial      1  100.00        1          0" in capsys.readouterr().out

    # A release is built again from its own records, with the same questions.
    inputs = ["--annotations", f"{out}/data", "--images", str(tmp_path), "--out"]
    assert upload.main(["build", *inputs, f"{tmp_path}/again"]) == 0
    for records in out.glob("data/*/*.jsonl"):
        assert (tmp_path / "again" / records.relative_to(out)).read_bytes() == records.read_bytes()


class TestStrict:
    """`build --strict`."""

    def test_all_are_listed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert build(make_tree(tmp_path), "--strict") == 1
        *_, first, second, third, fourth = capsys.readouterr().err.splitlines()
        got = "expected a question that a grammar parses, got 'Where is the cup relative to"
        assert f"{tmp_path}/json/open.json:1: {got}" in first
        assert f"{tmp_path}/json/open.json:2: {got}" in second
        assert (
            f"{tmp_path}/json/open.json:3: expected a question that a grammar parses, "
            "or its category in --mapping" in third
        )
        assert f"{tmp_path}/json/real_spatial_open.json:1: {got}" in fourth
        assert not (tmp_path / "out").exists()

    def test_all_are_counted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write(make_tree(tmp_path) / "json" / "spatial.json", *[OPEN] * 1500)
        assert build(tmp_path, "--strict") == 1
        printed = capsys.readouterr().err
        assert "… 1504 problems in all" in printed
        assert printed.count("expected a question that a grammar parses") == 10

    def test_nothing_to_say(self, sources: Path, tmp_path: Path) -> None:
        inputs = ["--annotations", f"{sources}/json", "--images", str(sources)]
        assert upload.main(["build", *inputs, "--out", f"{tmp_path}/out", "--strict"]) == 0


def test_nothing_but_questions_that_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(make_tree(tmp_path) / "a.json", {**OPEN, "text": "What is it?"}, *FINE_TUNING[:2])
    inputs = ["--annotations", f"{tmp_path}/a.json", "--images", str(tmp_path)]
    assert upload.main(["build", *inputs, "--out", f"{tmp_path}/out"]) == 1
    assert (
        "expected questions about MMRel's pictures in the annotations, found none; "
        "1 left out (no category), 2 left out (other picture)" in capsys.readouterr().err
    )


class TestDomains:
    """`build --domains`."""

    def test_only_their_pictures_are_needed(
        self, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        inputs = ["--annotations", f"{sources}/json", "--images", f"real={sources}"]
        inputs += [f"dalle={sources}", "--out", f"{tmp_path}/out"]
        assert upload.main(["build", *inputs, "--domains", "dalle", "real"]) == 0
        assert check_release(tmp_path / "out") == []
        release = mmrel.Release(tmp_path / "out")
        assert release.note is None
        assert {path.name for path in (tmp_path / "out" / "data").iterdir() if path.is_dir()} == {
            "real", "dalle",
        }  # fmt: skip
        assert "sdxl" not in capsys.readouterr().out

    def test_a_domain_without_questions(
        self, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        inputs = ["--annotations", f"{sources}/json/train.jsonl", "--images", str(sources)]
        inputs += ["--out", f"{tmp_path}/out"]
        assert upload.main(["build", *inputs, "--domains", "real", "sdxl"]) == 1
        printed = capsys.readouterr().err
        assert "train.jsonl: expected questions about pictures of sdxl, found none" in printed
        with pytest.raises(SystemExit):
            upload.main(["build", *inputs, "--domains", "coco"])
        assert "argument --domains: invalid choice: 'coco'" in capsys.readouterr().err

    def test_a_plan_of_other_domains_is_not_resumed(self, sources: Path, tmp_path: Path) -> None:
        inputs = ["--annotations", f"{sources}/json", "--images", str(sources)]
        inputs += ["--out", f"{tmp_path}/out"]
        assert upload.main(["build", *inputs, "--shard", "1/2"]) == 0
        assert upload.main(["build", *inputs, "--domains", "real"]) == 0
        assert not list((tmp_path / "out" / "data").glob("sdxl"))

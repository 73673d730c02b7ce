"""Building: three formats of a release, same bytes from same inputs, nothing half-written."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import mmrel
import upload
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.build.tables import GROUP_ROWS
from mmrel_kit.check.release import check_release
from mmrel_kit.files import InputError
from mmrel_kit.sources.local import PictureFolder
from tests.conftest import make_sources
from tests.helpers.folders import snapshot
from tests.helpers.pictures import make_jpeg, make_png

if TYPE_CHECKING:
    from collections.abc import Callable

POPE = {
    "question_id": "q1",
    "image": "vg/VG_100K/1.jpg",
    "text": "Is there a cat above to a car in the image?",
    "label": "yes",
}


@pytest.fixture
def one(tmp_path: Path) -> Callable[..., list[str]]:
    """Arguments of a build of one question about one picture, with what a test wants to be bad."""

    def make(picture: bytes | None = None, **changes: Any) -> list[str]:
        folder = tmp_path / "sources"
        (folder / "json").mkdir(parents=True, exist_ok=True)
        (folder / "json" / "a.jsonl").write_text(json.dumps({**POPE, **changes}) + "\n")
        if picture is not None:
            (folder / "vg" / "VG_100K").mkdir(parents=True, exist_ok=True)
            (folder / "vg" / "VG_100K" / "1.jpg").write_bytes(picture)
        named = ["--annotations", folder / "json", "--images", folder, "--out", tmp_path / "out"]
        return ["build", *map(str, named)]

    return make


def test_same_inputs_give_the_same_bytes(sources: Path, built: Path, tmp_path: Path) -> None:
    build_release(
        Job(
            [sources / "json"],
            PictureFolder(sources),
            tmp_path / "again",
            note="Noise.",
            shard_bytes=6000,
        )
    )
    assert snapshot(tmp_path / "again") == snapshot(built)
    # The order in which files are given does not matter either.
    files = [sources / "json" / f"{split}.jsonl" for split in ("test", "adversarial", "train")]
    build_release(
        Job(files, PictureFolder(sources), tmp_path / "shuffled", note="Noise.", shard_bytes=6000)
    )
    assert snapshot(tmp_path / "shuffled") == snapshot(built)


def test_pictures_keep_their_bytes_and_stand_once(sources: Path, built: Path) -> None:
    stored: dict[str, bytes] = {}
    for path in built.rglob("*.tar"):
        name = path.relative_to(built).as_posix()
        with open(path, "rb") as file:
            for records, data in mmrel.read_archive(file, name, path.stat().st_size):
                assert records[0]["image_id"] not in stored
                stored[records[0]["image_id"]] = data
    assert stored == {name: (sources / name).read_bytes() for name in stored}
    assert len(stored) == 56


def test_the_tables_are_as_the_viewer_needs_them(built: Path) -> None:
    for path in built.rglob("*.parquet"):
        with pq.ParquetFile(path) as file:
            assert (
                str(file.schema_arrow.field("image").type) == "struct<bytes: binary, path: string>"
            )
            features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
            assert set(json.dumps(features).split('"')) & {"List", "Json", "LargeList"} == set()
            for index in range(file.num_row_groups):
                group = file.metadata.row_group(index)
                assert group.num_rows <= GROUP_ROWS
                assert group.column(0).path_in_schema == "image.bytes"
                assert group.column(0).has_dictionary_page
                assert group.column(0).has_offset_index


def test_long_pictures_are_cut_between_row_groups(tmp_path: Path) -> None:
    # More questions about one picture than a row group holds.
    folder = tmp_path / "sources"
    (folder / "vg" / "VG_100K").mkdir(parents=True)
    (folder / "vg" / "VG_100K" / "1.jpg").write_bytes(make_jpeg())
    lines = [
        json.dumps(
            {
                **POPE,
                "question_id": f"q{n}",
                "text": f"Is there a cat above to a car{n} in the image?",
            }
        )
        for n in range(250)
    ]
    (folder / "a.jsonl").write_text("\n".join(lines))
    build_release(Job([folder / "a.jsonl"], PictureFolder(folder), tmp_path / "out"))
    assert check_release(tmp_path / "out") == []
    with pq.ParquetFile(next((tmp_path / "out").rglob("*.parquet"))) as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [
            100,
            100,
            50,
        ]


def test_pictures_are_sorted_by_the_set_of_their_categories(tmp_path: Path) -> None:
    asked = {
        "spatial": "Is there a cat above to a car in the image?",
        "action": "Does a man ride a horse in the image?",
        "comparative": "Is a cat bigger than a car in the image?",
    }
    sets = [
        "spatial",
        "action",
        "spatial action",
        "comparative",
        "spatial comparative",
        "action comparative",
    ]
    sets.append("spatial action comparative")
    (tmp_path / "vg").mkdir()
    lines = []
    for number, categories in enumerate(sets):
        name = f"vg/{9 - number}.jpg"  # by its name it would come last
        (tmp_path / name).write_bytes(make_jpeg())
        for category in categories.split():
            question = {
                "question_id": f"{number} {category}",
                "image": name,
                "text": asked[category],
            }
            lines.append(json.dumps({**question, "label": "yes"}))
    (tmp_path / "test.jsonl").write_text("\n".join(reversed(lines)))
    build_release(Job([tmp_path / "test.jsonl"], PictureFolder(tmp_path), tmp_path / "out"))
    records = [
        json.loads(line)
        for line in (tmp_path / "out/data/real/test.jsonl").read_text().splitlines()
    ]
    expected = [
        f"{number} {category}" for number, names in enumerate(sets) for category in names.split()
    ]
    assert [record["question_id"] for record in records] == expected


def test_only_what_exists_is_listed(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_release(Job([sources / "json" / "train.jsonl"], PictureFolder(sources), out))
    assert check_release(out) == []
    assert set(json.loads((out / "dataset_infos.json").read_text())) == {"all", "real"}
    assert (
        mmrel.load("real", root=out, split="train", streaming=True).features
        == mmrel.make_features()
    )
    with pytest.raises(
        mmrel.ReleaseError, match=r"has no archives for 'sdxl'; domains present: real"
    ):
        mmrel.load("sdxl", root=out)
    with pytest.raises(
        mmrel.ReleaseError, match=r"expected a split among train of 'real', .*got 'test'"
    ):
        mmrel.load("real", root=out, split="test")
    with pytest.raises(
        ValueError, match="expected a config among all, real, sdxl, dalle, got 'coco'"
    ):
        mmrel.load("coco", root=out)


def test_split_overrides(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [
        "--annotations",
        sources / "json",
        "--images",
        sources,
        "--out",
        out,
        "--split",
        "adversarial",
    ]
    assert upload.main(["build", *map(str, arguments)]) == 0
    assert {path.name for path in out.rglob("*.jsonl")} == {"adversarial.jsonl"}


BAD_PICTURES = {
    "missing": (None, "a.jsonl:1: picture 'vg/VG_100K/1.jpg' is missing"),
    "empty": (
        b"",
        "json/a.jsonl:1: picture 'vg/VG_100K/1.jpg': expected a complete JPEG, PNG, WEBP picture",
    ),
    "text": (
        b"not a picture",
        "json/a.jsonl:1: picture 'vg/VG_100K/1.jpg': expected a complete JPEG, PNG, WEBP",
    ),
    "truncated": (
        make_jpeg()[:-200],
        "json/a.jsonl:1: picture 'vg/VG_100K/1.jpg': expected a complete JPEG, PNG, WEBP",
    ),
    "huge header": (
        make_png(50_000, 50_000),
        "expected a picture of at most 178956970 pixels, got",
    ),
    "large header": (
        make_png(14_000, 14_000),
        "expected a picture of at most 178956970 pixels, got",
    ),
    "broken stream": (make_png(50, 50, b"no zlib"), "expected a complete JPEG, PNG, WEBP"),
    "gif": (b"GIF89a" + b"\0" * 50, "expected a complete JPEG, PNG, WEBP picture"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_pictures(
    one: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    picture, message = BAD_PICTURES[case]
    assert upload.main(one(picture)) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert " at 0x" not in printed  # the address of an object in memory, which Pillow names
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "maybe"}, "a.jsonl:1: expected the label yes or no, got 'maybe'"),
        ({"image": "vg/../secret.jpg"}, "a.jsonl:1: field image_id"),
        ({"text": "What is this?"}, "a.jsonl:1: expected 'Is there a S REL"),
    ],
)
def test_bad_annotations(
    one: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    message: str,
) -> None:
    assert upload.main(one(make_jpeg(), **changes)) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_two_pictures_that_differ_by_their_ending(tmp_path: Path) -> None:
    folder = make_sources(tmp_path / "sources", copies=1)
    twin = {**POPE, "question_id": "twin", "image": "vg/VG_100K/0.png", "split": "test"}
    (folder / "json" / "twin.jsonl").write_text(json.dumps(twin))
    (folder / "vg" / "VG_100K" / "0.png").write_bytes(make_png(2, 2))
    expected = r"twin.jsonl:1: picture .*0.png' has the same name up to the first dot as .*0.jpg'"
    with pytest.raises(InputError, match=expected):
        build_release(Job([folder / "json"], PictureFolder(folder), tmp_path / "out"))


def test_two_pictures_with_the_same_name_up_to_the_first_dot(tmp_path: Path) -> None:
    # `load_dataset("webdataset")` and webdataset itself used to make one sample of both.
    folder = make_sources(tmp_path / "sources", copies=1)
    for name in ("7.left.jpg", "7.right.jpg", "8.left.jpg"):
        twin = {**POPE, "question_id": name, "image": f"vg/VG_100K/{name}", "split": "test"}
        with open(folder / "json" / "test.jsonl", "a") as lines:
            lines.write(json.dumps(twin) + "\n")
        (folder / "vg" / "VG_100K" / name).write_bytes(make_jpeg())
    with pytest.raises(InputError) as caught:
        build_release(Job([folder / "json"], PictureFolder(folder), tmp_path / "out"))
    (line,) = str(caught.value).splitlines()
    assert (
        "picture 'vg/VG_100K/7.right.jpg' has the same name up to the first dot as "
        "'vg/VG_100K/7.left.jpg'" in line
    )
    assert line.endswith("rename one of the files, and its path in the annotations")
    assert not (tmp_path / "out").exists()


class TestWhatABuildSays:
    def test_files_that_name_no_split(
        self, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # They used to become `test` in silence.
        folder = tmp_path / "json"
        folder.mkdir()
        for name, split in (("questions.jsonl", "train"), ("more_test.jsonl", "test")):
            records = [
                json.loads(line)
                for line in (sources / "json" / f"{split}.jsonl").read_text().splitlines()
            ]
            kept = [
                json.dumps({k: v for k, v in record.items() if k != "split"}) for record in records
            ]
            (folder / name).write_text("\n".join(kept))
        arguments = [
            "build",
            "--annotations",
            str(folder),
            "--images",
            str(sources),
            "--out",
            str(tmp_path / "out"),
        ]
        assert upload.main(arguments) == 0
        printed = capsys.readouterr().out
        assert (
            "in 'test', as neither the records nor the file name give a split "
            "(set it with --split or --mapping):" in printed
        )
        assert f"  {folder / 'questions.jsonl'}: 24 questions\n" in printed
        assert "more_test.jsonl" not in printed
        assert upload.main([*arguments, "--split", "train"]) == 0
        assert "in 'test', as" not in capsys.readouterr().out
        (tmp_path / "mapping.json").write_text('{"questions.jsonl": "train"}')
        assert upload.main([*arguments, "--mapping", str(tmp_path / "mapping.json")]) == 0
        assert "in 'test', as" not in capsys.readouterr().out

    def test_finish_says_it_too(
        self, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = json.loads((sources / "json" / "train.jsonl").read_text().splitlines()[0])
        (tmp_path / "a.jsonl").write_text(json.dumps({**line, "split": None}))
        out = str(tmp_path / "out")
        arguments = [
            "--annotations",
            str(tmp_path / "a.jsonl"),
            "--images",
            str(sources),
            "--out",
            out,
        ]
        assert upload.main(["build", *arguments, "--shard", "1/1"]) == 0
        assert upload.main(["finish", "--out", out]) == 0
        assert f"  {tmp_path / 'a.jsonl'}: 1 questions\n" in capsys.readouterr().out

    def test_each_step_without_a_terminal(
        self, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # Nothing was printed before the summary, for hours with the whole benchmark.
        out = str(tmp_path / "out")
        arguments = ["--annotations", str(sources / "json"), "--images", str(sources), "--out", out]
        assert upload.main(["build", *arguments]) == 0
        size = sum(path.stat().st_size for path in sources.rglob("*.???"))
        assert capsys.readouterr().err.splitlines() == [
            "reading 3 annotation files",
            "looking for the pictures of 168 questions",
            f"168 questions about 56 pictures; writing 6 shards, {size / 1e6:.1f} MB",
            "finishing: records, card, audit and checksums",
        ]

    def test_a_build_that_goes_on(
        self, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = str(tmp_path / "out")
        arguments = ["--annotations", str(sources / "json"), "--images", str(sources), "--out", out]
        assert upload.main(["build", *arguments, "--shard", "1/3"]) == 0
        assert (
            "share 1 of 3: 168 questions about 56 pictures; writing 2 shards"
            in capsys.readouterr().err
        )
        assert upload.main(["build", *arguments]) == 0
        printed = capsys.readouterr().err
        assert f"resuming the build that was interrupted: {out}.partial" in printed
        assert "writing 6 shards, " in printed
        assert "; 2 of them are already written by a build that was interrupted" in printed


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--shard", "3", "expected I/N with 1 <= I <= N, such as 3/64, got '3'"),
        ("--shard", "4/3", "expected I/N with 1 <= I <= N, such as 3/64, got '4/3'"),
        ("--shard", "0/3", "expected I/N with 1 <= I <= N, such as 3/64, got '0/3'"),
        ("--shard", "1/" + "9" * 5000, "expected I/N with 1 <= I <= N, such as 3/64, got '1/999"),
        ("--workers", "0", "expected a whole number from 1 on, such as 4, got '0'"),
        (
            "--workers",
            "many\x1b[2J",
            "expected a whole number from 1 on, such as 4, got 'many\\x1b[2J'",
        ),
    ],
)
def test_numbers_of_the_command_line(
    one: Any, capsys: pytest.CaptureFixture[str], option: str, value: str, expected: str
) -> None:
    # "invalid _share value" and "invalid _positive value" named a function, not a value.
    with pytest.raises(SystemExit):
        upload.main([*one(), option, value])
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: {expected}" in last
    assert len(last) < 250


@pytest.mark.parametrize("workers", [1, 2])
def test_pictures_that_do_not_open_are_named_at_once(tmp_path: Path, workers: int) -> None:
    folder = make_sources(tmp_path / "sources")
    bad = ["vg/VG_100K/20.jpg", "SPEC/relative_size/00000033/2.jpg"]
    for name in bad:
        (folder / name).write_bytes(b"no picture")
    job = Job([folder / "json"], PictureFolder(folder), tmp_path / "out", shard_bytes=3000)
    with pytest.raises(InputError) as caught:
        build_release(job, workers)
    lines = str(caught.value).splitlines()
    assert {line.split("'")[1] for line in lines} == set(bad)
    assert len(lines) == len(bad)
    for line in lines:
        assert re.match(
            r"json/\w+.jsonl:\d+: picture '.*': expected a complete JPEG, PNG, WEBP picture: ", line
        )


def test_a_plan_of_another_layout_is_not_read(one: Any, tmp_path: Path) -> None:
    # A build that an older version has begun: its plan has other tables.
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "plan.sqlite").write_bytes(b"not for us")
    assert upload.main(one(make_jpeg())) == 0
    assert not list(tmp_path.glob("out.*"))


class TestOut:
    """What may stand in --out, and what is left of it."""

    def test_something_else_is_not_touched(
        self, one: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = one(make_jpeg())
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years of work")
        assert upload.main(arguments) == 1
        assert "expected nothing or a release, got 'thesis.txt'" in capsys.readouterr().err
        assert snapshot(tmp_path / "out") == {"thesis.txt": b"years of work"}

    def test_a_file(self, one: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = one(make_jpeg())
        (tmp_path / "out").write_text("a file")
        assert upload.main(arguments) == 1
        assert "expected a folder or nothing, got a file" in capsys.readouterr().err

    def test_a_release_with_a_file_of_somebody(self, one: Any, tmp_path: Path) -> None:
        assert upload.main(one(make_jpeg())) == 0
        (tmp_path / "out" / "notes.md").write_text("mine")
        assert upload.main(one(make_jpeg(), label="no")) == 1
        assert (
            b'"answer": "yes"' in (tmp_path / "out" / "data" / "real" / "test.jsonl").read_bytes()
        )

    def test_a_release_is_replaced(self, one: Any, tmp_path: Path) -> None:
        assert upload.main(one(make_jpeg())) == 0
        assert upload.main(one(make_jpeg(), label="no", split="train")) == 0
        assert check_release(tmp_path / "out") == []
        assert {path.name for path in (tmp_path / "out").rglob("*.jsonl")} == {"train.jsonl"}

    def test_a_neighbour_called_old_stays(self, one: Any, tmp_path: Path) -> None:
        # A build deleted `out.old`, whatever it was.
        (tmp_path / "out.old").mkdir()
        (tmp_path / "out.old" / "keep.txt").write_text("mine")
        assert upload.main(one(make_jpeg())) == 0
        assert upload.main(one(make_jpeg(), label="no")) == 0
        assert snapshot(tmp_path / "out.old") == {"keep.txt": b"mine"}
        assert not list(tmp_path.glob("out.*.tmp"))

    def test_a_failed_build_leaves_the_release_that_stood_there(
        self, one: Any, tmp_path: Path
    ) -> None:
        assert upload.main(one(make_jpeg())) == 0
        before = snapshot(tmp_path / "out")
        assert upload.main(one(make_jpeg()[:-200])) == 1
        assert snapshot(tmp_path / "out") == before


def test_the_real_adversarial_records(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real input with stand-in pictures: build, check, and the counts loaded back."""
    records = real_data / "mmrel" / "mmrel_adversarial.jsonl"
    for line in records.read_text().splitlines():
        path = tmp_path / "pictures" / json.loads(line)["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.new("RGB", (16, 16), f"#{zlib.crc32(path.name.encode()) & 0xFFFFFF:06x}").save(
                path
            )
    arguments = [
        "--annotations",
        records,
        "--images",
        tmp_path / "pictures",
        "--out",
        tmp_path / "out",
    ]
    assert upload.main(["build", *map(str, arguments)]) == 0
    printed = capsys.readouterr().out
    assert "232 of 232 groups with a yes and a no" in printed
    assert "16 questions without a partner (15 yes, 1 no)" in printed
    assert "39 of 43 groups with a yes and a no; 4 groups without a yes" in printed
    assert check_release(tmp_path / "out") == []
    loaded = mmrel.load(
        "all", split="adversarial", root=tmp_path / "out", cache_dir=str(tmp_path / "cache")
    )
    for column, expected in (
        ("domain", {"real": 671, "sdxl": 179, "dalle": 99}),
        ("category", {"spatial": 464, "action": 360, "comparative": 125}),
        ("answer", {"yes": 458, "no": 491}),
    ):
        assert {value: loaded[column].count(value) for value in set(loaded[column])} == expected

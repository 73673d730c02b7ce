"""`check` names what is wrong with a release, all of it, and where."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import tarfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mmrel
import upload
from mmrel_kit.audit.findings import audit_release
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.check.release import check_release
from mmrel_kit.files import describe_file
from mmrel_kit.pictures.sources import PictureFolder
from tests.conftest import REPOSITORY, make_sources

if TYPE_CHECKING:
    from collections.abc import Callable


def told(root: Path) -> str:
    return "\n".join(map(str, check_release(root)))


def renew_index(root: Path) -> None:
    """Checksums that fit what stands there, so that a test sees the other checks."""
    index = json.loads((root / "checksums.json").read_text())
    found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    del found["checksums.json"]
    index["files"] = {name: index["files"].get(name, {}) | describe_file(path) for name, path in found.items()}
    (root / "checksums.json").write_text(json.dumps(index))


def edit_lines(root: Path, edit: Callable[[dict[str, Any]], None], line: int = 1, name: str = "real/test") -> None:
    path = root / "data" / f"{name}.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[line - 1])
    edit(record)
    lines[line - 1] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")
    renew_index(root)


def edit_table(root: Path, edit: Callable[[pa.Table], pa.Table], **options: Any) -> str:
    path = sorted((root / "data" / "real").glob("test-*.parquet"))[0]
    settings = {"use_dictionary": ["image.bytes"], "write_page_index": True, "row_group_size": 100, **options}
    pq.write_table(edit(pq.read_table(path)), path, **settings)
    renew_index(root)
    return told(root)


def test_a_built_release_is_good(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_release(built) == []
    assert upload.main(["check", str(built)]) == 0
    assert "0 problems, 0 warnings" in capsys.readouterr().out


def test_a_changed_byte_in_any_file_is_named(built: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    for path in sorted(path for path in built.rglob("*") if path.is_file()):
        name = path.relative_to(built).as_posix()
        root = Path(shutil.copytree(built, tmp_path / "release"))
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(1, 7)
        (root / name).write_bytes(data)
        problems = check_release(root)
        assert any(not problem.is_warning for problem in problems), name
        if name != "checksums.json":
            assert any(problem.where.startswith(name) for problem in problems), (name, problems)
        shutil.rmtree(root)


def test_problems_are_told_all_at_once_and_sorted(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (release / "schema" / "taxonomy.json").write_text("{}")
    (release / "data" / "real" / "train.jsonl").unlink()
    (release / "mmrel.py").write_text("")
    assert upload.main(["check", str(release)]) == 1
    lines = capsys.readouterr().out.splitlines()
    places = [line.split(": ")[0] for line in lines[:-1]]
    assert places == sorted(places)
    for name in (
        "schema/taxonomy.json: differs",
        "data/real/train.jsonl: missing",
        "mmrel.py: checksums.json does not",
    ):
        assert any(line.startswith(name) for line in lines), name


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": 3}', '{"files": {"a": 1}}', "\udcff"])
def test_a_broken_index(release: Path, content: str) -> None:
    (release / "checksums.json").write_text(content, errors="surrogateescape")
    assert "checksums.json: expected the sha256 and size of each file" in told(release)


@pytest.mark.parametrize("categories", [None, [], ["action"], ["spatial", "action", "comparative"], "spatial", 3])
def test_categories_that_an_archive_does_not_hold(release: Path, categories: Any) -> None:
    index = json.loads((release / "checksums.json").read_text())
    name = "data/real/test-00000.tar"
    assert index["files"][name]["categories"] == ["spatial"]
    index["files"][name]["categories"] = categories
    (release / "checksums.json").write_text(json.dumps(index))
    assert f"{name}: checksums.json says that it holds the categories {categories}, it holds ['spatial']" in told(
        release
    )


def test_the_source_repository_is_no_release(capsys: pytest.CaptureFixture[str]) -> None:
    # It used to be 161 problems.
    assert upload.main(["check", str(REPOSITORY)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"upload.py check: {REPOSITORY}: this is the source repository, not a release; check its sample with: "
        f"mmrel check {REPOSITORY} --sample"
    ]
    assert upload.main(["check", str(REPOSITORY), "--sample"]) == 0
    assert capsys.readouterr().out == f"{REPOSITORY}: 0 problems, 0 warnings\n"


def test_a_release_is_no_source_repository(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upload.main(["check", str(built), "--sample"]) == 1
    assert "expected the source repository; leave out --sample for a release" in capsys.readouterr().err


def test_names_that_agree_up_to_the_first_dot(release: Path) -> None:
    # WebDataset readers made one sample of two pictures; `check` said nothing.
    def rename(text: bytes) -> bytes:
        return re.sub(rb"vg/VG_100K/10\.(jpg|json)", rb"vg/VG_100K/0.2.\1", text)

    path = release / "data" / "real" / "test.jsonl"
    path.write_bytes(rename(path.read_bytes()))
    for archive in sorted((release / "data" / "real").glob("test-*.tar")):
        with tarfile.open(archive) as opened:
            members = [(m.name, opened.extractfile(m).read()) for m in opened]  # type: ignore[union-attr]
        write_tar(archive, [(rename(name.encode()).decode(), rename(data)) for name, data in members])
    for table in sorted((release / "data" / "real").glob("test-*.parquet")):
        rows = pq.read_table(table)
        values = [rename(value.encode()).decode() for value in rows["image_id"].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index("image_id"), rows.schema.field("image_id"), [values])
        pictures = [{**cell, "path": value} for cell, value in zip(rows["image"].to_pylist(), values, strict=True)]
        rows = rows.set_column(0, rows.schema.field("image"), [pa.array(pictures, rows.schema.field("image").type)])
        pq.write_table(rows, table, use_dictionary=["image.bytes"], write_page_index=True, row_group_size=100)
    renew_index(release)
    expected = "picture 'vg/VG_100K/0.2.jpg' agrees with 'vg/VG_100K/0.jpg' up to the first dot of its name"
    assert expected in told(release)


def test_relations_of_another_category_are_counted_as_audit_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only `audit` said so; upstream's own questions hold some, so that they are a warning.
    folder, root = make_sources(tmp_path / "sources"), tmp_path / "release"
    path = folder / "json" / "test.jsonl"
    verbs = itertools.cycle(("above", "bigger", "behind", "kiss"))
    text = re.sub("look at", lambda match: next(verbs), path.read_text())
    path.write_text(text)
    build_release(Job([folder / "json"], PictureFolder(folder), root))
    findings = audit_release(root, thorough=False).findings
    (found,) = [finding for finding in findings if finding.kind == "impossible_triplet"]
    assert found.count > 3
    (problem,) = [one for one in check_release(root) if "another category" in one.message]
    assert problem.is_warning
    told = f"{found.count} questions with a relation of another category, for example "
    assert problem.message.startswith(told)
    assert problem.message.count("data/real/test.jsonl:") == 3
    assert upload.main(["check", str(root)]) == 0
    assert "build --drop impossible_triplet" in capsys.readouterr().out


def test_no_release_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upload.main(["check", str(tmp_path)]) == 1
    assert "checksums.json: expected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "maybe"}, "data/real/test.jsonl:1: field answer: "),
        ({"image_id": "../a.jpg"}, "data/real/test.jsonl:1: field image_id: "),
        ({"pair_id": "0" * 16}, "data/real/test.jsonl:1: field pair_id: expected"),
        ({"question": "Is it?"}, "data/real/test.jsonl:1: field question: expected"),
        ({"subject": "dog"}, "data/real/test.jsonl:1: field question: reads as"),
        ({"source": "elsewhere:1"}, ":vg/VG_100K/0.jpg: the records differ from data/real/test.jsonl:1"),
    ],
)
def test_records(release: Path, change: dict[str, str], message: str) -> None:
    edit_lines(release, lambda record: record.update(change))
    assert message in told(release)


def test_broken_lines(release: Path) -> None:
    for line in (b"nonsense\n", b"\xff\n", b"[]\n"):
        path = release / "data" / "real" / "test.jsonl"
        path.write_bytes(line + path.read_bytes())
        renew_index(release)
        assert "data/real/test.jsonl:1: expected a" in told(release)


def test_question_ids_across_splits(release: Path) -> None:
    first = json.loads((release / "data" / "real" / "test.jsonl").read_text().splitlines()[0])
    edit_lines(release, lambda record: record.update(question_id=first["question_id"]), name="sdxl/test")
    assert f"data/sdxl/test.jsonl:1: question_id {first['question_id']!r} stands already at data/real/test" in told(
        release
    )


def test_a_face_that_ends_before(release: Path) -> None:
    path = release / "data" / "real" / "test.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:-3]))
    renew_index(release)
    assert "expected the same pictures in all three faces, data/real/test.jsonl ends before" in told(release)


def test_truncated_archives(release: Path, built: Path) -> None:
    path = sorted((release / "data" / "real").glob("test-*.tar"))[0]
    whole = path.read_bytes()
    for length in (
        0,
        100,
        512,
        700,
        len(whole) // 2,
        len(whole) // 2 // 512 * 512,
        len(whole) - 10240,
        len(whole) - 512,
    ):
        path.write_bytes(whole[:length])
        renew_index(release)
        assert f"{path.relative_to(release).as_posix()}" in told(release), length
        with pytest.raises(mmrel.ReleaseError, match=path.name):
            list(mmrel.load("real", split="test", root=release, streaming=True))


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, BytesIO(data))


def test_archives_of_every_length_are_whole(tmp_path: Path) -> None:
    # The end of an archive is padded; one block more or less used to be taken for a cut where the padding is full.
    for blocks in range(24):
        path = tmp_path / "a.tar"
        records = [{"image_id": "a.jpg"}]
        write_tar(path, [("a.json", json.dumps(records).encode()), ("a.jpg", b"x" * 512 * blocks)])
        with open(path, "rb") as file:
            assert list(mmrel.read_archive(file, "a.tar", path.stat().st_size)) == [(records, b"x" * 512 * blocks)]


def test_hostile_archives(release: Path) -> None:
    path = sorted((release / "data" / "real").glob("test-*.tar"))[0]
    with tarfile.open(path) as archive:
        good = [(m.name, archive.extractfile(m).read()) for m in archive]  # type: ignore[union-attr]
    records, picture = good[0], good[1]
    deep = b'[{"a": ' + b"[" * 100_000
    cases = {
        "expected the picture 'vg/VG_100K/0.jpg'": [records, ("../../evil.jpg", picture[1])],
        "after it, got 'the end'": [records],
        "expected a JSON array of records before each picture": [picture, records],
        "got b'[]'": [("a.json", b"[]"), picture],
        "got b'[1]'": [("a.json", b"[1]"), picture],
        "got b'[{": [("a.json", deep), picture],
        "field category": [(records[0], records[1].replace(b'"spatial"', b'"spatiel"')), picture],
    }
    for message, members in cases.items():
        write_tar(path, members)
        renew_index(release)
        with pytest.raises(mmrel.ReleaseError) as caught:
            list(mmrel.load("real", split="test", root=release, streaming=True))
        assert message in str(caught.value)
        assert path.name in str(caught.value)
        assert len(str(caught.value)) < 1000
        assert path.name in told(release)


def test_a_header_that_promises_five_gigabytes(release: Path) -> None:
    path = sorted((release / "data" / "real").glob("test-*.tar"))[0]
    header = tarfile.TarInfo("a.json")
    header.size = 5 << 30
    path.write_bytes(header.tobuf() + b"\0" * 488)
    renew_index(release)
    with pytest.raises(mmrel.ReleaseError, match="expected a plain file of at most 4194304 bytes, got 5368709120"):
        list(mmrel.load("real", split="test", root=release, streaming=True))


class TestTables:
    def test_a_changed_cell(self, release: Path) -> None:
        def edit(table: pa.Table) -> pa.Table:
            answers = ["no" if a == "yes" else a for a in table["answer"].to_pylist()]
            return table.set_column(table.schema.get_field_index("answer"), table.schema.field("answer"), [answers])

        assert "row group 0: column answer differs from data/real/test.jsonl:1" in edit_table(release, edit)

    def test_another_picture(self, release: Path) -> None:
        def edit(table: pa.Table) -> pa.Table:
            images = [{**image, "bytes": b"x"} for image in table["image"].to_pylist()]
            return table.set_column(
                0, table.schema.field("image"), [pa.array(images, table.schema.field("image").type)]
            )

        assert "row group 0: column image differs from data/real/test.jsonl:1" in edit_table(release, edit)

    @pytest.mark.parametrize(
        "schema",
        [
            pa.struct([pa.field("path", pa.string()), pa.field("bytes", pa.binary())]),
            pa.struct([pa.field("bytes", pa.large_binary()), pa.field("path", pa.string())]),
        ],
        ids=["path first", "large binary"],
    )
    def test_another_image_type(self, release: Path, schema: pa.DataType) -> None:
        def edit(table: pa.Table) -> pa.Table:
            image = pa.array(table["image"].to_pylist(), schema)
            return table.set_column(0, "image", [image]).replace_schema_metadata(table.schema.metadata)

        assert "expected the columns and metadata of a release" in edit_table(release, edit)

    def test_no_metadata(self, release: Path) -> None:
        edited = edit_table(release, lambda table: table.replace_schema_metadata(None))
        assert "expected the columns and metadata of a release" in edited

    def test_a_feature_that_old_readers_do_not_know(self, release: Path) -> None:
        metadata = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "answer": {"_type": "List"}}}})
        edited = edit_table(release, lambda table: table.replace_schema_metadata({"huggingface": metadata}))
        assert "expected the columns and metadata of a release" in edited

    def test_no_page_index(self, release: Path) -> None:
        assert "expected a page index" in edit_table(release, lambda table: table, write_page_index=False)

    def test_pictures_once_per_row(self, release: Path) -> None:
        assert "expected a dictionary of the pictures" in edit_table(release, lambda t: t, use_dictionary=False)

    def test_row_groups_cut_within_a_picture(self, release: Path) -> None:
        edited = edit_table(release, lambda table: table, row_group_size=4)
        assert "expected row groups cut between pictures" in edited

    def test_large_row_groups(self, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mmrel_kit.check.tables.GROUP_ROWS", 2)
        monkeypatch.setattr("mmrel_kit.check.tables.GROUP_DECODED_BYTES", 100)
        monkeypatch.setattr("mmrel_kit.check.tables.FILE_DECODED_BYTES", 100)
        assert "expected at most 2 rows" in told(release)
        assert "bytes of pictures once decoded" in told(release)
        assert "warning: data/dalle/adversarial-00000-of-00002.parquet" in told(release)

    def test_not_parquet(self, release: Path) -> None:
        path = sorted((release / "data" / "real").glob("test-*.parquet"))[0]
        path.write_bytes(b"PAR1" + b"\0" * 100)
        renew_index(release)
        assert "expected a readable Parquet file" in told(release)


class TestCard:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("data/real/test-*.parquet", "data/real/tset-*.parquet"),
            ("config_name: sdxl", "config_name: sd/xl"),
            ("default: true", "default: false"),
            ("num_examples: 48", "num_examples: 47"),
            ("dtype: image", "dtype: string"),
            ("data/*/test-*.parquet", "data/*/test-*.tar"),
        ],
    )
    def test_yaml_that_says_something_else(self, release: Path, old: str, new: str) -> None:
        path = release / "README.md"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        renew_index(release)
        assert "README.md: " in told(release)

    @pytest.mark.parametrize("line", ["viewer: false\ntags:", "tags:\n- nsfw"])
    def test_a_viewer_turned_off(self, release: Path, line: str) -> None:
        path = release / "README.md"
        path.write_text(path.read_text().replace("tags:", line, 1))
        renew_index(release)
        assert "README.md: " in told(release)

    def test_no_yaml(self, release: Path) -> None:
        for text in ("# MMRel", "---\n: {\n---\n", "---\n- 1\n---\n"):
            (release / "README.md").write_text(text)
            renew_index(release)
            assert "README.md" in told(release)

    def test_dataset_infos(self, release: Path) -> None:
        path = release / "dataset_infos.json"
        path.write_text(path.read_text().replace('"num_examples": 48', '"num_examples": 47'))
        renew_index(release)
        assert "dataset_infos.json: expected what the files hold" in told(release)

    @pytest.mark.parametrize("name", ["mmrel.py", "MMRel.py", "other.py"])
    def test_a_script_at_the_top(self, release: Path, name: str) -> None:
        (release / name).write_text("")
        renew_index(release)
        assert f"{name}: a script at the top stops load_dataset" in told(release)


class TestWarnings:
    @staticmethod
    def build(folder: Path, picture: Image.Image, questions: int = 1, **save: Any) -> Path:
        path = folder / "vg" / "VG_100K" / "1.jpg"
        path.parent.mkdir(parents=True)
        picture.save(path, **save)
        lines = []
        for number in range(questions):
            text = f"Is there a cat above to a car{number:02d} in the image?"
            lines.append({"question_id": f"q{number}", "image": "vg/VG_100K/1.jpg", "text": text, "label": "yes"})
        (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
        build_release(Job([folder / "a.jsonl"], PictureFolder(folder), folder / "out"))
        return folder / "out"

    def test_turned_by_exif(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        root = self.build(tmp_path, Image.new("RGB", (30, 20)), exif=exif)
        assert "warning: data/real/test-00000.tar:vg/VG_100K/1.jpg: turned by EXIF orientation" in told(root)
        assert upload.main(["check", str(root)]) == 0

    def test_lengths_that_differ_by_one(self, tmp_path: Path) -> None:
        root = self.build(tmp_path, Image.new("RGB", (30, 20)), questions=40)
        expected = "split test: column question_id: values of 2 and 3 characters; the Hub's viewer shows no statistics"
        assert f"warning: config all, {expected}" in told(root)
        assert f"warning: config real, {expected}" in told(root)
        assert "column answer" not in told(root)

    def test_widths_that_differ_by_one(self, tmp_path: Path) -> None:
        # Widths were compared over all splits of a release, where others hid a difference of 1 in one split.
        folder = tmp_path / "vg" / "VG_100K"
        folder.mkdir(parents=True)
        lines = []
        for number, (width, split) in enumerate([(30, "test"), (31, "test"), (50, "train"), (55, "train")]):
            Image.new("RGB", (width, 20)).save(folder / f"{number}.png")
            text, image = "Is there a cat above to a car in the image?", f"vg/VG_100K/{number}.png"
            record = {"question_id": f"q{number}", "image": image, "text": text, "label": "yes", "split": split}
            lines.append(json.dumps(record))
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        build_release(Job([tmp_path / "a.jsonl"], PictureFolder(tmp_path), tmp_path / "out"))
        warned = [problem for problem in check_release(tmp_path / "out") if problem.is_warning]
        assert [problem.where for problem in warned] == ["config all, split test", "config real, split test"]
        assert all("column image: values of 30 and 31 pixels" in problem.message for problem in warned)

    def test_long_rows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mmrel_kit.check.viewer.MAX_ROW", 100)
        root = self.build(tmp_path, Image.new("RGB", (30, 20)))
        assert "warning: data: a row has" in told(root)

    def test_pictures_that_do_not_open(self, release: Path) -> None:
        path = sorted((release / "data" / "real").glob("test-*.tar"))[0]
        with tarfile.open(path) as archive:
            members = [(m.name, archive.extractfile(m).read()) for m in archive]  # type: ignore[union-attr]
        write_tar(path, [(name, data[:-100] if name.endswith(".jpg") else data) for name, data in members])
        renew_index(release)
        assert "differs from" in told(release)

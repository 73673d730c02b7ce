"""Where pictures and questions come from: every layout and kind of source gives the same release."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import upload
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.check.release import check_release
from mmrel_kit.files import InputError
from mmrel_kit.pictures import catalogue
from mmrel_kit.pictures.containers import list_pictures, read_picture
from mmrel_kit.pictures.sources import PictureFolder, PictureSources, make_layouts, open_source
from tests.helpers.folders import snapshot
from tests.helpers.questions import read

DOMAINS = {"vg": "real", "SPEC": "sdxl", "Dall-E_generated": "dalle"}


def pictures(sources: Path) -> dict[str, bytes]:
    found = snapshot(sources)
    return {name: data for name, data in found.items() if name.split("/")[0] in DOMAINS}


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def whole(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A release from pictures in one folder."""
    out = tmp_path_factory.mktemp("whole") / "out"
    build_release(Job([sources / "json"], PictureFolder(sources), out))
    return snapshot(out)


def built_from(sources: Path, folder: Path, *specs: object) -> dict[str, bytes]:
    build_release(Job([sources / "json"], PictureSources(list(map(str, specs))), folder / "out"))
    return snapshot(folder / "out")


def test_zip_files_as_they_are_published(sources: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    # Visual Genome in two files with the folder's name inside, SPEC below data/, both read in place.
    found = pictures(sources)
    first = write_zip(tmp_path / "images.zip", {n[3:]: d for n, d in found.items() if n.startswith("vg/VG_100K/")}, 0)
    second = write_zip(tmp_path / "images2.zip", {n[3:]: d for n, d in found.items() if n.startswith("vg/VG_100K_2/")})
    third = write_zip(tmp_path / "data.zip", {f"data/{n[5:]}": d for n, d in found.items() if n.startswith("SPEC/")})
    specs = (f"real={first}", f"real={second}", f"sdxl={third}", f"dalle={sources / 'Dall-E_generated'}")
    assert built_from(sources, tmp_path, *specs) == whole


def test_the_other_visual_genome_folder(sources: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    # Which of the two folders holds a picture is not in its id, and not always as the record says.
    swapped = {"VG_100K": "VG_100K_2", "VG_100K_2": "VG_100K"}
    moved = {}
    for name, data in pictures(sources).items():
        root, folder, rest = name.split("/", 2)
        moved[f"{root}/{swapped.get(folder, folder)}/{rest}"] = data
    assert built_from(sources, tmp_path, write_zip(tmp_path / "all.zip", moved)) == whole


@pytest.mark.parametrize("prefix", ["", "SPEC/", "data/", "data/SPEC/", "SPEC/data/"])
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_layouts_of_spec(tmp_path: Path, prefix: str, kind: str) -> None:
    members = {f"{prefix}relative_size/00000001/{k}.jpg": bytes([k]) for k in (0, 2)}
    where = tmp_path / f"spec.{kind}"
    if kind == "folder":
        for name, data in members.items():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).write_bytes(data)
    else:
        (write_zip if kind == "zip" else write_tar)(where, members)
    source = open_source(str(where))
    source.prepare(tmp_path)
    place = source.find("SPEC/relative_size/00000001/2.jpg")
    assert place is not None
    assert source.read(place) == b"\x02"
    assert source.is_current(place)
    assert source.find("SPEC/relative_spatial/00000001/2.jpg") is None


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tar_files(sources: Path, whole: dict[str, bytes], tmp_path: Path, form: int) -> None:
    members = {f"./{name}": data for name, data in pictures(sources).items()}
    assert built_from(sources, tmp_path, write_tar(tmp_path / "all.tar", members, form)) == whole


def test_sources_of_a_domain_come_first_and_in_order(tmp_path: Path) -> None:
    for name, folder in (("a", "all"), ("b", "first"), ("c", "second")):
        path = tmp_path / folder / "VG_100K" / "1.jpg"
        path.parent.mkdir(parents=True)
        path.write_text(name)
    (tmp_path / "all" / "VG_100K" / "2.jpg").write_text("d")
    sources = PictureSources([str(tmp_path / "all"), f"real={tmp_path}/first", f"real={tmp_path}/second"])
    sources.prepare(tmp_path)
    found = [sources.find(f"vg/VG_100K/{number}.jpg") for number in (1, 2)]
    assert [sources.read(place) for place in found if place] == [b"b", b"d"]


@given(
    st.dictionaries(st.from_regex(r"[a-zé0-9]{1,8}/[a-z0-9]{1,8}\.(jpg|png)", fullmatch=True), st.binary(max_size=2000))
)
def test_what_is_packed_is_read(members: dict[str, bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for path in (
            write_zip(Path(folder) / "a.zip", members),
            write_zip(Path(folder) / "b.zip", members, zipfile.ZIP_STORED),
            write_tar(Path(folder) / "a.tar", members),
        ):
            assert {entry.name: read_picture(path, entry) for entry in list_pictures(path)} == members


def test_a_large_zip_is_read(tmp_path: Path) -> None:
    # More members than fit into the old count, and the 64-bit fields that large files need.
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(66_000):
            archive.writestr(f"VG_100K/{number}.jpg", b"%d" % number)
        with archive.open("VG_100K/large.jpg", "w", force_zip64=True) as file:
            file.write(b"large")
    source = open_source(str(path))
    source.prepare(tmp_path)
    for name, data in (("65999", b"65999"), ("large", b"large")):
        place = source.find(f"vg/VG_100K/{name}.jpg")
        assert place is not None
        assert pickle.loads(pickle.dumps(source)).read(place) == data


def test_layouts_keep_what_the_record_says_first() -> None:
    assert make_layouts("SPEC/relative_size/1/2.jpg")[0] == "SPEC/relative_size/1/2.jpg"
    assert make_layouts("Dall-E_generated/action/1.png") == ["Dall-E_generated/action/1.png", "action/1.png"]


class TestHub:
    """A repository on the Hub, played by a folder."""

    @pytest.fixture
    def fetched(self, sources: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        import huggingface_hub
        from huggingface_hub.hf_api import RepoFile

        fetched: list[str] = []

        def list_repo_tree(self: Any, repo_id: str, **options: Any) -> list[RepoFile]:
            assert options["revision"] == "c0ffee"
            return [RepoFile(path=f"pictures/{n}", size=len(d), oid="0") for n, d in pictures(sources).items()]

        def download(repo_id: str, name: str, repo_type: str, revision: str) -> str:
            assert (repo_id, repo_type, revision) == ("jiahaonie/MMRel", "dataset", "c0ffee")
            fetched.append(name)
            return str(sources / name.removeprefix("pictures/"))

        def dataset_info(self: Any, repo_id: str, revision: str | None) -> SimpleNamespace:
            assert revision in (None, "v1")
            return SimpleNamespace(sha="c0ffee")

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", list_repo_tree)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return fetched

    def test_only_what_is_asked_for_is_fetched(
        self, sources: Path, whole: dict[str, bytes], tmp_path: Path, fetched: list[str]
    ) -> None:
        specs = (f"real={sources}", f"sdxl={sources}", "dalle=hf://datasets/jiahaonie/MMRel@v1")
        assert built_from(sources, tmp_path, *specs) == whole
        assert sorted(fetched) == sorted(f"pictures/{n}" for n in pictures(sources) if n.startswith("Dall-E"))

    def test_a_repository_that_cannot_be_reached(self) -> None:
        with pytest.raises(InputError, match="hf://datasets/nobody/nothing: expected a dataset repository that can be"):
            open_source("hf://datasets/nobody/nothing")

    @pytest.mark.parametrize("step", ["list_repo_tree", "hf_hub_download"])
    def test_no_signed_address_in_an_error(
        self, sources: Path, tmp_path: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], step: str,
    ) -> None:  # fmt: skip
        # The client's own words hold the address that a file is fetched from, whose query lets anybody fetch it. A
        # connection that broke was a traceback, as it is no OSError.
        import huggingface_hub

        from mmrel_kit.hub.calls import httpx

        secret = "https://files.example/picture.png?X-Amz-Signature=5ec4e7&X-Amz-Expires=3600"
        request = httpx.Request("GET", secret)
        failures = [
            huggingface_hub.errors.HfHubHTTPError(
                f"403 Client Error for url: {secret}", response=httpx.Response(403, request=request)
            ),
            httpx.ConnectError(f"no route to {secret}", request=request),
            OSError(f"cannot fetch {secret}"),
        ]
        for failure in failures:

            def fail(*arguments: Any, failure: Exception = failure, **options: Any) -> str:
                raise failure

            owner = huggingface_hub.HfApi if step == "list_repo_tree" else huggingface_hub
            monkeypatch.setattr(owner, step, fail)
            specs = [f"real={sources}", f"sdxl={sources}", "dalle=hf://datasets/jiahaonie/MMRel@v1"]
            arguments = ["--annotations", str(sources / "json"), "--images", *specs, "--out", str(tmp_path / "out")]
            assert upload.main(["build", *arguments]) == 1
            source = "hf://datasets/jiahaonie/MMRel@c0ffee"
            told = [line for line in capsys.readouterr().err.splitlines() if source in line]
            assert told
            assert all("Signature" not in line and "X-Amz" not in line for line in told)
            assert all("could not be" in line for line in told)


class TestRerelease:
    """The DALL-E part as Parquet, the picture in each of its rows."""

    ROWS = (
        ("00001_abstract.png", 1, "Does a dog chase a cat in the image? Answer in a word.", "yes", "dis", "action"),
        ("00001_abstract.png", 2, "Does a dog bite a cat in the image?", "No", "dis", "action"),
        ("00001_abstract.png", 3, "What is the dog doing to the cat?", "chasing it", "generative", "action"),
        ("00001_abstract.png", 4, "Is there a cup on a table in the image?", "yes", "dis", "spatial"),
    )  # fmt: skip

    @staticmethod
    def png(colour: str) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
        return buffer.getvalue()

    def write(self, path: Path, rows: Any = ROWS, **changes: Any) -> Path:
        columns = [
            {
                "image": {"bytes": self.png("red" if kind == "action" else "blue"), "path": name},
                "question_id": number, "question": question, "answer": answer, "source": "dalle",
                "eval_type": evaluated, "relation_type": f"dall-e_{kind}", **changes,
            }
            for name, number, question, answer, evaluated, kind in rows
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(columns), path)
        return path

    def test_questions_and_pictures(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "train.parquet")
        arguments = ["--annotations", path, "--images", f"dalle={path}", "--out", tmp_path / "out", "--split", "test"]
        assert upload.main(["build", *map(str, arguments)]) == 0
        assert check_release(tmp_path / "out") == []
        records = [
            json.loads(line) for line in (tmp_path / "out/data/dalle/test.jsonl").read_text("utf-8").splitlines()
        ]
        told = {r["question_id"]: (r["image_id"], r["task"], r["style"], r["relation"], r["answer"]) for r in records}
        assert told == {
            "1": ("Dall-E_generated/action/00001_abstract.png", "discriminative", "abstract", "chase", "yes"),
            "2": ("Dall-E_generated/action/00001_abstract.png", "discriminative", "abstract", "bite", "no"),
            "3": ("Dall-E_generated/action/00001_abstract.png", "generative", "abstract", None, "chasing it"),
            "4": ("Dall-E_generated/spatial/00001_abstract.png", "discriminative", "abstract", "on", "yes"),
        }

    def test_pictures_without_a_name(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.parquet", image={"bytes": self.png("red"), "path": None})
        names = {question.record.image_id for question in read(path)}
        assert {name.rpartition("/")[0] for name in names} == {"Dall-E_generated/action", "Dall-E_generated/spatial"}
        assert len({name.rpartition("/")[2] for name in names}) == 1

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"image": {"bytes": None, "path": "a.png"}}, r"a.parquet:1: expected a picture of 1 to"),
            ({"relation_type": "colour"}, r"a.parquet:1: expected a relation_type with spatial, action, comparative"),
            ({"image": {"bytes": b"x", "path": "a/../../../e.png"}, "question": ""}, r"a.parquet:1: "),
        ],
    )
    def test_bad_rows(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            read(self.write(tmp_path / "a.parquet", **changes))

    def test_two_pictures_of_one_name(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.parquet", [row[:5] + ("action",) for row in self.ROWS])
        table = pq.read_table(path).to_pylist()
        table[1]["image"]["bytes"] = self.png("green")
        pq.write_table(pa.Table.from_pylist(table), path)
        with pytest.raises(InputError, match=r"a.parquet:2: picture '.*00001_abstract.png' differs from the one"):
            build_release(Job([path], PictureSources([str(path)]), tmp_path / "out"))

    def test_another_parquet(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
        with pytest.raises(InputError, match="a.parquet: expected the columns image, question_id, question, answer"):
            read(tmp_path / "a.parquet")
        (tmp_path / "a.parquet").write_text("nothing")
        with pytest.raises(InputError, match="a.parquet: expected a readable Parquet file"):
            read(tmp_path / "a.parquet")


class TestMapping:
    """A file that tells the splits of files whose names do not."""

    def write(self, folder: Path, mapping: Any, text: str = "Is there a cat above to a car in the image?") -> Path:
        (folder / "json").mkdir()
        record = {"question_id": "a", "image": "vg/VG_100K/1.jpg", "text": text, "label": "yes"}
        (folder / "json" / "part2.jsonl").write_text(json.dumps(record))
        (folder / "map.json").write_text(mapping if isinstance(mapping, str) else json.dumps(mapping))
        return folder / "map.json"

    @pytest.mark.parametrize("pattern", ["part2.jsonl", "part*", "json/part2.*"])
    def test_by_name(self, tmp_path: Path, pattern: str) -> None:
        mapping = self.write(tmp_path, {pattern: "train"})
        assert read(tmp_path / "json", mapping=mapping)[0].split == "train"
        assert read(tmp_path / "json", mapping=mapping, split="adversarial")[0].split == "adversarial"
        assert read(tmp_path / "json")[0].split == "test"

    def test_open_questions_that_no_grammar_reads(self, tmp_path: Path) -> None:
        told = {"split": "test", "task": "generative", "category": "spatial"}
        mapping = self.write(tmp_path, {"part2*": told}, "Where is the cat? Answer in a phrase.")
        with pytest.raises(InputError, match=r"part2.jsonl:1: expected 'Is there a S"):
            read(tmp_path / "json")
        record = read(tmp_path / "json", mapping=mapping)[0].record
        assert (record.task, record.category, record.subject, record.relation) == ("generative", "spatial", None, None)
        assert (record.question, record.instruction) == ("Where is the cat?", "Answer in a phrase.")

    @pytest.mark.parametrize(
        ("mapping", "message"),
        [
            ("[]", "map.json: expected a JSON object"),
            ("nothing", "map.json: expected a JSON object"),
            ({"part2*": "val"}, "map.json: 'part2\\*': expected one of train, test, adversarial, got 'val'"),
            ({"part2*": {"splits": "test"}}, "map.json: expected a JSON object"),
            ({"part3*": "test"}, "map.json: 'part3\\*' fits none of the annotation files"),
            ({"part2*": {"task": "generative"}}, "part2.jsonl:1: expected questions that are generative"),
        ],
    )
    def test_bad_mappings(self, tmp_path: Path, mapping: Any, message: str) -> None:
        path = self.write(tmp_path, mapping)
        with pytest.raises(InputError, match=message):
            read(tmp_path / "json", mapping=path)


class TestMissing:
    """Pictures that no source has."""

    def test_they_are_listed(self, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["--annotations", sources / "json", "--images", f"real={sources}", "--out", tmp_path / "out"]
        assert upload.main(["build", *map(str, arguments)]) == 1
        told = capsys.readouterr().err
        assert "picture 'Dall-E_generated/action/16.png' is missing" not in told  # ids have five digits
        assert "adversarial.jsonl:" in told
        assert f"dalle: 8 pictures of 24 questions in {sources / 'json' / 'test.jsonl'}" in told
        assert f"sdxl: 8 pictures of 24 questions in {sources / 'json' / 'adversarial.jsonl'}" in told
        assert "32 pictures are missing" in told
        assert not list(tmp_path.glob("out*"))

    def test_a_release_without_them_says_so(
        self, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["--annotations", sources / "json", "--images", f"real={sources}", f"dalle={sources}"]
        out = tmp_path / "out"
        assert upload.main(["build", *map(str, arguments), "--out", str(out), "--note", "N.", "--allow-missing"]) == 0
        sentence = "Part of the benchmark only: 48 sdxl questions are left out because their 16 pictures were missing"
        assert sentence in capsys.readouterr().out
        assert check_release(out) == []
        for name in ("README.md", "checksums.json"):
            assert f"N. {sentence}" in (out / name).read_text("utf-8")
        missing = [json.loads(line) for line in (out / "missing.jsonl").read_text("utf-8").splitlines()]
        assert len(missing) == 16
        assert sum(entry["questions"] for entry in missing) == 48
        assert missing[0]["source"].startswith("json/adversarial.jsonl:")
        # A number on part of the benchmark says so wherever the release is loaded.
        import mmrel

        assert sentence in str(mmrel.Release(str(out)).note)

    def test_none_at_all(self, sources: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="expected pictures in .*, found none of those asked about"):
            build_release(
                Job([sources / "json"], PictureSources([str(tmp_path / "empty")]), tmp_path / "out", allow_missing=True)
            )


def test_what_mmrel_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert upload.main(["sources", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    for published in catalogue.SOURCE_FILES:
        assert published.url in told
        assert f"{published.name} ({published.domain}): missing" in told
    assert "9,731,705,982 bytes" in told
    small = [
        p._replace(size=3, sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
        for p in catalogue.SOURCE_FILES
    ]
    monkeypatch.setattr(catalogue, "SOURCE_FILES", small[:3])
    for name, data in (("images.zip", b"foo"), ("images2.zip", b"bar"), ("data.zip", b"fo")):
        (tmp_path / name).write_bytes(data)
    assert [state.state[:30] for state in catalogue.check_sources(tmp_path)] == [
        "whole",
        "expected sha256 2c26b46b68ffc6",
        "expected 3 bytes, got 2; fetch",
    ]
    assert upload.main(["sources", str(tmp_path)]) == 1


@pytest.mark.parametrize("bad", ["nothing there", "README.md", "real=nothing"])
def test_no_source(bad: str) -> None:
    with pytest.raises(InputError, match=r"expected a folder, a .zip, .tar or .parquet file, or hf://"):
        PictureSources([bad])

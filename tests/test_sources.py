"""Where pictures come from: every layout and kind of source gives the same release."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import upload
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.files import InputError
from mmrel_kit.pictures.containers import list_pictures, read_picture
from mmrel_kit.pictures.index import list_candidate_paths
from mmrel_kit.sources.local import PictureFolder
from mmrel_kit.sources.opening import PictureSources, open_source
from tests.helpers.folders import snapshot

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


def test_zip_files_as_they_are_published(
    sources: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    # Visual Genome in two files with the folder's name inside, SPEC below data/.
    found = pictures(sources)
    first = write_zip(
        tmp_path / "images.zip",
        {n[3:]: d for n, d in found.items() if n.startswith("vg/VG_100K/")},
        0,
    )
    second = write_zip(
        tmp_path / "images2.zip",
        {n[3:]: d for n, d in found.items() if n.startswith("vg/VG_100K_2/")},
    )
    third = write_zip(
        tmp_path / "data.zip",
        {f"data/{n[5:]}": d for n, d in found.items() if n.startswith("SPEC/")},
    )
    specs = (
        f"real={first}",
        f"real={second}",
        f"sdxl={third}",
        f"dalle={sources / 'Dall-E_generated'}",
    )
    assert built_from(sources, tmp_path, *specs) == whole


def test_the_other_visual_genome_folder(
    sources: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
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
    location = source.find("SPEC/relative_size/00000001/2.jpg")
    assert location is not None
    assert source.read(location) == b"\x02"
    assert source.is_current(location)
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
    sources = PictureSources(
        [str(tmp_path / "all"), f"real={tmp_path}/first", f"real={tmp_path}/second"]
    )
    sources.prepare(tmp_path)
    found = [sources.find(f"vg/VG_100K/{number}.jpg") for number in (1, 2)]
    assert [sources.read(location) for location in found if location] == [b"b", b"d"]


@given(
    st.dictionaries(
        st.from_regex(r"[a-zé0-9]{1,8}/[a-z0-9]{1,8}\.(jpg|png)", fullmatch=True),
        st.binary(max_size=2000),
    )
)
def test_what_is_packed_is_read(members: dict[str, bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for path in (
            write_zip(Path(folder) / "a.zip", members),
            write_zip(Path(folder) / "b.zip", members, zipfile.ZIP_STORED),
            write_tar(Path(folder) / "a.tar", members),
        ):
            assert {
                entry.name: read_picture(path, entry) for entry in list_pictures(path)
            } == members


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
        location = source.find(f"vg/VG_100K/{name}.jpg")
        assert location is not None
        assert pickle.loads(pickle.dumps(source)).read(location) == data


def test_layouts_keep_what_the_record_says_first() -> None:
    assert list_candidate_paths("SPEC/relative_size/1/2.jpg")[0] == "SPEC/relative_size/1/2.jpg"
    assert list_candidate_paths("Dall-E_generated/action/1.png") == [
        "Dall-E_generated/action/1.png",
        "action/1.png",
    ]


class TestHub:
    """A repository on the Hub, played by a folder."""

    @pytest.fixture
    def fetched(self, sources: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        import huggingface_hub
        from huggingface_hub.hf_api import RepoFile

        fetched: list[str] = []

        def list_repo_tree(self: Any, repo_id: str, **options: Any) -> list[RepoFile]:
            assert options["revision"] == "c0ffee"
            return [
                RepoFile(path=f"pictures/{n}", size=len(d), oid="0")
                for n, d in pictures(sources).items()
            ]

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
        assert sorted(fetched) == sorted(
            f"pictures/{n}" for n in pictures(sources) if n.startswith("Dall-E")
        )

    def test_a_repository_that_cannot_be_reached(self) -> None:
        with pytest.raises(
            InputError,
            match="hf://datasets/nobody/nothing: expected a dataset repository that can be",
        ):
            open_source("hf://datasets/nobody/nothing")

    @pytest.mark.parametrize("step", ["list_repo_tree", "hf_hub_download"])
    def test_no_signed_address_in_an_error(
        self, sources: Path, tmp_path: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], step: str,
    ) -> None:  # fmt: skip
        # The client's message contains the address of the file, whose query lets anybody fetch it.
        # A broken connection, which is not an OSError, used to be a traceback.
        import huggingface_hub

        from mmrel_kit.failures import httpx

        secret = "https://files.example/picture.png?X-Amz-Signature=5ec4e7&X-Amz-Expires=3600"
        request = httpx.Request("GET", secret)
        failures = [
            huggingface_hub.errors.HfHubHTTPError(
                f"403 Client Error for url: {secret}", response=httpx.Response(403, request=request)
            ),
            httpx.ConnectError(f"no route to {secret}", request=request),
            httpx.TooManyRedirects(f"more than 20 from {secret}", request=request),
            OSError(f"cannot fetch {secret}"),
        ]
        for failure in failures:

            def fail(*arguments: Any, failure: Exception = failure, **options: Any) -> str:
                raise failure

            owner = huggingface_hub.HfApi if step == "list_repo_tree" else huggingface_hub
            monkeypatch.setattr(owner, step, fail)
            specs = [f"real={sources}", f"sdxl={sources}", "dalle=hf://datasets/jiahaonie/MMRel@v1"]
            arguments = [
                "--annotations",
                str(sources / "json"),
                "--images",
                *specs,
                "--out",
                str(tmp_path / "out"),
            ]
            assert upload.main(["build", *arguments]) == 1
            source = "hf://datasets/jiahaonie/MMRel@c0ffee"
            lines = [line for line in capsys.readouterr().err.splitlines() if source in line]
            assert lines
            assert all("Signature" not in line and "X-Amz" not in line for line in lines)
            assert all("could not be" in line for line in lines)


@pytest.mark.parametrize("bad", ["nothing there", "README.md", "real=nothing"])
def test_no_source(bad: str) -> None:
    with pytest.raises(
        InputError, match=r"expected a folder, a .zip, .tar or .parquet file, or hf://"
    ):
        PictureSources([bad])

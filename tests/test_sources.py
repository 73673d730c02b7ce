"""Where pictures come from: every layout and kind of source gives the same release."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_repository_that_cannot_be_reached() -> None:
    with pytest.raises(
        InputError,
        match="hf://datasets/nobody/nothing: expected a dataset repository that can be",
    ):
        open_source("hf://datasets/nobody/nothing")


@pytest.mark.parametrize("bad", ["nothing there", "README.md", "real=nothing"])
def test_no_source(bad: str) -> None:
    with pytest.raises(
        InputError, match=r"expected a folder, a .zip, .tar or .parquet file, or hf://"
    ):
        PictureSources([bad])

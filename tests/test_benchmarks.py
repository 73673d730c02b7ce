"""The benchmarks: each program imports, and publishes what the package accepts."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks import fetching, push, standin
from benchmarks.measuring import run_python
from mmrel_kit.hub.plan import read_index
from tests.conftest import REPOSITORY


def test_every_program_imports() -> None:
    names = [path.stem for path in (REPOSITORY / "benchmarks").glob("[a-z]*.py")]
    if not find_spec("selenium"):
        names.remove("verify")
    # In a process of its own: readers.py sets environment variables.
    run_python("-c", "\n".join(f"import benchmarks.{name}" for name in names))


def test_the_release_that_is_pushed_has_a_valid_index(tmp_path: Path) -> None:
    # It had no note, which checksums.json must have, and the benchmark ended in a traceback.
    root = push.write_release(tmp_path / "release", files=2, size=100)
    assert len(read_index(root, None)["files"]) == 3


def test_a_padded_standin_is_right_and_sparse(tmp_path: Path) -> None:
    size = 1 << 20
    pictures = {
        "vg/VG_100K/1.jpg": b"1" * size,
        "vg/VG_100K_2/3.jpg": b"3" * size,
        "SPEC/relative_size/00000000/0.jpg": b"0" * size,
        "Dall-E_generated/action/00000.png": b"d",
        "vg/VG_100K/2.jpg": b"2" * size,
    }
    standin._write_pictures(tmp_path, iter(pictures.items()), padded=10)
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(set(archive.namelist())) == 22
        assert archive.read("VG_100K/2.jpg") == b"2" * size
        assert archive.read("VG_100K/100000009.jpg") == bytes(size)
    state = (tmp_path / "images.zip").stat()
    assert state.st_size > 22 * size
    assert state.st_blocks * 512 < 3 * size
    with zipfile.ZipFile(tmp_path / "data.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("data/relative_size/00000000/0.jpg") == b"0" * size
    assert (tmp_path / "Dall-E_generated" / "action" / "00000.png").read_bytes() == b"d"


def test_limits_of_fetching() -> None:
    pictures = [fetching.HostedPicture(f"vg/{n}.jpg", "/a.zip", "bytes=0-9", 10, 0) for n in "abcd"]
    case = fetching.HostCase("zips", Path(), [], pictures, max_requests=1.1, min_bare=0.6)

    def list_missed(**changes: float) -> list[str]:
        run = fetching.FetchRun(4, 2.0, 1.0, 100.0, 16, 4, 40)
        other = run._replace(seconds=1.5)
        runs = {
            fetching.FETCH: [run._replace(**changes)],
            fetching.TENTH: [run._replace(pictures=1, seconds=1.0)],
            fetching.BARE: [other],
            fetching.REMOTEZIP: [run._replace(seconds=12.0)],
        }
        limits = fetching.check_limits(case, runs, are_small=False)
        return [limit.title for limit in limits if not limit.is_kept]

    assert list_missed() == []
    assert list_missed(requests=5) == ["zips, requests per picture"]
    assert list_missed(sent=47) == ["zips, bytes sent / bytes needed"]
    assert list_missed(peak=120.0) == ["zips, peak memory / that for a tenth"]
    slow = ["zips, rate / rate of bare loop", "zips, rate / rate of remotezip"]
    assert list_missed(seconds=2.6) == slow

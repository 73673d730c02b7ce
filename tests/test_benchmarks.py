"""The benchmarks: one runner, one file of results, one page; what they draw and compare."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import fetching, growth, labelling, push, standin
from benchmarks.__main__ import NAMES, main
from benchmarks.measuring import Setup, measure_in_turns, run_python
from benchmarks.page import make_page
from benchmarks.results import FOLDER, Measurement, compare, read_results, read_rows
from mmrel_kit.hub.plan import read_index
from tests.conftest import REPOSITORY

RESULTS = FOLDER / "results.json"


def test_every_module_imports() -> None:
    names = [path.stem for path in (REPOSITORY / "benchmarks").glob("[a-z]*.py")]
    # In a process of its own: readers.py sets environment variables.
    run_python("-c", "\n".join(f"import benchmarks.{name}" for name in names))


def test_every_benchmark_has_the_same_interface(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    for name in NAMES:
        module = import_module(f"benchmarks.{name}")
        assert module.measure.__annotations__["setup"] == "Setup", name
        assert module.__doc__, name


def test_a_misspelt_name_lists_the_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["lodaing"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "lodaing is no benchmark" in error
    assert all(name in error for name in NAMES)


def test_the_page_is_that_of_the_results() -> None:
    results = read_results(RESULTS)
    assert results.keys() <= set(NAMES)
    assert (FOLDER / "README.md").read_text("utf-8") == make_page(results)


def test_a_benchmark_replaces_only_its_own_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.json").write_bytes(RESULTS.read_bytes())

    def measure(setup: Setup) -> Iterator[Measurement | str]:
        yield Measurement("a case", "time", [0.123456789, 2.0], "s", goal="at most 1")
        yield "A note."

    monkeypatch.setattr(labelling, "measure", measure)
    monkeypatch.setattr("benchmarks.__main__.draw_plots", lambda *_: None)
    arguments = ["labelling", "--quick", "--out", str(tmp_path), "--data", str(tmp_path / "data")]
    assert main(arguments) == 0
    before, after = read_results(RESULTS), read_results(tmp_path / "results.json")
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {"labelling"}
    (row,) = read_rows(after["labelling"])
    assert row == Measurement("a case", "time", [0.12346, 2], "s", goal="at most 1")
    assert after["labelling"]["measured"]["runs"] == 1
    assert "A note.\n" in (tmp_path / "README.md").read_text("utf-8")
    assert main([*arguments[:1], *arguments[2:]]) == 1, "a goal is missed"


def test_paired_runs_and_goals() -> None:
    order = []
    results = measure_in_turns(["a", "b"], 2, lambda name: order.append(name) or len(order))
    assert order == ["a", "b", "b", "a"]
    ratio = compare("a / b", "time", results["a"], results["b"], "b", "at most 0.9")
    assert ratio.values == [1 / 2, 4 / 3]
    assert not ratio.is_met
    assert ratio._replace(goal="at least 0.9").is_met


def test_growth_is_that_of_the_times() -> None:
    counts = (750, 3000, 12000)
    assert growth.fit_exponent(counts, [count**1.5 for count in counts]) == pytest.approx(1.5)
    assert growth.compute_growth(10, 100) == pytest.approx(20)


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
    case = fetching.HostCase("zips", Path(), [], pictures, 1.1, rate_goal="at least 0.6")

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
        return [one.case for one in limits if one.goal and not one.is_met]

    assert list_missed() == []
    assert list_missed(requests=5) == ["zips, mmrel fetch"]
    assert list_missed(sent=47) == ["zips, bytes sent / bytes needed"]
    assert list_missed(peak=120.0) == ["zips, mmrel fetch / a tenth of the pictures"]
    slow = ["zips, mmrel fetch / bare loop", "zips, mmrel fetch / remotezip"]
    assert list_missed(seconds=2.6) == slow

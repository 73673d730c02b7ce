# SPDX-License-Identifier: Apache-2.0
"""What `pip install` gives, in an empty folder with no clone near it and no extra."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from mmrel_kit import cli
from tests.conftest import REPOSITORY
from tests.helpers.clones import copy_clone
from tests.helpers.verbs import list_runnable

pytestmark = pytest.mark.wheel


class Installed(NamedTuple):
    """A virtual environment that holds the package, and the clone it was installed from."""

    folder: Path
    clone: Path

    def install(self, *requirements: str) -> None:
        program = [str(self.folder / "bin" / "python"), "-m", "pip", "install", "-q"]
        subprocess.run([*program, *requirements], check=True)

    def run(self, where: Path, *words: str, program: str = "mmrel") -> str:
        """Run a program of the environment, which must succeed, and return what it printed."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment = {**kept, "HF_HOME": str(where / "cache")}
        command = [str(self.folder / "bin" / program), *words]
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the package without extras, from a copy of the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    copy_clone(folder / "clone")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    made = Installed(folder / "venv", folder / "clone")
    made.install(str(made.clone))
    return made


@pytest.fixture
def record(installed: Installed) -> list[str]:
    """The files that the wheel has brought."""
    (path,) = installed.folder.glob("lib/*/site-packages/mmrel-*.dist-info/RECORD")
    with open(path, newline="") as rows:
        return [row[0] for row in csv.reader(rows) if "__pycache__" not in row[0]]


def test_site_packages_gets_two_modules_and_one_package(record: list[str]) -> None:
    # Five modules with generic names used to be installed.
    names = {name.split("/")[0] for name in record if not name.startswith("../")}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "mmrel.py",
        "mmrel_kit",
        "relation_accuracy.py",
    }
    assert [name for name in record if name.startswith("../")] == ["../../../bin/mmrel"]


def test_a_source_distribution_builds_the_same_wheel(
    installed: Installed, record: list[str], tmp_path: Path
) -> None:
    # It lacked the sample, and `build` makes the wheel from it. What an earlier version had left in
    # the clone's build/ went into the wheel.
    installed.install("build")
    left = installed.clone / "build" / "lib" / "endpoint.py"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("")
    words = ("-m", "build", str(installed.clone), "--outdir", str(tmp_path))
    installed.run(tmp_path, *words, program="python")
    words = ("-m", "build", "--wheel", str(installed.clone), "--outdir", str(tmp_path / "direct"))
    installed.run(tmp_path, *words, program="python")
    names = []
    for path in (*tmp_path.glob("*.whl"), *tmp_path.glob("direct/*.whl")):
        with zipfile.ZipFile(path) as wheel:
            names.append({name for name in wheel.namelist() if ".dist-info/" not in name})
    expected = {name for name in record if ".dist-info/" not in name and not name.startswith("..")}
    assert names == [expected, expected]


def test_every_file_of_the_package_and_the_sample_is_there(record: list[str]) -> None:
    # The code of most extras was missing.
    for path in sorted(REPOSITORY.glob("mmrel_kit/**/*")):
        name = path.relative_to(REPOSITORY).as_posix()
        if path.is_file() and "__pycache__" not in name:
            assert name in record
    index = json.loads((REPOSITORY / "checksums.json").read_text("utf-8"))
    sample = {*index["files"], "checksums.json", "README.md", "LICENSE", "schema/published.json"}
    prefix = "mmrel_kit/sample/"
    assert {name[len(prefix) :] for name in record if name.startswith(prefix)} == sample


def test_the_help_of_every_verb(installed: Installed, tmp_path: Path) -> None:
    for name, _ in list_runnable(cli.make_parser()):
        assert installed.run(tmp_path, *name.split(), "--help").startswith(f"usage: mmrel {name}")


def test_the_sample_is_shown_and_loaded(installed: Installed, tmp_path: Path) -> None:
    shown = installed.run(tmp_path, "show", "real")
    assert shown.startswith("A drawn sample in the layout of a release, not the benchmark")
    assert "test               14         42" in shown
    code = 'import mmrel; print(len(mmrel.load("real", split="test")))'
    assert installed.run(tmp_path, "-c", code, program="python").split() == ["42"]
    code = (
        "import mmrel\n"
        "try:\n    mmrel.load('real', root='relaese')\n"
        "except mmrel.ReleaseError as error:\n    print(error)\n"
    )
    assert "relaese" in installed.run(tmp_path, "-c", code, program="python")


def test_paths_that_other_tools_want(installed: Installed, tmp_path: Path) -> None:
    for name, file in (("lmms-eval", "mmrel.yaml"), ("evaluate", "mmrel_accuracy.py")):
        assert Path(installed.run(tmp_path, "path", name).strip(), file).is_file()
    file, task = installed.run(tmp_path, "path", "inspect").strip().split("@")
    assert Path(file).is_file()
    assert task == "mmrel_questions"


def test_answers_are_scored(installed: Installed, tmp_path: Path) -> None:
    answers = installed.run(tmp_path, "path", "answers").strip()
    first, second = (f"{answers}/made_up_{share}.jsonl" for share in (80, 60))
    assert "real/spatial" in installed.run(tmp_path, "score", first, "--task", "both")
    installed.run(tmp_path, "report", first, "--against", second, "--json", "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    low, high = report["intervals"]["all"]["accuracy"]
    assert low < report["accuracy"] < high


def test_the_sample_is_built_again(installed: Installed, tmp_path: Path) -> None:
    sample = Path(installed.run(tmp_path, "path", "sample").strip())
    archives = sorted(map(str, sample.glob("data/*/*.tar")))
    arguments = ["--annotations", str(sample / "data"), "--images", *archives]
    installed.run(tmp_path, "build", *arguments, "--out", "release")
    assert "0 problems" in installed.run(tmp_path, "check", "release")
    found = json.loads(installed.run(tmp_path, "audit", "release", "--json"))
    assert all(set(finding) == {"kind", "count", "examples", "action"} for finding in found)
    for path in sorted(sample.glob("data/*/*.*")):
        name = path.relative_to(sample)
        assert (tmp_path / "release" / name).read_bytes() == path.read_bytes(), name


def test_the_sample_is_checked_and_exported(installed: Installed, tmp_path: Path) -> None:
    sample = installed.run(tmp_path, "path", "sample").strip()
    assert "0 problems" in installed.run(tmp_path, "check", sample, "--sample")
    assert "written to export" in installed.run(
        tmp_path, "export", "--drop-leaks", "--format", "llava", "--out", "export"
    )


def test_the_demo_of_labelling_with_its_extra(installed: Installed, tmp_path: Path) -> None:
    installed.install(f"{installed.clone}[semidc]")
    shutil.rmtree(installed.clone)  # nothing may need it
    assert "accuracy" in installed.run(tmp_path, "label", "demo", "--out", "demo")

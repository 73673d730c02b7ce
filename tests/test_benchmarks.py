"""The benchmarks: each program imports, and publishes what the package accepts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from benchmarks import push
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

"""The shares of a build on datatrove's executors; Slurm is played by small scripts."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import upload
from mmrel_kit import cli
from mmrel_kit.build.job import Job, build_release
from mmrel_kit.recipes import cluster
from mmrel_kit.sources.local import PictureFolder

pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'mmrel[cluster]'")
# Runs a job's tasks one after the other, where Slurm would run an array in parallel.
SBATCH = """#!/bin/bash
script="${@: -1}"
cp "$script" "$FAKE_SLURM/script.$$"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "${last:-0}"); do
  export SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=localhost RUN_OFFSET=0
  bash "$script" >>"$FAKE_SLURM/log" 2>&1 || exit 1
done
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do [[ "$1" == -n ]] && shift; shift; done
exec "$@"
"""


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def arguments(sources: Path, out: Path) -> list[str]:
    return ["--annotations", str(sources / "json"), "--images", str(sources), "--out", str(out)]


@pytest.fixture(scope="module")
def whole(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    build_release(Job([sources / "json"], PictureFolder(sources), out))
    return snapshot(out)


def test_local(sources: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    command = ["local", "--tasks", "3", "--workers", "2", "--logs", str(tmp_path / "logs"), "--"]
    assert cli.main(["cluster", *command, *arguments(sources, tmp_path / "out")]) == 0
    assert upload.main(["finish", "--out", str(tmp_path / "out")]) == 0
    assert snapshot(tmp_path / "out") == whole


def test_slurm(
    sources: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("sbatch", SBATCH),
        ("srun", SRUN),
        ("scontrol", "#!/bin/bash\necho localhost\n"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    command = [
        "slurm",
        "--tasks",
        "2",
        "--partition",
        "cpu",
        "--time",
        "01:00:00",
        "--logs",
        str(tmp_path / "logs"),
        "--",
    ]
    assert cli.main(["cluster", *command, *arguments(sources, tmp_path / "out")]) == 0
    script = (tmp_path / "logs" / "launch_script.slurm").read_text()
    for line in (
        "--partition=cpu",
        "--time=01:00:00",
        "--array=0-1",
        "--job-name=mmrel",
        "--cpus-per-task=1",
    ):
        assert f"#SBATCH {line}\n" in script
    assert re.search(rf"export PYTHONPATH={re.escape(str(cluster.PACKAGES))}", script)
    assert re.search(r"^srun .*launch_pickled_pipeline .*/logs/executor.pik$", script, re.MULTILINE)
    subprocess.run(["bash", "-n", tmp_path / "logs" / "launch_script.slurm"], check=True)
    assert upload.main(["finish", "--out", str(tmp_path / "out")]) == 0, (
        tmp_path / "log"
    ).read_text()
    assert snapshot(tmp_path / "out") == whole


def test_ray(
    sources: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'datatrove[ray]'")
    monkeypatch.setenv("PYTHONPATH", str(cluster.PACKAGES))
    command = ["ray", "--tasks", "2", "--logs", str(tmp_path / "logs"), "--"]
    assert cli.main(["cluster", *command, *arguments(sources, tmp_path / "out")]) == 0
    assert upload.main(["finish", "--out", str(tmp_path / "out")]) == 0
    assert snapshot(tmp_path / "out") == whole


def test_what_slurm_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cluster", "slurm", "--tasks", "2", "--", "--out", "x"]) == 1
    assert "slurm: expected --partition and --time" in capsys.readouterr().err

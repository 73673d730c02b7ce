# SPDX-License-Identifier: Apache-2.0
r"""Run the shares of a build on many machines: datatrove's executors (extra `cluster`).

    mmrel cluster slurm --tasks 64 --partition cpu --time 02:00:00 -- --annotations json \
        --images real=images.zip real=images2.zip sdxl=data.zip dalle=pictures --out release
    mmrel finish --out release

Every task is `mmrel build --shard I/N`: all machines see the same folders, and a task that is run
again, or that died, packs what is not packed yet.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrel_kit.files import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINES = ("local", "slurm", "ray")
PACKAGES = Path(__file__).resolve().parents[2]  # the folder that holds mmrel_kit


@dataclass(frozen=True)
class PackShare:
    """A step of datatrove that packs the share of its rank; no documents pass through it.

    Attributes:
        arguments: those of `mmrel build`.
    """

    arguments: tuple[str, ...]

    def __call__(self, data: Any, rank: int, world_size: int) -> Any:
        """Pack the share of a rank, from 0; a failure is raised for the scheduler."""
        command = [sys.executable, "-m", "mmrel_kit.cli", "build", *self.arguments]
        command += ["--shard", f"{rank + 1}/{world_size}"]
        # A clone need not be installed.
        paths = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": paths}
        if subprocess.run(command, env=environment, check=False).returncode:
            raise InputError(f"share {rank + 1}/{world_size} was not packed; its log says why")
        return data


def make_executor(
    engine: str, arguments: Sequence[str], tasks: int, logs: Path, **options: Any
) -> Any:
    """Return an executor of datatrove whose `run()` packs all shares.

    Args:
        engine: `local`, `slurm` or `ray`.
        arguments: those of `mmrel build`; paths in them should be absolute.
        tasks: shares.
        logs: folder for logs and, of Slurm, the script.
        options: further ones of the executor: `workers`; of Slurm `partition`, `time`, `cpus_per_task`, …

    Raises:
        ModuleNotFoundError: datatrove (the extra `cluster`) or Ray is not installed.
    """
    if engine == "local":
        from datatrove.executor import LocalPipelineExecutor as Executor
    elif engine == "slurm":
        from datatrove.executor import SlurmPipelineExecutor as Executor

        # A job knows neither the folder of this package nor the environment that submits it.
        environment = [f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
        environment += [f"export PYTHONPATH={shlex.quote(str(PACKAGES))}:$PYTHONPATH"]
        environment += [f"cd {shlex.quote(os.getcwd())}"]
        ours = {"job_name": "mmrel", "env_command": " && ".join(environment), "qos": None}
        options = {**ours, **options}
    else:
        import ray  # noqa: F401  # datatrove imports it when it runs
        from datatrove.executor import RayPipelineExecutor as Executor
    # What is packed already the parts themselves tell, which are tied to their input; datatrove's marks are not.
    step = PackShare(tuple(arguments))
    return Executor(
        pipeline=[step], tasks=tasks, logging_dir=str(logs), skip_completed=False, **options
    )

# SPDX-License-Identifier: Apache-2.0
r"""Run the shares of a build on many machines: datatrove's executors (extra `cluster`).

    mmrel cluster slurm --tasks 64 --partition cpu --time 02:00:00 -- --annotations json \
        --images real=images.zip real=images2.zip sdxl=data.zip dalle=pictures --out release
    mmrel finish --out release

Every task runs `mmrel build --shard I/N`. All machines see the same folders; a task that is run
again packs only the shards that are missing.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrel_kit.files import InputError

ENGINES = ("local", "slurm", "ray")
PACKAGES = Path(__file__).resolve().parents[2]  # the folder that holds mmrel_kit


@dataclass(frozen=True)
class PackShare:
    """A datatrove pipeline step that packs the share of its rank; it passes on no documents.

    Attributes:
        arguments: those of `mmrel build`.
    """

    arguments: tuple[str, ...]

    def __call__(self, data: Any, rank: int, world_size: int) -> Any:
        """Pack the share of a rank, counted from 0.

        Raises:
            InputError: packing failed; the scheduler then marks the task as failed.
        """
        share = f"{rank + 1}/{world_size}"
        command = [sys.executable, "-m", "mmrel_kit.cli", "build", *self.arguments]
        # The package may be a clone that is not installed.
        paths = [str(PACKAGES)]
        if os.environ.get("PYTHONPATH"):
            paths.append(os.environ["PYTHONPATH"])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run([*command, "--shard", share], env=environment, check=False)
        if done.returncode:
            raise InputError(f"share {share} was not written; its log says why")
        return data


def make_executor(
    engine: str, arguments: Sequence[str], tasks: int, logs: Path, **options: Any
) -> Any:
    """Return a datatrove executor whose `run()` packs all shares.

    Args:
        engine: one of ENGINES.
        arguments: those of `mmrel build`; paths in them should be absolute.
        tasks: number of shares.
        logs: folder for logs and Slurm's script.
        options: more options of the executor, such as `workers`; for Slurm also `partition`,
            `time`, `cpus_per_task`, …

    Raises:
        ModuleNotFoundError: datatrove (the extra `cluster`) or Ray is not installed.
    """
    if engine == "local":
        from datatrove.executor import LocalPipelineExecutor as Executor
    elif engine == "slurm":
        from datatrove.executor import SlurmPipelineExecutor as Executor

        # A job starts in another folder, and without the environment that submits it.
        commands = [
            f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
            f"export PYTHONPATH={shlex.quote(str(PACKAGES))}:$PYTHONPATH",
            f"cd {shlex.quote(os.getcwd())}",
        ]
        defaults = {"job_name": "mmrel", "env_command": " && ".join(commands), "qos": None}
        options = {**defaults, **options}
    else:
        import ray  # noqa: F401  # datatrove imports it when it runs
        from datatrove.executor import RayPipelineExecutor as Executor
    # A build skips finished shards itself, by their fingerprints; datatrove's completion marks do
    # not depend on the input.
    options = {"logging_dir": str(logs), "skip_completed": False, **options}
    return Executor(pipeline=[PackShare(tuple(arguments))], tasks=tasks, **options)

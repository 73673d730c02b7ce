# SPDX-License-Identifier: Apache-2.0
r"""Runs the shares of a build on many machines: datatrove's local, Slurm and Ray executors (extra `cluster`).

    python -m release.cluster slurm --tasks 64 --partition cpu --time 02:00:00 -- --annotations json \
        --images real=images.zip real=images2.zip sdxl=data.zip dalle=pictures --out release
    python upload.py finish --out release

Every task is `upload.py build --shard i/n`: all machines see the same folders, and a task that is run again, or that
died, packs what is not packed yet.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # Ctrl-C and a missing package are one line while the rest loads, too
    from mmrel_kit.cli import guard_start

    guard_start("release.cluster")

from mmrel_kit.cli import run_command
from mmrel_kit.commands.options import parse_path, parse_positive
from mmrel_kit.files import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINES = ("local", "slurm", "ray")
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class PackShare:
    """A step of datatrove's: packs the share of its rank. Its documents pass by; there are none.

    Attributes:
        arguments: those of `upload.py build`.
    """

    arguments: tuple[str, ...]

    def __call__(self, data: Any, rank: int, world_size: int) -> Any:
        """Pack the share of a rank, from 0; a failure is told to the scheduler."""
        command = [sys.executable, str(REPOSITORY / "upload.py"), "build", *self.arguments]
        if subprocess.run([*command, "--shard", f"{rank + 1}/{world_size}"], check=False).returncode:
            raise InputError(f"share {rank + 1}/{world_size} was not packed; its log says why")
        return data


def make_executor(engine: str, arguments: Sequence[str], tasks: int, logs: Path, **options: Any) -> Any:
    """An executor of datatrove's whose `run()` packs all shares.

    Args:
        engine: `local`, `slurm` or `ray`.
        arguments: those of `upload.py build`; paths in them should be absolute.
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
        environment += [f"export PYTHONPATH={shlex.quote(str(REPOSITORY))}:$PYTHONPATH"]
        environment += [f"cd {shlex.quote(os.getcwd())}"]
        ours = {"job_name": "mmrel", "env_command": " && ".join(environment), "qos": None}
        options = {**ours, **options}
    else:
        import ray  # noqa: F401  # datatrove imports it when it runs
        from datatrove.executor import RayPipelineExecutor as Executor
    # What is packed already the parts themselves tell, which are tied to their input; datatrove's marks are not.
    step = PackShare(tuple(arguments))
    return Executor(pipeline=[step], tasks=tasks, logging_dir=str(logs), skip_completed=False, **options)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m release.cluster",
        description=(__doc__ or "").partition("\n")[0],
        epilog="after --: the arguments of upload.py build",
    )
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument(
        "--tasks", type=parse_positive, required=True, metavar="N", help="shares; at most as many as shards"
    )
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="tasks at once; default: all")
    parser.add_argument("--logs", type=parse_path, default=Path("mmrel-logs"), metavar="DIR")
    parser.add_argument("--partition", help="slurm: where jobs run")
    parser.add_argument("--time", help="slurm: most time of a job, for example 02:00:00")
    return parser


def run(args: argparse.Namespace) -> int:
    """Pack all shares, or hand them to Slurm; then `upload.py finish` joins them."""
    stated = {"partition": args.partition, "time": args.time}
    options: dict[str, Any] = {name: value for name, value in stated.items() if value is not None}
    if args.engine == "slurm" and len(options) < 2:
        raise InputError("slurm: expected --partition and --time")
    options["workers"] = args.workers
    make_executor(args.engine, args.arguments, args.tasks, args.logs, **options).run()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; what stands after `--` is for `upload.py build`."""
    given = list(sys.argv[1:] if argv is None else argv)
    cut = given.index("--") if "--" in given else len(given)
    parser = make_parser()
    go_on = "shards that are packed stay; the same command packs the rest"
    parser.set_defaults(run=run, prog="release.cluster", go_on=go_on, arguments=given[cut + 1 :])
    return run_command(parser, given[:cut], (InputError,))


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Write shards in one process or in several."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

from mmrel_kit.build.plan import BuildPlan, Shard
from mmrel_kit.build.shards import ShardManifest, WorkFolder, write_shard
from mmrel_kit.files import InputError, Problem, make_problem, raise_problems
from mmrel_kit.sources.local import Pictures


def write_shards(
    plan: BuildPlan, shards: Sequence[Shard], pictures: Pictures, work: WorkFolder, workers: int
) -> Iterator[ShardManifest]:
    """Write shards and yield the manifest of each; a problem in one does not stop the others.

    Raises:
        InputError: some shards have problems; raised after the last shard, with all of them.
    """
    problems = []
    if workers == 1:
        results = _write_here(plan, shards, pictures, work)
    else:
        results = _write_in_workers(plan, shards, pictures, work, workers)
    with closing(results):
        for result in results:
            if isinstance(result, Problem):
                problems.append(result)
            else:
                yield result
    raise_problems(problems)


def _write_here(
    plan: BuildPlan, shards: Sequence[Shard], pictures: Pictures, work: WorkFolder
) -> Generator[ShardManifest | Problem, None, None]:
    for shard in shards:
        try:
            yield write_shard(plan, shard, pictures, work)
        except InputError as error:
            yield make_problem(error)


def _write_in_workers(
    plan: BuildPlan, shards: Sequence[Shard], pictures: Pictures, work: WorkFolder, workers: int
) -> Generator[ShardManifest | Problem, None, None]:
    # "spawn", because a fork of a process with threads (Arrow, a progress bar) may hang.
    context = get_context("spawn")
    others = active_children()
    with ProcessPoolExecutor(workers, context, _start_worker, (plan.path, pictures, work)) as pool:
        try:
            with _ctrl_c_blocked():  # `submit` starts the workers
                futures = [pool.submit(_write_in_worker, shard) for shard in shards]
            for future in as_completed(futures):
                try:
                    yield future.result()
                except InputError as error:
                    yield make_problem(error)
        except (KeyboardInterrupt, GeneratorExit):
            # Do not wait for shards that nobody will use; half-written files are ignored.
            for worker in set(active_children()) - set(others):
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Block Ctrl-C during the block; processes started in it never receive it.

    A terminal sends Ctrl-C to all processes of a command, and each worker would print a traceback.
    The parent process ends the workers instead.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: tuple[BuildPlan, Pictures, WorkFolder]


def _start_worker(path: Path, pictures: Pictures, work: WorkFolder) -> None:
    global _worker
    _worker = BuildPlan(path, resume=True), pictures, work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed; otherwise it would wait for work forever."""
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _write_in_worker(shard: Shard) -> ShardManifest:
    plan, pictures, work = _worker
    return write_shard(plan, shard, pictures, work)

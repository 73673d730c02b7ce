# SPDX-License-Identifier: Apache-2.0
"""Pack shards in one process or in several."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from multiprocessing import active_children, get_context, parent_process
from typing import TYPE_CHECKING

from mmrel_kit.build.plan import BuildPlan
from mmrel_kit.build.shards import make_problem, write_shard
from mmrel_kit.files import InputError, Problem, raise_problems

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from mmrel_kit.build.plan import Shard
    from mmrel_kit.build.shards import ShardManifest, WorkFolder
    from mmrel_kit.pictures.sources import Pictures


def write_shards(
    plan: BuildPlan, shards: Sequence[Shard], pictures: Pictures, work: WorkFolder, workers: int
) -> Iterator[ShardManifest]:
    """Pack shards and yield each as it is finished; what is wrong with one does not stop others.

    Raises:
        InputError: after the last shard, with what is wrong with those that could not be packed.
    """
    problems = []
    if workers == 1:
        packing = _pack_here(plan, shards, pictures, work)
    else:
        packing = _pack_in_workers(plan, shards, pictures, work, workers)
    with closing(packing):
        for packed in packing:
            if isinstance(packed, Problem):
                problems.append(packed)
            else:
                yield packed
    raise_problems(problems)


def _pack_here(
    plan: BuildPlan, shards: Sequence[Shard], pictures: Pictures, work: WorkFolder
) -> Generator[ShardManifest | Problem, None, None]:
    for shard in shards:
        try:
            part = write_shard(plan, shard, pictures, work)
        except InputError as error:
            yield make_problem(error)
        else:
            yield part


def _pack_in_workers(
    plan: BuildPlan, shards: Sequence[Shard], pictures: Pictures, work: WorkFolder, workers: int
) -> Generator[ShardManifest | Problem, None, None]:
    # Not forked: a copy of a process with threads (Arrow's, a progress bar's) may hang.
    context = get_context("spawn")
    started = (plan.path, pictures, work)
    others = active_children()
    with ProcessPoolExecutor(workers, context, _start_worker, started) as pool:
        try:
            with _holding_back_ctrl_c():  # workers are started here
                futures = [pool.submit(_pack_in_worker, shard) for shard in shards]
            for future in as_completed(futures):
                try:
                    part = future.result()
                except InputError as error:
                    yield make_problem(error)
                else:
                    yield part
        except (KeyboardInterrupt, GeneratorExit):
            # Nobody waits for the shards that are being packed; what is half written is not used.
            for worker in set(active_children()) - set(others):
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _holding_back_ctrl_c() -> Iterator[None]:
    """Hold Ctrl-C back; processes that are started meanwhile never get it.

    A terminal sends it to all processes of a command, and a worker would print a traceback. Their
    parent ends them.
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
    """End a worker whose parent was killed; it would wait for work for ever."""
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _pack_in_worker(shard: Shard) -> ShardManifest:
    plan, pictures, work = _worker
    return write_shard(plan, shard, pictures, work)

# SPDX-License-Identifier: Apache-2.0
"""Run tasks in this process or in several.

Imports the standard library only.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_tasks(
    task: Callable[..., Result], items: Sequence[Item], workers: int, shared: tuple[Any, ...] = ()
) -> Generator[Result, None, None]:
    """Yield `task(*shared, item)` of each item, in the order of the items.

    With one worker the tasks run in this process, one after the other. Otherwise `task` is a
    function of a module, and what it takes and returns can be pickled; `shared` is sent to each
    process once. Closing the generator ends the processes.

    Raises:
        ChildProcessError: a worker process has ended, for example because it was killed.
    """
    if workers == 1:
        for item in items:
            yield task(*shared, item)
        return
    # "spawn", because a fork of a process with threads (Arrow, a progress bar) may hang.
    context = get_context("spawn")
    others = active_children()
    with ProcessPoolExecutor(workers, context, _start_worker, shared) as pool:
        try:
            with _ctrl_c_blocked():  # `submit` starts the workers
                futures = [pool.submit(_run_task, task, item) for item in items]
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise ChildProcessError(
                "expected the worker processes to end by themselves, one was killed, perhaps for "
                "want of memory; run the same command again, with fewer --workers"
            ) from None
        except (KeyboardInterrupt, GeneratorExit):
            # Do not wait for results that nobody will use.
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


_shared: tuple[Any, ...] = ()


def _start_worker(*shared: Any) -> None:
    global _shared
    _shared = shared
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed; otherwise it would wait for work forever."""
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _run_task(task: Callable[..., Result], item: Any) -> Result:
    return task(*_shared, item)

"""Worker processes on this machine: fresh, with a fixed number of threads, gone with their parent."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, TypeVar

from mvtokenflow.base.errors import UserError

T = TypeVar("T")


def set_threads(count: int = 1) -> None:
    """Threads of this process. One unless noise is studied: a value must not depend on a machine's cores."""
    import numba
    import torch

    torch.set_num_threads(count)
    numba.set_num_threads(min(count, vars(numba.config)["NUMBA_NUM_THREADS"]))


def end_with_parent() -> None:
    """End this worker when the process that started it is gone; killed, it could not say so."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class WorkerDiedError(UserError):
    """A worker process was killed from outside, most likely for want of memory."""


@contextmanager
def worker_pool(
    count: int, initializer: Callable[..., None], arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes; whatever ends the block early cancels what has not begun.

    Raises:
        WorkerDiedError: a worker was killed.
    """
    context = multiprocessing.get_context("spawn")  # torch and its threads do not survive a fork
    with ProcessPoolExecutor(count, mp_context=context, initializer=initializer, initargs=arguments) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                "a worker process was killed, perhaps out of memory; run the same command again with fewer "
                "--jobs, it goes on where it stopped"
            ) from error
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):  # of this process alone, perhaps
                for worker in multiprocessing.active_children():
                    worker.terminate()
            raise


def submit(pool: ProcessPoolExecutor, work: Callable[..., T], *arguments: Any) -> "Future[T]":
    """Give a pool work. An interrupt waits until the process that may be started for it can end in silence."""
    if sys.platform == "win32":
        return pool.submit(work, *arguments)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited; see `start_worker`
    try:
        return pool.submit(work, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(threads: int = 1) -> None:
    """What every worker process does first."""
    if sys.platform != "win32":  # an interrupt is the parent's to tell of: workers end, even in compiled code
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
    set_threads(threads)


def default_jobs(device: str) -> int:
    """One process per core on CPU, one in all on an accelerator."""
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

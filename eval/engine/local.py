"""Worker processes on this machine, with a fixed number of threads, that end with their parent."""

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
    """Set the number of threads of this process.

    One, unless noise is studied: a value must not depend on a machine's cores.
    """
    import numba
    import torch

    torch.set_num_threads(count)
    numba.set_num_threads(min(count, vars(numba.config)["NUMBA_NUM_THREADS"]))


def end_with_parent() -> None:
    """End this worker when its parent process is gone; a killed parent cannot end its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class WorkerDiedError(UserError):
    """A worker process was killed from outside, most likely for lack of memory."""


@contextmanager
def worker_pool(
    count: int, initializer: Callable[..., None], arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Start a pool of fresh processes; an early end of the block cancels work that has not started.

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
                "--jobs, it resumes where it stopped"
            ) from error
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):  # possibly of this process only
                for worker in multiprocessing.active_children():
                    worker.terminate()
            raise


def submit(pool: ProcessPoolExecutor, work: Callable[..., T], *arguments: Any) -> "Future[T]":
    """Submit work to a pool.

    Interrupts are blocked meanwhile: a process that may be started for the work must be able to end silently.
    """
    if sys.platform == "win32":
        return pool.submit(work, *arguments)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited; see `start_worker`
    try:
        return pool.submit(work, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(threads: int = 1) -> None:
    """Initialise a worker process."""
    if sys.platform != "win32":  # the parent reports an interrupt: workers end, even in compiled code
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
    set_threads(threads)


def default_jobs(device: str) -> int:
    """Return the default number of processes: one per core on CPU, one in total on an accelerator."""
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

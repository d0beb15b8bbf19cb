"""Tasks that need other tasks, side by side on any concurrent.futures executor: here, in processes, on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from hw7.errors import HW7Error


def side_by_side(
    tasks: Iterable[str],
    needs: Callable[[str], Collection[str]],
    start: Callable[[str], Future[Any]],
    ended: Callable[[str, Future[Any]], bool],
    at_once: int = 1,
) -> None:
    """Starts each task once those it needs have succeeded, at most `at_once` at a time; returns when all have ended.

    Of the tasks that could start, the one that comes first in `tasks` does. One whose needs failed is never started.
    `ended(task, future)` is called for each that ended, and says whether more are to be started.
    """
    waiting, done = list(tasks), set[str]()
    running: dict[Future[Any], str] = {}
    while True:
        ready = [name for name in waiting if done.issuperset(needs(name))]
        for name in ready[: at_once - len(running)]:
            waiting.remove(name)
            running[start(name)] = name
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            if future.exception() is None:
                done.add(name)
            if not ended(name, future):
                waiting.clear()


class Here(Executor):
    """The executor that runs each task at once, in this process. What ends a process ends it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """`jobs` processes, spawned: torch has threads, and a GPU cannot be forked. They end with this block, however it
    ends, and with this process, even by kill -9."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)  # nothing is sent: it is closed when this end is
    pool = ProcessPoolExecutor(jobs, context, initializer=_end_with, initargs=(theirs,))
    try:
        yield pool
    except BaseException:
        ours.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def _end_with(parent: Connection) -> None:
    def end() -> None:
        parent.poll(None)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one decides
    threading.Thread(target=end, daemon=True).start()


@contextmanager
def dask_client(address: str) -> Iterator[Any]:
    """A client of the Dask cluster at `address`, which has workers. Raises HW7Error."""
    try:
        from distributed import Client
    except ImportError as error:
        raise HW7Error("--dask needs Dask: pip install 'hw7[cluster]'") from error
    try:
        client = Client(address, timeout=20)
    except (OSError, ValueError) as error:
        raise HW7Error(f"there is no Dask scheduler at {address} ({error}); start one with `dask scheduler`") from error
    with client:
        if not client.nthreads():
            raise HW7Error(f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`")
        yield client


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The executor of the Dask cluster at `address`, and how many workers it has. Raises HW7Error."""
    with dask_client(address) as client:
        yield client.get_executor(pure=False), len(client.nthreads())

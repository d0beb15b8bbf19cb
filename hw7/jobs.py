"""Tasks that need other tasks, side by side on any concurrent.futures executor: here, in processes, on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
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


class Cluster(Executor):
    """The workers of the Dask cluster at `address`. Raises HW7Error where there are none.

    Not Dask's own `get_executor`: there, a result that is lost together with its worker, and whose task then fails,
    leaves its future pending for ever (distributed 2026.8), as does a cluster whose workers are all gone.
    """

    patience = 60.0  # seconds without any worker, after which what is waited for fails

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise HW7Error("--dask needs Dask: pip install 'hw7[cluster]'") from error
        self.address = address
        try:
            self._client = Client(address, timeout=20)
        except (OSError, ValueError) as error:
            raise HW7Error(
                f"there is no Dask scheduler at {address} ({error}); start one with `dask scheduler`"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=20)  # some may be just starting, or starting again
        except TimeoutError as error:
            self._client.close()
            raise HW7Error(
                f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`"
            ) from error
        self._open: set[Future[Any]] = set()
        self._left = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def threads(self) -> list[int]:
        """How many tasks each worker takes at once."""
        return list(self._client.nthreads().values())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        task = self._client.submit(fn, *args, pure=False, **kwargs)
        self._open.add(future)

        def ended(task: Any) -> None:
            try:
                result = task.result()  # may raise although the task had ended well: its worker has died since
            except CancelledError:
                future.cancel()
                future.set_running_or_notify_cancel()
            except Exception as error:
                _fail(future, error)
            else:
                with suppress(InvalidStateError):
                    future.set_result(result)

        def closed(future: Future[Any]) -> None:
            self._open.discard(future)
            if future.cancelled() and not task.done():
                task.cancel()

        future.add_done_callback(closed)
        task.add_done_callback(ended)
        return future

    def _watch(self) -> None:
        """Ends what is waited for once the workers are gone and none has come back. Of a lost scheduler Dask tells."""
        alive = time.monotonic()
        while not self._left.wait(min(5.0, self.patience)):
            with suppress(Exception):
                if self._client.nthreads():
                    alive = time.monotonic()
            if time.monotonic() - alive > self.patience:
                message = f"the Dask cluster at {self.address} has had no worker for {self.patience:.0f} s"
                for future in list(self._open):
                    _fail(future, HW7Error(f"{message}; what is done is kept: start workers, and run the same again"))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._left.set()
        self._client.close()


def _fail(future: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):  # it has ended otherwise meanwhile
        future.set_exception(error)

"""Worker processes, each fed by a thread of its own, so that one's death is nobody else's.

`concurrent.futures.ProcessPoolExecutor` gives up all that is in flight when one process dies, cannot say which task it
was, and leaves its processes behind when the coordinator is killed. Here the future of that task alone raises
`BrokenExecutor`, the next task gets a new process, and all processes end with the coordinator, however it ends.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from hw7.errors import HW7Error

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess


class Workers(Executor):
    """At most `jobs` processes, spawned (not forked: torch has threads) when they are first needed."""

    def __init__(self, jobs: int) -> None:
        self._threads = ThreadPoolExecutor(jobs, "worker")
        self._mine = threading.local()
        self._all: set[_Worker] = set()
        self._unfinished: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = self._threads.submit(self._call, fn, args, kwargs)
        with self._lock:
            self._unfinished.add(future)
        future.add_done_callback(self._finished)
        return future

    def _finished(self, future: Future[Any]) -> None:
        with self._lock:
            self._unfinished.discard(future)

    def __exit__(self, *exception: object) -> None:
        """Stops what is still being graded: whoever waits for a future does so before."""
        self.shutdown(cancel_futures=bool(self._unfinished))

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        worker = getattr(self._mine, "worker", None) or self._start()
        try:
            worker.connection.send((function, args, kwargs))
            good, value = worker.connection.recv()
        except (EOFError, OSError) as error:
            self._mine.worker = None
            with self._lock:
                self._all.discard(worker)
            worker.kill()
            raise BrokenExecutor(f"the worker process ended with code {worker.process.exitcode}") from error
        if not good:
            raise value
        return value

    def _start(self) -> _Worker:
        with self._lock:
            if self._stopped:
                raise BrokenExecutor("the workers have been stopped")
            self._mine.worker = worker = _Worker()
            self._all.add(worker)
        return worker

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """With `cancel_futures`, what is being graded is stopped as well."""
        with self._lock:
            self._stopped = self._stopped or cancel_futures
            if cancel_futures:
                for worker in self._all:
                    worker.process.kill()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            workers, self._all = self._all, set()
            for worker in workers:
                worker.connection.close()  # the end of its input: it ends by itself
            for worker in workers:
                worker.process.join(10)
                worker.kill()


class _Worker:
    """One worker process and the near end of its pipe. Made in the thread that feeds it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        if hasattr(signal, "pthread_sigmask"):
            # Ctrl-C reaches every process of a terminal; workers inherit this mask and leave it to the coordinator.
            resource_tracker.ensure_running()  # which start() would do, and it unblocks what is blocked
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection) -> None:
    """The worker's loop: a call, its result or its exception; until the coordinator is done or dead."""
    coordinator = multiprocessing.parent_process()
    assert coordinator is not None

    def end_with_it() -> None:
        coordinator.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
    while True:
        try:
            function, args, kwargs = connection.recv()
        except EOFError:
            # The end, without taking torch to pieces first, which takes a second that the whole run would wait for.
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        try:
            result = (True, function(*args, **kwargs))
        except Exception as error:
            if not isinstance(error, HW7Error):  # an exception may not survive the pipe, its words do
                error = RuntimeError("".join(traceback.format_exception(error)))
            result = (False, error)
        connection.send(result)

"""Executors that run tasks side by side: in this process, in processes of their own, on a Dask cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent import futures
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from tqdm import tqdm

from hw7 import HW7Error
from hw7.support.processes import CAN_FORK, Forked, Prepared, ending_with_parent, leave, sendable, spawn

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess


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
        for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
            name = running.pop(future)
            if future.exception() is None:
                done.add(name)
            if not ended(name, future):
                waiting.clear()


class SameProcess(Executor):
    """The executor that runs each task at once, in this process. What ends a process ends it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Workers(Executor):
    """At most `jobs` processes, each fed by a thread of its own, so that one's death is nobody else's.

    `concurrent.futures.ProcessPoolExecutor` gives up all that is in flight when one process dies, cannot say which task
    it was, and leaves its processes behind when this one is killed. Here the future of that task alone raises
    `BrokenExecutor`, the next task gets a new process, and all processes end with this one, however it ends.
    They are spawned when they are first needed: torch has threads, and a GPU cannot be forked.
    """

    def __init__(self, jobs: int, prepare: Callable[[], object] | None = None) -> None:
        """prepare: loads and makes what every task needs. Where processes can be forked from one that has called it,
        they are; elsewhere it is not called, so that it must be no more than a saving of time."""
        self._threads = ThreadPoolExecutor(jobs, "worker")
        self._mine = threading.local()
        self._all: set[_Worker] = set()
        self._futures: WeakSet[Future[Any]] = WeakSet()
        self._lock = threading.Lock()
        self._stopped = False
        self._prepare = prepare if CAN_FORK else None
        self._prepared: Prepared | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = self._threads.submit(self._call, fn, args, kwargs)
        self._futures.add(future)
        return future

    def __exit__(self, *exception: object) -> None:
        """Stops what still runs: whoever waits for a future does so before."""
        self.shutdown(cancel_futures=not all(future.done() for future in self._futures))

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
            self._go_on()
            if self._prepare is not None and (self._prepared is None or not self._prepared.alive):
                self._prepared = Prepared(self._prepare, _serve)
            prepared = self._prepared
        try:
            worker = _Worker((prepared.fork() if prepared else None) or spawn(_serve))
        except (EOFError, OSError) as error:
            raise BrokenExecutor(f"no worker process could be started ({error!r})") from error
        with self._lock:
            self._all.add(worker)
            self._go_on()
        self._mine.worker = worker
        return worker

    def _go_on(self) -> None:
        if self._stopped:
            raise BrokenExecutor("the workers have been stopped")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """With `cancel_futures`, what runs is stopped as well."""
        with self._lock:
            self._stopped = self._stopped or cancel_futures
            if cancel_futures:
                if self._prepared is not None:
                    self._prepared.kill()  # and its forks with it
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
            if self._prepared is not None:
                self._prepared.close()
                self._prepared = None


class _Worker:
    """One worker process and the near end of its pipe."""

    def __init__(self, started: tuple[Connection, SpawnProcess | Forked]) -> None:
        self.connection, self.process = started

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection) -> None:
    """The worker's loop: a call, its result or its exception; until the parent is done or dead."""
    # The lock that tqdm makes for itself is a semaphore between processes: the resource tracker warns of it where a
    # worker is killed, which is how Ctrl-C ends one. Each process draws its own bars: threads are enough.
    tqdm.set_lock(threading.RLock())
    with ending_with_parent():
        while True:
            try:
                function, args, kwargs = connection.recv()
            except EOFError:
                leave()
            try:
                result = (True, function(*args, **kwargs))
            except Exception as error:
                result = (False, sendable(error))
            connection.send(result)


class Cluster(Executor):
    """The workers of the Dask cluster at `address`. Raises HW7Error where there are none.

    Not Dask's own `get_executor`: there, a task that has ended well and whose result cannot be had after all (it is
    lost with its worker, and the next worker dies of the task) leaves its future pending for ever (distributed 2026.8),
    as does a cluster whose workers are all gone.
    """

    start = 60.0  # seconds to find the scheduler, and then a first worker: what starting one takes on a busy machine
    patience = 300.0  # seconds without any worker until what is waited for fails

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise HW7Error("--dask needs Dask: pip install 'hw7[cluster]'") from error
        self.address = address
        try:
            self._client = Client(address, timeout=self.start)
        except (OSError, ValueError) as error:
            raise HW7Error(
                f"there is no Dask scheduler at {address} ({error}); start one with `dask scheduler`"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=self.start)  # some may be just starting, or starting again
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
            except CancelledError:  # by us, and then there is nothing to say, or by Dask
                self._give_up(future, "is gone")
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
                for future in list(self._open):
                    self._give_up(future, f"has had no worker for {self.patience:.0f} s")

    def _give_up(self, future: Future[Any], what: str) -> None:
        message = f"the Dask cluster at {self.address} {what}; what is done is kept: start it, and run the same again"
        _fail(future, HW7Error(message))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._left.set()
        self._client.close()


def _fail(future: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):  # it has ended otherwise meanwhile
        future.set_exception(error)

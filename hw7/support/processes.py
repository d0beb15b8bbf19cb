"""Processes that end with this one: spawned, or forked from a spawned one that has prepared itself once for all."""

from __future__ import annotations

import atexit
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import reduction, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hw7 import HW7Error

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

CAN_FORK = sys.platform == "linux"
PR_SET_PDEATHSIG = 1


def spawn(target: Callable[..., object], *args: object) -> tuple[Connection, SpawnProcess]:
    """A new process that runs `target(connection, *args)`, and the near end of that connection.

    To be called in the thread that will use it, for the process may end with this thread.
    """
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *args), daemon=True)
    if hasattr(signal, "pthread_sigmask"):
        # Ctrl-C reaches every process of a terminal; workers inherit this mask and leave it to the parent.
        resource_tracker.ensure_running()  # which start() would do, and it unblocks what is blocked
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    process.start()
    theirs.close()
    return connection, process


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """In here this process ends as soon as the one that has spawned it does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    done, left = os.pipe()

    def watch() -> None:
        if parent.sentinel in wait([parent.sentinel, done]):
            os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(left)
        thread.join()
        os.close(done)


def leave() -> NoReturn:
    """Ends this process, without taking torch to pieces first, which takes a second that others would wait for."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def sendable(error: Exception) -> Exception:
    """What may not survive the way to another process is there in words."""
    return error if isinstance(error, HW7Error) else RuntimeError("".join(traceback.format_exception(error)))


class Prepared:
    """A process that calls `prepare` once, and from which others are then forked: what it has loaded and made, all of
    them have, and share its memory. They end with it, and it ends with this one. Linux only.

    A fork takes one thread along: where `prepare` leaves more than one, there is none.
    """

    def __init__(self, prepare: Callable[[], object], serve: Callable[[Connection], object]) -> None:
        """serve: what each of them runs, with its end of a connection."""
        self._connection, self._process = spawn(_fork_on_demand, prepare, serve)
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def fork(self) -> tuple[Connection, Forked] | None:
        """The near end of a new process's connection, and the process; None where it has more than one thread.

        Waits until it is prepared. Raises what `prepare` has raised, and EOFError or OSError where it has ended.
        """
        connection, theirs = multiprocessing.get_context("spawn").Pipe()
        with theirs:
            answer = self._ask("fork", theirs.fileno())
        if isinstance(answer, int) and answer:
            return connection, Forked(self, answer)
        connection.close()
        if isinstance(answer, Exception):
            raise answer
        return None

    def end(self, pid: int, seconds: float) -> int:
        """The exit code of one that was forked; after so many seconds it is killed."""
        try:
            return int(self._ask("end", (pid, seconds)))
        except (EOFError, OSError):
            return -signal.SIGKILL  # together with this one

    def _ask(self, order: str, value: Any) -> Any:
        with self._lock:
            self._connection.send((order, None if order == "fork" else value))
            if order == "fork":
                reduction.send_handle(self._connection, value, self._process.pid or 0)
            return self._connection.recv()

    def kill(self) -> None:
        """Ends it and all of them, now."""
        self._process.kill()

    def close(self) -> None:
        """Ends it, and those that are left."""
        with self._lock:
            self._connection.close()
        self._process.join(10)
        self._process.kill()
        self._process.join()


class Forked:
    """One that was forked; its parent alone ends it, which knows whose its number is."""

    def __init__(self, parent: Prepared, pid: int) -> None:
        self._parent, self.pid = parent, pid
        self.exitcode: int | None = None

    def join(self, seconds: float = 0.0) -> None:
        """Waits for its end; after so many seconds it is killed."""
        if self.exitcode is None:
            self.exitcode = self._parent.end(self.pid, seconds)

    def kill(self) -> None:
        self.join()


# ---- in the process that was prepared ------------------------------------------------------------------------------


def _fork_on_demand(
    connection: Connection, prepare: Callable[[], object], serve: Callable[[Connection], object]
) -> NoReturn:
    answer: Exception | int | None = None  # to a fork that cannot be
    with ending_with_parent():
        try:
            prepare()
        except Exception as error:
            answer = sendable(error)
    gc.collect()
    gc.freeze()  # or those that are forked would copy every page whose counters a collection touches
    if answer is None and len(list(Path("/proc/self/task").iterdir())) > 1:
        answer = 0
    running: set[int] = set()
    while True:
        try:
            order, value = connection.recv()
            if order == "end":
                connection.send(_end(*value))
                running.discard(value[0])
                continue
            handle = reduction.recv_handle(connection)
        except (EOFError, OSError):  # the end of all
            for pid in running:
                _end(pid, 0.0)
            leave()
        if answer is None:
            pid = _fork(connection, handle, serve)
            running.add(pid)
        os.close(handle)
        connection.send(pid if answer is None else answer)


def _fork(connection: Connection, handle: int, serve: Callable[[Connection], object]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        connection.close()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            serve(Connection(handle))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _end(pid: int, seconds: float) -> int:
    """The exit code of a child of this process; after so many seconds it is killed."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.005)

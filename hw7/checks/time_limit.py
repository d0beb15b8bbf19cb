"""A time limit for code that runs in this process: seconds of computing on one thread, however busy the machine is.

The clock on the wall ends only what computes nothing: code that sleeps, waits for input or for a lock. Where the system
has timers for a process (Linux, macOS), signals end the code; elsewhere a second thread does, between two of its lines.
"""

import ctypes
import signal
import sys
import threading
import time
from types import FrameType
from typing import Self

import torch

WALL = 4  # times the limit, on the clock on the wall
LOOK_SECONDS = 0.1  # how often the second thread looks
AGAIN_SECONDS = 1  # until the error is raised once more: code may catch whatever is raised in it, and go on


class OutOfTime(BaseException):
    """Not an Exception: code that catches everything must not catch this."""


class TimeLimit:
    """`with TimeLimit(30) as limit:` raises OutOfTime in its block after 30 s of computing; `limit.message` says so."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.computed = self.passed = 0.0  # seconds in the block, once it has ended
        self.timer_said_so = False  # the system's timer, which counts in ticks: 0.26 s may be 0.3 s to it

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        self._begun = time.process_time(), time.monotonic()
        in_main = threading.current_thread() is threading.main_thread()
        self._guard = _Timers(self) if in_main and hasattr(signal, "setitimer") else _Watcher(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self._guard.stop()
        self.computed, self.passed = self.so_far()
        torch.set_num_threads(self._threads)

    def so_far(self) -> tuple[float, float]:
        """(seconds of computing, seconds on the wall) since the block began."""
        computed, passed = self._begun
        return time.process_time() - computed, time.monotonic() - passed

    @property
    def message(self) -> str:
        """Why the block was ended, for whoever wrote the code."""
        if self.timer_said_so or self.computed > 0.9 * self.seconds:
            return f"The time limit was reached: {self.seconds:g} s of computing. Look for a loop that does not end."
        return (
            f"The machine was busy, or your code waited: it ran {self.computed:.0f} s of the {self.seconds:g} s that "
            f"it has, in {self.passed:.0f} s. Run it again when the machine has less to do."
        )


def _in_block(frame: FrameType | None) -> bool:
    """False at lines of this module: they start and stop what ends the block, and must come to their own end."""
    while frame is not None:
        if frame.f_globals is globals():
            return False
        frame = frame.f_back
    return True


class _Timers:
    """The system's own timers, of the processor's time and of the wall's. Both can be over at once."""

    def __init__(self, limit: TimeLimit) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            if _in_block(frame):
                limit.timer_said_so |= number == signal.SIGPROF
                raise OutOfTime

        self._clocks = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
        self._handlers = {number: signal.signal(number, stop) for number in self._clocks}
        self._begun = time.monotonic()
        signal.setitimer(signal.ITIMER_PROF, limit.seconds, AGAIN_SECONDS)
        self._others_alarm, _ = signal.setitimer(signal.ITIMER_REAL, WALL * limit.seconds, AGAIN_SECONDS)

    def stop(self) -> None:
        for clock in self._clocks.values():
            signal.setitimer(clock, 0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._others_alarm:  # pytest's, for example
            left = self._others_alarm - (time.monotonic() - self._begun)
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left))


class _Watcher:
    """A thread that looks at the clocks and raises OutOfTime in the thread that it was made in."""

    def __init__(self, limit: TimeLimit) -> None:
        self._over, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.get_ident()
        threading.Thread(target=self._watch, args=(limit,), daemon=True).start()

    def _watch(self, limit: TimeLimit) -> None:
        late = False
        while not self._over.wait(AGAIN_SECONDS if late else LOOK_SECONDS):
            computed, passed = limit.so_far()
            late = computed > limit.seconds or passed > WALL * limit.seconds
            with self._lock:
                if late and not self._over.is_set() and self._in_block():
                    self._send(OutOfTime)
                    if not self._in_block():  # it has ended meanwhile, and waits for the lock
                        self._send(None)

    def _in_block(self) -> bool:
        return _in_block(sys._current_frames().get(self._thread))

    def _send(self, error: type[BaseException] | None) -> None:
        """Makes it the error that the thread raises next; None takes back one that was not yet raised."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread), None if error is None else ctypes.py_object(error)
        )

    def stop(self) -> None:
        with self._lock:
            self._over.set()

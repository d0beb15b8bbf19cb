"""One jailed process, seen from the grader: asked calls, it gives answers, until it is closed or stopped.

Nothing here trusts it: what it answers is bounded and parsed by `protocol`, what it prints is drained and cut, and how
it ended is asked of the fork server. Whatever it does, `ask` answers.
"""

import contextlib
import fcntl
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from hw7 import HW7Error
from hw7.checks.cases import Answer, Bound, Call, Status

from . import confine
from .launch import END_SECONDS, READY_SECONDS, Zygote
from .protocol import EXIT_WITHOUT_MEMORY, TEXT, Flood, Limits, Reader, encode

OUTPUT_KEPT = 64 * 2**10  # bytes of what a child prints
SCRATCH_MB, MAX_FILES = 16, 4096  # in its scratch folder
MAX_STRAY = 64  # answers to what was answered already, before it is called a flood
PIPE_BYTES = 2**20
GRACE_SECONDS = 1.0  # of its clock, between the end of its answers and the word that it has ended
LOOK_SECONDS = 0.1  # how often a process that has closed its answer pipe is looked at


class Clock:
    """How long a process has been at it: while it computed, slept or waited for anything but a processor.

    On a busy machine nobody pays for the work of others: time in the queue for a processor does not count, neither its
    own nor that of the grader, for which it waits between two questions; as far as the system tells it (Linux does).
    Nor does a process gain by threads that push its first one back in that queue: it counts at least the processor time
    of all of them.
    """

    def __init__(self, pid: int | None) -> None:
        self._place = Path(f"/proc/{pid}")
        self._told = 0.0, 0.0  # what the system said last; nothing any more where the fork server has ended, too
        self.start()

    def start(self) -> None:
        self._begun = self._read()

    def _read(self) -> tuple[float, float, float]:
        """Seconds of all clocks, in the queues of its first thread and of the grader, of all its threads on a
        processor; 0 if nobody tells. Of one that has ended, too: the fork server keeps its entry until the next."""
        now = time.monotonic()
        with contextlib.suppress(OSError, IndexError, ValueError):
            threads = self._place, Path("/proc/thread-self")
            queued = sum(int((each / "schedstat").read_text().split()[1]) for each in threads) / 1e9
            ticks = (self._place / "stat").read_text().rpartition(")")[2].split()[11:13]
            self._told = queued, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return now, *self._told

    def seconds(self) -> tuple[float, float, float]:
        """Since the start: what counts, on a processor, in the queue."""
        passed, queued, computed = (max(0.0, now - begun) for now, begun in zip(self._read(), self._begun, strict=True))
        return max(passed - queued, computed), computed, queued


def youngest(pid: int) -> int | None:
    """The last in the line of children that begins with this process; None where the system does not tell."""
    try:
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split():
            pid = int(children[-1])
    except (OSError, ValueError):
        return None
    return pid


def _limits_of_cells(output_bytes: int) -> Limits:
    """What may come back of a notebook's cell, with the labels of its outputs."""
    body = output_bytes + 2**20
    return Limits(body=body, total=2 * body, kinds=frozenset({TEXT}))


class Child:
    """One jailed process: asked calls, it gives answers, until it is closed or stopped. Made by `Jail.child`."""

    def __init__(self, server: Zygote, job: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.stopped_by = ""
        self.seconds = 0.0  # what the last questions took, by its clock
        self._server = server
        self._status: Status | None = None  # how it was stopped, if it was
        self._exit: int | None = None  # its wait status, once that has been reported
        self._full = ""  # the limit of its scratch folder, if it was ended for that
        self._closed = False
        self._printed = bytearray()
        notebook = job.get("notebook")
        self._reader = Reader(_limits_of_cells(notebook["output_bytes"]) if notebook else Limits())
        self._asked = range(0)  # the indices of the last questions
        self._got: dict[int, Answer] = {}
        self._stray = 0
        self._silent_since: float | None = None  # by its clock: its end of the answer pipe is closed
        self._pending = memoryview(b"")
        first = encode(0, 0, "", files)  # before there is anything to close again
        input_end, self._input = os.pipe()
        self._answers, answers_end = os.pipe()
        self._prints, prints_end = os.pipe()
        theirs, self._ours = (input_end, answers_end, prints_end), (self._input, self._answers, self._prints)
        for descriptor in self._ours:
            os.set_blocking(descriptor, False)
            if confine.LINUX:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        spawned = server.spawn({"scratch_mb": SCRATCH_MB, "scratch_files": MAX_FILES, **job}, theirs)
        for descriptor in theirs:
            os.close(descriptor)
        self._gone = not spawned  # or its exit has been reported
        self._clock = Clock(None if notebook else youngest(server.pid))  # a cell may use all cores for all its time
        (ready,) = self._exchange([first], READY_SECONDS)
        if ready.status is not Status.RETURNED or not self.alive:
            why = (ready.note or self.output or server.complaint()).strip().splitlines()[-1:] or [self.stopped_by]
            self.close()
            raise HW7Error(f"a process of the jail (tier {server.tier}) could not be closed in: {why[0][:300]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._status is None and not self._closed

    @property
    def output(self) -> str:
        """What it has printed so far, stdout and stderr, cut to 64 KiB."""
        return bytes(self._printed).decode("utf-8", "replace")

    def ask(self, calls: Sequence[Call], seconds: float) -> list[Answer]:
        """One answer for each call, in this order. `seconds` is one deadline for all; then the child is stopped.

        It is by the child's `Clock`, which does not count how long others held the processors.
        Where it stops, what it had answered stays, the call it was at is TIME, DIED, FLOOD or NO_MEMORY, and the rest
        is UNANSWERED.
        """
        if not self.alive:
            return [Answer(Status.UNANSWERED)] * len(calls)
        numbered = dict(enumerate(calls, self._asked.stop))
        bounds = {index: call.most for index, call in numbered.items() if call.most is not None}
        frames = [encode(index, 0, call.program, call.inputs) for index, call in numbered.items()]
        return self._exchange(frames, seconds, bounds)

    def close(self) -> None:
        """Ends it, and waits until it and all that it had are gone."""
        if self._closed:
            return
        self._end()
        self._closed = True
        self._read_prints()
        for descriptor in self._ours:
            os.close(descriptor)

    # ---- the exchange --------------------------------------------------------------------------------------

    def _exchange(
        self, frames: Sequence[bytes], seconds: float, bounds: Mapping[int, Bound] = MappingProxyType({})
    ) -> list[Answer]:
        self._asked = range(self._asked.stop, self._asked.stop + len(frames))
        self._got, self._silent_since = {}, None
        self._reader.expect(bounds)
        self._pending = memoryview(b"".join(frames))
        self._clock.start()
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ, self._read_answers)
            selector.register(self._prints, selectors.EVENT_READ, self._read_prints)
            selector.register(self._server, selectors.EVENT_READ, self._read_control)
            selector.register(self._input, selectors.EVENT_WRITE, self._write_input)
            while len(self._got) < len(frames) and self._status is None:
                if self._gone:
                    self._read_answers()
                    if self._status is None and len(self._got) < len(frames):
                        self._read_prints()
                        self._status, self.stopped_by = self._ending()
                    break
                deadline = self._watch(deadline, seconds)
                soon = LOOK_SECONDS if self._silent_since is not None else 60.0
                for key, _ in selector.select(min(deadline - time.monotonic(), soon)) if self.alive else ():
                    more: Callable[[], bool] = key.data
                    if not more():
                        selector.unregister(key.fileobj)
        self.seconds = self._clock.seconds()[0]
        return self._in_order(bounds)

    def _watch(self, deadline: float, seconds: float) -> float:
        """Stops it where it is silent or out of time; until when it may go on unseen."""
        now = time.monotonic()
        if self._silent_since is not None and self._clock.seconds()[0] >= self._silent_since + GRACE_SECONDS:
            self._stop(Status.DIED, "its answer pipe was closed")
            if self._full or (self._exit is not None and self._exit != signal.SIGKILL):  # it was at its end already
                self._status, self.stopped_by = self._ending()
        elif now >= deadline:
            counted, computed, queued = self._clock.seconds()
            deadline = now + seconds - counted
            if counted >= seconds:
                spent = f"computed {computed:.1f} s, waited {queued:.1f} s for a processor"
                self._stop(Status.TIME, f"deadline {seconds:g} s: {spent}")
        return deadline

    def _in_order(self, bounds: Mapping[int, Bound]) -> list[Answer]:
        answers, missing = [], Status.UNANSWERED if self._status is None else self._status
        for index in self._asked:
            if index not in self._got:  # the first one is what it was at
                most = bounds.get(index) if missing is Status.FLOOD else None
                self._got[index], missing = Answer(missing, most=most), Status.UNANSWERED
            answers.append(self._got[index])
        self._got = {}
        return answers

    # Each of these does what can be done without waiting, and says whether there may be more.

    def _write_input(self) -> bool:
        try:
            self._pending = self._pending[os.write(self._input, self._pending[:PIPE_BYTES]) :]
        except BlockingIOError:
            return True
        except OSError:  # it has closed its end
            return False
        return bool(self._pending)

    def _read_answers(self) -> bool:
        try:
            data = os.read(self._answers, PIPE_BYTES)
        except BlockingIOError:
            return True
        if not data:
            self._silent_since = self._clock.seconds()[0]
            return False
        try:
            for record in self._reader.feed(data):
                if record.index >= self._asked.stop:
                    raise Flood("an answer to what was not asked")
                if record.index in self._asked and record.index not in self._got:
                    self._got[record.index] = Answer(Status(record.status), record.tensors, record.note[:2000])
                    continue
                self._stray += 1
                if self._stray > MAX_STRAY:
                    raise Flood("many answers to one question")
        except Flood as flood:
            self._stop(Status.FLOOD, f"flood: {flood}")
        return True

    def _read_prints(self) -> bool:
        try:
            data = os.read(self._prints, PIPE_BYTES)
        except BlockingIOError:
            return True
        self._printed += data[: OUTPUT_KEPT - len(self._printed)]
        return bool(data)

    def _read_control(self) -> bool:
        self._hear()
        return self._server.alive

    def _hear(self, deadline: float = 0.0) -> None:
        """Takes what the fork server says until it is that this child has ended, or the deadline has passed."""
        while not self._gone and (message := self._server.message(deadline)) is not None:
            if "exit" in message:
                self._gone, self._exit, self._full = True, int(message["exit"]), str(message["full"])
        self._gone = self._gone or not self._server.alive

    # ---- the end -------------------------------------------------------------------------------------------

    def _ending(self) -> tuple[Status, str]:
        """What became of it. That it had no memory left is its own word: it can lie, and wins nothing by it."""
        if self._exit is None:
            return Status.DIED, "the jail's fork server ended"
        if self._full:
            return Status.DIED, f"scratch folder: {self._full}"
        if os.WIFSIGNALED(self._exit):
            number = os.WTERMSIG(self._exit)
            reasons = {signal.SIGKILL: ": out of memory or CPU time", getattr(signal, "SIGSYS", 0): ": seccomp"}
            named = {each.value: f" {each.name}" for each in signal.Signals}  # real-time signals have no names
            return Status.DIED, f"signal {number}{named.get(number, '')}{reasons.get(number, '')}"
        code = os.WEXITSTATUS(self._exit)
        if code == EXIT_WITHOUT_MEMORY:
            return Status.NO_MEMORY, "no memory was left before the answer"
        return Status.DIED, f"exit code {code} before the answer"

    def _stop(self, status: Status, reason: str) -> None:
        self._status, self.stopped_by = status, reason
        self._end()

    def _end(self) -> None:
        """Kills it and waits until the fork server says that it is gone; one that does not is ended itself."""
        if self._gone:
            return
        self._server.kill_child()
        self._hear(time.monotonic() + END_SECONDS)
        if not self._gone:
            self._server.alive, self._gone = False, True

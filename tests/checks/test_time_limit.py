"""Public tests end what computes too long, and do not blame code for a busy machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from types import FrameType

import pytest
import torch
from submissions import with_code, write

from hw7.checks import public, time_limit
from hw7.checks.cases import Verdict
from hw7.checks.public import Checks
from hw7.checks.time_limit import OutOfTime, TimeLimit


def spin() -> None:
    while True:
        pass


def spin_on() -> None:
    """Catches all errors, and goes on."""
    while True:
        with suppress(Exception):
            spin()


def spin_again() -> None:
    """Catches everything, once."""
    with suppress(BaseException):
        spin()
    spin()


@pytest.fixture(params=["timers", "watcher"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """With the timers that Linux and macOS have, and as on Windows, without."""
    if request.param == "timers":
        return time_limit._Timers
    monkeypatch.setattr(time_limit, "signal", None)  # not `delattr(signal, …)`: pytest-timeout needs it, too
    return time_limit._Watcher


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, it is computing that ends the block."""
    monkeypatch.setattr(time_limit, "WALL", 1000)


@pytest.mark.usefixtures("either", "busy")
def test_a_loop_is_ended_and_told_to_be_one() -> None:
    limit = TimeLimit(0.3)
    with pytest.raises(OutOfTime), limit:
        spin()
    assert "0.3 s of computing" in limit.message
    assert "loop" in limit.message


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("loop", [spin_on, spin_again])
def test_a_loop_that_catches_is_ended(loop: Callable[[], None]) -> None:
    limit = TimeLimit(0.3)
    with pytest.raises(OutOfTime), limit:
        loop()


@pytest.mark.parametrize("late", [(signal.SIGALRM, signal.SIGPROF), (signal.SIGALRM,), (signal.SIGPROF,)])
def test_both_limits_at_once_end_the_block_once(late: tuple[signal.Signals, ...]) -> None:
    """On a machine that stood still, both timers are over. The second must not end what stops the timers."""

    def at_once() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, late)
        try:
            for each in late:
                signal.raise_signal(each)  # in this thread: another one would take what is sent to the process
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, late)

    threads, handlers = torch.get_num_threads(), [signal.getsignal(each) for each in late]
    limit = TimeLimit(60)
    with pytest.raises(OutOfTime), limit:
        at_once()
    assert limit.passed > 0
    assert torch.get_num_threads() == threads
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)
    assert [signal.getsignal(each) for each in late] == handlers


def test_what_ends_by_itself_is_not_ended_while_its_limit_is_stopped(
    either: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = either.stop  # type: ignore[attr-defined]

    def late(guard: object) -> None:
        monkeypatch.setattr(time_limit, "WALL", 0)
        if either is time_limit._Timers:
            signal.raise_signal(signal.SIGALRM)
            signal.raise_signal(signal.SIGPROF)
        time.sleep(5 * time_limit.LOOK_SECONDS)
        stop(guard)

    monkeypatch.setattr(either, "stop", late)
    with TimeLimit(60):
        pass


def test_an_error_that_comes_as_the_block_ends_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher sees the block at work; when it sends the error, the block has just ended."""
    in_block, looking, looks = time_limit._in_block, threading.Event(), list[bool]()

    def look(frame: FrameType | None) -> bool:
        if not looks:
            looking.set()
            while in_block(sys._current_frames()[threading.main_thread().ident or 0]):
                time.sleep(0.01)
            time.sleep(0.2)  # from the first line that ends the block to the lock
        looks.append(not looks or in_block(frame))
        return looks[-1]

    monkeypatch.setattr(time_limit, "signal", None)
    monkeypatch.setattr(time_limit, "_in_block", look)
    monkeypatch.setattr(time_limit, "WALL", 0)
    with TimeLimit(60):
        assert looking.wait(300)  # seconds, on a very busy machine
    assert looks[:2] == [True, False]


def test_what_only_waits_is_ended_later_and_not_told_to_be_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = TimeLimit(0.5)
    with pytest.raises(OutOfTime), limit:
        time.sleep(10**6)
    assert limit.passed >= time_limit.WALL * 0.5
    assert "it ran 0 s of the 0.5 s" in limit.message
    assert "busy" in limit.message
    assert "loop" not in limit.message


@pytest.mark.usefixtures("either", "busy")
def test_waiting_is_not_computing() -> None:
    """As long as the limit, and half as long again: this is what a busy machine looks like from inside."""
    with TimeLimit(1.0) as limit:
        time.sleep(1.5)
    assert limit.passed > 1.5
    assert limit.computed < 1.0


@pytest.mark.usefixtures("either")
def test_what_is_in_time_is_left_alone() -> None:
    """One thread inside, as many as before after it; other people's alarms go on."""
    threads = torch.get_num_threads()
    before = signal.getsignal(signal.SIGALRM)
    with TimeLimit(60) as limit:
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
    assert 0 <= limit.computed < 60
    assert signal.getsignal(signal.SIGALRM) is before


def test_anothers_alarm_goes_on() -> None:
    before = signal.getitimer(signal.ITIMER_REAL)[0]
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with TimeLimit(60):
            pass
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
    finally:
        signal.setitimer(signal.ITIMER_REAL, before)


@pytest.fixture
def others() -> Iterator[None]:
    """Six processes that compute, on as many cores as there are."""
    with ExitStack() as stack:
        for _ in range(6):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


@pytest.mark.slow
def test_right_code_is_right_on_a_busy_machine(others: None) -> None:
    checks = Checks.of(None)
    slowest = [result for task in ("1.1", "1.2", "1.3", "2.2", "3.5") for result in checks.check(task)]
    assert {result.outcome.verdict for result in slowest} == {Verdict.RIGHT}


def test_a_loop_in_a_public_test_costs_its_task(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def select_channels(importance, keep):\n    while True: pass\n"
    checks = Checks.of(write(with_code({"pruning.py": code}), None, tmp_path))  # type: ignore[arg-type]
    with monkeypatch.context() as quick:
        quick.setattr(public, "PATIENCE", 0.25)  # too little for right code on a slow machine: for the loop only
        quick.setattr(time_limit, "WALL", 1000)  # however busy the machine is, it is computing that ends this
        results = checks.check("3.2")
    assert {result.outcome.verdict for result in results} == {Verdict.TIME}
    assert all("0.5 s of computing. Look for a loop" in result.outcome.message for result in results)
    assert all(result.right for result in checks.check("3.1"))

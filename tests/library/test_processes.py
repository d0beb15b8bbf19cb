"""Workers that are forked from a process which has prepared itself once: what they share, and how all of them end."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from processes import descendants, living, until

from hw7 import HW7Error
from hw7.support.workers import Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned, and prepare themselves")

made: list[int] = []  # in this process, by `prepare`


def prepare(log: Path) -> None:
    made.append(os.getpid())
    with log.open("a") as file:
        file.write("prepared\n")


def seen(wait_for: Path | None = None) -> tuple[list[int], int, int]:
    """What is made here; this process and its parent."""
    if wait_for is not None:
        (wait_for / str(os.getpid())).touch()
        until(lambda: len(list(wait_for.iterdir())) == 2)  # the other task runs in another worker, at the same time
    return made, os.getpid(), os.getppid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_it_is_prepared_once_for_all(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    with Workers(2, partial(prepare, tmp_path / "log")) as workers:
        one, two = (workers.submit(seen, tmp_path / "both") for _ in range(2))
        (first, pid, parent), (second, other, its_parent) = one.result(), two.result()
        everyone = descendants(os.getpid()) - {os.getpid()}
        assert {pid, other, parent} <= everyone
    assert pid != other
    assert first == second == [parent] == [its_parent]
    assert (tmp_path / "log").read_text() == "prepared\n"
    assert made == []
    until(lambda: not {pid, other, parent} & living().keys())


def test_a_dead_worker_costs_no_other_preparation(tmp_path: Path) -> None:
    with Workers(1, partial(prepare, tmp_path / "log")) as workers:
        made_by, pid, _ = workers.submit(seen).result()
        with pytest.raises(BrokenExecutor, match="-9"):
            workers.submit(die).result()
        again, new, _ = workers.submit(seen).result()
        assert made_by == again
        assert new != pid
    assert (tmp_path / "log").read_text() == "prepared\n"


def test_all_of_them_end_with_the_one_that_was_prepared(tmp_path: Path) -> None:
    """And the next task gets new ones."""
    with Workers(1, partial(prepare, tmp_path / "log")) as workers:
        _, pid, parent = workers.submit(seen).result()
        running = workers.submit(time.sleep, 10**6)
        os.kill(parent, signal.SIGKILL)
        assert isinstance(running.exception(), BrokenExecutor)
        until(lambda: not {pid, parent} & living().keys())
        assert workers.submit(pow, 2, 10).result() == 1024
    assert (tmp_path / "log").read_text() == "prepared\nprepared\n"


def in_vain(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [(HW7Error("no images"), HW7Error, "^no images$"), (ZeroDivisionError("by zero"), RuntimeError, "Zero.*by zero")],
)
def test_what_it_raises_comes_back(error: Exception, kind: type[Exception], text: str) -> None:
    with Workers(2, partial(in_vain, error)) as workers:
        for future in [workers.submit(pow, 2, 10) for _ in range(3)]:
            with pytest.raises(kind, match=text):
                future.result()


def leave_a_thread() -> None:
    made.append(0)
    threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()


def test_nothing_is_forked_from_a_process_with_threads() -> None:
    with Workers(1, leave_a_thread) as workers:
        assert workers.submit(seen).result()[0] == []


def test_leaving_stops_what_is_not_waited_for(tmp_path: Path) -> None:
    """While it prepares itself, and when a task runs."""
    with Workers(1, partial(time.sleep, 10**6)) as workers:
        waiting = workers.submit(pow, 2, 10)
        until(waiting.running)
    assert isinstance(waiting.exception(), BrokenExecutor)
    with Workers(1, partial(prepare, tmp_path / "log")) as workers:
        _, pid, parent = workers.submit(seen).result()
        running = workers.submit(time.sleep, 10**6)
        until(running.running)
    assert isinstance(running.exception(), BrokenExecutor)
    until(lambda: not {pid, parent} & living().keys())


MAIN = """
import sys, time
from functools import partial
from pathlib import Path
from hw7.support.workers import Workers
def prepare(folder, seconds):
    Path(folder, "preparing").touch()
    time.sleep(seconds)
def work(folder):
    Path(folder, "working").touch()
    time.sleep(600)
if __name__ == "__main__":
    with Workers(1, partial(prepare, sys.argv[1], float(sys.argv[2]))) as executor:
        executor.submit(work, sys.argv[1]).result()
"""


@pytest.mark.parametrize(("begun", "seconds"), [("preparing", 600.0), ("working", 0.0)])
def test_they_end_with_their_parent(begun: str, seconds: float, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    with subprocess.Popen([sys.executable, tmp_path / "main.py", tmp_path, str(seconds)]) as process:
        until(lambda: (tmp_path / begun).exists() or process.poll() is not None)
        everyone = descendants(process.pid)
        assert len(everyone) >= (3 if begun == "working" else 2)
        process.kill()
    until(lambda: not everyone & living().keys())


def test_they_outlive_the_thread_that_started_them(tmp_path: Path) -> None:
    """As where an executor is asked from a thread that ends."""
    with Workers(1, partial(prepare, tmp_path / "log")) as workers:
        with ThreadPoolExecutor(1) as thread:
            _, pid, _ = thread.submit(lambda: workers.submit(seen).result()).result()
        assert workers.submit(seen).result()[1] == pid

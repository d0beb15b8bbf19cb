"""Processes of a test: who is alive, who came from whom, waiting for them, and one that holds a folder."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def living() -> dict[int, int]:
    """The parent of each process that is no zombie."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    return parents


def descendants(pid: int) -> set[int]:
    """This process and all that come from it."""
    parents, found = living(), {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Waits, as long as a busy machine may need; for what does not happen, a test takes its time to fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextmanager
def another_process_in(folder: Path) -> Iterator[None]:
    """In here, the folder is in use."""
    code = (
        "import filelock, sys\n"
        "with filelock.FileLock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield
        finally:
            process.kill()

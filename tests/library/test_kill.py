"""`kill -9` at random moments of `hw7 reproduce`, after which the same results come out in the end; and Ctrl-C."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import descendants, living, until

from hw7.support.files import UNFINISHED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]  # twenty starts, each of which may take minutes

KILLS = 20
ONLY = ("student-e", "prune-0.9", "quantized-8")


@dataclass
class Runner:
    """`hw7 reproduce` into one folder, decoding its images into a cache of its own."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "out" / "results.json"

    @property
    def begun(self) -> bool:
        """Whether its imports are behind it."""
        return (self.folder / "out").exists() or (self.folder / "cache").exists()

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """In a process group of its own. One thread: results are equal to the bit for equal numbers of threads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["reproduce", "--profile", "smoke", "--device", "cpu", "--out", "out"]
        for name in ONLY:
            command += ["--only", name]
        command += more
        environment = os.environ | {"HW7_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [Path(sys.executable).parent / "hw7", *command],
                cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def finish(self) -> bytes:
        """Runs it to its end; the results."""
        with self.start() as process:
            code = process.wait(timeout=900)
        assert code == 0, (self.folder / "log").read_text()
        return self.results.read_bytes()

    def kill_after(self, seconds: float) -> bool:
        """Starts it and kills it; whether it was still at work then."""
        with self.start() as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=seconds)
            running = process.poll() is None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        assert code in (0, -signal.SIGKILL), (self.folder / "log").read_text()
        return running and code == -signal.SIGKILL

    def files(self) -> set[str]:
        """What is done for good: whole files, by name. A checkpoint goes when its run is done."""
        passing = ("log", ".lock", "checkpoint.pt")
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name not in passing)
        return {str(path.relative_to(self.folder)) for path in found if path.suffix != UNFINISHED}


def measured(runner: Runner) -> tuple[bytes, float, float]:
    """The results, after how many seconds it began to work, and after how many it was done."""
    start = time.monotonic()
    with runner.start() as process:
        while not runner.begun and process.poll() is None:
            time.sleep(0.01)
        begun = time.monotonic() - start
        assert process.wait(timeout=900) == 0, (runner.folder / "log").read_text()
    return runner.results.read_bytes(), begun, time.monotonic() - start


def test_kill_at_random_moments(tmp_path: Path) -> None:
    """Twenty kills of a process that is at work, each soon after its imports, so that a folder sees several of them.
    Where there are results, they are those of an uninterrupted run; then the next folder is begun, from no cache.

    The machine may get slower or faster on the way: kills that come too late move forward, those that come before
    anything was done move back."""
    seed = int(os.environ.get("HW7_KILL_SEED") or random.randrange(10**6))
    print(f"HW7_KILL_SEED={seed} repeats these moments")  # pytest shows it when the test fails
    draw = random.Random(seed)
    wanted, begun, done = measured(Runner(tmp_path / "uninterrupted"))

    hits, folders, pace = 0, 1, 1.0
    moments: list[int] = []  # how many files were done at each kill
    runner = Runner(tmp_path / "killed 1")
    while hits < KILLS:
        if runner.results.exists():
            assert runner.results.read_bytes() == wanted
            folders += 1
            runner = Runner(tmp_path / f"killed {folders}")
        before = runner.files()
        if runner.kill_after(pace * draw.uniform(begun, begun + (done - begun) / 2)):
            hits += 1
            moments.append(len(runner.files()))
            assert before <= runner.files(), "a kill took something that was done"
            pace *= 1.2 if runner.files() == before else 1.0
        else:
            pace *= 0.8
    assert runner.finish() == wanted  # the last one was killed, too
    print(f"{hits} kills in {folders} folders; files that were done at each: {moments}")
    assert len(set(moments)) >= 5, "the kills all hit the same few moments"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_ctrl_c_ends_with_a_sentence(tmp_path: Path) -> None:
    """As a terminal does it: to all processes at once, while two workers train."""
    done = tmp_path / "out" / "runs" / "pretraining" / "result.json"
    with Runner(tmp_path).start("--jobs", "2") as process:
        until(lambda: done.exists() or process.poll() is not None, seconds=900)
        everyone = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(timeout=900)
    until(lambda: not everyone & living().keys())  # the resource tracker speaks last
    log = (tmp_path / "log").read_text()
    assert code == 130, log
    assert log.endswith("hw7: interrupted. What is done is kept; run the same again to go on.\n")
    assert "resource_tracker" not in log
    assert "Traceback" not in log
    assert done.exists()

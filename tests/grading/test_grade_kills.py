"""Fifty kills at random moments of a run of thirty submissions: afterwards everybody has the one grade of a quiet run.

What takes long in a run is not grading but starting: Python, then torch in each worker, then its jail. So one task is
graded, the cheapest, and two kills of three wait for the first new grade and hit soon after it; the third hits anywhere
before, in the start. Where a run comes to its end between two kills, its grades are compared, and the next OUT begins.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import submissions
from made_up_class import REAL_RUBRIC, comparable
from processes import descendants, living, until

from autograder.grades import Grade
from autograder.jail import best_tier
from autograder.journal import Key, current_marks, read_journals
from autograder.tasks.hidden import new_seed, write_seed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),  # fifty starts, each of which may take a minute
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc"),
]

KILLS, STUDENTS, TASK = 50, 30, "3.4"


@dataclass
class Runner:
    """`hw7-grade run` of one class into a folder of its own."""

    folder: Path
    out: Path

    def start(self) -> subprocess.Popen[bytes]:
        words = ["run", self.folder / "submissions", "--out", self.out, "--rubric", self.folder / "rubric.toml"]
        words += ["--jobs", "2", "--hidden-seed-file", self.folder / "seed", "--tier", best_tier()[0]]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [Path(sys.executable).parent / "hw7-grade", *words], stdout=log, stderr=log, start_new_session=True
            )

    def journal(self) -> list[Grade]:
        return read_journals(self.out)

    def finish(self) -> list[Grade]:
        """Runs it to its end; the current grades, as they can be compared."""
        with self.start() as process:
            code = process.wait(timeout=900)
        assert code == 0, (self.folder / "log").read_text()
        return self.grades()

    def grades(self) -> list[Grade]:
        marks = current_marks(self.out)
        assert marks.missing == ()
        return [comparable(mark) for mark in marks.graded]

    def kill(self, draw: random.Random, begun: float, lasts: float) -> bool:
        """Starts it and kills it at a random moment, the whole group or the coordinator alone; whether it was at work.
        All of its processes are gone soon, whoever was hit."""
        before = len(self.journal())
        with self.start() as process:
            if draw.random() < 2 / 3:
                until(lambda: process.poll() is not None or len(self.journal()) > before)
                time.sleep(draw.uniform(0, lasts))
            else:
                time.sleep(draw.uniform(0, begun))
            everyone = descendants(process.pid)
            running = process.poll() is None
            if draw.random() < 0.5:
                process.kill()
            elif running:
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        until(lambda: not everyone & living().keys())
        assert code in (0, -signal.SIGKILL), (self.folder / "log").read_text()
        return running and code == -signal.SIGKILL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty students who solve one task, each in a way of their own, right or wrong; and a rubric of that task."""
    wrong = [entry.files for entry in submissions.mutants() if entry.task == TASK]
    right = [entry.files for entry in submissions.alternatives()]
    for n, files in enumerate((wrong + right)[:STUDENTS]):
        submissions.write(files, None, tmp_path / "submissions" / f"student{n:02}")
    (tmp_path / "rubric.toml").write_text(REAL_RUBRIC)
    write_seed(tmp_path / "seed", new_seed())  # the same for all runs
    return tmp_path


def test_fifty_kills(folder: Path) -> None:
    seed = int(os.environ.get("HW7_KILL_SEED") or random.randrange(10**6))
    print(f"HW7_KILL_SEED={seed} repeats these moments")  # pytest shows it when the test fails
    draw = random.Random(seed)
    quiet = Runner(folder, folder / "quiet")
    start = time.monotonic()
    with quiet.start() as process:
        until(lambda: process.poll() is not None or quiet.journal() != [])
        begun = time.monotonic() - start
        assert process.wait(timeout=900) == 0, (folder / "log").read_text()
    lasts = time.monotonic() - start - begun
    wanted = quiet.grades()
    assert len(wanted) == STUDENTS
    assert len({grade.total for grade in wanted}) > 1

    hits, outs = 0, 1
    moments: Counter[int] = Counter()  # how many were graded at each kill
    runner = Runner(folder, folder / "out 1")
    while hits < KILLS:
        kept = [Key.of(grade) for grade in runner.journal()]
        if len(kept) == STUDENTS:
            assert runner.finish() == wanted
            outs += 1
            runner = Runner(folder, folder / f"out {outs}")
            continue
        if runner.kill(draw, begun, lasts / 4):
            hits += 1
            keys = [Key.of(grade) for grade in runner.journal()]
            moments[len(keys)] += 1
            assert keys[: len(kept)] == kept, "a kill took a grade that was written"
            assert len(set(keys)) == len(keys), "somebody was graded twice"
        else:  # too late: the machine is faster now
            lasts, begun = 0.8 * lasts, 0.8 * begun
    assert runner.finish() == wanted
    print(f"{hits} kills in {outs} runs; grades at each: {moments}")
    assert len(moments) >= 5, "the kills all hit the same few moments"

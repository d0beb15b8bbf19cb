"""kill -9 while a person decides, and while a class is scored again: twenty times each, at random moments.

Afterwards the same command again, and everything stands in the journal once: what was told to be written is there, and
nothing is there twice.
"""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import made_up_grades
import pytest

from autograder.journal import Key, current_marks, read_entries, read_journals
from autograder.marks import Decision
from autograder.rubric import DEFAULT_RUBRIC

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills a process group")]

KILLS = 20


class Killed:
    """Types commands into one OUT, and kills them."""

    def __init__(self, out: Path) -> None:
        self.out, self.draw, self.hits = out, random.Random(9), Counter[str]()

    def start(self, words: Sequence[object]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from autograder.cli import app; app()", *map(str, words), "--out", self.out]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def finish(self, words: Sequence[object]) -> float:
        """Seconds that it takes to its end."""
        began = time.monotonic()
        with self.start(words) as process:
            assert process.wait(timeout=600) == 0
        return time.monotonic() - began

    def kill(self, words: Sequence[object], lasts: float) -> None:
        """At a random moment; half of them around the one at which it first writes."""
        size = self.size()
        with self.start(words) as process:
            if self.draw.random() < 0.5:
                while process.poll() is None and self.size() == size:
                    time.sleep(0.0005)
                time.sleep(self.draw.choice([0.0, 0.001, 0.005]))
            else:
                time.sleep(self.draw.uniform(0, lasts))
            self.hits["running" if process.poll() is None else "ended"] += 1
            self.hits["written" if self.size() > size else "nothing written"] += 1
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.out.glob("journal*"))


def test_decisions(tmp_path: Path) -> None:
    folder = Killed(made_up_grades.a_folder(tmp_path / "out", 5))
    kinds: list[tuple[object, ...]] = [
        ("override", "student-0001", "3.1", 2, "--because", "Heard"), ("comment", "student-0002", "A word"),
        ("late", "student-0003", 2),
    ]  # fmt: skip
    lasts = folder.finish(("comment", "student-0004", "First"))
    for number in range(KILLS):
        *start, last = kinds[number % 3]
        last = number + 1 if start[0] == "late" else f"{last} {number}"  # each decides something new
        words = [*start, last]
        folder.kill(words, lasts)
        folder.finish(words)
        decisions = [entry for entry in read_entries(folder.out) if isinstance(entry, Decision)]
        assert len(decisions) == number + 2
        assert decisions[-1].kind == words[0]
        assert str(last) in (decisions[-1].because, getattr(decisions[-1], "text", ""), f"{number + 1}")
    marks = {mark.student: mark for mark in current_marks(folder.out).marks}
    assert [comment.text for comment in marks["student-0002"].comments] == [f"A word {n}" for n in range(1, KILLS, 3)]
    assert len(read_journals(folder.out)) == 5
    assert folder.hits["running"] > KILLS // 2


def test_scoring_again(tmp_path: Path) -> None:
    students = 40
    folder = Killed(made_up_grades.a_folder(tmp_path / "out", students))
    text, rubric = DEFAULT_RUBRIC.read_text(), tmp_path / "rubric.toml"
    assert "values = 5, gradient = 4" in text
    totals = [[mark.total for mark in current_marks(folder.out).marks]]
    lasts = 1.0
    for number in range(KILLS):
        worth = 0.1 * (number + 1)
        rubric.write_text(
            text.replace("values = 5, gradient = 4", f"values = {5 - worth:.1f}, gradient = {4 + worth:.1f}")
        )
        folder.kill(("rescore", "--rubric", rubric), lasts)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # no line but an unfinished last one is torn
            between = [mark.total for mark in current_marks(folder.out).marks]
        lasts = folder.finish(("rescore", "--rubric", rubric))
        marks = current_marks(folder.out)
        assert marks.missing == ()
        totals.append([mark.total for mark in marks.marks])
        assert between in totals[-2:]  # all of the old ones, or all of the new ones
        grades = read_journals(folder.out)
        assert len(grades) == students * (number + 2)
        assert max(Counter(map(Key.of, grades)).values()) == 1
    assert len({str(each) for each in totals}) == KILLS + 1
    assert folder.hits["running"] > KILLS // 2

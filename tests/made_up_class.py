"""A class whose grades are made up, for tests of everything that is not grading itself."""

import csv
import hashlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from autograder import rubric as rubric_module
from autograder.batch import RunReport, Settings, run
from autograder.grades import Grade, TaskGrade
from autograder.intake.submission import Submission
from autograder.journal import read_journals
from autograder.rubric import Rubric, load_rubric
from hw7 import HW7Error
from hw7.checks.cases import Outcome, PartScore, Verdict

PARTS = {"values": 60.0, "gradient": 40.0}


RUBRIC = '[[task]]\nid = "2.1"\ntitle = "Distillation loss"\ncheck = "made_up"\nseconds = 10\n' + (
    f"points = {{ {', '.join(f'{name} = {points}' for name, points in PARTS.items())} }}\n"
)


REAL_RUBRIC = """
[[task]]
id = "3.4"
title = "Width schedule"
check = "width_schedule"
seconds = 10
points = { ladders = 60, floor = 20, refusals = 20 }
"""  # the cheapest of the real tasks


def made_up(submission: Submission, settings: Settings) -> Grade:
    """A grade that depends on the submission's bytes and the seed alone, after what losses.py says."""
    what, _, argument = submission.files.get("solution/losses.py", b"").decode().strip().partition(" ")
    if what == "die" and not (argument and Path(argument).exists()):  # with an argument: the first time only
        if argument:
            Path(argument).touch()
        time.sleep(0.5)  # a worker that dies at once, Dask takes for one that cannot start, and starts no other
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise RuntimeError("a bug of ours")
    if what == "refuse":
        raise HW7Error("there are no thresholds for these images")
    if what == "sleep":
        time.sleep(float(argument))
    luck = hashlib.sha256(submission.digest.encode() + settings.seed).digest()
    parts = []
    for (name, points), byte in zip(PARTS.items(), luck, strict=False):
        right = byte % 2 == 0 and not submission.problem
        verdict = Verdict.RIGHT if right else Verdict.WRONG
        parts.append(PartScore(name, points, Outcome(verdict, got=str(byte))))
    task = TaskGrade("2.1", "Distillation loss", tuple(parts), seconds=time.time())
    return Grade(
        *settings.key(submission), tier=settings.tier, tasks=(task,), remarks=submission.remarks,
        problem=submission.problem, output=f"printed by process {os.getpid()}", seconds=time.time(),
    )  # fmt: skip


@pytest.fixture
def rubric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rubric:
    monkeypatch.setitem(rubric_module.PARTS, "made_up", tuple(PARTS))
    path = tmp_path / "rubric.toml"
    path.write_text(RUBRIC)
    return load_rubric(path)


@pytest.fixture
def settings(rubric: Rubric) -> Settings:
    return Settings(rubric, b"seed")


class Class:
    """A folder of submissions, and the folder OUT beside it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.submissions, self.out, self.settings = folder / "submissions", folder / "out", settings

    def hand_in(self, **students: str) -> None:
        """What each student's losses.py says."""
        for student, text in students.items():
            folder = self.submissions / student / "solution"
            folder.mkdir(parents=True, exist_ok=True)
            for module in ("__init__", "models", "pruning", "quantization"):
                (folder / f"{module}.py").write_text("")
            (folder / "losses.py").write_text(text)

    def run(self, settings: Settings | None = None, **options: object) -> RunReport:
        options = {"grade": made_up, "jobs": 2, **options}
        return run(self.submissions, self.out, settings or self.settings, **options)  # type: ignore[arg-type]

    def lines(self) -> int:
        return len(read_journals(self.out))

    def csv(self) -> dict[str, dict[str, str]]:
        with (self.out / "grades.csv").open(newline="") as file:
            return {row["student"]: row for row in csv.DictReader(file)}


@pytest.fixture
def a_class(tmp_path: Path, settings: Settings) -> Class:
    made = Class(tmp_path, settings)
    made.hand_in(**{f"student{n:02}": f"# {n}" for n in range(12)})
    return made


def comparable(grade: Grade) -> Grade:
    """What must be equal whenever the same submission is graded with the same seed, wherever and among whatever else.

    Left out are times, and what student code printed or raised: both can hold addresses, process numbers, the hour.
    """

    def part(each: PartScore) -> PartScore:
        return replace(each, outcome=replace(each.outcome, note=""))

    def task(each: TaskGrade) -> TaskGrade:
        return replace(each, seconds=0.0, parts=tuple(part(line) for line in each.parts))

    return replace(grade, seconds=0.0, output="", tasks=tuple(task(each) for each in grade.tasks))


def graded(result: RunReport) -> list[Grade]:
    return [comparable(grade) for grade in result.grades]

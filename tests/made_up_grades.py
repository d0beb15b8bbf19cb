"""Grades that nobody earned: of every kind that a page, a gradebook or Gradescope may have to show."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autograder.exports.common import digest
from autograder.grades import Grade, Network, TaskGrade, handed_in
from autograder.journal import Journal, Run, journal_name
from autograder.marks import Comment, Late, Mark, Override, Standing, mark
from autograder.rubric import LatePolicy, Rubric, asked_digest, load_rubric, rubric_digest
from autograder.tasks.hidden import Hidden
from autograder.worker import grader_digest
from hw7.checks.cases import Outcome, PartScore, Task, Verdict
from hw7.checks.handed_in import Measured

# A rubric like the real one; its own copy, so that these tests hold for any rubric.
TASKS = {
    "1.1": ("Depthwise separable block", {"structure": 2, "values": 3}),
    "1.2": ("DW + PW ResNet-18", {"parameters": 3, "values": 4}),
    "1.3": ("The two students", {"cnn": 4, "dw": 4}),
    "2.1": ("Distillation loss", {"values": 5, "gradient": 4, "confident": 3, "shift": 1, "teacher": 1}),
    "2.2": ("Distillation step", {"step": 5, "teacher": 3, "loss": 2}),
    "3.1": ("Channel importance", {"values": 3}),
    "3.2": ("Channel selection", {"order": 3, "bounds": 2}),
    "3.3": ("Network slimming", {"dead": 6, "wiring": 4, "bounds": 2}),
    "3.4": ("Width schedule", {"ladders": 5}),
    "3.5": ("Iterative pruning", {"falling": 3, "handover": 4}),
    "4.1": ("Quantize", {"bound": 5, "constant": 3}),
    "4.2": ("Compress", {"bytes": 4, "names": 4}),
    "5.1": ("Size", {"size": 2}),
    "5.2": ("Accuracy", {"simple": 2.5, "strong": 3.5}),
}
RUBRIC = Rubric(
    tuple(Task(id, title, "made_up", 10.0, parts, {}, {}) for id, (title, parts) in TASKS.items()),
    "0" * 64,
    Path("rubric.toml"),
)

# Strings that try to leave the place they are put in. Each raises an alert or changes the title where it succeeds.
HOSTILE = (
    "<script>document.title='stolen'</script>",
    "\"><img src=x onerror=\"document.title='stolen'\">",
    "'; document.title='stolen'; //",
    "</title></style><script>document.title='stolen'</script>",
    "<svg/onload=document.title='stolen'>",
    "<a href=\"javascript:document.title='stolen'\">click</a>",
    "{{ 7 * 7 }}{% raise %}",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/stolen'>",
    "<link rel=stylesheet href=http://127.0.0.1:9/stolen.css><iframe src=http://127.0.0.1:9/stolen></iframe>",
    "-->]]><![CDATA[<!--",
    "=HYPERLINK(\"http://127.0.0.1:9/stolen\")",
    "a\u202egnp.exe\u0000\u0007\x1b[31m\udcff\ud800",
)  # fmt: skip

FAULTS = {
    Verdict.WRONG: ("Some values differ.", "0.693147", "0.063013"),
    Verdict.TIME: ("It was stopped after 10 s.", "", ""),
    Verdict.MEMORY: ("It took more than 1,024 MB.", "", ""),
    Verdict.OUTPUT: ("It returned another number of tensors.", "3 tensors", "1 tensor"),
    Verdict.CRASH: ("It raised an exception.", "", ""),
    Verdict.MISSING: ("There is no such function, or it is a stub.", "", ""),
}
MISTAKES = {"2.1": "kd-mean-over-classes", "3.1": "importance-signed", "3.4": "schedule-rounds"}


def part(name: str, out_of: float, verdict: Verdict = Verdict.RIGHT, task: str = "") -> PartScore:
    """A part with all of its points, or with none and everything that a grader may say."""
    if verdict is Verdict.RIGHT:
        return PartScore(name, out_of, Outcome(verdict))
    message, expected, got = FAULTS[verdict]
    mistake = MISTAKES.get(task, "") if verdict is Verdict.WRONG else ""
    note = f"TEACHERS-ONLY: {verdict} in {name}"
    outcome = Outcome(verdict, message, expected, got, mistake=mistake, note=note)
    return PartScore(name, out_of, outcome, "11 classes, T = 2")


def grade(student: str, chance: float = 1.0, verdicts: tuple[Verdict, ...] = (Verdict.WRONG,), seed: int = 0) -> Grade:
    """A grade each of whose parts is right with this chance, and else has one of these verdicts."""
    draw = random.Random(f"{student!a} {seed}")
    tasks = [
        TaskGrade(
            id,
            title,
            tuple(
                part(name, out_of, Verdict.RIGHT if draw.random() < chance else draw.choice(verdicts), id)
                for name, out_of in parts.items()
            ),
            0.1,
        )
        for id, (title, parts) in TASKS.items()
    ]
    output = "" if chance == 1 else "TEACHERS-ONLY: printed by student code\n"
    manual = ("question-1", "question-2")
    return Grade(student, digest(student), "1" * 64, "2" * 64, "A", tuple(tasks), manual, (), "", output, 1.25)


def broken(student: str, problem: str = "The zip file is damaged: hand it in again.") -> Grade:
    """A submission that could not be graded."""
    return replace(grade(student, 0.0), tasks=(), manual=(), problem=problem, output="", seconds=0.0)


def hostile(text: str, student: str = "") -> Grade:
    """A grade with this text in every field that holds one."""
    made = grade(student or text, 0.0)
    words = dict.fromkeys(("message", "expected", "got", "mistake"), text)
    tasks = tuple(
        replace(
            task,
            parts=tuple(
                replace(each, case=text, outcome=replace(each.outcome, **words, note=f"TEACHERS-ONLY {text}"))
                for each in task.parts
            ),
        )
        for task in made.tasks
    )
    return replace(made, tasks=tasks, manual=(text,), remarks=(text,), output=f"TEACHERS-ONLY {text}")


def decided(grade: Grade, text: str = "A reason", rubric: Rubric = RUBRIC, **more: Any) -> Mark:
    """The mark of a grade about which somebody decided everything that can be decided, in these words."""
    by = {"student": grade.student, "by": text, "at": "2026-11-28T12:00:00+00:00"}
    decisions = (
        Override(task="2.1", points=6.5, because=text, submission="other files", out_of=14, **by),
        Comment(text=text, **by),
        Late(days=2, because=text, **by),
    )
    rubric = replace(rubric, late=LatePolicy(points_per_day=1))
    return mark(grade, rubric, Standing.of(decisions), **more)


def a_class(students: int = 40) -> list[Grade]:
    """Students of all kinds, most of them good, and some trouble."""
    draw = random.Random(7)
    grades = [
        grade(f"student-{n:04d}", min(1.0, draw.betavariate(5, 1.3) + 0.05), (Verdict.WRONG,) * 6 + tuple(FAULTS))
        for n in range(students - 4)
    ]
    return [
        *grades,
        grade("all-right"),
        grade("all-wrong", 0.0),
        broken("broken-zip"),
        replace(grade("no-jail", 0.7), tier="D", remarks=("hw7.ipynb is missing", "notes.txt was ignored")),
    ]


def a_folder(out: Path, students: int | Sequence[str], seed: int = 0) -> Path:
    """OUT as a run leaves it, with made-up grades of these students, or of so many, under the course's rubric, by this
    grader."""
    names = tuple(f"student-{n:04}" for n in range(students)) if isinstance(students, int) else tuple(students)
    rubric, hidden = load_rubric(), Hidden(b"made up").digest()
    asked = Run(
        rubric_digest(rubric, hidden), rubric.text, None, asked_digest(rubric, hidden), hidden, grader_digest("A"),
        "plates", "A", names,
    )  # fmt: skip
    with Journal(out / journal_name()) as journal:
        grades = []
        for student in asked.students:
            draw = random.Random(f"{student} {seed}")
            network = Network({"weights": 200_000, "source": 20_000}, Measured(draw.random()), "plates", 1000)
            tasks = tuple(
                TaskGrade(
                    task.id,
                    task.title,
                    handed_in(network).parts(task, rubric.tasks)
                    if not task.has_cases
                    else tuple(
                        part(name, out_of, Verdict.RIGHT if draw.random() < 0.8 else Verdict.WRONG)
                        for name, out_of in task.points.items()
                    ),
                )
                for task in rubric.tasks
            )
            made = Grade(student, digest(student), asked.rubric, asked.grader, "A", tasks, asked=asked.asked)
            grades.append(replace(made, network=network))
        journal.append(asked, *grades)
    return out

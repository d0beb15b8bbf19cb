"""An appeal: one hidden case as a program, with the student's files, for the teacher alone.

The case is put to the student's code once more, in the jail, and what came back is judged; so what stands there is what
the grader sees. The program that is written beside it runs without a jail.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from autograder.exports.common import display_name, printable
from autograder.grading import hidden_cases_of
from autograder.intake.layouts import find_submissions
from autograder.intake.submission import Submission, take_in
from autograder.jail import Jail
from autograder.journal import ClassMarks
from autograder.marks import Mark
from autograder.tasks.hidden import Hidden, read_seed, stretched
from hw7 import HW7Error
from hw7.checks.cases import Case, Outcome, Task
from hw7.checks.scoring import AnswerSheet
from hw7.checks.show import Heading, case_named, program
from hw7.checks.storage import save_cases
from hw7.support.files import check_place, write_file

PROGRAM, CASE, ABOUT = "case.py", "case.safetensors", "about.txt"
HOW = "It runs the student's code WITHOUT a jail: read solution/ first, or run it where there is nothing to lose."


class Appeal(NamedTuple):
    """What was found, and the folder that holds it."""

    case: Case
    outcome: Outcome
    folder: Path


def write_case(
    out: Path, marks: ClassMarks, mark: Mark, task_id: str, name: str, to: Path, submissions: Path | None = None
) -> Appeal:
    """Writes the folder `to`: `case.py`, the case, the student's `solution`, and `about.txt` with expected and got.

    out: holds the run's hidden seed. submissions: where they are now, if not where the run found them. Raises HW7Error
    where the task or case is not there, or the files are not those that were graded.
    """
    task = next((task for task in marks.rubric.tasks if task.id == task_id), None)
    if task is None:
        raise HW7Error(f"there is no task {task_id!r}; there are {', '.join(task.id for task in marks.rubric.tasks)}")
    if not task.has_cases:
        raise HW7Error(
            f"task {task_id} has no cases: its network is judged as it is. `hw7-grade show STUDENT --teacher` has the "
            "exact figures, and `hw7-grade run … --student STUDENT --again` measures them again"
        )
    hidden = Hidden(stretched(read_seed(out / "hidden-seed")), marks.run.source)
    if hidden.digest() != marks.run.hidden:
        raise HW7Error(f"{out / 'hidden-seed'} is not the seed of these grades, whose questions are gone with theirs")
    submission = _submission(marks, mark, submissions)
    case = case_named(task, hidden_cases_of(task, hidden), name)
    check_place(to, folder=True)
    if to.exists() and any(to.iterdir()):
        raise HW7Error(f"{to} is not empty: name another folder with --to")
    outcome = _asked_again(submission.files, task, case, marks)
    to.mkdir(parents=True, exist_ok=True)
    to.chmod(0o700)  # the case is hidden from everybody else
    for path, data in submission.files.items():
        write_file(to / path, data)
    save_cases([case], to / CASE)
    command = f'hw7-grade case "{display_name(mark.student)}" {task.id} "{case.name}" --out {out} --to {to}'
    heading = Heading("A hidden case, for teachers alone,", command, HOW)
    write_file(to / PROGRAM, program(task, case, (to / CASE).resolve(), to.resolve(), heading).encode())
    write_file(to / ABOUT, about(mark, task, case, outcome).encode())
    return Appeal(case, outcome, to)


def about(mark: Mark, task: Task, case: Case, outcome: Outcome) -> str:
    """What the grader expected and got, now and when it graded; in what submitted code raised, nothing steers a
    terminal."""
    graded = next(task_mark for task_mark in mark.tasks if task_mark.task == task.id)
    part = next(part for part in graded.parts if part.part == case.part)
    lines = [
        f"student   {display_name(mark.student)}",
        f"files     {mark.submission[:16]}",
        f"task      {task.id} {task.title}: {case.part}",
        f"case      {case.name}",
        f"verdict   {outcome.verdict.lower()}",
        f"expected  {outcome.expected or 'see case.py'}",
        f"got       {outcome.got or ('the same' if outcome.verdict == 'RIGHT' else outcome.note)}",
        f"said      {outcome.message}",
        "",
        f"When it was graded, {case.part} was {part.outcome.verdict.lower()}"
        + (f" at: {part.case}" if part.case else ""),
    ]
    return "\n".join(printable(" ".join(line.splitlines())).rstrip() for line in lines) + "\n"


def _submission(marks: ClassMarks, mark: Mark, place: Path | None) -> Submission:
    """The files that were graded. Raises HW7Error where they are others, or not there."""
    known = marks.run.submissions
    root, roster = str(place or known["root"]), known["roster"]
    found = find_submissions(
        root, known["assignment"] or "hw7", None if place else known["layout"], Path(roster) if roster else None
    )
    location = next((each for each in found.found if each.student == mark.student), None)
    if location is None:
        raise HW7Error(f"there is no submission of {mark.student!r} in {root}: say where it is with --submissions")
    submission = take_in(location)
    if submission.digest != mark.submission:
        raise HW7Error(
            f"the files of {mark.student!r} in {root} are not those that were graded: run `hw7-grade run` again first, "
            "or say with --submissions where those of then are"
        )
    if submission.problem:
        raise HW7Error(f"{mark.student!r} could not be graded, so nothing was asked: {submission.problem}")
    return submission


def _asked_again(files: Mapping[str, bytes], task: Task, case: Case, marks: ClassMarks) -> Outcome:
    """What becomes of the case alone, in fresh processes of the run's jail."""
    sheet = AnswerSheet([case])
    with Jail(marks.run.tier) as jail:
        with jail.child(files) as child:
            halves = sheet.add(sheet.calls, child.ask(sheet.bounded(sheet.calls), task.seconds))
        if halves:
            with jail.child(files) as child:
                sheet.add_second(halves, child.ask([half.call for half in halves], task.seconds))
    return sheet.named()[case.name]

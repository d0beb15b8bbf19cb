"""What the commands share: one student of a class, and what is said of grades on a terminal."""

from collections.abc import Sequence
from pathlib import Path

import typer
from tabulate import tabulate

from autograder.exports.common import hint
from autograder.exports.csv_table import NOT_SECURE
from autograder.grades import Grade
from autograder.intake.layouts import FoundSubmissions
from autograder.intake.roster import read_roster, the_one
from autograder.intake.text import is_seen
from autograder.journal import ClassMarks, current_marks
from autograder.marks import Mark, as_mark, points, sentence
from hw7 import HW7Error
from hw7.support import system
from hw7.support.words import counted


def mark_of(student: str, out: Path) -> tuple[Mark, ClassMarks]:
    """The mark of the student of this name, or with this in the name that no other's has. Raises HW7Error."""
    marks = current_marks(out)
    name = the_one(student, [*(mark.student for mark in marks.marks), *marks.missing])
    for mark in marks.marks:
        if mark.student == name:
            return mark, marks
    raise HW7Error(f"{name!r} is not graded yet: run `hw7-grade run` again")


def look_for(submissions: Path, roster: Path | None) -> None:
    """Raises HW7Error where these cannot be read, before OUT is made for them."""
    if not system.expanded(submissions).exists():
        raise HW7Error(f"there is no {submissions}: name the folder or zip with the submissions")
    if roster is not None:
        read_roster(roster)


def tell_of(submissions: FoundSubmissions) -> None:
    """How the folder was read, and every entry that is nobody's submission."""
    typer.echo(f"{counted(len(submissions.found), 'submission')}, layout {submissions.layout}")
    if submissions.doubt:
        typer.echo(f"hw7-grade: {visible(submissions.doubt)}", err=True)
    for name, reason in submissions.not_taken.items():
        typer.echo(f"hw7-grade: not taken: {visible(name)}, because {visible(reason)}", err=True)
    for whose in submissions.strangers:
        typer.echo(f"hw7-grade: not on the roster, graded all the same: {visible(whose)}", err=True)
    if submissions.absent:
        absent = [visible(f"{id_} ({name})") for id_, name in submissions.absent.items()]
        typer.echo(f"handed in nothing: {', '.join(absent)}")


def warn_of_missing(missing: Sequence[str]) -> None:
    if missing:
        again = "under the present rubric and grader; run `hw7-grade run` again"
        typer.echo(f"hw7-grade: {students_have(len(missing))} no grade {again}", err=True)


def students_have(number: int) -> str:
    return f"{counted(number, 'student')} {'has' if number == 1 else 'have'}"


def format_grade(grade: Grade, teacher: bool = False) -> str:
    """A grade or mark as a table for a terminal; `teacher` adds what no student may see."""
    mark = as_mark(grade)
    rows = []
    for task in mark.tasks:
        for number, part in enumerate(task.parts):
            words = " ".join(filter(None, (part.outcome.message, hint(part))))
            row = [task.task if number == 0 else "", part.part, f"{points(part.points)}/{points(part.out_of)}"]
            row += [part.outcome.verdict.value, part.outcome.expected, part.outcome.got, words]
            exact = f"exactly {part.outcome.exact}" if part.outcome.exact else ""
            row += [f"{part.case}: {part.outcome.note or exact}".strip(": ")] if teacher else []
            rows.append(list(map(visible, row)))
    headers = ["task", "part", "points", "verdict", "expected", "got", "hint"] + ["note"] * teacher
    widths = [None, None, None, None, 24, 24, 48] + [48] * teacher
    table = tabulate(rows, headers, maxcolwidths=widths, disable_numparse=True)
    lines = [
        f"{visible(mark.student)}: {points(mark.total)} of {points(mark.out_of)} points"
        + f", tier {mark.tier}" * bool(mark.tier)
    ]
    problem = mark.problem if mark.absent else f"could not be graded: {mark.problem}"
    lines += [visible(problem)] if mark.problem else []
    lines += [NOT_SECURE] if mark.tier == "D" else []
    lines += [visible(line) for line in (*mark.how, *(mark.look_again if teacher else []))]
    lines += [visible(f"{sentence(comment.text)} ({comment.who})") for comment in mark.comments]
    lines += ["", table] if rows and not mark.absent else []
    for name, texts in (("remarks", mark.remarks), ("to be graded by hand", mark.manual)):
        lines += [f"\n{name}:", *(f"  {visible(text)}" for text in texts)] if texts else []
    if teacher and mark.output:
        lines += ["\nprinted by the student's code:", *(f"  | {visible(line)}" for line in mark.output.split("\n"))]
    return "\n".join(lines)


def visible(text: str) -> str:
    """One line in which nothing can steer a terminal: characters that cannot be seen are shown, not obeyed."""
    return "".join(char if is_seen(char) else char.encode("unicode_escape").decode() for char in text)

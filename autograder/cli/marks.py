"""The commands about marks: what they are, what people decide about them, how they changed, and appeals."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from autograder import exports
from autograder.batch import PATIENCE, write_table
from autograder.cli.options import OutOption, StudentArgument, TaskArgument, To
from autograder.cli.shared import format_grade, mark_of, visible, warn_of_missing
from autograder.grades import Grade
from autograder.journal import DECISIONS_NAME, ClassMarks, Journal, Run, current_marks, read_entries, read_lines
from autograder.marks import DECISIONS, Comment, Decision, Late, Mark, Override, Standing, changes, points
from hw7 import HW7Error
from hw7.support import system
from hw7.support.words import counted

ByOption = Annotated[str | None, typer.Option(metavar="<name>", help="Who decides. Default: this account's name.")]
UndoOption = Annotated[bool, typer.Option("--undo", help="Take back what was decided. The journal keeps both.")]


def show(
    student: StudentArgument,
    out: OutOption,
    teacher: Annotated[
        bool, typer.Option("--teacher", help="Also what only teachers may see: notes, and what the code printed.")
    ] = False,
) -> None:
    """One student's grade, line by line."""
    typer.echo(format_grade(mark_of(student, out)[0], teacher))


def export(
    out: OutOption,
    to: Annotated[To, typer.Option(help="What to make.")],
    target: Annotated[
        Path | None, typer.Option(help="The folder or file to write. Default: OUT/exports/ and its name.")
    ] = None,
) -> None:
    """Make the grades into what others read. Can be thrown away and made again."""
    marks = current_marks(out)
    path = exports.export(to, marks.marks, marks.rubric, target or out / "exports" / to)
    warn_of_missing(marks.missing)
    typer.echo(f"wrote {path}: {counted(len(marks.marks), 'student')}")
    without = [visible(mark.student) for mark in marks.marks if not mark.address] if to is To.mail else []
    if without:
        names = ", ".join(without[:10]) + (f" and {len(without) - 10} more" if len(without) > 10 else "")
        typer.echo(f"hw7-grade: no address of {names}: give `run` a --roster with the column email", err=True)


# ---- decisions ------------------------------------------------------------------------------------------------------


def override(
    student: StudentArgument,
    task: TaskArgument,
    number: Annotated[str | None, typer.Argument(metavar="POINTS", help="The points that count from now on.")] = None,
    *,
    because: Annotated[str, typer.Option(metavar="<text>", help="Why. The student reads it.")],
    out: OutOption,
    by: ByOption = None,
    undo: UndoOption = False,
) -> None:
    """Set the points of a task by hand. The grader's own stand beside them, on pages and in exports."""
    mark, _ = mark_of(student, out)
    graded = next((each for each in mark.tasks if each.task == task), None)
    if graded is None:
        raise HW7Error(f"there is no task {task!r}; there are {', '.join(each.task for each in mark.tasks)}")
    if undo == (number is not None):
        raise HW7Error("say either POINTS, or --undo to have the grader's points again")
    wanted = 0.0 if number is None else _number(number, f"task {task} is worth", graded.out_of)
    decision = Override(
        student=mark.student, by=by or system.login(), because=_text(because, "--because"), undo=undo, task=task,
        points=wanted, submission="" if undo else mark.submission, out_of=0.0 if undo else graded.out_of,
    )  # fmt: skip
    _decide(decision, mark, out)


def comment(
    student: StudentArgument,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What the student reads.")] = None,
    *,
    out: OutOption,
    by: ByOption = None,
    undo: UndoOption = False,
) -> None:
    """Write a word to a student. It stands on the page and in exports; --undo takes the last one back."""
    mark, _ = mark_of(student, out)
    if undo == (text is not None):
        raise HW7Error("say either TEXT, or --undo to take the last comment back")
    written = "" if text is None else _text(text, "TEXT")
    _decide(Comment(student=mark.student, by=by or system.login(), undo=undo, text=written), mark, out)


def late(
    student: StudentArgument,
    days: Annotated[str | None, typer.Argument(metavar="DAYS", help="How many days late. 0 is in time.")] = None,
    *,
    because: Annotated[
        str, typer.Option(metavar="<text>", help="Why, if it needs a reason. The student reads it.")
    ] = "",
    out: OutOption,
    by: ByOption = None,
    undo: UndoOption = False,
) -> None:
    """Note how many days late a student was. What that costs, the rubric's late policy says."""
    mark, marks = mark_of(student, out)
    if undo == (days is not None):
        raise HW7Error("say either DAYS, or --undo to take them back")
    number = 0.0 if days is None else _number(days, "late by", 366.0)
    _decide(Late(student=mark.student, by=by or system.login(), because=because, undo=undo, days=number), mark, out)
    if number and marks.rubric.late is None:
        typer.echo(
            "hw7-grade: the rubric has no [late] policy, so nothing is taken off: add one, then `rescore`", err=True
        )


def _number(text: str, what: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise HW7Error(f"{text} is no number from 0 to {points(most)}: {what} {points(most)} at most")
    return value


def _text(text: str, what: str) -> str:
    if not text.strip():
        raise HW7Error(f"{what} is empty: say it in words; the student reads them")
    return text.strip()


def _decide(decision: Decision, before: Mark, out: Path) -> None:
    """Writes it to the journal, unless it stands there already, and says what it comes to."""
    with Journal(out / DECISIONS_NAME, patience=PATIENCE) as journal:
        known = (each for each in read_entries(out, DECISIONS) if isinstance(each, Decision))
        if not Standing.of(each for each in known if each.student == decision.student).has(decision):
            journal.append(decision)
    after = next(mark for mark in write_table(out).marks if mark.student == decision.student)
    typer.echo(f"{visible(after.student)}: {points(before.total)} points before, {points(after.total)} now")
    for line in after.how:
        typer.echo(f"  {visible(line)}")


# ---- what was ------------------------------------------------------------------------------------------------------


def log(
    out: OutOption,
    student: Annotated[str | None, typer.Argument(metavar="STUDENT", help="Only what is about this student.")] = None,
) -> None:
    """What happened: runs with their numbers, and decisions. Oldest first."""
    name = None if student is None else mark_of(student, out)[0].student
    _table(("when (UTC)", "what", "student", ""), _history(out, name))


def _history(out: Path, student: str | None) -> Iterator[list[str]]:
    number = 0
    for line in read_lines(out):
        entry, when = line.entry(), line.at[:16].replace("T", " ")
        if isinstance(entry, Run):
            number += 1
            if student is None:
                versions = f"rubric {entry.rubric[:8]}, grader {entry.grader[:8]}, tier {entry.tier}"
                yield [when, f"run {number}", "", f"{counted(len(entry.students), 'submission')}, {versions}"]
        elif isinstance(entry, Decision) and student in (None, entry.student):
            yield [when, entry.kind, entry.student, entry.words]
        elif isinstance(entry, Grade) and student == entry.student:
            versions = f"files {entry.submission[:8]}, rubric {entry.rubric[:8]}, grader {entry.grader[:8]}"
            yield [when, "grade", entry.student, f"{points(entry.total)} points, {versions}"]


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for a terminal, its last column of many lines; nothing where there are no rows."""
    shown = [list(map(visible, row)) for row in rows]
    if shown:
        widths = [None] * (len(headers) - 1) + [80]
        typer.echo(tabulate(shown, headers, disable_numparse=True, maxcolwidths=widths))


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="OUT of a run, or OUT@N: as it stood after its N-th run.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same, of another run.")],
) -> None:
    """Whose points changed between two runs, where and why. `hw7-grade log` numbers the runs of an OUT."""
    before, after = _at(old), _at(new)
    found = list(changes(before.marks, after.marks))
    rows = ([each.student, each.task or "total", points(each.old), points(each.new), each.why] for each in found)
    _table(("student", "task", "old", "new", "why"), rows)
    changed = {each.student for each in found}
    everybody = {mark.student for marks in (before, after) for mark in marks.marks}
    typer.echo(f"{len(changed)} of {counted(len(everybody), 'student')} changed")
    for name, marks in ((old, before), (new, after)):
        if marks.missing:
            left_out = counted(len(marks.missing), "student")
            typer.echo(f"hw7-grade: {left_out} without a grade in {name} left out", err=True)


def _at(place: str) -> ClassMarks:
    """OUT, or OUT@N."""
    path, _, number = place.rpartition("@")
    if path and number.isdecimal() and not Path(place).exists():
        return current_marks(Path(path), int(number))
    return current_marks(Path(place))


def case(
    student: StudentArgument,
    task: TaskArgument,
    name: Annotated[str, typer.Argument(metavar="CASE", help="The case's name, as `show --teacher` has it.")],
    out: OutOption,
    to: Annotated[Path, typer.Option(help="The folder to write.")],
    submissions: Annotated[
        Path | None, typer.Option(help="Where the submissions are now. Default: where the run found them.")
    ] = None,
) -> None:
    """One hidden case as a program, with the student's files. For an appeal, and for the teacher alone."""
    from autograder.course.appeal import write_case

    mark, marks = mark_of(student, out)
    appeal = write_case(out, marks, mark, task, name, to, submissions)
    typer.echo((appeal.folder / "about.txt").read_text(encoding="utf-8"))
    typer.echo(f"wrote {appeal.folder}: case.py, the case, the student's files; only this account can read it")
    typer.echo(
        f"The case is known now. Whoever has seen it can answer it from {out / 'hidden-seed'} for ever: give the next "
        "grades in another --out, which draws a seed of its own, or delete that file to have all graded again."
    )

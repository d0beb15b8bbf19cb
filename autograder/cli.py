"""The `hw7-grade` command: a thin layer that turns words into calls, and mistakes of its user into one plain line.

What needs torch is imported inside the commands; what runs the grading here does not, so that it is at work at once.
"""

import re
from collections import Counter
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from autograder import batch, exports, jail
from autograder.exports.common import hint, points
from autograder.exports.csv_table import NOT_SECURE
from autograder.grades import Grade
from autograder.intake.layouts import FoundSubmissions, find_submissions
from autograder.intake.roster import read_roster
from autograder.intake.text import is_seen
from autograder.journal import Journal, journal_name
from autograder.rubric import load_rubric
from autograder.tasks import hidden
from hw7 import HW7Error
from hw7.support import system
from hw7.support.files import read_json
from hw7.support.words import counted
from hw7.support.workers import Cluster

cli = system.command_line("hw7-grade", "Grade submissions of Homework 7. Start with `hw7-grade doctor`.")


class TierName(StrEnum):
    A = "A"
    B = "B"
    C = "C"
    D = "D"


To = StrEnum("To", "csv gradescope nbgrader html")
LayoutName = StrEnum("LayoutName", "folders nbgrader gradescope moodle canvas blackboard d2l one")

OutOption = Annotated[Path, typer.Option(help="The folder of the run: its journal, grades.csv and exports.")]
RubricOption = Annotated[Path | None, typer.Option(help="Another rubric than the course's.")]
DataOption = Annotated[
    str,
    typer.Option(
        metavar="<source>", help="Where the hidden images come from: plates, food11:DIR, fashion-mnist[:DIR]."
    ),
]


@cli.command()
def run(
    submissions: Annotated[
        Path,
        typer.Argument(
            metavar="SUBMISSIONS", help="A folder or zip for each student, nbgrader's `submitted`, or an export."
        ),
    ],
    out: OutOption,
    jobs: Annotated[int | None, system.number("Worker processes. Default: one a core.", least=1)] = None,
    rubric: RubricOption = None,
    data: DataOption = "plates",
    hidden_seed_file: Annotated[
        Path | None, typer.Option(help="A seed from `hw7-grade new-seed`. Default: random, made once and kept in OUT.")
    ] = None,
    timeout: Annotated[
        float | None, system.number("No task gets more seconds than this.", least=0.1, kind=float)
    ] = None,
    tier: Annotated[TierName | None, typer.Option(help="The jail. Default: the best that works here, never D.")] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="<address>", help="The address of a Dask scheduler; its workers grade.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="<I/N>", help="I/N, I from 0 to N - 1: grade one N-th of the students only.")
    ] = None,
    layout: Annotated[
        LayoutName | None, typer.Option(help="How SUBMISSIONS is laid out. Default: told by the names there.")
    ] = None,
    assignment: Annotated[
        str, typer.Option(metavar="<name>", help="The name of the assignment in nbgrader's `submitted`.")
    ] = "hw7",
    roster: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file with id and name of all students: names become ids, and who handed in nothing is listed."
        ),
    ] = None,
) -> None:
    """Grade what is not graded yet. Stop it, kill it, run it again: it goes on where it was."""
    table = load_rubric(rubric)
    if timeout is not None:
        table = table.with_timeout(timeout)
    part = _shard(shard)
    _look_for(submissions, roster)
    with ExitStack() as stack:
        opened = stack.enter_context(Journal(out / journal_name(part)))  # first of all: another run is told at once
        settings = batch.Settings(table, batch.hidden_seed(out, hidden_seed_file), data, _tier(tier, out))
        if settings.tier == "D":
            typer.echo(f"hw7-grade: these grades are {NOT_SECURE}", err=True)
        cluster = stack.enter_context(Cluster(dask)) if dask else None
        in_flight = max(8, 2 * sum(cluster.threads)) if cluster else None
        result = batch.run(
            submissions, out, settings, assignment=assignment, layout=layout, roster=roster,
            jobs=jobs or system.cores(), executor=cluster, in_flight=in_flight, shard=part, timeout=timeout,
            opened=opened,
        )  # fmt: skip
    _tell(result, out, part)
    if result.interrupted:
        raise KeyboardInterrupt
    if result.failures or result.submissions.not_taken:
        raise typer.Exit(1)


@cli.command()
def show(
    student: Annotated[
        str, typer.Argument(metavar="STUDENT", help="The student's name, or a part of it that no other's has.")
    ],
    out: OutOption,
    teacher: Annotated[
        bool, typer.Option("--teacher", help="Also what only teachers may see: notes, and what the code printed.")
    ] = False,
) -> None:
    """One student's grade, line by line."""
    grades, _, missing = batch.current_grades(out)
    typer.echo(format_grade(_of_student(student, grades, missing), teacher))


@cli.command()
def export(
    out: OutOption,
    to: Annotated[To, typer.Option(help="What to make.")],
    target: Annotated[
        Path | None, typer.Option(help="The folder or file to write. Default: OUT/exports/ and its name.")
    ] = None,
) -> None:
    """Make the grades into what others read. Can be thrown away and made again."""
    grades, rubric, missing = batch.current_grades(out)
    path = exports.export(to, grades, rubric, target or out / "exports" / to)
    _warn_of_missing(missing)
    typer.echo(f"wrote {path}: {counted(len(grades), 'student')}")


@cli.command()
def gradescope_image(
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="The zip to upload to Gradescope.")],
    rubric: RubricOption = None,
    data: DataOption = "plates",
    hidden_seed_file: Annotated[
        Path | None, typer.Option(help="A seed from `hw7-grade new-seed`. Default: random.")
    ] = None,
) -> None:
    """Make the autograder that Gradescope runs."""
    from autograder.course.gradescope_image import build_image

    image = build_image(out, rubric, data, hidden_seed_file)
    typer.echo(f"wrote {image}; it holds the hidden seed, so keep it to yourself")


@cli.command()
def new_seed(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make; only you can read it.")],
) -> None:
    """Draw a hidden seed, for --hidden-seed-file. Who knows it knows all hidden questions and labels."""
    seed = hidden.new_seed()
    try:
        hidden.write_seed(path, seed)
    except OSError as error:
        raise HW7Error(f"{path} cannot be written: {error.strerror}") from error
    if hidden.read_seed(path) != seed:
        raise HW7Error(f"{path} is there already, and is kept: name another file")
    typer.echo(f"wrote {path}: keep it, and keep it to yourself")


@cli.command()
def release(
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="The folder for what students receive. Default: assignments/hw7 in here."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: only see whether the folder is what would be written.")
    ] = False,
) -> None:
    """Make the assignment from the reference solutions."""
    from autograder.course import ASSIGNMENT
    from autograder.course.release import release
    from hw7.solution import PROJECT

    files = release(out or PROJECT, check)
    place, count = out or PROJECT / ASSIGNMENT, counted(len(files), "file")
    typer.echo(f"{place}: {count} as they should be" if check else f"wrote {count} to {place}")


@cli.command()
def new_task(
    task: Annotated[str, typer.Argument(metavar="ID", help="The next id of its chapter, for example 3.6.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of its function.")],
    chapter: Annotated[str, typer.Option(metavar="<chapter>", help="models, losses, pruning or quantization.")],
) -> None:
    """Write the stubs of a new task. They go into every file that a task has a part in; what is left to do is said."""
    from autograder.course.new_task import NEXT, new_task

    typer.echo("\n".join([f"wrote the stubs of task {task}. Now fill in:", *new_task(task, name, chapter), NEXT]))


@cli.command()
def similar(
    submissions: Annotated[Path, typer.Argument(metavar="SUBMISSIONS", help="As for `hw7-grade run`.")],
    out: Annotated[Path, typer.Option(help="The folder for similar.html, or the page itself, if it ends in .html.")],
    layout: Annotated[LayoutName | None, typer.Option(help="How SUBMISSIONS is laid out, as for `run`.")] = None,
    assignment: Annotated[
        str, typer.Option(metavar="<name>", help="The name of the assignment in nbgrader's `submitted`.")
    ] = "hw7",
    roster: Annotated[
        Path | None, typer.Option(help="A CSV file with id and name of all students, as for `run`.")
    ] = None,
    given: Annotated[
        list[Path] | None,
        typer.Option(metavar="<folder>", help="More Python that all were given, such as a lecture's. May be repeated."),
    ] = None,
    at_least: Annotated[
        float, system.number("List pairs from this share of alike code on.", least=0, most=1, kind=float)
    ] = 0.3,
) -> None:
    """Find pairs of submissions whose code is alike. Which is no proof that anybody copied: the page says why."""
    from autograder.exports.similar import export_similar, format_similar
    from autograder.intake.similar import find_similar, handed_out, read_all, read_given

    _look_for(submissions, roster)
    known = read_given(handed_out(given or ()))
    there = find_submissions(submissions, assignment, layout, roster, without=[out])
    _tell_of(there)
    found = find_similar(read_all(there, progress=True), known, at_least, progress=True)
    page = export_similar(found, out if out.suffix == ".html" else out / "similar.html")
    typer.echo(format_similar(found))
    not_compared = f", {len(found.left_out)} not compared" if found.left_out else ""
    typer.echo(f"wrote {page}: {counted(len(found.pairs), 'pair')} among {found.compared} submissions{not_compared}")


@cli.command()
def course(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The course's folder, made where there is none.")],
    name: Annotated[str, typer.Option(metavar="<name>", help="nbgrader's course id. Default: the folder's name.")] = "",
    rubric: RubricOption = None,
) -> None:
    """Set up a course folder for nbgrader. The assignment, and a configuration that runs notebooks in a jail only."""
    from autograder.course.nbgrader import set_up
    from autograder.course.nbgrader_execute import why_not

    files = set_up(directory, name, load_rubric(rubric))
    typer.echo(f"wrote {counted(len(files), 'file')} to {directory}. Next, in there: nbgrader generate_assignment hw7")
    if reason := why_not():
        typer.echo(f"hw7-grade: `nbgrader autograde` needs --no-execute here: {reason}", err=True)


@cli.command()
def doctor() -> None:
    """Which jail this machine gives. Why not a better one, and what else grading needs."""
    from autograder.jail.doctor import examine
    from hw7.doctor import format_findings

    findings = examine()
    typer.echo(format_findings(findings))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


# ---- what the commands share ------------------------------------------------------------------------------------


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    numbers = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not numbers or int(numbers[1]) >= int(numbers[2]):
        raise HW7Error(f"--shard {text}: say I/N, with I from 0 to N - 1, for example 0/16 to 15/16")
    return int(numbers[1]), int(numbers[2])


def _look_for(submissions: Path, roster: Path | None) -> None:
    """Raises HW7Error where these cannot be read, before OUT is made for them."""
    if not system.expanded(submissions).exists():
        raise HW7Error(f"there is no {submissions}: name the folder or zip with the submissions")
    if roster is not None:
        read_roster(roster)


def _tier(asked: TierName | None, out: Path) -> jail.Tier:
    """The tier to grade in: the one asked for, else that of the last run in OUT, else the best that works here.

    Each worker tests its own jail before it grades, so only the search for the best one takes its time here. Raises
    HW7Error where none that is secure works.
    """
    if asked is not None:
        return asked.value
    if (out / "run.json").exists() and (last := read_json(out / "run.json")["tier"]) != "D":
        return TierName(last).value
    best, reasons = jail.best_tier()
    if best == "D":
        why = "; ".join(f"{tier}: {reason}" for tier, reason in reasons.items() if tier != "D")
        raise HW7Error(f"no secure jail works here ({why}). See `hw7-grade doctor`, or ask for --tier D by name.")
    return best


def _tell(result: batch.RunReport, out: Path, shard: tuple[int, int] | None) -> None:
    _tell_of(result.submissions)
    counts = Counter(map(batch.standing, result.grades))
    words = ", ".join(f"{counts[word]} {word}" for word in ("right", "wrong", "failed"))
    students = _students_have(len(result.grades) + len(result.missing))
    typer.echo(f"{len(result.grades)} of {students} a grade ({words}), {result.graded} of them new")
    typer.echo(f"wrote {out / 'grades.csv'}")
    if result.failures:
        names = ", ".join(visible(name) for name in result.failures[:10])
        typer.echo(
            f"hw7-grade: the grader itself failed on {len(result.failures)} ({names}); look with "
            "`hw7-grade show STUDENT --teacher`, and run the same again",
            err=True,
        )
    if result.missing and shard is None and not result.interrupted:
        _warn_of_missing(list(result.missing))


def _tell_of(submissions: FoundSubmissions) -> None:
    """How the folder was read, and every entry that is nobody's submission."""
    typer.echo(f"{counted(len(submissions.found), 'submission')}, layout {submissions.layout}")
    if submissions.doubt:
        typer.echo(f"hw7-grade: {visible(submissions.doubt)}", err=True)
    for name, reason in submissions.not_taken.items():
        typer.echo(f"hw7-grade: not taken: {visible(name)}, because {visible(reason)}", err=True)
    for whose in submissions.strangers:
        typer.echo(f"hw7-grade: not on the roster, graded all the same: {visible(whose)}", err=True)
    if submissions.absent:
        typer.echo(f"handed in nothing: {', '.join(map(visible, submissions.absent))}")


def _warn_of_missing(missing: list[str]) -> None:
    if missing:
        again = "under the present rubric and grader; run `hw7-grade run` again"
        typer.echo(f"hw7-grade: {_students_have(len(missing))} no grade {again}", err=True)


def _students_have(number: int) -> str:
    return f"{counted(number, 'student')} {'has' if number == 1 else 'have'}"


def _of_student(student: str, grades: list[Grade], missing: list[str]) -> Grade:
    """The grade of this student, by the whole name or a part that is in no other's."""
    for grade in grades:
        if grade.student == student:
            return grade
    if student in missing:
        raise HW7Error(f"{student!r} is not graded yet: run `hw7-grade run` again")
    like = [grade for grade in grades if student.casefold() in grade.student.casefold()]
    if len(like) == 1:
        return like[0]
    if like:
        raise HW7Error(f"{student!r} may be {', '.join(visible(grade.student) for grade in like[:10])}: say which")
    raise HW7Error(f"there is no grade of {student!r}; see grades.csv for the names")


def format_grade(grade: Grade, teacher: bool = False) -> str:
    """A grade as a table for a terminal; `teacher` adds what no student may see."""
    rows = []
    for task in grade.tasks:
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
    lines = [f"{visible(grade.student)}: {points(grade.total)} of {points(grade.out_of)} points, tier {grade.tier}"]
    lines += [f"could not be graded: {visible(grade.problem)}"] if grade.problem else []
    lines += [NOT_SECURE] if grade.tier == "D" else []
    lines += ["", table] if rows else []
    for name, texts in (("remarks", grade.remarks), ("to be graded by hand", grade.manual)):
        lines += [f"\n{name}:", *(f"  {visible(text)}" for text in texts)] if texts else []
    if teacher and grade.output:
        lines += ["\nprinted by the student's code:", *(f"  | {visible(line)}" for line in grade.output.split("\n"))]
    return "\n".join(lines)


def visible(text: str) -> str:
    """One line in which nothing can steer a terminal: characters that cannot be seen are shown, not obeyed."""
    return "".join(char if is_seen(char) else char.encode("unicode_escape").decode() for char in text)


def app() -> None:
    system.run_cli(cli, "hw7-grade")

"""The commands that grade: run, rescore, a hidden seed, and what this machine gives."""

import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from autograder import batch, jail
from autograder.cli.options import (
    AssignmentOption,
    DataOption,
    LayoutOption,
    OutOption,
    RosterOption,
    RubricOption,
    SubmissionsArgument,
    TierName,
)
from autograder.cli.shared import look_for, students_have, tell_of, visible, warn_of_missing
from autograder.exports.csv_table import NOT_SECURE
from autograder.journal import Journal, Run, journal_name, read_entries
from autograder.rubric import load_rubric
from autograder.tasks import hidden
from autograder.worker import Settings, hidden_seed
from hw7 import HW7Error
from hw7.support import system
from hw7.support.words import counted
from hw7.support.workers import Cluster


def run(
    submissions: SubmissionsArgument,
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
    layout: LayoutOption = None,
    assignment: AssignmentOption = "hw7",
    roster: RosterOption = None,
    student: Annotated[
        list[str] | None,
        typer.Option(metavar="<name>", help="Only this student, by name or a part of it. May be given several times."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Grade also what is graded already.")] = False,
) -> None:
    """Grade what is not graded yet. Stop it, kill it, run it again: it goes on where it was."""
    table = load_rubric(rubric)
    if timeout is not None:
        table = table.with_timeout(timeout)
    part = _shard(shard)
    look_for(submissions, roster)
    with ExitStack() as stack:
        opened = stack.enter_context(Journal(out / journal_name(part)))  # first of all: another run is told at once
        settings = Settings(table, hidden_seed(out, hidden_seed_file), data, _tier(tier, out))
        if settings.tier == "D":
            typer.echo(f"hw7-grade: these grades are {NOT_SECURE}", err=True)
        cluster = stack.enter_context(Cluster(dask)) if dask else None
        in_flight = max(8, 2 * sum(cluster.threads)) if cluster else None
        result = batch.run(
            submissions, out, settings, assignment=assignment, layout=layout, roster=roster,
            jobs=jobs or system.cores(), executor=cluster, in_flight=in_flight, shard=part, timeout=timeout,
            students=student or (), again=again, opened=opened,
        )  # fmt: skip
    _tell(result, out, part)
    if result.interrupted:
        raise KeyboardInterrupt
    if result.failures or result.submissions.not_taken:
        raise typer.Exit(1)


def rescore(out: OutOption, rubric: RubricOption = None) -> None:
    """Score the class again under other points or thresholds. From the journal: nobody's code is run."""
    marks, new = batch.rescore(out, load_rubric(rubric))
    typer.echo(f"{counted(new, 'grade')} scored again from the journal, without running any code")
    typer.echo(f"wrote {out / 'grades.csv'}: {counted(len(marks.marks), 'student')}")
    warn_of_missing(marks.missing)


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


def doctor() -> None:
    """Which jail this machine gives. Why not a better one, and what else grading needs."""
    from autograder.jail.doctor import examine
    from hw7.doctor import format_findings

    findings = examine()
    typer.echo(format_findings(findings))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


# ---- what `run` needs ------------------------------------------------------------------------------------------


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    numbers = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not numbers or int(numbers[1]) >= int(numbers[2]):
        raise HW7Error(f"--shard {text}: say I/N, with I from 0 to N - 1, for example 0/16 to 15/16")
    return int(numbers[1]), int(numbers[2])


def _tier(asked: TierName | None, out: Path) -> jail.Tier:
    """The tier to grade in: the one asked for, else that of the last run in OUT, else the best that works here.

    Each worker tests its own jail before it grades, so only the search for the best one takes its time here. Raises
    HW7Error where none that is secure works.
    """
    if asked is not None:
        return asked.value
    runs = [entry for entry in read_entries(out, {"run"}) if isinstance(entry, Run)] if out.exists() else []
    if runs and runs[-1].tier != "D":
        return runs[-1].tier
    best, reasons = jail.best_tier()
    if best == "D":
        why = "; ".join(f"{tier}: {reason}" for tier, reason in reasons.items() if tier != "D")
        raise HW7Error(f"no secure jail works here ({why}). See `hw7-grade doctor`, or ask for --tier D by name.")
    return best


def _tell(result: batch.RunReport, out: Path, part: tuple[int, int] | None) -> None:
    tell_of(result.submissions)
    if result.rescored:
        typer.echo(f"{counted(result.rescored, 'grade')} scored again from the journal, without running any code")
    counts = Counter(map(batch.standing, result.grades))
    students = students_have(len(result.grades) + len(result.missing))
    typer.echo(f"{len(result.grades)} of {students} a grade ({batch.how_many(counts)}), {result.graded} of them new")
    typer.echo(f"wrote {out / 'grades.csv'}")
    if result.failures:
        names = ", ".join(visible(name) for name in result.failures[:10])
        typer.echo(
            f"hw7-grade: the grader itself failed on {len(result.failures)} ({names}); look with "
            "`hw7-grade show STUDENT --teacher`, and run the same again",
            err=True,
        )
    if result.missing and part is None and not result.interrupted:
        warn_of_missing(result.missing)

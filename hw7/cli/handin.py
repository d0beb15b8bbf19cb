"""The commands around handing in: check (the public tests), pack (the zip), doctor (the installation)."""

from pathlib import Path
from typing import Annotated

import typer

from hw7 import HW7Error
from hw7.cli import options

ZIP = Path("hw7.zip")  # not named after the login: on many machines it names nobody, or is nobody else's business


def check(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="One task, such as 2.1, part by part; or own-test.")
    ] = None,
    solution: options.Solution = None,
    show: Annotated[
        str | None,
        typer.Option(metavar="CASE", help="Print this case of TASK as a program. An unknown name lists all names."),
    ] = None,
) -> None:
    """Your points in the public tests, and what to do next."""
    from hw7.checks import public

    checks = public.Checks.of(solution)
    if show is not None:
        if task is None:
            raise HW7Error('--show needs the task, too: hw7 check 2.1 --show "loss, T = 1"')
        typer.echo(checks.show(task, show), nl=False)
        return
    if task == public.OWN_TEST:
        right, text = public.try_own_test(checks)
    elif task:
        right, text = all(part.right for part in checks.check(task)), public.format_task(checks, task)
    else:
        right = all(part.right for each in checks.tasks for part in checks.check(each.id))
        text = public.format_overview(checks)
    typer.echo(text)
    if not right:
        raise typer.Exit(1)


def pack(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The folder that holds `solution`. Default: your own.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The zip. Where your course wants your name on it: hw7-ada.zip.")] = ZIP,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair hw7.ipynb; as it was, it stays beside it under another name.")
    ] = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Run the public tests first.")] = True,
) -> None:
    """Check what you hand in, and write the zip."""
    from hw7.checks.public import public_tests
    from hw7.handin import pack
    from hw7.solution import default_directory
    from hw7.support.system import expanded

    folder = expanded(directory or default_directory()).resolve()
    released = public_tests(folder) / pack.RELEASED.name
    typer.echo(pack.pack(folder, out, repair, check, released))


def doctor(
    source: Annotated[
        str | None, typer.Option("--data", metavar="<source>", help="Check this data source as well.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Check this folder for results as well.")] = None,
) -> None:
    """What is wrong with this installation, and what to do about it."""
    from hw7.doctor import examine, format_findings

    findings = examine(source, out)
    typer.echo(format_findings(findings))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)

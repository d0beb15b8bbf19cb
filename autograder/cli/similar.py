"""The command that compares submissions with each other."""

from pathlib import Path
from typing import Annotated

import typer

from autograder.cli.options import AssignmentOption, LayoutOption, RosterOption, SubmissionsArgument
from autograder.cli.shared import look_for, tell_of
from autograder.intake.layouts import find_submissions
from hw7.support import system
from hw7.support.words import counted


def similar(
    submissions: SubmissionsArgument,
    out: Annotated[Path, typer.Option(help="The folder for similar.html, or the page itself, if it ends in .html.")],
    layout: LayoutOption = None,
    assignment: AssignmentOption = "hw7",
    roster: RosterOption = None,
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

    look_for(submissions, roster)
    known = read_given(handed_out(given or ()))
    there = find_submissions(submissions, assignment, layout, roster, without=[out])
    tell_of(there)
    found = find_similar(read_all(there, progress=True), known, at_least, progress=True)
    page = export_similar(found, out if out.suffix == ".html" else out / "similar.html")
    typer.echo(format_similar(found))
    not_compared = f", {len(found.left_out)} not compared" if found.left_out else ""
    typer.echo(f"wrote {page}: {counted(len(found.pairs), 'pair')} among {found.compared} submissions{not_compared}")

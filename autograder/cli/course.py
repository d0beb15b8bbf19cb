"""The commands that make a course: the assignment, a new task, nbgrader's course folder, Gradescope's autograder."""

from pathlib import Path
from typing import Annotated

import typer

from autograder.cli.options import DataOption, RubricOption
from autograder.rubric import load_rubric
from hw7.support.words import counted


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


def new_task(
    task: Annotated[str, typer.Argument(metavar="ID", help="The next id of its chapter, for example 3.6.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of its function.")],
    chapter: Annotated[str, typer.Option(metavar="<chapter>", help="models, losses, pruning or quantization.")],
) -> None:
    """Write the stubs of a new task. They go into every file that a task has a part in; what is left to do is said."""
    from autograder.course.new_task import NEXT, new_task

    typer.echo("\n".join([f"wrote the stubs of task {task}. Now fill in:", *new_task(task, name, chapter), NEXT]))


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

"""The entry point: the `hw7-grade` command with its subcommands, in the order of its help."""

from autograder.cli import course, marks, run, similar
from hw7.support import system

cli = system.command_line("hw7-grade", "Grade submissions of Homework 7. Start with `hw7-grade doctor`.")

for command in (
    run.run, run.rescore, marks.show, marks.export,
    marks.override, marks.comment, marks.late, marks.log, marks.diff, marks.case,
    similar.similar,
    course.gradescope_image, run.new_seed, course.release, course.new_task, course.course,
    run.doctor,
):  # fmt: skip
    cli.command()(command)


def app() -> None:
    """Runs the command that was typed."""
    system.run_cli(cli, "hw7-grade")

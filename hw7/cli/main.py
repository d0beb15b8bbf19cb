"""The entry point: the `hw7` command with its subcommands, in the order of its help."""

from typing import Annotated

import typer

from hw7 import __version__
from hw7.cli import handin, report, train
from hw7.support import system

cli = typer.Typer(
    name="hw7",
    help="Homework 7: compress an image classifier, and measure what it costs. Start with `hw7 doctor`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@cli.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(f"hw7 {__version__}")
        raise typer.Exit


for command in (
    report.summary, report.data,
    train.train, train.distill, train.prune, train.quantize,
    report.reproduce,
    handin.check, handin.pack, handin.doctor,
):  # fmt: skip
    cli.command()(command)


def app() -> None:
    """Runs the command that was typed."""
    system.run_cli(cli, "hw7")

"""The entry point: the `hw7` command with its subcommands, in the order of its help."""

from hw7.cli import handin, report, train
from hw7.support import system

WHAT = "Homework 7: compress an image classifier, and measure what it costs. Start with `hw7 doctor`."

cli = system.command_line("hw7", WHAT)

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

"""The help of every command, as a terminal of any width shows it: nothing is cut, bounds and choices are readable."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any

import pytest
import typer
import typer.testing

import autograder.cli
import hw7.cli
from hw7.solution import PROJECT
from hw7.support.system import command_line, number

CLIS = {"hw7": hw7.cli.cli, "hw7-grade": autograder.cli.cli}
WIDTHS = (60, 80, 120)


def helps() -> Iterator[tuple[str, str]]:
    """The name of each command, and that of its command line; "" for the command line itself."""
    for name, cli in CLIS.items():
        yield name, ""
        for command in cli.registered_commands:
            assert command.callback
            yield name, command.callback.__name__.replace("_", "-")


def run(cli: typer.Typer, words: list[str], width: int = 80) -> tuple[int, str]:
    result = typer.testing.CliRunner().invoke(cli, words, env={"COLUMNS": str(width), "TERMINAL_WIDTH": str(width)})
    return result.exit_code, result.output


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("cli", "command"), list(helps()))
def test_help_is_readable(cli: str, command: str, width: int) -> None:
    code, text = run(CLIS[cli], [*filter(None, [command]), "--help"], width)
    assert code == 0
    assert not re.search(r"\brange\b|[a-z][<>]=|x>", text)  # click's own words for bounds
    assert not re.search(r"^  -.*<(str|int|float|list.*)>|\[\[", text, re.MULTILINE)  # Python's words for what it takes
    for shown in re.findall(r"<[^>]*>", text, re.DOTALL):
        assert not re.search(r"\s", shown)  # a list of choices, cut within
    assert max(map(len, text.splitlines())) <= max(width, 80)


@pytest.mark.parametrize("cli", CLIS)
def test_what_a_command_does_fits_into_its_line(cli: str) -> None:
    _, text = run(CLIS[cli], ["--help"])
    commands = text.partition("Commands:")[2].strip().splitlines()
    assert len(commands) == len(CLIS[cli].registered_commands)
    assert [line for line in commands if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("cli", CLIS)
def test_the_docs_table_of_commands_has_them_all(cli: str) -> None:
    table = (PROJECT / "docs" / "commands.md").read_text()
    rows = [row for row in re.findall(r"^\| (`hw7.*?) \|", table, re.MULTILINE) if row.startswith(f"`{cli} ")]
    named = [name for row in rows for name in re.findall(r"`(?:\S+ )?([a-z-]+)`", row)]
    assert sorted(named) == sorted(command for name, command in helps() if name == cli and command)


@pytest.mark.parametrize(("cli", "command"), [each for each in helps() if each[1]])
def test_every_option_says_what_it_is(cli: str, command: str) -> None:
    lines = run(CLIS[cli], [command, "--help"], 200)[1].partition("Options:")[2].splitlines()
    for line, below in pairwise(lines):
        option = re.match(r"  (?:-h, )?--\S+(?: <[^>]*>)?(.*)", line)
        assert option is None or re.search(r"[A-Za-z]", option[1] or below)


# ---- numbers ---------------------------------------------------------------------------------------------------


def taking(kind: type[float] = int, **bounds: Any) -> typer.Typer:
    """A command with one option that is a number within these bounds."""
    cli = command_line("try", "A try.")

    @cli.command()
    def once(value: Annotated[float, number("How much.", kind=kind, **bounds)]) -> None:
        typer.echo(repr(value))

    return cli


@pytest.mark.parametrize(
    ("bounds", "right", "wrong", "words"),
    [
        ({"least": 2}, ["2", "90"], ["1", "-5"], "At least 2."),
        ({"least": 0, "most": 1, "kind": float}, ["0", "0.25"], ["-0.1", "1.01", "nan"], "At least 0 and at most 1."),
        ({"above": 0, "below": 1, "kind": float}, ["1e-3", "0.999"], ["0", "1", "inf"], "Above 0 and below 1."),
    ],
)  # fmt: skip
def test_a_number_within_bounds(bounds: dict[str, Any], right: list[str], wrong: list[str], words: str) -> None:
    cli, kind = taking(**bounds), bounds.get("kind", int)
    assert f"<number>  How much. {words}" in run(cli, ["once", "--help"])[1]
    for text in right:
        assert run(cli, ["once", "--value", text]) == (0, f"{kind(text)!r}\n")
    for text in wrong:
        code, said = run(cli, ["once", "--value", text])
        assert code == 2
        assert f"{text} is not {words[0].lower()}{words[1:-1]}" in said


def test_a_number_without_bounds() -> None:
    assert re.search(r"<number>  How much\.  ", run(taking(), ["once", "--help"])[1])
    assert run(taking(), ["once", "--value", "-7"]) == (0, "-7\n")


def test_what_is_no_number_is_said_to_be_none() -> None:
    assert "'many' is no whole number" in run(taking(least=1), ["once", "--value", "many"])[1]
    assert "'1.5' is no whole number" in run(taking(least=1), ["once", "--value", "1.5"])[1]
    assert "'many' is no number" in run(taking(least=1, kind=float), ["once", "--value", "many"])[1]

"""Command lines on any system: streams that are closed or lack a letter, Ctrl-C, accounts without a name or a home."""

from __future__ import annotations

import getpass
import operator
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw7 import HW7Error, __version__

if TYPE_CHECKING:
    import typer


def command_line(name: str, help_text: str) -> typer.Typer:
    """A command without subcommands yet, that says its version."""
    import typer  # here: most of those who import this file need no command line

    cli = typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # in its narrow columns, lists of choices break within words
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @cli.callback(invoke_without_command=True)
    def say_version(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
        if version:
            typer.echo(f"{name} {__version__}")
            raise typer.Exit

    return cli


def number(
    about: str, *, least: float | None = None, above: float | None = None, most: float | None = None,
    below: float | None = None, kind: type[float] = int,
) -> Any:  # fmt: skip
    """An option that takes a number within these bounds, which its help says in words: typer would write [x>=32]."""
    import typer

    bounds: dict[str, Callable[[float], bool]] = {}
    for word, bound, holds in (
        ("at least", least, operator.ge), ("above", above, operator.gt), ("at most", most, operator.le),
        ("below", below, operator.lt),
    ):  # fmt: skip
        if bound is not None:
            bounds[f"{word} {bound:g}"] = partial(lambda holds, bound, value: holds(value, bound), holds, bound)
    words = " and ".join(bounds)

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is no {'whole ' if kind is int else ''}number") from None
        if not all(within(value) for within in bounds.values()):
            raise typer.BadParameter(f"{text} is not {words}")
        return value

    about += f" {words[:1].upper()}{words[1:]}." if words else ""
    return typer.Option(parser=number, metavar="<number>", help=about)


def run_cli(cli: typer.Typer, name: str) -> None:
    """Runs the command that was typed and ends the process, with exit code 1 after a mistake that the user can fix."""
    _open_streams()
    try:
        os.getcwd()
    except FileNotFoundError:
        _say(f"{name}: the folder that you are in is gone: go to another one (cd) first")
        sys.exit(1)
    warnings.formatwarning = lambda message, *_args, **_options: f"{name}: warning: {message}\n"
    try:
        cli(prog_name=name)
    except HW7Error as error:
        _say(f"{name}: {error}")
        sys.exit(1)
    except SystemExit as end:
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):  # typer has made a code of it
            _say(f"{name}: interrupted. What is done is kept; run the same again to go on.")
        raise


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _open_streams() -> None:
    """Every command has three streams: one that the caller has closed leads nowhere, and none fails for a letter that
    its encoding does not have, which is written as its number.

    Without this, a closed stream's descriptor goes to the next file that is opened, and what is printed goes into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one
            os.set_inheritable(nowhere, True)  # for the processes that are started, too
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if number == 0 else "w", encoding="utf-8")  # noqa: SIM115 (for good)
            setattr(sys, name, stream)
        elif number and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def login() -> str:
    """This account's name, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # the first before Python 3.13, the last on Windows
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "nobody"


def expanded(path: Path | str) -> Path:
    """The path with ~ and ~NAME written out. Raises HW7Error where nobody knows that home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise HW7Error(f"{path}: this home folder is not known here; write the whole path") from error

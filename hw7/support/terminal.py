"""How a command begins and ends, wherever it is called from: with streams that are closed or cannot write every letter,
with mistakes and Ctrl-C that are told in one line.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

from hw7 import HW7Error

if TYPE_CHECKING:
    import typer


def run(cli: typer.Typer, name: str) -> None:
    """Runs the command that was typed and ends the process, with exit code 1 after a mistake that the user can fix."""
    open_streams()
    try:
        os.getcwd()
    except FileNotFoundError:
        say(f"{name}: the folder that you are in is gone: go to another one (cd) first")
        sys.exit(1)
    warnings.formatwarning = lambda message, *_args, **_options: f"{name}: warning: {message}\n"
    try:
        cli()
    except HW7Error as error:
        say(f"{name}: {error}")
        sys.exit(1)
    except SystemExit as end:
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):  # typer has made a code of it
            say(f"{name}: interrupted. What is done is kept; run the same again to go on.")
        raise


def say(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)


def open_streams() -> None:
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

"""What the attacks share; handed in with each as solution/tools.py. They say so when they get where they must not."""

import contextlib
import ctypes
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

CANARY = re.compile(rb"canary-[0-9a-f]{16}")  # stands in the grader's environment and files, and nowhere in here
tempfile.tempdir = os.environ.get("TMPDIR")  # where it can write, whatever was found out before
libc = ctypes.CDLL(None, use_errno=True)


def won(what: object) -> None:
    line = f"\nATTACK SUCCEEDED: {what}\n".encode(errors="replace")
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            os.write(descriptor, line)


def look(data: bytes, where: object) -> None:
    if found := CANARY.search(data):
        won(f"{where} holds {found[0]!r}")


def read(path: str, size: int = 1 << 20) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return b""


def syscall(number: int, *arguments: Any) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def must_fail(function: Callable[..., Any], *arguments: Any) -> None:
    """Tries it, and says so where it worked. An error of the attack's own (a wrong name) is none of the jail's work."""
    try:
        result = function(*arguments)
    except (OSError, ImportError, ZeroDivisionError):
        return
    won(f"{getattr(function, '__name__', function)}{arguments} gave {result!r}")


def letter_box(write: Callable[[int, int], object], read: Callable[[int], int]) -> None:
    """Looks for a message that only another child of this run can have left, number by number; then leaves it.

    Its first question only: later ones would read what this child itself has left.
    """
    message = [zlib.crc32(f"{MARK}{number}".encode()) & 1 for number in range(32)]
    if opened:
        return
    opened.append(True)
    try:
        if [read(number) for number in range(32)] == message:
            won("a message of another child")
    except OSError:
        pass
    for number, bit in enumerate(message):
        with contextlib.suppress(OSError):
            write(number, bit)


opened: list[bool] = []


def rotated(things: Sequence[Any]) -> list[Any]:
    """Where the first one ends the process: another one first at each question."""
    start = turn % len(things)
    return [*things[start:], *things[:start]]


turn = 0  # another number at each question

# SECRETS, paths of the grader's machine, and MARK, a name for whatever is left behind, are added for each run.
SECRETS: list[str] = []
MARK = ""

"""The account that a command runs under: its name and its home, where it has any; in a container it may have none."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from hw7 import HW7Error


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

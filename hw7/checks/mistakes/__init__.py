"""The known mistakes: a table for each chapter, and one for all, which judges, tests and docs share.

A mistake's values live with whoever makes the cases; here is what is said about it.
"""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from hw7.solution import MODULES


@dataclass(frozen=True)
class Mistake:
    """id: what cases and grades call it. tasks: where it is looked for. title: what was done. hint: what to do.
    source: where it is known from. diagnosed: whether it is found out (`hw7.checks.diagnosis`), in words of its own,
    and not known by the values that it gives."""

    id: str
    tasks: tuple[str, ...]
    title: str
    hint: str
    source: str = "a likely slip"
    diagnosed: bool = False


@lru_cache(maxsize=1)
def load_mistakes() -> dict[str, Mistake]:
    """All known mistakes by id, in the order of the tasks."""
    folder = resources.files("hw7.checks.mistakes")
    names = ("common", *MODULES, "final")
    chapters = [tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8")) for name in names]
    rows = [row | {"id": id_, "tasks": tuple(row["tasks"])} for chapter in chapters for id_, row in chapter.items()]
    return {row["id"]: Mistake(**row) for row in rows}

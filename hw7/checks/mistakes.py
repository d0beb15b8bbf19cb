"""The known mistakes: one table (mistakes.toml) that judges, tests and docs share. A mistake's values live with whoever
makes the cases; here is what is said about it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True)
class Mistake:
    """id: what cases and grades call it. tasks: where it is looked for. title: what was done. hint: what to do.
    source: where it is known from."""

    id: str
    tasks: tuple[str, ...]
    title: str
    hint: str
    source: str


@lru_cache(maxsize=1)
def load_mistakes() -> dict[str, Mistake]:
    """All known mistakes by id, in the order of the tasks."""
    text = resources.files("hw7.checks").joinpath("mistakes.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["mistake"]
    return {row["id"]: Mistake(**{**row, "tasks": tuple(row["tasks"])}) for row in rows}


def as_page() -> str:
    """docs/mistakes.md: the table for people."""
    lines = [
        "# Known mistakes",
        "",
        "Where a wrong answer is what one of these mistakes gives, the public tests and the grader say so. This page",
        "is written from `hw7/checks/mistakes.toml` by `python -m hw7.checks.mistakes`.",
        "",
        "| id | tasks | what was done | hint | known from |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in load_mistakes().values():
        cells = (f"`{each.id}`", ", ".join(each.tasks), each.title, each.hint, each.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_page(), end="")

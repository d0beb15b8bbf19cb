"""Reproductions of the report of seconds, by the reference or by a solution that differs from it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from hw7.report.profiles import PROFILES
from hw7.report.reproduce import Reproduction
from hw7.solution import Solution, default_directory, load_solution

TINY = replace(PROFILES["smoke"], images={"training": 22, "validation": 22, "testing": 11, "pretraining": 20})


def reproduction(out: Path, solution: Solution, **changes: Any) -> Reproduction:
    options: dict[str, Any] = {"source": "plates", "profile_name": "tiny", "say": lambda line: None}
    return Reproduction(out=out, solution=solution, **options | changes)


def contents(folder: Path) -> dict[str, bytes]:
    """Without the lock, which is nothing but a lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def with_own(folder: Path, **sources: str) -> Solution:
    """The reference solution with something put at the end of its modules."""
    shutil.copytree(default_directory() / "solution", folder / "solution")
    for module, source in sources.items():
        path = folder / "solution" / f"{module}.py"
        path.write_text(f"{path.read_text()}\n\n{source}\n")
    return load_solution(folder)

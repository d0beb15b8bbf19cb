"""A copy of the project, for tests that change it, and what is run in there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hw7.solution import PROJECT

HW7_GRADE = "from autograder.cli import app; app()"


def copy_project(folder: Path) -> Path:
    """All that the tests and the course's commands need of it."""
    clean = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("hw7", "autograder", "reference_solutions", "assignments", "docs", "tests"):
        shutil.copytree(PROJECT / name, folder / name, ignore=clean)
    for name in ("README.md", "LICENSE", "constraints.txt", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder / name)
    return folder


def run_in(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, which imports the copy and not the project."""
    paths = (copy, copy / "tests", copy / "tests" / "project")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)

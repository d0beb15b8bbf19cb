"""What the public tests share: the submission they test (the folder above), and a mark for each task."""

import sys
from pathlib import Path

import pytest

from hw7.checks.public import Checks

HERE = Path(__file__).resolve().parent
CHECKS = Checks(HERE.parent, HERE)
sys.path.insert(0, str(HERE.parent))  # for `bugs`


def pytest_configure(config: pytest.Config) -> None:
    for task in CHECKS.tasks:
        config.addinivalue_line("markers", f"{task.mark}: task {task.id}, {task.title}")
    config.addinivalue_line("markers", "bugs: the four bugs to find; they earn no points")


@pytest.fixture(scope="session")
def checks() -> Checks:
    return CHECKS

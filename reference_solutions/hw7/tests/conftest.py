"""What the public tests share: the submission they test (the folder above), and a mark for each task.

The exercises without points are left out, unless they are asked for: who has all points sees no failure.
"""

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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of `test_bugs.py`: whether neither a mark nor its own name asks for it. Of others: no opinion."""
    asked = "bugs" in config.option.markexpr or any("test_bugs" in name for name in config.args)
    return True if collection_path.name == "test_bugs.py" and not asked else None


def pytest_report_header(config: pytest.Config) -> str:
    return "the four bugs to find earn no points and have tests of their own: pytest -m bugs"


@pytest.fixture(scope="session")
def checks() -> Checks:
    return CHECKS

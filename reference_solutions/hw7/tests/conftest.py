"""What the public tests share: the submission they test (the folder above), its functions, and a mark for each task.

The exercises without points are left out, unless they are asked for: who has all points sees no failure.
"""

import doctest
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hw7 import HW7Error
from hw7.checks.public import Checks
from hw7.solution import running

HERE = Path(__file__).resolve().parent
CHECKS = Checks(HERE.parent, HERE)
sys.path.insert(0, str(HERE.parent))  # for `solution` and `bugs`


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


def yours(name: str) -> Callable[..., Any]:
    """Your function of this name, such as "losses.kd_loss"; its file is imported when it is called."""
    module, _, function = name.partition(".")

    def call(*arguments: object, **options: object) -> Any:
        __tracebackhide__ = True
        try:
            with running(f"import solution.{module}", HERE.parent):
                found = getattr(importlib.import_module(f"solution.{module}"), function, None)
        except HW7Error as error:
            pytest.fail(str(error), pytrace=False)
        if found is None:
            pytest.fail(f"solution/{module}.py has no function {function}", pytrace=False)
        return found(*arguments, **options)

    return call


class _Printed(doctest.OutputChecker):
    """What you print while your function runs may stand before what the example prints."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return got == want or got.endswith(f"\n{want}")


def run_example(text: str) -> None:
    """Types these lines into Python; fails at the first that prints something else than what stands below it."""
    said: list[str] = []
    example = doctest.DocTestParser().get_doctest(text, {}, "the handout's example", None, 0)
    runner = doctest.DocTestRunner(_Printed(), verbose=False, optionflags=doctest.FAIL_FAST)
    if runner.run(example, out=said.append).failed:
        pytest.fail("".join(said).strip("*\n"), pytrace=False)

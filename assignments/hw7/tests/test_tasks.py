"""The public tests: one for each part of a task. `pytest -m task_2_1` runs task 2.1; `hw7 check` shows all as a table.

The grader asks the same, in the same words, of other inputs.
"""

import pytest
from conftest import CHECKS

from hw7.checks.public import Checks

PARTS = [
    pytest.param(task.id, part, id=f"{task.id}-{part}", marks=getattr(pytest.mark, task.mark))
    for task in CHECKS.tasks
    for part in task.points
]


@pytest.mark.parametrize(("task", "part"), PARTS)
def test_task(checks: Checks, task: str, part: str) -> None:
    result = checks.part(task, part)
    if not result.right:
        pytest.fail(checks.explain(task, result), pytrace=False)

"""All checks by the name that the rubric gives them: their parts, the module they call, the cases they ask.

Reading a rubric needs no torch: a chapter's cases are imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from autograder.tasks import final, losses, models, pruning, quantization
from hw7 import HW7Error

if TYPE_CHECKING:
    from hw7.checks.cases import Case

_CHAPTERS = {"models": models, "losses": losses, "pruning": pruning, "quantization": quantization, "final": final}

# The parts that each check tells apart. A rubric gives every one of them its points, or 0.
PARTS: dict[str, tuple[str, ...]] = {
    check: parts for chapter in _CHAPTERS.values() for check, parts in chapter.CHECKS.items()
}
# The chapter of each check: the module of a submission that it calls.
CHAPTER = {check: name for name, chapter in _CHAPTERS.items() for check in chapter.CHECKS}


def cases(task: str, check: str, parameters: Mapping[str, Any], seed: bytes) -> list[Case]:
    """All cases of a task, in the order in which they are asked and shown. The same seed gives the same cases.

    They are made by the function of the check's name in the chapter's `cases`; `parameters` are its keyword arguments.
    Raises HW7Error where it is still the stub of a new task.
    """
    from autograder.tasks.builder import Numbers, finished

    build = getattr(import_module(f"autograder.tasks.{CHAPTER[check]}.cases"), check)
    try:
        return [finished(case, task) for case in build(Numbers(task, seed), **parameters)]
    except NotImplementedError as error:
        where = f"autograder/tasks/{CHAPTER[check]}"
        raise HW7Error(f"task {task} is still a stub: fill in {check} in {where}: {error}") from error

"""The plain tests of a task, run in this process on any submission: pytest takes too long for the corpora."""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from submissions import imported

from hw7.checks.public import TESTS


def _load(path: Path, **beside: ModuleType) -> ModuleType:
    """A file as a module of its own, while these modules have these names."""
    spec = importlib.util.spec_from_file_location(f"plain_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, other in beside.items():
            patch.setitem(sys.modules, name, other)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(pytest, "mark", pytest.MarkGenerator(_ispytest=True))  # takes marks of tasks, which are not ours
        spec.loader.exec_module(module)
    return module


@cache
def plain_tests(task: str) -> Mapping[str, Callable[[], Any]]:
    """The tests of a task by their names."""
    (path,) = TESTS.glob(f"test_{task.replace('.', '_')}_*.py")
    module = _load(path, conftest=_load(TESTS / "conftest.py"))
    assert module.pytestmark.name == f"task_{task.replace('.', '_')}"
    return dict(case for name, test in vars(module).items() if name.startswith("test_") for case in _cases(name, test))


def _cases(name: str, test: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    if not marks:
        yield name, test
    for mark in marks:
        argument, values = mark.args
        for value in values:
            yield f"{name}[{value}]", partial(test, **{argument: value})


def failures(files: Mapping[str, bytes], task: str) -> dict[str, str]:
    """The plain tests of this task that a submission fails, and what they say."""
    found = {}
    with imported(files), torch.random.fork_rng():
        for name, test in plain_tests(task).items():
            try:
                test()
            except (Exception, pytest.fail.Exception, SystemExit) as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found

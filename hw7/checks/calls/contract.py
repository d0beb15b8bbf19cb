"""The submission as a call finds it: its functions, and what they return."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


class Unfit(Exception):
    """A function returned something of another kind than the contract says."""


class Absent(Exception):
    """The submission has no such module or function."""


class LazySolution:
    """The submission that is importable as `solution`; each of its modules is imported when it is first asked for."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(f"solution.{name}" if name else "solution")


def find(solution: Any, module: str, function: str) -> Callable[..., Any]:
    """A function of the submission. Raises Absent where there is none."""
    try:
        found = getattr(getattr(solution, module), function, None)
    except ModuleNotFoundError as error:
        if error.name in ("solution", f"solution.{module}"):
            raise Absent(str(error)) from error
        raise
    if not callable(found):
        raise Absent(f"solution.{module}.{function}")
    return found


def plain(value: Any) -> Tensor:
    """A copy of a value as a plain tensor. Raises Unfit where it is none."""
    try:
        tensor = torch.as_tensor(value).detach()
        return tensor.as_subclass(Tensor).cpu().clone(memory_format=torch.contiguous_format)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unfit(f"{type(value).__name__} where a tensor belongs") from error


def expect(kind: type, value: Any) -> Any:
    """The value, if it is of this kind. Raises Unfit where it is not."""
    if not isinstance(value, kind):
        raise Unfit(f"{type(value).__name__} where {kind.__name__} belongs")
    return value

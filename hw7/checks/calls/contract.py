"""The submission as a call finds it: its functions, and what they return."""

import importlib
from collections.abc import Callable, Sequence
from numbers import Integral
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hw7.checks.tensors import reorder


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
    """A copy of a tensor as a plain one. Raises Unfit where it is none: a number, an array, a tensor without data."""
    try:
        tensor = expect(Tensor, value).detach().as_subclass(Tensor).cpu()
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise Unfit(f"{tensor.layout}, {tensor.dtype} where a plain tensor belongs")
        return tensor.clone(memory_format=torch.contiguous_format)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unfit(f"{type(value).__name__} where a tensor belongs") from error


def expect(kind: type, value: Any) -> Any:
    """The value, if it is of this kind. Raises Unfit where it is not."""
    if not isinstance(value, kind):
        raise Unfit(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def whole_numbers(values: Any) -> list[int | float]:
    """The numbers of a sequence, such as widths. Raises Unfit where it holds anything but numbers: tensors, words."""
    numbers = expect(Sequence, values)
    return [int(number) if isinstance(number, Integral) else expect(float, number) for number in numbers]


def as_table(rows: Any) -> Tensor:
    """Numbers, or rows of them, as a tensor. Raises Unfit where rows differ in length, or a number in size."""
    try:
        return torch.tensor(rows)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise Unfit("numbers that are no table") from error


def first_with_others(again: bool, call: Callable[[], Any], *tensors: Tensor) -> Any:
    """What a call returns; if `again`, it was made before while these tensors held their numbers in another order."""
    if again:
        reorder(*tensors)
        call()
        reorder(*tensors)
    return call()

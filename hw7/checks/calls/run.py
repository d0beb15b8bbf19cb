"""Running one call on a submission: whatever it does becomes an Answer.

A call is a generator function of a chapter's module: it runs one function of the submission on inputs and yields
tensors, in an order that its judge knows. It holds no answer and draws no conclusion; whoever reads what it yields
believes nothing but the values. Numbers that are too many to be sent (the weights of a whole network) are made on both
sides by `tensors.noise`.
"""

import importlib.util
import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw7.checks.calls import final, losses, models, pruning, quantization
from hw7.checks.calls.contract import Absent, Unfit, plain
from hw7.checks.cases import Answer, Call, Status

NOTE_LENGTH = 2000
TORCH_HAS_NO_MEMORY = ("allocate memory", "std::bad_alloc")


def import_module(solution: Any, module: str) -> Iterator[Any]:
    """Imports solution.MODULE, or the package itself for "", and answers nothing."""
    getattr(solution, module)
    yield from ()


def why_not_imported(solution: Any, module: str, ended: str) -> Iterator[Any]:
    """Why solution.MODULE cannot be imported, UTF-8: read in its source, of which nothing is run. ended: see `told`."""
    from hw7.checks.importable import import_trouble, installed, told  # where a network is judged, it is not there

    found = importlib.util.find_spec("solution")
    folder = Path(next(iter(found.submodule_search_locations or [])) if found else "solution")
    files = {
        (Path("solution") / path.relative_to(folder)).as_posix(): path.read_bytes() for path in folder.rglob("*.py")
    }
    text = told(module, import_trouble(files, module, installed), ended)
    yield torch.frombuffer(bytearray(text.encode(errors="replace")), dtype=torch.uint8)


# Every call by its name: the public generator functions that the chapters define.
_IMPORTS: dict[str, Callable[..., Iterator[Any]]] = {
    function.__name__: function for function in (import_module, why_not_imported)
}
PROGRAMS: dict[str, Callable[..., Iterator[Any]]] = _IMPORTS | {
    name: function
    for chapter in (models, losses, pruning, quantization, final)
    for name, function in inspect.getmembers(chapter, inspect.isgeneratorfunction)
    if function.__module__ == chapter.__name__ and not name.startswith("_")
}


def start_call(solution: Any, call: Call) -> Iterator[Any]:
    """What the call yields, of copies of its inputs."""
    inputs = {name: value.clone() if isinstance(value, Tensor) else value for name, value in call.inputs.items()}
    return PROGRAMS[call.program](solution, **inputs)


def run_call(solution: Any, call: Call) -> Answer:
    """Runs one call; whatever the submission raises becomes a Status."""
    tensors: list[Tensor] = []
    try:
        for value in start_call(solution, call):
            tensors.append(plain(value))
    except (Exception, SystemExit) as error:
        return Answer(_status(error), tuple(tensors), _note(error))
    return Answer(Status.RETURNED, tuple(tensors))


def _status(error: BaseException) -> Status:
    if isinstance(error, Unfit):
        return Status.RETURNED
    if isinstance(error, Absent):
        return Status.ABSENT
    if isinstance(error, NotImplementedError):
        return Status.NOT_IMPLEMENTED
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return Status.VALUE_ERROR
    if isinstance(error, MemoryError):
        return Status.NO_MEMORY
    if isinstance(error, RuntimeError) and any(words in _text(error) for words in TORCH_HAS_NO_MEMORY):
        return Status.NO_MEMORY
    return Status.RAISED


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the submission's own exception, with a __str__ of its own
        return "(no text)"


def _note(error: BaseException) -> str:
    trace = traceback.extract_tb(error.__traceback__)
    place = f" at {trace[-1].filename}, line {trace[-1].lineno}" if trace else ""
    return f"{type(error).__name__}{place}: {_text(error)}"[:NOTE_LENGTH]


def module_of(call: Call) -> str:
    """The module of a submission that a call is about: "losses"."""
    return PROGRAMS[call.program].__module__.rpartition(".")[2]

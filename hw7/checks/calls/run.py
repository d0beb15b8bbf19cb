"""The side that runs a submission: each program calls one of its functions on inputs and answers with tensors.

A program is a generator: it yields tensors, in an order that its judge knows. It holds no answer and draws no
conclusion; whoever reads what it yields believes nothing but the values. Numbers that are too many to be sent (the
weights of a whole network) are made on both sides by `noise`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from hw7.checks.calls.contract import Absent, Unfit, plain
from hw7.checks.calls.final import final_logits, final_model
from hw7.checks.calls.losses import distillation_step, kd_gradient, kd_shift, kd_teacher, kd_value
from hw7.checks.calls.models import network
from hw7.checks.calls.pruning import (
    channel_importance,
    iterative_prune,
    select_channels,
    slim,
    slim_alone,
    slim_outputs,
    width_schedule,
)
from hw7.checks.calls.quantization import compress, decompress, dequantize, quantize
from hw7.checks.cases import Answer, Call, Status

NOTE_LENGTH = 2000


def import_module(solution: Any, module: str) -> Iterator[Any]:
    """Imports solution.MODULE, or the package itself for "", and answers nothing."""
    getattr(solution, module)
    yield from ()


PROGRAMS: dict[str, Callable[..., Iterator[Any]]] = {
    program.__name__: program
    for program in (
        network, kd_value, kd_gradient, kd_shift, kd_teacher, distillation_step, channel_importance, select_channels,
        slim, slim_outputs, slim_alone, width_schedule, iterative_prune, quantize, dequantize, compress, decompress,
        import_module, final_model, final_logits,
    )
}  # fmt: skip


def run_call(solution: Any, call: Call) -> Answer:
    """Runs one call; whatever the submission raises becomes a Status. The inputs are copied first."""
    inputs = {name: value.clone() if isinstance(value, Tensor) else value for name, value in call.inputs.items()}
    tensors: list[Tensor] = []
    note = ""
    try:
        for value in PROGRAMS[call.program](solution, **inputs):
            tensors.append(plain(value))
        status = Status.RETURNED
    except Unfit as error:
        status, note = Status.RETURNED, _note(error)
    except (Exception, SystemExit) as error:
        status, note = _status(error), _note(error)
    return Answer(status, tuple(tensors), note)


def _status(error: BaseException) -> Status:
    if isinstance(error, Absent):
        return Status.ABSENT
    if isinstance(error, NotImplementedError):
        return Status.NOT_IMPLEMENTED
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return Status.VALUE_ERROR
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in _text(error)):
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

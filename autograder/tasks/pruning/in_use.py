"""What a student does next with a slimmed network: task 3.3."""

from collections.abc import Iterator

import torch
from torch import Tensor

from autograder.tasks.builder import Mistakes, Numbers, case
from hw7.checks.cases import Call, Case, Value
from hw7.checks.compare import tensor_names
from hw7.checks.tensors import length, student_net

SLIM_RETURNS = "a StudentNet of the new widths"
CHANGED_ELSE = "whether all else of the model is as before"
# Of 3.1: that it leaves a batch norm as it was, in either mode.
LEFT_ALONE = "channel_importance: scales of both signs; channel_importance: a batch norm whose scale has changed"
LEFT = "how many parameters and statistics a step of SGD does not reach"
IN_USE_NAMES = (
    "the widths of the result, slimmed again",
    "the difference that a file makes to the outputs",
    "how many entries of the result change with another result and a copy",
    LEFT,
    "how far a step of SGD takes it from a network of its entries",
    "the given model's widths after",
    "the given model's stage_widths after",
)


def slimmed_in_use(model: Tensor, widths: tuple[int, ...], to: tuple[int, ...], classes: int, rng: Numbers) -> Case:
    """What a student does next with the result. Nothing of it depends on which channels stay."""
    again, loaded, separate, left, trained, *after = IN_USE_NAMES
    expected: dict[str, Value] = {
        again: torch.tensor(to),
        loaded: torch.zeros(3, classes),
        separate: torch.tensor(0),
        left: torch.tensor([0, 0]),
        trained: torch.zeros(length(to, classes)),
        **{each: torch.tensor(widths) for each in after},
        "atol": 1e-5,  # two networks with the same numbers in them
        "returns": SLIM_RETURNS,
    }
    mistakes: Mistakes = {
        "slim-not-usable": {left: False, trained: None},
        "slim-shares-storage": {again: None, loaded: None, separate: False, left: None, trained: None},
        "changes-its-state": dict.fromkeys(after),
        "slim-widths-not-saved": {again: False},
    }
    pictures = torch.rand(3, 3, 32, 32, generator=rng.generator("in use", "images"))
    inputs: dict[str, Value] = {"widths": widths, "model": model, "to": to, "images": pictures}
    return case("copy", "in use", Call("slim_in_use", inputs), expected, mistakes)


def slimmed_alone(name: str, model: Tensor, widths: tuple[int, ...], to: tuple[int, ...]) -> Iterator[Case]:
    """What the result shares with the model: nothing. Its widths come as a list."""
    slimming, clearing = "the model after slimming", "the model after the result was set to 0"
    clearing_else, a_tuple = f"{CHANGED_ELSE} after the result was set to 0", "whether the widths are a tuple"
    bias = student_net(widths, model).blocks[6].pointwise.bias
    assert bias is not None
    right = torch.tensor(True)
    expected: dict[str, Value] = {
        "blocks.6.pointwise.bias": bias.detach(),
        "whether all parameters are trainable": right,
        slimming: model,
        clearing: model,
        CHANGED_ELSE: right,
        clearing_else: right,
        a_tuple: right,
        "exact": f"{slimming}; {clearing}",
        "returns": SLIM_RETURNS,
    }
    mistakes: Mistakes = {
        "slim-shares-storage": {clearing: None, clearing_else: False},
        "slim-not-trainable": {"whether all parameters are trainable": torch.tensor(False)},
        "changes-its-input": {slimming: False, clearing: None},
        "changes-its-state": {CHANGED_ELSE: False, clearing_else: None},
    }
    call = Call("slim_alone", {"widths": widths, "model": model, "to": to})
    beside = [CHANGED_ELSE, clearing_else, a_tuple]
    numbers = [each for each in tensor_names(expected) if each not in beside]
    for part_of, names, needs in (("", numbers, ""), (", beside its numbers", beside, LEFT_ALONE)):
        yield case("copy", f"{name}{part_of}", call, {**expected, "only": "; ".join(names)}, mistakes, needs=needs)

"""What a student does next with a slimmed network: task 3.3."""

import torch
from torch import Tensor

from autograder.tasks.builder import Mistakes, Numbers, case
from hw7.checks.cases import Call, Case, Value

LEFT = "how many parameters and statistics a step of SGD does not reach"
IN_USE_NAMES = (
    "the widths of the result, slimmed again",
    "the difference that a file makes to the outputs",
    "how many entries of the result change with another result and a copy",
    LEFT,
    "the given model's widths after",
    "the given model's stage_widths after",
)


def slimmed_in_use(model: Tensor, widths: tuple[int, ...], to: tuple[int, ...], classes: int, rng: Numbers) -> Case:
    """What a student does next with the result. Nothing of it depends on which channels stay."""
    again, loaded, separate, left, *after = IN_USE_NAMES
    expected: dict[str, Value] = {
        again: torch.tensor(to),
        loaded: torch.zeros(3, classes),
        separate: torch.tensor(0),
        left: torch.tensor([0, 0]),
        **{each: torch.tensor(widths) for each in after},
        "atol": 1e-5,  # two networks with the same numbers in them
        "returns": "a StudentNet of the new widths",
    }
    mistakes: Mistakes = {
        "slim-not-usable": {left: False},
        "slim-shares-storage": {again: None, loaded: None, separate: False, left: None},
        "changes-its-input": dict.fromkeys(after),
        "slim-widths-not-saved": {again: False},
    }
    pictures = torch.rand(3, 3, 32, 32, generator=rng.generator("in use", "images"))
    inputs: dict[str, Value] = {"widths": widths, "model": model, "to": to, "images": pictures}
    return case("copy", "in use", Call("slim_in_use", inputs), expected, mistakes)

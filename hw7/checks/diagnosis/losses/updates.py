"""What came back of a step of distillation, and how its update differs from the right one.

The right update is the difference of the student's parameters before and after. Another one may be so many times as
far, cut, with older gradients in it, of some tensors only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from hw7.checks.cases import Case, Status
from hw7.checks.compare import tensor_names
from hw7.checks.diagnosis.frame import Asked
from hw7.checks.tensors import student_net

CLOSE = 1e-5  # relative: the networks are float64, a loss may be float32


@dataclass(frozen=True)
class Step:
    """One call, and what came back by the names of what is expected."""

    case: Case
    got: Mapping[str, Tensor]
    evidence: Mapping[str, Mapping[str, Any]]

    @property
    def rate(self) -> float:
        return float(self.case.call.inputs["rate"])  # type: ignore[arg-type]

    @cached_property
    def layout(self) -> dict[str, tuple[slice, bool]]:
        """The student's tensors in its vector, and whether each is a parameter."""
        return _layout(self.case.call.inputs["student_widths"], self.before)  # type: ignore[arg-type]

    def of_teacher(self) -> str:
        """What of the teacher moved, in words."""
        before, after = self.case.call.inputs["teacher"], self.got["the teacher after"]
        assert isinstance(before, Tensor)
        if before.shape != after.shape or torch.equal(before, after):
            return ""
        layout = _layout(self.case.call.inputs["teacher_widths"], before)  # type: ignore[arg-type]
        if any(is_one and not torch.equal(before[place], after[place]) for place, is_one in layout.values()):
            return "The teacher's parameters are others after the step than before."
        return "The running statistics of the teacher's batch norms move in the step, as in train mode."

    def _part(self, vector: Tensor, parameters: bool) -> Tensor:
        return torch.cat([vector[place] for place, is_one in self.layout.values() if is_one == parameters])

    @property
    def sizes(self) -> tuple[int, int]:
        """N and C."""
        labels, last = self.case.call.inputs["labels"], self.layout["fc.bias"][0]
        assert isinstance(labels, Tensor)
        return len(labels), last.stop - last.start

    @property
    def before(self) -> Tensor:
        vector = self.case.call.inputs["student"]
        assert isinstance(vector, Tensor)
        return vector.double()

    def parameters(self, vector: Tensor) -> Tensor:
        return self._part(vector.double(), True)

    def statistics(self, vector: Tensor) -> Tensor:
        return self._part(vector.double(), False)

    def moved(self, after: Tensor) -> Tensor:
        """How far the parameters went, by the learning rate: the gradient of plain SGD."""
        return (self.parameters(self.before) - self.parameters(after)) / self.rate

    @cached_property
    def update(self) -> Tensor:
        return self.moved(self.got["the student after"])

    @cached_property
    def right(self) -> Tensor:
        return self.moved(self.expected("the student after"))

    def expected(self, name: str) -> Tensor:
        value = self.case.expected[name]
        assert isinstance(value, Tensor)
        return value

    def told(self, name: str) -> int:
        """A number or truth that came back."""
        return int(self.got[name].item())

    def is_right(self) -> bool:
        return near(self.update, self.right)


def _layout(widths: Sequence[int], vector: Tensor) -> dict[str, tuple[slice, bool]]:
    """The tensors of a network in its vector, and whether each is a parameter."""
    network = student_net(widths, vector)
    parameters, found, position = {name for name, _ in network.named_parameters()}, {}, 0
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            found[name] = slice(position, position + tensor.numel()), name in parameters
            position += tensor.numel()
    return found


def near(one: Tensor, other: Tensor, room: float = CLOSE) -> bool:
    return bool((one - other).norm() <= room * max(one.norm(), other.norm()))


def one_of(sentences: Iterable[str]) -> str:
    """The sentence that all of them are; "" where they are not the same."""
    found = set(sentences)
    return found.pop() if len(found) == 1 else ""


def steps_of(asked: Sequence[Asked], program: str, part: str) -> list[Step]:
    """The calls whose answers are of the right kind; of the cases that look at one, that of this part."""
    found = []
    mine = [each for each in asked if each.case.call.program == program]
    for _, group in groupby(sorted(mine, key=lambda each: id(each.case.call)), key=lambda each: id(each.case.call)):
        cases = list(group)
        evidence = {name: each.case.evidence[name] for each in cases for name in each.case.evidence}
        for case, (answer, *_), _ in cases:
            names = tensor_names(case.expected)
            if case.part != part or answer.status is not Status.RETURNED or len(answer.tensors) != len(names):
                continue
            got = dict(zip(names, answer.tensors, strict=True))
            pairs = [(got[name], case.expected[name]) for name in names]
            if all(alike(tensor, wanted) for tensor, wanted in pairs):
                found.append(Step(case, got, evidence))
    return found


def alike(got: Tensor, wanted: Any) -> bool:
    """Whether they may be compared."""
    same = got.shape == wanted.shape and got.is_floating_point() == wanted.is_floating_point()
    return same and bool(got.isfinite().all())


# ---- the update --------------------------------------------------------------------------------------------------


def as_mixture(steps: Sequence[Step]) -> str:
    """So many times the right update, older gradients (ones) and the parameters themselves."""
    shares = []
    for step in steps:
        basis = torch.stack([step.right, torch.ones_like(step.right), step.parameters(step.before)], dim=1)
        found = torch.linalg.lstsq(basis, step.update).solution
        if not near(basis @ found, step.update):
            return ""
        shares.append(found)
    scale = steps[0].right.norm() / steps[0].update.norm().clamp(min=1e-12)
    if any((each - shares[0]).abs().max() > 1e-3 for each in shares) or scale > 1e6:
        return ""
    times, older, decay = (round(share, 3) for share in shares[0].tolist())
    found = []
    if times == 0 and older:
        found.append("The step follows gradients that were there before it, and not that of the loss.")
    elif older:
        found.append("Gradients that were there before the step are added to that of the loss.")
    if times < 0:
        found.append("The step goes up the gradient, not down.")
    if abs(times) not in (0, 1):
        found.append(f"The student's parameters move {abs(times):g} times as far as the given optimizer's step goes.")
    if decay:
        found.append(f"A weight decay of {decay:g} is in the step, which the given optimizer has not.")
    return " ".join(found)


def as_none(steps: Sequence[Step]) -> str:
    if any(step.update.abs().max() > CLOSE for step in steps):
        return ""
    return "The student's parameters are the same after the step as before."


def as_cut(steps: Sequence[Step]) -> str:
    """The right direction, and a length that is the same in all, or the largest entry."""
    if any(step.right.norm() == 0 or step.update.norm() == 0 for step in steps):
        return ""
    largest = max(float(step.update.abs().max()) for step in steps)
    if all(near(step.right.clamp(-largest, largest), step.update) for step in steps):
        return f"Each entry of the gradient is cut to {largest:.3g} at most; nothing is cut in the task."
    times = [float(step.update.norm() / step.right.norm()) for step in steps]
    if not all(near(step.right * factor, step.update, 1e-4) for step, factor in zip(steps, times, strict=True)):
        return ""
    longest = max(float(step.update.norm()) for step in steps)
    cut = all(
        abs(min(1, longest / float(step.right.norm())) - f) < 1e-3 * f for step, f in zip(steps, times, strict=True)
    )
    if cut:
        return f"The gradient is cut to a length of {longest:.3g} before the step; nothing is cut in the task."
    return ""


def as_signs(steps: Sequence[Step]) -> str:
    """All parameters that have a gradient move equally far, as in a first step of Adam."""
    sizes = []
    for step in steps:
        live = step.right.abs() > 1e-4 * step.right.abs().max()
        sign, weights = step.right[live].sign(), step.parameters(step.before)[live]
        basis = torch.stack([sign, weights], dim=1)
        found = torch.linalg.lstsq(basis, step.update[live]).solution
        if not near(basis @ found, step.update[live], 1e-3):
            return ""
        sizes.append(float(found[0]) * step.rate)
    if max(sizes) - min(sizes) > 1e-3 * max(sizes):
        return ""
    return (
        f"All parameters move equally far, by {sizes[0]:.3g}, however large their gradients are, as in a first step of "
        "Adam. The given optimizer is not the one that steps."
    )


def as_some(steps: Sequence[Step]) -> str:
    """Some tensors move as they should, the others not at all."""

    def said(step: Step) -> str:
        position, moved, still = 0, [], []
        for name, (place, is_parameter) in step.layout.items():
            if not is_parameter:
                continue
            size = place.stop - place.start
            got, right = (vector[position : position + size] for vector in (step.update, step.right))
            position += size
            if right.norm() <= 1e-6 * step.right.norm():  # a bias before a batch norm: nothing to see
                continue
            if got.norm() == 0:
                still.append(name)
            elif near(got, right, 1e-4):
                moved.append(name)
            else:
                return ""
        if not moved or not still:
            return ""
        if len(moved) <= len(still):
            return f"Of the student's parameters only {_list(moved)} move."
        return f"The student's parameters move as they should, but for {_list(still)}, which stay as they were."

    return one_of(map(said, steps))


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def otherwise(steps: Sequence[Step]) -> str:
    """How the update of all these steps differs from the right one; "" where it is none of these ways."""
    ways = (as_none, as_cut, as_mixture, as_signs, as_some)
    return next(filter(None, (way(steps) for way in ways)), "")


def of_statistics(step: Step) -> str:
    """How far the student's running statistics moved, where it is not as far as in one forward pass."""
    before, right, got = (
        step.statistics(v) for v in (step.before, step.expected("the student after"), step.got["the student after"])
    )
    if near(got, before, 1e-9):
        return "The running statistics of the student's batch norms do not move in a step."
    times = float((got - before) @ (right - before) / (right - before).square().sum())
    if near(got, right, 1e-7) or not near(got - before, (right - before) * times):
        return ""
    if abs(times - 1.9) < 1e-3:  # a tenth of the way, and a tenth of what is left
        return "The running statistics of the student's batch norms move twice in a step; once is right."
    return f"The running statistics of the student's batch norms move {times:.3g} times as far as in a forward pass."

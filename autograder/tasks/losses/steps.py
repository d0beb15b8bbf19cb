"""What a step would do in other ways than the right one: the evidence for a wrong `distillation_step`."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autograder.tasks.losses import oracle, terms
from hw7.checks.diagnosis.losses.formula import projected
from hw7.checks.diagnosis.losses.terms import OPTIMIZERS, OPTIONS, SCENES
from hw7.checks.tensors import student_net, to_vector
from hw7.checks.watchful import Watchful, uneven_optimizer
from hw7.models import StudentNet

Logits = tuple[Tensor, Tensor, Tensor]  # the student's, the teacher's, and the labels
Evidence = dict[str, Mapping[str, Any]]


class _Run:
    """Both networks on one batch, with their own running statistics at each look."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.student = student_net(inputs["student_widths"], inputs["student"])
        self.teacher = student_net(inputs["teacher_widths"], inputs["teacher"])
        self.images, self.labels = inputs["images"], inputs["labels"]

    def logits(self, network: StudentNet, images: Tensor, train: bool) -> Tensor:
        statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
        found: Tensor = torch.func.functional_call(network.train(train), statistics, images)
        return found

    def seen(
        self,
        train: tuple[bool, bool] = (True, False),
        student: Callable[[Tensor], Tensor] = lambda x: x,
        teacher: Callable[[Tensor], Tensor] = lambda x: x,
        part: slice = slice(None),
    ) -> Logits:
        """With these modes, of student and teacher, and these changes of what each sees; of a part of the images."""
        s = self.logits(self.student, student(self.images[part]), train[0])
        return s, self.logits(self.teacher, teacher(self.images[part]), train[1]).detach(), self.labels[part]


def _scenes(run: _Run, T: float) -> list[Logits]:
    """The logits and labels of each of `SCENES`, in their order."""
    s, t, y = run.seen()
    halves, mirrored, upside_down = (lambda x: 2 * x - 1), (lambda x: x.flip(-1)), (lambda x: x.flip(-2))
    return [
        run.seen(train=(True, True)),
        run.seen(train=(False, False)),
        run.seen(train=(False, True)),
        run.seen(teacher=mirrored),
        run.seen(student=mirrored),
        run.seen(student=mirrored, teacher=mirrored),
        run.seen(teacher=upside_down),
        run.seen(teacher=halves),
        run.seen(student=halves),
        run.seen(student=halves, teacher=halves),
        (s, t.softmax(1), y),
        (s.softmax(1), t, y),
        (s.softmax(1), t.softmax(1), y),
        (s, t / T, y),
        (s / T, t, y),
        (s / T, t / T, y),
        (s, s.detach(), y),
        (s, t.flip(0), y),
        (s, t, y.flip(0)),
        run.seen(part=slice(0, -1)),
        run.seen(part=slice(1, None)),
        run.seen(part=slice(0, len(y) // 2)),
    ]


def of_one_step(inputs: Mapping[str, Any]) -> Evidence:
    """Values and projected gradients of the terms of a loss [n, 1 + PROJECTIONS], to the student's parameters."""
    run = _Run(inputs)
    T, alpha = inputs.get("temperature", 20.0), inputs.get("alpha", 0.5)

    def row(values: Tensor, logits: Tensor) -> Tensor:
        """For values [n] of these logits."""
        slopes = [torch.autograd.grad(value, logits, retain_graph=True)[0].flatten() for value in values]
        return torch.cat([values.detach()[:, None], torch.stack(slopes) @ pulled(logits)], dim=1)

    known: dict[int, tuple[Tensor, Tensor]] = {}

    def pulled(logits: Tensor) -> Tensor:
        """Projections of the gradient of each logit [N C, PROJECTIONS]."""
        if id(logits) not in known:
            parameters = list(run.student.parameters())
            gradients = [torch.autograd.grad(each, parameters, retain_graph=True) for each in logits.flatten()]
            vectors = torch.stack([torch.cat([gradient.flatten() for gradient in some]) for some in gradients])
            known[id(logits)] = logits, projected(vectors)  # with the logits, so that no others come to lie there
        return known[id(logits)][1]

    s, t, y = run.seen()
    first, second = (row(torch.stack(make(s, t, y, T, alpha)), s) for make in (terms.first_terms, terms.second_terms))
    scenes = [(logits, (T, alpha)) for logits in _scenes(run, T)]
    scenes += [((s, t, y), _OPTIONS[name](T, alpha)) for name in OPTIONS]
    assert len(scenes) == len(SCENES) + len(OPTIONS)
    rows = [
        row(torch.stack([_soft(logits[0], logits[1], options[0]), _hard(logits)]), logits[0])
        for logits, options in scenes
    ]
    after = student_net(inputs["student_widths"], oracle.distillation_step(inputs)["the student after"])
    later = [oracle.kd_loss(run.logits(after, run.images, train), t, y, T, alpha).detach() for train in (True, False)]
    return {
        "terms": {"first": first, "second": second, "temperature": T, "alpha": alpha, "later": torch.stack(later)},
        "scenes": {
            "first": torch.stack([each[0] for each in rows]),
            "second": torch.stack([each[1] for each in rows]),
            "options": torch.tensor([options for _, options in scenes], dtype=torch.float64),
        },
    }


_OPTIONS: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "temperature and alpha exchanged": lambda T, alpha: (alpha, T),
    "temperature and alpha left at their defaults, whatever is given": lambda T, alpha: (20.0, 0.5),
    "the temperature left at its default, whatever is given": lambda T, alpha: (20.0, alpha),
    "alpha left at its default, whatever is given": lambda T, alpha: (T, 0.5),
}


def _soft(s: Tensor, t: Tensor, T: float) -> Tensor:
    return oracle.kl(oracle.log_softmax(t / T), oracle.log_softmax(s / T))


def _hard(logits: Logits) -> Tensor:
    return nn.functional.cross_entropy(logits[0], logits[2])


# ---- three steps with one optimizer -----------------------------------------------------------------------------


def _anew(student: StudentNet, optimizer: torch.optim.Optimizer, decay: bool) -> torch.optim.Optimizer:
    """SGD of the given rates, which remembers nothing."""
    keys = ("params", "lr", "weight_decay") if decay else ("params", "lr")
    return torch.optim.SGD([{key: group[key] for key in keys} for group in optimizer.param_groups])


def _given(optimizer: torch.optim.Optimizer, **changes: float) -> torch.optim.Optimizer:
    """The given one with other settings."""
    for group in optimizer.param_groups:
        group.update(changes)
    return optimizer


Made = Callable[[StudentNet, torch.optim.Optimizer], torch.optim.Optimizer]


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _owned(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


# For the words of OPTIMIZERS: what steps, whether it is made anew each time, and how often it steps.
_MADE: dict[str, tuple[Made, bool, int]] = {
    "momentum": (lambda net, given: _anew(net, given, decay=True), True, 1),
    "momentum and decay": (lambda net, given: _anew(net, given, decay=False), True, 1),
    "rates": (lambda net, given: torch.optim.SGD(_owned(given), lr=_rate(given)), True, 1),
    "decay": (lambda net, given: _given(given, weight_decay=0.0), False, 1),
    "groups": (lambda net, given: torch.optim.SGD(net.parameters(), lr=_rate(given)), True, 1),
    "groups but momentum": (
        lambda net, given: torch.optim.SGD(net.parameters(), lr=_rate(given), momentum=0.9),
        False,
        1,
    ),
    "twice": (lambda net, given: given, False, 2),
    **{
        f"{kind.__name__} {rate:g}": (
            lambda net, given, kind=kind, rate=rate: kind(net.parameters(), lr=rate),  # type: ignore[misc]
            True,
            1,
        )
        for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
        for rate in (0.1, 0.01, 0.001)
    },
}


def of_many_steps(inputs: Mapping[str, Any]) -> Evidence:
    """Projections of the student after three steps [n, 2, PROJECTIONS], made by each of `OPTIMIZERS`, with the
    gradients of all of its parameters zeroed, or of those that the given optimizer has; and, last, with none zeroed."""
    assert list(_MADE) == list(OPTIMIZERS)
    after = [torch.stack([_after(inputs, *_MADE[name], zero) for zero in (True, False)]) for name in OPTIMIZERS]
    given, anew, _ = _MADE["twice"]
    after.append(_after(inputs, given, anew, 1, None).expand(2, -1))
    return {"optimizers": {"after": torch.stack([projected(pair) for pair in after])}, "modes": _modes(inputs)}


def _modes(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The first loss with 1, 2, … modules of one network in the wrong mode: see `Watchful`."""
    run = _Run({**inputs, "images": inputs["images"][0], "labels": inputs["labels"][0]})
    s, t, y = run.seen()
    T, alpha = inputs["temperature"], inputs["alpha"]
    modules = range(1, len(list(Watchful(run.student, wanted=True).modules())) + 1)
    return {
        "teacher": torch.stack([oracle.kd_loss(s, t * (1 + n), y, T, alpha) for n in modules]).detach(),
        "student": torch.stack([oracle.kd_loss(s * (1 + n), t, y, T, alpha) for n in modules]).detach(),
    }


def _after(inputs: Mapping[str, Any], made: Made, anew: bool, times: int, zero: bool | None) -> Tensor:
    """The student after the steps. zero: whether gradients of all its parameters are zeroed, or only of those that the
    given optimizer has; None: none are."""
    student = student_net(inputs["student_widths"], inputs["student"])
    teacher = student_net(inputs["teacher_widths"], inputs["teacher"]).eval()
    given = uneven_optimizer(student, inputs["rate"])
    optimizer = made(student, given)
    for number, (images, labels) in enumerate(zip(inputs["images"], inputs["labels"], strict=True)):
        with torch.no_grad():
            if number == len(inputs["images"]) - 1:
                teacher.fc.weight.neg_()
            targets = teacher(images)
        loss = oracle.kd_loss(student.train()(images), targets, labels, inputs["temperature"], inputs["alpha"])
        if zero is not None:
            (student if zero else given).zero_grad()
        loss.backward()
        optimizer = made(student, given) if anew else optimizer
        for _ in range(times):
            optimizer.step()
    return to_vector(student)

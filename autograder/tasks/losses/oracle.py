"""The right loss and step, and those with one thing wrong: chapter 2."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hw7.checks.tensors import student_net, to_vector
from hw7.checks.watchful import MOMENTUM, Watchful, uneven_groups


def log_softmax(x: Tensor, dim: int = 1) -> Tensor:
    return x - x.logsumexp(dim=dim, keepdim=True)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q), summed over the classes, mean over the batch."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def _ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy, mean over the batch."""
    return -log_softmax(logits)[torch.arange(len(labels)), labels].mean()


def kd_loss(s: Tensor, t: Tensor, labels: Tensor, temperature: float = 20.0, alpha: float = 0.5) -> Tensor:
    """Task 2.1."""
    soft = kl(log_softmax(t / temperature), log_softmax(s / temperature))
    return alpha * temperature**2 * soft + (1 - alpha) * _ce(s, labels)


Loss = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]


def _kd_with(soft: Callable[[Tensor, Tensor, float], Tensor]) -> Loss:
    """The loss with another first term: soft(s, t, T)."""
    return lambda s, t, y, T, alpha: alpha * soft(s, t, T) + (1 - alpha) * _ce(s, y)


def _soft(s: Tensor, t: Tensor, T: float) -> Tensor:
    return T**2 * kl(log_softmax(t / T), log_softmax(s / T))


def _inside(s: Tensor, t: Tensor, y: Tensor, T: float, alpha: float) -> Tensor:
    if alpha == 0:
        return _ce(s, y)
    log_target = log_softmax(t / T) + math.log(alpha * T**2)
    return (log_target.exp() * (log_target - log_softmax(s / T))).sum(dim=1).mean() + (1 - alpha) * _ce(s, y)


def _probability_of(x: Tensor) -> Tensor:
    return log_softmax(x).exp()


KD_MISTAKES: dict[str, Loss] = {
    "kd-mean-over-classes": _kd_with(lambda s, t, T: _soft(s, t, T) / s.shape[1]),
    "kd-sum-over-batch": _kd_with(lambda s, t, T: _soft(s, t, T) * len(s)),
    "kd-no-t-squared": _kd_with(lambda s, t, T: _soft(s, t, T) / T**2),
    "kd-t-not-squared": _kd_with(lambda s, t, T: _soft(s, t, T) / T),
    "kd-t-squared-divides": _kd_with(lambda s, t, T: _soft(s, t, T) / T**4),
    "kd-divided-by-batch-twice": _kd_with(lambda s, t, T: _soft(s, t, T) / len(s)),
    "kd-labels-term-summed": lambda s, t, y, T, alpha: alpha * _soft(s, t, T) + (1 - alpha) * len(s) * _ce(s, y),
    "kd-alpha-on-both": lambda s, t, y, T, alpha: alpha * (_soft(s, t, T) + _ce(s, y)),
    "kd-teacher-ignored": lambda s, t, y, T, alpha: _ce(s, y),
    "kd-alpha-swapped": lambda s, t, y, T, alpha: kd_loss(s, t, y, T, 1 - alpha),
    "kd-reversed": _kd_with(lambda s, t, T: _soft(t, s, T)),
    "kd-soft-cross-entropy": _kd_with(
        lambda s, t, T: -(T**2) * (_probability_of(t / T) * log_softmax(s / T)).sum(dim=1).mean()
    ),
    "kd-student-not-log": _kd_with(
        lambda s, t, T: T**2 * (_probability_of(t / T) * (log_softmax(t / T) - _probability_of(s / T))).sum(1).mean()
    ),
    "kd-student-raw-logits": _kd_with(
        lambda s, t, T: T**2 * (_probability_of(t / T) * (log_softmax(t / T) - s / T)).sum(dim=1).mean()
    ),
    "kd-teacher-not-softmax": _kd_with(lambda s, t, T: T**2 * kl(t / T, log_softmax(s / T))),
    "kd-teacher-not-softmax#log": _kd_with(
        lambda s, t, T: T**2 * (log_softmax(t / T) * -log_softmax(s / T)).sum(dim=1).mean()
    ),
    "kd-scale-inside-target": _inside,
    "kd-softened-labels-term": lambda s, t, y, T, alpha: alpha * _soft(s, t, T) + (1 - alpha) * _ce(s / T, y),
    "kd-softmax-twice": lambda s, t, y, T, alpha: alpha * _soft(s, t, T) + (1 - alpha) * _ce(_probability_of(s), y),
    "kd-wrong-dim": _kd_with(lambda s, t, T: T**2 * kl(log_softmax(t / T, 0), log_softmax(s / T, 0))),
    "kd-teacher-not-softened": _kd_with(lambda s, t, T: T**2 * kl(log_softmax(t), log_softmax(s / T))),
    "kd-student-not-softened": _kd_with(lambda s, t, T: T**2 * kl(log_softmax(t / T), log_softmax(s))),
    "kd-neither-softened": _kd_with(lambda s, t, T: T**2 * kl(log_softmax(t), log_softmax(s))),
    "kd-temperature-multiplied": _kd_with(lambda s, t, T: T**2 * kl(log_softmax(t * T), log_softmax(s * T))),
    "kd-no-one-minus-alpha": lambda s, t, y, T, alpha: alpha * _soft(s, t, T) + _ce(s, y),
    "kd-no-alpha": lambda s, t, y, T, alpha: _soft(s, t, T) + (1 - alpha) * _ce(s, y),
    "kd-no-weights": lambda s, t, y, T, alpha: _soft(s, t, T) + _ce(s, y),
    "kd-no-labels-term": lambda s, t, y, T, alpha: alpha * _soft(s, t, T),
    "kd-labels-term-only": lambda s, t, y, T, alpha: (1 - alpha) * _ce(s, y),
    "kd-labels-term-of-teacher": lambda s, t, y, T, alpha: alpha * _soft(s, t, T) + (1 - alpha) * _ce(t, y),
    "kd-options-ignored": lambda s, t, y, T, alpha: kd_loss(s, t, y),
}


def with_gradient(loss: Loss, s: Tensor, t: Tensor, y: Tensor, T: float, alpha: float) -> tuple[Tensor, Tensor]:
    """The loss [] and its gradient [N, C] to the student's logits, in float64."""
    s = s.detach().double().requires_grad_()
    value = loss(s, t.detach().double(), y, T, alpha)
    (gradient,) = torch.autograd.grad(value, s)
    return value.detach(), gradient


def distillation_step(inputs: Mapping[str, Any], loss: Loss = kd_loss, wrong: str = "") -> dict[str, Tensor]:
    """Task 2.2: what the call `distillation_step` yields for these inputs, right or with one thing wrong."""
    student = student_net(inputs["student_widths"], inputs["student"])
    teacher = student_net(inputs["teacher_widths"], inputs["teacher"])
    options = {} if wrong == "step-options-ignored" else inputs
    T, alpha = options.get("temperature", 20.0), options.get("alpha", 0.5)
    teacher_trains = wrong in ("step-teacher-train-mode", "step-teacher-inside")
    with torch.no_grad():
        targets = teacher.train(teacher_trains)(inputs["images"])
    student.train(wrong != "step-student-eval-mode")
    for _ in range(2 if wrong == "step-student-twice" else 1):
        logits = student(inputs["images"])
    value = loss(logits, targets, inputs["labels"], T, alpha)
    gradients = torch.autograd.grad(value, list(student.parameters()))
    left_over = 1.0 if wrong == "step-no-zero-grad" else 0.0
    rate = 0.0 if wrong == "step-no-step" else inputs["rate"]
    with torch.no_grad():
        for parameter, gradient in zip(student.parameters(), gradients, strict=True):
            parameter.sub_(rate * (gradient + left_over))
    batches = student.stem.bn.num_batches_tracked
    assert batches is not None
    return {
        "the loss": value.detach(),
        "whether the loss needs a gradient": torch.tensor(wrong == "step-loss-attached"),
        "the student after": to_vector(student),
        "the batches that the student's batch norm counted": batches.clone(),
        "the teacher after": to_vector(teacher),
        "whether a gradient reached the teacher": torch.tensor(wrong == "step-teacher-gradient"),
        "the images after": inputs["images"],
        "the labels after": inputs["labels"],
        "how many of the student's parameters can still be trained": torch.tensor(len(list(student.parameters()))),
    }


STEP_MISTAKES = (
    "step-teacher-train-mode", "step-student-eval-mode", "step-student-twice", "step-options-ignored",
    "step-no-zero-grad", "step-no-step", "step-loss-attached", "step-teacher-gradient",
)  # fmt: skip


def distillation_steps(inputs: Mapping[str, Any], loss: Loss = kd_loss, wrong: str = "") -> dict[str, Tensor]:
    """Task 2.2: what the call `distillation_steps` yields for these inputs, right or with one thing wrong."""
    student = student_net(inputs["student_widths"], inputs["student"])
    teacher = student_net(inputs["teacher_widths"], inputs["teacher"]).eval()
    groups = uneven_groups(student, inputs["rate"])
    velocity: dict[Tensor, Tensor] = {}
    found = (
        (nn.BatchNorm2d, nn.Dropout) if wrong.endswith("#dropout") else (nn.BatchNorm2d,)
    )  # those that are looked for
    outside = sum(not isinstance(module, found) for module in Watchful(teacher, wanted=False).own_modules())
    losses: list[Tensor] = []
    first: list[Tensor] = []
    for number, (images, labels) in enumerate(zip(inputs["images"], inputs["labels"], strict=True)):
        with torch.no_grad():
            if number == len(inputs["images"]) - 1:
                teacher.fc.weight.neg_()
            targets = teacher(images) * (1 + outside * wrong.startswith("step-teacher-partly-eval"))
        first.append(targets)
        if wrong == "remembers-by-address":
            targets = first[0]
        elif wrong == "remembers-by-address#content":
            targets = first[min(number, len(first) - 1, len(inputs["images"]) - 2)]
        logits = student.train()(images) * (1 + outside * wrong.startswith("step-student-partly-train"))
        value = loss(logits, targets, labels, inputs["temperature"], inputs["alpha"])
        _step(value, groups, velocity)
        losses.append(value.detach())
    return {
        "the losses": torch.stack(losses),
        "the student after": to_vector(student),
        "how often the student saw images": torch.tensor(len(losses)),
        "the teacher after": to_vector(teacher),
    }


def _step(loss: Tensor, groups: Sequence[Mapping[str, Any]], velocity: dict[Tensor, Tensor]) -> None:
    """A step of SGD with momentum and decay: v = 0.9 v + ∂loss/∂p + decay · p; p = p - lr · v. Written out, for a
    torch.optim that is used for the first time imports torch's compiler, which takes longer than all questions."""
    parameters = [(each, group) for group in groups for each in group["params"]]
    gradients = torch.autograd.grad(loss, [parameter for parameter, _ in parameters])
    with torch.no_grad():
        for (parameter, group), gradient in zip(parameters, gradients, strict=True):
            pull = gradient + group["weight_decay"] * parameter
            velocity[parameter] = MOMENTUM * velocity[parameter] + pull if parameter in velocity else pull
            parameter.sub_(group["lr"] * velocity[parameter])


STEPS_MISTAKES = (
    "remembers-by-address", "remembers-by-address#content",
    "step-teacher-partly-eval#batch-norm", "step-teacher-partly-eval#dropout",
    "step-student-partly-train#batch-norm", "step-student-partly-train#dropout",
)  # fmt: skip

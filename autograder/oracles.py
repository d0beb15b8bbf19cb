"""The grader's own answers, in float64, written out once more from the mathematics; never released.

Each known mistake is the same computation with one thing done wrong, so that a wrong answer can be recognised by its
values. Nothing here imports a solution.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hw7.checks.programs import ROLES, images, perturb, student_net, tensor_for, to_vector, useless
from hw7.models import StudentNet

# ---- task 1: networks as lists of layers ------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv:
    inputs: int
    outputs: int
    size: int = 3
    stride: int = 1
    groups: int = 1
    padding: int | None = None  # None: keeps the size
    bias: bool = False


@dataclass(frozen=True)
class Norm:
    channels: int


@dataclass(frozen=True)
class Linear:
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Pool:
    """Max pooling; size 0 is the global average."""

    size: int
    stride: int = 2
    padding: int = 0


@dataclass(frozen=True)
class Act:
    top: float = math.inf  # 6: ReLU6


@dataclass(frozen=True)
class Residual:
    main: tuple[Layer, ...]
    side: tuple[Layer, ...]


Layer = Conv | Norm | Linear | Pool | Act | Residual
Net = tuple[Layer, ...]
RELU, RELU6, MEAN = Act(), Act(6), Pool(0)


def separable(inputs: int, outputs: int, stride: int = 1, act: Act = RELU, wrong: str = "") -> Net:
    """Task 1.1, right or with one thing wrong."""
    depthwise, pointwise = Conv(inputs, inputs, 3, stride, inputs), Conv(inputs, outputs, 1)
    first = last = act
    match wrong:
        case "stride-on-pointwise":
            depthwise, pointwise = replace(depthwise, stride=1), replace(pointwise, stride=stride)
        case "stride-ignored":
            depthwise = replace(depthwise, stride=1)
        case "conv-bias":
            depthwise, pointwise = replace(depthwise, bias=True), replace(pointwise, bias=True)
        case "conv-bias#depthwise":
            depthwise = replace(depthwise, bias=True)
        case "conv-bias#pointwise":
            pointwise = replace(pointwise, bias=True)
        case "not-depthwise":
            depthwise = replace(depthwise, groups=1)
        case "no-padding":
            depthwise = replace(depthwise, padding=0)
        case "relu6-for-relu":
            first = last = RELU6
        case "relu6-for-relu#first":
            first = RELU6
        case "relu6-for-relu#last":
            last = RELU6
        case "relu-before-bn":
            return (depthwise, act, Norm(inputs), pointwise, act, Norm(outputs))
        case "relu-before-bn#first":
            return (depthwise, act, Norm(inputs), pointwise, Norm(outputs), act)
        case "plain-convolution":
            return (Conv(inputs, outputs, 3, stride), Norm(outputs), act)
        case "pointwise-first":
            depthwise = Conv(outputs, outputs, 3, stride, outputs)
            return (pointwise, Norm(outputs), act, depthwise, Norm(outputs), act)
    layers: dict[str, Layer] = {
        "depthwise": depthwise, "no-inner-bn": Norm(inputs), "no-inner-relu": first,
        "pointwise": pointwise, "no-last-bn": Norm(outputs), "no-last-relu": last,
    }  # fmt: skip
    if wrong == "no-inner-bn-relu":
        del layers["no-inner-bn"], layers["no-inner-relu"]
    layers.pop(wrong, None)
    return tuple(layers.values())


SEPARABLE_MISTAKES = (
    "stride-on-pointwise", "stride-ignored", "conv-bias", "conv-bias#depthwise", "conv-bias#pointwise",
    "not-depthwise", "no-padding", "relu6-for-relu", "relu6-for-relu#first", "relu6-for-relu#last", "relu-before-bn",
    "relu-before-bn#first",
    "plain-convolution", "pointwise-first", "no-inner-bn", "no-inner-relu", "no-inner-bn-relu", "no-last-bn",
    "no-last-relu",
)  # fmt: skip


def small_resnet18(classes: int = 11, wrong: str = "") -> Net:
    """Task 1.2."""

    def conv(inputs: int, outputs: int, stride: int) -> Net:
        if wrong == "not-replaced":
            return (Conv(inputs, outputs, 3, stride),)
        inner = wrong if wrong in SEPARABLE_MISTAKES else ""
        return separable(inputs, outputs, stride, wrong=inner)[: 6 if wrong == "last-bn-twice" else -2]

    stem: Net = (Conv(3, 64, 7, 2), Norm(64), RELU, Pool(3, 2, 1))
    if wrong == "stem-replaced":
        stem = (Conv(3, 3, 7, 2, 3), Norm(3), RELU, Conv(3, 64, 1), Norm(64), RELU, Pool(3, 2, 1))
    if wrong == "small-stem":
        stem = (Conv(3, 64, 3, 1), Norm(64), RELU)
    if wrong == "small-stem#7x7":
        stem = (Conv(3, 64, 7, 1), Norm(64), RELU)
    layers: list[Layer] = list(stem)
    inputs = 64
    for stage, outputs in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            side: Net = ()
            if stride != 1:
                side = (Conv(inputs, outputs, 1, stride), Norm(outputs))
                if wrong == "downsample-replaced":
                    side = (*separable(inputs, outputs, stride)[:-2], Norm(outputs))
            main = (*conv(inputs, outputs, stride), Norm(outputs), RELU, *conv(outputs, outputs, 1), Norm(outputs))
            layers += [Residual(main, side), RELU]
            inputs = outputs
    return (*layers, MEAN, Linear(512, _outputs(classes, wrong)))


RESNET_MISTAKES = (
    "no-inner-bn", "no-inner-bn-relu", "no-inner-relu", "relu6-for-relu", "conv-bias", "not-depthwise",
    "conv-bias#depthwise", "conv-bias#pointwise", "stride-on-pointwise", "last-bn-twice", "not-replaced",
    "stem-replaced", "small-stem", "small-stem#7x7", "downsample-replaced", "classes-ignored", "classes-ignored#1000",
)  # fmt: skip


def student_cnn(classes: int = 11, wrong: str = "") -> Net:
    """Task 1.3, the plain one."""
    strides = (2, 1, 2, 1, 2, 1, 1)
    pools = 3
    match wrong:
        case "strides-wrong":
            strides = (1,) * 7
        case "strides-shifted":
            strides = (1, 2, 1, 2, 1, 2, 1)
        case "pools-missing":
            pools = 0
        case "pool-too-few":
            pools = 2
        case "pool-too-many":
            pools = 4
    layers: list[Layer] = []
    inputs = 3
    for index, (outputs, stride) in enumerate(zip((32, 64, 128, 128, 256, 256, 256), strides, strict=True)):
        act = RELU if wrong == "relu-for-relu6" else RELU6
        padding = 0 if wrong == "no-padding" else None
        step: list[Layer] = [
            Conv(inputs, outputs, 3, stride, bias=wrong == "conv-bias", padding=padding),
            Norm(outputs),
            act,
        ]
        if wrong == "no-batch-norm":
            del step[1]
        if wrong == "relu-before-bn":
            step = [step[0], act, step[1]]
        if wrong == "no-last-relu" and index == 6:
            step.pop()
        layers += step
        if index < pools:
            layers.append(Pool(2))
        inputs = outputs
    return (*layers, MEAN, Linear(inputs, _outputs(classes, wrong)))


def _outputs(classes: int, wrong: str) -> int:
    return {"one-output": 1, "classes-ignored": 11, "classes-ignored#1000": 1000}.get(wrong, classes)


CNN_MISTAKES = (
    "relu-for-relu6", "strides-wrong", "strides-shifted", "pools-missing", "pool-too-few", "pool-too-many",
    "no-padding", "conv-bias", "no-batch-norm", "relu-before-bn", "no-last-relu", "one-output", "classes-ignored",
)  # fmt: skip


def student_dw(classes: int = 11, wrong: str = "") -> Net:
    """Task 1.3, depthwise + pointwise."""
    strides = {
        "strides-wrong": (1,) * 7,
        "strides-shifted": (2, 1, 2, 1, 1, 1, 1),
        "strides-shifted#late": (1, 1, 2, 1, 2, 1, 1),
    }.get(wrong, (1, 2, 1, 2, 1, 1, 1))
    act = RELU6 if wrong == "relu6-for-relu" else RELU
    inside = RELU6 if wrong == "relu6-for-relu#blocks" else act
    stem_stride = 1 if wrong == "stem-stride" else 2
    layers: list[Layer] = [Conv(3, 32, 3, stem_stride, bias=wrong == "conv-bias"), Norm(32), act]
    if wrong == "network-of-question-3":
        return _student_net(classes)
    inputs = 32
    for index, (outputs, stride) in enumerate(zip((64, 128, 128, 256, 256, 256, 256), strides, strict=True)):
        inner = wrong if wrong in SEPARABLE_MISTAKES else ""
        if inner == "no-last-relu" and index < 6:
            inner = ""
        if wrong == "nothing-after-pointwise":
            layers += separable(inputs, outputs, stride, inside)[:-2]
        else:
            layers += separable(inputs, outputs, stride, inside, inner)
        if wrong == "pools-added" and index < 3:
            layers.append(Pool(2))
        inputs = outputs
    return (*layers, MEAN, Linear(inputs, _outputs(classes, wrong)))


def _student_net(classes: int) -> Net:
    """hw7.models.StudentNet: another network, for question 3."""
    layers: list[Layer] = [Conv(3, 16, bias=True), Norm(16), RELU6, Pool(2)]
    inputs = 16
    for index, outputs in enumerate((32, 64, 128, 256, 256, 256, 256)):
        layers += [
            Conv(inputs, inputs, 3, 1, inputs, bias=True),
            Norm(inputs),
            RELU6,
            Conv(inputs, outputs, 1, bias=True),
        ]
        layers += [Pool(2)] if index < 3 else []
        inputs = outputs
    return (*layers, MEAN, Linear(inputs, classes))


DW_MISTAKES = (
    "relu6-for-relu", "relu6-for-relu#blocks", "strides-wrong", "strides-shifted", "strides-shifted#late",
    "stem-stride", "network-of-question-3", "pools-added",
    "nothing-after-pointwise", "conv-bias", "not-depthwise", "stride-on-pointwise", "no-inner-bn", "no-inner-relu",
    "no-inner-bn-relu", "no-last-bn", "no-last-relu", "one-output", "classes-ignored",
)  # fmt: skip


def layer_table(net: Net) -> Tensor:
    """(role, *shape) of all parameters, a row each, filled up with -1: int64 [n, 5]."""
    rows: list[tuple[int, ...]] = []

    def add(role: str, *shape: int) -> None:
        rows.append((ROLES.index(role), *shape, *(-1,) * (4 - len(shape))))

    def visit(layers: Net) -> None:
        for layer in layers:
            match layer:
                case Conv():
                    add("conv weight", layer.outputs, layer.inputs // layer.groups, layer.size, layer.size)
                    if layer.bias:
                        add("conv bias", layer.outputs)
                case Norm():
                    add("batch-norm scale", layer.channels)
                    add("batch-norm shift", layer.channels)
                case Linear():
                    add("linear weight", layer.outputs, layer.inputs)
                    add("linear bias", layer.outputs)
                case Residual():
                    visit(layer.main)
                    visit(layer.side)

    visit(net)
    return torch.tensor(sorted(rows))


class _Run:
    """A network with all tensors of one role and shape alike; batch norms keep statistics of their own."""

    def __init__(self, net: Net, seed: int) -> None:
        self.net, self.seed = net, seed
        self.statistics: dict[int, tuple[Tensor, Tensor]] = {}  # of the n-th batch norm on the way

    def tensor(self, role: str, *shape: int) -> Tensor:
        return tensor_for(self.seed, role, shape).double()

    def __call__(self, x: Tensor, train: bool) -> Tensor:
        self.passed, self.train = 0, train
        return self.through(self.net, x.double())

    def through(self, layers: Net, x: Tensor) -> Tensor:
        for layer in layers:
            match layer:
                case Conv(inputs, outputs, size, stride, groups, padding, bias):
                    weight = self.tensor("conv weight", outputs, inputs // groups, size, size)
                    shift = self.tensor("conv bias", outputs) if bias else None
                    x = F.conv2d(x, weight, shift, stride, size // 2 if padding is None else padding, groups=groups)
                case Norm(channels):
                    x = self.norm(x, channels)
                case Linear(inputs, outputs):
                    x = x @ self.tensor("linear weight", outputs, inputs).T + self.tensor("linear bias", outputs)
                case Pool(0):
                    x = x.mean(dim=(2, 3))
                case Pool(size, stride, padding):
                    x = F.max_pool2d(x, size, stride, padding)
                case Act(top):
                    x = x.clamp(0, top)
                case Residual(main, side):
                    x = self.through(main, x) + self.through(side, x)
        return x

    def norm(self, x: Tensor, channels: int) -> Tensor:
        number, self.passed = self.passed, self.passed + 1
        if number not in self.statistics:
            self.statistics[number] = self.tensor("running mean", channels), self.tensor("running var", channels)
        mean, var = self.statistics[number]
        if self.train:
            batch_var, batch_mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            n = x.numel() // channels
            self.statistics[number] = 0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * batch_var * n / (n - 1)
            mean, var = batch_mean, batch_var
        factor = self.tensor("batch-norm scale", channels) / torch.sqrt(var + 1e-5)
        shift = self.tensor("batch-norm shift", channels) - mean * factor
        return x * factor[:, None, None] + shift[:, None, None]


OUTPUTS = ("the output in eval mode", "the output in train mode", "the output in eval mode after a batch in train mode")


def network_outputs(net: Net, seed: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> dict[str, Tensor] | None:
    """The three outputs that `programs.network` yields for such images; None where the network cannot take them."""
    run = _Run(net, seed)
    try:
        rounds = ((shapes[0], False), (shapes[1], True), (shapes[0], False))
        return {name: run(images(seed, shape), train) for name, (shape, train) in zip(OUTPUTS, rounds, strict=True)}
    except RuntimeError:  # nothing is left of the image, or two shapes that cannot be added
        return None


# ---- task 2: distillation ------------------------------------------------------------------------------------------


def log_softmax(x: Tensor, dim: int = 1) -> Tensor:
    return x - x.logsumexp(dim=dim, keepdim=True)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q), summed over the classes, mean over the batch."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def cross_entropy(log_q: Tensor, labels: Tensor) -> Tensor:
    return -log_q[torch.arange(len(labels)), labels].mean()


def kd_loss(s: Tensor, t: Tensor, labels: Tensor, temperature: float = 20.0, alpha: float = 0.5) -> Tensor:
    """Task 2.1."""
    soft = kl(log_softmax(t / temperature), log_softmax(s / temperature))
    return alpha * temperature**2 * soft + (1 - alpha) * cross_entropy(log_softmax(s), labels)


Loss = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]


def _kd_with(soft: Callable[[Tensor, Tensor, float], Tensor]) -> Loss:
    """The loss with another first term: soft(s, t, T)."""
    return lambda s, t, y, T, alpha: alpha * soft(s, t, T) + (1 - alpha) * cross_entropy(log_softmax(s), y)


def _soft(s: Tensor, t: Tensor, T: float) -> Tensor:
    return T**2 * kl(log_softmax(t / T), log_softmax(s / T))


def _ce(s: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(log_softmax(s), y)


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
    """Task 2.2: what `programs.distillation_step` yields for these inputs, right or with one thing wrong."""
    student = student_net(inputs["student_widths"], inputs["student"])
    teacher = student_net(inputs["teacher_widths"], inputs["teacher"])
    T, alpha = (
        (20.0, 0.5) if wrong == "step-options-ignored" else (inputs.get("temperature", 20.0), inputs.get("alpha", 0.5))
    )
    teacher_trains = wrong in ("step-teacher-train-mode", "step-teacher-inside")
    with torch.no_grad():
        targets = teacher.train(teacher_trains)(inputs["images"])
    student.train(wrong != "step-student-eval-mode")
    logits = student(inputs["images"])
    if wrong == "step-student-twice":
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
        "whether the teacher ran for gradients": torch.tensor(wrong == "step-teacher-gradient"),
        "the images after": inputs["images"],
    }


STEP_MISTAKES = (
    "step-teacher-train-mode", "step-student-eval-mode", "step-student-twice", "step-options-ignored",
    "step-no-zero-grad", "step-no-step", "step-loss-attached", "step-teacher-gradient",
)  # fmt: skip


# ---- task 3: pruning ------------------------------------------------------------------------------------------------

PRUNED = (3, 4, 5, 6)


def best(importance: Tensor, keep: int, wrong: str = "") -> list[int]:
    """Task 3.2: the channels that stay, in ascending order."""
    values = importance.tolist()
    order = range(len(values))
    match wrong:
        case "select-least-important":
            ranking = sorted(order, key=lambda i: (values[i], i))
        case "select-first":
            ranking = list(order)
        case "select-last":
            ranking = list(order)[::-1]
        case "select-ties-high":
            ranking = sorted(order, key=lambda i: (-values[i], -i))
        case _:
            ranking = sorted(order, key=lambda i: (-values[i], i))
    chosen = ranking[keep:] if wrong == "select-removed" else ranking[:keep]
    if wrong == "select-not-sorted":
        return chosen
    return sorted(chosen)[::-1] if wrong == "select-descending" else sorted(chosen)


SELECT_MISTAKES = (
    "select-not-sorted", "select-least-important", "select-first", "select-last", "select-ties-high",
    "select-descending", "select-removed",
)  # fmt: skip


def kept_channels(model: StudentNet, to: Sequence[int], wrong: str = "") -> list[list[int]]:
    """The channels that stay in each of the eight stages."""
    kept = [list(range(width)) for width in to]
    for stage in PRUNED:
        bn = model.blocks[stage - 1].bn if wrong == "slim-own-batch-norm" else model.blocks[stage].bn
        scale = bn.weight.detach()
        importance = scale if wrong == "importance-signed" else scale.abs()
        if wrong == "slim-by-weights":
            importance = model.blocks[stage - 1].pointwise.weight.detach().abs().sum(dim=(1, 2, 3))
        kept[stage] = best(importance, to[stage], wrong if wrong.startswith("select") else "")
    return kept


def slimmed(model: StudentNet, to: Sequence[int], wrong: str = "") -> StudentNet:
    """Task 3.3. Raises IndexError or RuntimeError where the mistake cannot be made at these widths."""
    kept = kept_channels(model, to, wrong)
    result = StudentNet(to, model.fc.out_features).to(model.fc.weight.dtype)
    old, new = model.state_dict(), result.state_dict()
    for name, target in new.items():
        source = old[name]
        if name == "stage_widths":
            continue
        if name.startswith("blocks."):
            index, field = int(name.split(".")[1]), name.partition(".")[2].partition(".")[2]
            incoming, outgoing = kept[index], kept[index + 1]
            if field == "pointwise.weight":
                columns = list(range(len(incoming))) if wrong == "slim-pointwise-inputs" else incoming
                source = source[outgoing][:, columns]
            elif field == "pointwise.bias":
                source = source[outgoing]
            elif source.ndim:
                source = source[incoming]
        target.copy_(source)
    return result


# Entries of a network that are forgotten, or cut in the wrong place: any value, where all the others are right.
SLIM_FORGOTTEN: dict[str, tuple[str, ...]] = {
    "slim-statistics-forgotten": ("bn.running_mean", "bn.running_var"),
    "slim-shift-forgotten": ("bn.bias",),
    "slim-scale-forgotten": ("bn.weight",),
    "slim-batch-norm-forgotten": ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
    "slim-pointwise-bias": ("pointwise.bias",),
    "slim-pointwise-weight": ("pointwise.weight",),
    "slim-depthwise-bias": ("depthwise.bias",),
    "slim-depthwise": ("depthwise.weight", "depthwise.bias"),
}
SLIM_CHOICES = (
    "importance-signed", "select-least-important", "select-first", "select-last", "select-ties-high",
    "select-not-sorted", "slim-own-batch-norm", "slim-by-weights", "slim-pointwise-inputs",
)  # fmt: skip


def free_entries(network: StudentNet) -> dict[str, Tensor]:
    """The floating entries of a StudentNet by name."""
    return {name: tensor.detach() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


def width_schedule(widths: Sequence[int], keep_rate: float, steps: int, wrong: str = "") -> list[tuple[int, ...]]:
    """Task 3.4."""
    pruned = {
        "schedule-one-stage-more": (2, *PRUNED), "schedule-all-stages": tuple(range(len(widths))),
        "schedule-one-stage-less": PRUNED[1:], "schedule-stage-7": (*PRUNED, 7), "schedule-stage-missed": PRUNED[:-1],
    }.get(wrong, PRUNED)  # fmt: skip
    rows = []
    current = list(widths)
    for step in range(1, steps + 1):
        power = step - 1 if wrong == "schedule-starts-at-0" else step
        lowest = 0 if wrong == "schedule-no-floor" else 1
        row = list(widths)
        for stage in (stage for stage in pruned if stage < len(widths)):
            exact = widths[stage] * keep_rate**power
            number = int(exact)
            if wrong == "schedule-rounds":
                number = round(exact)
            if wrong == "schedule-other-arithmetic":
                number = int(widths[stage] * math.prod([keep_rate] * step))
            if wrong == "schedule-other-arithmetic#float32":
                number = int(torch.tensor(float(widths[stage])) * torch.tensor(keep_rate) ** step)
            if wrong == "schedule-ceils":
                number = math.ceil(exact)
            if wrong == "schedule-compounds":
                number = int(current[stage] * keep_rate)
            if wrong == "schedule-linear":
                number = int(widths[stage] * (1 - (1 - keep_rate) * step))
            if wrong == "schedule-prune-rate":
                number = int(widths[stage] * (1 - keep_rate) ** step)
            row[stage] = max(lowest, number)
        current = row
        rows.append(tuple(row))
    return rows


SCHEDULE_MISTAKES = (
    "schedule-rounds", "schedule-ceils", "schedule-compounds", "schedule-linear", "schedule-prune-rate",
    "schedule-starts-at-0", "schedule-no-floor", "schedule-one-stage-more", "schedule-one-stage-less",
    "schedule-all-stages", "schedule-stage-7", "schedule-stage-missed", "schedule-other-arithmetic",
    "schedule-other-arithmetic#float32",
)  # fmt: skip


def iterative_prune(
    model: StudentNet, keep_rate: float, steps: int, wrong: str = ""
) -> tuple[list[StudentNet], StudentNet]:
    """Task 3.5: the networks and the given model as they are at the end, fine-tuned by `programs.perturb`.

    Since fine-tuning changes what is important, a network cut from one that was not fine-tuned is another one.
    Raises IndexError or RuntimeError as `slimmed` does.
    """
    given = copy.deepcopy(model)
    networks: list[StudentNet] = []
    current = given
    schedule = width_schedule(model.widths, keep_rate, steps, wrong if wrong.startswith("schedule") else "")
    for step, widths in enumerate(schedule, start=1):
        if wrong == "prune-finetunes-first":
            perturb(current, step)
        source = given if wrong == "prune-from-the-original" else current
        net = slimmed(source, widths, wrong if wrong.startswith(("select", "importance", "slim")) else "")
        before = copy.deepcopy(net)
        if wrong == "prune-trains-the-old-network":
            perturb(current, step)
        elif wrong == "prune-trains-the-old-network#given":
            perturb(given, step)
        elif wrong == "prune-takes-what-finetune-returns":
            net = useless(net, step)
        elif wrong not in ("prune-finetunes-first", "prune-finetunes-a-copy", "prune-never-finetunes"):
            perturb(net, step)
        networks.append(before if wrong == "prune-keeps-unfinetuned" else net)
        current = net
    if wrong == "prune-one-network-only":
        networks = networks[-1:] * steps
    return networks, given


PRUNE_MISTAKES = (
    "prune-from-the-original", "prune-trains-the-old-network", "prune-trains-the-old-network#given",
    "prune-finetunes-first", "prune-finetunes-a-copy",
    "prune-keeps-unfinetuned", "prune-never-finetunes", "prune-one-network-only", "prune-takes-what-finetune-returns",
)  # fmt: skip


# ---- task 4: quantization -------------------------------------------------------------------------------------------


def span(weight: Tensor, channel_axis: int | None = None) -> tuple[Tensor, Tensor]:
    """Smallest and largest entry of the tensor or channel, float64, with the weight's number of dimensions."""
    exact = weight.double()
    if channel_axis is None:
        return exact.min(), exact.max()
    others = [axis for axis in range(weight.ndim) if axis != channel_axis % weight.ndim]
    if not others:
        return exact, exact
    return exact.amin(dim=others, keepdim=True), exact.amax(dim=others, keepdim=True)


def half_step(weight: Tensor, bits: int = 8, channel_axis: int | None = None) -> Tensor:
    """How far an entry may be off: half a step, and 4 eps of float32 of the largest entry. float64, broadcastable."""
    low, high = span(weight, channel_axis)
    rounding = 4 * torch.finfo(torch.float32).eps * weight.double().abs().max()
    return (high - low) / (2**bits - 1) / 2 + rounding


def there_and_back(weight: Tensor, bits: int = 8, channel_axis: int | None = None, wrong: str = "") -> Tensor:
    """Task 4.1: what comes back, float64, right or with one thing wrong."""
    low, high = span(weight, channel_axis)
    exact = weight.double()
    levels = 2**bits - 1
    match wrong:
        case "quantize-axis-ignored":
            low, high = span(weight)
        case "quantize-bits-ignored":
            levels = 255
        case "quantize-symmetric":
            largest = torch.maximum(low.abs(), high.abs())
            scale = largest / (2 ** (bits - 1) - 1)
            return (exact / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale
        case "quantize-symmetric#all-levels":
            high = torch.maximum(low.abs(), high.abs())
            low = -high
        case "quantize-2-to-the-bits":
            scale = (high - low) / 2**bits
            return low + ((exact - low) / scale).round().clamp(0, levels) * scale
    scale = (high - low) / levels
    place = (exact - low) / scale
    match wrong:
        case "quantize-floors":
            return low + place.floor() * scale
        case "quantize-ceils":
            return low + place.ceil() * scale
        case "quantize-min-not-added":
            return place.round() * scale
        case "quantize-zero-point-clamped":
            zero = (-low / scale).round().clamp(0, levels)
            return ((exact / scale).round() + zero).clamp(0, levels).sub(zero) * scale
    return low + place.round() * scale


QUANTIZE_MISTAKES = (
    "quantize-floors", "quantize-ceils", "quantize-2-to-the-bits", "quantize-symmetric", "quantize-min-not-added",
    "quantize-symmetric#all-levels", "quantize-zero-point-clamped", "quantize-axis-ignored",
)  # fmt: skip

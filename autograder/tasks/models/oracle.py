"""Right networks as lists of layers, and those with one thing wrong: chapter 1."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hw7.checks.tensors import ROLES, images, tensor_for


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
    main: "tuple[Layer, ...]"
    side: "tuple[Layer, ...]"


Layer = Conv | Norm | Linear | Pool | Act | Residual
Net = tuple[Layer, ...]
RELU, RELU6, MEAN = Act(), Act(6), Pool(0)


def separable(inputs: int, outputs: int, stride: int = 1, act: Act = RELU, wrong: str = "") -> Net:
    """Task 1.1, right or with one thing wrong."""
    depthwise, pointwise = Conv(inputs, inputs, 3, stride, inputs), Conv(inputs, outputs, 1)
    first = RELU6 if wrong in ("relu6-for-relu", "relu6-for-relu#first") else act
    last = RELU6 if wrong in ("relu6-for-relu", "relu6-for-relu#last") else act
    if wrong in ("conv-bias", "conv-bias#depthwise"):
        depthwise = replace(depthwise, bias=True)
    if wrong in ("conv-bias", "conv-bias#pointwise"):
        pointwise = replace(pointwise, bias=True)
    match wrong:
        case "stride-on-pointwise":
            depthwise, pointwise = replace(depthwise, stride=1), replace(pointwise, stride=stride)
        case "stride-ignored":
            depthwise = replace(depthwise, stride=1)
        case "not-depthwise":
            depthwise = replace(depthwise, groups=1)
        case "no-padding":
            depthwise = replace(depthwise, padding=0)
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
    gone = ("no-inner-bn", "no-inner-relu") if wrong == "no-inner-bn-relu" else (wrong,)
    return tuple(layer for name, layer in layers.items() if name not in gone)


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

    pool = Pool(3, 2, 1)
    stems: dict[str, Net] = {
        "stem-replaced": (Conv(3, 3, 7, 2, 3), Norm(3), RELU, Conv(3, 64, 1), Norm(64), RELU, pool),
        "small-stem": (Conv(3, 64, 3, 1), Norm(64), RELU),
        "small-stem#7x7": (Conv(3, 64, 7, 1), Norm(64), RELU),
    }
    layers: list[Layer] = list(stems.get(wrong, (Conv(3, 64, 7, 2), Norm(64), RELU, pool)))
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
    strides = {
        "strides-wrong": (1,) * 7,
        "strides-shifted": (1, 2, 1, 2, 1, 2, 1),
    }.get(wrong, (2, 1, 2, 1, 2, 1, 1))
    pools = {"pools-missing": 0, "pool-too-few": 2, "pool-too-many": 4}.get(wrong, 3)
    act = RELU if wrong == "relu-for-relu6" else RELU6
    layers: list[Layer] = []
    inputs = 3
    for index, (outputs, stride) in enumerate(zip((32, 64, 128, 128, 256, 256, 256), strides, strict=True)):
        conv = Conv(inputs, outputs, 3, stride, bias=wrong == "conv-bias", padding=0 if wrong == "no-padding" else None)
        norm = Norm(outputs)
        step = {"no-batch-norm": (conv, act), "relu-before-bn": (conv, act, norm)}.get(wrong, (conv, norm, act))
        layers += step[:-1] if wrong == "no-last-relu" and index == 6 else step
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
    if wrong == "network-of-question-3":
        return _student_net(classes)
    layers: list[Layer] = [Conv(3, 32, 3, stem_stride, bias=wrong == "conv-bias"), Norm(32), act]
    inputs = 32
    for index, (outputs, stride) in enumerate(zip((64, 128, 128, 256, 256, 256, 256), strides, strict=True)):
        here = wrong in SEPARABLE_MISTAKES and (wrong != "no-last-relu" or index == 6)
        block = separable(inputs, outputs, stride, inside, wrong if here else "")
        layers += block[:-2] if wrong == "nothing-after-pointwise" else block
        if wrong == "pools-added" and index < 3:
            layers.append(Pool(2))
        inputs = outputs
    return (*layers, MEAN, Linear(inputs, _outputs(classes, wrong)))


def _student_net(classes: int) -> Net:
    """hw7.models.StudentNet: another network, for question 3."""
    layers: list[Layer] = [Conv(3, 16, bias=True), Norm(16), RELU6, Pool(2)]
    inputs = 16
    for index, outputs in enumerate((32, 64, 128, 256, 256, 256, 256)):
        depthwise, pointwise = Conv(inputs, inputs, 3, 1, inputs, bias=True), Conv(inputs, outputs, 1, bias=True)
        layers += [depthwise, Norm(inputs), RELU6, pointwise, *([Pool(2)] if index < 3 else [])]
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
    rows = [(ROLES.index(role), *shape, *(-1,) * (4 - len(shape))) for role, *shape in _parameters(net)]
    return torch.tensor(sorted(rows))


def _parameters(net: Net) -> Iterator[tuple[Any, ...]]:
    """(role, *shape) of each parameter."""
    for layer in net:
        match layer:
            case Conv(inputs, outputs, size, groups=groups, bias=bias):
                yield "conv weight", outputs, inputs // groups, size, size
                yield from [("conv bias", outputs)] if bias else []
            case Norm(channels):
                yield from (("batch-norm scale", channels), ("batch-norm shift", channels))
            case Linear(inputs, outputs):
                yield from (("linear weight", outputs, inputs), ("linear bias", outputs))
            case Residual(main, side):
                yield from _parameters((*main, *side))


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


def network_outputs(net: Net, seed: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> dict[str, Tensor]:
    """The three outputs that the call `network` yields for images of these shapes, in eval and in train mode.

    Raises RuntimeError where the network cannot take them: nothing is left of the image, or two shapes that cannot be
    added.
    """
    run = _Run(net, seed)
    rounds = ((shapes[0], False), (shapes[1], True), (shapes[0], False))
    return {name: run(images(seed, shape), train) for name, (shape, train) in zip(OUTPUTS, rounds, strict=True)}


IN_USE = (
    "the output of a copy whose parameters are 0",
    "the output for one image of a second network that loaded the first one's file",
    "the output of the first network after the second one's parameters were set to 0",
    "how many parameters and statistics a step of SGD does not reach",
)


def outputs_in_use(net: Net, seed: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """What the call `network_in_use` yields for images of this shape.

    Raises RuntimeError where the network cannot take them.
    """
    output = _Run(net, seed)(images(seed, shape), False)
    outputs = (torch.zeros_like(output), output[:1], output, torch.tensor([0, 0]))
    return dict(zip(IN_USE, outputs, strict=True))

"""Counts: every figure of the ledger that the structure of a network gives, exactly, on any machine.

Sizes come from its tensors. Kernels, widths, strides and poolings are read from the convolutions in the order in which
an image passes through them, so that a solution's names and nesting do not matter.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

from torch import nn

from hw7 import measure
from hw7.models import STUDENT_WIDTHS, StudentNet
from hw7.report.experiments import EXPERIMENTS, NETWORKS
from hw7.solution import Solution, running

RATES = (0.975, 0.95, 0.9)
KEPT_ALIKE = RATES[:2]  # the two ladders that meet


def count(solution: Solution, partly: bool = False) -> dict[str, Any]:
    """Every figure of the ledger that counting gives, by id, counted on networks built now (11 classes, 128 x 128).

    Raises HW7Error where the solution's code raises; `partly` leaves out what cannot be counted instead. Kernels,
    widths and strides are left out where a network is not made of what they are read from.
    """
    counted: dict[str, Any] = {}
    for what, counting in (
        ("models", _count_given), ("models", _count_low_rank), ("models", _count_cnn), ("models", _count_dw),
        ("pruning.width_schedule", _count_ladders),
    ):  # fmt: skip
        with suppress(Exception) if partly else nullcontext(), running(what, solution.directory):
            counted |= counting(solution)
    return counted


def _count_given(solution: Solution) -> dict[str, Any]:
    teacher, student = (NETWORKS[name](solution, 11) for name in ("teacher", "student_net"))
    counted = _sizes("q1.teacher", teacher) | _sizes("q2.teacher", teacher) | _sizes("q3.student", student)
    for key, bits in (("float32", 32), ("float16", 16)):
        counted[f"course.quantization.{key}.bytes"] = measure.tensor_bytes(student) * bits // 32
    stem, *blocks = _convolutions(student)
    depthwise, pointwise = blocks[::2], blocks[1::2]
    return {
        **counted,
        "q1.teacher.outputs": _heads(teacher)[-1].out_features,
        "q2.standard_error": round(standard_error(0.83, 3430), 4),
        "q3.student.kernel": _kernel(stem, *depthwise),
        "q3.student.pointwise.kernel": _kernel(*pointwise),
        "q3.student.blocks": len(depthwise),
        "q3.student.channels": [each.conv.out_channels for each in (stem, *pointwise)],
        **_pooled("q3.student", [stem, *depthwise], first=0),
        **_ends("q3.student", student),
    }


def _count_low_rank(solution: Solution) -> dict[str, Any]:
    network = NETWORKS["small_resnet18"](solution, 11)
    counted = _sizes("q1.dwpw", network) | _times_smaller("q1.dwpw", network, solution)
    convolutions = _convolutions(network)
    stem, rest = convolutions[:1], convolutions[1:]
    depthwise = [each for each in rest if 1 < each.conv.groups == each.conv.in_channels]
    inner_norms = sum(2 * each.conv.out_channels for each in depthwise)
    counted["q1.dwpw.without_inner_norm.parameters"] = measure.parameters(network) - inner_norms
    downsamples = [each for each in rest if each not in depthwise and each.conv.stride[0] > 1]
    pointwise = [each for each in rest if each not in (*depthwise, *downsamples)]
    kinds = {"depthwise": depthwise, "pointwise": pointwise, "stem": stem, "downsample": downsamples}
    return counted | {f"q1.dwpw.{kind}.kernel": _kernel(*found) for kind, found in kinds.items() if found}


def _count_cnn(solution: Solution) -> dict[str, Any]:
    network = NETWORKS["student_cnn"](solution, 11)
    counted = {
        **_sizes("q1.cnn", network),
        **_times_smaller("q1.cnn", network, solution),
        "q1.cnn.bytes.least": 4 * measure.parameters(network),
        **_ends("q1.cnn", network),
    }
    if convolutions := _convolutions(network):
        sides = ([each.side, each.side // times][: 1 + (times > 1)] for each, times in _poolings(convolutions))
        first = convolutions[0]
        counted |= {
            "q1.cnn.layers": len(convolutions),
            "q1.cnn.kernel": _kernel(*convolutions),
            "q1.cnn.channels": [each.conv.out_channels for each in convolutions],
            "q1.cnn.strides": [each.conv.stride[0] for each in convolutions],
            "q1.cnn.layer_outputs": list(chain.from_iterable(sides)),
            **_pooled("q1.cnn", convolutions, first=1),
            "data.input.channels": first.conv.in_channels,
            "data.first_layer.size": first.side,
            "data.first_layer.stride": first.conv.stride[0],
        }
    return counted


def _count_dw(solution: Solution) -> dict[str, Any]:
    network = NETWORKS["student_dw"](solution, 11)
    counted = _sizes("q2.student", network) | _ends("q2.student", network)
    if convolutions := _convolutions(network):
        stem, *blocks = convolutions
        depthwise, pointwise = blocks[::2], blocks[1::2]
        counted |= {
            "q2.student.kernel": _kernel(stem, *depthwise),
            "q2.student.pointwise.kernel": _kernel(*pointwise),
            "q2.student.stem.stride": stem.conv.stride[0],
            "q2.student.blocks": len(depthwise),
            "q2.student.channels": [each.conv.out_channels for each in (stem, *pointwise)],
            "q2.student.strides": [each.conv.stride[0] for each in depthwise],
        }
    return counted


@dataclass(frozen=True)
class _Convolution:
    """A convolution, and the side of the map that it puts out for a 128 x 128 image."""

    conv: nn.Conv2d
    side: int


def _convolutions(network: nn.Module) -> list[_Convolution]:
    """In the order of their calls."""
    rows = measure.layer_table(network, (3, 128, 128))
    found = ((network.get_submodule(row.name), row.output_shape) for row in rows)
    return [_Convolution(module, shape[-1]) for module, shape in found if isinstance(module, nn.Conv2d) and shape]


def _poolings(convolutions: Sequence[_Convolution]) -> list[tuple[_Convolution, int]]:
    """Each, and by how much the map shrinks before the next, by whatever pooling; 1 after the last."""
    between = [a.side // (b.side * b.conv.stride[0]) for a, b in pairwise(convolutions)]
    return list(zip(convolutions, [*between, 1], strict=True))


def _pooled(key: str, convolutions: Sequence[_Convolution], first: int) -> dict[str, Any]:
    """After which of these, counted from `first`, the map is pooled, and by how much."""
    poolings = {n: times for n, (_, times) in enumerate(_poolings(convolutions), start=first) if times > 1}
    return {f"{key}.pooled": list(poolings), f"{key}.pool": _only(poolings.values())}


def _kernel(*convolutions: _Convolution) -> int | list[int]:
    return _only(each.conv.kernel_size[0] for each in convolutions)


def _heads(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def _ends(key: str, network: nn.Module) -> dict[str, Any]:
    """What the last linear layer takes and gives; nothing where there is none."""
    heads = _heads(network)
    return {f"{key}.features": heads[-1].in_features, f"{key}.outputs": heads[-1].out_features} if heads else {}


def _only(values: Iterable[int]) -> int | list[int]:
    """The one value that all have; else all there are."""
    found = sorted(set(values))
    return found[0] if len(found) == 1 else found


def _count_ladders(solution: Solution) -> dict[str, Any]:
    counted: dict[str, Any] = {}
    for rate, steps in ((e.keep_rate, e.steps) for e in EXPERIMENTS.values() if e.keep_rate):
        schedule = solution.pruning.width_schedule(STUDENT_WIDTHS, rate, steps)
        counted[f"q3.ladder.{rate}"] = [measure.parameters(StudentNet(widths)) for widths in schedule]
        counted["q3.pruning.stages"] = [k for k, width in enumerate(STUDENT_WIDTHS) if schedule[-1][k] != width]
    first, second = (counted[f"q3.ladder.{rate}"] for rate in KEPT_ALIKE)
    return counted | {"q3.ladder.shared": [parameters for parameters in first if parameters in second]}


def _sizes(key: str, network: nn.Module) -> dict[str, Any]:
    size = measure.tensor_bytes(network)
    stored = {f"{key}.bytes": size} if key.startswith("q1") else {f"{key}.kilobytes": round(size / 1024)}
    return {f"{key}.parameters": measure.parameters(network), **stored}


def _times_smaller(key: str, network: nn.Module, solution: Solution) -> dict[str, Any]:
    """Than the teacher."""
    teacher = NETWORKS["teacher"](solution, 11)
    return {
        f"{key}.times_smaller.{unit}": round(size(teacher) / size(network), 1)
        for unit, size in (("bytes", measure.tensor_bytes), ("parameters", measure.parameters))
    }


def standard_error(accuracy: float, images: int) -> float:
    """Of one accuracy measured on so many images (binomial)."""
    return math.sqrt(accuracy * (1 - accuracy) / images)

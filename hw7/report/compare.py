"""Printed beside measured: what the ledger's figures come to when counted on live networks or measured by a run.

Counts are exact on every machine. Accuracies and losses are compared with the report only on its own data with its own
recipe, Food-11 at the profile `full`; anywhere else the verdict is "other data" or "other recipe". `ABOUT_ACCURACIES`
tells the page's reader what such a verdict says and what it does not. Nothing stricter can be had: the report has one
accuracy of one network, no answers image by image, and no other seed.
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate
from torch import nn

from hw7 import measure
from hw7.models import STUDENT_WIDTHS, StudentNet
from hw7.report import ledger
from hw7.report.experiments import EXPERIMENTS, NETWORKS
from hw7.report.ledger import Figure
from hw7.solution import Solution, running

FILE_OVERHEAD = 0.02  # what a file format may add to the tensors: names, shapes, alignment
RATES = (0.975, 0.95, 0.9)
KEPT_ALIKE = RATES[:2]  # the two ladders that meet

ABOUT_ACCURACIES = (
    "An accuracy “agrees” with the printed one where the two differ by at most two standard errors of a difference, "
    "reckoned as if each had images of its own. That is lenient: both are of the same validation images, where two "
    "networks make many of the same mistakes, so that chance moves their difference less. What another seed changes is "
    "not in it: “higher” and “lower” may be no more than that. And both are the best of all their epochs on these very "
    "images, which flatters both, but alike only as far as the recipes are alike. The test images have chosen nothing; "
    "the report has no accuracy on them."
)

# the network's name and title, its parameters and its size in the ledger
SUMMARY = (
    ("teacher", "ResNet-18, the teacher", "q1.teacher.parameters", "q1.teacher.bytes"),
    ("small_resnet18", "ResNet-18 with DW + PW", "q1.dwpw.parameters", "q1.dwpw.bytes"),
    ("student_cnn", "CNN student", "q1.cnn.parameters", "q1.cnn.bytes"),
    ("student_dw", "DW + PW student", "q2.student.parameters", "q2.student.kilobytes"),
    ("student_net", "Student for pruning", "q3.student.parameters", "q3.student.kilobytes"),
)


@dataclass(frozen=True)
class Comparison:
    """A figure of the ledger, what was measured for it here (None: nothing), and how the two compare."""

    figure: Figure
    measured: Any
    verdict: str

    @property
    def of_accuracies(self) -> bool:
        """Whether the verdict is one on two accuracies."""
        return self.verdict.startswith(("agrees", "higher", "lower"))


def count(solution: Solution, partly: bool = False) -> dict[str, Any]:
    """Every figure of the ledger that counting gives, by id, counted on networks built now (11 classes, 128 x 128).

    Raises HW7Error where the solution's code raises; `partly` leaves out what cannot be counted instead.
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
    return counted | {"q2.standard_error": round(standard_error(0.83, 3430), 4)}


def _count_low_rank(solution: Solution) -> dict[str, Any]:
    network = NETWORKS["small_resnet18"](solution, 11)
    counted = _sizes("q1.dwpw", network) | _times_smaller("q1.dwpw", network, solution)
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels]
    inner_norms = sum(2 * conv.out_channels for conv in depthwise)
    return counted | {"q1.dwpw.without_inner_norm.parameters": measure.parameters(network) - inner_norms}


def _count_cnn(solution: Solution) -> dict[str, Any]:
    network = NETWORKS["student_cnn"](solution, 11)
    rows = measure.layer_table(network, (3, 128, 128))  # the side of the map after each convolution and pooling
    outputs = [row.output_shape[-1] for row in rows if row.kind in ("Conv2d", "MaxPool2d") and row.output_shape]
    return {
        **_sizes("q1.cnn", network),
        **_times_smaller("q1.cnn", network, solution),
        "q1.cnn.bytes.least": 4 * measure.parameters(network),
        "q1.cnn.layer_outputs": outputs,
        "data.first_layer.size": next(iter(outputs), None),
    }


def _count_dw(solution: Solution) -> dict[str, Any]:
    return _sizes("q2.student", NETWORKS["student_dw"](solution, 11))


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


def compare(solution: Solution, results: Mapping[str, Any]) -> list[Comparison]:
    """Every figure of the ledger, in its order, with what a reproduction's results or counting say of it."""
    measured = count(solution, partly=True)  # a page shows what there is, whatever task is not done yet
    images: dict[str, int] = {}
    for name, result in results["experiments"].items():
        for figure_id, key in EXPERIMENTS[name].figures.items():
            measured[figure_id], images[figure_id] = result[key], result["images"]
    obstacle = not_comparable(results)
    return [
        Comparison(figure, measured.get(name), _verdict(figure, measured.get(name), obstacle, images.get(name)))
        for name, figure in ledger.load().items()
    ]


def not_comparable(results: Mapping[str, Any]) -> str:
    """Why accuracies must not be compared with the report's: "other data", "other recipe", or "" where they may be."""
    if not results["data"].startswith("food11"):
        return "other data"
    return "" if results["profile"] == "full" else "other recipe"


def _verdict(figure: Figure, measured: Any, obstacle: str = "", images: int | None = None) -> str:
    if figure.obtained == "given":
        return "setting" if measured is None else "for comparison"
    if measured is None:
        return "not measured"
    if figure.obtained == "training":
        return obstacle or _trained(figure, measured, images)
    if figure.unit in ("bytes", "KB") and figure.id != "q1.cnn.bytes.least":
        return _stored(figure, measured)
    value = list(figure.value) if isinstance(figure.value, tuple) else figure.value
    return "exact" if measured == value else "differs"


def _stored(figure: Figure, measured: float) -> str:
    """A printed size is a file's: the tensors' bytes, and a little for the format."""
    assert isinstance(figure.value, int | float)
    overhead = figure.value / measured - 1
    if 0 <= overhead <= FILE_OVERHEAD:
        return f"fits: the file adds {overhead:.2%}"
    return "differs" if overhead > 0 else f"impossible: {-overhead:.0%} below the tensors alone"


def _trained(figure: Figure, measured: float, images: int | None) -> str:
    """Two accuracies agree when they differ by at most two standard errors of their difference, reckoned as if each had
    images of its own (see `ABOUT_ACCURACIES`); losses are shown."""
    assert isinstance(figure.value, int | float)
    difference = measured - figure.value
    if figure.unit != "accuracy" or not images:
        return f"{difference:+.3f}"
    tolerance = 2 * math.sqrt(2) * standard_error(figure.value, images)
    if abs(difference) <= tolerance:
        return f"agrees ({100 * difference:+.1f} points, within {100 * tolerance:.1f})"
    return f"{'higher' if difference > 0 else 'lower'} by {100 * abs(difference):.1f} points"


def format_summary(counted: Mapping[str, Any]) -> str:
    """The five networks and the three ladders, printed beside counted, for a terminal."""
    figures = ledger.load()

    def cells(figure_id: str) -> tuple[str, str, str]:
        figure, value = figures[figure_id], counted[figure_id]
        unit = " KB" if figure.unit == "KB" else ""
        return f"{figure.value:,}{unit}", f"{value:,}{unit}", _verdict(figure, value)

    headers = ("network", "parameters printed", "counted", "", "bytes printed", "tensors' bytes", "")
    rows = [(title, *cells(parameters), *cells(size)) for _, title, parameters, size in SUMMARY]
    align = ("left", "right", "right", "left", "right", "right")
    parts = [tabulate(rows, headers, disable_numparse=True, colalign=align)]
    for rate in RATES:
        printed, steps = figures[f"q3.ladder.{rate}"].value, counted[f"q3.ladder.{rate}"]
        assert isinstance(printed, tuple)
        pairs = zip(printed, steps, strict=True)
        ladder = [(f"{a:,}", f"{b:,}", "exact" if a == b else "differs") for a, b in pairs]
        columns = ("step", "printed", "counted", "")
        table = tabulate(ladder, columns, showindex=range(1, len(ladder) + 1), disable_numparse=True)
        parts.append(f"Keep rate {rate}: parameters after each pruning step\n\n{table}")
    return "\n\n".join(parts)


def summary_json(counted: Mapping[str, Any]) -> dict[str, Any]:
    """What `hw7 summary --json` prints: five counts, three ladders, and every counted figure with its verdict."""
    figures = ledger.load()
    return {
        "parameters": {name: counted[parameters] for name, _, parameters, _ in SUMMARY},
        "ladders": {str(rate): counted[f"q3.ladder.{rate}"] for rate in RATES},
        "figures": {
            name: {"printed": figures[name].value, "counted": value, "verdict": _verdict(figures[name], value)}
            for name, value in counted.items()
        },
    }

"""Printed beside measured: what the ledger's figures come to when counted on live networks or measured by a run.

Counts are exact on every machine. Accuracies and losses are compared with the report only on its own data with its own
recipe, Food-11 at the profile `full`; anywhere else the verdict is "other data" or "other recipe". `ABOUT_ACCURACIES`
tells the page's reader what such a verdict says and what it does not. Nothing stricter can be had: the report has one
accuracy of one network, no answers image by image, and no other seed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from hw7.report import ledger
from hw7.report.counting import RATES, count, standard_error
from hw7.report.experiments import EXPERIMENTS
from hw7.report.ledger import Figure
from hw7.solution import Solution

FILE_OVERHEAD = 0.02  # what a file format may add to the tensors: names, shapes, alignment

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


def compare(solution: Solution, results: Mapping[str, Any], used: Mapping[str, Any] | None = None) -> list[Comparison]:
    """Every figure of the ledger, in its order, with what a reproduction's results, counting, or the settings that it
    `used` (by the figures' ids) say of it."""
    measured = count(solution, partly=True)  # a page shows what there is, whatever task is not done yet
    measured |= used or {}
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
    value = list(figure.value) if isinstance(figure.value, tuple) else figure.value
    if figure.obtained == "given":
        return "as printed" if measured is None else "the same" if measured == value else "other here"
    if measured is None:
        return "not measured"
    if figure.obtained == "training":
        return obstacle or _trained(figure, measured, images)
    if figure.unit in ("bytes", "KB") and figure.id != "q1.cnn.bytes.least":
        return _stored(figure, measured)
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

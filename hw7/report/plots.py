"""Plots: the page's pictures, in one style."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from PIL import Image

from hw7.data.source import Split

COLOURS = {
    "teacher-pretrained": "#b3541e", "teacher-scratch": "#e0a458", "small-resnet18": "#5b8e7d",
    "student-cnn": "#8d6a9f", "student-c": "#7a7a7a", "student-d": "#6ba3d6", "student-e": "#1f5a99",
    "student-weak": "#c96567",
    "prune-0.975": "#1f5a99", "prune-0.95": "#5b8e7d", "prune-0.9": "#b3541e",
}  # fmt: skip
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "hw7", "font.family": "sans-serif", "font.size": 10}


@dataclass(frozen=True)
class Picture:
    """A picture as a file (SVG or PNG), and what it shows."""

    name: str
    caption: str
    data: bytes

    @property
    def inline(self) -> str:
        kind = "svg+xml" if self.name.endswith(".svg") else "png"
        return f"data:image/{kind};base64,{base64.b64encode(self.data).decode()}"


def plot_pruning(ladders: Mapping[float, list[dict[str, Any]]], student: Mapping[str, Any]) -> Picture:
    def draw(axes: Axes) -> None:
        for rate, steps in ladders.items():
            counts, accuracies = zip(*((step["parameters"], 100 * step["accuracy"]) for step in steps), strict=True)
            colour = COLOURS[f"prune-{rate}"]
            axes.plot(counts, accuracies, "o-", color=colour, markersize=3.5, label=f"keep rate {rate}")
        axes.plot(student["parameters"], 100 * student["accuracy"], "k*", markersize=10, label="before pruning")
        axes.invert_xaxis()
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}K")
        axes.set_xlabel("parameters")
        axes.set_ylabel("validation accuracy, %")

    caption = "Parameters against validation accuracy, a line for each keep rate. Pruning goes to the right."
    return Picture("pruning.svg", caption, draw_svg(draw))


def draw_svg(draw: Any, height: float = 3.8) -> bytes:
    """A plot in the page's style; no date in it, so that equal results give equal files."""
    with matplotlib.rc_context(STYLE):
        plot = Plot(figsize=(8, height), layout="constrained")
        axes = plot.subplots()
        draw(axes)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8.5)
        file = io.BytesIO()
        plot.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
        return file.getvalue()


def sample_sheet(split: Split, each: int, gap: int = 2) -> bytes:
    """A PNG with a row of `each` images for every class; of a split without labels, of its first images."""
    side = split.images.shape[-1] * max(1, 96 // split.images.shape[-1])
    if split.labelled:
        rows = [split.images[split.labels == label][:each] for label in range(len(split.classes))]
    else:
        rows = list(split.images[: len(split.classes) * each].split(each))
    sheet = Image.new("RGB", (each * (side + gap) - gap, len(rows) * (side + gap) - gap), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).resize(
                (side, side), Image.Resampling.NEAREST
            )
            sheet.paste(picture, (x * (side + gap), y * (side + gap)))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()

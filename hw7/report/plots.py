"""Plots: the page's pictures, in one style."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from PIL import Image

from hw7.data.source import Split
from hw7.report.experiments import EXPERIMENTS

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
        axes.set(xlabel="parameters", ylabel="validation accuracy, %")

    caption = "Parameters against validation accuracy, a line for each keep rate. Pruning goes to the right."
    return _plotted("pruning.svg", caption, draw)


def plot_curves(name: str, histories: Mapping[str, list[dict[str, Any]]]) -> Picture:
    def draw(axes: Axes) -> None:
        for run, history in histories.items():
            values = [100 * row["validation_accuracy"] for row in history]
            style = ".-" if len(values) < 3 else "-"  # a line of one point would not be seen
            axes.plot(range(1, len(values) + 1), values, style, color=COLOURS[run], label=EXPERIMENTS[run].title)
            for epoch, (before, after) in enumerate(pairwise(history), start=1):
                if before["optimizer"] != after["optimizer"]:
                    axes.axvline(epoch + 0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
        axes.set(xlabel="epoch", ylabel="validation accuracy, %")

    caption = "Validation accuracy by epoch. A dotted line is a change of optimizer."
    return _plotted(name, caption, draw)


def plot_sizes(titles: Sequence[str], sizes: Mapping[int, Sequence[int]]) -> Picture:
    """Bars: what each network's file takes, in bytes, by the bits of a weight."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(titles))
        for offset, (bits, colour) in enumerate(zip(sizes, ("#1f5a99", "#6ba3d6", "#b3541e"), strict=False)):
            values = [size / 1e6 for size in sizes[bits]]
            bars = axes.barh(places + (offset - 1) * 0.27, values, 0.25, color=colour, label=f"{bits} bit")
            axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
        axes.set_yticks(places, titles)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.axvline(0.3, color="#444444", linewidth=0.9, linestyle="--")
        axes.set_xlabel("file size, MB (10⁶ bytes, logarithmic); dashed: the 300,000 bytes that may be handed in")

    return _plotted("sizes.svg", "What each network's file takes.", draw, 4.2)


def _plotted(name: str, caption: str, draw: Callable[[Axes], None], height: float = 3.8) -> Picture:
    """An SVG in the page's style, with no date in it, so that equal results give equal files."""
    with matplotlib.rc_context(STYLE):
        plot = Plot(figsize=(8, height), layout="constrained")
        axes = plot.subplots()
        draw(axes)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8.5)
        file = io.BytesIO()
        plot.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return Picture(name, caption, file.getvalue())


def sample_sheet(split: Split, each: int, gap: int = 2) -> bytes:
    """A PNG with a row of `each` images for every class; of a split without labels, of its first images."""
    from hw7.support.torchvision_import import make_grid  # here: it takes a second

    if split.labelled:
        rows = [split.images[split.labels == label][:each] for label in range(len(split.classes))]
    else:
        rows = list(split.images[: len(split.classes) * each].split(each))
    blank = torch.full_like(split.images[:1], 255).expand(each, -1, -1, -1)  # where a class has fewer images
    images = torch.cat([torch.cat([row, blank])[:each] for row in rows])
    scale = max(1, 96 // images.shape[-1])
    enlarged = images.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    sheet = make_grid(enlarged, nrow=each, padding=gap, pad_value=255)[:, gap:-gap, gap:-gap]
    file = io.BytesIO()
    Image.fromarray(sheet.permute(1, 2, 0).cpu().numpy()).save(file, "PNG", optimize=True)
    return file.getvalue()

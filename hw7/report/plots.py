"""Plots: the page's pictures, in one style."""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.ticker import MaxNLocator, NullFormatter
from PIL import Image, ImageDraw, ImageFont

from hw7.data.source import Split
from hw7.report.experiments import EXPERIMENTS

COLOURS = {
    "pretraining": "#7a7a7a",
    "teacher-pretrained": "#b3541e", "teacher-scratch": "#e0a458", "teacher-weak": "#b7a99a",
    "small-resnet18": "#5b8e7d", "student-cnn": "#8d6a9f",
    "student-c": "#7a7a7a", "student-d": "#6ba3d6", "student-e": "#1f5a99", "student-weak": "#c96567",
    "student-net": "#23211f", "prune-0.975": "#1f5a99", "prune-0.95": "#5b8e7d", "prune-0.9": "#b3541e",
    "plain-1mb": "#b3541e", "depthwise-1mb": "#1f5a99", "grouped-1mb": "#5b8e7d",
}  # fmt: skip
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "hw7", "font.family": "sans-serif", "font.size": 10}
WIDTH, HEIGHT = 4.6, 2.7  # of a plot, in inches: two fit side by side, and one a telephone


@dataclass(frozen=True)
class Picture:
    """A picture as a file (SVG or PNG), and what it shows."""

    name: str
    caption: str
    data: bytes

    @property
    def kind(self) -> str:
        """svg or png."""
        return self.name.rpartition(".")[2]

    @property
    def inline(self) -> str:
        """As the address of an image."""
        kind = {"svg": "svg+xml"}.get(self.kind, self.kind)
        return f"data:image/{kind};base64,{base64.b64encode(self.data).decode()}"


Drawing = Callable[[Axes], None]


def plot_curves(name: str, runs: Mapping[str, Mapping[str, Any]]) -> list[Picture]:
    """Validation accuracy and losses by epoch, a line for each run; `runs` is what each run.json holds."""
    longest = max(len(run["history"]) for run in runs.values())
    margin = 0.03 * longest  # so that no dot is cut
    changes = {epoch + 0.5 for run in runs.values() for epoch in _switches(run["history"])}

    def drawing(key: str, factor: float, label: str) -> Drawing:
        def draw(axes: Axes) -> None:
            for run, record in runs.items():
                values = [factor * row[key] for row in record["history"]]
                style = ".-" if len(values) < 3 else "-"  # a line of one point would not be seen
                axes.plot(range(1, len(values) + 1), values, style, color=COLOURS[run], label=EXPERIMENTS[run].title)
                best = record["best_epoch"]
                axes.plot(best + 1, values[best], "o", color=COLOURS[run], markersize=5)
                if key == "validation_loss":
                    trained = [row["loss"] for row in record["history"]]
                    axes.plot(range(1, len(trained) + 1), trained, "--", color=COLOURS[run], linewidth=0.8, alpha=0.7)
            for change in changes:
                axes.axvline(change, color="#8a8a8a", linewidth=1, linestyle=":")
            axes.set(xlabel="epoch", ylabel=label, xlim=(1 - margin, longest + margin))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

        return draw

    dotted = " Dotted: the optimizer changes." if changes else ""
    captions = {
        "accuracy": f"Validation accuracy by epoch; the dot is the epoch that was kept.{dotted}",
        "loss": "Validation loss (cross entropy) by epoch; dashed: the loss in training, on augmented images, which is "
        f"the distillation loss where there is a teacher.{dotted}",
    }
    drawings = {
        "accuracy": drawing("validation_accuracy", 100, "validation accuracy, %"),
        "loss": drawing("validation_loss", 1, "loss"),
    }
    rows = len(runs)
    return [_plotted(f"{name}-{what}.svg", captions[what], draw, rows) for what, draw in drawings.items()]


def _switches(history: Sequence[Mapping[str, Any]]) -> list[int]:
    """After which epochs, counted from 1, the optimizer changes."""
    pairs = enumerate(pairwise(history), start=1)
    return [epoch for epoch, (before, after) in pairs if before["optimizer"] != after["optimizer"]]


def plot_pruning(ladders: Mapping[float, list[dict[str, Any]]], student: Mapping[str, Any] | None) -> list[Picture]:
    """Validation accuracy and loss against parameters, a line for each keep rate; `student`: before pruning."""

    def drawing(key: str, factor: float, label: str) -> Drawing:
        def draw(axes: Axes) -> None:
            for rate, steps in ladders.items():
                points = [(step["parameters"], factor * step[key]) for step in steps]
                colour = COLOURS[f"prune-{rate}"]
                axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3.5, label=f"keep rate {rate}")
            if student:
                axes.plot(student["parameters"], factor * student[key], "k*", markersize=10, label="before pruning")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}K")
            axes.set(xlabel="parameters", ylabel=label)

        return draw

    rows = len(ladders) + bool(student)
    about = "against parameters, a line for each keep rate. Each step of pruning goes to the left."
    accuracy, loss = drawing("accuracy", 100, "validation accuracy, %"), drawing("loss", 1, "validation loss")
    return [
        _plotted("pruning-accuracy.svg", f"Validation accuracy {about}", accuracy, rows),
        _plotted("pruning-loss.svg", f"Validation loss (cross entropy) {about}", loss, rows),
    ]


def plot_sizes(titles: Sequence[str], sizes: Mapping[int, Sequence[int]]) -> Picture:
    """Bars: what each network's file takes, in bytes, by the bits of a weight."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(titles))
        for offset, (bits, colour) in enumerate(zip(sizes, ("#1f5a99", "#6ba3d6", "#b3541e"), strict=False)):
            values = [size / 1e6 for size in sizes[bits]]
            bars = axes.barh(places + (offset - 1) * 0.27, values, 0.25, color=colour, label=f"{bits} bit")
            box = {"facecolor": "white", "linewidth": 0, "pad": 0.8}  # over the dashed line
            axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8, bbox=box)
        axes.axvline(0.3, color="#444444", linewidth=0.9, linestyle="--", label="300,000 bytes, the most to hand in")
        axes.set_yticks(places, titles)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(right=4 * axes.get_xlim()[1])  # room for the labels
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} MB")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("size of the file (logarithmic)")

    return _plotted("sizes.svg", "What each network's file takes; 1 MB is 10⁶ bytes.", draw, 4, 1.4 * HEIGHT)


def _plotted(name: str, caption: str, draw: Drawing, legend_rows: int, height: float = HEIGHT) -> Picture:
    """An SVG in the page's style, with no date in it, so that equal results give equal files."""
    with matplotlib.rc_context(STYLE):
        plot = Plot(figsize=(WIDTH, height + 0.19 * legend_rows), layout="constrained")
        axes = plot.subplots()
        draw(axes)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        plot.legend(loc="outside lower left", frameon=False, fontsize=8.5)
        file = io.BytesIO()
        plot.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return Picture(name, caption, file.getvalue())


def sample_sheet(split: Split, each: int, gap: int = 2) -> bytes:
    """A PNG with a row of `each` images for every class beside its name; of a split without labels, of its first
    images."""
    from hw7.support.torchvision_import import make_grid  # here: it takes a second

    if split.labelled:
        rows = [split.images[split.labels == label][:each] for label in range(len(split.classes))]
    else:
        rows = list(split.images[: len(split.classes) * each].split(each))
    blank = torch.full_like(split.images[:1], 255).expand(each, -1, -1, -1)  # where a class has fewer images
    images = torch.cat([torch.cat([row, blank])[:each] for row in rows])
    scale = max(1, 96 // images.shape[-1])
    enlarged = images.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    grid = make_grid(enlarged, nrow=each, padding=gap, pad_value=255)[:, gap:-gap, gap:-gap]
    sheet = Image.fromarray(grid.permute(1, 2, 0).cpu().numpy())
    if split.labelled:
        sheet = _with_names(sheet, split.classes, enlarged.shape[-1], gap)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _with_names(sheet: Image.Image, names: Sequence[str], side: int, gap: int) -> Image.Image:
    """The sheet with a name to the left of each of its rows, which are `side` pixels high."""
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 18)
    left = math.ceil(max(font.getlength(name) for name in names)) + 12
    named = Image.new("RGB", (left + sheet.width, sheet.height), "white")
    named.paste(sheet, (left, 0))
    draw = ImageDraw.Draw(named)
    for row, name in enumerate(names):
        draw.text((0, row * (side + gap) + side / 2), name, "#23211f", font, anchor="lm")
    return named

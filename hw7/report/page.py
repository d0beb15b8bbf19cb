"""The page at the end: sections of text, tables and pictures, made once and written as report.md and as report.html.

Its order is the report's own. Every number comes from `results.json` or from the runs' histories; the sentences that
say what came out are chosen by the numbers.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import torch
from matplotlib.axes import Axes
from tabulate import tabulate

from hw7 import __version__, measure
from hw7.report import ledger
from hw7.report.compare import KEPT_ALIKE, RATES, Verdict, judge, not_comparable, standard_error
from hw7.report.experiments import EXPERIMENTS, NETWORKS
from hw7.report.reproduce import Reproduction, quantized
from hw7.support.files import read_json, write_file, write_json

if TYPE_CHECKING:
    from pathlib import Path
from hw7.report.plots import COLOURS, Picture, draw_svg, plot_pruning, sample_sheet

MISSING = "not run"
LABELS_ALONE = "the student trained on labels alone"


@dataclass(frozen=True)
class Table:
    """Rows of text under headers; the columns named in `left` are words, the others numbers."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: tuple[str, ...] = ()

    @property
    def markdown(self) -> str:
        align = tuple("left" if header in self.left else "right" for header in self.headers)
        return tabulate(self.rows, headers=self.headers, tablefmt="github", disable_numparse=True, colalign=align)


@dataclass(frozen=True)
class Section:
    """A part of the page: its paragraphs, then its tables, then its pictures."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def write_report(reproduction: Reproduction) -> Path:
    """Writes results.json, report.md, report.html and the pictures into the reproduction's folder; the page's path."""
    results = reproduction.results()
    verdicts = {verdict.figure.id: verdict for verdict in judge(reproduction.solution, results)}
    results["figures"] = {
        name: {"printed": v.figure.value, "measured": v.measured, "verdict": v.verdict} for name, v in verdicts.items()
    }
    write_json(reproduction.out / "results.json", results)

    page = Page(reproduction, results, verdicts)
    sections = page.sections()
    for section in sections:
        for picture in section.pictures:
            write_file(reproduction.out / "pictures" / picture.name, picture.data)
    for name in ("report.md", "report.html"):
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("hw7.report"),
            autoescape=name.endswith("html"),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        template = environment.get_template(f"{name}.j2")
        write_file(reproduction.out / name, template.render(page=page, sections=sections).encode())
    return reproduction.out / "report.html"


class Page:
    """What the page says, section by section. `results` and `verdicts` are the contents of results.json."""

    title = "Homework 7: network compression, measured again"

    def __init__(self, reproduction: Reproduction, results: Mapping[str, Any], verdicts: Mapping[str, Verdict]) -> None:
        self.reproduction, self.results, self.verdicts = reproduction, results, verdicts
        self.runs: Mapping[str, dict[str, Any]] = results["experiments"]

    # --- the head --------------------------------------------------------------------------------------------------

    @property
    def lead(self) -> str:
        obstacle, profile = not_comparable(self.results), f"the profile “{self.results['profile']}”"
        if not obstacle:
            return "Measured on Food-11 with the report's own recipe: counts and accuracies are compared with its own."
        if obstacle == "other recipe":
            whose = f"on Food-11, but at {profile}, with fewer, smaller images and fewer epochs than the report's"
        else:
            whose = (
                f"on {self.results['data']} at {profile}: they are that data set's own and say nothing about Food-11"
            )
        return (
            f"The accuracies on this page were measured {whose}. Compare rows with each other, not with what the "
            "report printed. Counts do not depend on data and are compared exactly."
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        reproduction, solution = self.reproduction, self.reproduction.solution
        splits = [(name, reproduction.split(name)) for name in ("training", "validation", "testing")]
        images = ", ".join(f"{len(split):,} {name}" for name, split in splits)
        seconds = sum(read_json(path)["seconds"] for path in reproduction.out.glob("runs/**/run.json"))
        return [
            ("data", f"{reproduction.source}, {self.results['size']} × {self.results['size']} pixels: {images}"),
            ("teacher pretrained on", reproduction.pretraining),
            ("profile", f"{reproduction.profile_name}: {reproduction.profile.about}"),
            ("seed", str(reproduction.seed)),
            ("solution", f"{solution.directory.parent.name}/{solution.directory.name} ({solution.digest})"),
            ("precision", reproduction.precision),
            ("device", f"{_device_name(reproduction.device)}; {seconds / 60:.1f} minutes of training"),
            ("versions", f"hw7 {__version__}, Python {platform.python_version()}, torch {torch.__version__}"),
        ]

    @staticmethod
    def mood(verdict: str) -> str:
        """The style class of a verdict's cell."""
        if verdict.startswith(("exact", "agrees", "fits")):
            return "good"
        return "bad" if verdict.startswith(("differs", "impossible", "lower", "higher")) else "other"

    # --- the sections, in the report's order -----------------------------------------------------------------------

    def sections(self) -> list[Section]:
        questions = (self._question1(), self._question2(), self._question3(), self._question4())
        return [self._data(), *questions, self._contradictions(), self._ledger()]

    def _data(self) -> Section:
        training = self.reproduction.split("training")
        caption = "Training images as the networks see them, a row for each class."
        sheet = Picture("samples.png", caption, sample_sheet(training, 8))
        return Section(
            "The data", [f"{len(training.classes)} classes: {', '.join(training.classes)}."], pictures=[sheet]
        )

    def _question1(self) -> Section:
        networks = (
            ("ResNet-18, the teacher", "teacher", "teacher-pretrained"),
            ("“low-rank approximation”: ResNet-18 with DW + PW", "dwpw", "small-resnet18"),
            ("knowledge distillation into a plain CNN", "cnn", "student-cnn"),
        )
        sizes, accuracies = [], []
        for name, key, run in networks:
            parameters, size = self.verdicts[f"q1.{key}.parameters"], self.verdicts[f"q1.{key}.bytes"]
            cells = (f"{v.figure.value:,}" for v in (parameters, size))
            counted = (f"{v.measured:,}" for v in (parameters, size))
            pairs = zip(cells, counted, (parameters.verdict, size.verdict), strict=True)
            sizes.append((name, *(cell for pair in pairs for cell in pair)))
            accuracy, loss = self.verdicts[f"q1.{key}.accuracy"], self.verdicts[f"q1.{key}.loss"]
            printed = f"{accuracy.figure.value:.1%}", loss.figure.printed
            accuracies.append(
                (name, printed[0], self._accuracy(run), self._test(run), printed[1], _number(loss), accuracy.verdict)
            )  # fmt: skip
        return Section(
            "Question 1: two ways to compress one large network",
            [
                "A printed size is that of a file; it is set against the bytes of the tensors in it.",
                "The distilled CNN's loss is its distillation loss, as printed; the other two are cross entropies.",
            ],
            [
                Table(
                    ("network", "parameters printed", "counted", "verdict", "bytes printed", "of tensors", "verdict "),
                    sizes,
                    ("network", "verdict", "verdict "),
                ),
                Table(
                    ("network", "accuracy printed", "validation", "test", "loss printed", "validation loss", "verdict"),
                    accuracies,
                    ("network", "verdict"),
                ),
            ],
            [*self._curves("curves-1.svg", ("teacher-pretrained", "small-resnet18", "student-cnn")), self._sizes()],
        )  # fmt: skip

    def _question2(self) -> Section:
        rows = []
        for name in (
            "teacher-scratch",
            "teacher-pretrained",
            "student-c",
            "student-d",
            "student-e",
            "teacher-weak",
            "student-weak",
        ):
            title, printed, verdict = EXPERIMENTS[name].title, "", "not in the report"
            if name == "teacher-pretrained":
                title = "b: teacher, ResNet-18 pretrained, fine-tuned"
            if figure := next((self.verdicts[key] for key in EXPERIMENTS[name].figures if key.startswith("q2.")), None):
                printed, verdict = f"{figure.figure.value:.2%}", figure.verdict
            rows.append((title, printed, self._accuracy(name), self._test(name), verdict))
        comparisons = (
            self._compare("student-e", "the student distilled from the pretrained teacher"),
            self._compare("student-d", "the student distilled from the scratch teacher"),
            self._compare("student-weak", "the student distilled from the weak teacher"),
        )
        order = ("teacher-pretrained", "teacher-scratch", "student-c", "student-d", "student-e", "student-weak")
        headers = ("run", "accuracy printed", "validation accuracy", "test accuracy", "verdict")
        return Section(
            "Question 2: what distillation does, by teacher",
            [
                *(sentence for sentence in comparisons if sentence),
                "± is one standard error of one accuracy on so many images. What another seed changes is not in it.",
            ],
            [Table(headers, rows, ("run", "verdict"))],
            self._curves("curves-2.svg", order),
        )  # fmt: skip

    def _question3(self) -> Section:
        student = self.runs.get("student-net")
        ladders = {rate: self.runs[f"prune-{rate}"]["steps"] for rate in RATES if f"prune-{rate}" in self.runs}
        text: list[str] = []
        tables = [self._quantization(student)] if student else []
        if all(rate in ladders for rate in KEPT_ALIKE):
            first, second = ({step["parameters"]: step for step in ladders[rate]} for rate in KEPT_ALIKE)
            gains = {n: first[n]["accuracy"] - second[n]["accuracy"] for n in first if n in second}
            rows = [
                (f"{n:,}", _percent(first[n]), _percent(second[n]), f"{100 * gain:+.1f}") for n, gain in gains.items()
            ]
            tables.append(Table(("parameters", *(f"keep rate {rate}" for rate in KEPT_ALIKE), "points"), rows))
            mean = 100 * sum(gains.values()) / len(gains)
            text.append(
                f"Where the two slower ladders meet, pruning less per step is {abs(mean):.1f} points "
                f"{'more' if mean >= 0 else 'less'} accurate on average. By then it has also trained for more epochs."
            )
        if ladders:
            text.append(
                "Parameters after each step against the report's: "
                + ", ".join(f"{rate} {self.verdicts[f'q3.ladder.{rate}'].verdict}" for rate in ladders) + "."
            )  # fmt: skip
            last = [
                (str(rate), str(len(steps)), f"{steps[-1]['parameters']:,}", _percent(steps[-1]))
                for rate, steps in ladders.items()
            ]
            tables.append(Table(("keep rate", "steps", "parameters after the last", "validation accuracy"), last))
        return Section(
            "Question 3: network pruning",
            text,
            tables,
            [plot_pruning(ladders, student)] if student and ladders else [],
        )

    def _quantization(self, student: Mapping[str, Any]) -> Table:
        rows = []
        for name, bits in (("student-net", 32), ("quantized-16", 16), ("quantized-8", 8)):
            if run := self.runs.get(name):
                size = run.get("file_bytes", student["tensor_bytes"])
                share = f"{size / student['tensor_bytes']:.3f}"
                rows.append((f"{bits} bit", f"{size:,}", share, self._accuracy(name), self._test(name)))
        headers = ("student before pruning", "bytes", "share", "validation accuracy", "test accuracy")
        return Table(headers, rows, headers[:1])

    def _question4(self) -> Section:
        rows = []
        for name in ("plain-1mb", "depthwise-1mb", "grouped-1mb"):
            if run := self.runs.get(name):
                size = f"{run['tensor_bytes'] / 2**20:.2f} MB"
                macs = measure.macs(NETWORKS[EXPERIMENTS[name].network](self.reproduction.solution, 11))
                row = (f"{run['parameters']:,}", size, f"{macs / 1e6:.1f} M", self._accuracy(name), self._test(name))
                rows.append((EXPERIMENTS[name].title, *row))
        headers = ("network", "parameters", "size", "MACs at 128 px", "validation accuracy", "test accuracy")
        text = (
            "The course's question, not this report's: equal depth and strides, three kinds of convolution, near 1 MB."
        )
        return Section(
            "Question 4: plain, depthwise + pointwise, group convolution",
            [text if rows else f"{text} {MISSING.capitalize()}."],
            [Table(headers, rows, headers[:1])] if rows else [],
        )

    def _contradictions(self) -> Section:
        text = [f"{c.number}. {c.text}" for c in ledger.contradictions()]
        return Section("Where the report contradicts itself", ["The ledger keeps what it says, and notes this:", *text])

    def _ledger(self) -> Section:
        shown = [v for v in self.verdicts.values() if v.verdict != "setting"]
        rows = [
            (v.figure.id, v.figure.what, _cell(v.figure.value), _cell(v.measured), v.verdict, _numbers(v))
            for v in shown
        ]
        settings = len(self.verdicts) - len(shown)
        return Section(
            "Every figure of the report",
            [f"{len(shown)} figures that counting or training gives; {settings} settings stand in the ledger, too."],
            [
                Table(
                    ("figure", "what", "printed", "measured", "verdict", "contradiction"),
                    rows,
                    ("figure", "what", "verdict"),
                )
            ],
        )

    # --- their parts -----------------------------------------------------------------------------------------------

    def _accuracy(self, name: str) -> str:
        if name not in self.runs:
            return MISSING
        run = self.runs[name]
        return f"{_percent(run)} ± {_error(run['accuracy'], run['images'])}"

    def _test(self, name: str) -> str:
        run = self.runs.get(name, {})
        if "test_images" not in run:
            return ""
        return f"{run['test_accuracy']:.1%} ± {_error(run['test_accuracy'], run['test_images'])}"

    def _compare(self, name: str, subject: str) -> str | None:
        """One sentence: how far a student is from the one without a teacher, and the standard error of that."""
        if name not in self.runs or "student-c" not in self.runs:
            return None
        runs = self.runs[name], self.runs["student-c"]
        where, key, images = ("test", "test_accuracy", "test_images")  # they chose no epoch, so they flatter nobody
        if not all(images in run for run in runs):
            where, key, images = ("validation", "accuracy", "images")
        points = 100 * (runs[0][key] - runs[1][key])
        error = 100 * math.hypot(*(standard_error(run[key], run[images]) for run in runs))
        size = "more than" if abs(points) > error else "within"
        return (
            f"On {where} images, {subject} is {abs(points):.1f} points {'above' if points >= 0 else 'below'} "
            f"{LABELS_ALONE}, {size} the standard error of {error:.1f}."
        )

    def _curves(self, name: str, ids: tuple[str, ...]) -> list[Picture]:
        paths = {run: self.reproduction.directory(run) / "run.json" for run in ids if run in self.runs}
        histories = {run: read_json(path)["history"] for run, path in paths.items()}

        def draw(axes: Axes) -> None:
            for run, history in histories.items():
                values = [100 * row["validation_accuracy"] for row in history]
                epochs = range(1, len(values) + 1)
                axes.plot(
                    epochs, values, "." * (len(values) < 3) + "-", color=COLOURS[run], label=EXPERIMENTS[run].title
                )
                switches = [i for i in range(1, len(history)) if history[i]["optimizer"] != history[i - 1]["optimizer"]]
                for switch in switches:
                    axes.axvline(switch + 0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
            axes.set_xlabel("epoch")
            axes.set_ylabel("validation accuracy, %")

        caption = "Validation accuracy by epoch. A dotted line is a change of optimizer."
        return [Picture(name, caption, draw_svg(draw))] if histories else []

    def _sizes(self) -> Picture:
        """Bars: what a network's file takes at 32, 16 and 8 bits."""
        solution = self.reproduction.solution
        names = {
            "teacher": "ResNet-18",
            "small_resnet18": "DW + PW ResNet-18",
            "student_cnn": "CNN student",
            "student_dw": "DW + PW student",
            "student_net": "student for pruning",
        }
        states = [NETWORKS[name](solution, 11).state_dict() for name in names]
        sizes = {
            32: [measure.file_bytes(state) for state in states],
            16: [measure.file_bytes(quantized(solution, state, 16)[0]) for state in states],
            8: [measure.file_bytes(quantized(solution, state, 8)[0]) for state in states],
        }

        def draw(axes: Axes) -> None:
            places = np.arange(len(names))
            for offset, (bits, colour) in enumerate(zip(sizes, ("#1f5a99", "#6ba3d6", "#b3541e"), strict=True)):
                values = [size / 1e6 for size in sizes[bits]]
                bars = axes.barh(places + (offset - 1) * 0.27, values, 0.25, color=colour, label=f"{bits} bit")
                axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
            axes.set_yticks(places, list(names.values()))
            axes.invert_yaxis()
            axes.set_xscale("log")
            axes.axvline(0.3, color="#444444", linewidth=0.9, linestyle="--")
            axes.set_xlabel("file size, MB (10⁶ bytes, logarithmic); dashed: the 300,000 bytes that may be handed in")

        return Picture("sizes.svg", "What each network's file takes.", draw_svg(draw, 4.2))


def _percent(run: Mapping[str, Any]) -> str:
    return f"{run['accuracy']:.1%}"


def _error(accuracy: float, images: int) -> str:
    return f"{100 * standard_error(accuracy, images):.1f}"


def _number(verdict: Verdict) -> str:
    return MISSING if verdict.measured is None else f"{verdict.measured:.3f}"


def _cell(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, list | tuple):
        return " ".join(_cell(entry) for entry in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _numbers(verdict: Verdict) -> str:
    """The numbers of the contradictions that a figure is part of."""
    return ", ".join(map(str, verdict.figure.contradictions))


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device
    return "CPU, one thread for each experiment"

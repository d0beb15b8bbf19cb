"""The report page: sections of text, tables and pictures, made once and written as report.md and as report.html.

Its order is the report's own. Every number comes from `results.json` or from the runs' histories; the sentences that
say what came out are chosen by the numbers.
"""

import math
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2
import torch
from tabulate import tabulate

from hw7 import __version__, measure
from hw7.report import ledger
from hw7.report.compare import (
    ABOUT_ACCURACIES,
    KEPT_ALIKE,
    RATES,
    SUMMARY,
    Comparison,
    compare,
    not_comparable,
    standard_error,
)
from hw7.report.experiments import EXPERIMENTS, NETWORKS, PRETRAINED, SCRATCH, WEAK
from hw7.report.plots import Picture, plot_curves, plot_pruning, plot_sizes, sample_sheet
from hw7.report.reproduce import Reproduction
from hw7.support.files import read_json, write_file, write_json
from hw7.training.weights import quantized

NOT_YET, NOT_ASKED = "not run yet", "not run"


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
    comparisons = {comparison.figure.id: comparison for comparison in compare(reproduction.solution, results)}
    results["figures"] = {
        name: {"printed": c.figure.value, "measured": c.measured, "verdict": c.verdict}
        for name, c in comparisons.items()
    }
    write_json(reproduction.out / "results.json", results)

    page = Page(reproduction, results, comparisons)
    sections = page.sections()
    for picture in chain.from_iterable(section.pictures for section in sections):
        write_file(reproduction.out / "pictures" / picture.name, picture.data)
    for name in ("report.md", "report.html"):
        loader, escape = jinja2.PackageLoader("hw7.report"), name.endswith("html")
        templates = jinja2.Environment(loader=loader, autoescape=escape, trim_blocks=True, lstrip_blocks=True)
        text = templates.get_template(f"{name}.j2").render(page=page, sections=sections)
        write_file(reproduction.out / name, text.encode())
    return reproduction.out / "report.html"


@dataclass
class Page:
    """What the page says, section by section. `results` is what results.json holds."""

    reproduction: Reproduction
    results: Mapping[str, Any]
    comparisons: Mapping[str, Comparison]
    title = "Homework 7: network compression, measured again"

    def __post_init__(self) -> None:
        self.runs: Mapping[str, dict[str, Any]] = self.results["experiments"]
        self.asked = self.reproduction.asked or list(EXPERIMENTS)
        self.measured_by = {figure: row.id for row in EXPERIMENTS.values() for figure in row.figures}

    # --- the head --------------------------------------------------------------------------------------------------

    @property
    def lead(self) -> str:
        obstacle, profile = not_comparable(self.results), f"the profile “{self.results['profile']}”"
        if not obstacle:
            return "Measured on Food-11 with the report's own recipe: counts and accuracies are compared with its own."
        whose = f"on {self.results['data']} at {profile}: they are that data set's own and say nothing about Food-11"
        if obstacle == "other recipe":
            whose = f"on Food-11, but at {profile}, with fewer, smaller images and fewer epochs than the report's"
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
            ("experiments", self._progress()),
            ("data", f"{reproduction.source}, {self.results['size']} × {self.results['size']} pixels: {images}"),
            ("teacher pretrained on", reproduction.pretraining),
            ("profile", f"{reproduction.profile_name}: {reproduction.profile.about}"),
            ("seed", str(reproduction.seed)),
            ("solution", f"{solution.directory.parent.name}/{solution.directory.name} ({solution.digest})"),
            ("precision", f"{reproduction.precision}: in it the best epoch was chosen, and every accuracy measured"),
            ("device", f"{_device_name(reproduction.device)}; {seconds / 60:.1f} minutes of training"),
            ("versions", f"hw7 {__version__}, Python {platform.python_version()}, torch {torch.__version__}"),
        ]

    @staticmethod
    def verdict_class(verdict: str) -> str:
        """The CSS class of a verdict's cell."""
        if verdict.startswith(("exact", "agrees", "fits")):
            return "good"
        return "bad" if verdict.startswith(("differs", "impossible", "lower", "higher")) else "other"

    def _progress(self) -> str:
        """How many of those that were asked for are done, and which are not."""
        left = [name for name in self.asked if name not in self.runs]
        failed = [name for name in left if name in self.reproduction.failed]
        words = {"failed": failed, NOT_YET: [name for name in left if name not in failed]}
        lists = (f"{word}: {', '.join(names)}" for word, names in words.items() if names)
        return "; ".join((f"{len(self.asked) - len(left)} of {len(self.asked)} done", *lists))

    # --- the sections, in the report's order -----------------------------------------------------------------------

    def sections(self) -> list[Section]:
        questions = (self._question1(), self._question2(), self._question3(), self._question4())
        return [self._data(), *questions, self._contradictions(), self._ledger()]

    def _data(self) -> Section:
        training = self.reproduction.split("training")
        caption = "Training images as the networks see them, a row for each class."
        sheet = Picture("samples.png", caption, sample_sheet(training, 8))
        text = f"{len(training.classes)} classes: {', '.join(training.classes)}."
        return Section("The data", [text], pictures=[sheet])

    def _question1(self) -> Section:
        networks = (
            ("ResNet-18, the teacher", "teacher", PRETRAINED),
            ("“low-rank approximation”: ResNet-18 with DW + PW", "dwpw", "small-resnet18"),
            ("knowledge distillation into a plain CNN", "cnn", "student-cnn"),
        )
        sizes, accuracies = [], []
        for name, key, run in networks:
            parameters, size, accuracy, loss = (
                self.comparisons[f"q1.{key}.{what}"] for what in ("parameters", "bytes", "accuracy", "loss")
            )
            counts = [(f"{c.figure.value:,}", self._measured(c), c.verdict) for c in (parameters, size)]
            sizes.append((name, *counts[0], *counts[1]))
            losses = loss.figure.printed, self._missing(run) if loss.measured is None else f"{loss.measured:.3f}"
            printed = f"{accuracy.figure.value:.1%}"
            accuracies.append((name, printed, *self._scores(run), *losses, accuracy.verdict))
        columns = ("network", "parameters printed", "counted", "verdict", "bytes printed", "of tensors", "verdict ")
        headers = ("network", "accuracy printed", "validation", "test", "loss printed", "validation loss", "verdict")
        left = ("network", "verdict", "verdict ")
        return Section(
            "Question 1: two ways to compress one large network",
            [
                "A printed size is that of a file; it is set against the bytes of the tensors in it.",
                "The distilled CNN's loss is its distillation loss, as printed; the other two are cross entropies.",
                *self._about_verdicts("q1."),
                *self._note(1),
            ],
            [Table(columns, sizes, left), Table(headers, accuracies, left)],
            [*self._curves("curves-1.svg", PRETRAINED, "small-resnet18", "student-cnn"), self._sizes()],
        )

    def _question2(self) -> Section:
        rows = []
        for name in (SCRATCH, PRETRAINED, "student-c", "student-d", "student-e", WEAK, "student-weak"):
            title, printed, verdict = EXPERIMENTS[name].title, "", "not in the report"
            if name == PRETRAINED:
                title = "b: teacher, ResNet-18 pretrained, fine-tuned"
            if figure := next((key for key in EXPERIMENTS[name].figures if key.startswith("q2.")), None):
                comparison = self.comparisons[figure]
                printed, verdict = f"{comparison.figure.value:.2%}", comparison.verdict
            rows.append((title, printed, *self._scores(name), verdict))
        students = {"student-e": "pretrained", "student-d": "scratch", "student-weak": "weak"}
        sentences = [self._against_labels_alone(name, teacher) for name, teacher in students.items()]
        headers = ("run", "accuracy printed", "validation accuracy", "test accuracy", "verdict")
        order = (PRETRAINED, SCRATCH, "student-c", "student-d", "student-e", "student-weak")
        return Section(
            "Question 2: what distillation does, by teacher",
            [
                *filter(None, sentences),
                "± is one standard error of one accuracy on so many images. That of a difference is reckoned as if "
                "each network had images of its own; on the same images, as here, chance moves a difference less. "
                "What another seed changes is in neither, and may be more.",
                *self._about_verdicts("q2."),
                *self._note(2),
            ],
            [Table(headers, rows, ("run", "verdict"))],
            self._curves("curves-2.svg", *order),
        )

    def _question3(self) -> Section:
        student = self.runs.get("student-net")
        ladders = {rate: self.runs[f"prune-{rate}"]["steps"] for rate in RATES if f"prune-{rate}" in self.runs}
        text: list[str] = []
        tables = [self._quantization()]
        if all(rate in ladders for rate in KEPT_ALIKE):
            first, second = ({step["parameters"]: step for step in ladders[rate]} for rate in KEPT_ALIKE)
            gains = {n: first[n]["accuracy"] - second[n]["accuracy"] for n in first if n in second}
            rows = [(f"{n:,}", _percent(first[n]), _percent(second[n]), f"{100 * gains[n]:+.1f}") for n in gains]
            tables.append(Table(("parameters", *(f"keep rate {rate}" for rate in KEPT_ALIKE), "points"), rows))
            if gains:
                mean = 100 * sum(gains.values()) / len(gains)
                text.append(
                    f"Where the two slower ladders meet, pruning less per step is {abs(mean):.1f} points "
                    f"{'more' if mean >= 0 else 'less'} accurate on average. "
                    "By then it has also trained for more epochs."
                )
        if ladders:
            verdicts = ", ".join(f"{rate} {self.comparisons[f'q3.ladder.{rate}'].verdict}" for rate in ladders)
            text.append(f"Parameters after each step against the report's: {verdicts}.")
        last = []
        for rate in RATES:
            steps, missing = ladders.get(rate), self._missing(f"prune-{rate}")
            ends = (f"{steps[-1]['parameters']:,}", _percent(steps[-1])) if steps else ("", missing)
            last.append((str(rate), str(EXPERIMENTS[f"prune-{rate}"].steps), *ends))
        tables.append(Table(("keep rate", "steps", "parameters after the last", "validation accuracy"), last))
        text += self._note(3)
        pictures = [plot_pruning(ladders, student)] if student and ladders else []
        return Section("Question 3: network pruning", text, tables, pictures)

    def _quantization(self) -> Table:
        rows, whole = [], self.runs.get("student-net", {}).get("tensor_bytes")
        for name, bits in (("student-net", 32), ("quantized-16", 16), ("quantized-8", 8)):
            size = self.runs[name].get("file_bytes", whole) if name in self.runs else None
            sizes = "" if size is None else f"{size:,}", f"{size / whole:.3f}" if size and whole else ""
            rows.append((f"{bits} bit", *sizes, *self._scores(name)))
        headers = ("student before pruning", "bytes", "share", "validation accuracy", "test accuracy")
        return Table(headers, rows, headers[:1])

    def _question4(self) -> Section:
        rows = []
        for name in ("plain-1mb", "depthwise-1mb", "grouped-1mb"):
            experiment, counts = EXPERIMENTS[name], ("", "", "")
            if run := self.runs.get(name):
                size = f"{run['tensor_bytes'] / 2**20:.2f} MB"
                macs = measure.macs(NETWORKS[experiment.network](self.reproduction.solution, 11))
                counts = f"{run['parameters']:,}", size, f"{macs / 1e6:.1f} M"
            rows.append((experiment.title, *counts, *self._scores(name)))
        headers = ("network", "parameters", "size", "MACs at 128 px", "validation accuracy", "test accuracy")
        text = (
            "The course's question, not this report's: equal depth and strides, three kinds of convolution, near 1 MB."
        )
        title = "Question 4: plain, depthwise + pointwise, group convolution"
        return Section(title, [text, *self._note(4)], [Table(headers, rows, headers[:1])])

    def _contradictions(self) -> Section:
        text = [f"{c.number}. {c.text}" for c in ledger.contradictions()]
        return Section("Where the report contradicts itself", ["The ledger keeps what it says, and notes this:", *text])

    def _ledger(self) -> Section:
        shown = [comparison for comparison in self.comparisons.values() if comparison.verdict != "setting"]
        rows = [
            (c.figure.id, c.figure.what, _cell(c.figure.value), self._measured(c), c.verdict,
             ", ".join(map(str, c.figure.contradictions)))
            for c in shown
        ]  # fmt: skip
        settings = len(self.comparisons) - len(shown)
        text = f"{len(shown)} figures that counting or training gives; {settings} settings stand in the ledger, too."
        headers = ("figure", "what", "printed", "measured", "verdict", "contradiction")
        table = Table(headers, rows, ("figure", "what", "verdict"))
        return Section("Every figure of the report", [text, *self._about_verdicts()], [table])

    # --- their parts -----------------------------------------------------------------------------------------------

    def _missing(self, name: str) -> str:
        """What stands in the place of an experiment's numbers: that it has not come so far, or is not to."""
        return NOT_YET if name in self.asked else NOT_ASKED

    def _measured(self, comparison: Comparison) -> str:
        if comparison.measured is not None:
            return _cell(comparison.measured)
        run = self.measured_by.get(comparison.figure.id)
        return self._missing(run) if run else "cannot be counted"

    def _note(self, question: int) -> list[str]:
        """What the profile's size does to a question."""
        note = self.reproduction.profile.notes.get(question)
        return [f"At this profile: {note}"] if note else []

    def _scores(self, name: str) -> tuple[str, str]:
        """Accuracy on validation images and on test images."""
        if (run := self.runs.get(name)) is None:
            return self._missing(name), ""
        test = _with_error(run["test_accuracy"], run["test_images"]) if "test_images" in run else ""
        return _with_error(run["accuracy"], run["images"]), test

    def _about_verdicts(self, figures: str = "") -> list[str]:
        """What a verdict on accuracies says, for a section that has one: on figures whose names begin so."""
        judged = any(c.of_accuracies for name, c in self.comparisons.items() if name.startswith(figures))
        return [ABOUT_ACCURACIES] if judged else []

    def _against_labels_alone(self, name: str, teacher: str) -> str | None:
        """One sentence: how far a student is from the one without a teacher, beside two standard errors of that."""
        if name not in self.runs or "student-c" not in self.runs:
            return None
        runs = self.runs[name], self.runs["student-c"]
        where, key, images = ("test", "test_accuracy", "test_images")  # they chose no epoch, so they flatter nobody
        if not all(images in run for run in runs):
            where, key, images = ("validation", "accuracy", "images")
        points = 100 * (runs[0][key] - runs[1][key])
        errors = 200 * math.hypot(*(standard_error(run[key], run[images]) for run in runs))
        size = "more than" if abs(points) > errors else "within"
        return (
            f"On {where} images, the student distilled from the {teacher} teacher is {abs(points):.1f} points "
            f"{'above' if points >= 0 else 'below'} the student trained on labels alone, "
            f"{size} the {errors:.1f} of two standard errors."
        )

    def _curves(self, name: str, *ids: str) -> list[Picture]:
        paths = {run: self.reproduction.directory(run) / "run.json" for run in ids if run in self.runs}
        histories = {run: read_json(path)["history"] for run, path in paths.items()}
        return [plot_curves(name, histories)] if histories else []

    def _sizes(self) -> Picture:
        """Of the networks that the solution can make, at the bits that it can store all of them with."""
        solution = self.reproduction.solution
        states: dict[str, Mapping[str, torch.Tensor]] = {}
        for name, title, *_ in SUMMARY:
            with suppress(Exception):  # a task that is not done yet; `hw7 summary` says which
                states[title] = NETWORKS[name](solution, 11).state_dict()
        stored = {32: list(states.values())}
        for bits in (16, 8):
            with suppress(Exception):
                stored[bits] = [quantized(solution, state, bits)[0] for state in states.values()]
        sizes = {bits: list(map(measure.file_bytes, files)) for bits, files in stored.items()}
        return plot_sizes(list(states), sizes)


def _percent(run: Mapping[str, Any]) -> str:
    return f"{run['accuracy']:.1%}"


def _with_error(accuracy: float, images: int) -> str:
    return f"{accuracy:.1%} ± {100 * standard_error(accuracy, images):.1f}"


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_cell(entry) for entry in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device
    return "CPU, one thread for each experiment"

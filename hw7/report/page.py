"""The report page: sections of text, tables and pictures, made once and written as report.md and as report.html.

Its order is the report's own. Every number comes from `results.json` or from the runs' histories; the sentences that
say what came out are chosen by the numbers. What of the report is not reproduced is listed, with the reason.
"""

import platform
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import jinja2
import torch

from hw7 import __version__
from hw7.report import formulas, ledger, questions
from hw7.report.blocks import Block, Folded, Formula, Pictures, Section, Table, Text, cell
from hw7.report.compare import Comparison
from hw7.report.experiments import EXPERIMENTS
from hw7.report.plots import Picture, sample_sheet
from hw7.report.reproduce import Reproduction
from hw7.report.results import Results
from hw7.report.settings import shared_table, training_table
from hw7.support.files import read_json, write_file, write_json

GROUPS = {"data": "Data", "training": "Training", "course": "The course's own rules"}
PLURAL = {"fits": "fit", "differs": "differ", "agrees": "agree"}
GOOD, BAD = ("exact", "agrees", "fits", "yes", "the same"), ("differs", "impossible", "lower", "higher", "failed")


def write_report(reproduction: Reproduction) -> Path:
    """Writes results.json, report.md, report.html and the pictures into the reproduction's folder; the page's path."""
    page = Page(Results(reproduction))
    write_json(reproduction.out / "results.json", page.results.record)
    sections = list(page.sections())
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
    """What the page says, section by section."""

    results: Results
    title = "Homework 7: network compression, measured again"

    # ---- the head ----

    @property
    def lead(self) -> str:
        """Whose numbers these are."""
        profile = self.results.reproduction.profile
        at = f"the profile “{self.results.record['profile']}” ({profile.about})"
        if not self.results.obstacle:
            return "Measured on Food-11 with the report's own recipe: counts and accuracies are compared with its own."
        whose = f"on {self.results.record['data']} at {at}: they are that data set's own and say nothing about Food-11"
        if self.results.obstacle == "other recipe":
            whose = f"on Food-11, but at {at}, with fewer, smaller images and fewer epochs than the report's"
        return (
            f"The accuracies on this page were measured {whose}. Compare rows with each other, not with what the "
            "report printed. Counts do not depend on data and are compared exactly."
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The run in short."""
        reproduction, solution = self.results.reproduction, self.results.reproduction.solution
        splits = [(name, reproduction.split(name)) for name in ("training", "validation", "testing")]
        images = ", ".join(f"{len(split):,} {name}" for name, split in splits)
        size = reproduction.profile.size
        return [
            ("experiments", self.results.progress()),
            ("data", f"{reproduction.source}, {size} × {size} pixels: {images}"),
            ("teacher pretrained on", reproduction.pretraining),
            ("profile", f"{reproduction.profile_name}: {reproduction.profile.about}"),
            ("seed", str(reproduction.seed)),
            ("solution", f"{solution.directory.parent.name}/{solution.directory.name} ({solution.digest})"),
            ("precision", f"{reproduction.precision}: in it the best epoch was chosen, and every accuracy measured"),
            ("device", _device_name(reproduction.device)),
            ("training time", self._time()),
            ("versions", f"hw7 {__version__}, Python {platform.python_version()}, torch {torch.__version__}"),
        ]

    def _time(self) -> str:
        records = self.results.reproduction.out.glob("runs/**/run.json")
        minutes = sum(read_json(path)["seconds"] for path in records) / 60
        unit = "GPU" if self.results.reproduction.device.startswith("cuda") else "one core"
        return (
            f"{minutes:.1f} minutes of {unit}, all trainings added up; what runs at the same time takes less of the "
            "clock. Drawing pictures, the scores on test images and this page are not in it"
        )

    @staticmethod
    def verdict_class(verdict: str) -> str:
        """The CSS class of a verdict."""
        if verdict == "no" or verdict.startswith(BAD):
            return "bad"
        return "good" if verdict.startswith(GOOD) else "other"

    # ---- the sections, in the report's order ----

    def sections(self) -> Iterator[Section]:
        """All of them."""
        yield Section("The data", list(self._data()))
        yield Section("How everything was trained", list(self._training()))
        yield from questions.sections(self.results)
        yield Section("The course's own rules", [self._rules()])
        contradictions = [Text(f"{c.number}. {c.text}") for c in ledger.whole().contradictions]
        first = Text("The ledger keeps what it says, and notes this:")
        yield Section("Where the report contradicts itself", [first, *contradictions])
        yield Section("What is not reproduced", [self._not_reproduced()])
        yield Section("Every figure of the report", list(self._every_figure()))

    def _data(self) -> Iterator[Block]:
        training = self.results.reproduction.split("training")
        figures = [c for name, c in self.results.comparisons.items() if name.startswith("data.")]
        rows = [(_what(c), _printed(c), self.results.measured(c)) for c in figures]
        headers = ("figure", "printed", "here")
        yield Table(headers, rows, headers)
        caption = "Training images as the networks see them, a row for each class."
        yield Pictures([Picture("samples.png", caption, sample_sheet(training, 8))])

    def _training(self) -> Iterator[Block]:
        reproduction = self.results.reproduction
        yield Text("What all trainings share, unless a question says otherwise:")
        yield shared_table(reproduction, self.results.used)
        yield Text("The distillation loss of a student with logits z on images with labels y:")
        yield Formula(formulas.distillation_loss())
        yield Text("Before the first question:")
        yield training_table(reproduction, 0)
        yield from self.results.curves("curves-0", "pretraining")

    def _rules(self) -> Table:
        rules = [c.figure for name, c in self.results.comparisons.items() if name.startswith("course.")]
        rows = [(figure.what, figure.printed or cell(figure.value)) for figure in rules if figure.obtained == "given"]
        return Table(("rule", "printed"), rows, ("rule", "printed"))

    def _not_reproduced(self) -> Table:
        results, reproduction = self.results, self.results.reproduction
        rows = []
        if results.obstacle == "other data":
            data = results.record["data"]
            why = f"This run is on {data}. Food-11 does not come with this package: see docs/reproducing.md."
            rows.append(("Accuracies and losses on Food-11", why))
        if reproduction.profile_name != "full":
            about = f"“{reproduction.profile_name}”: {reproduction.profile.about}"
            why = f"This run is at {about}. The profile “full” has them."
            rows.append(("The report's image size, batches and epochs", why))
        if reproduction.pretraining != "imagenet":
            why = "The teacher of this run was pretrained on drawn dishes of other classes."
            rows.append(("A teacher pretrained on ImageNet", why))
        left = [row for row in EXPERIMENTS.values() if row.id not in results.runs]
        rows += [(f"“{row.title}”", results.missing(row.id)) for row in left]
        rows += [(missing.what, missing.why) for missing in ledger.whole().missing]
        return Table(("of the report", "why not here"), rows, ("of the report", "why not here"))

    def _every_figure(self) -> Iterator[Block]:
        comparisons = list(self.results.comparisons.values())
        yield Text(
            f"{len(comparisons)} figures, as the report prints them; where it prints none, the figure was counted for "
            "this project. In brackets: the contradiction that a figure is part of."
        )
        for question in dict.fromkeys(c.figure.question for c in comparisons):
            group = [c for c in comparisons if c.figure.question == question]
            kinds = Counter(map(_kind, group)).items()
            words = ", ".join(f"{count} {kind if count == 1 else PLURAL.get(kind, kind)}" for kind, count in kinds)
            title = GROUPS.get(question, f"Question {question}")
            yield Folded(f"{title}: {len(group)} figures ({words})", self._figures_table(group))
        yield from self.results.about_agreement()

    def _figures_table(self, comparisons: list[Comparison]) -> Table:
        rows = [(c.figure.id, _what(c), _printed(c), self.results.measured(c), c.verdict) for c in comparisons]
        return Table(("figure", "what", "printed", "here", "verdict"), rows, ("figure", "what", "verdict"))


def _what(comparison: Comparison) -> str:
    numbers = ", ".join(map(str, comparison.figure.contradictions))
    return f"{comparison.figure.what} [{numbers}]" if numbers else comparison.figure.what


def _kind(comparison: Comparison) -> str:
    """A verdict without its numbers."""
    return re.split(r"[:(]| by ", comparison.verdict)[0].strip() if comparison.verdict[0].isalpha() else "compared"


def _printed(comparison: Comparison) -> str:
    """The report's own characters, and the exact number where they round it."""
    figure, value = comparison.figure, cell(comparison.figure.value)
    if not figure.printed:
        return value
    rounded = figure.unit in ("parameters", "bytes") and value not in figure.printed
    return f"{figure.printed} ({value})" if rounded else figure.printed


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device
    return "CPU, one core for each experiment"

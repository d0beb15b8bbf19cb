"""Results: what a reproduction has measured so far, as words and cells of the page, and what stands for the rest."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hw7.report import findings, ledger
from hw7.report.blocks import Block, Claim, Pictures, Text, cell
from hw7.report.compare import ABOUT_ACCURACIES, Comparison, compare, not_comparable
from hw7.report.counting import standard_error
from hw7.report.experiments import EXPERIMENTS
from hw7.report.findings import FINDINGS, SWITCH, VALIDATION, Finding
from hw7.report.plots import plot_curves
from hw7.report.reproduce import Reproduction
from hw7.report.settings import used
from hw7.support.files import read_json

NOT_YET, NOT_ASKED, FAILED = "not run yet", "not run", "failed"
WHOSE = {"course": "The course"}
ABOUT_VERDICTS = (
    "What is concluded from it, and whether this run says so. Yes or no: the difference lies on one side of the bound "
    "by two standard errors or more; else undecided. The standard error is that of a difference between these two "
    "networks on so many images. What another seed changes is not in it, and may be more."
)


@dataclass
class Results:
    """A reproduction with its numbers. `record` is what results.json holds."""

    reproduction: Reproduction
    record: dict[str, Any] = field(init=False)
    used: dict[str, Any] = field(init=False)
    comparisons: dict[str, Comparison] = field(init=False)

    def __post_init__(self) -> None:
        self.record, self.used = self.reproduction.results(), used(self.reproduction)
        compared = compare(self.reproduction.solution, self.record, self.used)
        self.comparisons = {comparison.figure.id: comparison for comparison in compared}
        self.record["figures"] = {
            name: {"printed": c.figure.value, "measured": c.measured, "verdict": c.verdict}
            for name, c in self.comparisons.items()
        }
        self.runs: Mapping[str, dict[str, Any]] = self.record["experiments"]
        self.asked = self.reproduction.asked or list(EXPERIMENTS)
        self.obstacle = not_comparable(self.record)
        self.measured_by = {figure: row.id for row in EXPERIMENTS.values() for figure in row.figures}

    # ---- what is not there ----

    def missing(self, name: str) -> str:
        """What stands in the place of an experiment's numbers: that it failed, has not come so far, or is not to."""
        if name in self.reproduction.failed:
            return FAILED
        return NOT_YET if name in self.asked else NOT_ASKED

    def progress(self) -> str:
        """How many of those that were asked for are done, and which are not."""
        done = sum(name in self.runs for name in self.asked)
        return "; ".join((f"{done} of {len(self.asked)} done", *self._left(self.asked, str)))

    def without(self, what: str, names: Iterable[str]) -> list[Block]:
        """A line that says of which experiments there is nothing of a kind, if there are such."""
        left = self._left(names, _quoted)
        return [Text(f"No {what} of these. {sentence('; '.join(left))}.")] if left else []

    def _left(self, names: Iterable[str], title: Callable[[str], str]) -> list[str]:
        words: dict[str, list[str]] = {}
        for name in names:
            if name not in self.runs:
                words.setdefault(self.missing(name), []).append(title(name))
        return [f"{word}: {', '.join(words[word])}" for word in (FAILED, NOT_YET, NOT_ASKED) if word in words]

    # ---- cells ----

    def measured(self, comparison: Comparison) -> str:
        """What was measured for a figure of the ledger."""
        if comparison.measured is not None:
            return cell(comparison.measured)
        if comparison.figure.obtained == "given":
            return ""
        run = self.measured_by.get(comparison.figure.id)
        return self.missing(run) if run else "cannot be counted"

    def scores(self, name: str) -> tuple[str, str]:
        """Accuracy on validation images and on test images."""
        if (run := self.runs.get(name)) is None:
            return self.missing(name), ""
        test = with_error(run["test_accuracy"], run["test_images"]) if "test_images" in run else ""
        return with_error(run["accuracy"], run["images"]), test

    # ---- blocks that several questions have ----

    def about_agreement(self, figures: str = "") -> list[Block]:
        """What a verdict on accuracies says, for a section that has one: on figures whose names begin so."""
        judged = any(c.of_accuracies for name, c in self.comparisons.items() if name.startswith(figures))
        return [Text(ABOUT_ACCURACIES)] if judged else []

    def why_far(self, *names: str) -> list[Block]:
        """Why their numbers are far from the report's, where the profile knows it."""
        notes = self.reproduction.profile.notes
        known = [name for name in names if name in notes and name in self.runs]
        return [Text(f"Why {_quoted(name)} is far from the report: {notes[name]}") for name in known]

    def curves(self, name: str, *ids: str) -> list[Block]:
        """Accuracy and loss of these runs, and which are missing."""
        paths = {run: self.reproduction.directory(run) / "run.json" for run in ids if run in self.runs}
        records = {run: read_json(path) for run, path in paths.items()}
        pictures: list[Block] = [Pictures(plot_curves(name, records))] if records else []
        return [*pictures, *self.without("curves", ids)]

    def claims(self, *questions: str) -> list[Block]:
        """What is concluded of a question, each with its verdict on this run."""
        return [self._claim(finding) for finding in (*FINDINGS, SWITCH) if finding.question in questions]

    def _claim(self, finding: Finding) -> Claim:
        whose = "Added here" if finding.says else WHOSE.get(finding.question, "The report")
        limit = self.reproduction.profile.limits.get(finding.id, "")
        printed = []
        if finding.printed:
            better, worse = (self.comparisons[name].figure.number for name in finding.printed)
            printed = [f"{whose}: {better:.2%} against {worse:.2%}, {more(100 * (better - worse))}."]
        verdict, here = self._judged(finding)
        if verdict == "not measured":
            return Claim(whose, finding.claim, verdict, "", [*printed, *here])
        beyond = [sentence(text) for text in (finding.beyond, limit) if text]
        return Claim(whose, finding.claim, verdict, self.where, [*printed, *here, *beyond])

    def _judged(self, finding: Finding) -> tuple[str, list[str]]:
        if left := self._left(finding.needs, _quoted):
            return "not measured", [f"{sentence('; '.join(left))}."]
        accuracy = finding.on if all(finding.on in self.runs[name] for name in finding.needs) else VALIDATION
        titled = {name: {"title": EXPERIMENTS[name].title, **run} for name, run in self.runs.items()}
        try:
            better, worse = finding.pair(titled, accuracy)
        except KeyError:
            return "not measured", ["This run cannot tell: its students were trained with one optimizer."]
        difference, error = finding.measure(self.runs, accuracy), 100 * findings.paired_error(better, worse, accuracy)
        least = "at least" if finding.least > 0 else "at most"
        bound = f" Asked for: {least} {more(finding.least)}." if finding.least else ""
        images = "validation" if accuracy == VALIDATION else "test"
        here = (
            f"Here, on {images} images: {better['title']}, {better[accuracy]:.2%}; {worse['title']}, "
            f"{worse[accuracy]:.2%}. That is {more(difference)}, with a standard error of {error:.2f}.{bound}"
        )
        if better[findings.IMAGES[accuracy]] < findings.FEW_IMAGES:
            return "undecided", [f"{here} So few images decide nothing."]
        margin = findings.ENOUGH * error
        return findings.verdict(difference - margin, difference + margin, finding.least), [here]

    @staticmethod
    def conclusion(name: str) -> str:
        """The report's, by the name that the ledger gives it."""
        return ledger.whole().conclusions[name].text

    @property
    def where(self) -> str:
        """For what the verdicts of this run hold, where that is not the report's own data and recipe."""
        data, profile = self.record["data"], self.record["profile"]
        if self.obstacle == "other data":
            return f"on {data} at “{profile}”; whether it is so on Food-11, this run cannot tell"
        by = "by the report's own recipe"
        return f"at “{profile}”; whether it is so {by}, this run cannot tell" if self.obstacle else ""


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def _quoted(name: str) -> str:
    return f"“{EXPERIMENTS[name].title}”"


def more(points: float) -> str:
    """ "2.76 points more"."""
    return f"{abs(points):.2f} points {'more' if points >= 0 else 'less'}"


def percent(run: Mapping[str, Any]) -> str:
    return f"{run['accuracy']:.1%}"


def with_error(accuracy: float, images: int) -> str:
    """An accuracy and its standard error in points."""
    return f"{accuracy:.1%} ± {100 * standard_error(accuracy, images):.1f}"

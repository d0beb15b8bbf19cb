"""What the report notebook is made of, so that its cells stay thin: runs at a size for a laptop, tables, points.

lab = Lab()                          the submission in this folder
lab.check("2.1")                     its public tests, as a table; the value is the points
lab.run("student-c", "student-e")    experiments of the report that are missing, and what they need; kept in out/
lab.table(headers, rows)             a table
"""

import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, redirect_stderr
from functools import cached_property
from pathlib import Path
from typing import Any

from IPython.display import Markdown, display
from tabulate import tabulate
from torch import Tensor, nn

from hw7.checks.public import Checks, format_task
from hw7.data.source import Split
from hw7.measure import file_bytes
from hw7.report.counting import standard_error
from hw7.report.experiments import EXPERIMENTS, NETWORKS
from hw7.report.reproduce import Reproduction
from hw7.solution import Solution, load_solution
from hw7.support.files import read_json
from hw7.support.workers import Workers
from hw7.training.epoch import evaluate
from hw7.training.weights import quantized


class Lab:
    """A submission, its public tests, and the report's experiments with its code."""

    def __init__(self, directory: Path | str = ".", jobs: int | None = None) -> None:
        """directory: holds `solution`. jobs: experiments at a time; default: $HW7_JOBS, or one a core.

        Raises HW7Error where there is no solution.
        """
        self.directory = Path(directory).resolve()
        self.jobs = jobs or int(os.environ.get("HW7_JOBS", os.cpu_count() or 1))

    def check(self, task: str) -> float:
        """Shows the public tests of a task as it is now. Its value is the points, as nbgrader takes them."""
        with warnings.catch_warnings(), redirect_stderr(sys.stdout):  # nbgrader gives no points where stderr has a word
            warnings.simplefilter("ignore")
            checks = Checks.of(self.directory)
            text = format_task(checks, task)
        print(text)
        return sum(part.points for part in checks.check(task))

    @cached_property
    def solution(self) -> Solution:
        """The submission's modules as they were when first asked for; after an edit, make a new Lab."""
        return load_solution(self.directory)

    @cached_property
    def reproduction(self) -> Reproduction:
        out = self.directory / "out" / self.solution.digest  # results belong to the code that made them
        return Reproduction("plates", "notebook", out, self.solution, say=print, progress=False)

    def split(self, name: str) -> Split:
        """training, validation, testing or pretraining images, as the runs see them."""
        return self.reproduction.split(name)

    def run(self, *experiments: str) -> dict[str, dict[str, Any]]:
        """The results of these experiments; what is missing of them, and of what they need, is run first."""
        with ExitStack() as stack:
            executor = stack.enter_context(Workers(self.jobs)) if self.jobs > 1 else None
            results = self.reproduction.run(experiments, executor, self.jobs)
        return {name: results["experiments"][name] for name in experiments}

    def history(self, experiment: str) -> list[float]:
        """Validation accuracy after each epoch."""
        rows = read_json(self.reproduction.directory(experiment) / "run.json")["history"]
        return [row["validation_accuracy"] for row in rows]

    def network(self, name: str) -> nn.Module:
        """An untrained network of the report: one of your own, or one that is given."""
        return NETWORKS[name](self.solution, len(self.split("training").classes))

    def trained(self, experiment: str) -> nn.Module:
        """The network that an experiment has left."""
        network, _ = self.reproduction.finished(experiment)
        return network

    def at_bits(self, experiment: str, bits: int) -> tuple[int, float]:
        """(bytes, validation accuracy) of an experiment's network whose weights went through your compress at so many
        bits, and back."""
        network = self.trained(experiment)
        stored, restored = quantized(self.solution, network.state_dict(), bits)
        network.load_state_dict(restored)
        return file_bytes(stored), evaluate(network, self.split("validation"))[1]

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        display(Markdown(tabulate(list(rows), headers, tablefmt="github", disable_numparse=True)))


def title(experiment: str) -> str:
    """An experiment's title in the report."""
    return EXPERIMENTS[experiment].title


def percent(result: dict[str, Any]) -> str:
    """A run's accuracy on validation images, with one standard error."""
    return f"{result['accuracy']:.1%} ± {standard_error(result['accuracy'], result['images']):.1%}"


def bounds(result: dict[str, Any]) -> float:
    """One standard error of a run's accuracy, in percent: for error bars."""
    return 100 * standard_error(result["accuracy"], result["images"])


def picture(image: Tensor) -> Any:
    """A uint8 image [3, S, S] as matplotlib's imshow takes it."""
    return image.permute(1, 2, 0).numpy()

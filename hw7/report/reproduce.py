"""Reproduction of the report: runs what is missing of its experiments, side by side where none needs the other.

A folder belongs to one identity (data, profile, seed, precision and solution), and `results.json` depends on nothing
else but the kind of machine.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from hw7 import HW7Error
from hw7.data.plates.source import PLATES_COUNTS
from hw7.report.experiments import EXPERIMENTS, same_batches, with_needs
from hw7.report.pace import Pace
from hw7.report.runner import Runner, run_timed
from hw7.support.files import alone_in, read_json, write_json
from hw7.support.workers import SameProcess, side_by_side
from hw7.training.loop import TimeIsUp


@dataclass
class Reproduction(Runner):
    """The report's runs on one source of data, in one folder. say: where a line for each run that ends goes.

    asked: the experiments that `run` was asked for, once it has the folder; failed: those of them that failed.
    """

    say: Callable[[str], object] = print
    asked: list[str] = field(default_factory=list, init=False)
    failed: list[str] = field(default_factory=list, init=False)

    def run(self, only: Iterable[str] = (), executor: Executor | None = None, at_once: int = 1) -> dict[str, Any]:
        """Runs what is missing of the experiments named (none: all), up to `at_once` at a time, and gives `results()`.

        executor: who runs them; this process where it is None. One that fails ends neither the others that run nor
        those that do not need it; its error is raised in the end.

        Raises HW7Error where the folder holds results of something else, or is in use, and then nothing is `asked`;
        else, when all that could run has run, the first error of an experiment, or TimeIsUp.
        """
        ids = with_needs(only or EXPERIMENTS)
        if self.pretraining == "imagenet":
            ids = [name for name in ids if name != "pretraining"]
        with alone_in(self.out):
            for name in ("training", "validation", "testing"):
                # Before anything is written: data that cannot be read leave no folder behind.
                self.load(name) if executor else self.split(name)
            self._claim()
            self.asked, self.failed = ids, []
            self._begin_anew(ids)
            self._run_all(ids, executor or SameProcess(), at_once)
            return self.results()

    def results(self) -> dict[str, Any]:
        """Everything measured so far, without times: two runs of one identity give the same."""
        done = {name: read_json(path) for name in EXPERIMENTS if (path := self.result_path(name)).exists()}
        return {**self.identity, "size": self.profile.size, "experiments": done}

    def _claim(self) -> None:
        """The folder belongs to one identity: results of two would be mixed without a trace."""
        path = self.out / "identity.json"
        if not path.exists():
            write_json(path, self.identity)
        found = read_json(path)
        if differing := [
            f"{key} {found.get(key)}, not {value}" for key, value in self.identity.items() if found.get(key) != value
        ]:
            raise HW7Error(
                f"{self.out} holds results of another reproduction ({'; '.join(differing)}). "
                "Choose another --out, or delete that folder."
            )

    def _begin_anew(self, ids: list[str]) -> None:
        """Forgets runs that are done, but whose weights were not carried here, where one that is missing needs them."""
        for name in reversed(ids):  # what needs a run stands below it
            records = (self.directory(name) / "run.json", self.result_path(name))  # in this order: it may be killed
            weights = self.directory(name) / "weights.safetensors"
            needed = any(name in EXPERIMENTS[other].needs and not self.result_path(other).exists() for other in ids)
            if needed and records[1].exists() and not weights.exists():
                self.say(f"{EXPERIMENTS[name].title}: begins anew, because its weights are not here and are needed")
                for path in records:
                    path.unlink(missing_ok=True)

    def _run_all(self, ids: list[str], executor: Executor, at_once: int) -> None:
        missing = [name for name in ids if not self.result_path(name).exists()]
        before = len(ids) - len(missing)
        if at_once > 1:  # what the longest chain waits for goes first
            missing.sort(key=self._images_to_come, reverse=True)
        else:  # what can be trained side by side waits for the teachers of all
            rows = [EXPERIMENTS[name] for name in missing]
            missing.sort(key=lambda name: sum(same_batches(EXPERIMENTS[name], row) for row in rows) > 1)
            self.together = missing
        pace = Pace({name: self._images_seen(name) for name in missing}, at_once)
        errors: list[HW7Error] = []
        # Workers show no bars: theirs would be written over each other. The time left stands in what is said.
        bar_format = "{l_bar}{bar}| {n_fmt} of {total_fmt} [{elapsed}]"
        bar = tqdm(total=len(ids), initial=before, disable=None if at_once > 1 else True, bar_format=bar_format)

        def start(name: str) -> Future[Any]:
            pace.begin(name)
            return executor.submit(run_timed, self, name)

        def ended(name: str, future: Future[Any]) -> bool:
            title = EXPERIMENTS[name].title
            try:
                seconds = future.result()
                result = read_json(self.result_path(name))
            except TimeIsUp as error:
                errors.append(error)
                return False
            except HW7Error as error:
                errors.append(error)
                self.failed.append(name)
                pace.fail(name)
                self.say(f"failed. {title}: {error}")
            else:
                pace.end(name, seconds)
                done = f"done {before + len(pace.done)} of {len(ids)}{pace.left()}"
                self.say(f"{done}. {title}: accuracy {result['accuracy']:.4f}, {result['parameters']:,} parameters")
                bar.update()
            return True

        try:
            with bar:
                needs = {name: [need for need in EXPERIMENTS[name].needs if need in missing] for name in missing}
                side_by_side(missing, needs.__getitem__, start, ended, at_once)
        except BrokenExecutor as error:
            raise HW7Error(
                f"a worker died ({error}). Nothing that was done is lost: run the same again, with fewer --jobs where "
                "memory was short"
            ) from error
        if own := [error for error in errors if not isinstance(error, TimeIsUp)]:
            raise own[0]
        if errors:
            finished = sum(self.result_path(name).exists() for name in ids)
            raise TimeIsUp(f"time is up: {finished} of {len(ids)} done; run the same again to go on")

    def _images_seen(self, name: str) -> int:
        """How many images an experiment trains on or is measured on: all that is known of what it costs."""
        experiment = EXPERIMENTS[name]
        counts = {split: count or PLATES_COUNTS[split] for split, count in self.profile.images.items()}
        epochs = sum(phase.epochs for phase in self.profile.recipes.get(experiment.recipe, ()))
        trained = epochs * max(1, experiment.steps) * counts[experiment.data]
        return trained + counts["validation"] + counts["testing"]

    def _images_to_come(self, name: str) -> int:
        """How many images are seen from here to the end of the longest chain that needs this experiment."""
        after = [self._images_to_come(row.id) for row in EXPERIMENTS.values() if name in row.needs]
        return self._images_seen(name) + max(after, default=0)

"""Reproduction of the report: runs what is missing of its experiments, side by side where none needs the other.

A folder belongs to one identity (data, profile, seed, precision and solution), and `results.json` depends on nothing
else but the kind of machine. Before anything is drawn or trained, a few steps of each kind are timed here, and it is
said how long all of it takes.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hw7 import HW7Error
from hw7.data.load import plan_split
from hw7.report.experiments import EXPERIMENTS, same_batches, with_needs
from hw7.report.pace import Pace, duration
from hw7.report.runner import Runner, cost_timed, run_timed
from hw7.report.work import NOTHING, Kind, Work, work_of
from hw7.support.files import alone_in, read_json, write_json
from hw7.support.words import counted
from hw7.support.workers import SameProcess, side_by_side
from hw7.training.identity import check_identity
from hw7.training.loop import TimeIsUp, epochs_done
from hw7.training.timing import Cost

HURRY_S = 60.0  # where `until` is no further away, the time is for the work alone


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
            self._check_identity()
            self._begin_anew(ids)
            missing = [name for name in ids if not self.result_path(name).exists()]
            pace = self._pace(missing, executor or SameProcess(), at_once)
            for name in ("training", "validation", "testing"):
                # Before anything is written: data that cannot be read leave no folder behind.
                self.load(name) if executor else self.split(name)
            write_json(self._identity_path, self.identity)
            self.asked, self.failed = ids, []
            self._run_all(ids, pace, executor or SameProcess(), at_once)
            return self.results()

    def results(self) -> dict[str, Any]:
        """Everything measured so far, without times: two runs of one identity give the same."""
        done = {name: read_json(path) for name in EXPERIMENTS if (path := self.result_path(name)).exists()}
        return {**self.identity, "size": self.profile.size, "experiments": done}

    @property
    def _identity_path(self) -> Path:
        return self.out / "identity.json"

    def _check_identity(self) -> None:
        """The folder belongs to one identity: results of two would be mixed without a trace."""
        if self._identity_path.exists():
            check_identity(self.out, read_json(self._identity_path), self.identity, "reproduction")

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

    # ---- how long it will take ----

    def _pace(self, missing: list[str], executor: Executor, at_once: int) -> Pace:
        """An estimate for each of these, in the order in which they are to start; it is said, if there is one.

        Whoever runs the experiments times the steps, and as many at once: processes slow each other. Where code
        raises, there is no time for what needs it, and the run says why. Raises HW7Error where data are missing.
        """
        images = {name: self._plan(name) for name in ("training", "validation", "testing")}
        if "pretraining" in missing:
            images["pretraining"] = self._plan("pretraining")
        work = {name: work_of(name, self.profile, images, self._epochs_done(name)) for name in missing}
        whole = sum(work.values(), NOTHING)
        costs = self._costs(whole, executor) if self.until - time.time() > HURRY_S else {}
        estimates = {name: work[name].seconds(costs) for name in missing}
        if at_once > 1:  # what the longest chain waits for goes first

            def to_come(name: str) -> float:
                after = [to_come(other) for other in missing if name in EXPERIMENTS[other].needs]
                return estimates[name] + max(after, default=0.0)

            missing = sorted(missing, key=to_come, reverse=True)
        else:  # what can be trained side by side waits for the teachers of all
            rows = [EXPERIMENTS[name] for name in missing]
            missing.sort(key=lambda name: sum(same_batches(EXPERIMENTS[name], row) for row in rows) > 1)
        pace = Pace(
            {name: estimates[name] for name in missing},
            at_once,
            lambda name: (self.directory(name) / "run.json").exists(),
        )
        if costs:
            self.say(
                f"about {duration(pace.seconds_left())} on this machine: {counted(at_once, 'experiment')} at a time; "
                f"{counted(whole.trained, 'image')} trained on and {whole.scored:,} scored, each as often as it is seen"
            )
        return pace

    def _plan(self, name: str) -> int:
        """How many images a split will have; none is read or drawn."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whoever loads it will warn
            return plan_split(self.source_of(name), name, self.profile.images[name]).count

    def _epochs_done(self, name: str) -> Callable[[int], int]:
        def done(run: int) -> int:
            steps = EXPERIMENTS[name].steps
            with suppress(HW7Error):  # a broken file: the run will say so
                return epochs_done(self.step_directory(name, run + 1) if steps else self.directory(name))
            return 0

        return done

    def _costs(self, work: Work, executor: Executor) -> dict[Kind, Cost]:
        """What each kind of this work costs here; without the kinds that cannot be timed."""
        kinds = sorted(work.images, key=work.images.__getitem__, reverse=True)
        futures = {kind: executor.submit(cost_timed, self, kind) for kind in kinds}
        costs = {}
        for kind, future in futures.items():
            with suppress(Exception):  # whatever a solution raises, or a worker that it has ended
                costs[kind] = future.result()
        return costs

    # ---- the runs ----

    def _run_all(self, ids: list[str], pace: Pace, executor: Executor, at_once: int) -> None:
        missing = list(pace.open)
        before = len(ids) - len(missing)
        self.together = missing if at_once == 1 else ()
        errors: list[HW7Error] = []
        # Workers show no bars: theirs would be written over each other.
        bar_format = "{l_bar}{bar}| {n_fmt} of {total_fmt} [{elapsed}{postfix}]"
        bar = tqdm(total=len(ids), initial=before, disable=None, bar_format=bar_format)

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
            with bar, _each_second(lambda: bar.set_postfix_str(pace.countdown()), never=bool(bar.disable)):
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


@contextmanager
def _each_second(show: Callable[[], object], never: bool) -> Iterator[None]:
    """In here, a thread calls `show` each second, or never."""
    over = threading.Event()

    def repeat() -> None:
        while not never and not over.wait(1.0):
            show()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

"""The experiment runner: an experiment's data, its network, its training, and what is measured of it.

A finished run is kept, a killed one goes on. Its result depends on nothing but the identity of the folder (data,
profile, seed, precision and solution) and the kind of machine: on the CPU each experiment has one thread, because more
would add in another order. Every accuracy is measured in the precision that the network was trained in.
"""

import hashlib
import json
import math
import threading
import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hw7 import HW7Error, measure
from hw7.data.load import hold_out_tenth, load_split
from hw7.data.source import Split
from hw7.models import StudentNet, teacher_resnet18
from hw7.report.experiments import EXPERIMENTS, NETWORKS, Experiment, same_batches
from hw7.report.findings import at_switch, packed
from hw7.report.profiles import PROFILES, Profile
from hw7.report.work import Kind
from hw7.solution import NUM_CLASSES, Solution, load_solution, running
from hw7.support.files import read_json, write_json
from hw7.training import timing
from hw7.training.epoch import evaluate, predict, scores
from hw7.training.frozen import frozen
from hw7.training.loop import Phase, Run, TimeIsUp, Trainee, load_run, train_side_by_side
from hw7.training.precision import PRECISIONS, best_precision, computing_in
from hw7.training.steps import Distillation, Step, cross_entropy_step
from hw7.training.timing import Cost
from hw7.training.weights import describe, load_fitting, quantized, zero_residual_branches


@dataclass
class Runner:
    """Runs experiments on one source of data, in one folder.

    pretraining: "plates" or "imagenet", what the pretrained teacher was pretrained on. precision: "float32",
    "bfloat16", or the best of the device. until: the time.time() at which training stops. progress: a bar for each run.
    together: experiments that may be trained side by side in this process, where they see the same batches.

    Raises HW7Error for a profile or a precision that is not known.
    """

    source: str
    profile_name: str
    out: Path
    solution: Solution
    device: str = "cpu"
    seed: int = 0
    pretraining: str = "plates"
    precision: str = ""
    until: float = math.inf
    progress: bool = True
    together: Collection[str] = ()
    profile: Profile = field(init=False)

    def __post_init__(self) -> None:
        if self.profile_name not in PROFILES:
            raise HW7Error(f"there is no profile {self.profile_name!r}; there are: {', '.join(PROFILES)}")
        self.profile = PROFILES[self.profile_name]
        self.precision = self.precision or best_precision(self.device)
        if self.precision not in PRECISIONS:
            raise HW7Error(f"there is no precision {self.precision!r}; there are: {', '.join(PRECISIONS)}")
        if self.source == "plates" and self.profile.plates:
            self.source = f"plates:{self.profile.plates}"
        self.plates = self.source if self.source.startswith("plates") else f"plates:{self.profile.plates}"
        self._splits: dict[str, Split] = {}
        self._teachers: dict[str, nn.Module] = {}
        # Seconds by experiment, beside those of its own `run_one`: trained with another's, or with others (below zero).
        self.spent: dict[str, float] = defaultdict(float)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: what to make it from, there once for all experiments of one reproduction."""
        names = ("source", "profile_name", "device", "seed", "pretraining", "precision", "until")
        arguments = {name: getattr(self, name) for name in names} | {"out": self.out.absolute()}
        return _runner_in_worker, (arguments, self.profile, str(self.solution.directory), self.solution.digest)

    @property
    def identity(self) -> dict[str, Any]:
        """What the results depend on."""
        return {
            "data": self.source,
            "profile": self.profile_name,
            "seed": self.seed,
            "pretraining": self.pretraining,
            "precision": self.precision,
            "solution": self.solution.digest,
        }

    def directory(self, name: str) -> Path:
        """Where an experiment's run is kept."""
        return self.out / "runs" / name

    def step_directory(self, name: str, number: int) -> Path:
        """Where a step of pruning, counted from 1, is kept."""
        return self.directory(name) / f"step-{number:02}"

    def result_path(self, name: str) -> Path:
        return self.directory(name) / "result.json"

    def run_one(self, name: str) -> None:
        """Runs an experiment, unless its result is there. Raises HW7Error, and TimeIsUp, also before it has begun."""
        experiment = EXPERIMENTS[name]
        if time.time() >= self.until:
            raise TimeIsUp(f"{experiment.title}: not begun, because its time is up")
        kind = self._quantize if experiment.bits else self._prune if experiment.keep_rate else self._train
        if not self.result_path(name).exists():
            write_json(self.result_path(name), kind(experiment))

    @property
    def side(self) -> int:
        """Of the images that every network is given, in pixels."""
        return self.profile.size

    def cost_of(self, kind: Kind) -> Cost:
        """What it costs here and now: a few made-up images are timed. Raises what the solution's code raises."""

        def untrained(name: str) -> nn.Module:
            network = self._untrained(name, NUM_CLASSES).to(self.device)
            return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        if not kind.optimizer:
            return timing.scored(untrained(kind.network), self.side, self.precision)
        step = Distillation(self.solution, untrained(kind.teacher)) if kind.teacher else cross_entropy_step
        phase = Phase(1, kind.optimizer, batch=kind.batch)
        make = partial(untrained, kind.network)
        return timing.trained(make, self.side, phase, step, self.profile.augmentation, self.precision)

    # ---- the three kinds of run ----

    def _train(self, experiment: Experiment) -> dict[str, Any]:
        together = [experiment, *self._partners(experiment)]
        try:
            network, run = self._train_together(together)
        except TimeIsUp:
            raise
        except HW7Error:
            if len(together) == 1:
                raise
            self.together = ()  # one of them fails: each goes on alone, so that only its own experiment fails
            network, run = self._train_together([experiment])
        return self._measured(network, run, experiment) | self._measured_once(network, experiment)

    def _prune(self, experiment: Experiment) -> dict[str, Any]:
        assert experiment.keep_rate
        assert experiment.start
        start = experiment.start
        steps: list[dict[str, Any]] = []
        directories: list[Path] = []

        def finetune(network: StudentNet) -> None:
            number = len(steps) + 1
            before = f"{experiment.id}/{directories[-1].name}" if steps else start
            directories.append(self.step_directory(experiment.id, number))
            label = f"step {number}/{experiment.steps} "
            trainee = self._trainee(experiment, network, directories[-1], self._origin(before), label)
            (run,) = self._train_all([trainee], experiment, part=number)
            steps.append({"widths": list(network.widths), **self._measured(network, run, experiment)})

        student, _ = self.finished(start)
        with running("pruning.iterative_prune", self.solution.directory):
            networks = self.solution.pruning.iterative_prune(student, experiment.keep_rate, experiment.steps, finetune)
        given = len(networks) if isinstance(networks, list) else 0
        if len(steps) != experiment.steps or given != experiment.steps:
            raise HW7Error(
                f"pruning.iterative_prune must give one network and call finetune once for each of its "
                f"{experiment.steps} steps; networks given: {given}, calls of finetune: {len(steps)}"
            )
        return {**steps[-1], **self._measured_once(networks[-1], experiment), "steps": steps}

    def _quantize(self, experiment: Experiment) -> dict[str, Any]:
        assert experiment.bits
        assert experiment.start
        network, run = self.finished(experiment.start)
        stored, restored = quantized(self.solution, network.state_dict(), experiment.bits)
        network.load_state_dict(restored)
        with computing_in(self.precision, network):
            loss, accuracy = evaluate(network, self.split("validation"))
        measured = self._measured(network, run, experiment) | {"loss": loss, "accuracy": accuracy}
        return measured | self._measured_once(network, experiment) | {"file_bytes": measure.file_bytes(stored)}

    # ---- their parts ----

    def split(self, name: str) -> Split:
        if name not in self._splits:
            self._splits[name] = self.load(name)
        return self._splits[name]

    def source_of(self, name: str) -> str:
        """The source that a split is from."""
        return self.plates if name == "pretraining" else self.source

    def load(self, name: str) -> Split:
        """On the device that trains; on the CPU where that is another machine's."""
        device = self.device if usable(self.device) else "cpu"
        return load_split(self.source_of(name), name, self.side, limit=self.profile.images[name], device=device)

    def _images(self, experiment: Experiment) -> tuple[Split, Split]:
        """What a run trains on, and what it is validated on."""
        training = self.split(experiment.data)
        return hold_out_tenth(training) if experiment.data == "pretraining" else (training, self.split("validation"))

    def _untrained(self, network: str, classes: int) -> nn.Module:
        with running(f"models: {network}", self.solution.directory):
            return NETWORKS[network](self.solution, classes)

    def _seed(self, experiment: Experiment) -> int:
        """By network and not by run, so that a student begins and sees its images alike under every teacher."""
        return zlib.crc32(f"{self.seed} {experiment.network}".encode())

    def _start(self, experiment: Experiment) -> str:
        """The run whose network an experiment goes on from; "" for none of ours."""
        imagenet = experiment.start == "pretraining" and self.pretraining == "imagenet"
        return "" if imagenet else experiment.start or ""

    def _new(self, experiment: Experiment) -> nn.Module:
        """The network that a run begins with."""
        classes = len(self.split(experiment.data).classes)
        torch.manual_seed(self._seed(experiment))
        if experiment.start and not self._start(experiment):
            return teacher_resnet18(classes, weights="imagenet").to(self.device)
        network = self._untrained(experiment.network, classes)
        if start := self._start(experiment):
            load_fitting(network, self.directory(start) / "weights.safetensors")
        elif experiment.network in self.profile.zero_residuals:
            zero_residual_branches(network)
        return network.to(self.device)

    def finished(self, name: str) -> tuple[Any, Run]:
        """An experiment's network with its weights, and its history."""
        experiment = EXPERIMENTS[name]
        network = self._untrained(experiment.network, len(self.split(experiment.data).classes)).to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network, load_run(network, self.directory(name))

    def _teacher(self, name: str) -> nn.Module:
        """An experiment's network, frozen: once for all that it teaches."""
        if name not in self._teachers:
            images = self.split("validation").images
            self._teachers[name] = frozen(self.finished(name)[0], images, self.precision)
        return self._teachers[name]

    def _partners(self, experiment: Experiment) -> list[Experiment]:
        """Those of `together` that see the same batches, are missing, and have all that they need."""
        others = [EXPERIMENTS[name] for name in self.together if name != experiment.id]
        return [
            row
            for row in others
            if same_batches(experiment, row)
            and not self.result_path(row.id).exists()
            and all(self.result_path(need).exists() for need in row.needs)
        ]

    def _train_together(self, rows: list[Experiment]) -> tuple[nn.Module, Run]:
        """Trains the networks of these experiments; that of the first, and its history."""
        began = time.monotonic()
        trainees = [
            self._trainee(row, self._new(row), self.directory(row.id), self._origin(self._start(row))) for row in rows
        ]
        run, *_ = self._train_all(trainees, rows[0])
        share = (time.monotonic() - began) / len(rows)
        self.spent.update({row.id: share for row in rows[1:]})
        self.spent[rows[0].id] -= share * (len(rows) - 1)
        return trainees[0].network, run

    def _trainee(
        self, experiment: Experiment, network: nn.Module, directory: Path, origin: str, label: str = ""
    ) -> Trainee:
        step: Step = cross_entropy_step
        if experiment.teacher:
            teacher = self._teacher(experiment.teacher)
            step = Distillation(self.solution, teacher, origin=self._origin(experiment.teacher))
        metadata = describe(experiment.network, self.split(experiment.data))
        return Trainee(network, directory, step, f"{label}{experiment.title}", origin, metadata)

    def _origin(self, name: str) -> str:
        """Which run's network it is, by its history: it is the same where the weights were rounded on their way.

        name: an experiment, or a step of one; "" for none of ours.
        """
        if not name:
            return ""
        record = read_json(self.directory(name) / "run.json")
        history = json.dumps([record["history"], record["best_epoch"]])
        return f"{name} {hashlib.blake2b(history.encode(), digest_size=8).hexdigest()}"

    def _train_all(self, trainees: list[Trainee], experiment: Experiment, part: int = 0) -> list[Run]:
        training, validation = self._images(experiment)
        return train_side_by_side(
            trainees, training, validation, self.profile.recipes[experiment.recipe],
            seed=self._seed(experiment), part=part, augmentation=self.profile.augmentation,
            checkpoint_seconds=self.profile.checkpoint_seconds, precision=self.precision,
            until=self.until, progress=self.progress,
        )  # fmt: skip

    def _measured(self, network: nn.Module, run: Run, experiment: Experiment) -> dict[str, Any]:
        """What is known of every network that a run ends with. Its scores are those that chose its best epoch."""
        return {
            "accuracy": run.best.validation_accuracy,
            "loss": run.best.validation_loss,
            "images": len(self._images(experiment)[1]),
            "parameters": measure.parameters(network),
            "tensor_bytes": measure.tensor_bytes(network),
            "best_epoch": run.best_epoch + 1,
            "epochs": len(run.history),
            **at_switch(run.history),
        }

    def _measured_once(self, network: nn.Module, experiment: Experiment) -> dict[str, Any]:
        """What is measured of an experiment's last network only: the loss by its teacher, and the test images."""
        result: dict[str, Any] = {}
        if experiment.teacher:
            validation = self.split("validation")
            networks = network, self._teacher(experiment.teacher)
            with computing_in(self.precision, *networks):
                both = [predict(each, validation.images) for each in networks]
            with running("losses.kd_loss", self.solution.directory):
                result["distillation_loss"] = self.solution.losses.kd_loss(*both, validation.labels).item()
        if experiment.data == "training" and (testing := self.split("testing")).labelled:
            result["test_images"] = len(testing)
            with computing_in(self.precision, network):
                logits = predict(network, testing.images)
            result["test_loss"], result["test_accuracy"] = scores(logits, testing.labels).tolist()
            result["test_right"] = packed((logits.argmax(dim=1) == testing.labels).cpu().numpy())
        return result


_KEPT: dict[str, Runner] = {}  # in a worker process: one, so that its data and teachers are kept from task to task
# A Dask worker may have several threads, but torch's random numbers are one process's.
_ONE_AT_A_TIME = threading.Lock()


def _runner_in_worker(arguments: dict[str, Any], profile: Profile, directory: str, digest: str) -> Runner:
    key = repr((arguments, profile, directory, digest))
    if key not in _KEPT:
        PROFILES[arguments["profile_name"]] = profile  # it may be one that only the first process knows
        solution = load_solution(directory)
        if solution.digest != digest:
            raise HW7Error(f"{directory} holds another solution where this experiment is to run: {solution.digest}")
        _KEPT.clear()
        _KEPT[key] = Runner(**arguments, solution=solution, progress=False)
    return _KEPT[key]


@contextmanager
def _alone(runner: Runner, what: str) -> Iterator[None]:
    """No other task of this process runs meanwhile, and this one has one thread."""
    with _ONE_AT_A_TIME:
        if not usable(runner.device):
            raise HW7Error(f"the worker that was to {what} has no {runner.device}")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def run_timed(runner: Runner, name: str) -> float:
    """One experiment, in whatever process; the seconds that it took, without those until the process was there."""
    with _alone(runner, f"run {name}"):
        began = time.monotonic()
        runner.run_one(name)
        return time.monotonic() - began + runner.spent[name]


def cost_timed(runner: Runner, kind: Kind) -> Cost:
    """What this kind of work costs, in whatever process. The run itself will give the warnings."""
    with _alone(runner, "time a step"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return runner.cost_of(kind)


def usable(device: str) -> bool:
    return not device.startswith("cuda") or torch.cuda.is_available()

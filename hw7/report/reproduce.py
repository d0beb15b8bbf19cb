"""The report as one table: every run in it, each below what it needs, and how long each trains.

`EXPERIMENTS` reads like the report; `PROFILES` says with how many images and epochs; `Reproduction` runs what is
missing in a folder, side by side where nothing needs the other. A finished run is kept, a killed one goes on, and
`results.json` depends on nothing but the identity of the folder (data, profile, seed, precision and solution) and the
kind of machine: on the CPU each experiment has one thread, because more would add in another order.
"""

from __future__ import annotations

import math
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hw7 import HW7Error, measure
from hw7.data.food11 import PLATES_COUNTS
from hw7.data.load import hold_out, load_split
from hw7.data.source import Split
from hw7.models import StudentNet, teacher_resnet18
from hw7.report.experiments import EXPERIMENTS, NETWORKS, Experiment, with_needs
from hw7.report.pace import Pace
from hw7.report.profiles import PROFILES, Profile
from hw7.solution import Solution, load_solution, running
from hw7.support.files import alone_in, read_json, write_json
from hw7.support.workers import Here, side_by_side
from hw7.training.epoch import evaluate, predict
from hw7.training.loop import Run, TimeIsUp, load_run, train
from hw7.training.precision import PRECISIONS, best_precision
from hw7.training.steps import Distillation, Step, cross_entropy_step
from hw7.training.weights import describe, load_fitting


@dataclass
class Reproduction:
    """The report's runs on one source of data, in one folder.

    pretraining: "plates" or "imagenet", what the pretrained teacher was pretrained on. precision: "float32",
    "bfloat16", or the best of the device. until: the time.time() at which training stops. progress: a bar for each run.
    """

    source: str
    profile_name: str
    out: Path
    solution: Solution
    device: str = "cpu"
    seed: int = 0
    pretraining: str = "plates"
    say: Callable[[str], object] = print
    precision: str = ""
    until: float = math.inf
    progress: bool = True
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

    # --- what runs -------------------------------------------------------------------------------------------------

    def run(self, only: Iterable[str] = (), executor: Executor | None = None, at_once: int = 1) -> dict[str, Any]:
        """Runs what is missing of the experiments named (none: all), up to `at_once` at a time, and gives `results()`.

        executor: who runs them; this process where it is None. One that fails ends neither the others that run nor
        those that do not need it; its error is raised in the end.

        Raises HW7Error where the folder holds results of something else, or is in use, and TimeIsUp.
        """
        ids = with_needs(only or EXPERIMENTS)
        if self.pretraining == "imagenet":
            ids = [name for name in ids if name != "pretraining"]
        with alone_in(self.out):
            for name in ("training", "validation", "testing"):
                # Before anything is written: data that cannot be read leave no folder behind.
                self._load(name) if executor else self.split(name)
            self._claim()
            self._run_all(ids, executor or Here(), at_once)
            return self.results()

    def _run_all(self, ids: list[str], executor: Executor, at_once: int) -> None:
        missing = [name for name in ids if not self._result(name).exists()]
        if at_once > 1:  # what the longest chain waits for goes first
            missing.sort(key=self._images_to_come, reverse=True)
        pace = Pace({name: self._images_seen(name) for name in missing}, at_once)
        errors: list[HW7Error] = []

        def start(name: str) -> Future[Any]:
            pace.begin(name)
            return executor.submit(_work, self, name)

        def ended(name: str, future: Future[Any]) -> bool:
            title = EXPERIMENTS[name].title
            try:
                seconds = future.result()
                result = read_json(self._result(name))
            except HW7Error as error:
                errors.append(error)
                if isinstance(error, TimeIsUp):
                    return False
                pace.fail(name)
                self.say(f"failed. {title}: {error}")
            else:
                pace.end(name, seconds)
                done = f"done {len(ids) - len(missing) + len(pace.done)} of {len(ids)}{pace.left()}"
                self.say(f"{done}. {title}: accuracy {result['accuracy']:.4f}, {result['parameters']:,} parameters")
                bar.update()
            return True

        # Workers show no bars: theirs would be written over each other. The time left stands in what is said.
        bar = tqdm(
            total=len(ids), initial=len(ids) - len(missing), disable=None if at_once > 1 else True,
            bar_format="{l_bar}{bar}| {n_fmt} of {total_fmt} [{elapsed}]",
        )  # fmt: skip
        try:
            with bar:
                side_by_side(
                    missing,
                    lambda name: [need for need in EXPERIMENTS[name].needs if need in missing],
                    start,
                    ended,
                    at_once,
                )
        except BrokenExecutor as error:
            raise HW7Error(
                f"a worker died ({error}). Nothing that was done is lost: run the same again, with fewer --jobs where "
                "memory was short"
            ) from error
        if own := [error for error in errors if not isinstance(error, TimeIsUp)]:
            raise own[0]
        if errors:
            done = sum(self._result(name).exists() for name in ids)
            raise TimeIsUp(f"time is up: {done} of {len(ids)} experiments are done; run the same again to go on")

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

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: what to make it from, there once for all experiments of one reproduction."""
        arguments = {
            "source": self.source,
            "profile_name": self.profile_name,
            "out": self.out.absolute(),
            "device": self.device,
            "seed": self.seed,
            "pretraining": self.pretraining,
            "precision": self.precision,
            "until": self.until,
        }
        return _elsewhere, (arguments, self.profile, str(self.solution.directory), self.solution.digest)

    @cached_property
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

    def _claim(self) -> None:
        """The folder belongs to one identity: results of two would be mixed without a trace."""
        path = self.out / "identity.json"
        if not path.exists():
            write_json(path, self.identity)
        found = read_json(path)
        differing = [
            f"{key} {found.get(key)}, not {value}" for key, value in self.identity.items() if found.get(key) != value
        ]
        if differing:
            raise HW7Error(
                f"{self.out} holds results of another reproduction ({'; '.join(differing)}). "
                "Choose another --out, or delete that folder."
            )

    def _run_one(self, experiment: Experiment) -> None:
        path = self._result(experiment.id)
        if path.exists():
            return
        if experiment.bits:
            result = self._quantize(experiment)
        elif experiment.keep_rate:
            result = self._prune(experiment)
        else:
            result = self._train(experiment)
        write_json(path, result)

    def results(self) -> dict[str, Any]:
        """Everything measured so far, without times: two runs of one identity give the same."""
        done = {name: self._result(name) for name in EXPERIMENTS}
        return {
            **self.identity,
            "size": self.profile.size,
            "experiments": {name: read_json(path) for name, path in done.items() if path.exists()},
        }

    def directory(self, name: str) -> Path:
        return self.out / "runs" / name

    def _result(self, name: str) -> Path:
        return self.directory(name) / "result.json"

    # --- the three kinds of run ------------------------------------------------------------------------------------

    def _train(self, experiment: Experiment) -> dict[str, Any]:
        training, validation = self.split(experiment.data), self.split("validation")
        if experiment.data == "pretraining":
            training, validation = hold_out(training)
        network = self._network(experiment, len(training.classes))
        run = self._train_network(network, experiment, training, validation, self.directory(experiment.id))
        return {**self._measured(network, run, validation), **self._measured_once(network, experiment, validation)}

    def _prune(self, experiment: Experiment) -> dict[str, Any]:
        assert experiment.keep_rate
        assert experiment.start
        student, _ = self._finished(experiment.start)
        training, validation = self.split("training"), self.split("validation")
        steps: list[dict[str, Any]] = []

        def finetune(network: StudentNet) -> None:
            directory = self.directory(experiment.id) / f"step-{len(steps) + 1:02}"
            label = f"step {len(steps) + 1}/{experiment.steps} "
            run = self._train_network(network, experiment, training, validation, directory, label)
            steps.append({"widths": list(network.widths), **self._measured(network, run, validation)})

        with running("pruning.iterative_prune", self.solution.directory):
            networks = self.solution.pruning.iterative_prune(student, experiment.keep_rate, experiment.steps, finetune)
        given = len(networks) if isinstance(networks, list) else 0
        if len(steps) != experiment.steps or given != experiment.steps:
            raise HW7Error(
                f"pruning.iterative_prune gave {given} networks and called finetune {len(steps)} times; "
                f"both must be {experiment.steps}, once a step"
            )
        return {**steps[-1], **self._measured_once(networks[-1], experiment, validation), "steps": steps}

    def _quantize(self, experiment: Experiment) -> dict[str, Any]:
        assert experiment.bits
        assert experiment.start
        network, run = self._finished(experiment.start)
        tensors, restored = quantized(self.solution, network.state_dict(), experiment.bits)
        network.load_state_dict(restored)
        validation = self.split("validation")
        measured = {**self._measured(network, run, validation), **self._measured_once(network, experiment, validation)}
        return {**measured, "file_bytes": measure.file_bytes(tensors)}

    # --- their parts -----------------------------------------------------------------------------------------------

    def split(self, name: str) -> Split:
        if name not in self._splits:
            self._splits[name] = self._load(name)
        return self._splits[name]

    def _load(self, name: str) -> Split:
        """On the device that trains; on the CPU where that is another machine's."""
        source = self.plates if name == "pretraining" else self.source
        device = self.device if usable(self.device) else "cpu"
        return load_split(source, name, self.profile.size, limit=self.profile.images[name], device=device)

    def _seed(self, experiment: Experiment) -> int:
        """By network and not by run, so that a student begins and sees its images alike under every teacher."""
        return zlib.crc32(f"{self.seed} {experiment.network}".encode())

    def _network(self, experiment: Experiment, classes: int) -> nn.Module:
        torch.manual_seed(self._seed(experiment))
        if experiment.start == "pretraining" and self.pretraining == "imagenet":
            return teacher_resnet18(classes, weights="imagenet").to(self.device)
        with running(f"models: {experiment.network}", self.solution.directory):
            network = NETWORKS[experiment.network](self.solution, classes)
        if experiment.start:
            load_fitting(network, self.directory(experiment.start) / "weights.safetensors")
        return network.to(self.device)

    def _finished(self, name: str) -> tuple[Any, Run]:
        """An experiment's network with its weights, and its history."""
        experiment = EXPERIMENTS[name]
        with running(f"models: {experiment.network}", self.solution.directory):
            network = NETWORKS[experiment.network](self.solution, len(self.split("training").classes)).to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network, load_run(network, self.directory(name))

    def _teacher(self, name: str) -> nn.Module:
        if name not in self._teachers:
            self._teachers[name] = self._finished(name)[0]
        return self._teachers[name]

    def _step(self, experiment: Experiment) -> Step:
        if not experiment.teacher:
            return cross_entropy_step
        return Distillation(self.solution, self._teacher(experiment.teacher))

    def _train_network(
        self,
        network: nn.Module,
        experiment: Experiment,
        training: Split,
        validation: Split,
        directory: Path,
        label: str = "",
    ) -> Run:
        return train(
            network,
            training,
            validation,
            self.profile.recipes[experiment.recipe],
            directory,
            step=self._step(experiment),
            seed=self._seed(experiment),
            augmentation=self.profile.augmentation,
            metadata=describe(experiment.network, training),
            label=f"{label}{experiment.title}",
            checkpoint_seconds=self.profile.checkpoint_seconds,
            precision=self.precision,
            until=self.until,
            progress=self.progress,
        )

    def _measured(self, network: nn.Module, run: Run, validation: Split) -> dict[str, Any]:
        """What is measured of every network that a run ends with."""
        loss, accuracy = evaluate(network, validation)
        return {
            "accuracy": accuracy,
            "loss": loss,
            "images": len(validation),
            "parameters": measure.parameters(network),
            "tensor_bytes": measure.tensor_bytes(network),
            "best_epoch": run.best_epoch + 1,
            "epochs": len(run.history),
        }

    def _measured_once(self, network: nn.Module, experiment: Experiment, validation: Split) -> dict[str, Any]:
        """What is measured of an experiment's last network only: the loss by its teacher, and the test images."""
        result: dict[str, Any] = {}
        if experiment.teacher:
            logits = predict(network, validation.images), predict(self._teacher(experiment.teacher), validation.images)
            with running("losses.kd_loss", self.solution.directory):
                result["distillation_loss"] = self.solution.losses.kd_loss(*logits, validation.labels).item()
        if experiment.data == "training" and (testing := self.split("testing")).labelled:
            result["test_images"] = len(testing)
            result["test_loss"], result["test_accuracy"] = evaluate(network, testing)
        return result


_ELSEWHERE: dict[str, Reproduction] = {}  # in a worker process: its data and teachers are kept from task to task
_ONE_AT_A_TIME = (
    threading.Lock()
)  # a Dask worker may have several threads, but torch's random numbers are one process's


def _elsewhere(arguments: dict[str, Any], profile: Profile, directory: str, digest: str) -> Reproduction:
    key = repr((arguments, profile, directory, digest))
    if key not in _ELSEWHERE:
        PROFILES[arguments["profile_name"]] = profile  # it may be one that only the first process knows
        solution = load_solution(directory)
        if solution.digest != digest:
            raise HW7Error(f"{directory} holds another solution where this experiment is to run: {solution.digest}")
        _ELSEWHERE.clear()
        _ELSEWHERE[key] = Reproduction(**arguments, solution=solution, progress=False)
    return _ELSEWHERE[key]


def _work(reproduction: Reproduction, name: str) -> float:
    """One experiment, in whatever process; the seconds that it took, without those until the process was there."""
    with _ONE_AT_A_TIME, _one_thread():
        if not usable(reproduction.device):
            raise HW7Error(f"the worker that was to run {name} has no {reproduction.device}")
        began = time.monotonic()
        reproduction._run_one(EXPERIMENTS[name])
        return time.monotonic() - began


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def usable(device: str) -> bool:
    return not device.startswith("cuda") or torch.cuda.is_available()


def quantized(
    solution: Solution, state_dict: Mapping[str, Tensor], bits: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(what is stored, what it is read back as): 16 bits as the course does it, fewer by the solution's own code.

    Raises HW7Error where the solution's code raises or loses a tensor.
    """
    if bits == 16:
        stored = {name: t.half() if t.is_floating_point() else t for name, t in state_dict.items()}
        return stored, {name: tensor.to(state_dict[name].dtype) for name, tensor in stored.items()}
    with running("quantization.compress", solution.directory):
        stored = solution.quantization.compress({name: tensor.cpu() for name, tensor in state_dict.items()}, bits)
    with running("quantization.decompress", solution.directory):
        restored = solution.quantization.decompress(stored)
    for name, tensor in state_dict.items():
        if name not in restored or restored[name].shape != tensor.shape:
            raise HW7Error(f"quantization.decompress did not give back {name} with shape {tuple(tensor.shape)}")
    return stored, restored

"""The experiment runner: an experiment's data, its network, its training, and what is measured of it.

A finished run is kept, a killed one goes on. Its result depends on nothing but the identity of the folder (data,
profile, seed, precision and solution) and the kind of machine: on the CPU each experiment has one thread, because more
would add in another order.
"""

import math
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hw7 import HW7Error, measure
from hw7.data.load import hold_out_tenth, load_split
from hw7.data.source import Split
from hw7.models import StudentNet, teacher_resnet18
from hw7.report.experiments import EXPERIMENTS, NETWORKS, Experiment
from hw7.report.profiles import PROFILES, Profile
from hw7.solution import Solution, load_solution, running
from hw7.support.files import write_json
from hw7.training.epoch import evaluate, predict
from hw7.training.loop import Run, load_run, train
from hw7.training.precision import PRECISIONS, best_precision
from hw7.training.steps import Distillation, cross_entropy_step
from hw7.training.weights import describe, load_fitting, zero_residual_branches


@dataclass
class Runner:
    """Runs experiments on one source of data, in one folder.

    pretraining: "plates" or "imagenet", what the pretrained teacher was pretrained on. precision: "float32",
    "bfloat16", or the best of the device. until: the time.time() at which training stops. progress: a bar for each run.

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

    def result_path(self, name: str) -> Path:
        return self.directory(name) / "result.json"

    def run_one(self, name: str) -> None:
        """Runs an experiment, unless its result is there."""
        experiment = EXPERIMENTS[name]
        kind = self._quantize if experiment.bits else self._prune if experiment.keep_rate else self._train
        if not self.result_path(name).exists():
            write_json(self.result_path(name), kind(experiment))

    # ---- the three kinds of run ----

    def _train(self, experiment: Experiment) -> dict[str, Any]:
        network = self._new(experiment)
        run = self._train_network(network, experiment, self.directory(experiment.id))
        return self._measured(network, run, experiment) | self._measured_once(network, experiment)

    def _prune(self, experiment: Experiment) -> dict[str, Any]:
        assert experiment.keep_rate
        assert experiment.start
        steps: list[dict[str, Any]] = []

        def finetune(network: StudentNet) -> None:
            directory = self.directory(experiment.id) / f"step-{len(steps) + 1:02}"
            run = self._train_network(network, experiment, directory, f"step {len(steps) + 1}/{experiment.steps} ")
            steps.append({"widths": list(network.widths), **self._measured(network, run, experiment)})

        student, _ = self.finished(experiment.start)
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
        measured = self._measured(network, run, experiment) | self._measured_once(network, experiment)
        return {**measured, "file_bytes": measure.file_bytes(stored)}

    # ---- their parts ----

    def split(self, name: str) -> Split:
        if name not in self._splits:
            self._splits[name] = self.load(name)
        return self._splits[name]

    def load(self, name: str) -> Split:
        """On the device that trains; on the CPU where that is another machine's."""
        source = self.plates if name == "pretraining" else self.source
        device = self.device if usable(self.device) else "cpu"
        return load_split(source, name, self.profile.size, limit=self.profile.images[name], device=device)

    def _images(self, experiment: Experiment) -> tuple[Split, Split]:
        """What a run trains on, and what it is validated on."""
        training = self.split(experiment.data)
        return hold_out_tenth(training) if experiment.data == "pretraining" else (training, self.split("validation"))

    def _untrained(self, experiment: Experiment, classes: int) -> nn.Module:
        with running(f"models: {experiment.network}", self.solution.directory):
            return NETWORKS[experiment.network](self.solution, classes)

    def _seed(self, experiment: Experiment) -> int:
        """By network and not by run, so that a student begins and sees its images alike under every teacher."""
        return zlib.crc32(f"{self.seed} {experiment.network}".encode())

    def _new(self, experiment: Experiment) -> nn.Module:
        """The network that a run begins with."""
        classes = len(self.split(experiment.data).classes)
        torch.manual_seed(self._seed(experiment))
        if experiment.start == "pretraining" and self.pretraining == "imagenet":
            return teacher_resnet18(classes, weights="imagenet").to(self.device)
        network = self._untrained(experiment, classes)
        if experiment.start:
            load_fitting(network, self.directory(experiment.start) / "weights.safetensors")
        elif experiment.network in self.profile.zero_residuals:
            zero_residual_branches(network)
        return network.to(self.device)

    def finished(self, name: str) -> tuple[Any, Run]:
        """An experiment's network with its weights, and its history."""
        experiment = EXPERIMENTS[name]
        network = self._untrained(experiment, len(self.split(experiment.data).classes)).to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network, load_run(network, self.directory(name))

    def _teacher(self, name: str) -> nn.Module:
        if name not in self._teachers:
            self._teachers[name] = self.finished(name)[0]
        return self._teachers[name]

    def _train_network(self, network: nn.Module, experiment: Experiment, directory: Path, label: str = "") -> Run:
        training, validation = self._images(experiment)
        teacher = self._teacher(experiment.teacher) if experiment.teacher else None
        return train(
            network, training, validation, self.profile.recipes[experiment.recipe], directory,
            step=Distillation(self.solution, teacher) if teacher else cross_entropy_step,
            seed=self._seed(experiment), augmentation=self.profile.augmentation,
            metadata=describe(experiment.network, training), label=f"{label}{experiment.title}",
            checkpoint_seconds=self.profile.checkpoint_seconds, precision=self.precision,
            until=self.until, progress=self.progress,
        )  # fmt: skip

    def _measured(self, network: nn.Module, run: Run, experiment: Experiment) -> dict[str, Any]:
        """What is measured of every network that a run ends with."""
        _, validation = self._images(experiment)
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

    def _measured_once(self, network: nn.Module, experiment: Experiment) -> dict[str, Any]:
        """What is measured of an experiment's last network only: the loss by its teacher, and the test images."""
        result: dict[str, Any] = {}
        if experiment.teacher:
            validation = self.split("validation")
            logits = predict(network, validation.images), predict(self._teacher(experiment.teacher), validation.images)
            with running("losses.kd_loss", self.solution.directory):
                result["distillation_loss"] = self.solution.losses.kd_loss(*logits, validation.labels).item()
        if experiment.data == "training" and (testing := self.split("testing")).labelled:
            result["test_images"] = len(testing)
            result["test_loss"], result["test_accuracy"] = evaluate(network, testing)
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


def run_timed(runner: Runner, name: str) -> float:
    """One experiment, in whatever process; the seconds that it took, without those until the process was there."""
    with _ONE_AT_A_TIME:
        if not usable(runner.device):
            raise HW7Error(f"the worker that was to run {name} has no {runner.device}")
        began, threads = time.monotonic(), torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            runner.run_one(name)
        finally:
            torch.set_num_threads(threads)
        return time.monotonic() - began


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

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
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hw7 import augment, measure
from hw7.data import PLATES_COUNTS, Split, load_split
from hw7.errors import HW7Error
from hw7.files import alone_in, load_weights, read_json, write_json
from hw7.jobs import Here, side_by_side
from hw7.models import StudentNet, grouped_convolution, stacked_convolutions, teacher_resnet18
from hw7.solution import Solution, load_solution, running
from hw7.training import (
    PRECISIONS,
    Distillation,
    Phase,
    Run,
    Step,
    TimeIsUp,
    best_precision,
    cross_entropy_step,
    evaluate,
    load_run,
    predict,
    train,
)

NETWORKS: dict[str, Callable[[Solution, int], nn.Module]] = {
    "teacher": lambda solution, classes: teacher_resnet18(classes),
    "small_resnet18": lambda solution, classes: solution.models.small_resnet18(classes),
    "student_cnn": lambda solution, classes: solution.models.student_cnn(classes),
    "student_dw": lambda solution, classes: solution.models.student_dw(classes),
    "student_net": lambda solution, classes: StudentNet(num_classes=classes),
    "final": lambda solution, classes: solution.models.final_model(classes),
    # Question 4: three kinds of block, as wide as about 1 MB of float32 allows.
    "plain": lambda solution, classes: stacked_convolutions(grouped_convolution(1), 11, classes),
    "depthwise": lambda solution, classes: stacked_convolutions(solution.models.depthwise_separable, 31, classes),
    "grouped": lambda solution, classes: stacked_convolutions(grouped_convolution(7), 28, classes),
}


@dataclass(frozen=True)
class Experiment:
    """One run. `start` and `teacher` name the experiments whose networks it goes on from and is distilled from.

    `figures` names, for each of the ledger's figures that the run measures, the entry of its result.
    """

    id: str
    question: int
    title: str
    network: str
    recipe: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)
    start: str | None = None
    teacher: str | None = None
    data: str = "training"
    keep_rate: float | None = None
    steps: int = 0
    bits: int | None = None

    @property
    def needs(self) -> list[str]:
        return [name for name in (self.start, self.teacher) if name]


PRETRAINED, SCRATCH, WEAK = "teacher-pretrained", "teacher-scratch", "teacher-weak"

_ROWS = (
    Experiment("pretraining", 0, "ResNet-18 on the pretraining classes", "teacher", "pretraining", data="pretraining"),
    # Question 1: two ways to compress one large network
    Experiment(PRETRAINED, 1, "Teacher: ResNet-18, pretrained, fine-tuned", "teacher", "fine-tuning",
               start="pretraining",
               figures={"q1.teacher.accuracy": "accuracy", "q1.teacher.loss": "loss",
                        "q2.b.accuracy": "accuracy", "q3.teacher.accuracy": "accuracy"}),
    Experiment("small-resnet18", 1, "Low-rank approximation: ResNet-18 with DW + PW", "small_resnet18", "low rank",
               figures={"q1.dwpw.accuracy": "accuracy", "q1.dwpw.loss": "loss"}),
    Experiment("student-cnn", 1, "Distillation into a plain CNN", "student_cnn", "question 1", teacher=PRETRAINED,
               figures={"q1.cnn.accuracy": "accuracy", "q1.cnn.loss": "distillation_loss"}),
    # Question 2: what distillation does, by teacher; row b is question 1's teacher
    Experiment(SCRATCH, 2, "a: teacher, ResNet-18 from scratch", "teacher", "teacher",
               figures={"q2.a.accuracy": "accuracy"}),
    Experiment("student-c", 2, "c: student from scratch, cross entropy", "student_dw", "question 2",
               figures={"q2.c.accuracy": "accuracy"}),
    Experiment("student-d", 2, "d: student distilled from (a)", "student_dw", "question 2", teacher=SCRATCH,
               figures={"q2.d.accuracy": "accuracy"}),
    Experiment("student-e", 2, "e: student distilled from (b)", "student_dw", "question 2", teacher=PRETRAINED,
               figures={"q2.e.accuracy": "accuracy", "q2.e.accuracy.table": "accuracy"}),
    # Not in the report: its explanation, that a weak teacher teaches wrong things, put to the test.
    Experiment(WEAK, 2, "extra: weak teacher, ResNet-18 stopped early", "teacher", "weak teacher"),
    Experiment("student-weak", 2, "extra: student distilled from the weak teacher", "student_dw", "question 2",
               teacher=WEAK),
    # Question 3: network pruning, and the course's quantization of the same network
    Experiment("student-net", 3, "Student before pruning, distilled", "student_net", "question 3", teacher=PRETRAINED,
               figures={"q3.student.accuracy": "accuracy", "q3.student.loss": "loss",
                        "course.quantization.float32.accuracy": "accuracy"}),
    *(Experiment(f"prune-{keep_rate}", 3, f"Pruned, keep rate {keep_rate}", "student_net", "pruning",
                 start="student-net", teacher=PRETRAINED, keep_rate=keep_rate, steps=steps)
      for keep_rate, steps in ((0.975, 20), (0.95, 10), (0.9, 5))),
    *(Experiment(f"quantized-{bits}", 3, f"Student before pruning, {bits}-bit weights", "student_net",
                 start="student-net", bits=bits, figures={f"course.quantization.{key}.accuracy": "accuracy"})
      for bits, key in ((16, "float16"), (8, "8bit"))),
    # Question 4: three kinds of convolution near 1 MB
    Experiment("plain-1mb", 4, "Plain convolutions", "plain", "question 4"),
    Experiment("depthwise-1mb", 4, "Depthwise + pointwise convolutions", "depthwise", "question 4"),
    Experiment("grouped-1mb", 4, "Group convolutions, 7 groups", "grouped", "question 4"),
)  # fmt: skip
EXPERIMENTS: dict[str, Experiment] = {row.id: row for row in _ROWS}


AUGMENTATION = augment.Recipe()


@dataclass(frozen=True)
class Profile:
    """How large a reproduction is: the side of the images in pixels, how many of them (None: all), and the epochs.

    `plates` are options for that source where the user gave none: small images need easier pictures.
    """

    size: int
    images: Mapping[str, int | None]
    recipes: Mapping[str, tuple[Phase, ...]]
    augmentation: augment.Recipe = AUGMENTATION
    checkpoint_seconds: float = 20.0
    plates: str = ""
    about: str = ""


def _cosine(epochs: int, batch: int = 64, learning_rate: float = 1e-3) -> tuple[Phase, ...]:
    return (Phase(epochs, learning_rate=learning_rate, batch=batch, schedule="cosine"),)


RECIPES = (
    *("pretraining", "fine-tuning", "teacher", "weak teacher"),
    *("low rank", "question 1", "question 2", "question 3", "pruning", "question 4"),
)

PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        about="every part once, in about a minute; its accuracies mean nothing",
        size=32,
        images={"training": 66, "validation": 55, "testing": 22, "pretraining": 64},
        recipes={
            **dict.fromkeys(RECIPES, (Phase(1, batch=33),)),
            "question 2": (Phase(1, batch=33), Phase(1, "sgd", batch=33)),
        },
        checkpoint_seconds=0,
    ),
    "quick": Profile(
        about="the whole report on two CPU cores in six to ten minutes",
        size=32,
        plates="difficulty=0.5",
        images={"training": 2000, "validation": 1000, "testing": 4000, "pretraining": 8000},
        recipes={
            "pretraining": _cosine(8),
            "fine-tuning": _cosine(10, learning_rate=5e-4),
            "teacher": _cosine(12),
            "weak teacher": _cosine(2),
            "low rank": _cosine(20, batch=32, learning_rate=2e-3),  # deep and thin: it wants more and larger steps
            "question 1": _cosine(16),
            "question 2": _cosine(28),
            "question 3": _cosine(24),
            "pruning": (Phase(1, learning_rate=2e-4, batch=64),),
            "question 4": _cosine(10),
        },
    ),
    "notebook": Profile(
        about="what the report notebook runs, on a laptop in a few minutes",
        size=32,
        plates="difficulty=0.5",
        images={"training": 1000, "validation": 1000, "testing": 2000, "pretraining": 4000},
        recipes={
            "pretraining": _cosine(6),
            "fine-tuning": _cosine(10, learning_rate=5e-4),
            "teacher": _cosine(10),
            "weak teacher": _cosine(2),
            "low rank": _cosine(20, batch=32, learning_rate=2e-3),
            "question 1": _cosine(16),
            "question 2": _cosine(28),
            "question 3": _cosine(24),
            "pruning": (Phase(1, learning_rate=2e-4, batch=64),),
            "question 4": _cosine(16),
        },
    ),
    "full": Profile(
        about="the report's own recipe, for a GPU",
        size=128,
        images={"training": None, "validation": None, "testing": None, "pretraining": 20_000},
        recipes={
            "pretraining": (Phase(100, schedule="cosine"),),
            "fine-tuning": (Phase(250),),
            "teacher": (Phase(250),),
            "weak teacher": (Phase(5),),
            "low rank": (Phase(250),),
            "question 1": (Phase(250),),
            "question 2": (Phase(250, batch=32), Phase(50, "sgd", batch=32)),
            "question 3": (Phase(250),),
            "pruning": (Phase(5),),
            "question 4": (Phase(250),),
        },
    ),
}  # fmt: skip


def with_needs(ids: Iterable[str]) -> list[str]:
    """These experiments and what they need, in the order of the table. Raises HW7Error for one that is not in it."""
    wanted: set[str] = set()
    open_ids = list(ids)
    while open_ids:
        name = open_ids.pop()
        if name not in EXPERIMENTS:
            raise HW7Error(f"there is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
        if name not in wanted:
            wanted.add(name)
            open_ids += EXPERIMENTS[name].needs
    return [name for name in EXPERIMENTS if name in wanted]


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
        pace = _Pace({name: self._images_seen(name) for name in missing}, at_once)
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


class _Pace:
    """How long the rest of these experiments takes, by those that are done and how many images each sees.

    The first experiments to end may be slow or quick for their images: it is a guess that gets better on the way.
    """

    def __init__(self, images: Mapping[str, int], at_once: int) -> None:
        self.images, self.at_once = images, at_once
        self.open = list(images)
        self.done: list[str] = []
        self.began: dict[str, float] = {}  # of those that run
        self.seconds = 0.0  # of those that are done

    def begin(self, name: str) -> None:
        self.began[name] = time.monotonic()

    def end(self, name: str, seconds: float) -> None:
        del self.began[name]
        self.open.remove(name)
        self.done.append(name)
        self.seconds += seconds

    def fail(self, name: str) -> None:
        """What needs it is not run either."""
        del self.began[name]
        self.open = [other for other in self.open if name not in with_needs([other])]

    def left(self) -> str:
        """Such as ", about 4 min left"; nothing before one is done, nor when all are."""
        if not self.open or not self.done:
            return ""
        pace, now = self.seconds / sum(self.images[name] for name in self.done), time.monotonic()
        rest: dict[str, float] = {}  # seconds of each
        chain: dict[str, float] = {}  # seconds until each is done, were there workers for all
        for name in self.open:
            whole = pace * self.images[name]
            rest[name] = max(whole - (now - self.began[name]), 0) if name in self.began else whole
        for name in with_needs(self.open):  # what is needed comes first
            chain[name] = rest.get(name, 0) + max((chain[need] for need in EXPERIMENTS[name].needs), default=0)
        return f", about {_duration(max(sum(rest.values()) / self.at_once, *chain.values()))} left"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


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


def hold_out(split: Split) -> tuple[Split, Split]:
    """The first nine tenths of a split and the last, for where there is no split to validate on."""
    count = len(split) * 9 // 10
    return (
        replace(split, images=split.images[:count], labels=split.labels[:count]),
        replace(split, images=split.images[count:], labels=split.labels[count:]),
    )


def load_fitting(network: nn.Module, path: Path) -> None:
    """Puts the weights of a file into a network that differs from theirs in its last layer at most.

    Raises HW7Error where more than that differs.
    """
    tensors, _ = load_weights(path)
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and tensor.shape == own[name].shape}
    if len(fitting) < len(own) - 2:  # the last layer's weight and bias
        raise HW7Error(f"{path} holds the weights of another network: only {len(fitting)} of {len(own)} tensors fit")
    network.load_state_dict(own | fitting)


def describe(network: str, split: Split) -> dict[str, str]:
    """What a weights file says of itself, so that `hw7 distill --teacher FILE` can rebuild the network."""
    return {
        "network": network,
        "classes": str(len(split.classes)),
        "size": str(split.images.shape[-1]),
        "data": split.source,
    }


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

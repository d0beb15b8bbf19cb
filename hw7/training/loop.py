"""The training loop: from scratch, fine-tuning, distilling, and fine-tuning after pruning.

What differs between those is one function, the step: (network, images, labels, optimizer) -> loss. Everything random
in an epoch (its order, its augmentation) comes from a generator seeded with (seed, part, epoch), so that a run that was
killed goes on from its last checkpoint to the very weights it would have had. Runs that see the same batches can be
trained side by side, each to the very weights that it would have alone.

The data live on the device, and an epoch never waits for it: losses and accuracies are summed there, and fetched once
an epoch. On a GPU the networks compute in bfloat16, and a batch's whole work (its augmentation, the teacher, the
student, the loss, its gradient, the optimizer) is recorded as one CUDA graph and replayed. Elsewhere the same code runs
as it is. A GPU adds in no fixed order: there, a run that goes on ends with weights as good, not with the very same.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from tqdm import tqdm

from hw7 import HW7Error, measure
from hw7.data import augment
from hw7.data.source import Split
from hw7.support.files import load_checkpoint, read_json, save_checkpoint, save_weights, write_json
from hw7.support.words import counted
from hw7.training.cuda_graph import fastest_convolutions
from hw7.training.epoch import Learner, Passes, Scores, generator
from hw7.training.identity import check_identity
from hw7.training.precision import best_precision, computing_in
from hw7.training.steps import Distillation, Step, cross_entropy_step, fingerprint, prepared
from hw7.training.weights import load_into

CHECKPOINT_SECONDS = 20.0
OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "sgd": SGD}  # SGD without momentum: the report names none
SCHEDULES: dict[str, Callable[[int, int], float]] = {  # (epoch, epochs) -> the share of the learning rate
    "constant": lambda epoch, epochs: 1.0,
    "cosine": lambda epoch, epochs: 0.5 * (1 + math.cos(math.pi * epoch / epochs)),
}


@dataclass(frozen=True)
class Phase:
    """So many epochs with one optimizer. `schedule` is "constant" or "cosine" (to zero, stepped every epoch).

    Raises HW7Error for an optimizer or a schedule that is not known.
    """

    epochs: int
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    batch: int = 128
    schedule: str = "constant"

    def __post_init__(self) -> None:
        for what, name, known in (("optimizer", self.optimizer, OPTIMIZERS), ("schedule", self.schedule, SCHEDULES)):
            if name not in known:
                raise HW7Error(f"there is no {what} {name!r}; there are: {', '.join(known)}")

    def learning_rate_at(self, epoch: int) -> float:
        return self.learning_rate * SCHEDULES[self.schedule](epoch, self.epochs)

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """All of a step in one kernel; on a GPU it can be replayed, and its learning rate is a tensor there."""
        options: dict[str, Any] = {"lr": self.learning_rate, "fused": True}
        device = next(network.parameters()).device
        if device.type == "cuda":
            options["lr"] = torch.tensor(self.learning_rate, device=device)
            if self.optimizer == "adamw":
                options["capturable"] = True
        optimizer = OPTIMIZERS[self.optimizer](network.parameters(), **options)
        optimizer.register_step_pre_hook(_only_fused_where_it_is_right)
        return optimizer


def _only_fused_where_it_is_right(optimizer: Optimizer, *_: object) -> None:
    """Fused kernels walk through memory (PyTorch issues 106951 and 126585): a gradient that lies there otherwise than
    its weight would move other weights. From the step on that has one, the optimizer is an ordinary one."""
    for group in optimizer.param_groups:
        pairs = ((parameter, parameter.grad) for parameter in group["params"])
        if group["fused"] and any(grad is not None and grad.stride() != weight.stride() for weight, grad in pairs):
            group["fused"], group["foreach"] = False, True


@dataclass(frozen=True)
class Epoch:
    """A row of a run's history. Losses are means over images; `loss` is the step's own, `validation_loss` the cross
    entropy, so that the latter can be compared between a distilled network and one trained on labels alone."""

    loss: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    optimizer: str


@dataclass(frozen=True)
class Run:
    """What a finished run leaves: its history, and which epoch (counted from 0) was the best and is in the network."""

    history: tuple[Epoch, ...]
    best_epoch: int
    seconds: float

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """From what a file says of it."""
        return cls(tuple(Epoch(**row) for row in record["history"]), record["best_epoch"], record["seconds"])

    @property
    def best(self) -> Epoch:
        return self.history[self.best_epoch]


NOTHING_DONE = Run((), -1, 0.0)


class TimeIsUp(HW7Error):
    """The run was stopped because its time was over. Its checkpoint is written; the same again goes on from there."""


@dataclass(eq=False)
class Trainee:
    """A network that is to be trained, by which step, and the folder that keeps its run.

    origin: what its first weights are, in words; "": a hash over them says it. metadata: what its weights file says.
    """

    network: nn.Module
    directory: Path
    step: Step = cross_entropy_step
    label: str = "training"
    origin: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """A run between two epochs: all that it needs to go on, and the file that keeps it while it lasts."""

    path: Path
    identity: dict[str, Any]
    network: nn.Module
    optimizer: Optimizer | None = None  # None: before the first epoch
    best: dict[str, Tensor] = field(default_factory=dict)  # the weights of the best epoch
    run: Run = NOTHING_DONE  # as far as it has come
    saved: Run = NOTHING_DONE  # as far as the file knows

    @classmethod
    def of(cls, trainee: Trainee, training: Split, settings: dict[str, object]) -> Self:
        """Before the first epoch."""
        identity = _identity(trainee, training, settings)
        trainee.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(trainee.directory / "checkpoint.pt", identity, trainee.network)

    @property
    def done(self) -> int:
        """How many epochs."""
        return len(self.run.history)

    def save(self, seconds: float = 0.0) -> None:
        """Writes the file, unless it holds everything, or all but the last seconds, already."""
        if self.optimizer and self.run is not self.saved and self.run.seconds - self.saved.seconds >= seconds:
            state = {"identity": self.identity, "network": self.network.state_dict(), "best": self.best}
            save_checkpoint(self.path, state | {"optimizer": self.optimizer.state_dict()} | asdict(self.run))
            self.saved = self.run

    def load(self, plan: Sequence[tuple[Phase, int]]) -> None:
        """Goes on from the file, if there is one. Raises HW7Error where it is broken or another run's."""
        if not self.path.exists():
            return
        state = load_checkpoint(self.path, next(self.network.parameters()).device)
        check_identity(self.path.parent, state["identity"], self.identity)
        self.run = self.saved = Run.of(state)
        self.best = state["best"]
        self.network.load_state_dict(state["network"])
        self.optimizer = plan[len(self.run.history) - 1][0].make_optimizer(self.network)
        # Its memory only: what kind it is depends on the device, which may be another one than before.
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state["optimizer"]["state"]})

    def begin(self, phase: Phase, epoch: int) -> Optimizer:
        """The optimizer, at the learning rate of an epoch; a new one where a phase begins."""
        if self.optimizer is None or epoch == 0:
            self.optimizer = phase.make_optimizer(self.network)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(phase.learning_rate_at(epoch))  # a recorded step reads it there
            else:
                group["lr"] = phase.learning_rate_at(epoch)
        return self.optimizer

    def add(self, epoch: Epoch, seconds: float) -> None:
        """An epoch that is done, in so long. The first of those that are best by validation accuracy stays the best."""
        best_epoch, history = self.run.best_epoch, (*self.run.history, epoch)
        if not self.best or epoch.validation_accuracy > self.run.best.validation_accuracy:
            best_epoch = len(history) - 1
            self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.run = Run(history, best_epoch, self.run.seconds + seconds)

    def finish(self, metadata: Mapping[str, str]) -> Run:
        """Puts the best weights into the network, and the files of a finished run in the place of the checkpoint."""
        self.network.load_state_dict(self.best)
        save_weights(self.path.with_name("weights.safetensors"), self.best, metadata)
        write_json(self.path.with_name("run.json"), {"identity": self.identity, **asdict(self.run)})
        self.path.unlink(missing_ok=True)
        return self.run


def train(
    network: nn.Module,
    training: Split,
    validation: Split,
    phases: tuple[Phase, ...],
    directory: Path,
    *,
    step: Step = cross_entropy_step,
    label: str = "training",
    origin: str = "",
    metadata: Mapping[str, str] | None = None,
    **settings: Any,
) -> Run:
    """Trains one network: `train_side_by_side`, whose other settings it takes, for a single `Trainee`."""
    trainee = Trainee(network, directory, step, label, origin, metadata or {})
    return train_side_by_side([trainee], training, validation, phases, **settings)[0]


def train_side_by_side(
    trainees: Sequence[Trainee],
    training: Split,
    validation: Split,
    phases: tuple[Phase, ...],
    *,
    seed: int = 0,
    part: int = 0,
    augmentation: augment.Augmentation | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    precision: str | None = None,
    until: float = math.inf,
    progress: bool = True,
) -> list[Run]:
    """Trains networks in place on the same batches, and leaves each with the weights of its best epoch by validation
    accuracy: those that it would have, had it been trained alone.

    A folder gets checkpoints while its run lasts, and `weights.safetensors` and `run.json` when it is done. Called
    again, a finished run is loaded and a killed one goes on; those that had come further wait for the others. Networks
    and data are on one device.

    part: which of several trainings with one seed this is (a step of pruning): each sees orders and augmentations of
    its own. precision: "float32" or "bfloat16" (weights stay float32); None is `best_precision` of the device. The
    validation scores in the history are computed in it, too. until: no epoch begins after this time.time(), nor one
    that would end after it, if it takes as long as the one before.

    Raises HW7Error where a folder holds another run, where a loss is no longer finite, where the training data have no
    labels, or where the disk is full; TimeIsUp where `until` came before the end.
    """
    for split in (training, validation):
        if not split.labelled:
            raise HW7Error(f"{split.source}, {split.name}: images without labels cannot be trained on or scored")
    precision = precision or best_precision(training.images.device)
    settings = {"phases": phases, "seed": seed, "part": part, "precision": precision, "augmentation": augmentation}
    plan = [(phase, epoch) for phase in phases for epoch in range(phase.epochs)]

    # ---- what was done before ----
    runs, open_runs = _taken_up(trainees, training, settings, plan)
    steps = {trainee: prepared(trainee.step, training.images, precision) for trainee in open_runs}

    # ---- epoch by epoch ----
    first = min((checkpoint.done for checkpoint in open_runs.values()), default=len(plan))
    label = " | ".join(trainee.label for trainee in open_runs)
    passes: Passes | None = None
    active: list[Trainee] = []
    took = 0.0
    bar = tqdm(plan, initial=first, desc=label, unit="epoch", leave=False, disable=not progress or None)
    with (
        computing_in(precision, *(trainee.network for trainee in open_runs)),
        fastest_convolutions(training.images.device, (len(plan) - first) * len(training) // phases[0].batch),
        bar,
    ):
        for number, (phase, epoch) in enumerate(plan[first:], start=first):
            started = time.time()
            if started + took > until:
                _stop(open_runs.values(), f"{label}: stopped after {number} of {counted(len(plan), 'epoch')}")
            before, active = active, [trainee for trainee, one in open_runs.items() if one.done == number]
            if active != before:  # one that had come further takes part from here on
                score = Scores([trainee.network for trainee in active], validation, f"{label}: validation")
            if active != before or epoch == 0:
                passes = None  # its recordings are freed before others are made
            learners = [
                Learner(trainee.network, open_runs[trainee].begin(phase, epoch), steps[trainee]) for trainee in active
            ]
            passes = passes or Passes(learners, training, phase.batch, augmentation, label)
            means = passes(generator(seed, part, number))
            values = torch.cat([means[:, None], score()], dim=1).tolist()  # the epoch's only wait
            rate = phase.learning_rate_at(epoch)
            rows = [Epoch(loss, other, accuracy, rate, phase.optimizer) for loss, other, accuracy in values]
            for trainee, row in zip(active, rows, strict=True):
                _check_finite(row, trainee.label, number, phase)
            took = time.time() - started
            for trainee, row in zip(active, rows, strict=True):
                open_runs[trainee].add(row, took / len(active))
                if number + 1 < len(plan):
                    open_runs[trainee].save(checkpoint_seconds / len(active))
            bar.update()
            bar.set_postfix_str(" | ".join(_said(open_runs[trainee].run) for trainee in active))
    runs |= {trainee: checkpoint.finish(trainee.metadata) for trainee, checkpoint in open_runs.items()}
    return [runs[trainee] for trainee in trainees]


def _taken_up(
    trainees: Sequence[Trainee], training: Split, settings: dict[str, object], plan: list[tuple[Phase, int]]
) -> tuple[dict[Trainee, Run], dict[Trainee, Checkpoint]]:
    """(those that are finished, those that are not), their networks with the weights that their folders hold."""
    runs: dict[Trainee, Run] = {}
    open_runs: dict[Trainee, Checkpoint] = {}
    for trainee in trainees:
        checkpoint = Checkpoint.of(trainee, training, settings)
        if (trainee.directory / "run.json").exists():
            runs[trainee] = load_run(trainee.network, trainee.directory, checkpoint.identity)
        else:
            checkpoint.load(plan)
            open_runs[trainee] = checkpoint
    return runs, open_runs


def _stop(checkpoints: Iterable[Checkpoint], where: str) -> NoReturn:
    for checkpoint in checkpoints:
        checkpoint.save()
    raise TimeIsUp(f"{where}, because its time is up")


def _said(run: Run) -> str:
    last = run.history[-1]
    return f"loss {last.loss:.3f}, accuracy {last.validation_accuracy:.3f}, best {run.best.validation_accuracy:.3f}"


def epochs_done(directory: Path) -> int:
    """How many epochs of a run its folder holds. Raises HW7Error where a file of it is broken."""
    if (directory / "run.json").exists():
        return len(read_json(directory / "run.json")["history"])
    path = directory / "checkpoint.pt"
    return len(load_checkpoint(path, "cpu")["history"]) if path.exists() else 0


def load_run(network: nn.Module, directory: Path, identity: dict[str, Any] | None = None) -> Run:
    """A finished run's history; its weights go into the network. Raises HW7Error where they do not fit."""
    record = read_json(directory / "run.json")
    if identity is not None:
        check_identity(directory, record["identity"], identity)
    load_into(network, directory / "weights.safetensors")
    return Run.of(record)


def _check_finite(row: Epoch, label: str, number: int, phase: Phase) -> None:
    # The loss is taken before a step moves the weights: only the validation loss sees what the last step did.
    for what, value in (("loss", row.loss), ("validation loss", row.validation_loss)):
        if not math.isfinite(value):
            raise HW7Error(
                f"{label}: the {what} is {value} in epoch {number + 1}. Is the loss function finite for large logits? "
                f"If it is, try a smaller learning rate than {phase.learning_rate}."
            )


def _identity(trainee: Trainee, training: Split, settings: dict[str, object]) -> dict[str, Any]:
    """What a run is a run of, in words that an error message can show."""
    network, step = trainee.network, trainee.step
    shapes = [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]
    images = f"{counted(len(training), 'image')} of {training.images.shape[-1]} px"
    identity = {
        "network": f"{counted(measure.parameters(network), 'parameter')} in {counted(len(shapes), 'tensor')}",
        "shapes": shapes,
        "data": f"{training.source}, {training.name}, {images}",
        **settings,
        "first weights": trainee.origin or fingerprint(network),
        "step": str(step) if isinstance(step, Distillation) else "labels alone",
    }
    return json.loads(json.dumps(identity, default=asdict))  # tuples and lists compare alike after a file

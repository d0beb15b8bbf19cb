"""The training loop: from scratch, fine-tuning, distilling, and fine-tuning after pruning.

What differs between those is one function, the step: (network, images, labels, optimizer) -> loss. Everything random
in an epoch (its order, its augmentation) comes from a generator seeded with (seed, epoch), so that a run that was
killed goes on from its last checkpoint to the very weights it would have had.

The data live on the device, and an epoch never waits for it: losses and accuracies are summed there, and fetched once
an epoch. On a GPU the networks compute in bfloat16, and a batch's whole work (its augmentation, the teacher, the
student, the loss, its gradient, the optimizer) is recorded as one CUDA graph and replayed. Elsewhere the same code runs
as it is. A GPU adds in no fixed order: there, a run that goes on ends with weights as good, not with the very same.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from tqdm import tqdm

from hw7 import HW7Error, measure
from hw7.data import augment
from hw7.data.source import Split
from hw7.support.files import load_checkpoint, read_json, save_checkpoint, save_weights, write_json
from hw7.support.words import counted
from hw7.training import cuda_graph
from hw7.training.epoch import Passes, generator, scores_of
from hw7.training.precision import best_precision, computing_in
from hw7.training.steps import Distillation, Step, cross_entropy_step, fingerprint
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
        """On a GPU: one that can be replayed, all its tensors in one kernel, its learning rate a tensor there."""
        options: dict[str, Any] = {"lr": self.learning_rate}
        device = next(network.parameters()).device
        if device.type == "cuda":
            options = {"lr": torch.tensor(self.learning_rate, device=device), "fused": True}
            if self.optimizer == "adamw":
                options["capturable"] = True
        return OPTIMIZERS[self.optimizer](network.parameters(), **options)


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
    began: float = field(default_factory=time.monotonic)  # when it would have begun, had it not been interrupted

    def save(self, seconds: float = 0.0) -> None:
        """Writes the file, unless it holds everything, or all but the last seconds, already."""
        if self.optimizer and self.run is not self.saved and self.run.seconds - self.saved.seconds >= seconds:
            state = {"identity": self.identity, "network": self.network.state_dict(), "best": self.best}
            save_checkpoint(self.path, state | {"optimizer": self.optimizer.state_dict()} | asdict(self.run))
            self.saved = self.run

    def load(self, plan: Sequence[tuple[Phase, int]]) -> None:
        """Goes on from the file. Raises HW7Error where it is broken or another run's."""
        state = load_checkpoint(self.path, next(self.network.parameters()).device)
        _check_identity(self.path.parent, state["identity"], self.identity)
        self.run = self.saved = Run.of(state)
        self.best = state["best"]
        self.began -= self.run.seconds
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

    def add(self, epoch: Epoch) -> None:
        """An epoch that is done. The first of those that are best by validation accuracy stays the best."""
        best_epoch, history = self.run.best_epoch, (*self.run.history, epoch)
        if not self.best or epoch.validation_accuracy > self.run.best.validation_accuracy:
            best_epoch = len(history) - 1
            self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.run = Run(history, best_epoch, time.monotonic() - self.began)

    def finish(self, metadata: dict[str, str]) -> Run:
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
    seed: int = 0,
    augmentation: augment.Augmentation | None = None,
    metadata: dict[str, str] | None = None,
    label: str = "training",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    precision: str | None = None,
    until: float = math.inf,
    progress: bool = True,
) -> Run:
    """Trains the network in place and leaves it with the weights of its best epoch by validation accuracy.

    `directory` gets checkpoints while the run lasts, and `weights.safetensors` and `run.json` when it is done. Called
    again, a finished run is loaded and a killed one goes on. The network and the data are on one device.

    precision: "float32" or "bfloat16" (weights stay float32); None is `best_precision` of the device. The validation
    scores in the history are computed in it, too. until: no epoch begins after this time.time(), nor one that would
    end after it, if it takes as long as the one before.

    Raises HW7Error where the directory holds another run, where the loss is no longer finite, where the training data
    has no labels, or where the disk is full; TimeIsUp where `until` came before the end.
    """
    for split in (training, validation):
        if not split.labelled:
            raise HW7Error(f"{split.source}, {split.name}: images without labels cannot be trained on or scored")
    precision = precision or best_precision(training.images.device)
    settings = {"phases": phases, "seed": seed, "precision": precision, "augmentation": augmentation}
    checkpoint = Checkpoint(directory / "checkpoint.pt", _identity(network, training, step, settings), network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = [(phase, epoch) for phase in phases for epoch in range(phase.epochs)]

    # ---- what was done before ----
    if (directory / "run.json").exists():
        return load_run(network, directory, checkpoint.identity)
    if checkpoint.path.exists():
        checkpoint.load(plan)

    # ---- epoch by epoch ----
    scores = torch.zeros(2, dtype=torch.float64, device=training.images.device)
    networks = (network, step.teacher) if isinstance(step, Distillation) else (network,)
    passes: Passes | None = None
    took, done = 0.0, len(checkpoint.run.history)
    bar = tqdm(plan, initial=done, desc=label, unit="epoch", leave=False, disable=not progress or None)
    with computing_in(precision, *networks), bar:
        score = cuda_graph.recorded(
            lambda: scores.copy_(scores_of(network, validation)), f"{label}: validation", scores.device
        )
        for number, (phase, epoch) in enumerate(plan[done:], start=done):
            started = time.time()
            if started + took > until:
                checkpoint.save()
                epochs = counted(len(plan), "epoch")
                raise TimeIsUp(f"{label}: stopped after {number} of {epochs}, because its time is up")
            if epoch == 0:
                passes = None  # its recordings are freed before others are made
            optimizer = checkpoint.begin(phase, epoch)
            passes = passes or Passes(network, training, phase.batch, optimizer, step, augmentation, label)
            mean = passes(generator(seed, number))
            score()
            loss, validation_loss, accuracy = torch.cat([mean.view(1), scores]).tolist()  # the epoch's only wait
            row = Epoch(loss, validation_loss, accuracy, phase.learning_rate_at(epoch), phase.optimizer)
            _check_finite(row, label, number, phase)
            checkpoint.add(row)
            bar.update()
            best = checkpoint.run.best.validation_accuracy
            bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.3f}, best {best:.3f}")
            took = time.time() - started
            if number + 1 < len(plan):
                checkpoint.save(checkpoint_seconds)
    return checkpoint.finish(metadata or {})


def load_run(network: nn.Module, directory: Path, identity: dict[str, Any] | None = None) -> Run:
    """A finished run's history; its weights go into the network. Raises HW7Error where they do not fit."""
    record = read_json(directory / "run.json")
    if identity is not None:
        _check_identity(directory, record["identity"], identity)
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


def _identity(network: nn.Module, training: Split, step: Step, settings: dict[str, object]) -> dict[str, Any]:
    """What a run is a run of, in words that an error message can show."""
    shapes = [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]
    images = f"{counted(len(training), 'image')} of {training.images.shape[-1]} px"
    identity = {
        "network": f"{counted(measure.parameters(network), 'parameter')} in {counted(len(shapes), 'tensor')}",
        "shapes": shapes,
        "data": f"{training.source}, {training.name}, {images}",
        **settings,
        "first weights": fingerprint(network),
        "step": str(step) if isinstance(step, Distillation) else "labels alone",
    }
    return json.loads(json.dumps(identity, default=asdict))  # tuples and lists compare alike after a file


def _check_identity(directory: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in wanted:
        if found.get(key) != wanted[key]:
            what = "a network of other shapes" if key == "shapes" else f"{key} {found.get(key)}, not {wanted[key]}"
            raise HW7Error(
                f"{directory} holds another run ({what}). Choose another folder, or delete this one to start anew."
            )

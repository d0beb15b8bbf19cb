"""The one training loop: from scratch, fine-tuning, distilling, and fine-tuning after pruning.

What differs between those is one function, the step: (network, images, labels, optimizer) -> loss. Everything random
in an epoch (its order, its augmentation) comes from a generator seeded with (seed, epoch), so that a run that was
killed goes on from its last checkpoint to the very weights it would have had.

The data live on the device, and an epoch never waits for it: losses and accuracies are summed there, and fetched once
an epoch. On a GPU the networks compute in bfloat16, and a batch's whole work (its augmentation, the teacher, the
student, the loss, its gradient, the optimizer) is recorded as one CUDA graph and replayed. Elsewhere the same code runs
as it is. A GPU adds in no fixed order: there, a run that goes on ends with weights as good, not with the very same.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from tqdm import tqdm

from hw7 import HW7Error, measure
from hw7.data import augment
from hw7.data.source import Split
from hw7.support.files import load_checkpoint, read_json, save_checkpoint, save_weights, write_json
from hw7.training import cuda_graph
from hw7.training.epoch import Passes, generator, scores_of
from hw7.training.precision import best_precision, computing_in
from hw7.training.steps import Distillation, Step, cross_entropy_step, fingerprint
from hw7.training.weights import load_into

CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Phase:
    """So many epochs with one optimizer. `schedule` is "constant" or "cosine" (to zero, stepped every epoch)."""

    epochs: int
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    batch: int = 128
    schedule: str = "constant"

    def learning_rate_at(self, epoch: int) -> float:
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """On a GPU: one that can be replayed, all its tensors in one kernel, its learning rate a tensor there."""
        device = next(network.parameters()).device
        rate: Any = self.learning_rate
        options: dict[str, Any] = {}
        if device.type == "cuda":
            rate, options = torch.tensor(rate, device=device), {"fused": True}
        if self.optimizer == "adamw":
            return AdamW(network.parameters(), lr=rate, capturable=device.type == "cuda", **options)
        return SGD(network.parameters(), lr=rate, **options)  # no momentum: the report names none


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

    @property
    def best(self) -> Epoch:
        return self.history[self.best_epoch]


class TimeIsUp(HW7Error):
    """The run was stopped because its time was over. Its checkpoint is written; the same again goes on from there."""


def train(
    network: nn.Module,
    training: Split,
    validation: Split,
    phases: tuple[Phase, ...],
    directory: Path,
    *,
    step: Step = cross_entropy_step,
    seed: int = 0,
    augmentation: augment.Recipe | None = None,
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
    device = training.images.device
    precision = precision or best_precision(device)
    identity = _identity(network, training, phases, step, seed, augmentation, precision)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if (directory / "run.json").exists():
        return load_run(network, directory, identity)

    started = time.monotonic()
    plan = [(phase, epoch) for phase in phases for epoch in range(phase.epochs)]
    state: dict[str, Any] = {"identity": identity, "history": [], "best": None, "best_epoch": -1, "seconds": 0.0}
    optimizer: Optimizer | None = None
    if (directory / "checkpoint.pt").exists():
        state = load_checkpoint(directory / "checkpoint.pt", device)
        _check_identity(directory, state["identity"], identity)
        network.load_state_dict(state["network"])
        optimizer = plan[len(state["history"]) - 1][0].make_optimizer(network)
        # Its memory only: what kind it is depends on the device, which may be another one than before.
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state["optimizer"]["state"]})
    history: list[Epoch] = [Epoch(**row) for row in state["history"]]
    best, best_epoch, earlier = state["best"], state["best_epoch"], state["seconds"]

    def save() -> None:
        assert optimizer is not None
        checkpoint = {
            "identity": identity,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": [asdict(row) for row in history],
            "best": best,
            "best_epoch": best_epoch,
            "seconds": earlier + time.monotonic() - started,
        }
        save_checkpoint(directory / "checkpoint.pt", checkpoint)

    scores = torch.zeros(2, dtype=torch.float64, device=device)

    def validate() -> None:
        scores.copy_(scores_of(network, validation))

    saved, took, fresh = time.monotonic(), 0.0, False
    passes: Passes | None = None
    networks = (network, step.teacher) if isinstance(step, Distillation) else (network,)
    with (
        computing_in(precision, *networks),
        tqdm(plan, initial=len(history), desc=label, unit="epoch", leave=False, disable=not progress or None) as bar,
    ):
        score = cuda_graph.recorded(validate, f"{label}: validation", device)
        for number in range(len(history), len(plan)):
            began = time.time()
            if began + took > until:
                if fresh:
                    save()
                raise TimeIsUp(f"{label}: stopped after {len(history)} of {len(plan)} epochs, because its time is up")
            phase, epoch = plan[number]
            if optimizer is None or epoch == 0:
                optimizer, passes = phase.make_optimizer(network), None
            _set_learning_rate(optimizer, phase.learning_rate_at(epoch))
            if passes is None:
                passes = Passes(network, training, phase.batch, optimizer, step, augmentation, label)
            mean = passes(generator(seed, number))
            score()
            loss, validation_loss, accuracy = torch.cat([mean.view(1), scores]).tolist()  # the epoch's only wait
            # The loss is taken before a step moves the weights: only the validation loss sees what the last step did.
            for what, value in (("loss", loss), ("validation loss", validation_loss)):
                if not math.isfinite(value):
                    raise HW7Error(
                        f"{label}: the {what} is {value} in epoch {number + 1}. Is the loss function finite for large "
                        f"logits? If it is, try a smaller learning rate than {phase.learning_rate}."
                    )
            history.append(Epoch(loss, validation_loss, accuracy, phase.learning_rate_at(epoch), phase.optimizer))
            if best is None or accuracy > history[best_epoch].validation_accuracy:
                best_epoch = number
                best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            bar.update()
            bar.set_postfix_str(
                f"loss {loss:.3f}, accuracy {accuracy:.3f}, best {history[best_epoch].validation_accuracy:.3f}"
            )
            fresh, took = True, time.time() - began
            if number + 1 < len(plan) and time.monotonic() - saved >= checkpoint_seconds:
                save()
                saved, fresh = time.monotonic(), False

    network.load_state_dict(best)
    run = Run(tuple(history), best_epoch, earlier + time.monotonic() - started)
    save_weights(directory / "weights.safetensors", best, metadata or {})
    write_json(directory / "run.json", {"identity": identity, **asdict(run)})
    (directory / "checkpoint.pt").unlink(missing_ok=True)
    return run


def load_run(network: nn.Module, directory: Path, identity: dict[str, Any] | None = None) -> Run:
    """A finished run's history; its weights go into the network. Raises HW7Error where they do not fit."""
    record = read_json(directory / "run.json")
    if identity is not None:
        _check_identity(directory, record["identity"], identity)
    load_into(network, directory / "weights.safetensors")
    return Run(tuple(Epoch(**row) for row in record["history"]), record["best_epoch"], record["seconds"])


def _set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # a recorded step reads it there
        else:
            group["lr"] = rate


def _identity(
    network: nn.Module,
    training: Split,
    phases: tuple[Phase, ...],
    step: Step,
    seed: int,
    augmentation: augment.Recipe | None,
    precision: str,
) -> dict[str, Any]:
    """What a run is a run of, in words that an error message can show."""
    shapes = [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]
    identity = {
        "network": f"{measure.parameters(network):,} parameters in {len(shapes)} tensors",
        "shapes": shapes,
        "data": f"{training.source}, {training.name}, {len(training)} images of {training.images.shape[-1]} px",
        "phases": [asdict(phase) for phase in phases],
        "seed": seed,
        "precision": precision,
        "augmentation": None if augmentation is None else asdict(augmentation),
        "first weights": fingerprint(network),
        "step": str(step) if isinstance(step, Distillation) else "labels alone",
    }
    return json.loads(json.dumps(identity))  # tuples and lists compare alike after a file


def _check_identity(directory: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in wanted:
        if found.get(key) != wanted[key]:
            what = "a network of other shapes" if key == "shapes" else f"{key} {found.get(key)}, not {wanted[key]}"
            raise HW7Error(
                f"{directory} holds another run ({what}). Choose another folder, or delete this one to start anew."
            )

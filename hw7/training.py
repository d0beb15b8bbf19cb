"""The one training loop: from scratch, fine-tuning, distilling, and fine-tuning after pruning.

What differs between those is one function, the step: (network, images, labels, optimizer) -> loss. Everything random
in an epoch (its order, its augmentation) comes from a generator seeded with (seed, epoch), so that a run that was
killed goes on from its last checkpoint to the very weights it would have had.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from tqdm import tqdm

from hw7 import augment, measure
from hw7.data import Split
from hw7.errors import HW7Error
from hw7.files import load_checkpoint, load_weights, read_json, save_checkpoint, save_weights, write_json
from hw7.solution import Solution, running

Step = Callable[[nn.Module, Tensor, Tensor, Optimizer], Tensor]
EVALUATION_BATCH = 256
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
        if self.optimizer == "adamw":
            return AdamW(network.parameters(), lr=self.learning_rate)
        return SGD(network.parameters(), lr=self.learning_rate)  # no momentum: the report names none


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


def cross_entropy_step(network: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
    """One optimizer step on one batch; the loss [], detached."""
    network.train()
    loss = F.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@dataclass(frozen=True)
class Distillation:
    """The solution's own distillation step, as a step of this loop."""

    solution: Solution
    teacher: nn.Module
    temperature: float = 20.0
    alpha: float = 0.5

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        step = self.solution.losses.distillation_step
        with running("losses.distillation_step", self.solution.directory):
            loss = step(network, self.teacher, images, labels, optimizer, self.temperature, self.alpha)
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            raise HW7Error(
                f"losses.distillation_step must return the loss, a tensor of shape [], but gave {loss!r:.80}"
            )
        return loss.detach()

    def __str__(self) -> str:
        return (
            f"distillation by {self.solution.digest} from {_fingerprint(self.teacher)}, "
            f"T = {self.temperature:g}, alpha = {self.alpha:g}"
        )


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [N, C] in eval mode, batch by batch, for uint8 images [N, 3, S, S]."""
    network.eval()
    with torch.no_grad():
        batches = images.split(EVALUATION_BATCH)
        return torch.cat([network(_channels_last(batch.float() / 255)) for batch in batches])


def evaluate(network: nn.Module, split: Split) -> tuple[float, float]:
    """(cross entropy, accuracy) on a labelled split."""
    logits = predict(network, split.images)
    accuracy = (logits.argmax(dim=1) == split.labels).double().mean()
    return F.cross_entropy(logits.double(), split.labels).item(), accuracy.item()


def generator(*key: int) -> torch.Generator:
    """A generator of its own for every key, e.g. (seed, epoch)."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Every index once. The last batch is smaller, but never a single image: a batch norm cannot train on one value."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


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
) -> Run:
    """Trains the network in place and leaves it with the weights of its best epoch by validation accuracy.

    `directory` gets checkpoints while the run lasts, and `weights.safetensors` and `run.json` when it is done. Called
    again, a finished run is loaded and a killed one goes on. The network and the data are on one device.

    Raises HW7Error where the directory holds another run, where the loss is no longer finite, where the training data
    has no labels, or where the disk is full.
    """
    for split in (training, validation):
        if not split.labelled:
            raise HW7Error(f"{split.source}, {split.name}: images without labels cannot be trained on or scored")
    identity = _identity(network, training, phases, step, seed, augmentation)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if (directory / "run.json").exists():
        return load_run(network, directory, identity)

    started = time.monotonic()
    plan = [(phase, epoch) for phase in phases for epoch in range(phase.epochs)]
    state: dict[str, Any] = {"identity": identity, "history": [], "best": None, "best_epoch": -1, "seconds": 0.0}
    optimizer: Optimizer | None = None
    if (directory / "checkpoint.pt").exists():
        state = load_checkpoint(directory / "checkpoint.pt", training.labels.device)
        _check_identity(directory, state["identity"], identity)
        network.load_state_dict(state["network"])
        optimizer = plan[len(state["history"]) - 1][0].make_optimizer(network)
        optimizer.load_state_dict(state["optimizer"])
    history: list[Epoch] = [Epoch(**row) for row in state["history"]]
    best, best_epoch, earlier = state["best"], state["best_epoch"], state["seconds"]

    saved = time.monotonic()
    with tqdm(plan, initial=len(history), desc=label, unit="epoch", leave=False, disable=None) as bar:
        for number in range(len(history), len(plan)):
            phase, epoch = plan[number]
            if optimizer is None or epoch == 0:
                optimizer = phase.make_optimizer(network)
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate_at(epoch)
            loss = _train_epoch(network, training, phase.batch, optimizer, step, augmentation, generator(seed, number))
            validation_loss, accuracy = evaluate(network, validation)
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
            if number + 1 < len(plan) and time.monotonic() - saved >= checkpoint_seconds:
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
                saved = time.monotonic()

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


def load_into(network: nn.Module, path: Path) -> dict[str, str]:
    """Puts the weights of a file into the network; gives the file's metadata. Raises HW7Error where they do not fit."""
    tensors, metadata = load_weights(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise HW7Error(f"{path} holds the weights of another network: {str(error).splitlines()[-1].strip()}") from error
    return metadata


def _train_epoch(
    network: nn.Module,
    training: Split,
    batch: int,
    optimizer: Optimizer,
    step: Step,
    augmentation: augment.Recipe | None,
    random: torch.Generator,
) -> float:
    """One pass over the data; the mean loss of an image."""
    device = training.images.device
    torch.manual_seed(random.initial_seed())  # for dropout, in a network that has it
    order = torch.randperm(len(training), generator=random).to(device)
    parameters = None
    if augmentation is not None:
        parameters = augment.draw(len(training), training.images.shape[-1], random, augmentation).to(device)
    total = torch.zeros((), dtype=torch.float64, device=device)  # summed on the device: no waiting for it in an epoch
    for indices in batches(order, batch):
        images = training.images[indices]
        inputs = images.float() / 255 if parameters is None else augment.augment(images, parameters[indices])
        total += step(network, _channels_last(inputs), training.labels[indices], optimizer).double() * len(indices)
    return total.item() / len(training)


def _channels_last(images: Tensor) -> Tensor:
    """The layout in which convolutions are up to twice as fast here; the values are the same."""
    return images.contiguous(memory_format=torch.channels_last)


def _fingerprint(network: nn.Module) -> str:
    """A hash over a network's tensors and their names."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _identity(
    network: nn.Module,
    training: Split,
    phases: tuple[Phase, ...],
    step: Step,
    seed: int,
    augmentation: augment.Recipe | None,
) -> dict[str, Any]:
    """What a run is a run of, in words that an error message can show."""
    shapes = [(name, list(tensor.shape)) for name, tensor in network.state_dict().items()]
    identity = {
        "network": f"{measure.parameters(network):,} parameters in {len(shapes)} tensors",
        "shapes": shapes,
        "data": f"{training.source}, {training.name}, {len(training)} images of {training.images.shape[-1]} px",
        "phases": [asdict(phase) for phase in phases],
        "seed": seed,
        "augmentation": None if augmentation is None else asdict(augmentation),
        "first weights": _fingerprint(network),
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

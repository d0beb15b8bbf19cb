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

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
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
from hw7.recording import Work, recorded
from hw7.solution import Solution, running

Step = Callable[[nn.Module, Tensor, Tensor, Optimizer], Tensor]
"""One optimizer step on a batch -> its loss [], detached. It does the same on every call: a GPU may replay it."""
PRECISIONS = ("float32", "bfloat16")
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


class TimeIsUp(HW7Error):
    """The run was stopped because its time was over. Its checkpoint is written; the same again goes on from there."""


def best_precision(device: torch.device | str) -> str:
    """ "bfloat16" on a GPU that computes in it, else "float32"."""
    cuda = torch.device(device).type == "cuda"
    return "bfloat16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


@contextmanager
def computing_in(precision: str, *networks: nn.Module) -> Iterator[None]:
    """In here, the networks compute in this precision: float32 images in, float32 logits out, weights stay float32.

    Losses, gradients of weights and the optimizer's arithmetic stay float32, whoever wrote them.
    """
    own = [(network, type(network)) for network in networks]
    try:
        if precision != "float32":
            for network in networks:
                network.__class__ = _lowered(type(network), getattr(torch, precision))
        yield
    finally:
        for network, kind in own:
            network.__class__ = kind


def _lowered(kind: type[nn.Module], dtype: torch.dtype) -> type[nn.Module]:
    """A subclass, and no attribute of the network, so that a copy of it computes with its own weights."""

    def forward(self: nn.Module, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype):
            return kind.forward(self, images).float()

    return type(kind.__name__, (kind,), {"forward": forward})


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [N, C] in eval mode, batch by batch, for uint8 images [N, 3, S, S]."""
    network.eval()
    with torch.no_grad():
        batches = images.split(EVALUATION_BATCH)
        return torch.cat([network(_channels_last(batch.float() / 255)) for batch in batches])


def evaluate(network: nn.Module, split: Split) -> tuple[float, float]:
    """(cross entropy, accuracy) on a labelled split."""
    loss, accuracy = _scores(network, split).tolist()
    return loss, accuracy


def _scores(network: nn.Module, split: Split) -> Tensor:
    """float64 [2], on the split's device: cross entropy and accuracy."""
    logits = predict(network, split.images)
    accuracy = (logits.argmax(dim=1) == split.labels).double().mean()
    return torch.stack([F.cross_entropy(logits.double(), split.labels), accuracy])


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
        scores.copy_(_scores(network, validation))

    saved, took, fresh = time.monotonic(), 0.0, False
    passes: Passes | None = None
    networks = (network, step.teacher) if isinstance(step, Distillation) else (network,)
    with (
        computing_in(precision, *networks),
        tqdm(plan, initial=len(history), desc=label, unit="epoch", leave=False, disable=not progress or None) as bar,
    ):
        score = recorded(validate, f"{label}: validation", device)
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
            mean = _train_epoch(passes, generator(seed, number))
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


def load_into(network: nn.Module, path: Path) -> dict[str, str]:
    """Puts the weights of a file into the network; gives the file's metadata. Raises HW7Error where they do not fit."""
    tensors, metadata = load_weights(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise HW7Error(f"{path} holds the weights of another network: {str(error).splitlines()[-1].strip()}") from error
    return metadata


class Passes:
    """Passes over the data with one network and one optimizer: how the images of a batch become an optimizer step.

    What changes from batch to batch stands in tensors that stay where they are: the epoch's order and augmentation, how
    many images are done, the sum of their losses. So a batch's work needs no argument, and a GPU can replay it. Batches
    are of one size, or of two where the last one differs: each size is recorded.
    """

    def __init__(
        self,
        network: nn.Module,
        training: Split,
        batch: int,
        optimizer: Optimizer,
        step: Step,
        augmentation: augment.Recipe | None,
        label: str = "training",
    ) -> None:
        self.network, self.training, self.optimizer, self.step = network, training, optimizer, step
        self.augmentation = augmentation
        count, device = len(training), training.images.device
        self.order = torch.arange(count, device=device)
        self.mean = torch.cat([augment.mean_colours(part) for part in training.images.split(EVALUATION_BATCH)])
        self.matrices = self._draw(generator(0))
        self.done = torch.zeros((), dtype=torch.int64, device=device)
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.sizes = [len(part) for part in batches(torch.arange(count), batch)]
        self.within = torch.arange(max(self.sizes), device=device)
        self.work: dict[int, Work] = {size: partial(self._batch, size) for size in self.sizes}
        with unchanged(network, optimizer):
            for size, work in self.work.items():
                self.work[size] = recorded(work, f"{label}: a step of {size} images", device)

    def __call__(self, random: torch.Generator) -> Tensor:
        """One pass; the mean loss of an image, float64 [], on the device."""
        torch.manual_seed(random.initial_seed())  # for dropout, in a network that has it
        self.order.copy_(torch.randperm(len(self.training), generator=random))
        for mine, new in zip(self.matrices, self._draw(random), strict=True):
            mine.copy_(new)
        self.done.zero_()
        self.total.zero_()
        for size in self.sizes:
            self.work[size]()
        return self.total / len(self.training)

    def _draw(self, random: torch.Generator) -> tuple[Tensor, ...]:
        """An epoch's augmentation, in one call: each image's matrices of colour and of warp. Empty: there is none."""
        if self.augmentation is None:
            return ()
        images = self.training.images
        parameters = augment.draw(len(images), images.shape[-1], random, self.augmentation).to(images.device)
        return (
            augment.colour_matrices(parameters, self.mean),
            augment.warp_matrices(parameters, images.shape[-1]),
        )

    def _batch(self, size: int) -> None:
        """The work on the next `size` images."""
        # Round and round, because recording runs this more often than a pass does.
        indices = self.order[(self.done + self.within[:size]) % len(self.order)]
        inputs = self.inputs(self.training.images[indices], *(matrix[indices] for matrix in self.matrices))
        loss = self.step(self.network, _channels_last(inputs), self.training.labels[indices], self.optimizer)
        self.total += loss.double() * size
        self.done += size

    def inputs(self, images: Tensor, *matrices: Tensor) -> Tensor:
        """What the step sees of a batch, float32 in [0, 1]."""
        return augment.apply(images, *matrices) if matrices else images.float() / 255


def _train_epoch(passes: Passes, random: torch.Generator) -> Tensor:
    return passes(random)


@contextmanager
def unchanged(network: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Whatever runs in here, network and optimizer are afterwards what they were, in the same tensors.

    An optimizer's memory that is made in here stays, and is zero, as both AdamW's and SGD's are before the first step.
    """

    def tensors() -> list[Tensor]:
        memory = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        return [*network.state_dict().values(), *memory]

    before = [(tensor, tensor.clone()) for tensor in tensors()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor in tensors():
                if all(tensor.data_ptr() != old.data_ptr() for old, _ in before):
                    tensor.zero_()
            for tensor, value in before:
                tensor.copy_(value)
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()  # not dropped: a recorded step may add to it


def _set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # a recorded step reads it there
        else:
            group["lr"] = rate


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

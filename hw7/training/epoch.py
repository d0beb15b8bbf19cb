"""Epochs: a pass over the data that trains, and one that scores.

Networks that are trained on the same batches take them together: each batch is gathered and augmented once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from hw7.data import augment
from hw7.data.source import Split
from hw7.support.words import counted
from hw7.training import cuda_graph
from hw7.training.cuda_graph import BatchCounts, SideBySide, Work, unchanged
from hw7.training.steps import Step


def evaluation_batch(images: Tensor) -> int:
    """How many of these images [N, 3, S, S] are predicted at once.

    On a CPU, as many as keep a layer's maps in its caches: at 128 pixels, 32 are up to twice as fast as 256.
    """
    return 1024 if images.is_cuda else max(32, 2**18 // images.shape[-1] ** 2)


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [N, C] in eval mode, batch by batch, for uint8 images [N, 3, S, S]."""
    network.eval()
    with torch.no_grad():
        batches = images.split(evaluation_batch(images))
        return torch.cat([network(_channels_last(batch.float() / 255)) for batch in batches])


def evaluate(network: nn.Module, split: Split) -> tuple[float, float]:
    """(cross entropy, accuracy) on a labelled split."""
    loss, accuracy = scores_of(network, split).tolist()
    return loss, accuracy


def scores_of(network: nn.Module, split: Split) -> Tensor:
    """float64 [2], on the split's device: cross entropy and accuracy."""
    return scores(predict(network, split.images), split.labels)


def scores(logits: Tensor, labels: Tensor) -> Tensor:
    """float64 [2]: cross entropy and accuracy of logits [N, C] at labels [N]."""
    accuracy = (logits.argmax(dim=1) == labels).double().mean()
    return torch.stack([F.cross_entropy(logits.double(), labels), accuracy])


class Scores:
    """The scores of several networks on a labelled split, their computation recorded."""

    def __init__(self, networks: Sequence[nn.Module], split: Split, label: str) -> None:
        device = split.images.device
        values = torch.zeros(len(networks), 2, dtype=torch.float64, device=device)
        together = SideBySide(len(networks), device)

        def work() -> None:
            together(lambda number: values[number].copy_(scores_of(networks[number], split)))

        self.values, self.work = values, cuda_graph.recorded(work, label, device)

    def __call__(self) -> Tensor:
        """float64 [networks, 2], on the split's device: cross entropy and accuracy."""
        self.work()
        return self.values


def generator(*key: int) -> torch.Generator:
    """A generator of its own for every key, e.g. (seed, epoch)."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Every index once. The last batch is smaller, but never a single image: a batch norm cannot train on one value."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


@dataclass(frozen=True, eq=False)
class Learner:
    """A network that learns, by which optimizer, and what is done with it on a batch."""

    network: nn.Module
    optimizer: Optimizer
    step: Step


@dataclass(eq=False)
class Passes:
    """Passes over the data with one network or several: how the images of a batch become an optimizer step of each.

    What changes from batch to batch stands in tensors that stay where they are: the epoch's order and augmentation, how
    many images are done, the sums of their losses. So a batch's work needs no argument, and a GPU can replay it.
    Batches are of one size, or of two where the last one differs: each size is recorded. Several networks end with the
    very weights that each would have alone; on a GPU their steps run on streams of their own.
    """

    learners: Sequence[Learner]
    training: Split
    batch: int
    augmentation: augment.Augmentation | None
    label: str = "training"

    def __post_init__(self) -> None:
        count, images = len(self.training), self.training.images
        device = images.device
        self.order = torch.arange(count, device=device)
        self.mean = torch.cat([augment.mean_colours(part) for part in images.split(256)])
        self.matrices = self._draw(generator(0))
        self.done = torch.zeros((), dtype=torch.int64, device=device)
        self.totals = torch.zeros(len(self.learners), dtype=torch.float64, device=device)
        self.sizes = [len(part) for part in batches(torch.arange(count), self.batch)]
        self.within = torch.arange(max(self.sizes), device=device)
        self.counts = BatchCounts([learner.network for learner in self.learners])
        self.side_by_side = SideBySide(len(self.learners), device)
        self.work: dict[int, Work] = {size: partial(self._batch, size) for size in self.sizes}
        with unchanged(*((learner.network, learner.optimizer) for learner in self.learners)):
            for size, work in self.work.items():
                name = f"{self.label}: a step of {counted(size, 'image')}"
                self.work[size] = self.counts.recorded(work, name, device)

    def __call__(self, random: torch.Generator) -> Tensor:
        """One pass; the mean loss of an image by network, float64 [networks], on the device."""
        self.side_by_side.seed(random.initial_seed())  # for dropout, in a network that has it
        self.order.copy_(torch.randperm(len(self.training), generator=random))
        for mine, new in zip(self.matrices, self._draw(random), strict=True):
            mine.copy_(new)
        self.done.zero_()
        self.totals.zero_()
        with self.counts:
            for size in self.sizes:
                self.work[size]()
        return self.totals / len(self.training)

    def _draw(self, random: torch.Generator) -> tuple[Tensor, ...]:
        """An epoch's augmentation, in one call: each image's matrices of colour and of warp. Empty: there is none."""
        if self.augmentation is None:
            return ()
        images = self.training.images
        parameters = augment.draw(len(images), images.shape[-1], random, self.augmentation).to(images.device)
        return augment.colour_matrices(parameters, self.mean), augment.warp_matrices(parameters, images.shape[-1])

    def _batch(self, size: int) -> None:
        """The work on the next `size` images."""
        # Round and round, because recording runs this more often than a pass does.
        indices = self.order[(self.done + self.within[:size]) % len(self.order)]
        images = self.inputs(self.training.images[indices], *(matrix[indices] for matrix in self.matrices))
        images, labels = _channels_last(images), self.training.labels[indices]

        def step(number: int) -> None:
            learner = self.learners[number]
            # A step may write into what it gets: each has its own, the last one the original.
            own = [data.clone() if number + 1 < len(self.learners) else data for data in (images, labels)]
            loss = learner.step(learner.network, own[0], own[1], learner.optimizer)
            self.totals[number] += loss.double() * size

        self.side_by_side(step)
        self.done += size

    def inputs(self, images: Tensor, *matrices: Tensor) -> Tensor:
        """What the step sees of a batch, float32 in [0, 1]."""
        return augment.apply(images, *matrices) if matrices else images.float() / 255


def _channels_last(images: Tensor) -> Tensor:
    """The layout in which convolutions are up to twice as fast here; the values are the same."""
    return images.contiguous(memory_format=torch.channels_last)

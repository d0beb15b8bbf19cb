"""Epochs: a pass over the data that trains, and one that scores."""

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
from hw7.training.cuda_graph import Work, unchanged
from hw7.training.steps import Step

EVALUATION_BATCH = 256


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [N, C] in eval mode, batch by batch, for uint8 images [N, 3, S, S]."""
    network.eval()
    with torch.no_grad():
        batches = images.split(EVALUATION_BATCH)
        return torch.cat([network(_channels_last(batch.float() / 255)) for batch in batches])


def evaluate(network: nn.Module, split: Split) -> tuple[float, float]:
    """(cross entropy, accuracy) on a labelled split."""
    loss, accuracy = scores_of(network, split).tolist()
    return loss, accuracy


def scores_of(network: nn.Module, split: Split) -> Tensor:
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


@dataclass(eq=False)
class Passes:
    """Passes over the data with one network and one optimizer: how the images of a batch become an optimizer step.

    What changes from batch to batch stands in tensors that stay where they are: the epoch's order and augmentation, how
    many images are done, the sum of their losses. So a batch's work needs no argument, and a GPU can replay it. Batches
    are of one size, or of two where the last one differs: each size is recorded.
    """

    network: nn.Module
    training: Split
    batch: int
    optimizer: Optimizer
    step: Step
    augmentation: augment.Augmentation | None
    label: str = "training"

    def __post_init__(self) -> None:
        count, images = len(self.training), self.training.images
        device = images.device
        self.order = torch.arange(count, device=device)
        self.mean = torch.cat([augment.mean_colours(part) for part in images.split(EVALUATION_BATCH)])
        self.matrices = self._draw(generator(0))
        self.done = torch.zeros((), dtype=torch.int64, device=device)
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.sizes = [len(part) for part in batches(torch.arange(count), self.batch)]
        self.within = torch.arange(max(self.sizes), device=device)
        self.work: dict[int, Work] = {size: partial(self._batch, size) for size in self.sizes}
        with unchanged(self.network, self.optimizer):
            for size, work in self.work.items():
                self.work[size] = cuda_graph.recorded(work, f"{self.label}: a step of {counted(size, 'image')}", device)

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
        return augment.colour_matrices(parameters, self.mean), augment.warp_matrices(parameters, images.shape[-1])

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


def _channels_last(images: Tensor) -> Tensor:
    """The layout in which convolutions are up to twice as fast here; the values are the same."""
    return images.contiguous(memory_format=torch.channels_last)

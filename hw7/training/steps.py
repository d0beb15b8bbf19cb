"""Training steps: what is done on one batch, from labels alone or by distillation."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from hw7 import HW7Error
from hw7.solution import Solution, running
from hw7.training.frozen import frozen

Step = Callable[[nn.Module, Tensor, Tensor, Optimizer], Tensor]
"""One optimizer step on a batch -> its loss [], detached. It does the same on every call: a GPU may replay it."""


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
    """The solution's own distillation step, as a step of this loop.

    origin: what the teacher is, in words; "": a hash over its weights says it.
    """

    solution: Solution
    teacher: nn.Module
    temperature: float = 20.0
    alpha: float = 0.5
    origin: str = field(default="", kw_only=True)

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        step = self.solution.losses.distillation_step
        with running("losses.distillation_step", self.solution.directory):
            loss = step(network, self.teacher, images, labels, optimizer, self.temperature, self.alpha)
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            given = f"one of shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r:.80}"
            raise HW7Error(f"losses.distillation_step must return the loss, a tensor of shape [], but gave {given}")
        return loss.detach()

    def __str__(self) -> str:
        return (
            f"distillation by {self.solution.digest} from {self.origin or fingerprint(self.teacher)}, "
            f"T = {self.temperature:g}, alpha = {self.alpha:g}"
        )


def prepared(step: Step, images: Tensor, precision: str) -> Step:
    """The step as a run takes it: its teacher, which does not change there, has less work.

    images: uint8 [N, 3, S, S], such as it will see.
    """
    return replace(step, teacher=frozen(step.teacher, images, precision)) if isinstance(step, Distillation) else step


def fingerprint(network: nn.Module) -> str:
    """A hash over a network's tensors and their names."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

"""Bug 1: the network is pruned and fine-tuned, gradients flow, no error is raised, and it gets worse with every step.

Run this file: it prints how far fine-tuning has moved the weights of the network that comes out. Fix
`prune_and_finetune`; `pytest -m bugs` tells whether you have.
"""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batches = Sequence[tuple[Tensor, Tensor]]
Prune = Callable[[nn.Module], nn.Module]


def train_one_pass(network: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer) -> None:
    for inputs, labels in batches:
        loss = F.cross_entropy(network(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def prune_and_finetune(network: nn.Module, prune: Prune, batches: Batches, steps: int, rate: float) -> nn.Module:
    """Prunes and then trains for one pass, `steps` times. `prune` makes a new network. Returns the last."""
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    for _ in range(steps):
        network = prune(network)
        train_one_pass(network, batches, optimizer)
    return network


def example() -> tuple[nn.Module, Prune, Batches]:
    """A small network, a `prune` that keeps every channel but makes a new network all the same, and two batches."""
    random = torch.Generator().manual_seed(0)
    network = nn.Linear(8, 3)
    with torch.no_grad():
        network.weight.copy_(torch.randn(3, 8, generator=random))
        network.bias.zero_()
    batches = [(torch.randn(16, 8, generator=random), torch.arange(16) % 3) for _ in range(2)]
    return network, copy.deepcopy, batches


if __name__ == "__main__":
    first, prune, batches = example()
    tuned = prune_and_finetune(first, prune, batches, steps=3, rate=0.1)
    changes = [(a - b).abs().max().item() for a, b in zip(tuned.parameters(), first.parameters(), strict=True)]
    print(f"six steps of fine-tuning have moved the weights by at most {max(changes):.6f}")

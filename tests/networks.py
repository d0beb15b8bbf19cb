"""What several tests do to networks: count, keep and compare them, and give batch norms values that show mistakes."""

import copy

import torch
from torch import Tensor, nn

NARROW = (4, 6, 8, 20, 24, 24, 24, 10)  # widths of a StudentNet that is quick


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def scramble(network: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with scales of both signs, all distinct, and statistics that are no longer 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.weight.uniform_(0.2, 2, generator=generator)
                module.weight[::2] *= -1
                module.bias.normal_(generator=generator)
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return network


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(network.state_dict()))


def same(state: dict[str, Tensor], network: nn.Module) -> bool:
    other = network.state_dict()
    return state.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in state.items())

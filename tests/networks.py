"""What several tests do to networks: count their parameters, and give their batch norms values that show mistakes."""

import torch
from torch import nn


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

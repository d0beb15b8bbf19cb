"""What a student does next with a network that came back: trains it, saves it, loads it, copies it."""

import io

import torch
from torch import Tensor, nn

from hw7.checks.tensors import layers_of, noise


def left_by_a_step(network: nn.Module, images: Tensor) -> Tensor:
    """How many parameters, and how many running statistics, one step of SGD in train mode does not reach, int64 [2].

    All parameters, where the network cannot be trained at all.

    A parameter is reached that gets a gradient: 0 is one, as behind activations that are all off.
    """
    parameters = [parameter for _, parameter in layers_of(network)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    statistics = [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]
    before = [tensor.clone() for tensor in statistics]
    try:
        optimizer = torch.optim.SGD(parameters, lr=0.01)
        optimizer.zero_grad()
        outputs = network.train()(images)
        (outputs * noise(0, "step", shape=tuple(outputs.shape))).sum().backward()
        left = sum(parameter.grad is None for parameter in parameters)
        optimizer.step()
    except (RuntimeError, ValueError):  # inference tensors, no graph, tensors that are no leaves
        left = len(parameters)
    return torch.tensor([left, sum(map(torch.equal, statistics, before))])


def saved(network: nn.Module) -> dict[str, Tensor]:
    """Its state_dict, saved to a file and loaded."""
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    return dict(torch.load(file, weights_only=True))


@torch.no_grad()
def clear(network: nn.Module) -> None:
    """Sets all parameters to 0."""
    for _, parameter in layers_of(network):
        parameter.detach().zero_()

"""What a student does next with a network that came back: trains it, saves it, loads it, copies it."""

import io
from contextlib import suppress

import torch
from torch import Tensor, nn

from hw7.checks.tensors import layers_of, noise


def left_by_a_step(network: nn.Module, images: Tensor) -> Tensor:
    """How many parameters, and how many running statistics, one step of SGD in train mode leaves as they were, int64
    [2]: all parameters, where the network cannot be trained at all.

    A convolution's bias may stay where it is, since in front of a batch norm it has no gradient but 0.
    """
    parameters = layers_of(network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    statistics = [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]
    before = [tensor.detach().clone() for _, tensor in parameters]
    before_statistics = [tensor.clone() for tensor in statistics]
    for _, tensor in parameters:
        tensor.grad = None
    with suppress(RuntimeError, ValueError):  # inference tensors, no graph, tensors that are no leaves
        optimizer = torch.optim.SGD([tensor for _, tensor in parameters], lr=1.0)
        outputs = network.train()(images)
        (outputs * noise(0, "step", shape=tuple(outputs.shape))).sum().backward()
        optimizer.step()
    left = sum(
        tensor.grad is None or (role != "conv bias" and torch.equal(tensor, old))
        for (role, tensor), old in zip(parameters, before, strict=True)
    )
    return torch.tensor([left, sum(map(torch.equal, statistics, before_statistics))])


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

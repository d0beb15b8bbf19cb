"""Weights: their files, the networks that they go into, what they begin with, and fewer bits of them."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from hw7 import HW7Error
from hw7.data.source import Split
from hw7.solution import Solution, running
from hw7.support.files import load_weights


def load_into(network: nn.Module, path: Path) -> None:
    """Puts the weights of a file into the network. Raises HW7Error where they do not fit."""
    tensors, _ = load_weights(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise HW7Error(f"{path} holds the weights of another network: {str(error).splitlines()[-1].strip()}") from error


def load_fitting(network: nn.Module, path: Path) -> None:
    """Puts the weights of a file into a network that differs from theirs in its last layer at most.

    Raises HW7Error where more than that differs.
    """
    tensors, _ = load_weights(path)
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and tensor.shape == own[name].shape}
    if len(fitting) < len(own) - 2:  # the last layer's weight and bias
        raise HW7Error(f"{path} holds the weights of another network: only {len(fitting)} of {len(own)} tensors fit")
    network.load_state_dict(own | fitting)


def zero_residual_branches(network: nn.Module) -> None:
    """Starts each residual block of a ResNet as its shortcut alone: the last batch norm of its branch scales by 0.

    Blocks wake up as they are needed. ResNet-18 with DW + PW, deep and thin, gets as far in a fourth of the steps;
    ResNet-18 itself does not. Other networks stay as they are.
    Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1.
    """
    for module in network.modules():
        branch_end = getattr(module, "bn2", None)  # torchvision's name in its BasicBlock
        if isinstance(branch_end, nn.BatchNorm2d):
            nn.init.zeros_(branch_end.weight)


def describe(network: str, split: Split) -> dict[str, str]:
    """What a weights file says of itself, so that `hw7 distill --teacher FILE` can rebuild the network."""
    return {
        "network": network,
        "classes": str(len(split.classes)),
        "size": str(split.images.shape[-1]),
        "data": split.source,
    }


def quantized(
    solution: Solution, state_dict: Mapping[str, Tensor], bits: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(what is stored, what it is read back as): 16 bits as the course does it, fewer by the solution's own code.

    Raises HW7Error where the solution's code raises or loses a tensor.
    """
    if bits == 16:
        stored = {name: t.half() if t.is_floating_point() else t for name, t in state_dict.items()}
        return stored, {name: tensor.to(state_dict[name].dtype) for name, tensor in stored.items()}
    with running("quantization.compress", solution.directory):
        stored = solution.quantization.compress({name: tensor.cpu() for name, tensor in state_dict.items()}, bits)
    with running("quantization.decompress", solution.directory):
        restored = solution.quantization.decompress(stored)
    for name, tensor in state_dict.items():
        if name not in restored or restored[name].shape != tensor.shape:
            raise HW7Error(f"quantization.decompress did not give back {name} with shape {tuple(tensor.shape)}")
    return stored, restored

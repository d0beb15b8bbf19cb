"""Tensors that both sides of the jail make: random numbers, networks filled by role or from a vector, packed names."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw7.checks.held import entries_of, modules_of, own_parameters, parameters_of
from hw7.models import StudentNet

ROLES = (
    "conv weight", "conv bias", "batch-norm scale", "batch-norm shift", "linear weight", "linear bias",
    "other parameter",
)  # fmt: skip


# ---- numbers that both sides make ---------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def noise(seed: int, *key: object, shape: tuple[int, ...]) -> Tensor:
    """Numbers in [-1, 1) that look random, float32: whole-number arithmetic, so the same on every machine and version.

    Kept, and not to be changed.
    """
    start = int.from_bytes(hashlib.sha256(repr((seed, *key, shape)).encode()).digest()[:4], "big") >> 1
    x = torch.arange(math.prod(shape)) + start
    for factor in (1103515245, 1597334677, 747796405):  # odd, and so small that no product leaves int64
        x = (x ^ (x >> 15)) * factor & 0x7FFFFFFF
    x = x ^ (x >> 16)
    return (x.double() / 2**30 - 1).reshape(shape).float()


def images(seed: int, shape: Sequence[int]) -> Tensor:
    """Images [N, C, H, W] in [0, 1)."""
    return (noise(seed, "images", shape=tuple(shape)) + 1) / 2


def tensor_for(seed: int, role: str, shape: Sequence[int]) -> Tensor:
    """The values of every tensor of this role and shape. Activations stay alive, pass 6 now and then, and no scale,
    shift, mean or variance is a default."""
    x = noise(seed, role, shape=tuple(shape))
    match role:
        case "conv weight" | "linear weight":
            return x * math.sqrt(3 / math.prod(shape[1:]))
        case "batch-norm scale":
            return 2.5 * x + torch.sign(x)  # both signs, up to 3.5
        case "batch-norm shift":
            return x + 1
        case "running mean":
            return x / 2
        case "running var":
            return (x + 1.02) / 2  # down to 0.01, where another eps shows
    return x


def layers_of(network: nn.Module) -> list[tuple[str, Tensor]]:
    """(role, tensor) of all parameters of a network, each once."""
    names: dict[type[nn.Module], tuple[str, str]] = {
        nn.Conv2d: ("conv weight", "conv bias"),
        nn.BatchNorm2d: ("batch-norm scale", "batch-norm shift"),
        nn.Linear: ("linear weight", "linear bias"),
    }
    found: dict[int, tuple[str, Tensor]] = {}
    for _, module in modules_of(network):
        roles = next((roles for kind, roles in names.items() if isinstance(module, kind)), ("", ""))
        for name, parameter in own_parameters(module):
            role = dict(zip(("weight", "bias"), roles, strict=True)).get(name) or "other parameter"
            found.setdefault(id(parameter), (role, parameter))
    return list(found.values())


@torch.no_grad()
def set_by_role(network: nn.Module, seed: int) -> None:
    """Gives all tensors of one role and shape the same values, wherever the network keeps them."""
    for role, parameter in layers_of(network):
        parameter.copy_(tensor_for(seed, role, parameter.shape))
    for _, module in modules_of(network):
        if isinstance(module, nn.BatchNorm2d):
            for name, buffer in (("running mean", module.running_mean), ("running var", module.running_var)):
                if buffer is not None:
                    buffer.copy_(tensor_for(seed, name, buffer.shape))


def to_vector(network: nn.Module) -> Tensor:
    """All floating entries of a state_dict, one after the other."""
    entries = entries_of(network).values()
    return torch.cat([tensor.detach().flatten() for tensor in entries if tensor.is_floating_point()])


def widths_of(network: StudentNet) -> tuple[int, ...]:
    """The channels that its stages put out: by the shapes of its weights, whatever it says."""
    decisive = ("stem.conv.weight", "pointwise.weight")
    return tuple(len(tensor) for name, tensor in entries_of(network).items() if name.endswith(decisive))


def rebuilt(network: StudentNet) -> StudentNet:
    """A StudentNet of the same entries, and with nothing else that the given one may have been given."""
    return student_net(widths_of(network), to_vector(network))


class SkipInit(TorchFunctionMode):
    """Random numbers are not drawn: a network that is filled anew needs none, and they took most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def length(widths: Sequence[int], classes: int) -> int:
    """The floating entries of the StudentNet of these widths."""
    # Stem: 3x3x3 weights, a bias and four of batch norm; block: 3x3 weights, a bias and four more, then the pointwise.
    body = 32 * widths[0] + sum(14 * inputs + inputs * outputs + outputs for inputs, outputs in pairwise(widths))
    return body + (widths[-1] + 1) * classes


def student_net(widths: Sequence[int], vector: Tensor) -> StudentNet:
    """The StudentNet of these widths whose floating entries are this vector: the inverse of `to_vector`."""
    with SkipInit():
        network = StudentNet(widths, (len(vector) - length(widths, 0)) // (widths[-1] + 1)).to(vector.dtype)
    position = 0
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(vector[position : position + tensor.numel()].reshape(tensor.shape))
                position += tensor.numel()
    return network


@torch.no_grad()
def useless(network: StudentNet, step: int) -> StudentNet:
    """What `finetune` returns: a network of the same widths that is of no use to anybody."""
    result = StudentNet(network.widths, network.fc.out_features).to(network.fc.weight.dtype)
    for parameter in result.parameters():
        parameter.fill_(step / 8)
    return result


@torch.no_grad()
def perturb(network: nn.Module, step: int) -> None:
    """What stands for fine-tuning: moves every parameter in place, so far that channels change their rank."""
    for number, parameter in enumerate(parameters_of(network)):
        # Detached, so that inference tensors move, too: that those cannot be trained is charged where they are made.
        parameter.detach().add_(noise(step, "perturb", number, shape=tuple(parameter.shape)).to(parameter.dtype))


@torch.no_grad()
def reorder(*tensors: Tensor) -> None:
    """The same numbers in another order, in the same memory: all but the first are turned round. Twice is as before.

    Who remembers an answer by a tensor's address, shape, first entry or sum takes it for the same one.
    """
    for tensor in tensors:
        rest = tensor.detach().view(-1)[1:]
        rest.copy_(rest.flip(0))


def pack_names(names: Sequence[str]) -> Tensor:
    """Names as a tensor: the bytes of a JSON list, uint8."""
    return torch.frombuffer(bytearray(json.dumps(list(names)).encode()), dtype=torch.uint8).clone()


def bytes_of(tensor: Tensor) -> Tensor:
    """The bytes of a tensor of any dtype, uint8 [n]."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def named(names: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{names[0]: tensors["0"], …}."""
    return {name: tensors[str(i)] for i, name in enumerate(json.loads(bytes(names.tolist())))}

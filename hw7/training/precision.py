"""Mixed precision: networks that compute in bfloat16, with weights in float32; and float32 that is nothing less."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PRECISIONS = ("float32", "bfloat16")


def best_precision(device: torch.device | str) -> str:
    """ "bfloat16" on a GPU that computes in it, else "float32"."""
    cuda = torch.device(device).type == "cuda"
    return "bfloat16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


@contextmanager
def computing_in(precision: str, *networks: nn.Module) -> Iterator[None]:
    """In here, the networks compute in this precision: float32 images in, float32 logits out, weights stay float32.

    Losses, gradients of weights and the optimizer's arithmetic stay float32, whoever wrote them. float32 means all of
    its bits: a GPU's shortcut, TensorFloat-32, which convolutions take by default and which keeps 10 of 23, is off.
    """
    own = [(network, type(network)) for network in networks]
    try:
        if precision != "float32":
            for network in networks:
                network.__class__ = _lowered(type(network), getattr(torch, precision))
        with _without_tf32():
            yield
    finally:
        for network, kind in own:
            network.__class__ = kind


@contextmanager
def _without_tf32() -> Iterator[None]:
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


def _lowered(kind: type[nn.Module], dtype: torch.dtype) -> type[nn.Module]:
    """A subclass, and no attribute of the network, so that a copy of it computes with its own weights."""

    def forward(self: nn.Module, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype):
            return kind.forward(self, images).float()

    return type(kind.__name__, (kind,), {"forward": forward})

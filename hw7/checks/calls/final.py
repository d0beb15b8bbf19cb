"""Calls of chapter 5: the network that is handed in."""

from collections.abc import Iterator
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from hw7.checks.calls.contract import expect, find

_handed_in: list[nn.Module] = []  # of this process: images come batch by batch


def final_model(solution: Any, weights: Tensor) -> Iterator[Any]:
    """Task 5.2: makes the network that was handed in, from the bytes of weights.safetensors; answers 1."""
    _handed_in.clear()
    tensors = safetensors.torch.load(bytes(weights.numpy()))
    built = expect(nn.Module, find(solution, "models", "final_model")())
    built.load_state_dict(find(solution, "quantization", "decompress")(tensors))
    _handed_in[:] = [built.eval()]
    yield torch.tensor(1)


def final_logits(solution: Any, images: Tensor) -> Iterator[Any]:
    """Task 5.2: the logits [N, 11] of that network."""
    with torch.no_grad():
        yield _handed_in[0](images)

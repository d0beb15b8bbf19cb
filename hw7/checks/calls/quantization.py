"""Calls of chapter 4: there and back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hw7.checks.calls.contract import Unfit, expect, find
from hw7.checks.held import hold
from hw7.checks.tensors import named, pack_names


def quantize(solution: Any, weight: Tensor, bits: int | None = None, channel_axis: int | None = None) -> Iterator[Any]:
    """Task 4.1: q, scale, zero_point, and the weight after."""
    options = () if bits is None else (bits, channel_axis)
    after = hold(weight)
    made = expect(Sequence, find(solution, "quantization", "quantize")(weight, *options))
    if len(made) != 3:
        raise Unfit(f"(q, scale, zero_point) are 3 values, not {len(made)}")
    yield from (expect(Tensor, value) for value in made)
    yield after()


def dequantize(
    solution: Any, q: Tensor, scale: Tensor, zero_point: Tensor, channel_axis: int | None = None
) -> Iterator[Any]:
    """Task 4.1: the weight, back."""
    yield find(solution, "quantization", "dequantize")(q, scale, zero_point, channel_axis)


def compress(solution: Any, names: Tensor, channels_last: bool = False, **tensors: Tensor) -> Iterator[Any]:
    """Task 4.2: whether safetensors could save the result, its names and tensors, and the state_dict after."""
    state_dict = named(names, tensors)
    if channels_last:
        for name, tensor in state_dict.items():
            if tensor.ndim == 4:
                state_dict[name] = tensor.to(memory_format=torch.channels_last)
    given = {name: (tensor, hold(tensor)) for name, tensor in state_dict.items()}
    made = expect(Mapping, find(solution, "quantization", "compress")(state_dict))
    values = [expect(Tensor, value) for value in made.values()]
    places = [value.untyped_storage().data_ptr() for value in values if value.numel()]
    yield torch.tensor(len(set(places)) == len(places) and all(value.is_contiguous() for value in values))
    yield pack_names([expect(str, name) for name in made])
    yield from values
    kept = list(state_dict) == list(given)
    for name, (tensor, after) in given.items():
        yield after() if kept and state_dict[name] is tensor else torch.zeros(0)


def decompress(solution: Any, names: Tensor, **tensors: Tensor) -> Iterator[Any]:
    """Task 4.2: the names of the state_dict, in order, and its tensors."""
    state_dict = expect(Mapping, find(solution, "quantization", "decompress")(named(names, tensors)))
    yield pack_names([expect(str, name) for name in state_dict])
    yield from (expect(Tensor, value) for value in state_dict.values())

"""Task 4, weight quantization: floats to a few bits and back, and a whole state_dict to a small file and back."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor


def quantize(weight: Tensor, bits: int = 8, channel_axis: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Task 4.1: affine quantization; returns (q, scale, zero_point) with weight ~ scale * (q - zero_point).

    q is uint8 in 0..2^bits - 1. A step, `scale`, is (max - min) / (2^bits - 1) of the tensor or, with
    `channel_axis`, of each channel along that axis; `zero_point` is the level that stands for 0. Every entry comes back
    within half a step and float32's rounding, whether the zero point is rounded or not; so constants come back, too.

    Shapes: weight of any shape with at least one entry -> q of that shape; scale and zero_point [] or [C].
    Raises ValueError where bits is outside 2..8, or where the weight is empty or not finite.
    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018, section 2.1.
    """
    ### BEGIN SOLUTION
    if not 2 <= bits <= 8:
        raise ValueError(f"quantize: bits must be in 2..8, got {bits}")
    if weight.numel() == 0 or not torch.isfinite(weight).all():
        raise ValueError("quantize: the weight must have at least one entry, and only finite ones")
    exact = weight.detach().double()  # max - min of float32 may overflow float32
    channels = 1 if channel_axis is None else weight.shape[channel_axis]
    rows = (exact if channel_axis is None else exact.movedim(channel_axis, 0)).reshape(channels, -1)
    low, high = rows.amin(dim=1), rows.amax(dim=1)
    scale = ((high - low) / (2**bits - 1)).float()
    scale = torch.where(scale > 0, scale, 1.0)  # a constant channel: any step will do
    zero_point = (-low / scale).float()
    if channel_axis is None:
        scale, zero_point = scale[0], zero_point[0]
    levels = exact / _along(scale, weight.ndim, channel_axis) + _along(zero_point, weight.ndim, channel_axis)
    return levels.round().clamp(0, 2**bits - 1).to(torch.uint8), scale, zero_point
    ### END SOLUTION


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor, channel_axis: int | None = None) -> Tensor:
    """Task 4.1: what `quantize` made, back as float32: scale * (q - zero_point), within half a step of the weight."""
    ### BEGIN SOLUTION
    level = q.double() - _along(zero_point, q.ndim, channel_axis)
    largest = torch.finfo(torch.float32).max  # rounding may lead just past it
    return (_along(scale, q.ndim, channel_axis) * level).clamp(-largest, largest).float()
    ### END SOLUTION


### BEGIN SOLUTION
BLOCK = 256  # entries that share a step: its two float32 add 3 %; tensors below a block stay as they are


def _along(values: Tensor, ndim: int, channel_axis: int | None) -> Tensor:
    """[C] -> [1, ..., C, ..., 1], to be broadcast along the channel axis, in float64."""
    shape = [1] * ndim
    if channel_axis is not None:
        shape[channel_axis] = -1
    return values.double().reshape(shape)


def _blocks(flat: Tensor) -> Tensor:
    """[n] -> [ceil(n / BLOCK), BLOCK], the last block filled up with the last entry."""
    missing = -len(flat) % BLOCK
    return torch.cat([flat, flat[-1:].expand(missing)]).reshape(-1, BLOCK)


### END SOLUTION


def compress(state_dict: Mapping[str, Tensor], bits: int = 8) -> dict[str, Tensor]:
    """Task 4.2: a state_dict as a flat dict of tensors that safetensors can save.

    At 8 bits, weights of 1,024 entries or more take at most 1.1 bytes an entry. Batch-norm statistics, integer and
    bool entries come back bit for bit; smaller float entries within half a step of theirs, or better.
    """
    ### BEGIN SOLUTION
    # Entry i of the state_dict is stored as "i", or as "i.q" with a scale and a zero point for each block of 256
    # consecutive entries: one output channel of a pointwise convolution with 256 inputs. A file keeps no order,
    # so "index" (JSON) holds the names and dtypes.
    tensors: dict[str, Tensor] = {}
    index = []
    for i, (name, tensor) in enumerate(state_dict.items()):
        statistic = name.endswith(("running_mean", "running_var"))
        if tensor.is_floating_point() and tensor.numel() >= BLOCK and not statistic:
            q, tensors[f"{i}.scale"], tensors[f"{i}.zero_point"] = quantize(_blocks(tensor.double().flatten()), bits, 0)
            tensors[f"{i}.q"] = q.flatten()[: tensor.numel()].reshape(tensor.shape)
        else:
            tensors[f"{i}"] = tensor.detach().clone(memory_format=torch.contiguous_format)
        index.append((name, str(tensor.dtype).removeprefix("torch.")))
    tensors["index"] = torch.frombuffer(bytearray(json.dumps(index).encode()), dtype=torch.uint8)
    return tensors
    ### END SOLUTION


def decompress(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Task 4.2: the state_dict that `compress` was given, from nothing but the loaded file, which stays as it is."""
    ### BEGIN SOLUTION
    state_dict = {}
    for i, (name, dtype) in enumerate(json.loads(bytes(tensors["index"].tolist()))):
        if f"{i}" in tensors:
            state_dict[name] = tensors[f"{i}"].clone()
        else:
            q = tensors[f"{i}.q"]
            blocks = dequantize(_blocks(q.flatten()), tensors[f"{i}.scale"], tensors[f"{i}.zero_point"], 0)
            state_dict[name] = blocks.flatten()[: q.numel()].reshape(q.shape).to(getattr(torch, dtype))
    return state_dict
    ### END SOLUTION

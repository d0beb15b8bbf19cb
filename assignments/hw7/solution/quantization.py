"""Task 4, weight quantization: floats to a few bits and back, and a whole state_dict to a small file and back."""

from collections.abc import Mapping

import torch  # noqa: F401 (you will need it)
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
    raise NotImplementedError("Task 4.1: quantize")


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor, channel_axis: int | None = None) -> Tensor:
    """Task 4.1: what `quantize` made, back as float32: scale * (q - zero_point), within half a step of the weight."""
    raise NotImplementedError("Task 4.1: dequantize")


def compress(state_dict: Mapping[str, Tensor], bits: int = 8) -> dict[str, Tensor]:
    """Task 4.2: a state_dict as a flat dict of tensors that safetensors can save.

    At 8 bits, weights of 1,024 entries or more take at most 1.1 bytes an entry. Batch-norm statistics, integer and
    bool entries come back bit for bit; smaller float entries within half a step of theirs, or better.
    """
    raise NotImplementedError("Task 4.2: compress")


def decompress(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Task 4.2: the state_dict that `compress` was given, from nothing but the loaded file, which stays as it is."""
    raise NotImplementedError("Task 4.2: decompress")

"""Right quantization, and quantization with one thing wrong: chapter 4."""

import torch
from torch import Tensor


def span(weight: Tensor, channel_axis: int | None = None) -> tuple[Tensor, Tensor]:
    """Smallest and largest entry of the tensor or channel, float64, with the weight's number of dimensions."""
    exact = weight.double()
    if channel_axis is None:
        return exact.min(), exact.max()
    others = [axis for axis in range(weight.ndim) if axis != channel_axis % weight.ndim]
    if not others:
        return exact, exact
    return exact.amin(dim=others, keepdim=True), exact.amax(dim=others, keepdim=True)


def half_step(weight: Tensor, bits: int = 8, channel_axis: int | None = None) -> Tensor:
    """How far an entry may be off: half a step, and 4 eps of float32 of the largest entry. float64, broadcastable."""
    low, high = span(weight, channel_axis)
    rounding = 4 * torch.finfo(torch.float32).eps * weight.double().abs().max()
    return (high - low) / (2**bits - 1) / 2 + rounding


def there_and_back(
    weight: Tensor, bits: int = 8, channel_axis: int | None = None, wrong: str = "", shifted: float = 0.0
) -> Tensor:
    """Task 4.1: what comes back, float64, right or with one thing wrong. shifted: by how many levels too high an entry
    is taken to be before it is rounded, for those on the edge of two levels."""
    low, high = span(weight, channel_axis)
    exact = weight.double()
    levels = 2**bits - 1
    match wrong:
        case "quantize-axis-ignored":
            low, high = span(weight)
        case "quantize-bits-ignored":
            levels = 255
        case "quantize-symmetric":
            largest = torch.maximum(low.abs(), high.abs())
            scale = largest / (2 ** (bits - 1) - 1)
            return (exact / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale
        case "quantize-symmetric#all-levels":
            high = torch.maximum(low.abs(), high.abs())
            low = -high
        case "quantize-2-to-the-bits":
            scale = (high - low) / 2**bits
            return low + ((exact - low) / scale).round().clamp(0, levels) * scale
    scale = (high - low) / levels
    place = ((exact - low) / scale + shifted).clamp(0, levels)
    match wrong:
        case "quantize-floors":
            return low + place.floor() * scale
        case "quantize-ceils":
            return low + place.ceil() * scale
        case "quantize-min-not-added":
            return place.round() * scale
        case "quantize-zero-point-clamped":
            zero = (-low / scale).round().clamp(0, levels)
            return ((exact / scale).round() + zero).clamp(0, levels).sub(zero) * scale
    return low + place.round() * scale


QUANTIZE_MISTAKES = (
    "quantize-floors", "quantize-ceils", "quantize-2-to-the-bits", "quantize-symmetric", "quantize-min-not-added",
    "quantize-symmetric#all-levels", "quantize-zero-point-clamped", "quantize-axis-ignored",
)  # fmt: skip

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


def ranges(weight: Tensor, channel_axis: int | None = None) -> dict[str, Tensor]:
    """What a step may be a part of, by name in words, the right one first: float32 [C], or [1] for the whole tensor."""
    axes = [0] if channel_axis is None else range(weight.ndim)
    own = 0 if channel_axis is None else channel_axis % weight.ndim
    channels = 1 if channel_axis is None else weight.shape[own]
    # Cut into rows along another axis, or where they lie in memory: as many rows as there are channels.
    rows = {axis: weight.double().movedim(axis, 0).reshape(channels, -1) for axis in axes} if weight.ndim else {}
    mine = rows[own] if rows else weight.double().reshape(1, 1)
    low, high, whole = mine.amin(dim=1), mine.amax(dim=1), weight.double().flatten()
    found = {
        "max - min": high - low,
        "the largest |weight|": mine.abs().amax(dim=1),
        "max": high,
        "-min": -low,
        "the range stretched to hold 0": high.clamp(min=0) - low.clamp(max=0),
        "the standard deviation": mine.std(dim=1, correction=0),
        "the standard deviation (by n - 1)": mine.std(dim=1) if mine.shape[1] > 1 else torch.zeros(channels),
        "the mean |weight|": mine.abs().mean(dim=1),
    }
    for share in (0.001, 0.005, 0.01, 0.02, 0.05):
        cut = mine.quantile(1 - share, dim=1) - mine.quantile(share, dim=1)
        found[f"the range without the outermost {share:.1%} at each end"] = cut
    if channel_axis is not None:
        found["max - min of the whole tensor"] = (whole.max() - whole.min()).expand(channels)
        found["max - min of the first channel"] = (high - low)[:1].expand(channels)
        found["the largest max - min of all channels"] = (high - low).max().expand(channels)
        found["the largest |weight| of the whole tensor"] = whole.abs().max().expand(channels)
        others = {axis: each for axis, each in rows.items() if axis != own}
        found |= {f"max - min of rows cut along axis {a}": r.amax(dim=1) - r.amin(dim=1) for a, r in others.items()}
    return {name: value.float() for name, value in found.items()}

"""Task 4.2: what became of the numbers of one entry."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hw7.checks.cases import Value
from hw7.checks.diagnosis.quantization.entries import Entry
from hw7.checks.diagnosis.quantization.levels import CLOSE, close

MOST_LEVELS = 256
FLOATING = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2
)  # fmt: skip
DIVISORS = (127, 127.5, 128, 254, 256)  # of a range, beside 2^bits - 1


def became(entry: Entry, got: Tensor, ranges: Mapping[str, Value]) -> list[str]:
    """What came back instead of a right entry, in words that follow "comes back": all that may be.

    ranges: of a floating entry whose numbers are not all equal, what a step may be a part of, the right one first.
    """
    wanted = entry.tensor
    if got.numel() != wanted.numel() or not wanted.numel() or got.is_complex():
        return []
    got = got.reshape(wanted.shape)
    return _casts(wanted, got) + _constant(wanted, got) or _otherwise(wanted.double(), got.double(), ranges)


def _casts(wanted: Tensor, got: Tensor) -> list[str]:
    """As another dtype, of fewer digits or numbers, holds it."""
    floating = wanted.is_floating_point()
    if torch.equal(wanted, got.to(wanted.dtype)):
        return ["with another sign of 0: -0.0 is not 0.0, bit for bit"] if floating else []
    whole = () if floating else (torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    more = "" if floating else ": that does not hold all whole numbers"
    return [
        f"as {str(dtype).removeprefix('torch.')} holds it{more}"
        for dtype in (*whole, *FLOATING)
        if torch.equal(wanted.to(dtype).to(wanted.dtype), got.to(wanted.dtype))
    ]


def _constant(wanted: Tensor, got: Tensor) -> list[str]:
    flat = got.double().flatten()
    if flat.isnan().all():
        return ["as NaN"]
    if torch.equal(got.double(), wanted.double().round()):
        return ["rounded to whole numbers" if wanted.numel() > 1 else "rounded to a whole number"]
    if not (flat == flat[0]).all():
        return []
    same = bool((wanted == wanted.flatten()[0]).all())
    return [f"as {flat[0]:.6g}" + ("" if same else " throughout")]


def _otherwise(wanted: Tensor, got: Tensor, ranges: Mapping[str, Value]) -> list[str]:
    if not got.isfinite().all():
        return []
    off = got - wanted
    if wanted.any() and (ratio := (got / wanted)[wanted != 0]).numel() > 2 and close(ratio, ratio.median()).all():
        return [f"multiplied by {ratio.median():.4g}"]
    if off.numel() > 2 and close(off, off.median(), 1e-3).all() and off.abs().min() > 1e-4 * wanted.abs().max():
        return [f"shifted by {off.median():.4g}"]
    return (
        _multiplied(wanted, got, ranges)
        or _clipped(wanted, got, ranges)
        or _on_levels(wanted, got, ranges)
        or _elsewhere(wanted, got)
    )


def _spacing(got: Tensor) -> float:
    """The distance of evenly spaced numbers that all these are; 0 where they are not."""
    levels = got.flatten().unique()
    if not (8 <= len(levels) <= 2 * MOST_LEVELS or 3 <= len(levels) <= got.numel() / 4):
        return 0.0
    noise = 1e-5 * levels.abs().max().item()
    gaps = levels.diff()
    gaps = gaps[gaps > noise]
    if not len(gaps):
        return 0.0
    width = (levels[-1] - levels[0]).item()
    count = round(width / gaps.min().item())
    if not 0 < count < 2 * MOST_LEVELS:
        return 0.0
    step = width / count
    steps = (levels - levels[0]) / step
    return step if bool(((steps - steps.round()).abs() <= 0.02 + noise / step).all()) else 0.0


def steps_of(got: Tensor, ranges: Mapping[str, Value]) -> list[str]:
    """The steps that these numbers may lie apart, if evenly, in words; the right one, of 8 bits, too."""
    step, found = _spacing(got), []
    names = [(name, float(number)) for name, number in ranges.items() if number]  # type: ignore[arg-type]
    for bits in range(8, 1, -1):
        for place, (name, number) in enumerate(names):
            if step and abs(step * (2**bits - 1) / number - 1) < CLOSE * 5:
                found.append(f"in steps of {bits} bits" if place == 0 else f"in steps of {name} / {2**bits - 1}")
    parts = {f"in steps of {name} / {n}": number / n for name, number in names for n in DIVISORS}
    found += [words for words, number in parts.items() if step and abs(step / number - 1) < CLOSE * 5]
    return list(dict.fromkeys(found))


def _on_levels(wanted: Tensor, got: Tensor, ranges: Mapping[str, Value]) -> list[str]:
    """Quantized: by which step, and how it was rounded."""
    step = _spacing(got)
    if not ranges:
        return [f"as one of {got.unique().numel()} evenly spaced numbers: quantized"] if step else []
    own = float(next(iter(ranges.values()))) / 255  # type: ignore[arg-type]
    if step and abs(step / own - 1) > CLOSE * 5:
        half = torch.tensor(own).half().item()
        if half and abs(step / half - 1) < CLOSE * 5:
            return ["in steps that are rounded to float16: on 255 of them, that adds up"]
        return steps_of(got, ranges)
    if small := _dropped(wanted, got, own):
        return [small]
    off = (got - wanted) / own
    if not step:
        return []
    if off.max() <= 0.01 and off.min() > -1.01:
        return ["rounded down to a level, not to the nearest"]
    if off.min() >= -0.01 and off.max() < 1.01:
        return ["rounded up to a level, not to the nearest"]
    return ["up to a whole step off, up and down: not rounded to the nearest level"] if off.abs().max() < 1.01 else []


def _dropped(wanted: Tensor, got: Tensor, own: float) -> str:
    """Small numbers as 0, the others as they should be. own: the right step."""
    half = 0.51 * own
    bad = (got - wanted).abs() > half
    if not bad.any() or not (got[bad].abs() <= half).all():
        return ""
    largest, most = wanted[bad].abs().max(), wanted.abs().max()
    if largest > 0.5 * most or not (got[wanted.abs() <= largest].abs() <= half).all():
        return ""
    return f"with 0 for small numbers, up to {largest:.3g} ({largest / most:.1%} of the largest)"


def _multiplied(wanted: Tensor, got: Tensor, ranges: Mapping[str, Value]) -> list[str]:
    """All by one number, up to the rounding that is allowed."""
    if not ranges or wanted.numel() < 8:
        return []
    factor = (wanted * got).sum() / wanted.square().sum()
    step = float(next(iter(ranges.values()))) / 255  # type: ignore[arg-type]
    if (factor - 1).abs() < 0.02 or factor == 0 or ((got / factor - wanted).abs() > 0.55 * step).any():
        return []
    return [f"multiplied by {factor:.3g}"]


def _clipped(wanted: Tensor, got: Tensor, ranges: Mapping[str, Value]) -> list[str]:
    """The largest and smallest numbers cut off, the others as they should be."""
    if not ranges:
        return []
    step = float(next(iter(ranges.values()))) / 255  # type: ignore[arg-type]
    low, high = got.min(), got.max()
    cut = [f"{end:.4g}" for end, most in ((low, wanted.min()), (high, wanted.max())) if (end - most).abs() > step]
    if not cut or ((wanted.clamp(low, high) - got).abs() > 0.51 * step).any():
        return []
    return [f"cut off at {' and at '.join(cut)}"]


def _elsewhere(wanted: Tensor, got: Tensor) -> list[str]:
    there, here = wanted.flatten().sort().values, got.flatten().sort().values
    bound = (there[-1] - there[0]) / 255
    return ["with its numbers at other places"] if bool(((there - here).abs() <= bound).all()) else []

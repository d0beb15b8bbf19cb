"""Task 4.1 as it was answered: each tensor of a question, cut into its channels, and what can be said of one alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hw7.checks.cases import Case, Status, Value
from hw7.checks.diagnosis.frame import Asked

CLOSE = 2e-5  # of a number: float32's rounding, a few times over
MOST_ENTRIES = 10_000  # of a weight that is looked at: questions are small


@dataclass(frozen=True)
class Seen:
    """One question and its answer, float64. C channels (1 without an axis) of n entries."""

    case: Case
    wrong: bool
    bits: int
    axis: int | None
    weight: Tensor  # [C, n]
    q: Tensor  # [C, n]
    scale: Tensor  # [C]
    zero: Tensor  # [C]
    back: Tensor | None  # [C, n]; None where quantize alone was looked at

    @property
    def name(self) -> str:
        return self.case.name

    @cached_property
    def ranges(self) -> dict[str, Tensor]:
        """What a step may be a part of, by name, [C]; the right one first."""
        return as_rows(self.case.evidence["ranges"])

    @cached_property
    def offsets(self) -> dict[str, Tensor]:
        """What a zero point may stand for, by name, [C]; the right one first."""
        return as_rows(self.case.evidence["offsets"])

    @cached_property
    def range(self) -> Tensor:
        return next(iter(self.ranges.values()))

    @cached_property
    def varied(self) -> Tensor:
        """bool [C]: the channels whose entries are not all equal."""
        return self.range > 0

    def rows(self, flat: Tensor) -> Tensor:
        return rows_of(flat, self.axis)


def as_rows(numbers: Mapping[str, Value]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).double().reshape(-1) for name, value in numbers.items()}


def rows_of(tensor: Tensor, axis: int | None) -> Tensor:
    """[C, n] of a tensor of any shape: its channels, or the whole as one."""
    if axis is None:
        return tensor.double().reshape(1, -1)
    return tensor.double().movedim(axis, 0).reshape(tensor.shape[axis], -1)


def seen_in(asked: Sequence[Asked]) -> list[Seen]:
    """The answers that are (q, scale, zero_point) of the right shapes, and where there is a way back, that."""
    found = (_seen(each) for each in asked)
    return [each for each in found if each is not None]


def _seen(asked: Asked) -> Seen | None:
    case, (first, *second) = asked.case, asked.answers
    weight, axis = case.expected.get("weight"), case.call.inputs.get("channel_axis")
    if not isinstance(weight, Tensor) or not case.evidence or weight.numel() > MOST_ENTRIES:
        return None
    if first.status is not Status.RETURNED or len(first.tensors) != 4:
        return None
    q, scale, zero, after = first.tensors
    channel = axis if isinstance(axis, int) else None
    shape = [] if channel is None else [weight.shape[channel]]
    if q.dtype != torch.uint8 or q.shape != weight.shape or not torch.equal(after, weight):
        return None
    if not list(scale.shape) == list(zero.shape) == shape or scale.is_complex() or zero.is_complex():
        return None
    back = None
    if second:
        if second[0].status is not Status.RETURNED or len(second[0].tensors) != 4:
            return None
        back, *left = second[0].tensors
        if back.dtype != torch.float32 or back.shape != weight.shape or not all(map(torch.equal, first.tensors, left)):
            return None
    bits = int(case.expected["levels"]).bit_length() - 1  # type: ignore[arg-type]
    flat_scale, flat_zero = (each.detach().double().reshape(-1) for each in (scale, zero))
    cut = None if back is None else rows_of(back, channel)
    wrong = asked.outcome.verdict != "RIGHT"
    rows = [rows_of(each, channel) for each in (weight, q)]
    return Seen(case, wrong, bits, channel, rows[0], rows[1], flat_scale, flat_zero, cut)


def close(got: Tensor, wanted: Tensor, share: float = CLOSE) -> Tensor:
    """bool, where a number is another one but for rounding; False where either is not finite."""
    return (got - wanted).abs() <= share * wanted.abs()


# ---- zero points --------------------------------------------------------------------------------------------------


def _within(level: Tensor, bits: int) -> Tensor:
    return level.clamp(min=0, max=2**bits - 1)


ROUNDED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "": lambda level, bits: level,
    ", rounded": lambda level, bits: level.round(),
    ", rounded down": lambda level, bits: level.floor(),
    ", rounded up": lambda level, bits: level.ceil(),
    ", cut off to a whole number": lambda level, bits: level.trunc(),
    ", rounded and kept within 0..2^bits - 1": lambda level, bits: _within(level.round(), bits),
    ", kept within 0..2^bits - 1": lambda level, bits: _within(level, bits),
    ", kept at 0 or above": lambda level, bits: level.clamp(min=0),
    ", rounded and kept at 0 or above": lambda level, bits: level.round().clamp(min=0),
    ", as a byte that wraps past 255": lambda level, bits: level.round() % 256,
    ", as a signed byte that wraps past 127": lambda level, bits: (level.round() + 128) % 256 - 128,
    ", rounded and kept within -128..127": lambda level, bits: level.round().clamp(-128, 127),
    ", rounded to float16": lambda level, bits: level.half().double(),
    ", rounded to bfloat16": lambda level, bits: level.bfloat16().double(),
}  # fmt: skip


def zero_points(seen: Seen) -> dict[str, Tensor]:
    """bool [C] for each way to make a zero point, whether it gives the one that came back, by name; a scale may have
    been rounded after it was used."""
    steps = (seen.scale, seen.range / (2**seen.bits - 1))
    found: dict[str, Tensor] = {}
    for name, value in seen.offsets.items():
        for words, change in ROUNDED.items():
            ways = [close(seen.zero, change(value / step, seen.bits)) for step in steps]
            found[f"{name} / scale{words}"] = ways[0] | ways[1]
        found[name] = close(seen.zero, value)
        found[f"{name}, rounded"] = close(seen.zero, value.round())
    for words, number in (("0", 0), ("2^(bits - 1)", 2 ** (seen.bits - 1)), ("2^bits - 1", 2**seen.bits - 1)):
        found[words] = seen.zero == number
    return found


# ---- the way back --------------------------------------------------------------------------------------------------

Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def _bytes(value: Tensor) -> Tensor:
    return value.trunc() % 256


FORMS: dict[str, Form] = {
    "scale · (q - zero_point)": lambda q, s, z: s * (q - z),
    "scale · q + zero_point": lambda q, s, z: s * q + z,
    "scale · q - zero_point": lambda q, s, z: s * q - z,
    "scale · (q + zero_point)": lambda q, s, z: s * (q + z),
    "scale · q": lambda q, s, z: s * q,
    "scale · (zero_point - q)": lambda q, s, z: s * (z - q),
    "q - zero_point": lambda q, s, z: q - z,
    "q + zero_point": lambda q, s, z: q + z,
    "q": lambda q, s, z: q,
    "(q - zero_point) / scale": lambda q, s, z: (q - z) / s,
    "(q + zero_point) / scale": lambda q, s, z: (q + z) / s,
    "q / scale": lambda q, s, z: q / s,
    "q / scale + zero_point": lambda q, s, z: q / s + z,
    "q / scale - zero_point": lambda q, s, z: q / s - z,
    "scale · |q - zero_point|": lambda q, s, z: s * (q - z).abs(),
    "scale · (q - zero_point), where nothing is below 0": lambda q, s, z: s * (q - z).clamp(min=0),
    "scale · (q - zero_point), with zero_point rounded": lambda q, s, z: s * (q - z.round()),
    "scale · (q - zero_point), with zero_point cut off to a whole number": lambda q, s, z: s * (q - z.trunc()),
    "scale · (q - zero_point) in bytes, where 3 - 5 is 254": lambda q, s, z: s * _bytes(q - _bytes(z)),
    "scale · (q - zero_point) in bytes, where 3 - 5 is 254,": lambda q, s, z: s * _bytes(q - _bytes(z.round())),
    "scale · (q - zero_point) in signed bytes, where 127 + 1 is -128": (
        lambda q, s, z: s * ((q - z.round() + 128) % 256 - 128)
    ),
    "scale · (q - zero_point), with q a signed byte": lambda q, s, z: s * ((q + 128) % 256 - 128 - z),
    "zero_point · (q - scale)": lambda q, s, z: z * (q - s),
    "zero_point · q + scale": lambda q, s, z: z * q + s,
}  # fmt: skip
RIGHT = next(iter(FORMS))
AGREE = {  # a zero point that stands for such a weight, and the way back that goes with it
    "scale · (q - zero_point)": "-min / scale",
    "scale · q + zero_point": "min",
    "scale · q - zero_point": "-min",
    "scale · (q + zero_point)": "min / scale",
}
WHOLE = ("", ", rounded", ", rounded down", ", rounded up", ", cut off to a whole number")  # any of these will do


def ways_back(seen: Seen) -> list[str]:
    """The forms that give what came back, where each channel has its own step."""
    assert seen.back is not None
    s, z = seen.scale[:, None], seen.zero[:, None]
    return [words for words, form in FORMS.items() if _gives(form(seen.q, s, z), seen.back, seen)]


def axes_back(seen: Seen) -> list[int]:
    """The axes along which scale and zero_point may have been spread, if not along the one of the channels."""
    if seen.back is None or seen.axis is None:
        return []
    weight = seen.case.expected["weight"]
    assert isinstance(weight, Tensor)
    shape = [*weight.movedim(seen.axis, 0).shape]
    q, found = seen.q.reshape(shape), []
    for place, size in enumerate(shape):
        if place and size == len(seen.scale):
            spread = [1] * len(shape)
            spread[place] = size
            s, z = seen.scale.reshape(spread), seen.zero.reshape(spread)
            axis = place if place > seen.axis else place - 1
            found += [axis] if _gives((s * (q - z)).reshape(seen.back.shape), seen.back, seen) else []
    return found


def _gives(wanted: Tensor, got: Tensor, seen: Seen) -> bool:
    """Up to float32's rounding of the parts, which may cancel."""
    small = torch.maximum(wanted.abs().max(), (seen.scale * seen.zero).abs().max())
    return bool(((wanted - got).abs() <= CLOSE / 10 * small).all())

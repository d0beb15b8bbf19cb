"""Task 4.1: how q is made of weight / scale + zero_point, where these two are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hw7.checks.diagnosis.quantization.levels import WHOLE, Seen, close, zero_points

EDGE = 2e-3  # of a level
HALF = 0.5 + EDGE
FEW = 8  # entries, to say by how much all are shifted
ASKED = "Half a level is allowed: round to the nearest one."


class Off(NamedTuple):
    """How far the levels of one question are off. off: [C, n], in levels; inside: bool [C, n], where a level is there
    for an entry, and entries differ; top: the highest level."""

    seen: Seen
    off: Tensor
    inside: Tensor
    top: int

    @property
    def some(self) -> Tensor:
        return self.off[self.inside]

    @property
    def free(self) -> Tensor:
        """Those that lie at neither end of the levels that are used, where they might have been cut off."""
        q = self.seen.q
        return self.off[self.inside & (q > q.min()) & (q < q.max())]

    @property
    def shift(self) -> float:
        free = self.free if len(self.free) >= FEW else self.some
        return float(free.min() + free.max()) / 2


def rounding_found(seen: Sequence[Seen], others: set[str]) -> dict[str, str]:
    """What is wrong with q, by the case's name. others: where scale or zero point are not right."""
    wrong = [each for each in seen if each.wrong and each.name not in others]
    known = {each.name: _off(each) for each in wrong if each.varied.any()}
    offs = {name: off for name, off in known.items() if off is not None and not bool((off.some.abs() <= HALF).all())}
    way = next((way for way, fits in WAYS.items() if offs and all(map(fits, offs.values()))), None)
    if way is None:
        return {}
    found = {name: _in_words(way, off, list(offs.values())) for name, off in offs.items()}
    constant = [each for each in wrong if not each.varied.any() and _is_off(each)]
    return found | {each.name: next(iter(found.values())) for each in constant}


def _in_words(way: str, off: Off, offs: Sequence[Off]) -> str:
    if way == "ends":
        low, high = off.seen.q.min(), off.seen.q.max()
        held = f"(it holds {low:.0f} to {high:.0f}, of 0 to {off.top})"
        return f"q leaves levels unused {held}: what lies outside is cut off."
    if way == "shifted":
        shifts = [each.shift for each in offs if len(each.free) >= FEW] or [off.shift]
        middle = sum(shifts) / len(shifts)
        same = max(abs(shift - middle) for shift in shifts) < 0.25
        whole = round(middle) if abs(middle - round(middle)) < 0.1 else round(middle, 1)
        much = f"by {whole} everywhere" if same else "by another part of a level each time"
        return (
            f"q is shifted against scale and zero_point, {much}: all three must be made of the same step and the same "
            "zero point."
        )
    if way == "around":
        return "q wraps around: levels come out too low or too high by a power of 2. Cut off what lies outside, before."
    return f"q is {way}. {ASKED}"


# ---- ways to round -----------------------------------------------------------------------------------------------


def _down(each: Off) -> bool:
    return bool(each.some.max() <= EDGE and each.some.min() > -1 - EDGE)


def _up(each: Off) -> bool:
    return bool(each.some.min() >= -EDGE and each.some.max() < 1 + EDGE)


def _ends(each: Off) -> bool:
    """Rounded to the nearest of fewer levels than there are."""
    q = each.seen.q
    fine = (each.off.abs() <= HALF) | (q == q.min()) | (q == q.max()) | ~each.inside
    return bool(fine.all()) and bool(q.min() > 0 or q.max() < each.top)


def _shifted(each: Off) -> bool:
    free = each.free
    return not len(free) or bool(free.max() - free.min() <= 2 * HALF)


def _around(each: Off) -> bool:
    """Modulo some power of 2, or 2^bits - 1."""
    for period in (256, 128, each.top + 1, each.top, (each.top + 1) // 2):
        if bool(((each.off - (each.off / period).round() * period).abs() <= HALF)[each.inside].all()):
            return True
    return False


def _sides(each: Off, first: int) -> bool:
    """Whether entries of the one sign are all rounded to higher levels than those of the other would be, and none by
    more than a level. first: 1 for towards 0, -1 for away from it."""
    free = each.inside & (each.seen.q > 0) & (each.seen.q < each.top)  # what was not cut off at an end
    for row, weight, inside in zip(each.off, each.seen.weight, free, strict=True):
        above, below = (row[inside & (weight * sign > 0)] for sign in (first, -first))
        if any(len(side) and side.max() - side.min() > 1 + EDGE for side in (above, below)):
            return False
        if len(above) and len(below) and above.max() > below.min() + EDGE:
            return False
    return True


WAYS: dict[str, Callable[[Off], bool]] = {  # in words, what would be true of rounding in this way: special ones first
    "rounded down, not to the nearest level": _down,
    "rounded up, not to the nearest level": _up,
    "ends": _ends,
    "shifted": _shifted,
    "around": _around,
    "rounded towards 0, not to the nearest level": lambda each: _sides(each, 1),
    "rounded away from 0, not to the nearest level": lambda each: _sides(each, -1),
    "off by up to a whole level, up and down: it is not the nearest level everywhere": (
        lambda each: bool(each.some.abs().max() < 1 + EDGE)
    ),
}


# ---- where the levels are ----------------------------------------------------------------------------------------


def _off(seen: Seen) -> Off | None:
    place = _places(seen)
    top = 2**seen.bits - 1
    if place is None:
        return None
    inside = (place > -0.5) & (place < top + 0.5) & seen.varied[:, None]
    off = seen.q - place
    return Off(seen, off, inside, top) if inside.any() and bool(off.isfinite().all()) else None


def _is_off(seen: Seen) -> bool:
    """Whether q, of equal entries, is not the nearest level."""
    off = seen.q - seen.weight / seen.scale[:, None] - seen.zero[:, None]
    return bool(off.isfinite().all() and (off.abs() > HALF).any())


def _places(seen: Seen) -> Tensor | None:
    """Which level each entry lies on, not rounded: by the zero point, read as the way back reads it."""
    kinds = zero_points(seen)
    s, z = seen.scale[:, None], seen.zero[:, None]
    step = close(seen.scale, seen.range / (2**seen.bits - 1), 2e-3) | ~seen.varied
    if not step.all() or not seen.zero.isfinite().all():
        return None
    if any(kinds[f"-min / scale{way}"][seen.varied].all() for way in WHOLE):
        return torch.where(seen.varied[:, None], seen.weight / s + z, 0.0)
    if kinds["min"][seen.varied].all():
        return torch.where(seen.varied[:, None], (seen.weight - z) / s, 0.0)
    return None

"""Task 4.1: which range `scale` was made of, and by what it was divided."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hw7.checks.diagnosis.quantization.levels import CLOSE, Seen, close

ENOUGH = 3  # numbers that say the same: what so many agree on by chance is not worth a thought
DIVISORS = {
    "(2^bits - 1)": lambda bits: 2**bits - 1,
    "2^bits": lambda bits: 2**bits,
    "(2^bits - 2)": lambda bits: 2**bits - 2,
    "(2^bits + 1)": lambda bits: 2**bits + 1,
    "(2^(bits - 1) - 1)": lambda bits: 2 ** (bits - 1) - 1,
    "2^(bits - 1)": lambda bits: 2 ** (bits - 1),
    "(2^(bits - 1) + 1)": lambda bits: 2 ** (bits - 1) + 1,
    "2^(bits + 1)": lambda bits: 2 ** (bits + 1),
    "bits": lambda bits: bits,
}


def asked_step(seen: Sequence[Seen]) -> str:
    axes = {each.axis for each in seen}
    channels = "" if None in axes else " of each channel"
    channels += f" along axis {axes.pop()}" if channels and len(axes) == 1 else ""
    return f"A step is (max - min) / (2^bits - 1){channels}."


def steps_found(seen: Sequence[Seen]) -> dict[str, str]:
    """What `scale` is where it is not the step, in words, by the case's name."""
    wrong = [each for each in seen if each.wrong and not _right(each).all()]
    if not wrong:
        return {}
    message = _rounded(seen) or _smallest(seen) or _part_of_a_range(seen, wrong) or _other_way_up(wrong) or _near(wrong)
    return {each.name: message for each in wrong} if message else {}


def _step(seen: Seen) -> Tensor:
    return seen.range / (2**seen.bits - 1)


def _right(seen: Seen) -> Tensor:
    """bool [C]: whether a channel's scale is the step, or may be any, as where all entries are equal."""
    return close(seen.scale, _step(seen)) | ~seen.varied


def _rounded(seen: Sequence[Seen]) -> str:
    """To few digits."""
    for dtype in (torch.float16, torch.bfloat16):
        if all((close(each.scale, _step(each).to(dtype).double()) | ~each.varied).all() for each in seen):
            name = str(dtype).removeprefix("torch.")
            return (
                f"scale is rounded to {name}: its error counts once for each level, and on 2^bits - 1 of them it adds "
                "up to a good part of a step. Keep it in float32 or float64."
            )
    return ""


def _smallest(seen: Sequence[Seen]) -> str:
    """The step, and a number that is added to each, or that none is below."""
    pairs = [(each.scale[each.varied], _step(each)[each.varied]) for each in seen if each.varied.any()]
    scales, steps = (torch.cat(part) for part in zip(*pairs, strict=True))
    place = steps.argmin()
    least, step = scales[place], steps[place]
    if len(steps) < ENOUGH or not (least.isfinite() and least > 100 * step):
        return ""
    added, kept = close(scales, steps + least).all(), close(scales, steps.clamp(min=least)).all()
    if not (added or kept):
        return ""
    what = (
        "a smallest step, or a small number that is added to each,"
        if added and kept
        else ("a small number that is added to each" if added else "a smallest step")
    )
    return (
        f"scale is {least:.3g} for a weight whose step is {step:.3g}: {what} is larger than that step. Small weights "
        "are no constants: only where max equals min is the step not to be divided by."
    )


def _part_of_a_range(seen: Sequence[Seen], wrong: Sequence[Seen]) -> str:
    """A range by a number that depends on nothing but bits."""
    names = [name for name in wrong[0].ranges if all(name in each.ranges for each in wrong)]
    parts = {name: found for name in names if (found := _divisors(wrong, name)) is not None}
    told: list[tuple[int, str, dict[int, float]]] = []
    for name, divisors in parts.items():
        rows = sum(int(each.varied.sum()) for each in wrong)
        whole = all(_foretold(each, name, divisors) for each in seen)
        elsewhere = {each.bits for each in seen if each.varied.any()} - divisors.keys()
        words = _in_words(divisors, only=name == "max - min" and len(divisors) == 1 and bool(elsewhere))
        if words and (whole or rows >= ENOUGH or divisors.keys() == {wrong[0].bits}):
            told.append((0 if whole else 1, _quotient(name, words), divisors))
        elif rows - len(divisors) >= ENOUGH:
            given = ", ".join(f"{divisor:.6g} at {bits} bits" for bits, divisor in sorted(divisors.items())[:3])
            told.append((2, f"{name}, divided by {given}", divisors))
    best = [each for each in told if each[0] == min(told)[0]]
    if len(best) != 1:
        return ""
    message = f"scale is {best[0][1]}."
    if "max - min" in parts and best[0][2] == parts["max - min"] and "times" not in message:
        levels = "2^bits levels have 2^bits - 1 steps between them, whatever bits is."
        return f"{message} {levels}"
    return f"{message} {asked_step(wrong)}"


def _divisors(wrong: Sequence[Seen], name: str) -> dict[int, float] | None:
    """By what this range is divided, by bits; None where it is not the same for all."""
    by_bits: dict[int, list[Tensor]] = {}
    for each in wrong:
        if len(each.ranges[name]) != len(each.scale):
            return None
        by_bits.setdefault(each.bits, []).append((each.ranges[name] / each.scale)[each.varied])
    found = {}
    for bits, some in by_bits.items():
        numbers = torch.cat(some)
        middle = numbers.median() if len(numbers) else torch.tensor(torch.nan)
        if not middle.isfinite() or middle <= 0 or not close(numbers, middle).all():
            return None
        found[bits] = middle.item()
    return found


def _in_words(divisors: dict[int, float], only: bool = False) -> str:
    """The formula of bits that gives these, or a part of 2^bits - 1; "" where there is none. only: whether other bits
    are right, so that it is no formula, but a number."""

    def fit(wanted: dict[int, float]) -> bool:
        return all(abs(divisors[bits] - number) <= CLOSE * number for bits, number in wanted.items())

    for words, formula in () if only else DIVISORS.items():
        if fit({bits: formula(bits) for bits in divisors}):
            return words
    for number in (255, 256, 254, 127, 128, 127.5, 1):
        if len(divisors) > 1 and fit(dict.fromkeys(divisors, number)):
            return f"{number:g}, whatever bits is"
    times = {(2**bits - 1) / number for bits, number in divisors.items()}
    if len(divisors) > 1 and max(times) - min(times) <= CLOSE * max(times):
        factor = max(times)
        words = {2.0: "twice", 0.5: "half"}.get(round(factor, 5), f"{factor:.4g} times")
        return f"{words} · (2^bits - 1)"
    if len(divisors) == 1:
        ((bits, number),) = divisors.items()
        if abs(number - round(number)) < CLOSE * number and number < 2**10:
            return f"{round(number)} at {bits} bits"
    return ""


def _quotient(name: str, words: str) -> str:
    bracketed = f"({name})" if " - " in name or "," in name else name
    times, _, rest = words.partition(" · ")
    if rest:
        return f"{times} {bracketed} / {rest}"
    return f"{bracketed} / {words}"


def _foretold(seen: Seen, name: str, divisors: dict[int, float]) -> bool:
    """Whether this is the scale of a question, of wrong or right answers, as far as bits are known."""
    if name not in seen.ranges or seen.bits not in divisors or len(seen.ranges[name]) != len(seen.scale):
        return bool(_right(seen).all())
    return bool((close(seen.scale, seen.ranges[name] / divisors[seen.bits]) | ~seen.varied).all())


def _other_way_up(wrong: Sequence[Seen]) -> str:
    if all((close(each.scale * _step(each), torch.ones(())) | ~each.varied).all() for each in wrong):
        return f"scale is one divided by the step. {asked_step(wrong)}"
    return ""


def _near(wrong: Sequence[Seen]) -> str:
    """How far it is from the step, where all are on one side of it."""
    ratios = torch.cat([(each.scale / _step(each))[~_right(each)] for each in wrong])
    if not ratios.isfinite().all() or not ratios.numel():
        return ""
    if (ratios == 0).all():
        return f"scale is 0 for weights whose step is not. {asked_step(wrong)}"
    low, high = ratios.min().item(), ratios.max().item()
    if len(ratios) < 2 or not (0 < high < 0.999 or low > 1.001):
        return ""
    size = "smaller" if high < 1 else "larger"
    return (
        f"scale is {size} than the step, by another factor each time ({low:.4g} to {high:.4g}): it is made of other "
        f"numbers than the smallest and the largest entry. {asked_step(wrong)}"
    )

"""Task 4.1: which of its parts is wrong: the step, the zero point, how q is rounded, what dequantize makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hw7.checks.cases import Status
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.quantization.levels import (
    AGREE,
    CLOSE,
    FORMS,
    RIGHT,
    WHOLE,
    Seen,
    axes_back,
    close,
    rows_of,
    seen_in,
    ways_back,
    zero_points,
)
from hw7.checks.diagnosis.quantization.rounding import rounding_found
from hw7.checks.diagnosis.quantization.scales import steps_found
from hw7.checks.tensors import reorder

ASKED = "zero_point is the level that stands for 0, and a weight is scale · (q - zero_point)"
FEW = 16  # entries, to say what happened to all


def quantize_found(asked: Sequence[Asked]) -> dict[str, Diagnosis]:
    """What is wrong in each answer, by the case's name: two things at most."""
    seen = seen_in(asked)
    moved = _moved(seen)
    rest = [each for each in seen if each.name not in moved]
    steps = steps_found(rest)
    backs, zeros = _zero_and_back(rest, set(steps))
    varied = [each for each in rest if each.varied.any() and each.name not in backs]
    zeros = {name: words for name, words in zeros.items() if name not in steps}  # it may follow from the step
    rounded = rounding_found([each for each in rest if each.name not in backs], {*steps, *zeros})
    others = _others([each for each in varied if each.name not in {*steps, *zeros, *rounded}])
    constants = _constants([each for each in rest if each.name not in {*steps, *backs, *zeros, *rounded, *others}])
    told: dict[str, list[tuple[str, str]]] = {}
    for mistake, found in (
        ("another-order", moved),
        ("another-step", steps),
        ("another-zero-point", zeros),
        ("another-way-back", backs),
        ("another-rounding", rounded),
        ("another-weight", others),
        ("another-constant", constants),
    ):
        for name, words in found.items():
            told.setdefault(name, []).append((mistake, words))
    return _failures(asked) | {
        name: Diagnosis(each[0][0], " ".join(words for _, words in each[:2])) for name, each in told.items()
    }


# ---- the right numbers at other places ----------------------------------------------------------------------------


def _moved(seen: Sequence[Seen]) -> dict[str, str]:
    """Where what comes back is near the weight's numbers, in another order."""
    found = {}
    for each in seen:
        if each.back is None or not each.wrong or not each.back.isfinite().all() or not each.varied.all():
            continue
        allowed = each.case.expected["allowed:weight"]
        assert isinstance(allowed, Tensor)
        bound = allowed.max()
        there, here = each.weight.flatten().sort().values, each.back.flatten().sort().values
        in_place = bool(((each.weight - each.back).abs() <= bound).all())
        if in_place or each.axis is not None or ((there - here).abs() > bound).any():
            continue
        weight = each.case.expected["weight"]
        assert isinstance(weight, Tensor)
        other = weight.clone()
        reorder(other)
        if each.case.call.inputs.get("again") and ((rows_of(other, None) - each.back).abs() <= bound).all():
            found[each.name] = "What comes back are the numbers that the same tensor held in an earlier call."
        else:
            where = (
                " The weight lies in memory column by column here." if each.case.call.inputs.get("by_columns") else ""
            )
            found[each.name] = (
                f"What comes back are the right numbers in another order.{where} Its entries are to be taken in the "
                "order of their indices."
            )
    return found


# ---- zero points, and the way back --------------------------------------------------------------------------------


def _zero_and_back(seen: Sequence[Seen], steps: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What is wrong with the way back, and with zero points, by the case's name. steps: where the step is not right."""
    there = [
        each for each in seen if each.back is not None and each.scale.isfinite().all() and each.zero.isfinite().all()
    ]
    wrong = [each for each in there if each.wrong]
    if not wrong:
        return {}, {}
    forms = {each.name: ways_back(each) for each in there}
    kinds = {
        each.name: [words for words, same in zero_points(each).items() if same[each.varied].all()] for each in there
    }
    form = _common([(forms[each.name], each.wrong) for each in there])
    kind = _common([(kinds[each.name], each.wrong) for each in there if each.varied.any()])
    base = kind.partition(",")[0]
    if AGREE.get(form) == base and kind.removeprefix(base) in WHOLE:
        return {}, {}
    if kind.endswith("float16"):  # what a byte and a float16 make is a float16
        return {}, {each.name: _zero_in_words(kind, base) for each in wrong if kind in kinds[each.name]}
    if form in AGREE and base in AGREE.values() and AGREE[form] != base and base != AGREE[RIGHT]:
        both = f"zero_point is {base}, and dequantize gives {form}: these two do not go together. {ASKED}."
        return {each.name: both for each in wrong}, {}
    astray = [each for each in wrong if RIGHT not in forms[each.name]]
    backs = _way_back(astray, forms, steps) if form != RIGHT else {}
    held = [each for each in wrong if RIGHT in forms[each.name] and kind in kinds[each.name]]
    if base == AGREE[RIGHT]:  # where rounding or cutting off changes nothing, the zero point is right
        held = [each for each in held if not each.varied.any() or not set(_fine()) & set(kinds[each.name])]
    return backs, {each.name: _zero_in_words(kind, base) for each in held} if kind not in _fine() else {}


def _fine() -> list[str]:
    """The zero points that go with what is asked for."""
    return [f"{AGREE[RIGHT]}{way}" for way in WHOLE]


def _common(some: Sequence[tuple[Sequence[str], bool]]) -> str:
    """The first name that all have; else the first that all wrong ones have; "" where there is none."""
    for among in (some, [each for each in some if each[1]]):
        lists = [names for names, _ in among]
        for name in lists[0] if lists else ():
            if all(name in names for names in lists):
                return name
    return ""


def _formula(form: str) -> str:
    return f"dequantize gives {form.removesuffix(',')}. What is asked for is {RIGHT}."


def _zero_in_words(kind: str, base: str) -> str:
    if base == AGREE[RIGHT]:
        more = {
            ", rounded to float16": "It has too few digits for a fraction of a level.",
            ", rounded to bfloat16": "It has too few digits for a fraction of a level.",
        }.get(
            kind.removeprefix(base), "Where all entries have one sign, the level that stands for 0 is outside of that."
        )
        return f"zero_point is {kind}. {more}"
    return f"zero_point is {kind}. It is the level that stands for 0: scale · (q - zero_point) is to be the weight."


def _way_back(astray: Sequence[Seen], forms: dict[str, list[str]], steps: set[str]) -> dict[str, str]:
    """What dequantize computes in these answers; where no formula gives it, for one entry."""
    form = _common([(forms[each.name], True) for each in astray])
    found = {}
    for each in astray:
        if form:
            found[each.name] = _formula(form)
        elif axes := axes_back(each):
            found[each.name] = (
                f"dequantize lets scale and zero_point of the channels fall on axis {axes[0]}, and channel_axis is "
                f"{each.axis}."
            )
        elif each.name not in steps and _would_do(each):
            found[each.name] = _other_numbers(each)
    return found


def _would_do(seen: Seen) -> bool:
    """Whether q, scale and zero_point are right: what is asked for would give the weight."""
    allowed = seen.case.expected["allowed:weight"]
    assert isinstance(allowed, Tensor)
    weight = seen.case.expected["weight"]
    assert isinstance(weight, Tensor)
    bound = seen.rows(allowed.expand(weight.shape))
    wanted = FORMS[RIGHT](seen.q, seen.scale[:, None], seen.zero[:, None])
    return bool(((wanted - seen.weight).abs() <= 1.01 * bound).all())


def _other_numbers(seen: Seen) -> str:
    assert seen.back is not None
    wanted = FORMS[RIGHT](seen.q, seen.scale[:, None], seen.zero[:, None])
    rounded = [
        dtype for dtype in (torch.float16, torch.bfloat16) if torch.equal(seen.back.to(dtype).double(), seen.back)
    ]
    if rounded and close(seen.back, wanted, 0.02).double().mean() > 0.5:
        name = str(rounded[0]).removeprefix("torch.")
        return f"dequantize computes in {name}, which has too few digits for 2^bits levels."
    place = int((seen.back - wanted).abs().nan_to_num(torch.inf).argmax())
    numbers = [
        each.expand_as(seen.q).flatten()[place].item() for each in (seen.q, seen.scale[:, None], seen.zero[:, None])
    ]
    q, scale, zero = (f"{number:.6g}" for number in numbers)
    return (
        f"q, scale and zero_point are right, and what dequantize makes of them is not: of q = {q}, scale = {scale} and "
        f"zero_point = {zero} it makes {seen.back.flatten()[place]:.6g}. What is asked for is {RIGHT}."
    )


def _others(seen: Sequence[Seen]) -> dict[str, str]:
    """Where what comes back are the weights, multiplied and shifted."""
    found = {}
    for each in seen:
        if not each.wrong or each.back is None or each.axis is not None or each.weight.numel() < FEW:
            continue
        x, y = each.weight[0], each.back[0]
        factor = ((x - x.mean()) * (y - y.mean())).mean() / (x - x.mean()).square().mean()
        shift = y.mean() - factor * x.mean()
        off = (y - factor * x - shift).abs().max()
        moved = (y - x).abs().max()
        if (
            bool(off <= 0.6 * each.scale.abs()[0])
            and bool(moved > 3 * off)
            and bool(0.02 < (factor - 1).abs() < 1e3 and y.max() > y.min())
        ):
            found[each.name] = (
                f"What comes back is {factor:.4g} times the weight, shifted by {shift:.4g}, and rounded: quantize "
                "works on other numbers than the weight's, and dequantize does not undo that."
            )
    return found


# ---- constants ----------------------------------------------------------------------------------------------------


def _constants(seen: Sequence[Seen]) -> dict[str, str]:
    """Where all entries of a weight or channel are equal: what was returned for it. Nothing where these were given
    different levels, as by chance."""
    found: dict[str, str] = {}
    if any(bool((each.q != each.q[:, :1])[~each.varied].any()) for each in seen):
        return found
    for each in seen:
        rows = [row for row, varied in enumerate(each.varied.tolist()) if not varied]
        if not each.wrong or not rows:
            continue
        given = each.weight[rows, 0]
        if each.back is None:
            bad = [row for row in rows if not (each.scale[row].isfinite() and each.zero[row].isfinite())]
            found |= {each.name: _constant(each, bad[0], None)} if bad else {}
            continue
        off = (each.back[rows] - each.weight[rows]).abs().nan_to_num(torch.inf).amax(dim=1)
        place = int((off - 4 * CLOSE / 100 * given.abs()).argmax())
        if off[place] > CLOSE / 10 * given[place].abs():
            found[each.name] = _constant(each, rows[place], each.back[rows[place]])
    return found


def _constant(seen: Seen, row: int, back: Tensor | None) -> str:
    value, scale, zero = seen.weight[row, 0].item(), seen.scale[row].item(), seen.zero[row].item()
    q = seen.q[row, 0].item()
    made = f"Where all entries are {value:.6g}, scale is {scale:.6g}, zero_point {zero:.6g} and q {q:.0f}"
    if scale == 0:
        return f"{made}: where max equals min the step is 0, and a division by it gives no number."
    if back is None or not torch.isfinite(back).all():
        return f"{made}: with these no number comes back. Any step will do there, and all must be finite."
    return (
        f"{made}, and {back[0].item():.6g} comes back. Any step will do there, but scale · (q - zero_point) must give "
        "the number again, to float32's precision."
    )


# ---- what fails ---------------------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Asked], bool]] = {
    "where the weight requires a gradient": lambda each: bool(each.case.call.inputs.get("parameter")),
    "where the weight lies in memory column by column": lambda each: bool(each.case.call.inputs.get("by_columns")),
    "where bits is not given": lambda each: "bits" not in each.case.call.inputs,
    "where the weight has one dimension": lambda each: _ndim(each) == 1,
    "where a vector has channels": lambda each: _ndim(each) == 1 and _axis(each) is not None,
    "where channel_axis is given": lambda each: _axis(each) is not None,
    "where channel_axis is not given": lambda each: _axis(each) is None,
    "where channel_axis is 0": lambda each: _axis(each) == 0,
    "where channel_axis is not 0": lambda each: _axis(each) not in (None, 0),
    "where channel_axis is neither the first nor the last": lambda each: _axis(each) not in (None, 0, _ndim(each) - 1),
    "where channel_axis is the last axis": lambda each: _axis(each) is not None and _axis(each) == _ndim(each) - 1,
    "where there is one channel": lambda each: _axis(each) is not None and _shape(each)[_axis(each) or 0] == 1,
    "where all entries are equal": lambda each: each.case.part == "constant",
    "where the weight has one entry": lambda each: _shape(each).numel() == 1,
}  # fmt: skip


def _shape(asked: Asked) -> torch.Size:
    weight = asked.case.expected["weight"]
    assert isinstance(weight, Tensor)
    return weight.shape


def _ndim(asked: Asked) -> int:
    return len(_shape(asked))


def _axis(asked: Asked) -> int | None:
    axis = asked.case.call.inputs.get("channel_axis")
    return axis if isinstance(axis, int) else None


def _failures(asked: Sequence[Asked]) -> dict[str, Diagnosis]:
    """For which kind of weight a function raises an exception, if it returns for all others."""
    failed = [each for each in asked if each.answers[-1].status in (Status.RAISED, Status.VALUE_ERROR)]
    others = [each for each in asked if each not in failed and each.answers[-1].status is Status.RETURNED]
    kinds = [
        words
        for words, holds in KINDS.items()
        if all(holds(each) for each in failed) and not any(holds(each) for each in others)
    ]
    function = {len(each.answers) for each in failed}
    if len(kinds) != 1 or len(function) != 1:
        return {}
    name = "quantize" if function == {1} else "dequantize"
    message = f"{name} raises an exception {kinds[0]}, and only there. Run the public tests: they show it in full."
    return {each.case.name: Diagnosis("fails-for-some", message) for each in failed}

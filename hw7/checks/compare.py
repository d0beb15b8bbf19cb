"""Comparison of tensors: what differs, by how much, in words; and which known mistake would give it."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hw7.checks.cases import Case, Value
from hw7.support.words import counted

SHOWN = 6  # entries of a tensor in a message


# ---- words ---------------------------------------------------------------------------------------------------


def kind(tensor: Tensor) -> str:
    """ "float32 [4, 11]"."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def words(tensor: Tensor) -> str:
    """The first entries of a tensor: "0.25" or "[3, 1, 2] (int64 [3])"."""
    flat = tensor.detach().flatten()[:SHOWN].tolist()
    numbers = [f"{number:.6g}" if isinstance(number, float) else str(number) for number in flat]
    if tensor.ndim == 0:
        return numbers[0]
    more = ", …" if tensor.numel() > SHOWN else ""
    return f"[{', '.join(numbers)}{more}] ({kind(tensor)})"


def sentence(name: str, verb: str, rest: str) -> str:
    """About a tensor, with the verb ("is" or "has") in the right number: "The outputs are wrong."."""
    head = re.split(r" (?:after|of|that|in) ", name)[0].removesuffix(" after")
    if head.startswith("the ") and head.endswith("s") and not head.endswith("ss"):
        verb = {"is": "are", "has": "have"}[verb]
    return f"{name[:1].upper()}{name[1:]} {verb} {rest}."


# ---- values --------------------------------------------------------------------------------------------------


def tensor_names(expected: Mapping[str, Value]) -> list[str]:
    return [name for name, value in expected.items() if isinstance(value, Tensor)]


def listed_in(expected: Mapping[str, Value], option: str) -> list[str]:
    return str(expected.get(option, "")).split("; ")


def allowed(name: str, wanted: Tensor, expected: Mapping[str, Value]) -> float:
    """How far entries of this tensor may be off, by the options of `expected`."""
    if name in listed_in(expected, "exact") or not wanted.is_floating_point():
        return 0.0
    rtol, atol = (float(expected.get(option, 0.0)) for option in ("rtol", "atol"))  # type: ignore[arg-type]
    finite = wanted[wanted.isfinite()]
    return atol + rtol * (finite.abs().max().item() if finite.numel() else 0.0)


class Difference(NamedTuple):
    """What is wrong, in words. clear: whether that is all there is to say, as of another dtype."""

    what: str
    expected: str
    got: str
    clear: bool = False


def difference(name: str, wanted: Tensor, got: Tensor, expected: Mapping[str, Value]) -> Difference | None:
    """What is wrong, or None where nothing is."""
    same_kind = wanted.dtype == got.dtype or (wanted.is_floating_point() and got.is_floating_point())
    if not same_kind or wanted.shape != got.shape:
        return Difference(sentence(name, "has", "another shape or dtype"), kind(wanted), kind(got), True)
    if got.is_floating_point() and not got.isfinite().all() and wanted.isfinite().all():
        bad = int((~got.isfinite()).sum())
        infinite = f"{bad:,} of {counted(got.numel(), 'value')} {'is' if bad == 1 else 'are'} NaN or infinite"
        return Difference(sentence(name, "is", "not finite"), words(wanted), infinite)
    if not wanted.numel():
        return None
    off = (wanted.double() - got.double()).abs().nan_to_num(torch.inf)
    off[wanted.isnan() & got.isnan()] = 0
    if off.max().item() <= allowed(name, wanted, expected):
        return None
    if wanted.numel() == 1:
        return Difference(sentence(name, "is", "wrong"), words(wanted), words(got))
    place = int(off.argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(place), wanted.shape)]
    pair = [tensor.flatten()[place].item() for tensor in (wanted, got)]
    want, have = (f"{number:.6g}" if isinstance(number, float) else str(number) for number in pair)
    what = sentence(name, "is", f"wrong; at {index}: expected {want}, got {have}")
    if wanted.numel() <= SHOWN:
        return Difference(what, words(wanted), words(got))
    return Difference(what, f"at {index}: {want}, in {words(wanted)}", f"at {index}: {have}, in {words(got)}")


def compared_names(expected: Mapping[str, Value]) -> list[str]:
    only = expected.get("only")
    return [name for name in tensor_names(expected) if only is None or name in listed_in(expected, "only")]


def fits_mistake(expected: Mapping[str, Value], change: Mapping[str, Value], got: Mapping[str, Tensor]) -> bool:
    """Whether a wrong answer is right once these entries of `expected` are replaced.

    None stands for any value, False for any but the expected one.
    """
    options = as_mistakes(expected)
    if change.get("not_finite"):
        return any(tensor.is_floating_point() and not tensor.isfinite().all() for tensor in got.values())
    for name in compared_names(expected):
        right = expected[name]
        wanted = change.get(name, right)
        assert isinstance(right, Tensor)
        if wanted is False or (wanted is not None and name in listed_in(expected, "moves")):
            if difference(name, right, got[name], expected) is None:
                return False
        elif isinstance(wanted, Tensor) and difference(name, wanted, got[name], options) is not None:
            return False
    return not change.get("other_count")


def equals_mistake(expected: Mapping[str, Value], change: Mapping[str, Value], got: Mapping[str, Tensor]) -> bool:
    """Whether every entry that is looked at has the value that a mistake gives, NaN where it gives NaN, and the right
    one where it changes nothing. What is known by a sign, or stands for any value, is equal to nothing."""
    if not change or not all(isinstance(value, Tensor) for value in change.values()):
        return False
    options = as_mistakes(expected)
    wanted = {name: change.get(name, expected[name]) for name in compared_names(expected)}
    return all(difference(name, value, got[name], options) is None for name, value in wanted.items())  # type: ignore[arg-type]


def as_mistakes(expected: Mapping[str, Value]) -> Mapping[str, Value]:
    """The options by which an answer is compared with what a mistake gives."""
    return {**expected, "rtol": expected["mistakes_rtol"]} if "mistakes_rtol" in expected else expected


def foretells(case: Case, id_: str) -> bool:
    """Whether a mistake would give an answer to this case that is wrong, and which: not only a sign, or any value."""
    change = case.mistakes.get(id_, {})
    told = {name: value for name, value in change.items() if isinstance(value, Tensor)}
    if case.judge not in ("values", "outputs", "pruned"):
        return bool(told) and not change.get("free")
    options = as_mistakes(case.expected)
    looked_at = set(told).intersection(compared_names(case.expected)).difference(listed_in(case.expected, "moves"))
    return any(difference(name, case.expected[name], told[name], options) is not None for name in looked_at)  # type: ignore[arg-type]

"""The side that compares: what came back against what is expected. Runs no submission and believes no answer.

A judge looks first at the status, then at the exact set of tensors, their shapes, dtypes and finiteness, and only then
at values. Of a wrong answer it says which known mistakes would give it. What a student reads is made here, of numbers
and of the case's own words; nothing that student code printed, named or raised is in it.

`expected` of a case names the tensors in the order in which the program yields them; its other entries are options:

    rtol, atol   how far a floating tensor may be off: atol + rtol * its largest expected entry; whole numbers and bools
                 are compared exactly
    mistakes_rtol  the same for what mistakes give, where wrong networks round more than right ones
    exact        names ("one; another") of floating tensors that are compared bit for bit
    moves        names of tensors that must NOT be as given here: that something was done at all
    only         names of the tensors that are looked at; without it, all
    returns      what the function returns, in words, for the message
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hw7.checks.cases import Answer, Call, Case, Outcome, Status, Value, Verdict
from hw7.checks.compare import (
    SHOWN,
    compared_names,
    difference,
    fits_mistake,
    kind,
    listed_in,
    sentence,
    tensor_names,
    words,
)
from hw7.checks.tensors import ROLES, pack_names
from hw7.support.words import counted

MOST = 2 / 3  # of the numbers of a quantized tensor: enough to know how it was rounded, if all tensors say the same
MAX_NAMES, MAX_NAME = 10_000, 1_000  # of a compressed state_dict: entries, characters
HEADER = 600  # bytes of a file's header that are allowed for one entry of a state_dict
_OF_STATUS: dict[Status, tuple[Verdict, str]] = {
    Status.VALUE_ERROR: (Verdict.CRASH, "The function refused (ValueError) an input that it must take."),
    Status.NOT_IMPLEMENTED: (Verdict.MISSING, "Not done yet: the function raises NotImplementedError."),
    Status.RAISED: (Verdict.CRASH, "The function raised an exception. Run the public tests: they show it in full."),
    Status.ABSENT: (Verdict.MISSING, "There is no such file or function in the submission."),
    Status.NO_MEMORY: (Verdict.MEMORY, "The function asked for more memory than there is."),
    Status.TIME: (Verdict.TIME, "The time limit was reached. Look for a loop that does not end."),
    Status.DIED: (Verdict.CRASH, "The process ended before the function returned."),
    Status.FLOOD: (Verdict.OUTPUT, "Far more came back than the function should return."),
    Status.UNANSWERED: (Verdict.CRASH, "The process had ended before, so this could not be asked."),
}


def outcome_of_status(answer: Answer, case: Case | None = None) -> Outcome:
    """The outcome of a call that did not return."""
    verdict, message = _OF_STATUS[answer.status]
    return Outcome(verdict, message, case.name if case else "", "", note=answer.note)


def _wrong(message: str, expected: str, got: str, fits: Iterable[str] = (), note: str = "") -> Outcome:
    return Outcome(Verdict.WRONG, message, expected, got, tuple(fits), note=note)


def _with_sign(case: Case, sign: str) -> list[str]:
    """The mistakes of a case that are known by a sign, whatever the values: "not_finite", "other_count", "dtype", …"""
    return [id_ for id_, change in case.mistakes.items() if change.get(sign)]


def values(case: Case, answer: Answer) -> Outcome:
    """All tensors, in order."""
    names, got = tensor_names(case.expected), answer.tensors
    if len(got) != len(names):
        returns = str(case.expected.get("returns", "tensors"))
        message = f"The function must return {returns}; what came back is something else."
        signs = _with_sign(case, "other_count")
        return _wrong(message, counted(len(names), "tensor"), counted(len(got), "tensor"), signs, answer.note)
    by_name = dict(zip(names, got, strict=True))
    for name in compared_names(case.expected):
        wanted = case.expected[name]
        assert isinstance(wanted, Tensor)
        value = by_name[name]
        found = difference(name, wanted, value, case.expected)
        if name in listed_in(case.expected, "moves"):
            if found is not None and value.shape == wanted.shape and value.isfinite().all():
                continue
            found = sentence(name, "is", "the same as before the call"), "another value", words(value)
        if found is not None:
            fits = (id_ for id_, change in case.mistakes.items() if fits_mistake(case.expected, change, by_name))
            return _wrong(*found, fits, answer.note)
    return Outcome(Verdict.RIGHT)


def refuses(case: Case, answer: Answer) -> Outcome:
    """ValueError, and nothing else. `expected["reason"]` says why, in words."""
    if answer.status is Status.VALUE_ERROR:
        return Outcome(Verdict.RIGHT)
    if answer.status is Status.RAISED:
        message = "Bad input must raise ValueError; another exception was raised."
        return _wrong(message, "ValueError", "another exception", note=answer.note)
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer, case)
    message = f"Bad input must be refused: {case.expected['reason']}."
    return _wrong(message, "ValueError", "no exception", case.mistakes)


# ---- networks (tasks 1.1 to 1.3) ------------------------------------------------------------------------------


def _table(answer: Answer) -> tuple[list[tuple[int, ...]], Sequence[Tensor]] | None:
    """[(role, *shape)] of the parameters that came back, and the tensors after them."""
    roles, *tensors = answer.tensors or (torch.empty(0),)
    if roles.dtype != torch.int64 or roles.ndim != 1 or len(tensors) < len(roles) or len(roles) > MAX_NAMES:
        return None
    numbers = roles.tolist()
    if not all(0 <= number < len(ROLES) for number in numbers):
        return None
    return [(n, *t.shape) for n, t in zip(numbers, tensors, strict=False)], tensors[len(numbers) :]


def _no_network(case: Case, answer: Answer) -> Outcome:
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer, case)
    return _wrong("The function must return an nn.Module.", "a network", "something else", note=answer.note)


def _rows(expected: Mapping[str, Value]) -> list[tuple[int, ...]]:
    """The rows of `expected["layers"]`, a table [n, 1 + dimensions], filled up with -1."""
    table = expected["layers"]
    assert isinstance(table, Tensor)
    return [tuple(number for number in row if number >= 0) for row in table.tolist()]


def _count(rows: Sequence[tuple[int, ...]]) -> int:
    return sum(int(torch.Size(row[1:]).numel()) for row in rows)


def layers(case: Case, answer: Answer) -> Outcome:
    """Roles and shapes of all parameters, counted here. `expected["layers"]`: a table [n, 5], filled up with -1."""
    found = _table(answer)
    if found is None:
        return _no_network(case, answer)
    got, wanted = found[0], _rows(case.expected)
    lacking, more = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    if not lacking and not more:
        return Outcome(Verdict.RIGHT)
    total = _count(got)
    fits = ["conv-bias"] if not lacking and {ROLES[row[0]] for row in more} == {"conv bias"} else []
    tables = {id_: _rows(change) for id_, change in case.mistakes.items()}
    fits = fits or [id_ for id_, rows in tables.items() if Counter(rows) == Counter(got)]
    fits = fits or [id_ for id_, rows in tables.items() if _count(rows) == total]
    message = "The layers are not those of the task."
    if total == _count(wanted):
        message = "The number of parameters is right, but the layers are not those of the task."
    pair = [f"{counted(_count(rows), 'parameter')} in {counted(len(rows), 'tensor')}" for rows in (wanted, got)]
    for place, only in enumerate((lacking, more)):
        if only:
            parts = [f"{n} x {ROLES[row[0]]} {list(row[1:])}" for row, n in list(only.items())[:4]]
            pair[place] += f"; only here: {', '.join(parts)}{', …' if len(only) > 4 else ''}"
    return _wrong(message, pair[0], pair[1], fits)


def outputs(case: Case, answer: Answer) -> Outcome:
    """The outputs that follow the parameters."""
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer, case)
    found = _table(answer)
    return _no_network(case, answer) if found is None else values(case, replace(answer, tensors=tuple(found[1])))


# ---- special ones ---------------------------------------------------------------------------------------------


def shift(case: Case, answer: Answer) -> Outcome:
    """Task 2.1: the loss, the same loss once more, and another one."""
    if len(answer.tensors) != 3 or any(tensor.numel() != 1 for tensor in answer.tensors):
        return _wrong("The loss must be a scalar.", "three losses", "something else", note=answer.note)
    loss, shifted, other = (tensor.double().item() for tensor in answer.tensors)
    allowed = float(case.expected["rtol"]) * max(1.0, abs(loss))  # type: ignore[arg-type]
    if not abs(loss - shifted) <= allowed:
        message = (
            "The loss changes where the same number is added to all logits of a sample: a softmax would not see it."
        )
        return _wrong(message, f"{loss:.6g}", f"{shifted:.6g}")
    if not abs(loss - other) > allowed:
        return _wrong("The loss does not depend on the logits.", f"not {loss:.6g}", f"{other:.6g}")
    return Outcome(Verdict.RIGHT)


# ---- there and back (tasks 4.1, 4.2) --------------------------------------------------------------------------


def second_call(case: Case, answer: Answer) -> Call | None:
    """The call of `case.then`, fed with the first answer; None where there is none, or where it cannot be fed."""
    if case.then is None or answer.status is not Status.RETURNED:
        return None
    if case.judge == "quantized" and len(answer.tensors) == 4:
        fed = dict(zip(("q", "scale", "zero_point"), answer.tensors, strict=False))
    elif case.judge == "compressed" and (parts := _parts(case, answer)):
        loaded = safetensors.torch.load(parts[0])  # what a file keeps, in the order of a file
        fed = {"names": pack_names(list(loaded)), **{str(i): t for i, t in enumerate(loaded.values())}}
    else:
        return None
    return Call(case.then.program, {**case.then.inputs, **fed})


def _unpack_names(tensor: Tensor) -> list[str] | None:
    if tensor.dtype != torch.uint8 or tensor.numel() > MAX_NAMES * MAX_NAME:
        return None
    try:
        names = json.loads(bytes(tensor.flatten().tolist()))
    except (ValueError, RecursionError):
        return None
    fine = isinstance(names, list) and all(isinstance(name, str) and len(name) <= MAX_NAME for name in names)
    return names if fine and len(names) == len(set(names)) <= MAX_NAMES else None


def _parts(case: Case, answer: Answer) -> tuple[bytes, Sequence[Tensor]] | None:
    """The file of a compressed state_dict, and the state_dict's tensors after; None where it can be no file."""
    if len(answer.tensors) < 2:
        return None
    savable, packed, *tensors = answer.tensors
    names = _unpack_names(packed)
    left = len(tensors) - len(_state_dict(case))
    if names is None or len(names) != left or savable.numel() != 1 or not savable.item() or "__metadata__" in names:
        return None
    try:
        return safetensors.torch.save(dict(zip(names, tensors, strict=False))), tensors[left:]
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, UnicodeError):
        return None


def _state_dict(case: Case) -> dict[str, Tensor]:
    return {name: value for name, value in case.expected.items() if isinstance(value, Tensor) and ":" not in name}


def _back(case: Case, wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> Outcome:
    """Each entry within `allowed:NAME`, a tensor of one bound an entry. 0 means bit for bit."""
    wrong: dict[str, tuple[str, str, str]] = {}
    for name, right in wanted.items():
        bounds = case.expected.get(f"allowed:{name}")
        if not isinstance(bounds, Tensor):
            continue
        off = (right.double() - got[name].double()).abs().nan_to_num(torch.inf)
        if bool((off <= bounds).all()):
            continue
        if got[name].is_floating_point() and not got[name].isfinite().all():
            wrong[name] = ("What comes back is not finite.", words(right), words(got[name]))
        else:
            place = int((off - bounds).argmax())
            bound = float(bounds.expand(right.shape).flatten()[place])
            wanted_entry, got_entry = (float(tensor.double().flatten()[place]) for tensor in (right, got[name]))
            bound_words = f"within {bound:.3g}" if bound else "bit for bit"
            what = "What comes back is too far from what was given."
            wrong[name] = (what, f"{wanted_entry:.8g} {bound_words}", f"{got_entry:.8g}")
    if not wrong:
        return Outcome(Verdict.RIGHT)
    fits = [id_ for id_, change in case.mistakes.items() if all(_gives(change, name, got[name]) for name in wrong)]
    return _wrong(*next(iter(wrong.values())), fits)


def _gives(change: Mapping[str, Value], name: str, got: Tensor) -> bool:
    """Whether a mistake gives this entry: most of its numbers, up to float32's rounding. Where a number lies on the
    edge of two levels, as the largest of a tensor does, two ways to compute the same give either."""
    if change.get("not_finite") and got.is_floating_point() and not got.isfinite().all():
        return True
    value = change.get(name)
    if isinstance(value, Tensor) and value.shape == got.shape and value.isfinite().all() and got.isfinite().all():
        close = 1e-5 * max(1e-6, value.abs().max().item())
        same = (value.double() - got.double()).abs() <= close
        return same.double().mean().item() >= MOST
    return name in change and value is None


def quantized(case: Case, answer: Answer, back: Answer | None = None) -> Outcome:
    """Task 4.1. expected: `weight`; `levels` 2^bits; `channels` C, or 0 for one scale; `allowed:weight` [as weight]."""
    weight, levels, channels = case.expected["weight"], int(case.expected["levels"]), int(case.expected["channels"])  # type: ignore[arg-type]
    assert isinstance(weight, Tensor)
    if len(answer.tensors) != 4:
        message = "quantize must return (q, scale, zero_point)."
        return _wrong(message, "3 tensors", "something else", note=answer.note)
    q, scale, zero_point, after = answer.tensors
    if q.dtype != torch.uint8 or q.shape != weight.shape:
        return _wrong("q has another shape or dtype.", f"uint8 {list(weight.shape)}", kind(q))
    shape = [channels] if channels else []
    for name, tensor in (("scale", scale), ("zero_point", zero_point)):
        if list(tensor.shape) != shape:
            signs = [] if tensor.ndim else _with_sign(case, "shapes")
            return _wrong(f"{name} has another shape.", str(shape), str(list(tensor.shape)), signs)
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return _wrong(f"{name} is not finite.", "finite numbers", words(tensor), _with_sign(case, "not_finite"))
    if int(q.max()) >= levels:
        signs = _with_sign(case, "range") if int(q.max()) >= 2 * levels else []
        return _wrong("q is out of range.", f"0..{levels - 1}", f"up to {int(q.max())}", signs)
    if not torch.equal(after, weight):
        message = "quantize changed the weight that it was given."
        return _wrong(message, words(weight), words(after), ["changes-its-input"])
    if back is None:
        return _wrong("q, scale and zero_point cannot be given to dequantize.", "3 tensors", "something else")
    if back.status is not Status.RETURNED:
        return _not_back(case, back)
    if len(back.tensors) != 1 or back.tensors[0].dtype != torch.float32 or back.tensors[0].shape != weight.shape:
        got = kind(back.tensors[0]) if len(back.tensors) == 1 else "something else"
        signs = _with_sign(case, "dtype") if "float" in got else []
        message = "dequantize must give back float32 of the weight's shape."
        return _wrong(message, kind(weight.float()), got, signs, back.note)
    return _back(case, {"weight": weight}, {"weight": back.tensors[0]})


def _not_back(case: Case, back: Answer) -> Outcome:
    """The second half failed, in a process that has nothing but what the first half returned."""
    outcome = outcome_of_status(back, case)
    if outcome.verdict is Verdict.CRASH:
        message = "The way back failed in a new process that has nothing but what came out of the first half."
        outcome = replace(outcome, message=message)
    return outcome


def compressed(case: Case, answer: Answer, back: Answer | None = None) -> Outcome:
    """Task 4.2. expected: the state_dict by name; `allowed:NAME`; `most_bytes` of the file, where that is asked."""
    wanted = _state_dict(case)
    parts = _parts(case, answer)
    if parts is None or back is None:
        message = (
            "compress must return a flat dict of tensors with names that safetensors can save: contiguous, and none "
            "sharing storage with another."
        )
        return _wrong(message, "a dict of tensors", "something else", note=answer.note)
    file, after = parts
    for tensor, left in zip(wanted.values(), after, strict=True):
        if tensor.dtype != left.dtype or not torch.equal(tensor, left):
            message = "compress changed the state_dict that it was given."
            return _wrong(message, words(tensor), words(left), ["changes-its-input"])
    if back.status is not Status.RETURNED:
        return _not_back(case, back)
    names = _unpack_names(back.tensors[0]) if back.tensors else None
    if names is None or len(names) != len(back.tensors) - 1:
        message = "decompress must return a dict of tensors."
        return _wrong(message, counted(len(wanted), "tensor"), "something else", note=back.note)
    got = dict(zip(names, back.tensors[1:], strict=True))
    if names != list(wanted):
        mistake = "order-lost" if sorted(names) == sorted(wanted) else "names-lost"
        known = [name if name in wanted else "(another name)" for name in names]
        want, have = (", ".join(each[:SHOWN]) for each in (list(wanted), known))
        return _wrong("The names or their order did not come back.", want, have, [mistake])
    for name, tensor in wanted.items():
        if got[name].shape != tensor.shape or got[name].dtype != tensor.dtype:
            mistake = "shape-lost" if got[name].dtype == tensor.dtype else "dtype-lost"
            message = f"{name} came back with another shape or dtype."
            return _wrong(message, kind(tensor), kind(got[name]), [mistake])
    outcome = _back(case, wanted, got)
    most = case.expected.get("most_bytes")
    if outcome.verdict is Verdict.RIGHT and isinstance(most, int) and len(file) > most:
        message = "The file is too large."
        return _wrong(message, f"at most {most:,} bytes", f"{len(file):,} bytes", ["not-compressed"])
    return outcome


JUDGES: dict[str, Callable[..., Outcome]] = {
    judge.__name__: judge
    for judge in (values, refuses, layers, outputs, shift, quantized, compressed)
}  # fmt: skip
_SEES_STATUS = ("refuses", "layers", "outputs")
_DTYPES = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip


def judge(case: Case, *answers: Answer) -> Outcome:
    """The outcome of a case, given the answer to its call and, where it has a `then`, to that."""
    first = answers[0]
    if first.status is not Status.RETURNED and case.judge not in _SEES_STATUS:
        return outcome_of_status(first, case)
    if any(tensor.dtype not in _DTYPES for answer in answers for tensor in answer.tensors):
        return _wrong("What came back has a dtype that nothing here needs.", "float, int or bool", "another dtype")
    return JUDGES[case.judge](case, *answers)

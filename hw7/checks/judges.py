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

An entry `keeps_shape` of a mistake says that it changes no shape and no dtype.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hw7.checks.cases import Answer, Call, Case, Outcome, Status, Value, Verdict
from hw7.checks.chain import own_steps, steps_to_ask
from hw7.checks.compare import (
    Difference,
    compared_names,
    difference,
    equals_mistake,
    fits_mistake,
    listed_in,
    sentence,
    tensor_names,
    words,
)
from hw7.checks.diagnosis.models.traces import contradicts
from hw7.checks.outcomes import EARLIER, outcome_of_status, with_sign, wrong_answer
from hw7.checks.tensors import ROLES
from hw7.checks.there_and_back import compressed, feed, quantized
from hw7.support.words import counted

MAX_PARAMETERS = 10_000  # tensors of a network
MAX_SIZE = 2**40  # entries of one: any that a machine could hold


def values(case: Case, answer: Answer) -> Outcome:
    """All tensors, in order."""
    names, got = tensor_names(case.expected), answer.tensors
    if len(got) != len(names):
        returns = str(case.expected.get("returns", "tensors"))
        message = f"The function must return {returns}; what came back is something else."
        signs = with_sign(case, "other_count")
        return wrong_answer(message, returns, "something else", signs, answer.note, clear=True)
    by_name = dict(zip(names, got, strict=True))
    for name in compared_names(case.expected):
        wanted = case.expected[name]
        assert isinstance(wanted, Tensor)
        value = by_name[name]
        found = difference(name, wanted, value, case.expected)
        if name in listed_in(case.expected, "moves"):
            if found is not None and value.shape == wanted.shape and value.isfinite().all():
                continue
            unmoved = sentence(name, "is", "the same as before the call")
            found = Difference(unmoved, "another value", words(value), True)
        if found is not None:
            fits, equals = (
                [id_ for id_, change in case.mistakes.items() if gives(case.expected, change, by_name)]
                for gives in (fits_mistake, equals_mistake)
            )
            fits = [id_ for id_ in fits if not (found.clear and case.mistakes[id_].get("keeps_shape"))]
            return wrong_answer(*found[:3], fits, answer.note, equals, found.clear)
    return Outcome(Verdict.RIGHT)


def refuses(case: Case, answer: Answer) -> Outcome:
    """ValueError, and nothing else. `expected["reason"]` says why, in words."""
    if answer.status is Status.VALUE_ERROR:
        return Outcome(Verdict.RIGHT)
    if answer.status is Status.RAISED:
        message = "Bad input must raise ValueError; another exception was raised."
        return wrong_answer(message, "ValueError", "another exception", note=answer.note, clear=True)
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer)
    message = f"Bad input must be refused: {case.expected['reason']}."
    return wrong_answer(message, "ValueError", "no exception", case.mistakes, clear=True)


# ---- networks (tasks 1.1 to 1.3) ------------------------------------------------------------------------------


def _table(answer: Answer) -> tuple[list[tuple[int, ...]], Sequence[Tensor]] | None:
    """[(role, *shape)] of the parameters that came back, and the tensors after their table."""
    table, *tensors = answer.tensors or (torch.empty(0),)
    if table.dtype != torch.int64 or table.ndim != 2 or len(table) > MAX_PARAMETERS or not 1 <= table.shape[1] <= 9:
        return None
    rows = _rows_of(table)
    if not all(row and row[0] < len(ROLES) and math.prod(row[1:]) <= MAX_SIZE for row in rows):
        return None
    return rows, tensors


def _no_network(case: Case, answer: Answer) -> Outcome:
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer)
    message = "The function must return an nn.Module."
    return wrong_answer(message, "a network", "something else", note=answer.note, clear=True)


def _rows(expected: Mapping[str, Value]) -> list[tuple[int, ...]]:
    """The rows of `expected["layers"]`."""
    table = expected["layers"]
    assert isinstance(table, Tensor)
    return _rows_of(table)


def _rows_of(table: Tensor) -> list[tuple[int, ...]]:
    """(role, *shape) of each row of a table [n, 1 + dimensions], filled up with -1."""
    return [tuple(number for number in row if number >= 0) for row in table.tolist()]


def _count(rows: Sequence[tuple[int, ...]]) -> int:
    return sum(math.prod(row[1:]) for row in rows)


def layers(case: Case, answer: Answer, trace: Answer | None = None) -> Outcome:
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
    equals = [id_ for id_, rows in tables.items() if Counter(rows) == Counter(got)]
    others = equals or [id_ for id_, rows in tables.items() if _count(rows) == total]
    fits = fits or ([id_ for id_ in others if not contradicts(case, id_, answer, trace)] if trace else others)
    message = "The layers are not those of the task."
    if total == _count(wanted):
        message = "The number of parameters is right, but the layers are not those of the task."
    pair = [f"{counted(_count(rows), 'parameter')} in {counted(len(rows), 'tensor')}" for rows in (wanted, got)]
    for place, only in enumerate((lacking, more)):
        if only:
            parts = [f"{n} x {ROLES[row[0]]} {list(row[1:])}" for row, n in list(only.items())[:4]]
            pair[place] += f"; only here: {', '.join(parts)}{', …' if len(only) > 4 else ''}"
    return wrong_answer(message, pair[0], pair[1], fits, equals=equals)


def outputs(case: Case, answer: Answer, trace: Answer | None = None) -> Outcome:
    """The outputs that follow the parameters."""
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer)
    found = _table(answer)
    return _no_network(case, answer) if found is None else values(case, replace(answer, tensors=tuple(found[1])))


# ---- special ones ---------------------------------------------------------------------------------------------


def shift(case: Case, answer: Answer) -> Outcome:
    """Task 2.1: the loss, the same loss once more, and another one."""
    if len(answer.tensors) != 3 or any(tensor.numel() != 1 for tensor in answer.tensors):
        message = "The loss must be a scalar."
        return wrong_answer(message, "three losses", "something else", note=answer.note, clear=True)
    loss, shifted, other = (tensor.double().item() for tensor in answer.tensors)
    allowed = float(case.expected["rtol"]) * max(1.0, abs(loss))  # type: ignore[arg-type]
    if not abs(loss - shifted) <= allowed:
        message = (
            "The loss changes where the same number is added to all logits of a sample: a softmax would not see it."
        )
        return wrong_answer(message, f"{loss:.6g}", f"{shifted:.6g}", clear=True)
    if not abs(loss - other) > allowed:
        return wrong_answer("The loss does not depend on the logits.", f"not {loss:.6g}", f"{other:.6g}")
    return Outcome(Verdict.RIGHT)


# ---- cases with a second call -----------------------------------------------------------------------------------


def second_call(case: Case, answer: Answer) -> Call | None:
    """The call of `case.then`, fed with the first answer; None where there is none, or where it cannot be fed."""
    if case.then is None:
        return None
    if case.judge in _TRACED:
        return case.then if answer.status in (Status.RETURNED, Status.RAISED, Status.VALUE_ERROR) else None
    if answer.status is not Status.RETURNED:
        return None
    fed = _steps(case, answer) if case.judge == "pruned" else feed(case, answer)
    return None if fed is None else Call(case.then.program, {**case.then.inputs, **fed})


def leads_on(case: Case, outcome: Outcome) -> bool:
    """Whether a second call may change this outcome of a first answer, or tell more of it: of one that is right so far,
    there and back; of pruned networks that are wrong, whether they follow from the submission's own earlier functions;
    of networks that are wrong or raise an exception, their layers."""
    if case.judge in _TRACED:
        return outcome.verdict in (Verdict.WRONG, Verdict.CRASH)
    return (outcome.verdict is Verdict.WRONG) if case.judge == "pruned" else outcome.verdict is Verdict.RIGHT


def _steps(case: Case, answer: Answer) -> dict[str, Value] | None:
    """Only for as many tensors as there should be."""
    names = tensor_names(case.expected)
    if len(answer.tensors) != len(names):
        return None
    return steps_to_ask(case, dict(zip(names, answer.tensors, strict=True)))


def pruned(case: Case, answer: Answer, back: Answer | None = None) -> Outcome:
    """Task 3.5: as `values`; of wrong networks, whether they follow from the submission's own earlier functions."""
    outcome = values(case, answer)
    if outcome.verdict is Verdict.RIGHT or back is None or back.status is not Status.RETURNED:
        return outcome
    own, got = own_steps(case, back.tensors), dict(zip(tensor_names(case.expected), answer.tensors, strict=True))
    if own is not None and equals_mistake(case.expected, own, got):
        return replace(outcome, equals=(*outcome.equals, EARLIER))
    return outcome


JUDGES: dict[str, Callable[..., Outcome]] = {
    judge.__name__: judge
    for judge in (values, refuses, layers, outputs, shift, quantized, compressed, pruned)
}  # fmt: skip
_SEES_STATUS = ("refuses", "layers", "outputs")
_TRACED = ("layers", "outputs")  # the answer to a second call is for the diagnosis alone
_DTYPES = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip
_OF_FILES = {  # what safetensors saves and loads, too
    torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
}  # fmt: skip


def judge(case: Case, *answers: Answer) -> Outcome:
    """The outcome of a case, given the answer to its call and, where it has a `then`, to that. Without the second one,
    RIGHT means: right so far."""
    first = answers[0]
    if first.status is not Status.RETURNED and case.judge not in _SEES_STATUS:
        return outcome_of_status(first)
    for number, answer in enumerate(answers[:1] if case.judge in _TRACED else answers):
        known = _DTYPES | _OF_FILES if case.judge == "compressed" and number == 0 else _DTYPES
        if all(tensor.dtype in known for tensor in answer.tensors):
            continue
        message = "What came back has a dtype that nothing here needs."
        return wrong_answer(message, "float, int or bool", "another dtype", clear=True)
    return JUDGES[case.judge](case, *answers)

"""What a wrong loss computes: the formula of known terms and factors that gives all answers, or what it depends on."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from hw7.checks.cases import Answer, Case, Status, Verdict
from hw7.checks.compare import allowed, tensor_names
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.losses.formula import Columns, Formula, Search, differences, fits, in_words, projected
from hw7.checks.diagnosis.losses.terms import DEFAULTS

ALPHAS = tuple(number / 100 for number in range(0, 101, 5))  # that may be somebody's default
OF_ARGUMENTS = ("kd_teacher", "kd_arguments")
COARSE = 5e-3  # how far all of a loss in float16 may be off, relative
FEWEST = 4  # questions that a formula must answer before it is believed


def usable(answer: Answer, like: Tensor) -> Tensor | None:
    """The one tensor of an answer, if it may be compared with this one."""
    if answer.status is not Status.RETURNED or len(answer.tensors) != 1:
        return None
    (got,) = answer.tensors
    if got.shape != like.shape or not got.is_floating_point() or not got.isfinite().all():
        return None
    return got.double()


def _columns(asked: Sequence[Asked]) -> Columns | None:
    """What came back, with the terms that it may be made of; None where it is too little."""
    names, first, second, settings, target, atol, rtol = set(), [], [], [], [], [], []
    for case, answers, _ in asked:
        (name,) = tensor_names(case.expected)
        wanted = case.expected[name]
        assert isinstance(wanted, Tensor)
        got = usable(answers[0], wanted)
        if got is None:
            continue
        terms: Mapping[str, Any] = case.evidence["terms"]
        options: Mapping[str, Any] = case.expected
        gradient = got.ndim > 0
        numbers = projected(got[None])[0] if gradient else got[None]
        off = got.numel() ** 0.5 * (allowed(name, wanted, case.expected) if gradient else float(options["atol"]))
        logits = case.call.inputs["student"]
        assert isinstance(logits, Tensor)
        names.add(case.name)
        first.append(terms["first"])
        second.append(terms["second"])
        given = torch.tensor([[terms["temperature"]], [terms["alpha"]], [len(logits)], [logits.shape[1]]])
        settings.append(given.double().expand(4, len(numbers)))
        target.append(numbers)
        atol.append(torch.full_like(numbers, off))
        rtol.append(torch.full_like(numbers, 0.0 if gradient else float(options["rtol"])))
    if len(names) < FEWEST:
        return None
    return Columns(
        (torch.cat(first, 1).double(), torch.cat(second, 1).double()),
        torch.cat(settings, 1), torch.cat(target), torch.cat(atol), torch.cat(rtol),
    )  # fmt: skip


def _one(columns: Columns, witness: Columns | None) -> Formula | None:
    """The formula that fits; of several, the one that fits the witness as well."""
    found = Search(columns).formulas()
    if len(found) > 1 and witness is not None:
        found = [each for each in found if fits(each, witness)]
    return found[0] if len({in_words(each) for each in found}) == 1 else None


def loss_formula(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """The formula of `kd_loss`: of its values, and of its gradient."""
    of_values = [each for each in asked if each.case.call.program == "kd_value"]
    ordinary = [each for each in of_values if each.case.part != "confident"]
    slopes = [each for each in asked if each.case.call.program == "kd_gradient" and each.case.evidence]
    gradients = _columns(slopes)
    value = None
    for questions in (of_values, ordinary):
        columns = _columns(questions)
        value = None if columns is None else _one(columns, gradients)
        if value is not None:
            break
    slope = value if value and gradients and fits(value, gradients) else None
    if slope is None and gradients is not None:
        slope = _one(gradients, None)
    if value and value.cost:
        alone = slope != value and gradients is not None
        found = _said(questions, _told("The value of your loss is" if alone else "Your loss is", value))
        if slope and slope.cost:
            found |= _said(slopes, _told("The gradient of your loss is that of" if alone else "Your loss is", slope))
        return found
    if slope and slope.cost:
        head = "The value of your loss is right; its gradient is" if value else "The gradient of your loss is"
        return _same(of_values, slopes) or _said(slopes, _told(f"{head} that of", slope))
    return _special(asked) or _in_general(ordinary, slopes, slope)


def _in_general(ordinary: Sequence[Asked], slopes: Sequence[Asked], slope: Formula | None) -> dict[str, Diagnosis]:
    """What can be said of a loss that follows no formula that is known here."""
    wrong = [each for each in ordinary if _wrong(each)]
    if slope and len(wrong) >= FEWEST and not any(map(_wrong, slopes)):
        told = "The gradient of your loss is right, its value is not"
        return _said(wrong, f"{told}: what is wrong does not depend on the student's logits.")
    if found := _coarse([*ordinary, *slopes]) or _same(ordinary, slopes):
        return found
    without = [each for each in ordinary if _given(each.case, "alpha") == 0]
    if len(wrong) >= FEWEST and without and not any(map(_wrong, without)):
        told = "Where alpha is 0 your loss is right: its cross entropy is the right one."
        return _said(wrong, f"{told} What is wrong is the first term, or a weight.")
    return {}


def _said(questions: Sequence[Asked], message: str, mistake: str = "kd-formula") -> dict[str, Diagnosis]:
    return {each.case.name: Diagnosis(mistake, message) for each in questions}


def _told(head: str, formula: Formula) -> str:
    if formula.first.factor is None and formula.second.factor is None:
        return f"{head.removesuffix(' that of')} 0, whatever it is given."
    return " ".join([f"{head} {in_words(formula)}.", *differences(formula)[:2]])


# ---- what is wrong in a special situation only -----------------------------------------------------------------


def _wrong(each: Asked) -> bool:
    return each.outcome.verdict is not Verdict.RIGHT


def _given(case: Case, name: str) -> float | None:
    value = case.call.inputs.get(name)
    return None if value is None else float(value)  # type: ignore[arg-type]


def _logits(case: Case) -> Tensor:
    logits = case.call.inputs["student"]
    assert isinstance(logits, Tensor)
    return logits


AGAIN = "where the same tensors come again with other numbers in them"
SITUATIONS: dict[str, Callable[[Case], bool]] = {
    "where the batch holds one sample": lambda case: len(_logits(case)) == 1,
    "where the batch holds several samples": lambda case: len(_logits(case)) > 1,
    "where there are two classes": lambda case: _logits(case).shape[1] == 2,
    "where there are more than two classes": lambda case: _logits(case).shape[1] > 2,
    "where the classes are not 11": lambda case: _logits(case).shape[1] != 11,
    "where alpha is 0": lambda case: _given(case, "alpha") == 0,
    "where alpha is 1": lambda case: _given(case, "alpha") == 1,
    "where alpha is 0 or 1": lambda case: _given(case, "alpha") in (0, 1),
    "where the temperature is 1": lambda case: _given(case, "temperature") == 1,
    "where the temperature is no whole number": lambda case: _given(case, "temperature") == 1.5,
    "where temperature and alpha are not given": lambda case: _given(case, "temperature") is None,
    "where temperature and alpha are given": lambda case: _given(case, "temperature") is not None,
    "for logits in float64": lambda case: _logits(case).dtype == torch.float64,
    "for logits in float32": lambda case: _logits(case).dtype == torch.float32,
    AGAIN: lambda case: bool(case.call.inputs.get("again")),
}


def _special(asked: Sequence[Asked]) -> dict[str, Diagnosis]:
    """Where all wrong answers, and no right ones, have one thing in common."""
    left_behind = arguments([each for each in asked if each.case.call.program in OF_ARGUMENTS])
    asked = [each for each in asked if each.case.call.program not in OF_ARGUMENTS]
    wrong = [each for each in asked if _wrong(each)]
    if wrong and all(each.case.part == "confident" for each in wrong):
        return _said(wrong, _confident(wrong))
    if told := _other_defaults(asked):
        return _said(wrong, told)
    kinds = {each.case.call.program for each in wrong}
    for universe in (asked, [each for each in asked if each.case.call.program in kinds]):
        names = {each.case.name for each in wrong}
        fitting = [w for w, is_so in SITUATIONS.items() if {e.case.name for e in universe if is_so(e.case)} == names]
        if len(fitting) != 1:
            continue
        if fitting[0] == AGAIN and left_behind:
            return _said(wrong, next(iter(left_behind.values())).message)
        whole = universe is asked or len(kinds) > 1
        what = "Your loss" if whole else f"The {'value' if 'kd_value' in kinds else 'gradient'} of your loss"
        raises = all(each.answers[0].status is not Status.RETURNED for each in wrong)
        there = " There the function raises an exception." if raises else ""
        unclear = [each for each in wrong if raises or not each.outcome.clear]
        return _said(unclear, f"{what} is right for all questions but those {fitting[0]}.{there}")
    return {}


def _confident(wrong: Sequence[Asked]) -> str:
    """Of a loss that is wrong for confident logits only."""
    message = "Your loss is right for logits of ordinary size"
    if all(tensor.isfinite().all() for each in wrong for tensor in each.answers[0].tensors):
        why = "a bound, a number added to a probability, or a lower precision shows there."
        return f"{message}, and another number for confident ones: {why}"
    why = "a probability there is exactly 0 or 1, or an exponential overflows."
    return f"{message}. For confident ones it, or its gradient, is not finite: {why}"


def _same(of_values: Sequence[Asked], slopes: Sequence[Asked]) -> dict[str, Diagnosis]:
    """A loss that is one and the same number."""
    got = [usable(each.answers[0], torch.zeros(())) for each in of_values]
    numbers = {f"{number.item():.5g}" for number in got if number is not None}
    if any(number is None for number in got) or len(numbers) != 1 or len({e.case.name for e in of_values}) < FEWEST:
        return {}
    told = f"Your loss is {numbers.pop()} for all questions: it does not depend on what it is given."
    return _said([*of_values, *slopes], told)


def _coarse(questions: Sequence[Asked]) -> dict[str, Diagnosis]:
    """What is nearly right everywhere."""
    off = []
    for each in questions:
        (name,) = tensor_names(each.case.expected)
        wanted = each.case.expected[name]
        assert isinstance(wanted, Tensor)
        got = usable(each.answers[0], wanted)
        if got is None:
            return {}
        off.append(float((got - wanted).abs().max() / wanted.abs().max()))
    if max(off, default=1) > COARSE or sum(map(_wrong, questions)) < FEWEST:
        return {}
    told = f"Your loss and its gradient are nearly right, and off by up to {max(off):.1g} of their size."
    return _said(questions, f"{told} Something is computed in a lower precision, or a small number is added somewhere.")


def _other_defaults(asked: Sequence[Asked]) -> str:
    """Which temperature and alpha are taken where none are given, if all else is right."""
    without = [each for each in asked if "defaults" in each.case.evidence]
    if any(_wrong(each) != ("temperature" not in each.case.call.inputs) for each in asked):
        return ""
    found = []
    for temperature, alpha in product(DEFAULTS, ALPHAS):
        if all(_is_that_of(each, temperature, alpha) for each in without):
            found.append(f"temperature {temperature:g} and alpha {alpha:g}")
    if len(found) != 1:
        return ""
    return f"Where temperature and alpha are not given, your loss is that of {found[0]}. The task has other defaults."


def _is_that_of(each: Asked, temperature: float, alpha: float) -> bool:
    evidence = each.case.evidence["defaults"]
    first, second = evidence["first"], evidence["second"]
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    (name,) = tensor_names(each.case.expected)
    wanted = each.case.expected[name]
    assert isinstance(wanted, Tensor)
    got = usable(each.answers[0], wanted)
    if got is None:
        return False
    numbers = projected(got[None])[0] if got.ndim else got[None]
    by_hand = alpha * temperature**2 * first[DEFAULTS.index(temperature)] + (1 - alpha) * second
    room = allowed(name, wanted, each.case.expected) * max(1, got.numel()) ** 0.5
    return bool(((numbers - by_hand).abs() <= room).all())


# ---- what a call leaves behind -----------------------------------------------------------------------------------


def arguments(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """What became of the tensors that were given."""
    found = {}
    for case, (answer, *_), _ in asked:
        names = tensor_names(case.expected)
        if answer.status is not Status.RETURNED or len(answer.tensors) != len(names):
            continue
        told = []
        for name, got in zip(names, answer.tensors, strict=True):
            wanted = case.expected[name]
            assert isinstance(wanted, Tensor)
            if name == "the teacher's gradient" and got.shape == wanted.shape and got.any():
                told.append("A gradient reaches the teacher's logits.")
            elif name.endswith(" after") and not (got.shape == wanted.shape and torch.equal(got, wanted)):
                what = {"labels": "labels"}.get(name.split()[1], f"{name.split()[1]}'s logits")
                told.append(f"The {what} that were given are others after the call.")
        if told:
            found[case.name] = Diagnosis("kd-formula", " ".join(told))
    return found

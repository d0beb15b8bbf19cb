"""Task 3.2: which channels of which ranking were chosen, in which order, and as what they came back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.pruning.answers import (
    Explanation,
    answer_of,
    first_of,
    in_questions,
    of_evidence,
    only_again,
    simplest,
    told,
)

WIDEST = 1000  # channels of one answer
CHANNELS = "the channels"
_ASKED = "Asked for are the keep most important ones, in ascending order of index."
_Rule = Callable[[list[int], int], list[int]]

_BY_IMPORTANCE: dict[str, _Rule] = {  # of all channels, the most important first
    "the keep most important channels": lambda order, keep: order[:keep],
    "the keep least important channels": lambda order, keep: order[len(order) - keep :],
    "the channels that go, all but the keep most important,": lambda order, keep: order[keep:],
    "the keep + 1 most important channels": lambda order, keep: order[: keep + 1],
    "the keep - 1 most important channels": lambda order, keep: order[: keep - 1],
    "keep channels from the second most important on": lambda order, keep: order[1 : keep + 1],
    "keep channels up to the second least important": lambda order, keep: order[-keep - 1 : -1],
    "all channels": lambda order, keep: order,
}
_BY_INDEX: dict[str, _Rule] = {  # of all channels, by index
    "the first keep channels, whatever their importance,": lambda channels, keep: channels[:keep],
    "the last keep channels, whatever their importance,": lambda channels, keep: channels[len(channels) - keep :],
    "keep channels from the second on, whatever their importance,": lambda channels, keep: channels[1 : keep + 1],
    "every other channel, whatever its importance,": lambda channels, keep: channels[::2][:keep],
}
_ORDERS: dict[str, Callable[[list[int], list[int]], list[int]]] = {  # of those chosen, and of all by importance
    "in ascending order of index": lambda chosen, order: sorted(chosen),
    "in descending order of index": lambda chosen, order: sorted(chosen, reverse=True),
    "in order of importance, the largest first": lambda chosen, order: sorted(chosen, key=order.index),
    "in order of importance, the smallest first": lambda chosen, order: sorted(chosen, key=order.index, reverse=True),
}
_FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of those chosen, int64, and all importances
    "{}": lambda chosen, importance: chosen,
    "{}, as int32": lambda chosen, importance: chosen.int(),
    "{}, as floating numbers": lambda chosen, importance: chosen.float(),
    "{}, each less by 1": lambda chosen, importance: chosen - 1,
    "{}, each larger by 1": lambda chosen, importance: chosen + 1,
    "not the indices but the importances of {}": lambda chosen, importance: importance[chosen],
    "a mask of {}": lambda chosen, importance: torch.isin(torch.arange(len(importance)), chosen),
    "a mask, as int64, of {}": lambda chosen, importance: torch.isin(torch.arange(len(importance)), chosen).long(),
}


def selections(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """Which channels, in which order, as what; or where those that were chosen differ by little from the right ones."""
    looks: list[tuple[Asked, Tensor]] = []
    for each in asked:
        answer = answer_of(each)
        if answer and each.case.evidence and answer[CHANNELS].ndim == 1 and len(answer[CHANNELS]) <= WIDEST:
            looks.append((each, answer[CHANNELS]))
    off = [(each, got) for each, got in looks if not _same(got, _right(each))]
    if not off:
        return {}

    def by_rule() -> dict[str, Diagnosis]:
        found = simplest(list(_rules(looks)))
        wrong = [each for each, _ in off]
        return told(wrong, "select-rule", f"The function gives {found.words}. {_ASKED}") if found else {}

    def again() -> dict[str, Diagnosis]:
        return only_again([each for each, _ in looks], "the importances")

    return first_of((by_rule, lambda: _by_ties(looks, off), lambda: _with_ties(looks, off), again))


def _right(asked: Asked) -> Tensor:
    right = asked.case.expected[CHANNELS]
    assert isinstance(right, Tensor)
    return right


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _rules(looks: Sequence[tuple[Asked, Tensor]]) -> Iterator[Explanation]:
    """All that give every answer."""
    rankings = [of_evidence(each, "the rankings") for each, _ in looks]
    for number, ties in enumerate(rankings[0]):
        orders = [ranking[ties].tolist() for ranking in rankings]
        more = f"; of equally important ones those with {ties.removesuffix(' first')} count as more important"
        for choices, by_index in ((_BY_IMPORTANCE, False), (_BY_INDEX, True)):
            for (rule, cut), (order, put), (form, shape) in product(choices.items(), _ORDERS.items(), _FORMS.items()):
                if all(_gives(cut, put, shape, by_index, *each) for each in zip(looks, orders, strict=True)):
                    cost = number + (rule != next(iter(choices))) + (order != next(iter(_ORDERS))) + (form != "{}")
                    yield Explanation(cost + by_index, form.format(f"{rule} {order}") + more * number)


def _gives(
    cut: _Rule,
    put: Callable[[list[int], list[int]], list[int]],
    shape: Callable[[Tensor, Tensor], Tensor],
    by_index: bool,
    look: tuple[Asked, Tensor],
    order: list[int],
) -> bool:
    """Whether this rule gives this answer."""
    asked, got = look
    importance, keep = asked.case.call.inputs["importance"], asked.case.call.inputs["keep"]
    assert isinstance(importance, Tensor)
    assert isinstance(keep, int)
    chosen = cut(sorted(order) if by_index else order, keep)
    return _same(got, shape(torch.tensor(put(chosen, order), dtype=torch.int64), importance))


# ---- ties, and what is taken for one -----------------------------------------------------------------------------


def _by_ties(looks: Sequence[tuple[Asked, Tensor]], off: Sequence[tuple[Asked, Tensor]]) -> dict[str, Diagnosis]:
    """Where the only channels that are wrong are as important as the right ones, or nearly so."""
    wrong = [each for each, _ in off]
    missed = [_missed(each, got) for each, got in off]
    if any(miss is None for miss in missed):
        return {}
    least = [_closest(each) for each, got in looks if _same(got, _right(each))]
    absolute, relative = (max(miss[place] for miss in missed if miss) for place in (0, 1))
    where = in_questions(wrong)
    if absolute == 0:
        message = (
            "Only among equally important channels are the wrong ones chosen (ties): the others are right, as are the "
            f"answers without ties. Seen {where}: of equals the lower index stays."
        )
        return told(wrong, "select-rule", message)
    for number, closest in ((absolute, 0), (relative, 1)):
        if all(number < gap[closest] for gap in least):
            message = (
                f"Importances that differ by little are ranked as if they were equal, or wrongly: {where} a channel is "
                f"missed that is by {absolute:.2g} ({relative:.1g} of itself) more important than one that stays. "
                "Where they differ by more, all answers are right."
            )
            return told(wrong, "select-rule", message)
    return {}


def _with_ties(looks: Sequence[tuple[Asked, Tensor]], off: Sequence[tuple[Asked, Tensor]]) -> dict[str, Diagnosis]:
    """Where all that is wrong has equals on both sides of the last channel that stays, and nothing else is wrong."""
    wrong = [each for each, _ in off]
    at_the_edge = [_closest(each)[0] == torch.inf for each in wrong]
    if not all(at_the_edge) or len(off) == len(looks):
        return {}
    message = (
        f"Only questions with ties are answered wrongly, {in_questions(wrong)}: where channels are as important as the "
        "last one that stays, still `keep` of them stay, of the equals those with the lower index."
    )
    return told(wrong, "select-rule", message)


def _missed(asked: Asked, got: Tensor) -> tuple[float, float] | None:
    """By how much a channel that is missing is more important than one in its place, and by which share of itself; None
    where the answer is no choice of as many channels, in ascending order."""
    importance, right = asked.case.call.inputs["importance"], _right(asked)
    assert isinstance(importance, Tensor)
    whole = got.dtype == torch.int64 and got.shape == right.shape
    if not whole or not bool(((got >= 0) & (got < len(importance))).all()) or bool((got.diff() <= 0).any()):
        return None
    missing, instead = set(right.tolist()) - set(got.tolist()), set(got.tolist()) - set(right.tolist())
    values = importance.double().tolist()
    pairs = [(values[i] - values[j], (values[i] - values[j]) / values[i]) for i in missing for j in instead]
    return max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)


def _closest(asked: Asked) -> tuple[float, float]:
    """By how much, and which share, the least important channel that stays is above the best that goes; infinite where
    they are equal, or none goes."""
    importance, kept = asked.case.call.inputs["importance"], set(_right(asked).tolist())
    assert isinstance(importance, Tensor)
    values = importance.double().tolist()
    last, best = min(values[i] for i in kept), max((v for i, v in enumerate(values) if i not in kept), default=0.0)
    return (last - best, (last - best) / last) if last > best else (torch.inf, torch.inf)

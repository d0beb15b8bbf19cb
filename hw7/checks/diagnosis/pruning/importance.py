"""Task 3.1: the formula of an importance, of the terms that a batch norm has for each channel."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations, product

import torch
from torch import Tensor

from hw7.checks.compare import difference
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.pruning.answers import (
    Explanation,
    answer_of,
    listed,
    of_evidence,
    only_again,
    simplest,
    told,
)

WIDEST = 1000  # channels of one answer
_Function = Callable[[Tensor], Tensor]

_OF_ONE: dict[str, _Function] = {  # what is made of each number; {} stands for it
    "{}": lambda x: x,
    "{}²": lambda x: x**2,
    "√{}": torch.sqrt,
    "{}³": lambda x: x**3,
    "1 / {}": lambda x: 1 / x,
    "-{}": lambda x: -x,
    "1 - {}": lambda x: 1 - x,
    "e^{}": torch.exp,
    "log {}": torch.log,
    "log(1 + {})": torch.log1p,
    "sigmoid({})": torch.sigmoid,
    "tanh({})": torch.tanh,
    "{}, 0 where it is negative": lambda x: x.clamp(min=0),
    "the sign of {}": torch.sign,
    "{}, as a whole number": torch.trunc,
    "{}, rounded to a whole number": torch.round,
}
_OF_ALL: dict[str, _Function] = {  # what is made of all of a layer
    "{}": lambda x: x,
    "{} / its sum over the channels": lambda x: x / x.sum(),
    "{} / its largest over the channels": lambda x: x / x.max(),
    "{} / its mean over the channels": lambda x: x / x.mean(),
    "{} / its norm over the channels": lambda x: x / x.norm(),
    "{} / the number of channels": lambda x: x / len(x),
    "{} · the number of channels": lambda x: x * len(x),
    "{} less its mean over the channels": lambda x: x - x.mean(),
    "{} less its smallest over the channels": lambda x: x - x.min(),
    "{}, brought to 0..1 over the channels": lambda x: (x - x.min()) / (x.max() - x.min()),
    "{} less its mean, over its standard deviation": lambda x: (x - x.mean()) / x.std(),
    "the softmax of {}": lambda x: x.softmax(dim=0),
    "the rank of {}, 0 for the smallest": lambda x: x.argsort().argsort().double(),
    "the rank of {}, 0 for the largest": lambda x: x.argsort(descending=True).argsort().double(),
    "the channels in ascending order of {}": lambda x: x.argsort().double(),
    "the channels in descending order of {}": lambda x: x.argsort(descending=True).double(),
    "{}, sorted in ascending order": lambda x: x.sort().values,
    "{}, sorted in descending order": lambda x: x.sort(descending=True).values,
    "{}, in reversed order": lambda x: x.flip(0),
    "the running sum of {}": lambda x: x.cumsum(dim=0),
}
_OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "{} + {}": lambda x, y: x + y,
    "{} · {}": lambda x, y: x * y,
    "{} - {}": lambda x, y: x - y,
    "{} / {}": lambda x, y: x / y,
    "the larger of {} and {}": torch.maximum,
    "the smaller of {} and {}": torch.minimum,
    "√({}² + {}²)": torch.hypot,
    "{} / √({} + eps)": lambda x, y: x / (y + 1e-5).sqrt(),
    "{} · √({} + eps)": lambda x, y: x * (y + 1e-5).sqrt(),
}
IMPORTANCE = "the importance"
_ASKED = "What is asked for is the size of each channel's scale, as it is, whatever its sign."


def importances(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """Task 3.1."""
    looks: list[tuple[Tensor, dict[str, Tensor]]] = []
    usable: list[tuple[Asked, Tensor]] = []
    for each in asked:
        got = answer_of(each)
        if got is None or got[IMPORTANCE].ndim != 1 or not 1 <= got[IMPORTANCE].numel() <= WIDEST:
            continue
        terms = {name: term.double() for name, term in of_evidence(each, "the terms").items()}
        if not all(term.shape == got[IMPORTANCE].shape for term in terms.values()):
            continue
        looks.append((got[IMPORTANCE].double(), terms))
        usable.append((each, got[IMPORTANCE]))
    off = [each for each, got in usable if not _is_right(each, got)]
    if not off:
        return {}
    found = _rounded(usable) or simplest(list(_formulas(looks)))
    if found is not None:
        return told(off, "importance-formula", f"The importance is {found.words}. {_ASKED}")
    return only_again([each for each, _ in usable], "the batch norm")


def _is_right(asked: Asked, got: Tensor) -> bool:
    right = asked.case.expected[IMPORTANCE]
    assert isinstance(right, Tensor)
    return difference(IMPORTANCE, right, got, asked.case.expected) is None


def _rounded(looks: Sequence[tuple[Asked, Tensor]]) -> Explanation | None:
    """The right importance, but in fewer digits."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        rights = [next(iter(of_evidence(each, "the terms").values())) for each, _ in looks]
        if all(map(lambda right, look: torch.equal(right.to(dtype).double(), look[1].double()), rights, looks)):
            return Explanation(
                1, f"|scale|, rounded to {str(dtype).removeprefix('torch.')} whatever the scale's dtype is"
            )
    return None


def _close(got: Tensor, wanted: Tensor) -> bool:
    """Whether they are the same but for rounding in float32."""
    if not wanted.isfinite().all() or not got.isfinite().all():
        return False
    exact = got.dtype == wanted.dtype and torch.equal(got, wanted)
    return exact or bool((got - wanted).abs().max() <= 2e-6 * max(wanted.abs().max().item(), 1e-30))


def _formulas(looks: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> Iterator[Explanation]:
    """All that give every answer: of one of the terms, of two, a multiple, or a constant."""
    constants = {number for got, _ in looks for number in got.tolist()}
    if len(constants) == 1:
        same = [name for name, term in looks[0][1].items() if _close(looks[0][0], term)]
        words = f", as {listed(same)} is here" if same else ""
        yield Explanation(0, f"{constants.pop():.6g} for every channel{words}")
        return
    names = list(looks[0][1])
    for place, name in enumerate(names):
        for (inner, of_one), (outer, of_all) in product(_OF_ONE.items(), _OF_ALL.items()):
            cost = (inner != "{}") + (outer != "{}") + place / 10
            if all(_close(got, of_all(of_one(terms[name]))) for got, terms in looks):
                yield Explanation(cost, outer.format(_bracketed(inner.format(name), outer)))
        yield from _linear(looks, name, place)
    for (one, first), (two, second) in permutations(enumerate(names), 2):
        same_size = all(_close(terms[first].abs(), terms[second].abs()) for _, terms in looks)
        for words, of_two in _OF_TWO.items():
            # Where the order does not matter, either fits; of a term with itself a multiple says it better.
            cost = 1.5 + (one + two) / 10 + (one > two) / 100 + 2 * same_size
            if all(_close(got, of_two(terms[first], terms[second])) for got, terms in looks):
                yield Explanation(cost, words.format(first, second))


def _bracketed(words: str, outer: str) -> str:
    return f"({words})" if outer != "{}" and " " in words else words


def _linear(looks: Sequence[tuple[Tensor, dict[str, Tensor]]], name: str, place: int) -> Iterator[Explanation]:
    """The same multiple of a term in all answers, or the same number added."""
    got = torch.cat([got for got, _ in looks])
    term = torch.cat([terms[name] for _, terms in looks])
    largest = int(term.abs().argmax())
    for sign, number in (("·", got[largest] / term[largest]), ("+", got[largest] - term[largest])):
        made = [terms[name] * number if sign == "·" else terms[name] + number for _, terms in looks]
        neutral = abs(number.item() - (sign == "·")) < 1e-6
        if not neutral and all(_close(each, wanted) for (each, _), wanted in zip(looks, made, strict=True)):
            yield Explanation(2.5 + place / 10, f"{name} {sign} {number.item():.6g}")

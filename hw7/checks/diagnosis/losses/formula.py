"""Which formula gives these numbers: a first term times a factor plus a second term times another, from lists of both.

Formulas are tried in the order of how far they are from the right one, and the search ends at the first distance where
one fits. The sums of two lists are searched like a dictionary: one list is sorted, and looked up for each of the other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hw7.checks.diagnosis.losses.terms import FIRST, SECOND, Term
from hw7.checks.tensors import noise

PROJECTIONS = 6  # numbers that stand for a gradient
MOST = 4  # differences from the right formula
PAIRS = 4_000_000  # that one look-up may give: more of them prove nothing
ZERO = 1e-9  # a term that is no larger anywhere is none
UNUSUAL = 1.1  # differences that something less likely counts for: of two explanations the other one is taken

# What may stand for alpha or 1 - alpha, and how that is worked out.
SHARES = {
    "alpha": lambda alpha: alpha,
    "(1 - alpha)": lambda alpha: 1 - alpha,
    "": torch.ones_like,
    "0.5": lambda alpha: torch.full_like(alpha, 0.5),
    "alpha²": lambda alpha: alpha**2,
    "(1 - alpha)²": lambda alpha: (1 - alpha) ** 2,
    "alpha · (1 - alpha)": lambda alpha: alpha * (1 - alpha),
    "√alpha": lambda alpha: alpha.clamp(min=0) ** 0.5,
    "(1 + alpha)": lambda alpha: 1 + alpha,
    "(alpha, or 0.5 for 0)": lambda alpha: torch.where(alpha == 0, 0.5, alpha),
    "(1 - alpha, or 0.5 for alpha = 0)": lambda alpha: 1 - torch.where(alpha == 0, 0.5, alpha),
}
POWERS = {
    0: "", 1: "T", 2: "T²", 3: "T³", 4: "T⁴", -1: "1 / T", -2: "1 / T²", -3: "1 / T³", -4: "1 / T⁴", 0.5: "√T",
    -0.5: "1 / √T", 1.5: "T · √T",
}  # fmt: skip
OF_20 = 400.0  # T² where T is always 20
NUMBERS = (1.0, 2.0, 0.5, -1.0, 11.0, 1 / 11, 10.0, 0.1, 100.0, 0.01, 4.0, 0.25, 3.0)
LIKELY = ("alpha", "(1 - alpha)", "", "0.5"), (0, 1, 2, 4, -2, -1), (1.0, 2.0, 0.5, -1.0, 11.0, OF_20)


def projected(gradients: Tensor) -> Tensor:
    """[n, PROJECTIONS] for [n, …]: sums over all entries, weighed at random."""
    flat = gradients.flatten(1).double()
    return flat @ noise(0, "projection", shape=(flat.shape[1], PROJECTIONS)).double()


class Factor(NamedTuple):
    """share · T^power · N^samples · C^classes · number."""

    share: str
    power: float
    samples: int = 0
    classes: int = 0
    number: float = 1.0


class Part(NamedTuple):
    """A term's place in its list, and its factor; None where the term is missing."""

    term: int
    factor: Factor | None


@dataclass(frozen=True)
class Formula:
    """The sum of both parts. cost: in how many ways it differs from the right one."""

    first: Part
    second: Part
    cost: float


@dataclass(frozen=True)
class Columns:
    """What was asked, a column for each number that came back. terms: [n, columns] for the first and second place;
    the rest is [columns]: temperature, alpha, N and C, the number, and how far it may be off."""

    terms: tuple[Tensor, Tensor]
    settings: Tensor  # [4, columns]
    target: Tensor
    atol: Tensor
    rtol: Tensor

    def only(self, chosen: Tensor) -> "Columns":
        """Those where `chosen` [columns] is true."""
        first, second = (terms[:, chosen] for terms in self.terms)
        rest = (each[..., chosen] for each in (self.settings, self.target, self.atol, self.rtol))
        return Columns((first, second), *rest)


RIGHT = (Factor("alpha", 2), Factor("(1 - alpha)", 0))


def expected(place: int, term: Term) -> Factor:
    """The factor that stands before this term where all else is right."""
    share, power = term.takes
    right = RIGHT[place]
    return right._replace(share="" if share else right.share, power=right.power - power)


def _cost(factor: Factor, right: Factor) -> float:
    """In how many ways a factor differs from the right one."""
    share, power, samples, classes, number = (a != b for a, b in zip(factor, right, strict=True))
    if factor.number == OF_20:  # one thing with the power of T that is missing
        power = False
    likely = factor.share in LIKELY[0], factor.power in LIKELY[1], factor.number in LIKELY[2]
    unusual = sum(
        UNUSUAL - 1 for off, is_likely in zip((share, power, number), likely, strict=True) if off and not is_likely
    )
    return share + power + samples + classes + number + unusual


@cache
def _factors(right: Factor) -> dict[int, tuple[tuple[Factor, float], ...]]:
    """The factors that differ from this one in two ways at most, with what they cost, by the number of ways."""
    choices: tuple[Iterable[Any], ...] = (SHARES, POWERS, (0, 1, -1), (0, 1, -1), NUMBERS)
    changes: list[dict[str, Any]] = [{"power": 0, "number": OF_20}]
    changes += [{name: value} for name, values in zip(Factor._fields, choices, strict=True) for value in values]
    pairs = combinations(changes, 2)
    changed = {right._replace(**one, **other) for one, other in pairs if one.keys().isdisjoint(other)}
    found: dict[int, list[tuple[Factor, float]]] = {}
    for factor in sorted(changed):
        cost = _cost(factor, right)
        found.setdefault(int(cost), []).append((factor, cost))
    return {level: tuple(rows) for level, rows in found.items()}


def values_of(factors: Sequence[Factor], settings: Tensor) -> Tensor:
    """[factors, columns]."""
    temperature, alpha, samples, classes = settings
    shares = {name: work_out(alpha) for name, work_out in SHARES.items()}
    powers = {power: temperature**power for power in POWERS}
    sizes = {(n, c): samples**n * classes**c for n, c in product((-1, 0, 1), repeat=2)}
    rows = [shares[f.share] * powers[f.power] * sizes[f.samples, f.classes] * f.number for f in factors]
    return torch.stack(rows) if rows else settings.new_empty(0, settings.shape[1])


@dataclass(frozen=True)
class _Rows:
    """Parts of one place that differ from the right one in as many ways: each term of a group with each factor of it;
    and their values [parts, columns]."""

    groups: list[tuple[list[int], int, Sequence[tuple[Factor | None, float]]]]  # terms, what they cost, factors
    values: Tensor

    def part(self, number: int) -> tuple[Part, float]:
        """A part by its place among the values, and what it costs."""
        for terms, cost, factors in self.groups:
            if number < len(terms) * len(factors):
                factor, more = factors[number % len(factors)]
                return Part(terms[number // len(factors)], factor), cost + more
            number -= len(terms) * len(factors)
        raise LookupError(number)


class Search:
    """All formulas that differ from the right one in so many ways, against one set of columns."""

    def __init__(self, columns: Columns, most: int = MOST) -> None:
        self.columns, self.most = columns, most
        self._rows: dict[tuple[int, int], _Rows] = {}

    def formulas(self) -> list[Formula]:
        """Those that fit and differ least from the right one; none, one, or several between which nothing decides."""
        for level in range(self.most + 1):
            found = [each for ways in range(level + 1) for each in self._sums(ways, level - ways)]
            if found:
                least = min(each.cost for each in found)
                return [each for each in found if each.cost < least + 1e-9]
        return []

    def _level(self, place: int, level: int) -> _Rows:
        """Parts of a place that differ from the right one in this many ways."""
        if (place, level) not in self._rows:
            self._rows[place, level] = self._made(place, level)
        return self._rows[place, level]

    def _made(self, place: int, level: int) -> _Rows:
        columns, values = self.columns, []
        terms: dict[tuple[Factor, int], list[int]] = {}
        for number, term in enumerate((FIRST, SECOND)[place]):
            numbers = columns.terms[place][number]
            if term.cost <= level and numbers.isfinite().all() and numbers.abs().max() > ZERO:
                terms.setdefault((expected(place, term), term.cost), []).append(number)
        groups: list[tuple[list[int], int, Sequence[tuple[Factor | None, float]]]] = []
        for (right, cost), some in terms.items():
            rows = _factors(right).get(level - cost, ())
            factors = values_of([factor for factor, _ in rows], columns.settings)
            values.append((columns.terms[place][some][:, None] * factors).flatten(0, 1))
            groups.append((some, cost, rows))
        if level == 1:
            groups.append(([0], 0, [(None, 1.0)]))
            values.append(torch.zeros_like(columns.target)[None])
        return _Rows(groups, torch.cat(values) if values else columns.target.new_empty(0, len(columns.target)))

    def _sums(self, ways: int, others: int) -> Iterator[Formula]:
        """The formulas that fit whose first part differs in so many ways, and whose second one in so many others."""
        first, second = self._level(0, ways), self._level(1, others)
        if not len(first.values) or not len(second.values):
            return
        columns = self.columns
        key = int((columns.settings[0] - 1).abs().clamp(max=0.5).mul(columns.terms[0][0].abs() > 1e-3).argmax())
        order = second.values[:, key].argsort()
        ordered = second.values[order, key].contiguous()
        rest = columns.target[key] - first.values[:, key]
        room = columns.atol[key] + columns.rtol[key] * (columns.target[key].abs() + first.values[:, key].abs())
        low, high = torch.searchsorted(ordered, rest - room), torch.searchsorted(ordered, rest + room, right=True)
        counts = (high - low).clamp(min=0)
        if not 0 < int(counts.sum()) <= PAIRS:
            return
        left = torch.arange(len(counts)).repeat_interleave(counts)
        offset = torch.arange(len(left)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        right = order[low[left] + offset]
        for column in range(len(columns.target)):  # few are left after one or two
            a, b = first.values[left, column], second.values[right, column]
            room = columns.atol[column] + columns.rtol[column] * a.abs().maximum(b.abs())
            fits = (a + b - columns.target[column]).abs() <= room
            left, right = left[fits], right[fits]
        for i, j in zip(left.tolist(), right.tolist(), strict=True):
            (one, cost), (other, more) = first.part(i), second.part(j)
            yield Formula(one, other, cost + more)


def fits(formula: Formula, columns: Columns) -> bool:
    """Whether it gives the numbers of all these columns."""
    parts = [_value(place, part, columns) for place, part in enumerate((formula.first, formula.second))]
    room = columns.atol + columns.rtol * parts[0].abs().maximum(parts[1].abs())
    return bool(((parts[0] + parts[1] - columns.target).abs() <= room).all())


def _value(place: int, part: Part, columns: Columns) -> Tensor:
    """[columns]."""
    if part.factor is None:
        return torch.zeros_like(columns.target)
    return columns.terms[place][part.term] * values_of([part.factor], columns.settings)[0]


# ---- in words ----------------------------------------------------------------------------------------------------


def _of_factor(factor: Factor) -> tuple[list[str], list[str]]:
    """What multiplies and what divides."""
    power = POWERS[factor.power]
    above = [factor.share, "" if power.startswith("1 / ") else power]
    below = [power.removeprefix("1 / ") if power.startswith("1 / ") else ""]
    for count, name in ((factor.samples, "N"), (factor.classes, "C")):
        (above if count > 0 else below).append(name if count else "")
    number = factor.number
    if number == 1 / 11:
        below.append("11")
    elif number == OF_20:
        above.insert(0, "20²")
    elif number != 1:
        above.insert(0, f"{number:g}")
    return [each for each in above if each], [each for each in below if each]


def _of_part(place: int, part: Part) -> str:
    if part.factor is None:
        return ""
    above, below = _of_factor(part.factor)
    return " / ".join([" · ".join([*above, (FIRST, SECOND)[place][part.term].words]), *below])


def in_words(formula: Formula) -> str:
    """ "alpha · T · KL(teacher ‖ student) + (1 - alpha) · cross entropy"."""
    parts = [_of_part(place, part) for place, part in enumerate((formula.first, formula.second))]
    return " + ".join(filter(None, parts)) or "0"


def differences(formula: Formula) -> list[str]:
    """A sentence for each way in which it is another one than the right one."""
    first, second = formula.first.factor, formula.second.factor
    shares = ("", "") if first is None or second is None else (first.share, second.share)
    joint = [ALPHAS_OF[shares]] if shares in ALPHAS_OF else []
    if first and first.number == OF_20:
        joint.insert(0, "T is always 20, whatever temperature is given.")
    own = [_differences(place, part, bool(joint)) for place, part in enumerate((formula.first, formula.second))]
    return [*joint, *own[0], *own[1]]


ALPHAS_OF = {  # both weights
    ("0.5", "0.5"): "alpha is always 0.5, whatever alpha is given.",
    ("(1 - alpha)", "alpha"): "alpha and 1 - alpha have changed places.",
    ("(alpha, or 0.5 for 0)", "(1 - alpha, or 0.5 for alpha = 0)"): "An alpha of 0 is taken for none at all.",
}


def _differences(place: int, part: Part, told: bool) -> list[str]:
    """Those of one part; told: what T and alpha are is said already."""
    which, head = (("the first term", "The first term"), ("the second term", "The second term"))[place]
    if part.factor is None:
        return [f"{head} is missing, or always 0."]
    term, found = (FIRST, SECOND)[place][part.term], []
    factor, right_factor = part.factor, expected(place, term)
    if part.term and factor.number != OF_20:
        right = ("KL(teacher ‖ student), both softened by T", "the cross entropy of the student's logits as they are")
        found.append(f"In {which} belongs {right[place]}.")
    if factor.share != right_factor.share and not told:
        found.append(_of_share(which, factor.share, right_factor.share))
    if factor.power != right_factor.power and factor.number != OF_20:
        found.append(_of_power(which, factor, right_factor))
    if factor.samples:
        again = "summed over the batch, not averaged" if factor.samples > 0 else "divided by the batch size once more"
        found.append(f"{head} is {again}.")
    if factor.classes:
        times = "divided" if factor.classes < 0 else "multiplied"
        found.append(f"{head} is {times} by the number of classes C.")
    if factor.number not in (1, OF_20):
        number = "divided by 11" if factor.number == 1 / 11 else f"multiplied by {factor.number:g}"
        found.append(f"{head} is {number}, a number that the task does not have.")
    return found


def _of_share(which: str, got: str, wanted: str) -> str:
    got, wanted = (share[1:-1] if share.endswith(")") and share[0] == "(" else share for share in (got, wanted))
    if not got:
        return f"{which[0].upper()}{which[1:]} has no weight; {wanted} belongs there."
    return f"The weight of {which} is {got}, not {wanted}." if wanted else f"{got} multiplies {which} once more."


def _of_power(which: str, factor: Factor, right: Factor) -> str:
    got, wanted = POWERS[factor.power], POWERS[right.power]
    if not got:
        return f"The factor {wanted} of {which} is missing."
    if not wanted:
        return f"{which[0].upper()}{which[1:]} has a factor {got} that it should not have."
    return f"The factor of {which} is {got}, where {wanted} belongs."

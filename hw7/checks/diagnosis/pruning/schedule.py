"""Task 3.4, and the widths of 3.5: the rule of a schedule, of the shares that a stage may keep in each step."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

import torch
from torch import Tensor

from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.pruning.answers import (
    Explanation,
    answer_of,
    listed,
    of_evidence,
    simplest,
    stages,
    told,
)
from hw7.models import STUDENT_WIDTHS

STAGES, LONGEST = 8, 100  # of a table [steps, stages]
PRUNED = range(3, 7)

_ROUNDINGS: dict[str, Callable[[float], float]] = {
    "cut off to a whole number": int,
    "rounded to the nearest whole number": round,
    "rounded up": math.ceil,
    "cut off, and one less": lambda x: int(x) - 1,
    "cut off, and one more": lambda x: int(x) + 1,
    **{f"cut off to a multiple of {n}": lambda x, n=n: int(x) // n * n for n in (2, 4, 8, 16)},  # type: ignore[misc]
    **{f"rounded to a multiple of {n}": lambda x, n=n: int(x + n / 2) // n * n for n in (2, 4, 8, 16)},  # type: ignore[misc]
    **{f"rounded up to a multiple of {n}": lambda x, n=n: math.ceil(x / n) * n for n in (2, 4, 8, 16)},  # type: ignore[misc]
}
_LOWEST = {f"but at least {n}": n for n in (1, 0, 2, 4, 8, 16)}
_BASES = {
    "the original width": "given",
    "the width of the step before": "last",
    "the width in the network of 16 to 256 channels, whatever the widths given,": "built in",
    "the width of stage 3": "stage 3",
}
_WHAT_GOES = {"": False, "the original width less ": True}
_ROWS: dict[str, Callable[[list[list[int]]], list[list[int]]]] = {
    "": lambda rows: rows,
    "in every row of the table the last step's: ": lambda rows: rows[-1:] * len(rows),
    "the steps in reversed order: ": lambda rows: rows[::-1],
}


class Rule(NamedTuple):
    """One name of each choice."""

    share: str
    base: str
    rounding: str
    lowest: str
    goes: str
    rows: str


class Look(NamedTuple):
    """A question, and the table that came back for it."""

    asked: Asked
    table: list[list[int]]
    widths: list[int]
    shares: Mapping[str, Tensor]


def schedules(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """The one rule that gives all tables."""
    looks = list(filter(None, map(_look, asked)))
    off = [look.asked for look in looks if look.table != _right(look.asked).tolist()]
    if not off:
        return {}
    looks.sort(key=lambda look: len(look.table))
    found = simplest(list(_rules(looks)))
    return told(off, "schedule-rule", found.words) if found else {}


def _right(asked: Asked) -> Tensor:
    right = asked.case.expected["the widths"]
    assert isinstance(right, Tensor)
    return right


def _look(asked: Asked) -> Look | None:
    answer, widths = answer_of(asked), asked.case.call.inputs["widths"]
    if answer is None or not asked.case.evidence:
        return None
    table = answer["the widths"]
    shares = of_evidence(asked, "the shares")
    if table.shape != _right(asked).shape or len(table) > LONGEST or not bool(table.double().isfinite().all()):
        return None
    whole = [[int(number) for number in row] for row in table.double().tolist()]
    assert isinstance(widths, tuple)
    return Look(asked, whole, list(widths), shares) if table.double().tolist() == whole else None


def _rules(looks: Sequence[Look]) -> Iterator[Explanation]:
    """All that give every table, with at most three choices other than the first ones."""
    choices = [list(names) for names in (looks[0].shares, _BASES, _ROUNDINGS, _LOWEST, _WHAT_GOES, _ROWS)]
    first = Rule(*(names[0] for names in choices))
    for changes in range(4):
        for places in combinations(range(len(choices)), changes):
            for names in product(*(choices[place][1:] for place in places)):
                rule = Rule(*(dict(zip(places, names, strict=True)).get(i, old) for i, old in enumerate(first)))
                pruned = _stages_of(rule, looks)
                if pruned is not None:
                    other = changes + (pruned != set(PRUNED))
                    yield Explanation(other, _words(rule, first, pruned))


def _stages_of(rule: Rule, looks: Sequence[Look]) -> set[int] | None:
    """The stages that follow this rule where the others stay as they are; None where some do neither."""
    may_be, must_be = set(range(STAGES)), set[int]()
    for look in looks:
        made = _table(rule, look)
        for stage in range(STAGES):
            column = [row[stage] for row in look.table]
            if column != [row[stage] for row in made]:
                may_be.discard(stage)
            stays = STUDENT_WIDTHS[stage] if _BASES[rule.base] == "built in" else look.widths[stage]
            if any(number != stays for number in column):
                must_be.add(stage)
        if not must_be <= may_be:
            return None
    undecided = may_be - must_be
    return must_be | (undecided & set(PRUNED))


def _table(rule: Rule, look: Look) -> list[list[int]]:
    """What the rule gives for all stages."""
    base, rounding, lowest = _BASES[rule.base], _ROUNDINGS[rule.rounding], _LOWEST[rule.lowest]
    in_float32 = look.shares[rule.share].dtype == torch.float32
    shares = look.shares[rule.share].tolist()
    rows, last = [], look.widths
    for share in shares:
        widths = {"given": look.widths, "last": last, "built in": STUDENT_WIDTHS, "stage 3": look.widths[3:4] * STAGES}
        row = []
        for place, width in enumerate(widths[base]):
            part = 1 - share if _WHAT_GOES[rule.goes] else share
            number = int(rounding((torch.tensor(float(width)) * part).item() if in_float32 else width * part))
            row.append(max(lowest, look.widths[place] - number if _WHAT_GOES[rule.goes] else number))
        rows.append(row)
        last = row
    return _ROWS[rule.rows](rows)


def _words(rule: Rule, first: Rule, pruned: set[int]) -> str:
    """What the rule computes, and in what it differs."""
    share = f"(1 - {rule.share})" if rule.goes else rule.share
    told_lowest = "" if rule.lowest == "but at least 0" else f", {rule.lowest}"
    what = f"{rule.goes}{rule.base} · {share}, {rule.rounding}{told_lowest}"
    names = ("the share", "the width that it is taken of", "the rounding", "the smallest width")
    other = [name for name, ours, theirs in zip(names, rule, first, strict=False) if ours != theirs]
    other += ["what is rounded"] * bool(rule.goes) + ["the order of the rows"] * bool(rule.rows)
    other += ["the stages"] * (pruned != set(PRUNED))
    where = f"In step s, {stages(pruned)} get" if pruned else "No stage gets"
    verb = "is" if len(other) == 1 else "are"
    return f"{where} {rule.rows}{what}. In the task {listed(other)} {verb} different."

"""What a wrong function does, found out from its answers, where no known mistake gives them.

    losses        the formula of a loss, and of a step
    models        the layers that a network is made of, in the order in which it calls them
    pruning       which channels were taken, of which ranking; which tensors were left as they were
    quantization  which step and zero point were used, what was rounded, which entries of a file are another
    final         why the network that is handed in is no better than guessing

A finder looks at all answers to the questions of its kind, right ones too. It compares them with a case's `evidence`,
which whoever makes the cases has worked out, and speaks only where one explanation, and no other, gives every answer:
a mistake that is named and is not the mistake is worse than none. It is asked only where something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hw7.checks.cases import Answer, Case, Outcome

CHAPTERS = ("losses", "models", "pruning", "quantization")


class Asked(NamedTuple):
    """A case, the answers to its call and, where there was one, to its second one, and what was made of them."""

    case: Case
    answers: tuple[Answer, ...]
    outcome: Outcome


class Diagnosis(NamedTuple):
    """mistake: a row of `hw7.checks.mistakes`. message: what the function does, and what belongs there."""

    mistake: str
    message: str


# From all that was asked of a task, the right answers too, to what is found out, by the case's name.
Finder = Callable[[Sequence[Asked]], Mapping[str, Diagnosis]]


def diagnose(asked: Sequence[Asked]) -> dict[str, Diagnosis]:
    """What is found out of these answers to the cases of one task, by the case's name."""
    found: dict[str, Diagnosis] = {}
    programs = {each.case.call.program for each in asked}
    for chapter in CHAPTERS:
        finders: Mapping[Finder, tuple[str, ...]] = import_module(f"{__name__}.{chapter}").FINDERS
        for finder, asks in finders.items():
            if programs.isdisjoint(asks):
                continue
            try:
                found |= finder([each for each in asked if each.case.call.program in asks])
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
                continue  # answers may be anything: what is no answer of any kind is not explained
    return found

"""What a finder gets, the cases of a task with their answers, and what it gives: a diagnosis of some of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hw7.checks.cases import Answer, Case, Outcome


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

"""All finders, put to the answers to the cases of one task."""

from collections.abc import Sequence

from hw7.checks.diagnosis import losses, models, pruning, quantization
from hw7.checks.diagnosis.frame import Asked, Diagnosis, Finder

FINDERS: dict[Finder, tuple[str, ...]] = {
    **losses.FINDERS, **models.FINDERS, **pruning.FINDERS, **quantization.FINDERS,
}  # fmt: skip


def diagnose(asked: Sequence[Asked]) -> dict[str, Diagnosis]:
    """What is found out of these answers to the cases of one task, by the case's name."""
    found: dict[str, Diagnosis] = {}
    programs = {each.case.call.program for each in asked}
    for finder, asks in FINDERS.items():
        if programs.isdisjoint(asks):
            continue
        try:
            found |= finder([each for each in asked if each.case.call.program in asks])
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            continue  # answers may be anything: what is no answer of any kind is not explained
    return found

"""Outcomes that more than one judge gives: of a call that did not return, and of a wrong answer."""

from collections.abc import Iterable
from dataclasses import replace

from hw7.checks.cases import Answer, Case, Outcome, Status, Verdict
from hw7.support.words import counted

NOT_IMPORTED = "not-imported"  # the mistake of a module that cannot be imported
EARLIER = "earlier functions"  # in `equals`: what the submission's own functions of earlier tasks lead to
AT_HOME = " The public tests ask the like of it, and show your own line."  # left out where they do
_OF_STATUS: dict[Status, tuple[Verdict, str]] = {
    Status.VALUE_ERROR: (Verdict.CRASH, f"The function refused (ValueError) an input that it must take.{AT_HOME}"),
    Status.NOT_IMPLEMENTED: (Verdict.MISSING, "Not done yet: the function raises NotImplementedError."),
    Status.RAISED: (Verdict.CRASH, f"The function raised an exception.{AT_HOME}"),
    Status.ABSENT: (Verdict.MISSING, "There is no such file or function in the submission."),
    Status.NO_MEMORY: (Verdict.MEMORY, "The function asked for more memory than there is."),
    Status.TIME: (Verdict.TIME, "The time limit was reached. Look for a loop that does not end."),
    Status.DIED: (Verdict.CRASH, "The process ended before the function returned."),
    Status.FLOOD: (Verdict.OUTPUT, "Far more came back than the function should return."),
    Status.UNANSWERED: (Verdict.CRASH, "The process had ended before, so this could not be asked."),
}
_OBSCURE = (Status.DIED, Status.UNANSWERED)


def outcome_of_status(answer: Answer) -> Outcome:
    """The outcome of a call that did not return."""
    verdict, message = _OF_STATUS[answer.status]
    if answer.most is not None:
        most = f"at most {answer.most.size:,} bytes in {counted(answer.most.tensors, 'tensor')}"
        return Outcome(verdict, message, most, "more", clear=True, note=answer.note)
    return Outcome(verdict, message, clear=answer.status not in _OBSCURE, note=answer.note)


def not_imported(outcome: Outcome, why: str) -> Outcome:
    """The outcome of a call that could not be made, with the reason, in words."""
    return replace(outcome, mistake=NOT_IMPORTED, message=why)


def wrong_answer(
    message: str,
    expected: str,
    got: str,
    fits: Iterable[str] = (),
    note: str = "",
    equals: Iterable[str] = (),
    clear: bool = False,
) -> Outcome:
    return Outcome(Verdict.WRONG, message, expected, got, tuple(fits), tuple(equals), clear=clear, note=note)


def with_sign(case: Case, sign: str) -> list[str]:
    """The mistakes of a case that are known by a sign, whatever the values: "not_finite", "other_count", "dtype", …"""
    return [id_ for id_, change in case.mistakes.items() if change.get(sign)]

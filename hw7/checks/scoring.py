"""From outcomes to a part of the rubric: all of its cases, the sizes of files, hits among images. All or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hw7.checks.cases import Answer, Case, Outcome, Status, Verdict
from hw7.checks.compare import foretells, kind
from hw7.checks.judges import outcome_of_status
from hw7.checks.mistakes import load_mistakes
from hw7.solution import LIMITS, NUM_CLASSES


def with_mistakes(cases: Sequence[Case], outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The outcomes of all cases of a task, with the mistake of each wrong one named, if all answers agree with it.

    An answer disagrees with a mistake that would have given other values there: a function that rounds by chance may
    round up wherever one looks first. Only questions of one kind are held against each other: a loss may be right whose
    gradient is not. And layers count by themselves as well: a second mistake hides the first one in what a network
    computes, not in its parameters.
    """
    answered = [case for case in cases if outcomes[case.name].verdict in (Verdict.RIGHT, Verdict.WRONG)]

    def agreed(id_: str, among: Iterable[Case]) -> bool:
        return all(id_ in outcomes[case.name].fits or not foretells(case, id_) for case in among)

    def kind_of(case: Case) -> tuple[object, ...]:
        return case.call.program, case.call.inputs.get("builder")

    named = dict(outcomes)
    for case in answered:
        outcome = outcomes[case.name]
        same = [other for other in answered if kind_of(other) == kind_of(case)]
        layers = [other for other in same if other.judge == case.judge == "layers"]
        found = [id_ for id_ in outcome.fits if agreed(id_, same)]
        found = found or [id_ for id_ in outcome.fits if layers and agreed(id_, layers)]
        if found:
            mistake = load_mistakes()[found[0].partition("#")[0]]  # after it: which form of the mistake
            named[case.name] = replace(outcome, mistake=mistake.id, message=f"{mistake.title} {mistake.hint}")
    return named


def of_cases(
    part: str, cases: Iterable[Case], outcomes: Mapping[str, Outcome], paid: Callable[[], Collection[str]] = tuple
) -> tuple[str, Outcome]:
    """(case, outcome) of a part: right where all of its cases are, else the wrong one that says most.

    paid: the mistakes that earlier tasks of the chapter have shown. Answers that are exactly what those lead to, as
    where `network_slimming` uses a wrong `channel_importance`, are not charged again.
    """
    mine = [(case.name, outcomes[case.name]) for case in cases if case.part == part]
    wrong = [pair for pair in mine if pair[1].verdict is not Verdict.RIGHT]
    if wrong and all(outcome.mistake for _, outcome in wrong):
        known = paid()
        if all(outcome.mistake in known for _, outcome in wrong):
            return "", Outcome(Verdict.RIGHT, "It follows from the mistake in an earlier task, and is right beside it.")
    if wrong:  # one that shows a known mistake says most
        return next((pair for pair in wrong if pair[1].mistake), wrong[0])
    return "", Outcome(Verdict.RIGHT) if mine else Outcome(Verdict.MISSING, "Nothing was asked.")


def too_large(part: str, size: int) -> Outcome | None:
    """What is said of a file over its limit; None where it is not."""
    limit = LIMITS[part]
    if size <= limit:
        return None
    message = f"The {part} is too large, so the network is not run."  # weights may hide in source
    return Outcome(Verdict.WRONG, message, f"at most {limit:,} bytes", f"{size:,} bytes")


def of_size(part: str, size: int, missing: Outcome | None, works: bool) -> Outcome:
    """A size counts only with a network that works, that is, passes the first accuracy threshold."""
    expected, got = f"at most {LIMITS[part]:,} bytes", f"{size:,} bytes"
    message = "Sizes count only for a network that passes the first accuracy threshold."
    outcome = missing or too_large(part, size)
    return outcome or Outcome(Verdict.RIGHT if works else Verdict.WRONG, "" if works else message, expected, got)


def of_accuracy(accuracy: float, level: float, got: str) -> Outcome:
    """Whether a share of right answers reaches a threshold. got: the share in words."""
    message = "Train longer, distil from a better teacher, quantize with smaller steps."
    right = accuracy >= level
    return Outcome(Verdict.RIGHT if right else Verdict.WRONG, "" if right else message, f"at least {level:.1%}", got)


def unfit(answer: Answer, images: int) -> Outcome | None:
    """Why an answer is not the logits [images, 11] of a batch; None where it is."""
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer)
    shape = (images, NUM_CLASSES)
    if len(answer.tensors) == 1 and answer.tensors[0].shape == shape and answer.tensors[0].is_floating_point():
        return None
    message = "final_model must give one row of logits for each image."
    got = kind(answer.tensors[0]) if len(answer.tensors) == 1 else "something else"
    return Outcome(Verdict.WRONG, message, f"float32 {list(shape)}", got)


def hits(logits: Tensor, labels: Tensor) -> int:
    """Rows of [N, C] whose one largest logit, and no other, is the label's [N]; a row with NaN or infinity is wrong."""
    best = logits.amax(dim=1, keepdim=True)
    alone = (logits == best).sum(dim=1) == 1
    fine = torch.isfinite(logits).all(dim=1)
    return int((fine & alone & (logits.argmax(dim=1) == labels)).sum())

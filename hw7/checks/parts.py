"""From outcomes to a part of the rubric: all of its cases, the sizes of files, hits among images. All or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from torch import Tensor

from hw7.checks.cases import Answer, Case, Outcome, Status, Verdict
from hw7.checks.judges import kind, outcome_of_status

LIMITS = {"weights": 300_000, "source": 100_000}  # bytes: weights.safetensors, and all files under solution/ together
NUM_CLASSES = 11


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

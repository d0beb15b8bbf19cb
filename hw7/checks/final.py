"""The network that is handed in (tasks 5.1 and 5.2): the sizes of its files, and its accuracy on labelled images.

Labels never reach the submission: it is handed images batch by batch, and only a row with one largest logit can be
right.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hw7.checks.bounds import bound
from hw7.checks.cases import Answer, Call, Outcome, Status, Task, Verdict
from hw7.checks.compare import kind
from hw7.checks.diagnosis.final import SOME, explain
from hw7.checks.diagnosis.frame import Diagnosis
from hw7.checks.outcomes import outcome_of_status, wrong_answer
from hw7.solution import LIMITS, NUM_CLASSES
from hw7.support.words import counted

MISSING = Outcome(
    Verdict.MISSING,
    "There is no weights.safetensors beside `solution`. Train final_model, compress its state_dict, save it.",
    clear=True,
)

NEEDED = ("models", "quantization")  # the modules that the network and its weights come from
GUESSED = 1.5 / NUM_CLASSES  # of the answers are right by guessing, or a little more
GUESSING = (
    "That is guessing. Either the file's weights are not those that were trained, or lost their meaning on the way: "
    "load the very file in a new process, through your own decompress. Or the network sees something else than in "
    "training: compare what reaches its first layer."
)
TOO_LOW = "Train longer, distil from a better teacher, quantize with smaller steps."
STEP = 0.05  # of accuracy on hidden images, as students read it


@dataclass
class HandedIn:
    """sizes: bytes of "weights" (None: there are none) and of the "source". measure: how many answers are right, or why
    that is not known; called once, when it is needed. data: the kind of images. images: which and how many, in words.
    hidden: whether students must not read the exact share, which tells of labels that they do not have."""

    sizes: Mapping[str, int | None]
    measure: "Callable[[], Outcome | Measured]"
    data: str
    count: int
    images: str
    hidden: bool = False

    @cached_property
    def accuracy(self) -> "Outcome | Measured":
        if self.sizes["weights"] is None:
            return MISSING
        return next(filter(None, map(self._too_large, LIMITS)), None) or self.measure()

    def accurate(self, task: Task, part: str) -> Outcome:
        """Whether the share of right answers reaches a threshold of task 5.2."""
        measured, level = self.accuracy, task.thresholds[self.data][part]
        if isinstance(measured, Outcome):
            return measured
        accuracy, found = measured
        error = (accuracy * (1 - accuracy) / self.count) ** 0.5
        right = accuracy >= level
        message = "" if right else found.message if found else GUESSING if accuracy < GUESSED else TOO_LOW
        got, exact = f"{accuracy:.1%} ± {error:.1%} of {self.count:,} {self.images}", ""
        if self.hidden:
            exact = f"{accuracy:.2%} ± {error:.1%}, for teachers only"
            got = f"at least {max(rounded_down(accuracy), level if right else 0):.1%} of {self.count:,} {self.images}"
        mistake, verdict = found.mistake if found and not right else "", Verdict.RIGHT if right else Verdict.WRONG
        return Outcome(verdict, message, f"at least {level:.1%}", got, mistake=mistake, clear=not right, exact=exact)

    def small(self, part: str, works: bool) -> Outcome:
        """A size counts only with a network that works, that is, earns the first points of accuracy."""
        size = self.sizes[part]
        if self.sizes["weights"] is None or size is None:
            return MISSING
        why = f" {self.accuracy.message}" if isinstance(self.accuracy, Outcome) else ""
        message = "" if works else f"Sizes count only for a network that passes the first accuracy threshold.{why}"
        expected, got = f"at most {LIMITS[part]:,} bytes", counted(size, "byte")
        verdict = Verdict.RIGHT if works else Verdict.WRONG
        return self._too_large(part) or Outcome(verdict, message, expected, got, clear=not works)

    def _too_large(self, part: str) -> Outcome | None:
        size, limit = self.sizes[part], LIMITS[part]
        if size is None or size <= limit:
            return None
        message = f"The {part} {'are' if part == 'weights' else 'is'} too large, so the network is not run."
        message += " The names of its files count, too." if part == "source" else ""
        return Outcome(Verdict.WRONG, message, f"at most {limit:,} bytes", f"{size:,} bytes", clear=True)


def rounded_down(accuracy: float) -> float:
    """To whole steps: never more than was reached."""
    return math.floor(accuracy / STEP + 1e-9) * STEP  # 0.15 / 0.05 is a hair less than 3 in binary


class Measured(NamedTuple):
    """The share of right answers and, where it is low, why."""

    share: float
    found: Diagnosis | None = None


Asks = Callable[[Call], Answer]


def logits_of(weights: bytes, images: Tensor, batch: int, ask: Asks) -> Outcome | Tensor:
    """The logits [N, 11] of the network that this file makes for images, uint8 [N, 3, S, S]; or why there are none."""
    try:
        safetensors.torch.load(weights)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        message = "weights.safetensors is not a whole safetensors file. Write it with safetensors.torch.save_file."
        if weights[:2] in (b"PK", b"\x80\x02"):
            message = "weights.safetensors was written by torch.save. Write it with safetensors.torch.save_file."
        return Outcome(Verdict.WRONG, message, clear=True, note=str(error)[:300])
    data = torch.frombuffer(bytearray(weights), dtype=torch.uint8)
    answer = ask(Call("final_model", {"weights": data}, bound(1, 1)))
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer)
    if len(answer.tensors) != 1:
        message = "final_model must return an nn.Module, and decompress a dict that its load_state_dict takes."
        return wrong_answer(message, "a network", "something else", note=answer.note, clear=True)
    found = []
    for pictures in images.split(batch):
        answer = _ask_logits(pictures.float() / 255, ask)
        if outcome := unfit(answer, len(pictures)):
            return outcome
        found.append(answer.tensors[0].float())
    return torch.cat(found)


def _ask_logits(pictures: Tensor, ask: Asks) -> Answer:
    return ask(Call("final_logits", {"images": pictures}, bound(1, len(pictures) * NUM_CLASSES)))


def why_low(logits: Tensor, images: Tensor, labels: Tensor, enough: float, ask: Asks) -> Diagnosis | None:
    """Why fewer than `enough` of these logits [N, 11] are right for images, uint8 [N, 3, S, S]; None where that is not
    found out."""

    def again(pictures: Tensor) -> Tensor | None:
        answer = _ask_logits(pictures, ask)
        return None if unfit(answer, len(pictures)) else answer.tensors[0].float()

    return explain(logits, images[:SOME].float() / 255, labels, enough, again)


def unfit(answer: Answer, images: int) -> Outcome | None:
    """Why an answer is not the logits [images, 11] of a batch; None where it is."""
    if answer.status is not Status.RETURNED:
        return outcome_of_status(answer)
    shape = (images, NUM_CLASSES)
    if len(answer.tensors) == 1 and answer.tensors[0].shape == shape and answer.tensors[0].is_floating_point():
        return None
    message = "final_model must give one row of logits for each image."
    got = kind(answer.tensors[0]) if len(answer.tensors) == 1 else "something else"
    return Outcome(Verdict.WRONG, message, f"float32 {list(shape)}", got, clear=True)


def hits(logits: Tensor, labels: Tensor) -> int:
    """Rows of [N, C] whose one largest logit, and no other, is the label's [N]; a row with NaN or infinity is wrong."""
    best = logits.amax(dim=1, keepdim=True)
    alone = (logits == best).sum(dim=1) == 1
    fine = torch.isfinite(logits).all(dim=1)
    return int((fine & alone & (logits.argmax(dim=1) == labels)).sum())

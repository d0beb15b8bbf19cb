"""What is known of the network that is handed in, and what tasks 5.1 and 5.2 make of it. Torch is not needed here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from hw7.checks.cases import Outcome, PartScore, Task, Verdict
from hw7.checks.diagnosis.frame import Diagnosis
from hw7.solution import LIMITS, NUM_CLASSES
from hw7.support.words import counted

MISSING = Outcome(
    Verdict.MISSING,
    "There is no weights.safetensors beside `solution`. Train final_model, compress its state_dict, save it.",
    clear=True,
)

GUESSED = 1.5 / NUM_CLASSES  # of the answers are right by guessing, or a little more
GUESSING = (
    "That is guessing. Either the file's weights are not those that were trained, or lost their meaning on the way: "
    "load the very file in a new process, through your own decompress. Or the network sees something else than in "
    "training: compare what reaches its first layer."
)
TOO_LOW = "Train longer, distil from a better teacher, quantize with smaller steps."
STEP = 0.05  # of accuracy on hidden images, as students read it


class Measured(NamedTuple):
    """The share of right answers and, where it is low, why."""

    share: float
    found: Diagnosis | None = None


@dataclass
class HandedIn:
    """sizes: bytes of "weights" (None: there are none) and of the "source". measure: how many answers are right, or why
    that is not known; called once, when it is needed. data: the kind of images. images: which and how many, in words.
    hidden: whether students must not read the exact share, which tells of labels that they do not have."""

    sizes: Mapping[str, int | None]
    measure: Callable[[], Outcome | Measured]
    data: str
    count: int
    images: str
    hidden: bool = False

    @cached_property
    def accuracy(self) -> Outcome | Measured:
        if self.sizes["weights"] is None:
            return MISSING
        return next(filter(None, map(self._too_large, LIMITS)), None) or self.measure()

    def parts(self, task: Task, tasks: Sequence[Task]) -> tuple[PartScore, ...]:
        """All parts of a task that has no cases. tasks: all of the rubric."""
        if task.check == "accuracy":
            return tuple(PartScore(part, out_of, self.accurate(task, part)) for part, out_of in task.points.items())
        first = next((each for each in tasks if each.check == "accuracy"), None)
        works = first is not None and any(
            self.accurate(first, part).verdict is Verdict.RIGHT for part, points in first.points.items() if points
        )
        return tuple(PartScore(part, out_of, self.small(part, works)) for part, out_of in task.points.items())

    def accurate(self, task: Task, part: str) -> Outcome:
        """Whether the share of right answers reaches a threshold of task 5.2."""
        measured, levels = self.accuracy, task.thresholds[self.data]
        if isinstance(measured, Outcome):
            return measured
        accuracy, level = measured.share, levels[part]
        found = measured.found if accuracy < min(levels.values()) else None  # it explains nothing where some is reached
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

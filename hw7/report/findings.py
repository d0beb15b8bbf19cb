"""Findings: what the report concludes, as differences between two accuracies: yes, no, or undecided.

One run has one network of each kind, so its verdicts are on those networks: `paired_error` is the chance that lies in
the test images. What another seed changes is not in it; benchmarks/findings.py asks the same of several seeds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np

from hw7.report import ledger
from hw7.report.counting import KEPT_ALIKE, standard_error
from hw7.training.loop import Epoch

Result = Mapping[str, Any]  # of an experiment; of several together, accuracies are their means, and it has a title
Runs = Mapping[str, Result]
Pair = Callable[[Runs, str], tuple[Result, Result]]  # (runs of one seed, name of an accuracy) -> better, worse
TEST, VALIDATION = "test_accuracy", "accuracy"
IMAGES = {TEST: "test_images", VALIDATION: "images"}
ENOUGH = 2  # standard errors
FEW_IMAGES = 100  # fewer have no standard error to speak of
SWITCH_EPOCHS = 5  # on either side of a change of optimizer


@dataclass(frozen=True)
class Finding:
    """A difference, and from how many points (hundredths) on it came out: where it is `least` or more.

    id: that of the report's conclusion, if it is one. what: the difference in short. printed: the report's figures for
    the better and the worse one. on: the accuracy by which one run is judged. says: where it is none of the report's,
    what it claims. beyond: what no run can tell of the claim.
    """

    id: str
    question: str
    what: str
    needs: tuple[str, ...]
    least: float
    pair: Pair
    printed: tuple[str, str] | None = None
    on: str = TEST
    says: str = ""
    beyond: str = ""

    def measure(self, runs: Runs, accuracy: str) -> float:
        """Of one seed, in points: the larger, the better. What has validation accuracies only is measured by those."""
        accuracy = VALIDATION if self.on == VALIDATION else accuracy
        better, worse = self.pair(runs, accuracy)
        return 100 * (better[accuracy] - worse[accuracy])

    @property
    def claim(self) -> str:
        """As a sentence."""
        return self.says or ledger.whole().conclusions[self.id].text


def gap(better: str, worse: str) -> Pair:
    return lambda runs, accuracy: (runs[better], runs[worse])


def gain_with_teacher(runs: Runs, accuracy: str) -> tuple[Result, Result]:
    """From one teacher to the next better one: the two students between whom the gain is least."""
    pairs = (("teacher-weak", "student-weak"), ("teacher-scratch", "student-d"), ("teacher-pretrained", "student-e"))
    students = [student for _, student in sorted(pairs, key=lambda pair: runs[pair[0]][accuracy])]
    gains = {runs[b][accuracy] - runs[a][accuracy]: (runs[b], runs[a]) for a, b in pairwise(students)}
    return gains[min(gains)]


def ladders(runs: Runs, accuracy: str) -> tuple[Result, Result]:
    """Keep rate 0.975 and 0.95, each the mean over the parameter counts that both have."""
    steps = [{step["parameters"]: step for step in runs[f"prune-{rate}"]["steps"]} for rate in KEPT_ALIKE]
    shared = [count for count in steps[0] if count in steps[1]]
    first, second = (
        _mean([each[count] for count in shared], accuracy, f"keep rate {rate}")
        for each, rate in zip(steps, KEPT_ALIKE, strict=True)
    )
    return first, second


def around_the_switch(runs: Runs, accuracy: str) -> tuple[Result, Result]:
    """Students after and before the change of optimizer. Raises KeyError where the optimizer did not change."""
    students = [runs[name] for name in ("student-c", "student-d", "student-e")]

    def mean_when(when: str) -> Result:
        means = [{accuracy: run["at_switch"][when], "images": run["images"]} for run in students]
        return _mean(means, accuracy, f"{when} the switch")

    return mean_when("after"), mean_when("before")


def _mean(results: Sequence[Result], accuracy: str, title: str) -> Result:
    """As if all were one network: they are of one chain, or of one kind, and make many of the same mistakes."""
    return {accuracy: mean(r[accuracy] for r in results), "images": results[0]["images"], "title": title}


FINDINGS = (
    Finding(
        "pretrained-teacher", "2", "pretrained teacher above scratch teacher",
        ("teacher-pretrained", "teacher-scratch"), 3.0, gap("teacher-pretrained", "teacher-scratch"),
        ("q2.b.accuracy", "q2.a.accuracy"),
    ),
    Finding(
        "good-teacher", "2", "student taught by it above student alone", ("student-e", "student-c"),
        1.5, gap("student-e", "student-c"), ("q2.e.accuracy", "q2.c.accuracy"),
        beyond="Why the student is better, its accuracy does not say: whether it is that the teacher shows which "
        "classes look alike, neither the report nor this run has measured.",
    ),
    Finding(
        "weak-teacher", "2", "row d: student alone above taught by the scratch teacher", ("student-c", "student-d"),
        0.0, gap("student-c", "student-d"), ("q2.c.accuracy", "q2.d.accuracy"),
        beyond="In the report itself it is undecided: its two accuracies differ by about one standard error "
        "(contradiction 9).",
    ),
    Finding(
        "better-teacher", "2", "the better the teacher, the better its student",
        ("teacher-weak", "teacher-scratch", "teacher-pretrained", "student-weak", "student-d", "student-e"), 0.0,
        gain_with_teacher, says="The better the teacher, the better its student: so from each of three teachers to the "
        "next better one.",
    ),
    Finding(
        "weaker-teacher", "2", "the weak teacher is below the student alone", ("teacher-weak", "student-c"),
        0.0, gap("student-c", "teacher-weak"),
        says="The teacher that was stopped early is worse than the student alone.",
    ),
    Finding(
        "harm", "2", "and does not help: alone above taught by it", ("student-c", "student-weak"),
        0.0, gap("student-c", "student-weak"),
        says="Such a teacher does not help: its student is worse than one trained on labels alone.",
    ),
    Finding(
        "pruning", "3", "0.975 not below 0.95 at the shared counts (validation)", ("prune-0.975", "prune-0.95"),
        0.0, ladders, on=VALIDATION,
        beyond="At equal counts the network that was pruned less per step has also been fine-tuned in more steps. "
        "Which of the two it is, neither the report nor this run can tell.",
    ),
    Finding(
        "16-bits", "course", "16 bits lose at most 0.1", ("student-net", "quantized-16"),
        -0.1, gap("quantized-16", "student-net"),
        ("course.quantization.float16.accuracy", "course.quantization.float32.accuracy"),
    ),
    Finding(
        "8-bits", "course", "8 bits a channel lose at most 0.3", ("student-net", "quantized-8"),
        -0.3, gap("quantized-8", "student-net"),
        ("course.quantization.8bit.accuracy", "course.quantization.float32.accuracy"),
    ),
)  # fmt: skip

# Only of recipes that change their optimizer; the quick ones, of which several seeds are asked, do not.
SWITCH = Finding(
    "switch", "2", "students after the switch to SGD above those before", ("student-c", "student-d", "student-e"),
    0.0, around_the_switch, on=VALIDATION,
    beyond="Up to five epochs on either side were compared. Whether it is SGD, or only its smaller steps, is not told "
    "apart.",
)  # fmt: skip


def at_switch(history: Sequence[Epoch]) -> dict[str, dict[str, float]]:
    """The mean validation accuracy before the optimizer changed and after it, over up to five epochs each, for a run's
    result; nothing where it did not."""
    for number, (before, after) in enumerate(pairwise(history), start=1):
        if before.optimizer != after.optimizer:
            around = {"before": history[:number][-SWITCH_EPOCHS:], "after": history[number:][:SWITCH_EPOCHS]}
            return {"at_switch": {when: mean(e.validation_accuracy for e in rows) for when, rows in around.items()}}
    return {}


def paired_error(better: Result, worse: Result, accuracy: str) -> float:
    """Standard error of the difference between two accuracies on the same images, as a fraction.

    Where it is known which images each got right, from those on which only one did: with shares b and c of them,
    sqrt((b + c - (b - c)^2) / N) (McNemar 1947). Else as if each network had N images of its own, which is larger.
    """
    if accuracy == TEST and "test_right" in better and "test_right" in worse:
        first, second = (unpacked(result["test_right"], result["test_images"]) for result in (better, worse))
        return float(np.std(first.astype(float) - second) / math.sqrt(len(first)))
    return math.hypot(*(standard_error(result[accuracy], result[IMAGES[accuracy]]) for result in (better, worse)))


def packed(right: np.ndarray) -> str:
    """bool [N], which images a network got right, as hexadecimal digits of N bits."""
    return np.packbits(right).tobytes().hex()


def unpacked(digits: str, images: int) -> np.ndarray:
    """What `packed` was given: bool [images]."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=images).astype(bool)


def verdict(low: float, high: float, least: float) -> str:
    """Whether an interval of a difference is at or above `least` (yes), below it (no), or neither (undecided).

    Rounded: 0.83 - 0.80 is a little less than 0.03.
    """
    if round(low, 9) >= least:
        return "yes"
    return "no" if round(high, 9) < least else "undecided"

"""What the loop's own ways to be faster gain on this CPU: each against the way it replaces, in turn, in one run.

    python benchmarks/speedups.py [--size 32] [--repeats 5]

Prints a Markdown table. Times are seconds of one core, the process's own, so that what else the machine does counts
little: the medians of --repeats measurements after one that is not counted; with and without take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from unittest.mock import patch

import torch
from limits import threads
from tabulate import tabulate
from torch import nn

import hw7.support.torchvision_import  # noqa: F401  (before torchvision)
from hw7.data import augment
from hw7.data.load import load_split
from hw7.data.source import Split
from hw7.report.experiments import NETWORKS
from hw7.solution import load_solution
from hw7.training import epoch
from hw7.training.epoch import Learner, Passes, generator
from hw7.training.loop import Phase
from hw7.training.steps import Distillation, Step, cross_entropy_step, prepared

Work = Callable[[], object]


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name](load_solution(), 11).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def learner(step: Step) -> Learner:
    student = network("student_dw")
    return Learner(student, Phase(1).make_optimizer(student), step)


def comparisons(split: Split) -> Iterator[tuple[str, Work, Work]]:
    """(what, the way that was replaced, the way that replaces it); the same work, and a pass over the split each."""
    taught = Distillation(load_solution(), network("teacher"))
    frozen = prepared(taught, split.images, "float32")
    strength = augment.Augmentation()

    def one_pass(*learners: Learner) -> Work:
        passes = Passes(learners, split, 32, strength)
        return lambda: passes(generator(0))

    yield "a frozen teacher: an epoch of the student", one_pass(learner(taught)), one_pass(learner(frozen))

    steps = (cross_entropy_step, frozen, frozen, frozen)
    alone = [one_pass(learner(step)) for step in steps]
    yield (
        "four runs of question 2 side by side: an epoch of each",
        lambda: [each() for each in alone],
        one_pass(*map(learner, steps)),
    )

    resnet = network("teacher")
    for parameter in resnet.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    ordinary, fused = torch.optim.AdamW(resnet.parameters(), lr=1e-3), Phase(1).make_optimizer(resnet)

    def ten_steps(optimizer: torch.optim.Optimizer) -> Work:
        return lambda: [optimizer.step() for _ in range(10)]

    yield "fused AdamW: ten steps of ResNet-18's", ten_steps(ordinary), ten_steps(fused)

    student = network("student_dw")

    def predicted() -> None:
        epoch.predict(student, split.images)

    def in_batches_of_256() -> None:
        with patch.object(epoch, "evaluation_batch", return_value=256):
            predicted()

    yield f"evaluation batches of {epoch.evaluation_batch(split.images)}", in_batches_of_256, predicted


def seconds(before: Work, after: Work, repeats: int) -> tuple[float, float]:
    """The medians of both, which take turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 + repeats):
        for times, work in zip(taken, (before, after), strict=True):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    first, second = (statistics.median(times[1:]) for times in taken)
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    split = load_split("plates", "training", options.size, limit=options.images)
    rows = []
    with threads(1):
        for what, before, after in comparisons(split):
            times = seconds(before, after, options.repeats)
            rows.append((what, *(f"{value:.3f}" for value in times), f"{times[1] / times[0]:.2f}"))
    headers = (f"{options.images} images of {options.size} px, one thread", "before, s", "after, s", "after / before")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=("left", *["right"] * 3)))


if __name__ == "__main__":
    main()

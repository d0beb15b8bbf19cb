"""What training and scoring cost on this machine: a few steps on made-up images, timed.

It is the loop's own work (`prepared`, `Passes`, `Scores`), on a GPU recorded and replayed as a run's is. The caller
sees to it that the machine is as busy as in the run, and has as many threads.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from hw7 import measure
from hw7.data import augment
from hw7.data.source import Split
from hw7.solution import NUM_CLASSES
from hw7.training.epoch import Learner, Passes, Scores, generator
from hw7.training.frozen import frozen
from hw7.training.loop import Phase
from hw7.training.precision import computing_in
from hw7.training.steps import Distillation, Step, cross_entropy_step, prepared

ENOUGH_S = 0.1  # so long is a kind of work timed: two steps of a small network
# On a CPU, so many images at a time are enough, or as many as take so many multiply-accumulates: 64 of ResNet-18 at
# 128 x 128 would take 5 s.
ENOUGH_IMAGES, ENOUGH_MACS = 64, 3_000_000_000


@dataclass(frozen=True)
class Cost:
    """Seconds: what a run takes before its first step, or more in it than in others, and what an image takes."""

    start: float
    image: float


def trained(
    make: Callable[[], nn.Module],
    side: int,
    phase: Phase,
    step: Step = cross_entropy_step,
    augmentation: augment.Augmentation | None = None,
    precision: str = "float32",
) -> Cost:
    """Of making a network and training it as `phase` does, on images of `side` x `side` pixels.

    Raises what `make` and the step raise.
    """
    _warm_up()
    began = time.perf_counter()
    network = make()
    made = time.perf_counter() - began
    taught = measure.macs(step.teacher, (3, side, side)) // 3 if isinstance(step, Distillation) else 0
    images = _made_up(network, side, phase.batch, taught)
    step = prepared(step, images.images, precision)  # once for all that a teacher teaches
    began = time.perf_counter() - made
    with computing_in(precision, network):
        learner = Learner(network, phase.make_optimizer(network), step)
        passes = Passes([learner], images, len(images), augmentation)
        return _cost(began, lambda: passes(generator(0)), len(images))


def scored(network: nn.Module, side: int, precision: str = "float32") -> Cost:
    """Of an epoch's scores, on images of `side` x `side` pixels. Raises what the network raises."""
    images = _made_up(network, side, 1000)
    began = time.perf_counter()
    with computing_in(precision, network):
        return _cost(began, Scores([network], images, "scores"), len(images))


@cache
def _warm_up() -> None:
    """What torch imports when a process trains for the first time, half of it again, is no part of any run."""
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential(*layers, nn.Linear(4, NUM_CLASSES))
    images = _made_up(network, 8, 4)
    frozen(network, images.images, "float32")
    learner = Learner(network, Phase(1).make_optimizer(network), cross_entropy_step)
    Passes([learner], images, len(images), augment.Augmentation())(generator(0))


def _made_up(network: nn.Module, side: int, most: int, more_macs: int = 0) -> Split:
    """Up to so many images of random bytes, on the network's device."""
    device = next(network.parameters()).device
    if device.type == "cpu":
        affordable = ENOUGH_MACS // (measure.macs(network, (3, side, side)) + more_macs)
        most = min(most, ENOUGH_IMAGES, max(4, affordable))
    images = torch.randint(0, 256, (most, 3, side, side), dtype=torch.uint8, device=device)
    labels = torch.arange(most, device=device) % NUM_CLASSES
    return Split(images, labels, tuple(map(str, range(NUM_CLASSES))), "made up", "training")


def _cost(began: float, work: Callable[[], Tensor], images: int) -> Cost:
    """Of work on so many images: its first call ends the start, and some more are timed."""
    work().tolist()  # which waits for a GPU
    started = time.perf_counter()
    calls, now = 0, started
    while not calls or now - started < ENOUGH_S:
        work().tolist()
        calls, now = calls + 1, time.perf_counter()
    each = (now - started) / calls
    return Cost(max(started - began - each, 0.0), each / images)

"""What an image costs on this machine, in training and in scoring: a few steps on made-up images, timed.

It is the loop's own work (`prepared`, `Passes`, `scores_of`), on a GPU recorded and replayed as a run's is. The caller
sees to it that the machine is as busy as in the run, and has as many threads.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hw7 import measure
from hw7.data import augment
from hw7.data.source import Split
from hw7.solution import NUM_CLASSES
from hw7.training import cuda_graph
from hw7.training.epoch import EVALUATION_BATCH, Passes, generator, scores_of
from hw7.training.loop import Phase, prepared
from hw7.training.steps import Distillation, Step, cross_entropy_step

ENOUGH_S = 0.2  # so long is a kind of work timed: a few steps of a small network
# On a CPU no more images at a time than this takes: a batch of ResNet-18 at 128 x 128 would take 10 s.
ENOUGH_MACS = 4_000_000_000


def trained_image(
    network: nn.Module,
    side: int,
    phase: Phase,
    step: Step = cross_entropy_step,
    augmentation: augment.Augmentation | None = None,
    precision: str = "float32",
) -> float:
    """Seconds of an image of `side` x `side` pixels in training as `phase` does it; the network is trained a little.

    Raises what the step raises.
    """
    taught = measure.macs(step.teacher, (3, side, side)) // 3 if isinstance(step, Distillation) else 0
    images = _made_up(network, side, phase.batch, taught)
    with prepared(network, step, precision) as ready:
        optimizer = phase.make_optimizer(network)
        passes = Passes(network, images, len(images), optimizer, ready, augmentation)
        return _seconds(lambda: passes(generator(0))) / len(images)


def scored_image(network: nn.Module, side: int, precision: str = "float32") -> float:
    """Seconds of an image of `side` x `side` pixels in an epoch's scores. Raises what the network raises."""
    images = _made_up(network, side, EVALUATION_BATCH)
    scores = torch.zeros(2, dtype=torch.float64, device=images.images.device)
    with prepared(network, cross_entropy_step, precision):
        score = cuda_graph.recorded(lambda: scores.copy_(scores_of(network, images)), "scores", scores.device)

        def scored() -> Tensor:
            score()
            return scores

        return _seconds(scored) / len(images)


def _made_up(network: nn.Module, side: int, most: int, more_macs: int = 0) -> Split:
    """Up to so many images of random bytes, on the network's device."""
    device = next(network.parameters()).device
    if device.type == "cpu":
        most = min(most, max(4, ENOUGH_MACS // (measure.macs(network, (3, side, side)) + more_macs)))
    images = torch.randint(0, 256, (most, 3, side, side), dtype=torch.uint8, device=device)
    labels = torch.arange(most, device=device) % NUM_CLASSES
    return Split(images, labels, tuple(map(str, range(NUM_CLASSES))), "made up", "training")


def _seconds(work: Callable[[], Tensor]) -> float:
    """Of a call, on average over two or more; one before them warms up."""
    work().tolist()  # which waits for a GPU
    calls, began = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - began < ENOUGH_S:
        work().tolist()
        calls += 1
    return (time.perf_counter() - began) / calls

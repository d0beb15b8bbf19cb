"""The hidden images of task 5.2, and how fast a network may be expected to look at them."""

import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from autograder.tasks.hidden import Hidden
from hw7.data.load import load_split
from hw7.data.plates.render import draw
from hw7.data.plates.source import plates_options
from hw7.models import StudentNet

IMAGE_SIZE = 128


@dataclass(frozen=True, eq=False)
class Images:
    """The hidden images, shuffled: uint8 [N, 3, 128, 128], their labels [N], and how fast our own network is."""

    images: Tensor
    labels: Tensor
    reference_seconds: float


@lru_cache(maxsize=2)
def hidden_images(hidden: Hidden, count: int) -> Images:
    """`count` labelled images that no student has seen; made once in a process.

    Pictures of `plates` are drawn from the hidden seed and never touch the disk. Raises HW7Error where the source has
    no labelled split to test on.
    """
    kind, _, options = hidden.source.partition(":")
    if kind == "plates":
        _, difficulty = plates_options(options)
        seed = int.from_bytes(hidden.derive("images")[:16])
        images, labels = draw("testing", count, IMAGE_SIZE, seed=seed, difficulty=difficulty)
    else:
        split = load_split(hidden.source, "testing", IMAGE_SIZE, progress=False)
        if not split.labelled:  # Food-11's testing images may come without labels
            split = load_split(hidden.source, "validation", IMAGE_SIZE, progress=False)
        images, labels = split.images, split.labels
    generator = torch.Generator().manual_seed(int.from_bytes(hidden.derive("image order")[:7]))
    order = torch.randperm(len(labels), generator=generator)[:count]
    images, labels = images[order], labels[order]
    return Images(images, labels, _seconds_of_given_network(images[:50]) * len(images) / len(images[:50]))


def _seconds_of_given_network(images: Tensor) -> float:
    """How long the network of question 3 computes on these images here, on one thread; the best of three."""
    network, times, threads = StudentNet().eval(), [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            for _ in range(3):
                start = time.thread_time()  # as the submission's own, without what others take of the processor
                network(images.float() / 255)
                times.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return min(times)

"""Where a training step's time goes on a GPU: which kernels, and what several networks side by side gain.

    python benchmarks/kernels.py

For some of the report's networks it prints torch's own profile of eager steps, which names each kernel and its time;
then, for the 274,763 student with its teacher, the images a second of 1, 2 and 4 of them, trained side by side as the
report's own are. Each part is printed as soon as it is measured. Without a GPU it runs at toy size.
"""

import time

import torch
from torch.profiler import ProfilerActivity, profile

import hw7.support.torchvision_import  # noqa: F401  (before torchvision)
from hw7.data import augment
from hw7.data.load import load_split
from hw7.data.source import Split
from hw7.report.experiments import NETWORKS
from hw7.solution import load_solution
from hw7.training.cuda_graph import unchanged
from hw7.training.epoch import Learner, Passes, generator
from hw7.training.loop import Phase
from hw7.training.precision import best_precision, computing_in
from hw7.training.steps import Distillation, cross_entropy_step, prepared

ROWS = (("teacher", False, 128), ("student_dw", True, 32), ("small_resnet18", False, 128), ("grouped", False, 128))


def learner(split: Split, name: str, taught: bool) -> Learner:
    """A network as it is trained, perhaps with a teacher."""
    torch.manual_seed(0)
    solution, device = load_solution(), split.images.device
    network, teacher = (
        NETWORKS[key](solution, 11).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for key in (name, "teacher")
    )
    step = Distillation(solution, teacher) if taught else cross_entropy_step
    optimizer = Phase(1).make_optimizer(network)
    return Learner(network, optimizer, prepared(step, split.images, best_precision(device)))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def kernels(split: Split, name: str, taught: bool, batch: int, steps: int) -> str:
    """The profile of a few steps, operation by operation."""
    device = split.images.device
    cuda = device.type == "cuda"
    one = learner(split, name, taught)
    with computing_in(best_precision(device), one.network), unchanged((one.network, one.optimizer)):
        passes = Passes([one], split, batch, augment.Augmentation(), name)
        passes._batch(batch)
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
            for _ in range(steps):
                passes._batch(batch)
            wait(device)
    table = seen.key_averages()
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    milliseconds = sum(getattr(event, key) for event in table) / steps / 1000
    calls = sum(event.count for event in table if getattr(event, key)) / steps  # not the calls that start a kernel
    return (
        f"{name}, {'with teacher' if taught else 'alone'}, batch {batch}: "
        f"{calls:.0f} kernels, {milliseconds:.3f} ms a step in kernels\n\n"
        f"{table.table(sort_by=key, row_limit=30, max_name_column_width=90)}\n"
    )


def side_by_side(split: Split, count: int, batch: int) -> str:
    """How fast `count` networks train on the same batches, in one process."""
    device = split.images.device
    learners = [learner(split, "student_dw", True) for _ in range(count)]

    def epoch() -> float:
        wait(device)
        start = time.perf_counter()
        passes(generator(0))
        wait(device)
        return time.perf_counter() - start

    with computing_in(best_precision(device), *(one.network for one in learners)):
        passes = Passes(learners, split, batch, augment.Augmentation())
        epoch()
        seconds = min(epoch() for _ in range(3))
    return f"274,763 student with teacher, {count} side by side: {count * len(split) / seconds:,.0f} images/s in all\n"


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, images, steps, largest = (128, 1024, 5, 128) if device.type == "cuda" else (32, 4, 1, 4)
    split = load_split("plates", "training", size, limit=images, device=device)
    for name, taught, batch in ROWS:
        print(kernels(split, name, taught, min(batch, largest), steps), flush=True)
    for count in (1, 2, 4):
        print(side_by_side(split, count, min(32, largest)), flush=True)


if __name__ == "__main__":
    main()

"""How fast the report's networks train here, against the usual pipeline, kornia, and what the machine allows.

    python benchmarks/training.py [--device auto] [--size 128] [--images N] [--workers 16] [--out docs/results/NAME.md]

One run on one machine measures, and prints as a Markdown page, each line of it as soon as it is measured:

    the machine     one large copy and one large matrix product: its bytes and floating-point operations a second
    the input       images a second of one core's time, from where they are stored to an augmented float batch
    the networks    for each: images a second and milliseconds an epoch of this project's loop, recorded as a CUDA graph
                    and operation by operation; the share of augmentation; the same loop with kornia's batch
                    augmentation (where kornia is installed); and the usual pipeline: JPEG files, PIL, torchvision's
                    transforms, DataLoader workers, float32, one operation at a time, a look at the loss in every step
    the report      what its epochs at the profile `full` add up to, with each

Every figure is the median of --repeats passes after one that is not counted. Distilled networks include their teacher.
"""

import argparse
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from limits import Clock, least_work, machine, threads
from rivals import Files, KorniaPasses, kornia_augmentation, usual_pass
from tabulate import tabulate
from torch import nn
from torch.utils.data import DataLoader

import hw7.support.torchvision_import  # noqa: F401  (before torchvision)
from hw7.data import augment
from hw7.data.food11 import FOOD11_COUNTS, write_food11
from hw7.data.load import load_split
from hw7.data.source import Split
from hw7.report.experiments import EXPERIMENTS, NETWORKS
from hw7.report.profiles import PROFILES
from hw7.solution import load_solution
from hw7.training import cuda_graph
from hw7.training.epoch import Learner, Passes, generator
from hw7.training.loop import Phase
from hw7.training.precision import best_precision, computing_in
from hw7.training.steps import Distillation, cross_entropy_step, prepared

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """A network as the report trains it: its key in NETWORKS, whether the ResNet-18 teaches it, its batch."""

    title: str
    network: str
    taught: bool = False
    batch: int = 128


ROWS = (
    Row("ResNet-18", "teacher"),
    Row("ResNet-18 with DW + PW", "small_resnet18"),
    Row("CNN student, with teacher", "student_cnn", True),
    Row("274,763 student, alone", "student_dw", batch=32),
    Row("274,763 student, with teacher", "student_dw", True, 32),
    Row("256,779 student, with teacher", "student_net", True),
    Row("question 4: plain", "plain"),
    Row("question 4: DW + PW", "depthwise"),
    Row("question 4: 7 groups", "grouped"),
)


# ---- the three parts -------------------------------------------------------------------------------------------------


def input_rates(split: Split, folder: Path, clock: Clock) -> list[list[str]]:
    """Images a second of one core's time, so that what else a shared machine does counts little."""
    size, strength = split.images.shape[-1], augment.Augmentation()
    files, whole = Files(folder, size, strength), range(len(split))
    batch = 64

    def ours() -> None:
        random = generator(0)
        parameters = augment.draw(len(split), size, random, strength)
        for indices in torch.randperm(len(split), generator=random).split(batch):
            augment.augment(split.images[indices], parameters[indices])

    def usual() -> None:
        for start in range(0, len(whole), batch):
            torch.stack([files[index][0] for index in whole[start : start + batch]])

    kinds: dict[str, Callable[[], None] | None] = {"this project": ours, "JPEG, PIL, torchvision": usual}
    by_kornia = kornia_augmentation(size, strength)

    def third() -> None:
        assert by_kornia
        for indices in torch.randperm(len(split)).split(batch):
            by_kornia(split.images[indices].float() / 255)

    kinds["kornia, from the stored split"] = third if by_kornia else None
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    with threads(1):
        for _ in range(1 + clock.repeats):  # in turn, so that what else the machine does meets all of them alike
            for name, work in kinds.items():
                if work:
                    start = time.process_time()
                    work()
                    taken[name].append(time.process_time() - start)
    rates = {name: len(split) / statistics.median(times[1:]) if times else None for name, times in taken.items()}
    base = rates["JPEG, PIL, torchvision"]
    assert base
    return [[name, number(rate), f"{rate / base:.1f}" if rate else NOT_MEASURED] for name, rate in rates.items()]


@dataclass
class Rates:
    """Images a second, or None where not measured; `share` is augmentation's share of an epoch."""

    recorded: float
    eager: float
    share: float
    kornia: float | None
    usual: float | None
    by_operations: float
    by_bytes: float

    @property
    def bound(self) -> float:
        return min(self.by_operations, self.by_bytes)


def train_rates(
    row: Row, split: Split, files: Files | None, clock: Clock, limits: tuple[float, float], options: argparse.Namespace
) -> Rates:
    device, precision, solution = clock.device, best_precision(clock.device), load_solution()
    size, count = split.images.shape[-1], len(split)

    def network(name: str, layout: torch.memory_format = torch.channels_last) -> nn.Module:
        torch.manual_seed(0)
        made = NETWORKS[name](solution, len(split.classes)).to(device, memory_format=layout)
        if options.compile and layout == torch.channels_last:
            made.compile()
        return made

    teacher = network("teacher")
    step = prepared(Distillation(solution, teacher) if row.taught else cross_entropy_step, split.images, precision)
    strength = augment.Augmentation()

    def rate(kind: Callable[[Learner], Passes]) -> float:
        student = network(row.network)
        with computing_in(precision, student):
            passes = kind(Learner(student, Phase(1).make_optimizer(student), step))
            return count / clock.seconds(lambda: passes(generator(0)))

    def ours(learner: Learner) -> Passes:
        return Passes([learner], split, row.batch, strength, row.title)

    def inputs_only(learner: Learner) -> Passes:
        return ours(replace(learner, step=lambda *_: nothing))

    def by_kornia(learner: Learner) -> Passes:
        assert transform
        return KorniaPasses([learner], split, row.batch, augmentation=transform)

    nothing = torch.zeros((), device=device)
    recorded = rate(ours)
    share = recorded / rate(inputs_only)
    record, cuda_graph.recorded = cuda_graph.recorded, lambda work, what, device: work
    try:
        eager = rate(ours) if device.type == "cuda" else recorded
        transform = kornia_augmentation(size, strength)  # draws its parameters on the host: it cannot be recorded
        kornia = rate(by_kornia) if transform else None
    finally:
        cuda_graph.recorded = record
    usual = None
    if files:
        plain = network(row.network, torch.contiguous_format), network("teacher", torch.contiguous_format)
        loader = DataLoader(
            files, row.batch, shuffle=True, num_workers=options.workers, persistent_workers=options.workers > 0
        )
        rival = usual_pass(plain[0], plain[1] if row.taught else None, loader, device)
        usual = len(files) / clock.seconds(rival, repeats=1)

    operations, moved = least_work(network(row.network, torch.contiguous_format), size, forward_only=False)
    if row.taught:
        more = least_work(network("teacher", torch.contiguous_format), size, forward_only=True)
        operations, moved = operations + more[0], moved + more[1]
    by_operations, by_bytes = limits[1] / operations, limits[0] / (moved * getattr(torch, precision).itemsize)
    return Rates(recorded, eager, share, kornia, usual, by_operations, by_bytes)


def report_hours(rates: dict[Row, Rates], kind: str) -> float | None:
    """Hours that the epochs of the profile `full` take at these rates; pruned networks count as whole ones."""
    profile, hours = PROFILES["full"], 0.0
    for experiment in EXPERIMENTS.values():
        if experiment.bits:
            continue
        taught = experiment.teacher is not None
        row = next((row for row in rates if (row.network, row.taught) == (experiment.network, taught)), None)
        value = getattr(rates[row], kind) if row else None
        if value is None:
            return None
        epochs = sum(phase.epochs for phase in profile.recipes[experiment.recipe]) * max(1, experiment.steps)
        images = profile.images[experiment.data] or FOOD11_COUNTS["training"]
        hours += epochs * images / value / 3600
    return hours


# ---- the page --------------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 0) -> str:
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}"


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0))
    return f"CPU, {platform.machine()}, {cores} cores, {torch.get_num_threads()} threads"


def page(options: argparse.Namespace) -> Iterator[str]:
    device = torch.device(options.device)
    clock, precision = Clock(device, options.repeats), best_precision(device)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    split = load_split("plates", "training", options.size, limit=options.images, device=device)
    yield (
        f"# Training speed\n\n{device_name(device)}; {versions}; {datetime.now(UTC):%d %B %Y}. {len(split):,} images "
        f"of {options.size} x {options.size} pixels, {precision}{', compiled' * options.compile}.\n"
    )
    told = [word for word in sys.argv if word not in ("--note", options.note)]
    yield f"```sh\npython {shlex.join(told)}\n```\n"
    if options.note:
        yield f"{options.note}\n"

    limits = machine(clock, precision)
    yield (
        f"One large copy moves {limits[0] / 1e9:,.1f} GB/s, one large {precision} matrix product does "
        f"{limits[1] / 1e12:,.2f} TFLOP/s.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        some = replace(split, images=split.images[: options.files], labels=split.labels[: options.files]).to("cpu")
        files = write_food11(some, folder)
        yield "## The input, on one core\n"
        yield table(("from the stored images to augmented float batches", "images/s", "times the usual"),
                    input_rates(some, files, clock))  # fmt: skip
        yield f"{len(some):,} images of {options.size} pixels; the JPEG files hold them at that size already.\n"

        if options.input_only:
            return
        wanted = [row for row in ROWS if not options.only or row.network in options.only.split(",")]
        rates: dict[Row, Rates] = {}
        yield "## The networks\n"
        headers = (
            *("network", "batch", "images/s", "not recorded", "with kornia"),
            *(f"usual, {options.workers} workers", "times the usual", "ms an epoch", "augmentation"),
            *("bound by operations, ms", "by bytes, ms", "bound / measured"),
        )
        yield line(headers, headers)
        yield line(headers)
        for row in wanted:
            usual = None if options.no_usual else Files(files, options.size, augment.Augmentation())
            r = rates[row] = train_rates(row, split, usual, clock, limits, options)
            yield line(headers, [
                row.title, str(row.batch), number(r.recorded),
                number(r.eager) if device.type == "cuda" else "the same", number(r.kornia), number(r.usual),
                number(r.recorded / r.usual if r.usual else None, 1), number(1000 * len(split) / r.recorded, 1),
                f"{100 * r.share:.1f} %", number(1000 * len(split) / r.by_operations, 1),
                number(1000 * len(split) / r.by_bytes, 1), f"{100 * r.recorded / r.bound:.0f} %",
            ])  # fmt: skip
    yield ""
    if device.type != "cuda":
        yield "On the CPU nothing is recorded: this project's loop runs operation by operation.\n"
    yield (
        "The bounds are those of this machine's copy and product, for a step in which everything between two "
        "convolutions\nis fused into them; without fusion they cannot be reached.\n"
    )
    kinds = {"recorded": "this project", "kornia": "with kornia", "usual": "the usual pipeline", "bound": "the bound"}
    hours = {name: report_hours(rates, kind) for kind, name in kinds.items()}
    yield "## The report's epochs, one after another\n"
    epochs = sum(
        sum(phase.epochs for phase in PROFILES["full"].recipes[row.recipe]) * max(1, row.steps)
        for row in EXPERIMENTS.values()
        if not row.bits
    )
    told = f"{epochs:,} epochs (question 4 and the weak teacher's among them) at {options.size} px, from these rates"
    yield table((told, "minutes"), [[name, number(60 * value if value else None, 1)] for name, value in hours.items()])


def line(headers: Sequence[str], cells: Sequence[str] | None = None) -> str:
    """A row of a table whose other rows are not known yet, wide enough for every cell that can come; None: the rule."""
    widths = [max(len(row.title) for row in ROWS), *(max(len(header), len(NOT_MEASURED)) for header in headers[1:])]
    if cells is None:
        return f"| {' | '.join(['-' * widths[0], *(':'.rjust(width, '-') for width in widths[1:])])} |"
    padded = [cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]
    return f"| {' | '.join(padded)} |"


def table(headers: tuple[str, ...], body: list[list[str]]) -> str:
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(body, headers, tablefmt="github", disable_numparse=True, colalign=align) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, help="of the training split; default: all on a GPU, 256 on the CPU")
    parser.add_argument("--files", type=int, default=1024, help="how many of them the usual pipeline sees")
    parser.add_argument("--workers", type=int, default=min(16, len(os.sched_getaffinity(0))))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="networks, by their name in hw7.report.experiments.NETWORKS, with commas")
    parser.add_argument("--input-only", action="store_true", help="measure the machine and the input, train nothing")
    parser.add_argument("--no-usual", action="store_true", help="leave the usual pipeline's training out")
    parser.add_argument("--compile", action="store_true", help="torch.compile this project's networks as well")
    parser.add_argument("--note", default="", help="a sentence for the page: what else the machine was doing")
    parser.add_argument("--out", type=Path, help="write the page here, too, as it grows")
    options = parser.parse_args()
    options.images = options.images or (None if options.device.startswith("cuda") else 256)
    with options.out.open("w") if options.out else nullcontext() as file:
        for part in page(options):
            for stream in filter(None, (file, sys.stdout)):
                print(part, file=stream, flush=True)


if __name__ == "__main__":
    main()

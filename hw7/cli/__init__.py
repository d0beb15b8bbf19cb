"""The `hw7` command: a thin layer that turns words into calls, and mistakes of its user into one plain line.

Heavy imports stand inside the commands: `hw7 --help` is quick, and `hw7 doctor` works where torch does not.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hw7 import HW7Error, __version__
from hw7.support import terminal

if TYPE_CHECKING:
    from torch import nn

    from hw7.data.source import Split
    from hw7.solution import Solution
    from hw7.training.loop import Phase, Run
    from hw7.training.steps import Step

cli = typer.Typer(
    name="hw7",
    help="Homework 7: compress an image classifier, and measure what it costs. Start with `hw7 doctor`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Optimizer(StrEnum):
    adamw = "adamw"
    sgd = "sgd"


class Schedule(StrEnum):
    constant = "constant"
    cosine = "cosine"


DataOption = Annotated[
    str,
    typer.Option("--data", help="Where the images come from: plates, plates:SEED, food11:DIR or fashion-mnist[:DIR]."),
]
SolutionOption = Annotated[
    Path | None,
    typer.Option(
        "--solution", help="The folder that holds your `solution` package. Default: the reference, or assignments/hw7."
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", help="The folder for the results. Run again, an unfinished run goes on.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:1 …; auto takes a CUDA or ROCm GPU where there is one.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", help="Another seed gives other first weights and another order of the images.")
]
SizeOption = Annotated[int, typer.Option("--size", min=32, help="Side of the images in pixels.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="How many training images to use. Default: all.")
]
EpochsOption = Annotated[int, typer.Option("--epochs", min=1, help="How often each image is seen.")]
BatchOption = Annotated[int, typer.Option("--batch", min=2, help="Images in one step.")]
RateOption = Annotated[float, typer.Option("--learning-rate", min=0.0, help="The learning rate, at the start.")]
OptimizerOption = Annotated[Optimizer, typer.Option("--optimizer")]
ScheduleOption = Annotated[
    Schedule, typer.Option("--schedule", help="constant, as in the report, or cosine, for short runs.")
]
FromOption = Annotated[
    Path | None, typer.Option("--from", help="Weights to start from (a safetensors file of the same network).")
]
NETWORK_NAMES = "teacher, small_resnet18, student_cnn, student_dw, student_net, final, plain, depthwise or grouped"
NetworkArgument = Annotated[str, typer.Argument(help=f"Which network: {NETWORK_NAMES}.")]


@cli.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(f"hw7 {__version__}")
        raise typer.Exit


@cli.command()
def summary(
    as_json: Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")] = False,
    layers: Annotated[
        str | None, typer.Option("--layers", help=f"Print this network's layers as well: {NETWORK_NAMES}.")
    ] = None,
    size: SizeOption = 128,
    solution: SolutionOption = None,
) -> None:
    """What the report printed beside what your networks count: parameters, bytes, the pruning ladders."""
    from hw7 import measure
    from hw7.report.compare import count, format_summary, summary_json
    from hw7.report.experiments import NETWORKS
    from hw7.solution import load_solution

    own = load_solution(solution)
    counted = count(own)
    typer.echo(json.dumps(summary_json(counted), indent=1) if as_json else format_summary(counted))
    if layers:
        network = _known(layers, NETWORKS)(own, 11)
        typer.echo(f"\n{layers} on a {size} x {size} image\n")
        shape = (3, size, size)
        typer.echo(measure.format_layer_table(measure.layer_table(network, shape)))
        speed = measure.latency(network, shape)
        typer.echo(
            f"\n{measure.macs(network, shape):,} multiply-accumulates and {1000 * speed.median_s:.1f} ms an image"
        )


@cli.command()
def data(
    source: DataOption = "plates",
    split: Annotated[
        str, typer.Option("--split", help="training, validation, testing, or pretraining (plates only).")
    ] = "training",
    size: SizeOption = 128,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="How many images. Default: all.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the images here, in Food-11's own layout.")] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="Write a PNG with eight images of every class.")] = None,
) -> None:
    """Look at a data set: what is in it, a sheet of its pictures, or all of them as files."""
    from tabulate import tabulate

    from hw7.data.food11 import write_food11
    from hw7.data.load import load_split
    from hw7.report.plots import sample_sheet
    from hw7.support.files import write_file

    loaded = load_split(source, split, size, limit=limit)
    counts = loaded.labels[loaded.labels >= 0].bincount(minlength=len(loaded.classes)).tolist()
    rows = [(index, name, count) for index, (name, count) in enumerate(zip(loaded.classes, counts, strict=True))]
    typer.echo(f"{source}, {split}: {len(loaded):,} images of {size} x {size} pixels\n")
    typer.echo(
        tabulate(rows, headers=("label", "class", "images")) if loaded.labelled else "Their labels are not known."
    )
    if sheet:
        write_file(sheet, sample_sheet(loaded, each=8))
        typer.echo(f"\nwrote {sheet}")
    if out:
        typer.echo(f"\nwrote {write_food11(loaded, out)}")


@cli.command()
def train(
    network: NetworkArgument,
    out: OutOption,
    source: DataOption = "plates",
    split: Annotated[
        str, typer.Option("--split", help="training, or pretraining for a first teacher (plates only).")
    ] = "training",
    size: SizeOption = 64,
    limit: LimitOption = None,
    epochs: EpochsOption = 20,
    batch: BatchOption = 64,
    learning_rate: RateOption = 1e-3,
    optimizer: OptimizerOption = Optimizer.adamw,
    schedule: ScheduleOption = Schedule.cosine,
    start: FromOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    solution: SolutionOption = None,
) -> None:
    """Train a network on labels alone, from scratch or from weights you have."""
    from hw7.report.experiments import NETWORKS
    from hw7.solution import load_solution

    _known(network, NETWORKS)  # before any image is drawn or decoded
    own = load_solution(solution)
    phases = (_phase(epochs, batch, learning_rate, optimizer, schedule),)
    training, validation = _splits(source, split, size, limit, _device(device))
    _train_and_tell(own, network, training, validation, phases, out, seed, start)


@cli.command()
def distill(
    network: NetworkArgument,
    teacher: Annotated[
        Path, typer.Option("--teacher", help="The teacher's weights.safetensors, as `hw7 train` writes it.")
    ],
    out: OutOption,
    temperature: Annotated[
        float, typer.Option("--temperature", help="T: how soft the teacher's answers are made.")
    ] = 20.0,
    alpha: Annotated[
        float, typer.Option("--alpha", help="The teacher's share of the loss; the labels have the rest.")
    ] = 0.5,
    source: DataOption = "plates",
    size: SizeOption = 64,
    limit: LimitOption = None,
    epochs: EpochsOption = 20,
    batch: BatchOption = 64,
    learning_rate: RateOption = 1e-3,
    optimizer: OptimizerOption = Optimizer.adamw,
    schedule: ScheduleOption = Schedule.cosine,
    start: FromOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    solution: SolutionOption = None,
) -> None:
    """Train a student on a teacher's answers and the labels, with the solution's own distillation step."""
    from hw7.report.experiments import NETWORKS
    from hw7.solution import load_solution
    from hw7.training.steps import Distillation

    _known(network, NETWORKS)  # before any image is drawn or decoded
    own = load_solution(solution)
    where = _device(device)
    teaching, _ = _load(teacher, own, where)
    phases = (_phase(epochs, batch, learning_rate, optimizer, schedule),)
    training, validation = _splits(source, "training", size, limit, where)
    step = Distillation(own, teaching, temperature, alpha)
    _train_and_tell(own, network, training, validation, phases, out, seed, start, step)


@cli.command()
def prune(
    weights: Annotated[Path, typer.Argument(help="The student_net's weights.safetensors.")],
    out: OutOption,
    keep_rate: Annotated[
        float, typer.Option("--keep-rate", help="Share of the channels that stays in each step.")
    ] = 0.95,
    steps: Annotated[int, typer.Option("--steps", min=1, help="How many times to prune.")] = 10,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="Fine-tune with this teacher; without, on labels alone.")
    ] = None,
    source: DataOption = "plates",
    size: SizeOption = 64,
    limit: LimitOption = None,
    epochs: EpochsOption = 5,
    batch: BatchOption = 64,
    learning_rate: RateOption = 5e-4,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    solution: SolutionOption = None,
) -> None:
    """Prune a student step by step, fine-tuning after each; every step's network is kept."""
    from hw7 import measure
    from hw7.models import StudentNet
    from hw7.report.profiles import AUGMENTATION
    from hw7.solution import load_solution, running
    from hw7.training.loop import train as train_network
    from hw7.training.steps import Distillation, cross_entropy_step
    from hw7.training.weights import describe

    own = load_solution(solution)
    where = _device(device)
    student, _ = _load(weights, own, where)
    if not isinstance(student, StudentNet):
        raise HW7Error(f"{weights} is a {type(student).__name__}; `hw7 prune` takes a student_net")
    step = Distillation(own, _load(teacher, own, where)[0]) if teacher else cross_entropy_step
    training, validation = _splits(source, "training", size, limit, where)
    done: list[int] = []

    def finetune(network: StudentNet) -> None:
        done.append(measure.parameters(network))
        run = train_network(
            network, training, validation, (_phase(epochs, batch, learning_rate),), out / f"step-{len(done):02}",
            step=step, seed=seed, augmentation=AUGMENTATION, metadata=describe("student_net", training),
            label=f"step {len(done)}/{steps}",
        )  # fmt: skip
        typer.echo(f"step {len(done):2}/{steps}: {done[-1]:9,} parameters, accuracy {run.best.validation_accuracy:.4f}")

    with running("pruning.iterative_prune", own.directory):
        own.pruning.iterative_prune(student, keep_rate, steps, finetune)


@cli.command()
def quantize(
    weights: Annotated[Path, typer.Argument(help="A weights.safetensors, as `hw7 train` or `hw7 distill` writes it.")],
    out: Annotated[Path, typer.Option("--out", help="The compressed file to write.")],
    bits: Annotated[
        int,
        typer.Option(
            "--bits", help="Bits of a weight: 16, or 2 to 8 (fewer than 8 save bytes only if your compress packs them)."
        ),
    ] = 8,
    source: Annotated[
        str | None, typer.Option("--data", help="Measure the accuracy before and after on this source.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="How many images to measure on.")] = None,
    solution: SolutionOption = None,
) -> None:
    """Compress a network's weights to a small file with the solution's own code, and say what that costs."""
    from hw7 import measure
    from hw7.report.runner import quantized
    from hw7.solution import load_solution
    from hw7.support.files import save_weights
    from hw7.training.epoch import evaluate

    own = load_solution(solution)
    if bits != 16 and not 2 <= bits <= 8:
        raise HW7Error(f"--bits must be 16, or 2 to 8, not {bits}")
    network, metadata = _load(weights, own, "cpu")
    state_dict = network.state_dict()
    stored, restored = quantized(own, state_dict, bits)
    save_weights(out, stored, {})
    typer.echo(
        f"{weights}: {measure.file_bytes(state_dict):,} bytes\n{out}: {out.stat().st_size:,} bytes at {bits} bits"
    )
    if source:
        from hw7.data.load import load_split

        validation = load_split(source, "validation", int(metadata["size"]), limit=limit)
        before = evaluate(network, validation)[1]
        network.load_state_dict(restored)
        typer.echo(
            f"accuracy {before:.4f} before, {evaluate(network, validation)[1]:.4f} after, {len(validation):,} images"
        )


@cli.command()
def reproduce(
    out: OutOption,
    source: DataOption = "plates",
    profile: Annotated[
        str, typer.Option("--profile", help="smoke (a minute), notebook, quick (two CPU cores), full (a GPU).")
    ] = "quick",
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Only these experiments and what they need: --only student-c,student-e."),
    ] = None,
    pretraining: Annotated[
        str, typer.Option("--pretraining", help="What the teacher has seen before: plates, imagenet, or auto.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="float32, bfloat16, or auto: bfloat16 on a GPU that has it.")
    ] = "auto",
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="How many experiments to run at a time. Default: one a core; one on a GPU."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option("--dask", help="The address of a Dask scheduler; its workers, one a GPU, run the experiments."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", min=0.0, help="Stop in good time (exit code 75); run again, it goes on where it stopped."
        ),
    ] = None,
    solution: SolutionOption = None,
) -> None:
    """Run the whole report: what is missing in OUT, then results.json, report.md and report.html there."""
    import math
    import time
    from contextlib import ExitStack

    from hw7.support.files import alone_in

    until = math.inf if minutes is None else time.time() + 60 * minutes
    if pretraining == "auto":
        pretraining = "imagenet" if profile == "full" and source.startswith("food11") else "plates"
    if pretraining not in ("plates", "imagenet"):
        raise HW7Error(f"--pretraining must be plates, imagenet or auto, not {pretraining!r}")
    names = [name for names in only or () for name in names.split(",")]
    with ExitStack() as stack:
        stack.enter_context(alone_in(out))  # before torch is imported and data are read: who comes second hears at once
        from hw7.data.source import cores
        from hw7.report.experiments import EXPERIMENTS, with_needs
        from hw7.report.page import write_report
        from hw7.report.reproduce import Reproduction
        from hw7.solution import load_solution
        from hw7.support.workers import Cluster, Workers
        from hw7.training.loop import TimeIsUp
        from hw7.training.precision import best_precision

        if dask:
            cluster = stack.enter_context(Cluster(dask))
            at_once = len(cluster.threads)
            device = cluster.submit(_device, "auto").result() if device == "auto" else device
            precision = cluster.submit(best_precision, device).result() if precision == "auto" else precision
        else:
            cluster, device = None, _device(device)
            at_once = jobs or (1 if device.startswith("cuda") else min(8, cores()))
        reproduction = Reproduction(
            source, profile, out, load_solution(solution), device, seed, pretraining, say=_say,
            precision="" if precision == "auto" else precision, until=until,
        )  # fmt: skip
        at_once = min(at_once, len(with_needs(names)) or len(EXPERIMENTS))
        executor = stack.enter_context(Workers(at_once)) if cluster is None and at_once > 1 else cluster
        try:
            reproduction.run(names, executor, at_once)
        except TimeIsUp as error:
            typer.echo(f"hw7: {error}", err=True)
            raise typer.Exit(75) from error
        typer.echo(f"wrote {write_report(reproduction)}")


@cli.command()
def check(
    task: Annotated[str | None, typer.Argument(help="One task, such as 2.1, part by part; or own-test.")] = None,
    solution: SolutionOption = None,
) -> None:
    """Your points in the public tests, and what to do next."""
    from hw7.checks import public

    checks = public.Checks.of(solution)
    if task == public.OWN_TEST:
        right, text = public.try_own_test(checks)
    elif task:
        right, text = all(part.right for part in checks.check(task)), public.format_task(checks, task)
    else:
        right = all(part.right for each in checks.tasks for part in checks.check(each.id))
        text = public.format_overview(checks)
    typer.echo(text)
    if not right:
        raise typer.Exit(1)


@cli.command()
def pack(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The folder that holds `solution`. Default: your own.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The zip. Default: hw7-NAME.zip, with your login.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend hw7.ipynb; as it was, it stays beside it under another name.")
    ] = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Run the public tests first.")] = True,
) -> None:
    """Check what you hand in, and write the zip."""
    from hw7.checks.public import public_tests
    from hw7.handin import pack
    from hw7.solution import default_directory
    from hw7.support.account import expanded, login

    folder = expanded(directory or default_directory()).resolve()
    released = public_tests(folder) / pack.RELEASED.name
    typer.echo(pack.pack(folder, out or Path(f"hw7-{login()}.zip"), repair, check, released))


@cli.command()
def doctor(
    source: Annotated[str | None, typer.Option("--data", help="Check this data source as well.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Check this folder for results as well.")] = None,
) -> None:
    """What is wrong with this installation, and what to do about it."""
    from hw7.doctor import examine, format_findings

    findings = examine(source, out)
    typer.echo(format_findings(findings))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


# --- what the commands share ---------------------------------------------------------------------------------------


def _say(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


def _known(name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise HW7Error(f"there is no network {name!r}; there are: {', '.join(table)}")
    return table[name]


def _device(name: str) -> str:
    """The device to run on. Raises HW7Error where it cannot be used, with those that can."""
    import re

    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name == "cpu":
        return name
    if not re.fullmatch(r"cuda(:\d{1,3})?", name):
        # Apple's GPUs (mps) have no float64, in which losses and accuracies are summed; others were never tried.
        reason = "hw7 runs on cpu and cuda only"
    elif int(name.partition(":")[2] or 0) >= gpus:
        reason = "there is no such GPU, or this torch cannot use it (`hw7 doctor` says why)"
    else:
        try:
            torch.empty(1, device=name)
        except RuntimeError as error:  # others may have filled its memory
            reason = str(error).splitlines()[0]
        else:
            return name
    here = ", ".join(["auto", "cpu", *(f"cuda:{number}" for number in range(gpus))])
    raise HW7Error(f"--device {name} does not work: {reason}. Here you can name: {here}")


def _phase(
    epochs: int, batch: int, rate: float, optimizer: Optimizer = Optimizer.adamw, schedule: Schedule = Schedule.cosine
) -> Phase:
    from hw7.training.loop import Phase

    return Phase(epochs, optimizer.value, rate, batch, schedule.value)


def _splits(source: str, split: str, size: int, limit: int | None, device: str) -> tuple[Split, Split]:
    """Training and validation images; the pretraining classes hold a tenth of theirs out."""
    from hw7.data.load import hold_out_tenth, load_split

    if split == "pretraining":
        return hold_out_tenth(load_split(source, split, size, limit=limit, device=device))
    return load_split(source, split, size, limit=limit, device=device), load_split(
        source, "validation", size, device=device
    )


def _load(path: Path, solution: Solution, device: str) -> tuple[nn.Module, dict[str, str]]:
    """The network that a weights file says it belongs to, and what else it says."""
    from hw7.models import AtSize, StudentNet
    from hw7.report.experiments import NETWORKS
    from hw7.support.files import load_weights
    from hw7.training.weights import load_into

    tensors, metadata = load_weights(path)
    try:
        name, classes, size = metadata["network"], int(metadata["classes"]), int(metadata["size"])
    except (KeyError, ValueError) as error:
        raise HW7Error(
            f"{path} does not say which network it belongs to ({error}); "
            "`hw7 train` and `hw7 distill` write files that do"
        ) from error
    if "stage_widths" in tensors:  # perhaps pruned
        return StudentNet.from_state_dict(tensors).to(device), metadata
    network = _known(name, NETWORKS)(solution, classes)
    load_into(network, path)
    return (AtSize(network, size) if name == "teacher" else network).to(device), metadata


def _train_and_tell(
    solution: Solution, name: str, training: Split, validation: Split, phases: tuple[Phase, ...], out: Path, seed: int,
    start: Path | None, step: Step | None = None,
) -> None:  # fmt: skip
    import torch

    from hw7 import measure
    from hw7.report.experiments import NETWORKS
    from hw7.report.profiles import AUGMENTATION
    from hw7.solution import running
    from hw7.training.loop import train as train_network
    from hw7.training.steps import cross_entropy_step
    from hw7.training.weights import describe, load_fitting

    torch.manual_seed(seed)
    with running(f"models: {name}", solution.directory):
        network = _known(name, NETWORKS)(solution, len(training.classes))
    if start:
        load_fitting(network, start)
    network.to(training.images.device)
    run: Run = train_network(
        network, training, validation, phases, out, step=step or cross_entropy_step, seed=seed,
        augmentation=AUGMENTATION, metadata=describe(name, training), label=name,
    )  # fmt: skip
    typer.echo(
        f"{name}: {measure.parameters(network):,} parameters, best accuracy {run.best.validation_accuracy:.4f} "
        f"in epoch {run.best_epoch + 1} of {len(run.history)}, {run.seconds:.0f} s; see {out / 'weights.safetensors'}"
    )


def app() -> None:
    """The entry point."""
    terminal.run(cli, "hw7")

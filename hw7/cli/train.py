"""The commands that make a network: train, distill, prune, quantize."""

from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from hw7 import HW7Error
from hw7.cli import options
from hw7.support.system import number
from hw7.support.words import counted

TrainingSplit = StrEnum("TrainingSplit", "training pretraining")


def train(
    network: options.Network,
    out: options.Out,
    source: options.Data = "plates",
    split: Annotated[
        TrainingSplit, typer.Option(help="training, or pretraining for a first teacher (plates only).")
    ] = TrainingSplit.training,
    size: options.Size = 64,
    limit: options.Limit = None,
    epochs: options.Epochs = 20,
    batch: options.Batch = 64,
    learning_rate: options.Rate = 1e-3,
    optimizer: options.Optimizer = options.OptimizerName.adamw,
    schedule: options.Schedule = options.ScheduleName.cosine,
    start: options.From = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    solution: options.Solution = None,
) -> None:
    """Train a network on labels alone. From scratch, or from weights that you have."""
    from hw7.cli.shared import train_new
    from hw7.training.loop import Phase

    phase = Phase(epochs, optimizer.value, learning_rate, batch, schedule.value)
    train_new(network, out, (source, split.value, size, limit), phase, start, seed, device, solution)


def distill(
    network: options.Network,
    teacher: Annotated[Path, typer.Option(help="The teacher's weights.safetensors, as `hw7 train` writes it.")],
    out: options.Out,
    temperature: Annotated[float, number("T: how soft the teacher's answers are made.", above=0, kind=float)] = 20.0,
    alpha: Annotated[
        float, number("The teacher's share of the loss; the labels have the rest.", least=0, most=1, kind=float)
    ] = 0.5,
    source: options.Data = "plates",
    size: options.Size = 64,
    limit: options.Limit = None,
    epochs: options.Epochs = 20,
    batch: options.Batch = 64,
    learning_rate: options.Rate = 1e-3,
    optimizer: options.Optimizer = options.OptimizerName.adamw,
    schedule: options.Schedule = options.ScheduleName.cosine,
    start: options.From = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    solution: options.Solution = None,
) -> None:
    """Train a student on a teacher's answers and the labels. Each step is the solution's own distillation step."""
    from hw7.cli.shared import train_new
    from hw7.training.loop import Phase

    phase = Phase(epochs, optimizer.value, learning_rate, batch, schedule.value)
    images = source, "training", size, limit
    train_new(network, out, images, phase, start, seed, device, solution, teacher, temperature, alpha)


def prune(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="The student_net's weights.safetensors.")],
    out: options.Out,
    keep_rate: Annotated[
        float, number("Share of the channels that stays in each step.", above=0, below=1, kind=float)
    ] = 0.95,
    steps: Annotated[int, number("How many times to prune.", least=1)] = 10,
    teacher: Annotated[Path | None, typer.Option(help="Fine-tune with this teacher; without, on labels alone.")] = None,
    source: options.Data = "plates",
    size: options.Size = 64,
    limit: options.Limit = None,
    epochs: options.Epochs = 5,
    batch: options.Batch = 64,
    learning_rate: options.Rate = 5e-4,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    solution: options.Solution = None,
) -> None:
    """Prune a student step by step. It is fine-tuned after each step, and every step's network is kept."""
    from hw7 import measure
    from hw7.cli.shared import load_images, load_network, step_from, train_as, usable_device
    from hw7.models import StudentNet
    from hw7.solution import load_solution, running
    from hw7.support.files import alone_in
    from hw7.training.loop import Phase

    own, where = load_solution(solution), usable_device(device)
    with alone_in(out):  # before anything is drawn: a folder that cannot be used is refused at once
        student, _ = load_network(weights, own, where)
        if not isinstance(student, StudentNet):
            raise HW7Error(f"{weights} is a {type(student).__name__}; `hw7 prune` takes a student_net")
        step = step_from(teacher, own, where)
        images = load_images(source, "training", size, limit, where)
        phase = Phase(epochs, "adamw", learning_rate, batch, "cosine")
        numbers = count(1)

        def finetune(network: StudentNet) -> None:
            number = next(numbers)
            folder, label = out / f"step-{number:02}", f"step {number}/{steps}"
            run = train_as("student_net", network, images, phase, folder, step, seed, label, number)
            parameters, accuracy = measure.parameters(network), run.best.validation_accuracy
            typer.echo(f"step {number:2}/{steps}: {parameters:9,} parameters, accuracy {accuracy:.4f}")

        with running("pruning.iterative_prune", own.directory):
            own.pruning.iterative_prune(student, keep_rate, steps, finetune)


def quantize(
    weights: Annotated[
        Path,
        typer.Argument(metavar="WEIGHTS", help="A weights.safetensors, as `hw7 train` or `hw7 distill` writes it."),
    ],
    out: Annotated[Path, typer.Option(help="The compressed file to write.")],
    bits: Annotated[
        int,
        number("Bits of a weight: 16, or 2 to 8 (fewer than 8 save bytes only if your compress packs them)."),
    ] = 8,
    source: Annotated[
        str | None,
        typer.Option("--data", metavar="<source>", help="Measure the accuracy before and after on this source."),
    ] = None,
    limit: Annotated[int | None, number("How many images to measure on.", least=1)] = None,
    solution: options.Solution = None,
) -> None:
    """Compress a network's weights to a small file. The solution's own code does it; what it costs is said."""
    from hw7 import measure
    from hw7.cli.shared import load_network
    from hw7.data.load import load_split
    from hw7.solution import load_solution
    from hw7.support.files import check_place, save_weights
    from hw7.training.epoch import evaluate
    from hw7.training.weights import quantized

    if bits != 16 and not 2 <= bits <= 8:
        raise HW7Error(f"--bits must be 16, or 2 to 8, not {bits}")
    check_place(out)
    own = load_solution(solution)
    network, size = load_network(weights, own, "cpu")
    validation = load_split(source, "validation", size, limit=limit) if source else None  # refused before all else
    state_dict = network.state_dict()
    stored, restored = quantized(own, state_dict, bits)
    save_weights(out, stored, {})
    typer.echo(f"{weights}: {measure.file_bytes(state_dict):,} bytes")
    typer.echo(f"{out}: {out.stat().st_size:,} bytes at {bits} bits")
    if validation:
        _, before = evaluate(network, validation)
        network.load_state_dict(restored)
        _, after = evaluate(network, validation)
        typer.echo(f"accuracy {before:.4f} before, {after:.4f} after, {counted(len(validation), 'image')}")

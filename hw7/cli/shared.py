"""What several commands do: find the device, the images and the network, and train.

This imports torch, so commands import it when they run.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import typer
from torch import nn

from hw7 import HW7Error, measure
from hw7.data.load import hold_out_tenth, load_split, plan_split
from hw7.data.source import Split
from hw7.models import AtSize, StudentNet
from hw7.report.experiments import NETWORKS
from hw7.report.profiles import AUGMENTATION
from hw7.solution import Solution, load_solution, running
from hw7.support.files import alone_in, load_weights
from hw7.support.words import reason
from hw7.training.loop import Phase, Run, train
from hw7.training.steps import Distillation, Step, cross_entropy_step
from hw7.training.weights import describe, load_fitting, load_into


def usable_device(name: str) -> str:
    """The device to run on. Raises HW7Error where it cannot be used, with those that can."""
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


def maker_of(network: str) -> Callable[[Solution, int], nn.Module]:
    """What makes a network of this name from (solution, number of classes). Raises HW7Error where there is none."""
    if network not in NETWORKS:
        raise HW7Error(f"there is no network {network!r}; there are: {', '.join(NETWORKS)}")
    return NETWORKS[network]


def load_images(source: str, split: str, size: int, limit: int | None, device: str) -> tuple[Split, Split]:
    """Training and validation images; the pretraining classes hold a tenth of theirs out."""
    training = load_split(source, split, size, limit=limit, device=device)
    if split == "pretraining":
        return hold_out_tenth(training)
    return training, load_split(source, "validation", size, device=device)


def load_network(path: Path, solution: Solution, device: str) -> tuple[nn.Module, int]:
    """The network that a weights file says it belongs to, and the side of the images that it was trained on."""
    tensors, metadata = load_weights(path)
    try:
        name, classes, size = metadata["network"], int(metadata["classes"]), int(metadata["size"])
    except (KeyError, ValueError) as error:
        raise HW7Error(
            f"{path} does not say which network it belongs to ({reason(error)}); "
            "`hw7 train` and `hw7 distill` write files that do"
        ) from error
    if "stage_widths" in tensors:  # perhaps pruned
        return StudentNet.from_state_dict(tensors).to(device), size
    network = maker_of(name)(solution, classes)
    load_into(network, path)
    return (AtSize(network, size) if name == "teacher" else network).to(device), size


def step_from(teacher: Path | None, solution: Solution, device: str, *softness: float) -> Step:
    """Distillation from the network in a weights file (`softness`: its temperature and alpha), or labels alone."""
    if teacher is None:
        return cross_entropy_step
    return Distillation(solution, load_network(teacher, solution, device)[0], *softness)


def train_new(
    name: str, out: Path, images: tuple[str, str, int, int | None], phase: Phase, start: Path | None, seed: int,
    device: str, solution: Path | None, teacher: Path | None = None, *softness: float,
) -> None:  # fmt: skip
    """Makes the network of this name, trains it in the folder `out`, and says what came of it.

    images: source, split, side and number. What may be wrong is found before any image is drawn or decoded.
    """
    make, own, where = maker_of(name), load_solution(solution), usable_device(device)
    source, split, _, limit = images
    with alone_in(out):
        step = step_from(teacher, own, where, *softness)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whoever loads the images will warn
            classes = plan_split(source, split, limit).classes
        torch.manual_seed(seed)
        with running(f"models: {name}", own.directory):
            network = make(own, len(classes))
        if start:
            load_fitting(network, start)
        run = train_as(name, network.to(where), load_images(*images, where), phase, out, step, seed)
    typer.echo(
        f"{name}: {measure.parameters(network):,} parameters, best accuracy {run.best.validation_accuracy:.4f} "
        f"in epoch {run.best_epoch + 1} of {len(run.history)}, {run.seconds:.0f} s; see {out / 'weights.safetensors'}"
    )


def train_as(
    name: str, network: nn.Module, images: tuple[Split, Split], phase: Phase, out: Path, step: Step, seed: int,
    label: str = "", part: int = 0,
) -> Run:  # fmt: skip
    """Trains the network in the folder `out`; its weights file will say that it has this name."""
    training, validation = images
    return train(
        network, training, validation, (phase,), out, step=step, seed=seed, part=part, augmentation=AUGMENTATION,
        metadata=describe(name, training), label=label or name,
    )  # fmt: skip

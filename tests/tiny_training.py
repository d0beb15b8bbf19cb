"""Training runs of milliseconds, on networks and images so small, and what a kill or another run changes in them."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hw7.data.source import Split
from hw7.solution import Solution, default_directory, load_solution
from hw7.training.loop import Phase, Run, train
from hw7.training.steps import Step, cross_entropy_step

PHASES = (Phase(3, learning_rate=1e-2, batch=8), Phase(3, "sgd", learning_rate=1e-2, batch=5, schedule="cosine"))
STEPS = 3 * 3 + 3 * 4  # optimizer steps of PHASES on 20 images


class Killed(BaseException):
    """Like KeyboardInterrupt, nothing that code may take for an error of its own."""


def network(channels: int = 4, seed: int = 0) -> nn.Module:
    """With a batch norm, whose statistics a checkpoint must hold as well.

    The convolution has no bias: in front of a batch norm its gradient is nothing but rounding, which AdamW makes into
    steps of a whole learning rate, and two orders of adding into two networks.
    """
    torch.manual_seed(seed)
    body = (nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3))


def split(count: int = 20, name: str = "training", seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed + count)
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(count) % 3, ("a", "b", "c"), "made up", name)


TRAINING, VALIDATION = split(), split(30, "validation")


def run(directory: Path, net: nn.Module | None = None, **changes: object) -> tuple[Run, dict[str, Tensor]]:
    """Trains a fresh network; the run and the weights."""
    net = net or network()
    options: dict = {"training": TRAINING, "validation": VALIDATION, "phases": PHASES, "checkpoint_seconds": 0.0}
    return train(net, directory=directory, **options | changes), net.state_dict()


def counting(steps: list[int], stop_at: int | None = None) -> Step:
    """The ordinary step, which notes that it ran and is killed when it runs for the `stop_at`th time."""

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        steps.append(len(images))
        loss = cross_entropy_step(net, images, labels, optimizer)
        if len(steps) == stop_at:
            raise Killed  # after the weights have moved
        return loss

    return step


def forbidden(*_: object, **__: object) -> Tensor:
    raise AssertionError("nothing is to be trained, loaded or drawn")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(first: tuple[Run, dict[str, Tensor]], second: tuple[Run, dict[str, Tensor]]) -> None:
    """Bit for bit, but for the time it took."""
    assert replace(first[0], seconds=0) == replace(second[0], seconds=0)
    assert first[1].keys() == second[1].keys()
    assert [name for name in first[1] if not torch.equal(first[1][name], second[1][name])] == []


def solution_with(folder: Path, losses: str) -> Solution:
    """The reference, but for its losses."""
    shutil.copytree(default_directory() / "solution", folder / "solution")
    (folder / "solution" / "losses.py").write_text(losses)
    return load_solution(folder)


SIGNATURE = "def distillation_step(student, teacher, images, labels, optimizer, temperature=20.0, alpha=0.5):"

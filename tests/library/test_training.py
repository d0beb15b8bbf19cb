"""The training loop on networks and images so small that a run takes milliseconds."""

import copy
import json
import math
import os
import resource
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hw7 import HW7Error
from hw7.data.augment import Recipe
from hw7.data.source import Split
from hw7.solution import Solution, default_directory, load_solution
from hw7.support import files
from hw7.training import cuda_graph, loop, precision
from hw7.training.epoch import EVALUATION_BATCH, batches, evaluate, predict
from hw7.training.loop import Phase, Run, train
from hw7.training.steps import Distillation, Step, cross_entropy_step

PHASES = (Phase(3, learning_rate=1e-2, batch=8), Phase(3, "sgd", learning_rate=1e-2, batch=5, schedule="cosine"))
STEPS = 3 * 3 + 3 * 4  # optimizer steps of PHASES on 20 images


class Killed(BaseException):
    """Like KeyboardInterrupt, nothing that code may take for an error of its own."""


def network(channels: int = 4, seed: int = 0) -> nn.Module:
    """With a batch norm, whose statistics a checkpoint must hold as well."""
    torch.manual_seed(seed)
    body = (nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3))


def split(count: int = 20, name: str = "training", seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed + count)
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(count) % 3, ("a", "b", "c"), "made up", name)


def numbered(count: int) -> Split:
    """Image i is as bright as its number, so that a step can tell which images it got; its label is i, too."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    return Split(images, torch.arange(count), tuple(map(str, range(count))), "numbered", "training")


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


def forbidden(*_: object) -> Tensor:
    raise AssertionError("nothing is to be trained")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(first: tuple[Run, dict[str, Tensor]], second: tuple[Run, dict[str, Tensor]]) -> None:
    """Bit for bit, but for the time it took."""
    assert replace(first[0], seconds=0) == replace(second[0], seconds=0)
    assert first[1].keys() == second[1].keys()
    assert [name for name in first[1] if not torch.equal(first[1][name], second[1][name])] == []


# ---- a run that is killed goes on ------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", [None, Recipe()], ids=["plain", "augmented"])
@pytest.mark.parametrize(
    ("kills", "left"),
    [
        ([1], STEPS),  # before the first checkpoint
        ([4], STEPS - 3),
        ([8], STEPS - 6),  # in the last epoch of AdamW
        ([10], STEPS - 9),  # in the first epoch of SGD
        ([15], STEPS - 13),  # in the second
        ([20], STEPS - 17),
        ([5, 2, 4, 6, 3], STEPS - 9),
    ],
    ids=str,
)
def test_a_killed_run_ends_with_the_very_weights(
    tmp_path: Path, kills: list[int], left: int, augmentation: Recipe | None
) -> None:
    whole = run(tmp_path / "whole", augmentation=augmentation)
    for stop_at in kills:
        with pytest.raises(Killed):
            run(tmp_path / "killed", step=counting([], stop_at), augmentation=augmentation)
        torch.rand(stop_at)  # what else the process draws has no influence
    steps: list[int] = []
    assert_same(whole, run(tmp_path / "killed", step=counting(steps), augmentation=augmentation))
    assert len(steps) == left  # it went on, and did not start again
    assert sorted(contents(tmp_path / "killed")) == ["run.json", "weights.safetensors"]


def test_checkpoints_are_not_written_more_often_than_asked(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", step=counting([], 20), checkpoint_seconds=1e9)
    steps: list[int] = []
    assert_same(whole, run(tmp_path / "killed", step=counting(steps)))
    assert len(steps) == STEPS


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.safetensors", "run.json"])
def test_a_kill_between_two_files_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The moment before a file gets its name is the worst one: all before it is written, and it is not."""
    whole = run(tmp_path / "whole")
    move: Callable = os.replace
    seen: list[str] = []

    def killed(source: Path, target: Path) -> None:
        seen.append(target.name)
        if target.name == name and seen.count(name) == (3 if name == "checkpoint.pt" else 1):
            raise Killed
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(Killed):
            run(tmp_path / "killed")
    assert not (tmp_path / "killed" / "run.json").exists()
    assert_same(whole, run(tmp_path / "killed"))


def test_two_runs_are_the_same_whatever_else_is_drawn(tmp_path: Path) -> None:
    first = run(tmp_path / "1", augmentation=Recipe())
    net = network()
    torch.manual_seed(99)
    assert_same(first, run(tmp_path / "2", net, augmentation=Recipe()))


# ---- a folder belongs to one run -------------------------------------------------------------------------------


def test_a_finished_run_is_loaded_and_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = contents(tmp_path)
    again = run(tmp_path, step=forbidden)
    assert_same(first, again)
    assert again[0].seconds == first[0].seconds
    assert contents(tmp_path) == before


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "killed"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"net": network(5)}, "parameters"),
        ({"net": nn.Sequential(*network(), nn.Linear(3, 3))}, "parameters"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"training": split(21)}, "20 images"),
        ({"training": replace(TRAINING, source="other")}, "made up"),
        ({"phases": PHASES[:1]}, "phases"),
        ({"phases": (PHASES[0], replace(PHASES[1], learning_rate=0.5))}, "phases"),
        ({"augmentation": Recipe()}, "augmentation None"),
    ],
    ids=["widths", "layers", "seed", "count", "source", "fewer phases", "learning rate", "augmentation"],
)
def test_another_run_is_refused_and_nothing_changes(tmp_path: Path, finished: bool, changes: dict, says: str) -> None:
    if finished:
        run(tmp_path)
    else:
        with pytest.raises(Killed):
            run(tmp_path, step=counting([], 11))
    before = contents(tmp_path)
    assert before
    with pytest.raises(HW7Error, match="holds another run") as error:
        run(tmp_path, step=forbidden, **changes)
    assert says in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert contents(tmp_path) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"no" * 99)])
@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.safetensors", "run.json"])
def test_a_broken_file_is_named_and_left_alone(tmp_path: Path, name: str, damage: Callable[[Path], object]) -> None:
    if name == "checkpoint.pt":
        with pytest.raises(Killed):
            run(tmp_path, step=counting([], 11))
    else:
        run(tmp_path)
    damage(tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(HW7Error, match=name):
        run(tmp_path, step=forbidden)
    assert contents(tmp_path) == before


def test_a_checkpoint_with_something_to_run_in_it_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"identity": Payload()}, tmp_path / "checkpoint.pt")
    with pytest.raises(HW7Error, match=r"checkpoint\.pt"):
        run(tmp_path, step=forbidden)
    assert not (tmp_path / "ran").exists()


@contextmanager
def disk_that_holds(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the system's own way to refuse a write in the middle."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)


@pytest.mark.skipif(threading.active_count() > 50, reason="a limit of the whole process")
def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "full", step=counting([], 8))
    before = contents(tmp_path / "full")
    with disk_that_holds(2000), pytest.raises(HW7Error, match=r"cannot write .*checkpoint\.pt.*make room"):
        run(tmp_path / "full")
    assert contents(tmp_path / "full") == before
    assert_same(whole, run(tmp_path / "full"))


# ---- what an epoch is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(20, 8, [8, 8, 4]), (17, 8, [8, 9]), (16, 8, [8, 8]), (5, 8, [5]), (9, 8, [9]), (2, 1, [2]), (1, 8, [1])],
)
def test_batches_hold_every_index_and_none_is_of_one(count: int, size: int, sizes: list[int]) -> None:
    order = torch.randperm(count)
    parts = batches(order, size)
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat(parts), order)


def recorded(tmp_path: Path, count: int = 17, **changes: object) -> list[list[list[int]]]:
    """By epoch and batch: the numbers of the images that the step saw."""
    seen: list[list[list[int]]] = []
    per_epoch = len(batches(torch.arange(count), 8))

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        numbers = (images[:, 0, 0, 0] * 255).round().int().tolist()
        assert (images == images[:, :1, :1, :1]).all()
        assert labels.tolist() == numbers  # each image came with its own label
        if not seen or len(seen[-1]) == per_epoch:
            seen.append([])
        seen[-1].append(numbers)
        return torch.zeros(())

    net = nn.Sequential(nn.Flatten(), nn.Linear(48, count))
    data = numbered(count)
    train(net, data, data, (Phase(3, batch=8),), tmp_path, step=step, **changes)  # type: ignore[arg-type]
    return seen


def test_each_image_is_seen_once_an_epoch_in_a_new_order(tmp_path: Path) -> None:
    epochs = recorded(tmp_path / "1")
    assert len(epochs) == 3
    for each in epochs:
        assert sorted(chain(*each)) == list(range(17))
        assert [len(batch) for batch in each] == [8, 9]  # the last one is kept, and is not one image
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert recorded(tmp_path / "2") == epochs
    assert recorded(tmp_path / "3", seed=1) != epochs


def test_an_epochs_loss_is_the_mean_over_images(tmp_path: Path) -> None:
    sizes: list[int] = []

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        sizes.append(len(images))
        return torch.tensor(float(len(sizes)))

    history = run(tmp_path, step=step, phases=(Phase(1, batch=8),))[0].history
    assert sizes == [8, 8, 4]
    assert history[0].loss == (8 * 1 + 8 * 2 + 4 * 3) / 20


def test_the_images_are_augmented_by_sample_and_epoch(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        seen.append(images)
        return torch.zeros(())

    same = replace(TRAINING, images=TRAINING.images[:1].expand(20, -1, -1, -1).contiguous())
    run(tmp_path, training=same, step=step, phases=(Phase(2, batch=20),), augmentation=Recipe(), validation=VALIDATION)
    assert len(seen[0].flatten(1).unique(dim=0)) == 20  # one image, twenty ways
    assert not torch.equal(seen[0].sort(dim=0).values, seen[1].sort(dim=0).values)
    assert 0 <= min(images.min() for images in seen) <= max(images.max() for images in seen) <= 1


# ---- phases, optimizers, learning rates ------------------------------------------------------------------------


def test_learning_rates() -> None:
    assert [Phase(4, learning_rate=0.2).learning_rate_at(number) for number in range(4)] == [0.2] * 4
    cosine = Phase(4, learning_rate=0.2, schedule="cosine")
    # cos 0, 45, 90, 135 degrees; float64 rounding is all that may differ
    wanted = [0.2, 0.1 * (1 + math.sqrt(0.5)), 0.1, 0.1 * (1 - math.sqrt(0.5))]
    assert [cosine.learning_rate_at(number) for number in range(4)] == pytest.approx(wanted, rel=1e-12)


def test_each_phase_has_its_own_optimizer_and_rates(tmp_path: Path) -> None:
    seen: list[tuple[str, float, bool]] = []

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        seen.append((type(optimizer).__name__, optimizer.param_groups[0]["lr"], not optimizer.state))
        return cross_entropy_step(net, images, labels, optimizer)

    cosine = Phase(2, "sgd", learning_rate=0.04, batch=20, schedule="cosine")
    constant = Phase(2, learning_rate=0.01, batch=20)
    history = run(tmp_path, phases=(constant, cosine, cosine), step=step)[0].history
    decayed = pytest.approx(0.02, rel=1e-12)
    assert seen == [
        ("AdamW", 0.01, True),  # True: it remembers no step yet
        ("AdamW", 0.01, False),
        ("SGD", 0.04, True),
        ("SGD", decayed, True),  # without momentum it never does
        ("SGD", 0.04, True),
        ("SGD", decayed, True),
    ]
    assert [(row.optimizer, row.learning_rate) for row in history] == [(n.lower(), rate) for n, rate, _ in seen]


def test_sgd_has_no_momentum() -> None:
    optimizer = Phase(1, "sgd", learning_rate=0.1).make_optimizer(network())
    assert optimizer.param_groups[0]["momentum"] == 0  # the report names none


def test_it_learns(tmp_path: Path) -> None:
    """Three classes that one look at the colour tells apart; a loop that trains nothing stays at a third."""
    labels = torch.arange(60) % 3
    images = torch.zeros(60, 3, 16, 16, dtype=torch.uint8)
    images[torch.arange(60), labels] = 200
    colours = Split(images, labels, ("red", "green", "blue"), "colours", "training")
    result, _ = run(tmp_path, training=colours, validation=colours, phases=(Phase(10, learning_rate=1e-2, batch=10),))
    assert result.best.validation_accuracy == 1
    assert result.history[-1].loss < result.history[0].loss


# ---- the best epoch --------------------------------------------------------------------------------------------


class Always(nn.Module):
    """Answers one class, whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


@pytest.mark.parametrize("stop_at", [None, 3, 5])
def test_the_first_of_the_best_epochs_is_kept(tmp_path: Path, stop_at: int | None) -> None:
    """Class c is right for c + 1 of 6 images; answers are 0, 2, 1, 2, 0 and, in each epoch, surer."""
    validation = replace(split(6, "validation"), labels=torch.tensor([0, 1, 1, 2, 2, 2]))
    answers = [0, 2, 1, 2, 0]

    def step_of(epoch: int, stop_at: int | None) -> Step:
        def step(net: Always, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
            nonlocal epoch
            epoch += 1
            if epoch == stop_at:
                raise Killed
            with torch.no_grad():
                net.logits.zero_()[answers[epoch - 1]] = epoch
            return torch.zeros(())

        return step  # type: ignore[return-value]

    options: dict = {"validation": validation, "phases": (Phase(5, batch=20),)}
    if stop_at:
        with pytest.raises(Killed):
            run(tmp_path, Always(), step=step_of(0, stop_at), **options)
    done = stop_at - 1 if stop_at else 0
    result, weights = run(tmp_path, Always(), step=step_of(done, None), **options)
    assert [row.validation_accuracy for row in result.history] == [1 / 6, 3 / 6, 2 / 6, 3 / 6, 1 / 6]
    assert result.best_epoch == 1
    assert result.best is result.history[1]
    assert weights["logits"].tolist() == [0, 0, 2]
    assert files.load_weights(tmp_path / "weights.safetensors")[0]["logits"].tolist() == [0, 0, 2]


def test_the_file_holds_the_networks_weights_and_what_it_was_told(tmp_path: Path) -> None:
    result, weights = run(tmp_path, metadata={"network": "tiny"})
    stored, metadata = files.load_weights(tmp_path / "weights.safetensors")
    assert metadata == {"network": "tiny"}
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], weights[name]) for name in stored)
    net = network()
    net.load_state_dict(stored)
    assert evaluate(net, VALIDATION)[1] == result.best.validation_accuracy
    record = json.loads((tmp_path / "run.json").read_text())
    assert len(record["history"]) == 6


# ---- measuring -------------------------------------------------------------------------------------------------


def test_evaluate_against_a_computation_by_hand() -> None:
    data = split(EVALUATION_BATCH + 44, "validation")  # two batches, the second smaller
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(768, 3))
    net.train()
    loss, accuracy = evaluate(net, data)

    weight, bias = (p.detach().numpy().astype(np.float64) for p in net[2].parameters())
    logits = data.images.numpy().reshape(len(data), -1).astype(np.float64) / 255 @ weight.T + bias
    labels = data.labels.numpy()
    likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # float32 logits near 1 from sums of 768 terms: 1e-6 each at most, and the mean of the losses is no worse
    assert loss == pytest.approx(-np.log(likelihood[np.arange(len(labels)), labels]).mean(), abs=1e-6)
    assert accuracy == (logits.argmax(axis=1) == labels).mean()


def test_predicting_changes_nothing_and_does_not_depend_on_company() -> None:
    net = network().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    logits = predict(net, VALIDATION.images)
    assert not logits.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    alone = predict(net, VALIDATION.images[:1])
    assert torch.allclose(alone, logits[:1], atol=1e-6)  # float32 in another order; a batch's statistics move it by 0.1


# ---- what cannot be trained ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, value: float) -> None:
    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        steps.append(1)
        return torch.tensor(value if len(steps) == 5 else 1.0)

    steps: list[int] = []
    with pytest.raises(HW7Error, match=f"the loss is {value} in epoch 2.*learning rate than 0.01"):
        run(tmp_path, step=step)
    assert list(contents(tmp_path)) == ["checkpoint.pt"]  # the first epoch's


def test_weights_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    """The last step's loss is taken before it moves the weights: only the validation loss sees what it did."""

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(math.nan)
        return torch.tensor(1.0)

    with pytest.raises(HW7Error, match="loss is nan"):
        run(tmp_path, step=step)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("which", ["training", "validation"])
def test_images_without_labels(tmp_path: Path, which: str) -> None:
    unlabelled = replace(split(20, which), labels=torch.full((20,), -1))
    with pytest.raises(HW7Error, match=f"made up, {which}: images without labels"):
        run(tmp_path, step=forbidden, **{which: unlabelled})
    assert contents(tmp_path) == {}


# ---- a solution's own step -------------------------------------------------------------------------------------


def solution_with(folder: Path, losses: str) -> Solution:
    """The reference, but for its losses."""
    shutil.copytree(default_directory() / "solution", folder / "solution")
    (folder / "solution" / "losses.py").write_text(losses)
    return load_solution(folder)


SIGNATURE = "def distillation_step(student, teacher, images, labels, optimizer, temperature=20.0, alpha=0.5):"


def test_distillation_goes_through_the_solutions_step(tmp_path: Path) -> None:
    solution = solution_with(
        tmp_path / "own",
        f"import torch\ncalls = []\n{SIGNATURE}\n"
        "    calls.append((student, teacher, tuple(images.shape), len(labels), temperature, alpha))\n"
        "    student[5].bias.data.fill_(7.0)\n"
        "    return torch.tensor(2.5, requires_grad=True)\n",
    )
    net, teacher = network(), network(seed=1)
    result, weights = run(tmp_path / "out", net, step=Distillation(solution, teacher, 3.0, 0.25))
    calls = solution.losses.calls
    assert len(calls) == STEPS
    assert all(call[0] is net and call[1] is teacher and call[4:] == (3.0, 0.25) for call in calls)
    assert [call[2] for call in calls[:3]] == [(8, 3, 16, 16), (8, 3, 16, 16), (4, 3, 16, 16)]
    assert [row.loss for row in result.history] == [2.5] * 6
    assert weights["5.bias"].tolist() == [7, 7, 7]


def test_a_killed_distillation_ends_with_the_very_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solution = load_solution()
    step, real = Distillation(solution, network(seed=1)), solution.losses.distillation_step
    whole = run(tmp_path / "whole", step=step)
    done: list[int] = []

    def killed(*arguments: object) -> Tensor:
        done.append(1)
        if len(done) == 11:
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(solution.losses, "distillation_step", killed)
        with pytest.raises(Killed):
            run(tmp_path / "killed", step=step)
    assert_same(whole, run(tmp_path / "killed", step=step))
    assert whole[0].history != run(tmp_path / "labels")[0].history


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("if len(images) == 8:\n        raise KeyError('T')", ["losses.py, line 3", "KeyError", "'T'"]),
        ("return helper(images)\ndef helper(x):\n    return x.nothing", ["losses.py, line 4", "AttributeError"]),
        (
            "import torch\n    torch.ones(2) @ torch.ones(3)",
            ["losses.py, line 3", "RuntimeError"],
        ),  # raised inside torch
        ("raise NotImplementedError('Task 2.2: one step')", ["not done yet", "Task 2.2: one step"]),
        ("return None", ["must return the loss", "None"]),
        ("return images.mean(dim=(1, 2, 3))", ["must return the loss", "shape []"]),
        ("return 0.5", ["must return the loss", "0.5"]),
    ],
    ids=["raises", "raises deeper", "raises in torch", "stub", "none", "batch", "float"],
)
def test_a_solution_that_fails_is_told_where(tmp_path: Path, body: str, says: list[str]) -> None:
    solution = solution_with(tmp_path / "my solution", f"{SIGNATURE}\n    {body}\n")
    with pytest.raises(HW7Error) as error:
        run(tmp_path / "out", step=Distillation(solution, network()))
    message = str(error.value)
    assert message.startswith("losses.distillation_step")
    assert [part for part in says if part not in message] == []
    assert "line" not in message or str(tmp_path / "my solution" / "solution" / "losses.py") in message
    assert contents(tmp_path / "out") == {}


# ---- what a GPU does otherwise ---------------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize("kills", [[], [4], [10], [5, 2, 4, 6, 3]], ids=str)
def test_what_recording_runs_beforehand_leaves_no_trace(
    tmp_path: Path, kills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, but without one: each kind of batch runs three times before the epoch begins."""
    whole = run(tmp_path / "whole", augmentation=Recipe())
    recordings: list[str] = []

    def recorded(work: Callable[[], object], what: str, device: torch.device) -> Callable[[], object]:
        recordings.append(what)
        for _ in range(3):
            work()
        return work

    monkeypatch.setattr(cuda_graph, "recorded", recorded)
    for stop_at in kills:
        with pytest.raises(Killed):  # in a pass or in what runs beforehand
            run(tmp_path / "killed", step=counting([], stop_at), augmentation=Recipe())
    recordings.clear()
    assert_same(whole, run(tmp_path / "killed", augmentation=Recipe()))
    sizes = [what.rpartition("step of ")[2] for what in recordings if "step of" in what]
    assert sizes[-1] == "5 images"  # SGD's batches: all of one size
    assert kills or sizes == ["8 images", "4 images", "5 images"]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("before", [0, 3], ids=["new", "used"])
def test_unchanged_puts_everything_back_where_it_was(name: str, before: int) -> None:
    net = network()
    optimizer = Phase(1, name, learning_rate=0.1).make_optimizer(net)
    images, labels = TRAINING.images.float() / 255, TRAINING.labels
    for _ in range(before):
        cross_entropy_step(net, images, labels, optimizer)
    wanted = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    places = {key: tensor.data_ptr() for key, tensor in net.state_dict().items()}
    twin = network()
    twin.load_state_dict(wanted)
    other = Phase(1, name, learning_rate=0.1).make_optimizer(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    with cuda_graph.unchanged(net, optimizer):
        for _ in range(2):
            cross_entropy_step(net, images, labels, optimizer)
        assert not torch.equal(net.state_dict()["0.weight"], wanted["0.weight"])
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in net.state_dict().items())
    assert {key: tensor.data_ptr() for key, tensor in net.state_dict().items()} == places
    for model, own in ((net, optimizer), (twin, other)):  # and it goes on as if nothing had been
        cross_entropy_step(model, images, labels, own)
    assert all(torch.equal(tensor, twin.state_dict()[key]) for key, tensor in net.state_dict().items())


def test_in_bfloat16_images_logits_and_weights_are_float32_all_the_same() -> None:
    net = network()
    images = VALIDATION.images.float() / 255
    exact, kind = net(images), type(net)
    with precision.computing_in("bfloat16", net):
        logits = net(images)
        copied = copy.deepcopy(net)
        torch.nn.init.zeros_(net[5].weight)
        assert torch.equal(copied(images), logits)  # the copy's own weights
        copied[0].weight.data *= 2
        assert not torch.equal(copied(images), logits)
        assert isinstance(net, kind)
    assert type(net) is kind
    assert logits.dtype == net[0].weight.dtype == torch.float32
    # bfloat16 keeps 8 bits; logits near 1 and three layers
    assert 0 < (logits - exact).abs().max() < 0.05
    with pytest.raises(Killed), precision.computing_in("bfloat16", net):
        raise Killed
    assert type(net) is kind
    with precision.computing_in("float32", net):
        assert type(net) is kind


def test_training_in_bfloat16_is_another_run_and_learns_as_well(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        seen.append(net(images).dtype)
        return cross_entropy_step(net, images, labels, optimizer)

    exact = run(tmp_path / "float32", step=step)
    lowered = run(tmp_path / "bfloat16", step=step, precision="bfloat16")
    assert set(seen) == {torch.float32}
    losses = [[row.loss for row in result.history] for result, _ in (exact, lowered)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)  # 8 bits, over 21 steps
    assert all(tensor.dtype != torch.bfloat16 for tensor in lowered[1].values())
    with pytest.raises(HW7Error, match="precision bfloat16, not float32"):
        run(tmp_path / "bfloat16", step=forbidden)


def test_both_networks_of_a_distillation_compute_in_bfloat16(tmp_path: Path) -> None:
    solution = solution_with(
        tmp_path / "own",
        f"import torch\nkinds = []\n{SIGNATURE}\n"
        "    inside = []\n"
        "    hooks = [m[0].register_forward_hook(lambda m, i, o: inside.append(o.dtype)) for m in (student, teacher)]\n"
        "    logits = student(images), teacher(images)\n"
        "    [hook.remove() for hook in hooks]\n"
        "    kinds.append((images.dtype, *inside, *(x.dtype for x in logits)))\n"
        "    return torch.zeros(())\n",
    )
    run(tmp_path / "out", step=Distillation(solution, network(seed=1)), precision="bfloat16")
    full, half = torch.float32, torch.bfloat16
    assert set(solution.losses.kinds) == {(full, half, half, full, full)}


@pytest.mark.parametrize("seconds", [0.0, 7.0])
def test_a_run_whose_time_is_up_stops_between_epochs_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Each epoch takes four seconds of a clock that only training moves."""
    whole = run(tmp_path / "whole")
    clock = [0.0]
    monkeypatch.setattr(loop.time, "time", lambda: clock[0])
    steps: list[int] = []
    timed = counting(steps)

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        clock[0] += 4 / (3 if len(steps) < 9 else 4)
        return timed(net, images, labels, optimizer)

    for done in range(1, 6):  # a second epoch would end after the time
        with pytest.raises(loop.TimeIsUp, match=f"after {done} of 6 epochs, because its time is up"):
            run(tmp_path / "timed", step=step, until=clock[0] + seconds, checkpoint_seconds=1e9)
        assert list(contents(tmp_path / "timed")) == ["checkpoint.pt"]
    last = run(tmp_path / "timed", step=step, until=clock[0] + seconds, checkpoint_seconds=1e9)
    assert_same(whole, last)
    assert len(steps) == STEPS  # no epoch twice
    with pytest.raises(loop.TimeIsUp, match="after 0 of 6"):
        run(tmp_path / "late", step=forbidden, until=clock[0] - 1)
    assert not (tmp_path / "late").exists()


def on_gpu(directory: Path, step: Step, **changes: object) -> tuple[Run, dict[str, Tensor]]:
    options: dict = {"training": TRAINING.to("cuda"), "validation": VALIDATION.to("cuda"), "augmentation": Recipe()}
    return run(directory, network().cuda(), step=step, **options | changes)


@needs_cuda
@pytest.mark.parametrize("distilled", [False, True])
def test_recorded_steps_are_the_eager_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distilled: bool) -> None:
    """Both optimizers, both sizes of a batch, 21 steps."""
    step = Distillation(load_solution(), network(seed=1).cuda()) if distilled else cross_entropy_step
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it cannot be recorded would be one
        replayed = on_gpu(tmp_path / "recorded", step, precision="float32")
    monkeypatch.setattr(cuda_graph, "recorded", lambda work, what, device: work)
    eager = on_gpu(tmp_path / "eager", step, precision="float32")
    for name, tensor in eager[1].items():
        # the same kernels, but sums in another order, which AdamW's first steps turn into shares of a learning rate
        torch.testing.assert_close(replayed[1][name], tensor, rtol=0, atol=1e-3)


@needs_cuda
def test_a_step_that_looks_at_a_value_runs_eagerly_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        loss = cross_entropy_step(net, images, labels, optimizer)
        losses.append(loss.item())
        return loss

    with pytest.warns(UserWarning, match="a step of 8 images cannot be recorded.*synchroniz"):
        looked = on_gpu(tmp_path / "looked", step, precision="float32")
    replayed = on_gpu(tmp_path / "recorded", cross_entropy_step, precision="float32")
    assert len(losses) >= STEPS
    assert [row.loss for row in looked[0].history] == pytest.approx([row.loss for row in replayed[0].history], rel=1e-3)

"""The training loop on networks and images so small that a run takes milliseconds: kills, folders, phases, time."""

import json
import math
import os
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import (
    PHASES,
    STEPS,
    TRAINING,
    VALIDATION,
    Killed,
    assert_same,
    contents,
    counting,
    forbidden,
    network,
    run,
    split,
)
from torch import Tensor, nn
from torch.optim import Optimizer

from hw7 import HW7Error
from hw7.data.augment import Augmentation
from hw7.data.source import Split
from hw7.support import files
from hw7.training import loop
from hw7.training.epoch import evaluate
from hw7.training.identity import check_identity
from hw7.training.loop import Phase
from hw7.training.steps import Step, cross_entropy_step

# ---- a run that is killed goes on ------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", [None, Augmentation()], ids=["plain", "augmented"])
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
    tmp_path: Path, kills: list[int], left: int, augmentation: Augmentation | None
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
def test_a_run_killed_between_two_files_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
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
    first = run(tmp_path / "1", augmentation=Augmentation())
    net = network()
    torch.manual_seed(99)
    assert_same(first, run(tmp_path / "2", net, augmentation=Augmentation()))


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
        ({"net": network(5)}, "(network: "),
        ({"net": nn.Sequential(*network(), nn.Linear(3, 3))}, "parameters"),
        ({"seed": 1}, "(seed: 0 there, 1 here)"),
        ({"training": split(21)}, "20 images of 16 px there, 21 images of 16 px here"),
        ({"training": replace(TRAINING, source="other")}, "made up"),
        ({"phases": PHASES[:1]}, "phases: 2 there, 1 here"),
        ({"phases": (PHASES[0], replace(PHASES[1], learning_rate=0.5))}, "phase 2: learning rate: "),
        ({"phases": (replace(PHASES[0], epochs=9, batch=7), PHASES[1]), "seed": 4}, "phase 1: batch: "),
        ({"augmentation": Augmentation()}, "augmentation: none there, some here"),
    ],
    ids=["widths", "layers", "seed", "count", "source", "fewer phases", "learning rate", "several", "augmentation"],
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
    assert not re.search(r"[\[{}\]]|None", str(error.value))  # words, and nothing as Python writes it
    assert str(tmp_path) in str(error.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        ("labels alone", f"distillation by {'0a' * 8} from {'1b' * 8}, T = 2", "alone there, distillation, T = 2"),
        ("distillation from ada's, T = 2, alpha = 1", "distillation from ada's, T = 9, alpha = 1", "T = 2 there, T ="),
        (f"by {'0a' * 8}, T = 2", f"by {'0b' * 8}, T = 2", "(step: not the same)"),
        (1234567890123456, 6, "1234567890123456 there, 6 here"),
        ([{"small epochs": 1}] * 2, [{"small epochs": 1}, {"small epochs": None}], "step 2: small epochs: 1 there, "),
        ("6", 6, "(step: not the same)"),
        ({"epochs": 1}, [1], "(step: not the same)"),
        ({"epochs": 1, "small epochs": 2}, {"epochs": 1}, "(small epochs: 2 there, none here)"),
    ],
    ids=["labels", "temperature", "digest", "a long number", "second of two", "a text", "a list", "one more"],
)  # fmt: skip
def test_what_differs_is_said_in_words(tmp_path: Path, found: object, wanted: object, says: str) -> None:
    with pytest.raises(HW7Error, match="holds another trial") as error:
        check_identity(tmp_path, {"step": found, "same": 1}, {"step": wanted, "same": 1}, "trial")
    assert says in str(error.value)
    assert not re.search(r"[\[{}\]'\"]|None|0a0a|0b0b", str(error.value).replace("ada's", "").partition("(")[2])


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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer": "adam"}, "there is no optimizer 'adam'; there are: adamw, sgd"),
        ({"optimizer": "SGD"}, "there is no optimizer 'SGD'; there are: adamw, sgd"),
        ({"schedule": "cos"}, "there is no schedule 'cos'; there are: constant, cosine"),
        ({"schedule": ""}, "there is no schedule ''; there are: constant, cosine"),
    ],
)
def test_an_optimizer_or_a_schedule_that_is_not_known(changes: dict[str, str], says: str) -> None:
    with pytest.raises(HW7Error, match=re.escape(says)):
        Phase(1, **changes)  # type: ignore[arg-type]


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


def test_a_run_that_has_no_time_left_leaves_its_checkpoint_alone(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, step=counting([], 11))
    before, written = contents(tmp_path), (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    with pytest.raises(loop.TimeIsUp, match="after 3 of 6 epochs"):
        run(tmp_path, step=forbidden, until=0.0)
    assert contents(tmp_path) == before
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == written


def test_one_epoch_is_one_epoch(tmp_path: Path) -> None:
    with pytest.raises(loop.TimeIsUp, match="after 0 of 1 epoch, because its time is up"):
        run(tmp_path, step=forbidden, phases=(Phase(1),), until=0.0)

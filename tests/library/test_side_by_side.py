"""Networks that are trained side by side on the same batches, against each of them alone: bit for bit on the CPU."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import PHASES, TRAINING, VALIDATION, Killed, assert_same, contents, network
from torch import Tensor, nn
from torch.optim import Optimizer

from hw7 import HW7Error
from hw7.data.augment import Augmentation
from hw7.solution import load_solution
from hw7.training import cuda_graph, loop
from hw7.training.cuda_graph import BatchCounts, fastest_convolutions
from hw7.training.epoch import Learner, Passes, generator
from hw7.training.loop import Phase, Run, Trainee, train_side_by_side
from hw7.training.steps import Distillation, Step, cross_entropy_step

Ended = dict[str, tuple[Run, dict[str, Tensor]]]


def with_dropout() -> nn.Module:
    net = network()
    return nn.Sequential(*net[:5], nn.Dropout(0.5), *net[5:])  # type: ignore[index]


def writing(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
    """A step that spoils what it was given."""
    loss = cross_entropy_step(net, images, labels, optimizer)
    images.zero_()
    labels.zero_()
    return loss


KINDS: dict[str, Callable[[], tuple[nn.Module, Step]]] = {
    "alone": lambda: (network(), cross_entropy_step),
    "writes": lambda: (network(), writing),
    "taught": lambda: (network(), Distillation(load_solution(), network(seed=1))),
    "dropout": lambda: (with_dropout(), cross_entropy_step),
    "wider": lambda: (network(6), Distillation(load_solution(), network(seed=2), 2.0, 0.9)),
}


def trainees(folder: Path, *kinds: str) -> dict[str, Trainee]:
    made = {kind: KINDS[kind]() for kind in kinds}
    return {kind: Trainee(net, folder / kind, step, label=kind) for kind, (net, step) in made.items()}


def train(folder: Path, *kinds: str, **changes: Any) -> Ended:
    """Trains these side by side, in a folder each."""
    options: dict[str, Any] = {"augmentation": Augmentation(), "checkpoint_seconds": 0.0, "progress": False}
    all_of_them = trainees(folder, *kinds)
    runs = train_side_by_side([*all_of_them.values()], TRAINING, VALIDATION, PHASES, **options | changes)
    networks = (trainee.network.state_dict() for trainee in all_of_them.values())
    return dict(zip(kinds, zip(runs, networks, strict=True), strict=True))


@pytest.fixture(scope="module")
def each_alone(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return {kind: train(tmp_path_factory.mktemp(kind), kind)[kind] for kind in KINDS}


def assert_all_same(ended: Ended, wanted: Ended) -> None:
    for kind, result in ended.items():
        assert_same(result, wanted[kind])


def test_each_ends_with_the_weights_that_it_would_have_alone(tmp_path: Path, each_alone: Ended) -> None:
    ended = train(tmp_path, *KINDS)
    assert_all_same(ended, each_alone)
    assert not torch.equal(ended["alone"][1]["0.weight"], ended["taught"][1]["0.weight"])
    assert sorted(contents(tmp_path / "taught")) == ["run.json", "weights.safetensors"]


def test_in_another_order_and_in_twos(tmp_path: Path, each_alone: Ended) -> None:
    assert_all_same(train(tmp_path, "dropout", "writes"), each_alone)
    assert_all_same(train(tmp_path, "taught", "writes", "dropout", "alone", "wider"), each_alone)


def killed(monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    """The next pass but `stop_at` ends the process, between two epochs."""
    real, passes = Passes.__call__, 0

    def counting(self: Passes, random: torch.Generator) -> Tensor:
        nonlocal passes
        passes += 1
        if passes > stop_at:
            raise Killed
        return real(self, random)

    monkeypatch.setattr(Passes, "__call__", counting)


@pytest.mark.parametrize("stops", [[1], [4], [2, 1, 1]], ids=str)
def test_killed_they_go_on(
    tmp_path: Path, each_alone: Ended, monkeypatch: pytest.MonkeyPatch, stops: list[int]
) -> None:
    for stop_at in stops:
        with monkeypatch.context() as patch:
            killed(patch, stop_at)
            with pytest.raises(Killed):
                train(tmp_path, "alone", "taught", "dropout")
    assert_all_same(train(tmp_path, "alone", "taught", "dropout"), each_alone)


def test_those_that_had_come_further_wait_for_the_others(
    tmp_path: Path, each_alone: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, "writes")  # finished
    for kind, stop_at in (("alone", 4), ("taught", 2)):
        with monkeypatch.context() as patch:
            killed(patch, stop_at)
            with pytest.raises(Killed):
                train(tmp_path, kind)
    together: list[int] = []
    real = Passes.__call__

    def noted(self: Passes, random: torch.Generator) -> Tensor:
        together.append(len(self.learners))
        return real(self, random)

    monkeypatch.setattr(Passes, "__call__", noted)
    ended = train(tmp_path, "alone", "writes", "taught", "dropout")
    assert_all_same(ended, each_alone)
    assert together == [1, 1, 2, 2, 3, 3]


def test_time_that_is_up_stops_all_of_them(tmp_path: Path, each_alone: Ended) -> None:
    with pytest.raises(loop.TimeIsUp, match=r"alone \| taught: stopped after 0 of 6 epochs"):
        train(tmp_path, "alone", "taught", until=0.0)
    assert_all_same(train(tmp_path, "taught", "alone"), each_alone)


def test_the_one_that_fails_is_named(tmp_path: Path) -> None:
    def without_end(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        return torch.tensor(float("inf"))

    both = trainees(tmp_path, "alone", "taught")
    both["taught"].step = without_end
    with pytest.raises(HW7Error, match="taught: the loss is inf in epoch 1"):
        train_side_by_side([*both.values()], TRAINING, VALIDATION, PHASES)


def test_the_time_of_an_epoch_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 6))  # each look is 6 s after the one before; an epoch looks twice
    monkeypatch.setattr(loop.time, "time", lambda: float(next(clock)))
    ended = train(tmp_path, "alone", "taught", "dropout")
    assert [run.seconds for run, _ in ended.values()] == [6 * 2.0] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_they_are_recorded_on_streams_and_end_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)

    def on_gpu(folder: Path, *kinds: str) -> list[dict[str, Tensor]]:
        chosen = [*trainees(folder, *kinds).values()]
        for trainee in chosen:
            trainee.network.cuda()
            if isinstance(trainee.step, Distillation):
                trainee.step.teacher.cuda()
        options: dict[str, Any] = {"augmentation": Augmentation(), "precision": "float32", "progress": False}
        train_side_by_side(chosen, TRAINING.to("cuda"), VALIDATION.to("cuda"), PHASES, **options)
        return [trainee.network.state_dict() for trainee in chosen]

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it cannot be recorded would be one
        together = on_gpu(tmp_path / "together", "alone", "writes", "taught", "wider")
    for kind, weights in zip(("alone", "writes", "taught", "wider"), together, strict=True):
        (alone,) = on_gpu(tmp_path / kind, kind)
        for name, tensor in alone.items():
            # The same kernels, but some add in another order each time: a tenth of one step of AdamW at 1e-2.
            torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-3)


# ---- parts of one seed -----------------------------------------------------------------------------------------


def test_each_part_sees_other_orders_and_augmentations(tmp_path: Path) -> None:
    """As the steps of pruning do. The same part of the same seed sees the same."""
    seen: dict[str, list[Tensor]] = {}

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        seen[name].append(images)
        return torch.zeros(())

    parts = {"0": {}, "0 again": {}, "1": {"part": 1}, "2": {"part": 2}, "seed 1": {"seed": 1}}
    for name, changes in parts.items():
        seen[name] = []
        trainee = Trainee(network(), tmp_path / name, step)
        options: dict[str, Any] = {"augmentation": Augmentation(), **changes}
        train_side_by_side([trainee], TRAINING, VALIDATION, (Phase(2, batch=20),), **options)
    epochs = {name: [tuple(images.sum((1, 2, 3)).tolist()) for images in each] for name, each in seen.items()}
    assert epochs["0"] == epochs["0 again"]
    different = [epoch for name in ("0", "1", "2", "seed 1") for epoch in epochs[name]]
    assert len(set(different)) == len(different) == 8
    assert len({tuple(sorted(epoch)) for epoch in different}) == 8  # not only in another order


# ---- batch norms' counters, and cuDNN's choice -----------------------------------------------------------------


class Counted(nn.Module):
    """With a batch norm that computes with its counter, one that does not, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.cumulative, self.body, self.unused = nn.BatchNorm2d(3, momentum=None), network(), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(self.cumulative(images))


@pytest.mark.parametrize("replayed", [False, True], ids=["eager", "replayed"])
@pytest.mark.parametrize("times", [1, 2])
def test_batch_norms_counters_are_right(monkeypatch: pytest.MonkeyPatch, replayed: bool, times: int) -> None:
    """Where a step is replayed, no host counts with it: as on a GPU, whose recording runs the work four times."""

    def recorded(work: Callable[[], object], what: str, device: torch.device) -> Callable[[], object]:
        for _ in range(4):
            work()

        def replay() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(cuda_graph._Count, "add_", lambda self, number: self)
                work()

        return replay

    if replayed:
        monkeypatch.setattr(cuda_graph, "recorded", recorded)
    net = Counted()

    def step(net: nn.Module, images: Tensor, labels: Tensor, optimizer: Optimizer) -> Tensor:
        for _ in range(times):
            loss = cross_entropy_step(net, images, labels, optimizer)
        return loss

    passes = Passes([Learner(net, Phase(1).make_optimizer(net), step)], TRAINING, 8, None)
    for epoch in range(2):
        passes(generator(epoch))
    counters = [int(norm.state_dict()["num_batches_tracked"]) for norm in (net.cumulative, net.body[1], net.unused)]
    each = 2 * 3 * times  # passes, steps, forwards
    assert counters == [each, each, 0]


def test_the_counters_are_the_tensors_again_whatever_happens() -> None:
    net = network().train()
    with pytest.raises(RuntimeError, match="batched"), BatchCounts([net]):
        net[:3](net(TRAINING.images.float()))  # type: ignore[index]
    net(TRAINING.images.float())
    assert int(net.state_dict()["1.num_batches_tracked"]) == 2


def test_cudnn_chooses_where_it_pays_and_as_before_afterwards() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for device, steps, chooses in ((cuda, 100_000, True), (cuda, 10, False), (cpu, 100_000, False)):
        with fastest_convolutions(device, steps):
            assert torch.backends.cudnn.benchmark is chooses
        assert torch.backends.cudnn.benchmark is False
    with pytest.raises(Killed), fastest_convolutions(cuda, 100_000):
        raise Killed
    assert torch.backends.cudnn.benchmark is False

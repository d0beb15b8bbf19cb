"""What a GPU does otherwise: recorded steps and bfloat16. Most of it is held without one."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_training import (
    SIGNATURE,
    STEPS,
    TRAINING,
    VALIDATION,
    Killed,
    assert_same,
    counting,
    forbidden,
    network,
    run,
    solution_with,
)
from torch import Tensor, nn
from torch.optim import Optimizer

from hw7 import HW7Error
from hw7.data.augment import Augmentation
from hw7.report.experiments import NETWORKS
from hw7.solution import load_solution
from hw7.training import cuda_graph, precision
from hw7.training.loop import Phase, Run
from hw7.training.steps import Distillation, Step, cross_entropy_step

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize("kills", [[], [4], [10], [5, 2, 4, 6, 3]], ids=str)
def test_what_recording_runs_beforehand_leaves_no_trace(
    tmp_path: Path, kills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, but without one: each kind of batch runs three times before the epoch begins."""
    whole = run(tmp_path / "whole", augmentation=Augmentation())
    recordings: list[str] = []

    def recorded(work: Callable[[], object], what: str, device: torch.device) -> Callable[[], object]:
        recordings.append(what)
        for _ in range(3):
            work()
        return work

    monkeypatch.setattr(cuda_graph, "recorded", recorded)
    for stop_at in kills:
        with pytest.raises(Killed):  # in a pass or in what runs beforehand
            run(tmp_path / "killed", step=counting([], stop_at), augmentation=Augmentation())
    recordings.clear()
    assert_same(whole, run(tmp_path / "killed", augmentation=Augmentation()))
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

    with cuda_graph.unchanged((net, optimizer)):
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


def test_float32_is_without_tensorfloat32() -> None:
    """Which convolutions take on a GPU unless they are told not to: 10 bits of 23."""

    def allowed() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = allowed()
    assert any(before)
    for name in precision.PRECISIONS:
        with precision.computing_in(name, network()):
            assert allowed() == (False, False)
        assert allowed() == before
    with pytest.raises(Killed), precision.computing_in("float32"):
        raise Killed
    assert allowed() == before


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
    with pytest.raises(HW7Error, match="precision: bfloat16 there, float32 here"):
        run(tmp_path / "bfloat16", step=forbidden)


def test_both_networks_of_a_distillation_compute_in_bfloat16(tmp_path: Path) -> None:
    solution = solution_with(
        tmp_path / "own",
        f"import torch\nkinds = []\n{SIGNATURE}\n"
        "    inside = []\n"
        "    first = [next(x for x in m.modules() if isinstance(x, torch.nn.Conv2d)) for m in (student, teacher)]\n"
        "    hooks = [layer.register_forward_hook(lambda m, i, o: inside.append(o.dtype)) for layer in first]\n"
        "    logits = student(images), teacher(images)\n"
        "    [hook.remove() for hook in hooks]\n"
        "    kinds.append((images.dtype, *inside, *(x.dtype for x in logits)))\n"
        "    return torch.zeros(())\n",
    )
    run(tmp_path / "out", step=Distillation(solution, network(seed=1)), precision="bfloat16")
    full, half = torch.float32, torch.bfloat16
    assert set(solution.losses.kinds) == {(full, half, half, full, full)}


def test_the_host_may_wait_again_whatever_ended_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where torch's own warning, that this mode is a prototype, is an error."""
    modes = ["warn"]

    def set_mode(mode: str) -> None:
        modes.append(mode)
        if mode == "error":
            warnings.warn("Synchronization debug mode is a prototype feature and does not yet detect all", stacklevel=2)

    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="another"), cuda_graph._no_waiting():
            warnings.warn("another", stacklevel=1)  # nobody else's warning is lost
    assert modes == ["warn", "error", "warn"]

    def refused(mode: str) -> None:
        set_mode(mode)
        if mode == "error":
            raise RuntimeError("the device is lost")

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", refused)
    with pytest.raises(RuntimeError, match="lost"), cuda_graph._no_waiting():
        pass
    assert modes[-1] == "warn"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_fused_optimizer_moves_every_network_as_the_plain_one_does(name: str, device: str) -> None:
    """Fused kernels walk through memory: a gradient that lies there otherwise than its weight would move other weights.

    In channels_last, convolutions decide how their gradients lie.
    """
    torch.manual_seed(0)
    net = NETWORKS[name](load_solution(), 11).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(4, 3, 32, 32).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    twin = copy.deepcopy(net)
    with precision.computing_in(precision.best_precision(device), net):
        net(images).square().sum().backward()
    for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
        other.grad = mine.grad.contiguous() if mine.grad is not None else None  # as an ordinary optimizer may get it
    before = [parameter.detach().clone() for parameter in net.parameters()]
    fused = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-3, foreach=False)
    for _ in range(3):
        fused.step()
        plain.step()
    for (key, mine), other, old in zip(net.named_parameters(), twin.parameters(), before, strict=True):
        assert mine.grad is None or not torch.equal(mine, old), key
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6, msg=key)  # float32, weights up to 1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_gradient_that_lies_otherwise_in_memory_moves_its_own_weight(name: str, device: str) -> None:
    """As one does that a step has put there itself. From then on the optimizer goes on, with all that it remembers."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 3)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    twin = copy.deepcopy(net).double()  # as the mathematics says
    mine = Phase(1, name, learning_rate=0.1).make_optimizer(net)
    other = Phase(1, name, learning_rate=0.1).make_optimizer(twin)
    for layout in (torch.channels_last, torch.contiguous_format, torch.channels_last):
        for parameter, same in zip(net.parameters(), twin.parameters(), strict=True):
            gradient = torch.randn(parameter.shape, device=device)
            parameter.grad = gradient.to(memory_format=layout) if gradient.ndim == 4 else gradient
            same.grad = torch.empty_like(same).copy_(gradient)
        mine.step()
        other.step()
    for parameter, same in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.double(), same, rtol=0, atol=1e-5)  # float32, three steps of 0.1


def on_gpu(directory: Path, step: Step, **changes: object) -> tuple[Run, dict[str, Tensor]]:
    options: dict = {
        "training": TRAINING.to("cuda"),
        "validation": VALIDATION.to("cuda"),
        "augmentation": Augmentation(),
    }
    return run(directory, network().cuda(), step=step, **options | changes)


@needs_cuda
@pytest.mark.parametrize("distilled", [False, True])
def test_recorded_steps_are_the_eager_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distilled: bool) -> None:
    """Both optimizers, both sizes of a batch, 21 steps."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    step = Distillation(load_solution(), network(seed=1).cuda()) if distilled else cross_entropy_step
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it cannot be recorded would be one
        replayed = on_gpu(tmp_path / "recorded", step, precision="float32")
    monkeypatch.setattr(cuda_graph, "recorded", lambda work, what, device: work)
    eager = on_gpu(tmp_path / "eager", step, precision="float32")
    for name, tensor in eager[1].items():
        # The same kernels, but some add in another order each time: a tenth of one step of AdamW at 1e-2.
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

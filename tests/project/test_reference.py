"""The reference solution, task by task, against mathematics written out once more in float64."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from networks import count, scramble
from torch import Tensor, nn

from hw7.data.plates.render import draw
from hw7.models import STUDENT_WIDTHS, StudentNet
from hw7.solution import PROJECT, load_solution

pytestmark = pytest.mark.rounding

REFERENCE = load_solution(PROJECT / "reference_solutions" / "hw7")
models, losses = REFERENCE.models, REFERENCE.losses
pruning, quantization = REFERENCE.pruning, REFERENCE.quantization

FLOAT32_EPS = float(np.finfo(np.float32).eps)
NARROW = (4, 6, 8, 20, 24, 24, 24, 10)


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(network.state_dict()))


def same(state: dict[str, Tensor], network: nn.Module) -> bool:
    other = network.state_dict()
    return state.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in state.items())


# ---- task 1: structures ------------------------------------------------------------------------------------


def batch_norm(x: Tensor, bn: nn.BatchNorm2d) -> Tensor:
    mean, var, scale, shift = (t[:, None, None] for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias))
    return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift


@pytest.mark.parametrize(("stride", "size", "expected"), [(1, 9, 9), (2, 9, 5), (2, 8, 4), (3, 8, 3)])
def test_depthwise_separable(stride: int, size: int, expected: int) -> None:
    network = scramble(models.depthwise_separable(6, 10, stride)).double().eval()
    depthwise, bn, _, pointwise, last_bn, _ = network
    x = torch.randn(2, 6, size, size, dtype=torch.float64)
    y = F.conv2d(x, depthwise.weight, stride=stride, padding=1, groups=6)
    y = torch.einsum("oi,nihw->nohw", pointwise.weight[:, :, 0, 0], batch_norm(y, bn).relu())
    y = batch_norm(y, last_bn).relu()
    assert y.shape == (2, 10, expected, expected)
    assert count(network) == 6 * 9 + 2 * 6 + 6 * 10 + 2 * 10
    torch.testing.assert_close(network(x), y)  # float64; the same sums, at most in another order


COUNTS = {"small_resnet18": 1_454_603, "student_cnn": 1_720_107, "student_dw": 274_763, "final_model": 256_779}


@pytest.mark.parametrize("name", COUNTS)
def test_networks_have_the_reports_sizes_and_take_any_image(name: str) -> None:
    network = getattr(models, name)().eval()
    assert count(network) == COUNTS[name]
    with torch.no_grad():
        for size in (32, 33, 64, 128):
            assert network(torch.rand(2, 3, size, size)).shape == (2, 11)
        assert getattr(models, name)(num_classes=3).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 3)


def sizes_after(
    network: nn.Module, kind: type[nn.Module], at: Callable[[nn.Module], bool] = lambda module: True
) -> list[int]:
    """The side of the output of each module of this kind, for one 128 x 128 image."""
    sizes: list[int] = []
    for module in network.modules():
        if isinstance(module, kind) and at(module):
            module.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    with torch.no_grad():
        network.eval()(torch.rand(1, 3, 128, 128))
    return sizes


def test_student_cnn_layer_by_layer() -> None:
    network = models.student_cnn()
    convolutions = [module for module in network if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [32, 64, 128, 128, 256, 256, 256]
    assert [conv.bias for conv in convolutions] == [None] * 7
    kinds = "".join(type(module).__name__[0] for module in network)  # Conv, BatchNorm, ReLU6, MaxPool
    assert kinds == "CBRM" * 3 + "CBR" * 4 + "AFL"
    assert sum(isinstance(module, nn.ReLU6) for module in network) == 7
    # From the report's layer table: 64 -> pool 32 -> 32 -> pool 16 -> 8 -> pool 4 -> 4 -> 2 -> 2 -> 2.
    assert sizes_after(network, nn.Conv2d) == [64, 32, 8, 4, 2, 2, 2]
    assert sizes_after(network, nn.MaxPool2d) == [32, 16, 4]


def test_student_dw_layer_by_layer() -> None:
    network = models.student_dw()
    depthwise = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert [conv.out_channels for conv in depthwise] == [32, 64, 128, 128, 256, 256, 256]
    assert sizes_after(network, nn.Conv2d, lambda conv: conv in depthwise) == [64, 32, 32, 16, 16, 16, 16]
    assert not any(isinstance(module, nn.ReLU6) for module in network.modules())  # the report's text errs there


def test_small_resnet18_block() -> None:
    network = models.small_resnet18()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert {(conv.kernel_size[0], conv.groups > 1) for conv in convolutions} == {(7, False), (3, True), (1, False)}
    assert sum(conv.groups > 1 for conv in convolutions) == 16

    block = scramble(network.layer2[0]).double().eval()  # the one with a stride and a downsample
    x = torch.randn(2, 64, 8, 8, dtype=torch.float64)

    def separable(x: Tensor, layers: nn.Sequential, stride: int) -> Tensor:
        depthwise, bn, _, pointwise = layers
        y = F.conv2d(x, depthwise.weight, stride=stride, padding=1, groups=x.shape[1])
        return F.conv2d(batch_norm(y, bn).relu(), pointwise.weight)

    y = batch_norm(separable(x, block.conv1, 2), block.bn1).relu()
    y = batch_norm(separable(y, block.conv2, 1), block.bn2)
    y = (y + batch_norm(F.conv2d(x, block.downsample[0].weight, stride=2), block.downsample[1])).relu()
    torch.testing.assert_close(block(x), y)


# ---- task 2: distillation ----------------------------------------------------------------------------------


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def kd_by_hand(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, t: float, alpha: float) -> float:
    target = softmax(teacher / t)
    divergence = (target * (log_softmax(teacher / t) - log_softmax(student / t))).sum(axis=1).mean()
    cross_entropy = -log_softmax(student)[np.arange(len(labels)), labels].mean()
    return alpha * t**2 * divergence + (1 - alpha) * cross_entropy


def logits_and_labels(n: int, c: int, size: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = size * torch.randn(2, n, c, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher, torch.randint(c, (n,), generator=generator)


@pytest.mark.parametrize("size", [0.1, 3, 30])  # unsure, usual and confident networks
@pytest.mark.parametrize(("n", "c"), [(1, 2), (1, 11), (5, 2), (8, 11)])
@pytest.mark.parametrize("temperature", [1, 1.5, 4, 20])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_kd_loss_and_its_gradient(alpha: float, temperature: float, n: int, c: int, size: float) -> None:
    student, teacher, labels = logits_and_labels(n, c, size)
    loss = losses.kd_loss(student, teacher, labels, temperature, alpha)
    loss.backward()
    s, t, y = student.detach().numpy(), teacher.numpy(), labels.numpy()
    assert loss.shape == ()
    # The divergence is a difference of logarithms of size 1, known to 1e-16, and is multiplied by up to 400.
    assert loss.item() == pytest.approx(kd_by_hand(s, t, y, temperature, alpha), rel=1e-11, abs=1e-12)

    soft = temperature * (softmax(s / temperature) - softmax(t / temperature))  # T^2, and 1/T of the inner derivative
    gradient = (alpha * soft + (1 - alpha) * (softmax(s) - np.eye(c)[y])) / n
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), gradient, rtol=1e-10, atol=1e-13)


def test_kd_loss_uses_the_contracts_defaults() -> None:
    student, teacher, labels = logits_and_labels(4, 11, 3)
    expected = kd_by_hand(student.detach().numpy(), teacher.numpy(), labels.numpy(), 20, 0.5)
    assert losses.kd_loss(student, teacher, labels).item() == pytest.approx(expected, rel=1e-11)


def test_kd_loss_does_not_see_a_shift_of_all_logits() -> None:
    student, teacher, labels = logits_and_labels(4, 11, 3)
    shift = torch.tensor([[-50.0], [0.0], [7.0], [100.0]], dtype=torch.float64)
    shifted = losses.kd_loss(student + shift, teacher - 2 * shift, labels, 2.0, 0.5)
    # 100 + logit is known to 1e-14.
    assert shifted.item() == pytest.approx(losses.kd_loss(student, teacher, labels, 2.0, 0.5).item(), rel=1e-11)


def test_kd_loss_gives_the_teacher_no_gradient() -> None:
    student, teacher, labels = logits_and_labels(4, 11, 3)
    teacher.requires_grad_()
    losses.kd_loss(student, teacher, labels).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_kd_loss_is_finite_for_huge_logits(temperature: float) -> None:
    student, teacher = (torch.tensor(rows, requires_grad=True) for rows in ([[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]))
    loss = losses.kd_loss(student, teacher, torch.tensor([1]), temperature)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


class Student(nn.Module):
    """A few layers, a batch norm among them, and room for a teacher."""

    def __init__(self, seed: int, teacher: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
        self.teacher = teacher
        self.ran: list[tuple[bool, bool]] = []
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        self.ran.append((self.training, torch.is_grad_enabled()))
        return self.body(images)


@pytest.mark.parametrize("inside", [False, True], ids=["beside", "inside"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_distillation_step(inside: bool, training: bool) -> None:
    teacher = scramble(Student(1)).train(training)
    student = scramble(Student(2, teacher if inside else None), seed=3).train(not training)
    images, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 4, 4])
    rate, temperature, alpha = 0.1, 3.0, 0.7

    oracle = copy.deepcopy(student.body).train()
    with torch.no_grad():
        targets = copy.deepcopy(teacher).eval()(images)
    logits = oracle(images)
    soft = temperature * (F.softmax(logits / temperature, 1) - F.softmax(targets / temperature, 1))
    slope = (alpha * soft + (1 - alpha) * (F.softmax(logits, 1) - F.one_hot(labels, 5))) / 4
    logits.backward(slope.detach())
    moved = {
        name: tensor.detach() - rate * tensor.grad
        for name, tensor in oracle.named_parameters()
        if tensor.grad is not None
    }
    loss_by_hand = kd_by_hand(logits.detach().numpy(), targets.numpy(), labels.numpy(), temperature, alpha)

    before = snapshot(teacher)
    for parameter in student.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from some other step
    for parameter in teacher.parameters():
        parameter.grad = None
    optimizer = torch.optim.SGD(student.body.parameters(), lr=rate)
    loss = losses.distillation_step(student, teacher, images, labels, optimizer, temperature, alpha)

    assert loss.item() == pytest.approx(loss_by_hand, rel=1e-11)
    assert not loss.requires_grad
    assert same(before, teacher)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.ran == [(True, True)]  # once, in train mode
    assert teacher.ran == [(False, False)]  # once, in eval mode, without gradients
    torch.testing.assert_close({name: tensor.detach() for name, tensor in student.body.named_parameters()}, moved)
    # The batch norm's statistics and counter have moved as well.
    torch.testing.assert_close(dict(student.body.named_buffers()), dict(oracle.named_buffers()))


# ---- task 3: pruning ---------------------------------------------------------------------------------------


def test_channel_importance() -> None:
    bn = nn.BatchNorm2d(4)
    with torch.no_grad():
        bn.weight.copy_(torch.tensor([-2.0, 0.0, 1.0, 0.5]))
    importance = pruning.channel_importance(bn)
    assert importance.tolist() == [2, 0, 1, 0.5]
    assert not importance.requires_grad
    importance.zero_()
    assert bn.weight.tolist() == [-2, 0, 1, 0.5]


@pytest.mark.parametrize(
    ("importance", "keep", "expected"),
    [
        ([0.1, 0.9, 0.5, 0.7], 2, [1, 3]),
        ([0.1, 0.9, 0.5, 0.7], 4, [0, 1, 2, 3]),
        ([0.9, 0.1, 0.2], 1, [0]),
        ([1.0, 1.0, 1.0, 1.0], 2, [0, 1]),
        ([0.0, 1.0, 2.0, 1.0, 1.0], 3, [1, 2, 3]),
        ([3.0], 1, [0]),
    ],
)
def test_select_channels(importance: list[float], keep: int, expected: list[int]) -> None:
    chosen = pruning.select_channels(torch.tensor(importance), keep)
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == expected


def best(importance: Tensor, keep: int) -> list[int]:
    """The same by Python's sort: falling importance, then rising index."""
    values = importance.tolist()
    return sorted(sorted(range(len(values)), key=lambda index: (-values[index], index))[:keep])


@pytest.mark.parametrize("keep", [1, 17, 100, 255, 256])
def test_select_channels_among_many_ties(keep: int) -> None:
    importance = torch.randint(5, (256,), generator=torch.Generator().manual_seed(keep)).float()
    assert pruning.select_channels(importance, keep).tolist() == best(importance, keep)


@pytest.mark.parametrize("keep", [0, -1, 5])
def test_select_channels_refuses(keep: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.4"):
        pruning.select_channels(torch.rand(4), keep)


def without(model: StudentNet, widths: tuple[int, ...]) -> StudentNet:
    """The model as it is, with the channels that must go made dead instead of cut out."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for stage, keep in enumerate(widths[:-1]):
            bn = model.blocks[stage].bn  # of stage + 1: it scales what comes out of `stage`
            gone = sorted(set(range(bn.num_features)) - set(best(bn.weight.abs(), keep)))
            bn.weight[gone] = 0
            bn.bias[gone] = 0
    return model


WIDTHS = [(4, 6, 8, 13, 24, 24, 24, 10), (4, 6, 8, 20, 24, 24, 5, 10), (4, 6, 8, 7, 1, 23, 12, 10), NARROW]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("widths", WIDTHS)
def test_slimming_leaves_out_nothing_but_the_least_important_channels(widths: tuple[int, ...], training: bool) -> None:
    model = scramble(StudentNet(NARROW, num_classes=5).double())
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    slim = pruning.network_slimming(model, widths)
    assert slim.widths == widths
    assert count(slim) == count(StudentNet(widths, num_classes=5))
    # Dropped terms are exact zeros; the other sums run in another order.
    expected = without(model, widths).train(training)(images)
    torch.testing.assert_close(slim.train(training)(images), expected, rtol=1e-9, atol=1e-11)


def test_slimming_away_dead_channels_changes_nothing() -> None:
    """In float32 at full width, as students see it: they agree to 1e-6 of the logits' size."""
    widths = (16, 32, 64, 100, 200, 150, 30, 256)
    model = without(scramble(StudentNet()), widths).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before, after = model(images), pruning.network_slimming(model, widths).eval()(images)
    assert (before - after).abs().max() < 1e-6 * max(1, before.abs().max())


@pytest.mark.parametrize("widths", [WIDTHS[2], NARROW])
def test_slimming_leaves_the_model_alone_and_shares_nothing(widths: tuple[int, ...]) -> None:
    model = scramble(StudentNet(NARROW))
    before = snapshot(model)
    slim = pruning.network_slimming(model, list(widths))
    storages = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    assert not storages & {tensor.untyped_storage().data_ptr() for tensor in slim.state_dict().values()}
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in slim.parameters())
    assert same(before, slim) is (widths == NARROW)  # equal widths give a copy
    with torch.no_grad():
        for tensor in slim.state_dict().values():
            tensor.zero_()
    assert same(before, model)


@pytest.mark.parametrize(
    "widths",
    [
        NARROW[:7],
        (*NARROW, 10),
        (),
        (4, 6, 8, 21, 24, 24, 24, 10),
        (4, 6, 8, 20, 24, 0, 24, 10),
        (4, 6, 8, 20, -1, 24, 24, 10),
        (3, 6, 8, 20, 24, 24, 24, 10),
        (4, 6, 7, 20, 24, 24, 24, 10),
        (4, 6, 8, 20, 24, 24, 24, 9),
    ],
)
def test_slimming_refuses_widths(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="network_slimming"):
        pruning.network_slimming(StudentNet(NARROW), widths)


# As the report's networks count: the parameters after each step of its three keep rates.
LADDERS = {
    0.975: (245444, 236066, 226868, 217850, 209012, 200354, 193422, 186324, 178146, 171606,
            164916, 158621, 153567, 147234, 142362, 136508, 131814, 127200, 122666, 118212),
    0.95: (236066, 217850, 200354, 185091, 171606, 158621, 146136, 135204, 125940, 116996),
    0.9: (216518, 183578, 156084, 132858, 114810),
}  # fmt: skip


@pytest.mark.parametrize("keep_rate", LADDERS)
def test_width_schedule_climbs_down_the_reports_ladders(keep_rate: float) -> None:
    ladder = LADDERS[keep_rate]
    schedule = pruning.width_schedule(STUDENT_WIDTHS, keep_rate, len(ladder))
    assert all(isinstance(widths, tuple) for widths in schedule)
    assert tuple(count(StudentNet(widths)) for widths in schedule) == ladder


def test_width_schedule_keeps_at_least_one_channel() -> None:
    assert pruning.width_schedule((1, 2, 3, 4, 5, 6, 7, 8), 0.5, 3)[2] == (1, 2, 3, 1, 1, 1, 1, 8)
    assert pruning.width_schedule(STUDENT_WIDTHS, 0.5, 0) == []


@pytest.mark.parametrize("keep_rate", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_width_schedule_refuses(keep_rate: float) -> None:
    with pytest.raises(ValueError, match="keep_rate"):
        pruning.width_schedule(STUDENT_WIDTHS, keep_rate, 3)


def test_iterative_prune_goes_on_from_what_finetuning_made() -> None:
    model = scramble(StudentNet(NARROW))
    original = snapshot(model)
    handed: list[StudentNet] = []
    arrived: list[dict[str, Tensor]] = []

    def finetune(network: StudentNet) -> StudentNet:
        handed.append(network)
        arrived.append(snapshot(network))
        scramble(network, seed=len(handed))  # other channels are the important ones from now on
        with torch.no_grad():
            network.fc.bias += 1
        return StudentNet(NARROW)  # to be ignored

    networks = pruning.iterative_prune(model, 0.8, 4, finetune)
    assert [network.widths for network in networks] == pruning.width_schedule(NARROW, 0.8, 4)
    assert all(network is seen for network, seen in zip(networks, handed, strict=True))
    for before, state, network in zip([model, *networks], arrived, networks, strict=False):
        assert same(state, pruning.network_slimming(before, network.widths))
    assert same(original, model)


# ---- task 4: quantization ----------------------------------------------------------------------------------

SPREADS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda x: x,
    "positive": lambda x: x.abs() + 1,
    "negative": lambda x: -x.abs() - 1,
    "constant": lambda x: torch.full_like(x, 0.3),
    "constant, negative": lambda x: torch.full_like(x, -1e5),
    "zero": torch.zeros_like,
    "huge": lambda x: (1e38 * x).clamp(-3e38, 3e38),  # max - min is no float32
    "tiny": lambda x: 1e-30 * x,
    "a small spread about 1e6": lambda x: 1e6 + x,
}


def assert_within_half_a_step(weight: Tensor, restored: Tensor, bits: int) -> None:
    """The contract's bound for one tensor or channel: half a step and four float32 eps of the largest entry."""
    exact, back = weight.double(), restored.double()
    step = (exact.max() - exact.min()) / (2**bits - 1)
    assert (back - exact).abs().max() <= step / 2 + 4 * FLOAT32_EPS * exact.abs().max()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("spread", SPREADS)
def test_quantize_comes_back_within_half_a_step(spread: str, bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    for shape in ((), (1,), (300,), (8, 5), (4, 5, 6), (6, 4, 3, 3)):
        weight = SPREADS[spread](torch.randn(shape, generator=generator))
        for axis in (None, *range(len(shape))):
            q, scale, zero_point = quantization.quantize(weight, bits, axis)
            restored = quantization.dequantize(q, scale, zero_point, axis)
            assert (q.dtype, q.shape) == (torch.uint8, weight.shape)
            assert q.max() <= 2**bits - 1
            assert (restored.dtype, restored.shape) == (torch.float32, weight.shape)
            assert scale.shape == zero_point.shape == (() if axis is None else (shape[axis],))
            for before, after in zip(
                *((x.unbind(axis) if axis is not None else [x]) for x in (weight, restored)), strict=True
            ):
                assert_within_half_a_step(before, after, bits)


@pytest.mark.parametrize("value", [0.3, -7.1, 0.0, 1e-30, 1e30])
def test_quantize_gives_constants_back_exactly(value: float) -> None:
    weight = torch.full((4, 5), value)
    weight[2] = 1.5  # each row is a channel, and constant
    assert torch.equal(quantization.dequantize(*quantization.quantize(weight, 4, 0), 0), weight)
    assert torch.equal(quantization.dequantize(*quantization.quantize(weight[0])), weight[0])


@pytest.mark.parametrize("bits", [2, 8])
def test_quantize_takes_the_contracts_step_and_uses_every_level(bits: int) -> None:
    levels = 2**bits - 1
    weight = torch.linspace(-3, 5, 2 * levels + 1)
    q, scale, zero_point = quantization.quantize(weight, bits)
    assert scale.item() == pytest.approx(8 / levels, rel=FLOAT32_EPS)
    assert zero_point.item() == pytest.approx(3 / 8 * levels, rel=2 * FLOAT32_EPS)  # not rounded
    assert q.unique().tolist() == list(range(levels + 1))
    assert (q[0], q[-1]) == (0, levels)


def test_quantize_takes_any_layout_and_leaves_it_alone() -> None:
    weight = nn.Parameter(torch.randn(6, 4, 3, 3).permute(3, 1, 0, 2))
    before = weight.detach().clone()
    for axis in (2, -2):
        q, scale, zero_point = quantization.quantize(weight, 8, axis)
        assert torch.equal(quantization.quantize(before.contiguous(), 8, 2)[0], q)
        assert not any(tensor.requires_grad for tensor in (q, scale, zero_point))
    assert torch.equal(weight, before)


@pytest.mark.parametrize(
    ("weight", "bits"),
    [
        (torch.rand(3), 1),
        (torch.rand(3), 9),
        (torch.empty(0), 8),
        (torch.tensor([1.0, float("nan")]), 8),
        (torch.tensor([1.0, float("inf")]), 8),
    ],
)
def test_quantize_refuses(weight: Tensor, bits: int) -> None:
    with pytest.raises(ValueError, match="quantize"):
        quantization.quantize(weight, bits)


def odd_state() -> dict[str, Tensor]:
    """A network's weights, and what else a state_dict may hold; in no alphabetical order."""
    generator = torch.Generator().manual_seed(0)
    state = dict(scramble(StudentNet(NARROW)).state_dict())
    state |= {
        "z.weight": torch.randn(40, 30, generator=generator),
        "a/b c.é": torch.randn(5, generator=generator),
        "half": torch.randn(2000, generator=generator).half(),
        "double": torch.randn(33, 40, generator=generator, dtype=torch.float64),
        "transposed": torch.randn(50, 40, generator=generator).t(),
        "constant": torch.full((2000,), 0.3),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "mask": torch.rand(2000, generator=generator) > 0.5,
        "counter": torch.tensor(2**40),
        "bytes": torch.arange(256).to(torch.uint8).repeat(8),
        "bn.running_mean": torch.randn(3000, generator=generator),
        "bn.running_var": torch.rand(3000, generator=generator),
    }
    return state


DECOMPRESS = """
import sys, torch, safetensors.torch
from hw7.solution import load_solution
solution, source, target = sys.argv[1:]
restored = load_solution(solution).quantization.decompress(safetensors.torch.load_file(source))
torch.save(list(restored.items()), target)
"""


def decompressed_elsewhere(tensors: dict[str, Tensor], folder: Path) -> list[tuple[str, Tensor]]:
    """Through a file, in a process that has nothing else."""
    safetensors.torch.save_file(tensors, folder / "weights.safetensors")
    arguments = [REFERENCE.directory, folder / "weights.safetensors", folder / "restored.pt"]
    subprocess.run([sys.executable, "-c", DECOMPRESS, *map(str, arguments)], check=True, cwd=PROJECT)
    return torch.load(folder / "restored.pt", weights_only=True)


def is_kept_exactly(name: str, tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or name.endswith(("running_mean", "running_var"))


def assert_restored(state: dict[str, Tensor], restored: list[tuple[str, Tensor]], bits: int) -> None:
    assert [name for name, _ in restored] == list(state)
    for name, after in restored:
        before = state[name]
        assert (after.dtype, after.shape) == (before.dtype, before.shape), name
        if is_kept_exactly(name, before) or before.numel() == 0:
            assert torch.equal(after, before), name
        elif before.dtype == torch.float16:  # its own rounding comes on top
            step = (before.double().max() - before.double().min()) / (2**bits - 1)
            assert (after.double() - before.double()).abs().max() <= step / 2 + before.abs().max() * 2**-11
        else:
            assert_within_half_a_step(before, after, bits)


@pytest.mark.slow
def test_decompress_needs_nothing_but_the_file(tmp_path: Path) -> None:
    state = odd_state()
    before = copy.deepcopy(state)
    restored = decompressed_elsewhere(quantization.compress(state), tmp_path)
    assert_restored(before, restored, 8)
    assert list(state) == list(before)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
    network = {name: tensor for name, tensor in restored if name in StudentNet(NARROW).state_dict()}
    assert StudentNet.from_state_dict(network).widths == NARROW


@pytest.mark.parametrize("bits", range(2, 9))
def test_compress_at_any_number_of_bits(bits: int) -> None:
    state = odd_state()
    tensors = safetensors.torch.load(safetensors.torch.save(quantization.compress(state, bits)))
    assert_restored(state, list(quantization.decompress(tensors).items()), bits)


@pytest.mark.parametrize("shape", [(1024,), (1025,), (32, 3, 3, 4), (256, 1, 3, 3), (256, 256, 1, 1), (11, 256)])
def test_a_compressed_weight_takes_little_more_than_a_byte_an_entry(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    size = sum(tensor.nbytes for tensor in quantization.compress({"w": weight}).values())
    assert weight.numel() <= size <= 1.1 * weight.numel()


def test_final_models_file_is_within_the_courses_limit() -> None:
    state = models.final_model().state_dict()
    assert len(safetensors.torch.save(quantization.compress(state))) <= 300_000


def test_the_weights_handed_in_are_small_and_know_the_dishes() -> None:
    path = REFERENCE.directory / "weights.safetensors"
    assert path.stat().st_size <= 300_000
    network = models.final_model()
    network.load_state_dict(quantization.decompress(safetensors.torch.load_file(path)))
    images, labels = draw("testing", 330, 128, seed=2**64 + 1)  # no training has seen them
    with torch.no_grad():
        accuracy = (network.eval()(images / 255).argmax(1) == labels).double().mean()
    assert accuracy > 0.6  # measured on 3,347 images: 0.737; one standard error here is 0.024


def test_compress_twice_gives_the_same_twice() -> None:
    state = odd_state()
    first, second = quantization.compress(state), quantization.compress(state)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())


def test_nothing_compressed_is_nothing_restored() -> None:
    assert quantization.decompress(quantization.compress({})) == {}

"""The reference's networks (task 1), layer by layer, against the report's tables."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from networks import count, scramble
from torch import Tensor, nn

from hw7.solution import PROJECT, load_solution

pytestmark = pytest.mark.rounding

models = load_solution(PROJECT / "reference_solutions" / "hw7").models


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

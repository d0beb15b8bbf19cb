"""Frozen teachers: the same answers as the network that they are made from, with less work in them."""

import copy
import operator

import pytest
import torch
import torch.nn.functional as F
from tiny_training import network
from torch import Tensor, fx, nn

from hw7.models import AtSize
from hw7.report.experiments import NETWORKS
from hw7.solution import load_solution
from hw7.training.frozen import Frozen, folded, frozen, fused

BYTES = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = BYTES / 255


def trained(net: nn.Module) -> nn.Module:
    """As if: each batch norm with statistics and weights of its own."""
    random = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            for tensor in (module.running_mean, module.bias):
                tensor.data.normal_(generator=random)
            for tensor in (module.running_var, module.weight):
                tensor.data.uniform_(0.5, 2, generator=random)
    return net.eval()


def calls(net: nn.Module, kind: type[nn.Module]) -> int:
    """How many modules of this kind a forward runs through."""
    seen: list[nn.Module] = []
    for module in net.modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda module, *_: seen.append(module))
    net(IMAGES)
    return len(seen)


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_is_the_same_function_without_batch_norms(name: str) -> None:
    torch.manual_seed(0)
    net = trained(NETWORKS[name](load_solution(), 11)).double()
    # The same products in another order: float64 keeps 16 digits, and the logits are below 100.
    torch.testing.assert_close(folded(copy.deepcopy(net))(IMAGES.double()), net(IMAGES.double()), rtol=0, atol=1e-10)
    assert calls(frozen(net.float(), BYTES, "float32"), nn.BatchNorm2d) == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frozen_teacher(precision: str) -> None:
    """Float32 in and out, weights of the precision, no gradient; the one that it is made from is left as it was."""
    teacher = trained(network()).train()
    before = copy.deepcopy(teacher.state_dict())
    made = frozen(teacher, BYTES, precision)
    logits, expected = made(IMAGES.clone().requires_grad_()), copy.deepcopy(teacher).eval()(IMAGES)
    assert logits.dtype == torch.float32
    close = 1e-5 if precision == "float32" else 0.05  # bfloat16 keeps 8 bits
    assert (logits - expected).abs().max() <= close * expected.abs().max()
    convolutions = [module for module in made.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert {module.weight.dtype for module in convolutions} == {getattr(torch, precision)}
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert frozen(made, BYTES, precision) is made
    assert teacher.training
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


class ByValue(nn.Module):
    """Its forward decides by a value, so it cannot be followed; its parts can."""

    def __init__(self, indexed: bool = False) -> None:
        super().__init__()
        self.body, self.indexed = network(), indexed

    def forward(self, images: Tensor) -> Tensor:
        if images.mean() < 0:
            raise ValueError("no images")
        return self.body[1:](self.body[0](images)) if self.indexed else self.body(images)


class Shared(nn.Module):
    """A batch norm after two convolutions, a convolution that is called twice, and one whose output is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norm, self.other, self.own = (nn.BatchNorm2d(3) for _ in range(3))
        self.bare = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.second(self.norm(self.first(images))))
        maps = self.other(self.first(maps))
        third = self.third(maps)
        return (self.own(third) + third + self.bare(self.second(maps))).mean((2, 3))


@pytest.mark.parametrize(
    ("net", "norms"),
    [
        (ByValue(), 0),
        (ByValue(indexed=True), 1),  # what its parts are made into cannot be indexed
        (AtSize(network(), 16), 0),
        (Shared(), 5),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.BatchNorm1d(4), nn.Flatten()), 1),
    ],
    ids=["by value", "by value and index", "at a size", "shared", "in another place"],
)
def test_what_cannot_be_folded_is_left_as_it_is(net: nn.Module, norms: int) -> None:
    net = trained(net)
    made = frozen(net, BYTES, "float32")
    torch.testing.assert_close(made(IMAGES), net(IMAGES))
    assert calls(made, nn.BatchNorm2d) == norms


def test_a_teacher_that_raises_is_left_to_raise_where_it_is_used() -> None:
    broken = nn.Sequential(nn.Conv2d(5, 3, 3), nn.BatchNorm2d(3))
    with pytest.raises(RuntimeError, match="channels"):
        frozen(broken, BYTES, "bfloat16")(IMAGES)


def cudnn_relu(x: Tensor, weight: Tensor, bias: Tensor, *shape: object) -> Tensor:
    """What torch.cudnn_convolution_relu gives, which only a GPU has."""
    return F.conv2d(x, weight, bias, *shape).relu()  # type: ignore[call-overload]


def cudnn_add_relu(x: Tensor, weight: Tensor, z: Tensor, alpha: float, bias: Tensor, *shape: object) -> Tensor:
    return (F.conv2d(x, weight, bias, *shape) + alpha * z).relu()  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["teacher", "student_cnn", "student_dw", "small_resnet18"])
def test_fused_is_the_same_function_in_fewer_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", cudnn_relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", cudnn_add_relu)
    torch.manual_seed(0)
    net = folded(trained(NETWORKS[name](load_solution(), 11)).double())
    images = IMAGES.double()
    expected = net(images)
    made = fused(net)
    torch.testing.assert_close(made(images), expected, rtol=0, atol=1e-10)
    assert isinstance(made, fx.GraphModule)
    left = [node.target for node in made.graph.nodes]
    assert not any("relu" in str(target) for target in left if target not in (cudnn_relu, cudnn_add_relu))
    if name == "teacher":  # eight blocks: their first convolution, and their second with the shortcut; and the stem
        assert (left.count(cudnn_relu), left.count(cudnn_add_relu)) == (9, 8)
        assert operator.add not in left
        assert operator.iadd not in left


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu_too(name: str, precision: str) -> None:
    torch.manual_seed(0)
    net = trained(NETWORKS[name](load_solution(), 11)).cuda()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = IMAGES.cuda()
    made, expected = frozen(net, BYTES.cuda(), precision), net(images)
    close = 1e-3 if precision == "float32" else 0.1  # bfloat16 keeps 8 bits, over 18 layers
    assert (made(images) - expected).abs().max() <= close * expected.abs().max()
    assert isinstance(made, Frozen)

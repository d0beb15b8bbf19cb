"""Sizes and speeds against torch's own counters, torchvision's documented figures, and networks counted by hand."""

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hw7 import measure
from hw7.support.torchvision_import import ResNet18_Weights, resnet18


def small() -> nn.Sequential:
    """Strides, padding, dilation, groups, a bias here and there; 3 x 20 x 24 in, 7 out."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 12, (1, 3), dilation=2, groups=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 7),
    )


class Twice(nn.Module):
    """Runs in another order than its modules are declared in, one module twice, one never; two weights are tied."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 5)
        self.never = nn.Linear(2, 3)
        self.first = nn.Linear(5, 5, bias=False)
        self.last.weight = self.first.weight
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.last(self.first(self.first(x)))


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.norm(x)
        raise RuntimeError("broken in the middle")


LOOKS = (measure.macs, measure.layer_table, lambda network, shape: measure.latency(network, shape, repeats=2))


def test_resnet18_of_the_report() -> None:
    network = resnet18(num_classes=11)
    assert measure.parameters(network) == 11_182_155
    # 4,800 channels of batch norm, two statistics each, and 20 counters
    assert sum(buffer.numel() for buffer in network.buffers()) == 9_620
    assert measure.tensor_bytes(network) == 4 * (11_182_155 + 9_600) + 8 * 20
    layers = measure.layer_table(network, (3, 64, 64))
    assert sum(layer.parameters for layer in layers) == 11_182_155
    assert layers[0] == measure.Layer("conv1", "Conv2d", (64, 32, 32), 9_408)
    assert layers[-1] == measure.Layer("fc", "Linear", (11,), 5_643)


def test_resnet18_takes_the_macs_that_torchvision_documents() -> None:
    documented = ResNet18_Weights.IMAGENET1K_V1.meta["_ops"]  # GMACs, to three decimals, at 224 x 224
    assert round(measure.macs(resnet18(), (3, 224, 224)) / 1e9, 3) == documented == 1.814


def test_macs_are_half_of_torchs_flops() -> None:
    network = small().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 20, 24))
    assert measure.macs(network, (3, 20, 24)) == counter.get_total_flops() / 2


def test_macs_by_hand() -> None:
    outputs = {"first": 8 * 10 * 12, "depthwise": 8 * 10 * 12, "grouped": 12 * 10 * 8, "linear": 7}
    filters = {"first": 3 * 9, "depthwise": 9, "grouped": 2 * 3, "linear": 12}
    assert measure.macs(small(), (3, 20, 24)) == sum(outputs[name] * filters[name] for name in outputs)
    assert measure.macs(nn.Sequential(nn.Flatten()), (3, 4, 4)) == 0
    assert measure.macs(Twice(), (5,)) == 3 * 25  # a module that runs twice works twice


def test_bytes_are_those_of_the_file(tmp_path) -> None:
    network = small()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    content = (tmp_path / "weights.safetensors").read_bytes()
    assert measure.file_bytes(network) == measure.file_bytes(network.state_dict()) == len(content)
    header = 8 + int.from_bytes(content[:8], "little")  # the format: a length, the header, then the tensors
    assert measure.tensor_bytes(network) == len(content) - header


def test_bytes_follow_the_dtype_and_shared_tensors_are_no_obstacle() -> None:
    base = torch.zeros(10, 6)
    tensors = {
        "a": base,
        "b": base.half(),
        "c": base.to(torch.uint8),
        "same": base,
        "view": base.T[:3],
        "one": base[0, 0],
    }
    assert measure.tensor_bytes(tensors) == 240 + 120 + 60 + 240 + 120 + 4
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    assert measure.file_bytes(tensors) == len(safetensors.torch.save(copies))
    assert measure.tensor_bytes({}) == 0


def test_layers_come_as_they_run_and_every_parameter_once() -> None:
    network = Twice()
    assert measure.parameters(network) == 25 + 5 + 9 + 5
    layers = measure.layer_table(network, (5,))
    assert layers == [
        measure.Layer("first", "Linear", (5,), 25),
        measure.Layer("first", "Linear", (5,), 0),
        measure.Layer("last", "Linear", (5,), 5),
        measure.Layer("", "Twice", (5,), 5),
        measure.Layer("never", "Linear", None, 9),
    ]


def test_outputs_without_one_shape_have_none() -> None:
    layers = measure.layer_table(nn.Sequential(nn.LSTM(4, 2)), (3, 4))
    assert [(layer.kind, layer.output_shape) for layer in layers] == [("LSTM", None)]


def test_format_layer_table() -> None:
    lines = measure.format_layer_table(measure.layer_table(Twice(), (5,))).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters"]
    assert lines[2].split() == ["first", "Linear", "5", "25"]
    assert lines[-2].split() == ["never", "Linear", "-", "9"]
    assert lines[-1].split() == ["total", "44"]
    text = measure.format_layer_table([measure.Layer("conv", "Conv2d", (64, 32, 32), 9408)])
    assert "64 × 32 × 32" in text
    assert "9,408" in text


@pytest.mark.parametrize("look", LOOKS)
def test_looking_leaves_no_trace(look) -> None:
    network = small().train()
    network[2].eval()  # modes are each module's own; the batch norm trains
    network[0].weight.grad = torch.ones_like(network[0].weight)
    modes = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    look(network, (3, 20, 24))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert [parameter.grad is not None for parameter in network.parameters()] == [True] + [False] * 8
    assert torch.equal(network[0].weight.grad, torch.ones_like(network[0].weight))
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("look", LOOKS)
def test_a_network_that_fails_is_left_clean(look) -> None:
    network = Fails()
    with pytest.raises(RuntimeError, match="in the middle"):
        look(network, (3, 8, 8))
    assert not any(module._forward_hooks for module in network.modules())
    assert (network.training, network.norm.training) == (True, False)
    assert network.norm.num_batches_tracked == 0
    assert torch.is_grad_enabled()


def test_networks_of_other_dtypes_run() -> None:
    assert measure.macs(small().bfloat16(), (3, 20, 24)) == measure.macs(small(), (3, 20, 24))


class Clock(nn.Module):
    """Each pass takes as long as the next of these seconds says, on a clock of its own."""

    def __init__(self, seconds: list[float]) -> None:
        super().__init__()
        self.now, self.seconds, self.batches = 0.0, iter(seconds), list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.now += next(self.seconds)
        self.batches.append(len(x))
        return x


def test_latency_is_the_median_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Clock([100.0, 100.0, 4.0, 1.0, 64.0, 2.0, 8.0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: network.now)
    result = measure.latency(network, (3, 4, 4), batch=6, repeats=5, warm_up=2)
    assert network.batches == [6] * 7
    assert result == measure.Latency(batch=6, repeats=5, median_s=4.0, low_s=2.0, high_s=8.0)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"repeats": 0}])
def test_latency_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        measure.latency(small(), (3, 20, 24), **wrong)

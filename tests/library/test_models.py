"""The given networks: sizes counted from live modules, and what they compute, written out once more in float64."""

import copy
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from networks import count, scramble
from torch import Tensor, nn

import hw7.support.torchvision_import
from hw7 import HW7Error
from hw7.models import STUDENT_WIDTHS, AtSize, StudentNet, grouped_convolution, stacked_convolutions, teacher_resnet18
from hw7.report.experiments import NETWORKS
from hw7.solution import load_solution
from hw7.support.torchvision_import import resnet18

PRUNED = (16, 32, 64, 50, 60, 70, 80, 256)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (lambda: teacher_resnet18(), 11_182_155),
        (lambda: StudentNet(), 256_779),
        (lambda: StudentNet(num_classes=10), 256_779 - 257),
    ],
)
def test_parameter_counts(network: Callable[[], nn.Module], parameters: int) -> None:
    assert count(network()) == parameters


@pytest.mark.parametrize("widths", [STUDENT_WIDTHS, PRUNED])
def test_the_layout_of_student_net(widths: tuple[int, ...]) -> None:
    network = StudentNet(widths)
    assert network.widths == widths
    assert network.stage_widths.tolist() == list(widths)
    assert network.state_dict()["stage_widths"].dtype == torch.int64
    assert network.stem.conv.out_channels == network.stem.bn.num_features == widths[0]
    for stage in range(1, 8):
        block = network.blocks[stage - 1]
        assert block.depthwise.groups == block.depthwise.out_channels == block.bn.num_features == widths[stage - 1]
        assert (block.pointwise.in_channels, block.pointwise.out_channels) == (widths[stage - 1], widths[stage])
    assert network.fc.in_features == widths[7]


def test_student_net_computes_what_the_report_describes() -> None:
    network = scramble(StudentNet(PRUNED).double()).eval()
    images = torch.rand(2, 3, 34, 34, dtype=torch.float64)
    state = network.state_dict()

    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def bn_relu6(x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        y = (x - mean[:, None, None]) / torch.sqrt(var + 1e-5)[:, None, None]
        return (y * scale[:, None, None] + shift[:, None, None]).clamp(0, 6)

    x = F.max_pool2d(bn_relu6(conv(images, "stem.conv", padding=1), "stem.bn"), 2)
    for index in range(7):
        name = f"blocks.{index}"
        x = bn_relu6(conv(x, f"{name}.depthwise", padding=1, groups=x.shape[1]), f"{name}.bn")
        x = conv(x, f"{name}.pointwise")
        if index < 3:
            x = F.max_pool2d(x, 2)
    expected = x.mean(dim=(2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    # The same sums in another order: a few float64 eps in each of 16 layers.
    torch.testing.assert_close(network(images), expected, rtol=1e-11, atol=1e-11)


def test_from_state_dict_rebuilds_a_pruned_network() -> None:
    network = scramble(StudentNet(PRUNED, num_classes=5)).eval()
    again = StudentNet.from_state_dict(network.state_dict()).eval()
    images = torch.rand(2, 3, 32, 32)
    assert again.widths == PRUNED
    assert torch.equal(again(images), network(images))
    assert again.fc.weight.data_ptr() != network.fc.weight.data_ptr()


@pytest.mark.parametrize("spoil", ["nothing of it", "no widths", "other widths", "a tensor missing", "one too many"])
def test_from_state_dict_refuses_other_weights(spoil: str) -> None:
    state = dict(StudentNet().state_dict())
    match spoil:
        case "nothing of it":
            state = {"weight": torch.zeros(3)}
        case "no widths":
            del state["stage_widths"]
        case "other widths":
            state["stage_widths"] = torch.tensor(PRUNED)
        case "a tensor missing":
            del state["blocks.3.bn.running_var"]
        case "one too many":
            state["blocks.9.bn.weight"] = torch.zeros(3)
    with pytest.raises(HW7Error, match="not the weights of a StudentNet"):
        StudentNet.from_state_dict(state)


@pytest.mark.parametrize("widths", [(16, 32), (*STUDENT_WIDTHS, 256), (16, 32, 64, 0, 256, 256, 256, 256)])
def test_widths_that_make_no_network(widths: tuple[int, ...]) -> None:
    with pytest.raises(HW7Error, match="widths must be 8 numbers of at least 1"):
        StudentNet(widths)


def test_normalisation_is_folded_into_the_first_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    original = scramble(resnet18()).double().eval()
    monkeypatch.setattr(hw7.support.torchvision_import, "resnet18", lambda weights: copy.deepcopy(original))
    folded = teacher_resnet18(num_classes=7, weights="imagenet")
    assert folded.fc.out_features == 7
    for network in (original, folded):
        network.fc = nn.Identity()  # the new last layer is random
        network.conv1.padding = (0, 0)  # at a padded border black and the mean colour differ, by design
    images = torch.rand(2, 3, 48, 48, dtype=torch.float64)
    mean, std = (
        torch.tensor(values)[:, None, None].double() for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    # Mean and standard deviation are folded in as float32: 6e-8 relative, carried through 18 layers.
    torch.testing.assert_close(folded(images), original((images - mean) / std), rtol=1e-4, atol=1e-5)


def test_imagenet_weights_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(HW7Error) as caught:
        teacher_resnet18(weights="imagenet")
    message = str(caught.value)
    for part in (
        "no network",
        str(tmp_path / "hub" / "checkpoints"),
        "https://download.pytorch.org/models/resnet18",
        "plates",
    ):
        assert part in message


def test_weights_nobody_knows() -> None:
    with pytest.raises(HW7Error, match="'places365' is not known"):
        teacher_resnet18(weights="places365")


@pytest.mark.parametrize("kind", ["plain", "depthwise", "grouped"])
def test_question_4s_networks_are_of_equal_size_and_shape(kind: str) -> None:
    network = NETWORKS[kind](load_solution(), 11)
    # Widths are whole numbers, so 1 MB is not met exactly; within 10 % one size does not explain another's accuracy.
    assert 4 * count(network) == pytest.approx(2**20, rel=0.1)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 11)
    strides = [
        module.stride[0] for module in network.modules() if isinstance(module, nn.Conv2d) and module.stride[0] > 1
    ]
    assert strides == [2, 2, 2]  # the stem, and two of the seven blocks


def test_groups_do_not_mix() -> None:
    conv = grouped_convolution(2)(4, 6, 1).eval()
    images = torch.rand(1, 4, 5, 5, requires_grad=True)
    conv(images)[:, :3].sum().backward()
    assert images.grad is not None
    assert images.grad[:, :2].any()
    assert not images.grad[:, 2:].any()


def test_the_stack_takes_any_block_and_number_of_classes() -> None:
    seen = []

    def block(in_channels: int, out_channels: int, stride: int) -> nn.Module:
        seen.append((in_channels, out_channels, stride))
        return nn.Conv2d(in_channels, out_channels, 1, stride)

    network = stacked_convolutions(block, 3, num_classes=4)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    assert [stride for *_, stride in seen] == [1, 2, 1, 2, 1, 1, 1]
    assert [out for _, out, _ in seen] == [6, 12, 12, 24, 24, 24, 24]


@pytest.mark.parametrize("size", [32, 64, 48])
def test_at_size_shows_the_network_its_own_size(size: int) -> None:
    seen: list[Tensor] = []
    network = AtSize(nn.Identity(), 32)
    network.network.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.rand(2, 3, size, size)
    assert network(images) is seen[0]
    assert seen[0].shape == (2, 3, 32, 32)
    if size == 32:
        assert torch.equal(seen[0], images)
    if size == 64:  # area resampling by two is the mean of each 2 x 2 square
        expected = images.reshape(2, 3, 32, 2, 32, 2).mean(dim=(3, 5))
        torch.testing.assert_close(seen[0], expected)

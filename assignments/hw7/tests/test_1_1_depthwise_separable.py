"""Task 1.1 in plain words: the handout's example, and what holds of every right block."""

import pytest
import torch
from conftest import run_example, yours
from torch import nn

EXAMPLE = """
>>> import torch
>>> from solution.models import depthwise_separable
>>> def count(network):
...     return sum(parameter.numel() for parameter in network.parameters())
...
>>> block = depthwise_separable(8, 16, stride=2)
>>> sorted(parameter.numel() for parameter in block.parameters()), count(block)
([8, 8, 16, 16, 72, 128], 248)
>>> block(torch.rand(1, 8, 5, 5)).shape
torch.Size([1, 16, 3, 3])
"""

pytestmark = pytest.mark.task_1_1
depthwise_separable = yours("models.depthwise_separable")


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_a_stride_divides_height_and_width_rounded_up() -> None:
    for stride, height, width in ((1, 7, 4), (2, 4, 2), (3, 3, 2)):
        output = depthwise_separable(3, 5, stride)(torch.rand(2, 3, 7, 4))
        assert output.shape == (2, 5, height, width), f"stride {stride}"


def output_of_ones(depthwise: float, pointwise: float) -> torch.Tensor:
    """[16, 3, 3], from 8 channels of ones: all weights of a convolution are one number, the batch norms are as new."""
    block = depthwise_separable(8, 16).eval()
    with torch.no_grad():
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(depthwise if module.kernel_size == (3, 3) else pointwise)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.reset_parameters()
        return block(torch.ones(1, 8, 3, 3))[0]


def test_ones_are_summed_over_nine_pixels_and_then_over_the_channels() -> None:
    """In the middle 9 pixels, at a border 6, in a corner 4; then 8 channels."""
    by_hand = torch.tensor([[4.0, 6, 4], [6, 9, 6], [4, 6, 4]]) * 8
    for channel in output_of_ones(1, 1):
        assert torch.allclose(channel, by_hand, rtol=1e-3), f"{channel} is not\n{by_hand}"


def test_what_is_negative_is_cut_off_after_either_convolution() -> None:
    for depthwise, pointwise in ((-1, -1), (1, -1)):
        output = output_of_ones(depthwise, pointwise)
        assert not output.any(), f"depthwise weights {depthwise}, pointwise weights {pointwise}: {output[0]}, not 0"


def test_a_pixel_sees_its_neighbours_only() -> None:
    block = depthwise_separable(4, 4).eval()
    images = torch.rand(1, 4, 9, 9)
    changed = images.clone()
    changed[:, :, 4, 4] += 1
    with torch.no_grad():
        moved = ((block(changed) - block(images)).abs() > 1e-5).any(dim=1)[0]
    moved[3:6, 3:6] = False  # these may
    assert not moved.any(), f"a change at (4, 4) is seen at {moved.nonzero().tolist()}"

"""Task 1.2 in plain words: the handout's example, and what holds of every right network."""

import pytest
import torch
from conftest import run_example, yours
from torch import nn

EXAMPLE = """
>>> import torch
>>> from solution.models import small_resnet18
>>> def count(network):
...     return sum(parameter.numel() for parameter in network.parameters())
...
>>> count(small_resnet18())
1454603
>>> small_resnet18(3)(torch.rand(2, 3, 64, 64)).shape
torch.Size([2, 3])
"""

pytestmark = pytest.mark.task_1_2
small_resnet18 = yours("models.small_resnet18")


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_no_3x3_convolution_mixes_channels() -> None:
    convolutions = [module for module in small_resnet18().modules() if isinstance(module, nn.Conv2d)]
    of_3x3 = [tuple(each.weight.shape) for each in convolutions if each.kernel_size == (3, 3)]
    assert len(of_3x3) == 16, "8 blocks have two each"
    assert all(shape[1] == 1 for shape in of_3x3), f"a depthwise weight is [C, 1, 3, 3]; here are {of_3x3}"


def test_only_the_last_layer_knows_the_classes() -> None:
    """512 weights and a bias for each class."""
    counts = [sum(each.numel() for each in small_resnet18(classes).parameters()) for classes in (5, 6)]
    assert counts[1] - counts[0] == 513


def test_an_image_does_not_see_the_others() -> None:
    network = small_resnet18(3).eval()
    images = torch.rand(4, 3, 40, 48)
    with torch.no_grad():
        assert torch.allclose(network(images)[1:2], network(images[1:2]), atol=1e-4)

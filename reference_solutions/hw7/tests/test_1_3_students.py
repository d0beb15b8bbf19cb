"""Task 1.3 in plain words: the handout's example, and what holds of every right student."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import run_example, yours
from torch import nn

from autograder.course.plain_tests import worked_example

EXAMPLE = worked_example("1.3")

pytestmark = pytest.mark.task_1_3
student_cnn, student_dw = yours("models.student_cnn"), yours("models.student_dw")
BOTH = pytest.mark.parametrize("student", [student_cnn, student_dw], ids=["student_cnn", "student_dw"])


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


@BOTH
def test_images_of_any_size_have_a_logit_for_each_class(student: Callable[..., Any]) -> None:
    for height, width in ((32, 32), (33, 70), (64, 48)):
        assert student(5)(torch.rand(2, 3, height, width)).shape == (2, 5), f"{height} x {width}"


@BOTH
def test_only_the_last_layer_knows_the_classes(student: Callable[..., Any]) -> None:
    """256 weights and a bias for each class."""
    counts = [sum(each.numel() for each in student(classes).parameters()) for classes in (5, 6)]
    assert counts[1] - counts[0] == 257


def logits_of_ones(network: nn.Module) -> torch.Tensor:
    """All weights 1, all biases 0, the batch norms as new, a white image."""
    with torch.no_grad():
        for module in network.eval().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.fill_(1)
                if module.bias is not None:
                    module.bias.zero_()
        return network(torch.ones(1, 3, 64, 64))


def test_student_cnn_never_passes_6() -> None:
    """Every sum is larger than 6, so every activation is 6; the last layer adds up 256 of them."""
    assert torch.allclose(logits_of_ones(student_cnn()), torch.full((1, 11), 6.0 * 256))


def test_student_dw_passes_6() -> None:
    assert (logits_of_ones(student_dw()) > 6 * 256).all(), "its blocks are those of task 1.1, with ReLU"

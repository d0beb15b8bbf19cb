"""Task 3.1 in plain words: the handout's example, and what holds of every right answer."""

import pytest
import torch
from conftest import run_example, yours
from torch import nn

from autograder.course.plain_tests import worked_example

EXAMPLE = worked_example("3.1")

pytestmark = pytest.mark.task_3_1
channel_importance = yours("pruning.channel_importance")


def batch_norm(scale: list[float]) -> nn.BatchNorm2d:
    bn = nn.BatchNorm2d(len(scale))
    bn.weight.data = torch.tensor(scale)
    return bn


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_the_sign_of_a_scale_does_not_matter() -> None:
    one, other = channel_importance(batch_norm([0.5, -3.0])), channel_importance(batch_norm([-0.5, 3.0]))
    assert torch.equal(one, other), f"yours: {one} and {other}"


def test_a_scale_twice_as_large_matters_twice_as_much() -> None:
    one, twice = channel_importance(batch_norm([0.5, -3.0])), channel_importance(batch_norm([1.0, -6.0]))
    assert torch.allclose(2 * one, twice), f"yours: {one} and {twice}"


def test_it_only_looks() -> None:
    bn = batch_norm([0.5, -3.0])
    importance = channel_importance(bn)
    assert not importance.requires_grad, "it comes back detached"
    assert bn.weight.tolist() == [0.5, -3.0], "the batch norm must stay as it was"

"""Task 2.2 in plain words: the handout's example, and what holds of every right step."""

import copy

import pytest
import torch
from conftest import run_example, yours
from torch import nn

from autograder.course.plain_tests import worked_example

EXAMPLE = worked_example("2.2")

pytestmark = pytest.mark.task_2_2
distillation_step = yours("losses.distillation_step")


def network() -> nn.Module:
    """Images [N, 3, 4, 4] -> logits [N, 5]."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


def step(student: nn.Module, teacher: nn.Module) -> torch.Tensor:
    images, labels = torch.linspace(0, 1, 6 * 48).reshape(6, 3, 4, 4), torch.arange(6) % 5
    return distillation_step(student, teacher, images, labels, torch.optim.SGD(student.parameters(), lr=0.1), 2.0, 0.5)


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_the_student_moves_and_the_teacher_keeps_every_byte() -> None:
    student, teacher = network(), network().train()
    before = copy.deepcopy(student.state_dict()), copy.deepcopy(teacher.state_dict())
    loss = step(student, teacher)
    assert not loss.requires_grad, "the loss comes back detached"
    assert any(not torch.equal(now, before[0][name]) for name, now in student.state_dict().items())
    for name, now in teacher.state_dict().items():
        assert torch.equal(now, before[1][name]), f"the teacher's {name} has changed"


def test_the_student_sees_the_batch_once_in_train_mode() -> None:
    student = network().eval()
    step(student, network())
    assert student[1].num_batches_tracked == 1, "a batch norm counts the batches that it sees in train mode"


def test_gradients_of_the_step_before_do_not_count() -> None:
    student, teacher = network(), network()
    fresh = copy.deepcopy(student)
    for parameter in student.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    step(student, teacher)
    step(fresh, teacher)
    for one, other in zip(student.parameters(), fresh.parameters(), strict=True):
        off = (one - other).abs().max().item()
        assert off < 1e-5, f"they lead to weights that are off by {off}"

"""Task 2.1 in plain words: the handout's example, and what holds of every right loss."""

import pytest
import torch
from conftest import run_example, yours

from autograder.course.plain_tests import worked_example

EXAMPLE = worked_example("2.1")

pytestmark = pytest.mark.task_2_1
kd_loss = yours("losses.kd_loss")

STUDENT = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
TEACHER = torch.tensor([[2.0, 0.0, -1.0], [-1.0, 1.0, 2.0]])
LABELS = torch.tensor([0, 2])


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_a_number_added_to_all_logits_of_an_image_changes_nothing() -> None:
    shift = torch.tensor([[5.0], [-3.0]])
    loss, shifted = (kd_loss(s, TEACHER, LABELS, 3.0, 0.25) for s in (STUDENT, STUDENT + shift))
    assert torch.allclose(loss, shifted, atol=1e-4), f"a softmax does not see it; yours: {loss} and {shifted}"


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn_from_it() -> None:
    loss = kd_loss(STUDENT, STUDENT.clone(), LABELS, 4.0, 1.0)  # alpha = 1: the teacher alone
    assert abs(loss.item()) < 1e-4, f"KL(p, p) = 0; yours: {loss}"


def test_a_batch_twice_has_the_same_mean() -> None:
    loss = kd_loss(STUDENT, TEACHER, LABELS, 3.0, 0.25)
    twice = kd_loss(STUDENT.repeat(2, 1), TEACHER.repeat(2, 1), LABELS.repeat(2), 3.0, 0.25)
    assert torch.allclose(loss, twice, atol=1e-4), f"both are means over the batch; yours: {loss} and {twice}"


def test_a_class_that_nobody_thinks_of_changes_nothing() -> None:
    """Its share is 0 for both, and so are its terms: the divergence is a sum over the classes, not a mean."""
    never = torch.full((2, 1), -1000.0)
    loss = kd_loss(STUDENT, TEACHER, LABELS, 3.0, 0.25)
    with_it = kd_loss(torch.cat([STUDENT, never], 1), torch.cat([TEACHER, never], 1), LABELS, 3.0, 0.25)
    assert torch.allclose(loss, with_it, atol=1e-4), f"yours: {loss} and, with a fourth class, {with_it}"


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss = kd_loss(student, teacher, LABELS, 3.0, 0.25)
    of_student, of_teacher = torch.autograd.grad(loss, [student, teacher], allow_unused=True)
    assert of_student.any(), "none reaches the student either"
    assert of_teacher is None or not of_teacher.any(), f"it is {of_teacher}"

"""A test of your own, for `kd_loss`. `hw7 check own-test` tries it on your loss and on wrong ones."""

from collections.abc import Callable

import torch
from torch import Tensor


def test_kd_loss(kd_loss: Callable[..., Tensor]) -> None:
    """Task own-test: returns for a right `kd_loss`, and fails (`assert`) for as many wrong ones as possible.

    Call it as the handout does: kd_loss(student_logits, teacher_logits, labels, temperature, alpha). What must hold for
    every input? Which input tells a right loss from a wrong one, and for which do the two agree?
    """
    ### BEGIN SOLUTION
    # By hand: at T = 2 the teacher's shares are 3/4 and 1/4, the student's 1/2 and 1/2.
    student = torch.zeros(1, 2)
    teacher = torch.tensor([[2 * torch.tensor(3.0).log(), 0.0]])
    label = torch.tensor([1])
    for alpha, value in ((1.0, 0.523248), (0.0, 0.693147), (0.25, 0.650672)):
        assert abs(kd_loss(student, teacher, label, 2.0, alpha).item() - value) < 1e-4
    # Cross entropy by hand, of the unsoftened logits: the student gives class 1 a quarter.
    assert abs(kd_loss(torch.tensor([[3.0, 1.0]]).log(), teacher, label, 2.0, 0.0).item() - 1.386294) < 1e-4

    random = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(6, 5, generator=random) for _ in range(2))
    labels = torch.arange(6) % 5
    losses = [kd_loss(student[i : i + 1], teacher[i : i + 1], labels[i : i + 1], 2.0, 0.3) for i in range(6)]
    assert torch.allclose(kd_loss(student, teacher, labels, 2.0, 0.3), torch.stack(losses).mean(), atol=1e-5)
    assert not torch.allclose(kd_loss(student, teacher, labels, 2.0, 0.3), kd_loss(student, teacher, labels, 20.0, 0.3))
    assert abs(kd_loss(student, student, labels, 3.0, 1.0).item()) < 1e-5
    # One way round it is 0.5108, the other way 0.3681.
    sure = torch.tensor([[0.9, 0.1]]).log()
    even = torch.zeros_like(sure)
    assert abs(kd_loss(sure, even, label, 1.0, 1.0).item() - 0.510826) < 1e-4

    assert kd_loss(1000 * student, 1000 * teacher, labels, 1.0, 0.5).isfinite()
    student.requires_grad_()
    teacher.requires_grad_()
    kd_loss(student, teacher, labels, 2.0, 0.5).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None or teacher.grad.abs().sum() == 0
    ### END SOLUTION

"""Task 2, knowledge distillation: the loss, and one training step with it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 20.0,
    alpha: float = 0.5,
) -> Tensor:
    """Task 2.1: the distillation loss, a scalar.

        alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) * cross entropy(student, labels)

    KL is summed over the classes, both terms are averaged over the batch, and the cross entropy sees the unsoftened
    logits. T^2 keeps the size of the first term's gradient the same at every temperature. No gradient flows into
    the teacher's logits.

    Shapes: student_logits and teacher_logits [N, C], labels int64 [N] -> []. Any N >= 1 and C >= 2.
    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
    """
    ### BEGIN SOLUTION
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    # "batchmean" sums over the classes; "mean" would divide by their number as well.
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return alpha * temperature**2 * divergence + (1 - alpha) * F.cross_entropy(student_logits, labels)
    ### END SOLUTION


def distillation_step(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    temperature: float = 20.0,
    alpha: float = 0.5,
) -> Tensor:
    """Task 2.2: one optimizer step of the student on one batch; returns the loss [], detached.

    The student is in train mode and sees the batch once. The teacher is in eval mode while it sees the same images; no
    gradient reaches it (torch.no_grad() saves its graph, detached logits are as right), and it keeps every byte,
    batch-norm statistics included.

    Shapes: images [N, 3, H, W], labels int64 [N].
    """
    ### BEGIN SOLUTION
    student.train()
    teacher.eval()  # after student.train(), which would reach a teacher held inside the student
    with torch.no_grad():
        teacher_logits = teacher(images)
    loss = kd_loss(student(images), teacher_logits, labels, temperature, alpha)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
    ### END SOLUTION

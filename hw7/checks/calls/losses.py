"""Calls of chapter 2: the distillation loss and its step."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hw7.checks.calls.contract import Unfit, expect, find, first_with_others
from hw7.checks.held import entries_of, hold, hold_network, parameters_of
from hw7.checks.tensors import student_net, to_vector
from hw7.checks.watchful import Watchful, uneven_optimizer


def _options(temperature: float | None, alpha: float | None) -> tuple[float, ...]:
    return () if temperature is None or alpha is None else (temperature, alpha)


def _backward(loss: Any) -> None:
    """Raises Unfit where this is not one loss."""
    if expect(Tensor, loss).numel() != 1:
        raise Unfit("a tensor of several losses")
    if loss.requires_grad:
        loss.backward()


def kd_value(
    solution: Any,
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: Any = None,
    alpha: Any = None,
    again: bool = False,
) -> Iterator[Any]:
    """Task 2.1: the loss []."""
    loss = partial(find(solution, "losses", "kd_loss"), student, teacher, labels, *_options(temperature, alpha))
    yield first_with_others(again, loss, student, teacher)


def kd_gradient(
    solution: Any, student: Tensor, teacher: Tensor, labels: Tensor, temperature: Any = None, alpha: Any = None
) -> Iterator[Any]:
    """Task 2.1: the gradient [N, C] of the loss to the student's logits, [0] where there is none."""
    student.requires_grad_()
    _backward(find(solution, "losses", "kd_loss")(student, teacher, labels, *_options(temperature, alpha)))
    yield torch.zeros(0) if student.grad is None else student.grad


def kd_shift(
    solution: Any, student: Tensor, teacher: Tensor, labels: Tensor, shift: Tensor, temperature: float, alpha: float
) -> Iterator[Any]:
    """Task 2.1: the loss, the loss with all logits of a sample shifted, and the loss of other logits."""
    loss = find(solution, "losses", "kd_loss")
    yield loss(student, teacher, labels, temperature, alpha)
    yield loss(student + shift, teacher - 2 * shift, labels, temperature, alpha)
    yield loss(student.flip(1), teacher, labels, temperature, alpha)


def kd_teacher(
    solution: Any, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Iterator[Any]:
    """Task 2.1: the gradients [N, C] to the student's and to the teacher's logits, and the three arguments after."""
    student.requires_grad_()
    teacher.requires_grad_()
    held = [hold(given) for given in (student, teacher, labels)]
    _backward(find(solution, "losses", "kd_loss")(student, teacher, labels, temperature, alpha))
    for logits in (student, teacher):
        yield torch.zeros_like(logits) if logits.grad is None else logits.grad
    yield from (after() for after in held)


def kd_arguments(
    solution: Any, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Iterator[Any]:
    """Task 2.1: the three arguments after a call where only the teacher's logits have a graph."""
    logits = teacher.requires_grad_() * 1.0
    held = [hold(given) for given in (student, logits, labels)]
    find(solution, "losses", "kd_loss")(student, logits, labels, temperature, alpha)
    yield from (after() for after in held)


class StudentWithTeacher(nn.Module):
    """A student that holds its teacher as a module of its own."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, x: Tensor) -> Any:
        return self.student(x)


def distillation_step(
    solution: Any,
    student_widths: tuple[int, ...],
    student: Tensor,
    teacher_widths: tuple[int, ...],
    teacher: Tensor,
    images: Tensor,
    labels: Tensor,
    rate: float,
    inside: bool,
    training: bool,
    temperature: Any = None,
    alpha: Any = None,
) -> Iterator[Any]:
    """Task 2.2: the loss, whether it hangs on a graph, the student after, how often its batch norm counted, the teacher
    after, whether a gradient reached the teacher, the images and the labels after, and how many of the student's
    parameters can still be trained.

    Each of the student's parameters has a gradient left over from another step.
    """
    student_model, teacher_model = student_net(student_widths, student), student_net(teacher_widths, teacher)
    optimizer = torch.optim.SGD(student_model.parameters(), lr=rate)
    for parameter in student_model.parameters():
        parameter.grad = torch.ones_like(parameter)
    given = StudentWithTeacher(student_model, teacher_model) if inside else student_model
    given.train(not training)
    teacher_model.train(training)
    teacher_after, images_after, labels_after = hold_network(teacher_model), hold(images), hold(labels)
    teacher_parameters = parameters_of(teacher_model)
    step = find(solution, "losses", "distillation_step")
    loss = step(given, teacher_model, images, labels, optimizer, *_options(temperature, alpha))
    yield loss
    yield torch.tensor(isinstance(loss, Tensor) and loss.requires_grad)
    yield to_vector(student_model)
    yield entries_of(student_model)["stem.bn.num_batches_tracked"]
    yield teacher_after()
    gradients = [parameter.grad for parameter in teacher_parameters if parameter.grad is not None]
    yield torch.tensor(any(bool(gradient.any()) for gradient in gradients))
    yield images_after()
    yield labels_after()
    yield torch.tensor(sum(parameter.requires_grad for parameter in parameters_of(student_model)))


def distillation_steps(
    solution: Any,
    student_widths: tuple[int, ...],
    student: Tensor,
    teacher_widths: tuple[int, ...],
    teacher: Tensor,
    images: Tensor,
    labels: Tensor,
    rate: float,
    inside: bool,
    temperature: float,
    alpha: float,
) -> Iterator[Any]:
    """Task 2.2: the losses of as many steps as there are batches [steps, N, ...], the student after, how often it saw
    images, and the teacher after.

    All batches come in one pair of tensors, as a data loader may reuse them. The last one comes after a change of the
    teacher. Both networks come in the wrong mode each time, and modules of theirs look at it.
    """
    teacher_model = Watchful(student_net(teacher_widths, teacher), wanted=False)
    beside = teacher_model if inside else None
    student_model = Watchful(student_net(student_widths, student), wanted=True, beside=beside)
    optimizer = uneven_optimizer(student_model.network, rate)
    step = find(solution, "losses", "distillation_step")
    batch, batch_labels = images[0].clone(), labels[0].clone()
    losses = []
    for number in range(len(images)):
        batch.copy_(images[number])
        batch_labels.copy_(labels[number])
        if number == len(images) - 1:
            teacher_model.network.fc.weight.detach().neg_()
        student_model.eval()
        teacher_model.train()
        loss = step(student_model, teacher_model, batch, batch_labels, optimizer, temperature, alpha)
        losses.append(expect(Tensor, loss))
    yield torch.stack(losses)
    yield to_vector(student_model.network)
    yield torch.tensor(student_model.seen)
    yield to_vector(teacher_model.network)

"""The reference's distillation (task 2) against mathematics written out once more in float64."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import same, scramble, snapshot
from torch import Tensor, nn

from hw7.solution import PROJECT, load_solution

pytestmark = pytest.mark.rounding

losses = load_solution(PROJECT / "reference_solutions" / "hw7").losses


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def kd_by_hand(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, t: float, alpha: float) -> float:
    target = softmax(teacher / t)
    divergence = (target * (log_softmax(teacher / t) - log_softmax(student / t))).sum(axis=1).mean()
    cross_entropy = -log_softmax(student)[np.arange(len(labels)), labels].mean()
    return alpha * t**2 * divergence + (1 - alpha) * cross_entropy


def logits_and_labels(n: int, c: int, size: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = size * torch.randn(2, n, c, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher, torch.randint(c, (n,), generator=generator)


@pytest.mark.parametrize("size", [0.1, 3, 30])  # unsure, usual and confident networks
@pytest.mark.parametrize(("n", "c"), [(1, 2), (1, 11), (5, 2), (8, 11)])
@pytest.mark.parametrize("temperature", [1, 1.5, 4, 20])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_kd_loss_and_its_gradient(alpha: float, temperature: float, n: int, c: int, size: float) -> None:
    student, teacher, labels = logits_and_labels(n, c, size)
    loss = losses.kd_loss(student, teacher, labels, temperature, alpha)
    loss.backward()
    s, t, y = student.detach().numpy(), teacher.numpy(), labels.numpy()
    assert loss.shape == ()
    # The divergence is a difference of logarithms of size 1, known to 1e-16, and is multiplied by up to 400.
    assert loss.item() == pytest.approx(kd_by_hand(s, t, y, temperature, alpha), rel=1e-11, abs=1e-12)

    soft = temperature * (softmax(s / temperature) - softmax(t / temperature))  # T^2, and 1/T of the inner derivative
    gradient = (alpha * soft + (1 - alpha) * (softmax(s) - np.eye(c)[y])) / n
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), gradient, rtol=1e-10, atol=1e-13)


def test_kd_loss_uses_the_contracts_defaults() -> None:
    student, teacher, labels = logits_and_labels(4, 11, 3)
    expected = kd_by_hand(student.detach().numpy(), teacher.numpy(), labels.numpy(), 20, 0.5)
    assert losses.kd_loss(student, teacher, labels).item() == pytest.approx(expected, rel=1e-11)


def test_kd_loss_does_not_see_a_shift_of_all_logits() -> None:
    student, teacher, labels = logits_and_labels(4, 11, 3)
    shift = torch.tensor([[-50.0], [0.0], [7.0], [100.0]], dtype=torch.float64)
    shifted = losses.kd_loss(student + shift, teacher - 2 * shift, labels, 2.0, 0.5)
    # 100 + logit is known to 1e-14.
    assert shifted.item() == pytest.approx(losses.kd_loss(student, teacher, labels, 2.0, 0.5).item(), rel=1e-11)


def test_kd_loss_gives_the_teacher_no_gradient() -> None:
    student, teacher, labels = logits_and_labels(4, 11, 3)
    teacher.requires_grad_()
    losses.kd_loss(student, teacher, labels).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_kd_loss_is_finite_for_huge_logits(temperature: float) -> None:
    student, teacher = (torch.tensor(rows, requires_grad=True) for rows in ([[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]))
    loss = losses.kd_loss(student, teacher, torch.tensor([1]), temperature)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


class Student(nn.Module):
    """A few layers, a batch norm among them, and room for a teacher."""

    def __init__(self, seed: int, teacher: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
        self.teacher = teacher
        self.ran: list[tuple[bool, bool]] = []
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        self.ran.append((self.training, torch.is_grad_enabled()))
        return self.body(images)


@pytest.mark.parametrize("inside", [False, True], ids=["beside", "inside"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_distillation_step(inside: bool, training: bool) -> None:
    teacher = scramble(Student(1)).train(training)
    student = scramble(Student(2, teacher if inside else None), seed=3).train(not training)
    images, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 4, 4])
    rate, temperature, alpha = 0.1, 3.0, 0.7

    oracle = copy.deepcopy(student.body).train()
    with torch.no_grad():
        targets = copy.deepcopy(teacher).eval()(images)
    logits = oracle(images)
    soft = temperature * (F.softmax(logits / temperature, 1) - F.softmax(targets / temperature, 1))
    slope = (alpha * soft + (1 - alpha) * (F.softmax(logits, 1) - F.one_hot(labels, 5))) / 4
    logits.backward(slope.detach())
    moved = {
        name: tensor.detach() - rate * tensor.grad
        for name, tensor in oracle.named_parameters()
        if tensor.grad is not None
    }
    loss_by_hand = kd_by_hand(logits.detach().numpy(), targets.numpy(), labels.numpy(), temperature, alpha)

    before = snapshot(teacher)
    for parameter in student.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from some other step
    for parameter in teacher.parameters():
        parameter.grad = None
    optimizer = torch.optim.SGD(student.body.parameters(), lr=rate)
    loss = losses.distillation_step(student, teacher, images, labels, optimizer, temperature, alpha)

    assert loss.item() == pytest.approx(loss_by_hand, rel=1e-11)
    assert not loss.requires_grad
    assert same(before, teacher)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.ran == [(True, True)]  # once, in train mode
    assert teacher.ran == [(False, False)]  # once, in eval mode, without gradients
    torch.testing.assert_close({name: tensor.detach() for name, tensor in student.body.named_parameters()}, moved)
    # The batch norm's statistics and counter have moved as well.
    torch.testing.assert_close(dict(student.body.named_buffers()), dict(oracle.named_buffers()))

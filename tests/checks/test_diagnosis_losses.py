"""What is found out of wrong answers of chapter losses: formulas and updates, silence, and hostile answers."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from submissions import outcomes, with_code
from torch import Tensor

from autograder.tasks.losses import terms as values
from autograder.tasks.table import cases
from hw7.checks.cases import Answer, Case, Status, Verdict
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.losses import arguments, loss_formula, many_steps, one_step
from hw7.checks.diagnosis.losses import terms as words
from hw7.checks.judges import judge

Loss = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]


@cache
def cases_of(task: str) -> Sequence[Case]:
    """Those of one task only: quick to make."""
    return tuple(cases(task, {"2.1": "kd_loss", "2.2": "distillation_step"}[task], {}, b"a seed for this file"))


def kl(p: Tensor, q: Tensor) -> Tensor:
    return F.kl_div(q.log_softmax(1), p.log_softmax(1), reduction="batchmean", log_target=True)


def answer(case: Case, loss: Loss) -> Answer:
    inputs: Mapping[str, object] = case.call.inputs
    s, t = inputs["student"].double().requires_grad_(), inputs["teacher"].double()  # type: ignore[attr-defined]
    value = loss(s, t, inputs["labels"], inputs.get("temperature", 20.0), inputs.get("alpha", 0.5))  # type: ignore[arg-type]
    if case.call.program == "kd_gradient":
        (value,) = torch.autograd.grad(value, s)
    return Answer(Status.RETURNED, (value.detach(),))


def told(loss: Loss) -> dict[str, str]:
    """What is said of a loss, by the case's name."""
    chosen = [case for case in cases_of("2.1") if case.call.program in ("kd_value", "kd_gradient")]
    asked = [Asked(case, (got := answer(case, loss),), judge(case, got)) for case in chosen]
    return {name: found.message for name, found in loss_formula(asked).items()}


def test_terms_and_words_are_as_many() -> None:
    logits, labels = torch.randn(4, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    first, second = values.values(logits, logits.flip(0), labels, 2.0, 0.3)
    assert (len(first), len(second)) == (len(words.FIRST), len(words.SECOND))
    assert len({term.words for term in (*words.FIRST, *words.SECOND)}) == len(first) + len(second)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (
            lambda s, t, y, T, a: (1 - a) * T * kl(t / T, s / T) + a * F.cross_entropy(s, y),
            "Your loss is (1 - alpha) · T · KL(teacher ‖ student) + alpha · cross entropy.",
        ),
        (
            lambda s, t, y, T, a: a * kl(s / T, t) + (1 - a) * F.cross_entropy(s, y, reduction="sum"),
            "Your loss is alpha · KL(student at T ‖ teacher at 1) + (1 - alpha) · N · cross entropy.",
        ),
        (
            lambda s, t, y, T, a: a * T**2 * kl(t / T, s / T) + (1 - a) * F.cross_entropy(s / T, y) / s.shape[1],
            "Your loss is alpha · T² · KL(teacher ‖ student) + (1 - alpha) · cross entropy(student at T) / C.",
        ),
        (
            lambda s, t, y, T, a: a * T**2 * kl(t / T, s / T).detach() + (1 - a) * F.cross_entropy(s, y),
            "The value of your loss is right; its gradient is that of (1 - alpha) · cross entropy.",
        ),
    ],
)
def test_formulas(loss: Loss, says: str) -> None:
    found = told(loss)
    assert found
    assert all(says in message for message in found.values())


def test_special_situations() -> None:
    def loss(s: Tensor, t: Tensor, y: Tensor, T: float, a: float) -> Tensor:
        right = a * T**2 * kl(t / T, s / T) + (1 - a) * F.cross_entropy(s, y)
        return right * 2 if s.shape[1] == 2 else right

    assert set(told(loss).values()) == {"Your loss is right for all questions but those where there are two classes."}


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, y, T, a: a * T**2 * kl(t / T, s / T) + (1 - a) * F.cross_entropy(s, y),  # right
        lambda s, t, y, T, a: (s.sin() * t.cos()).sum() + T * a,  # no formula of known terms
        lambda s, t, y, T, a: a * T**2 * kl(t / T, s / T) ** 1.5 + (1 - a) * F.cross_entropy(s, y) ** 0.7,
    ],
)
def test_silence(loss: Loss) -> None:
    assert told(loss) == {}


def test_two_formulas_that_fit_are_none() -> None:
    """Where only N = 1 was answered, sums and means are the same."""
    chosen = [
        case for case in cases_of("2.1") if case.call.program == "kd_value" and len(case.call.inputs["student"]) == 1
    ]  # type: ignore[arg-type]
    twice = [Asked(case, (got := answer(case, lambda s, *_: s.sum()),), judge(case, got)) for case in chosen] * 5
    assert loss_formula(twice) == {}


def test_a_step() -> None:
    code = """
def distillation_step(student, teacher, images, labels, optimizer, temperature=20.0, alpha=0.5):
    student.train()
    teacher.eval()
    loss = kd_loss(student(images), teacher(images).detach(), labels, temperature, alpha)
    student.zero_grad()
    (3 * loss).backward()
    optimizer.step()
    return loss.detach()
"""
    found = outcomes(with_code({"losses.py": code}), cases_of("2.2"))
    told = {each.message for each in found.values() if each.mistake}
    assert told
    assert all("move 3 times as far" in message for message in told)


HOSTILE = (
    torch.zeros(0),
    torch.tensor(torch.nan),
    torch.full((7, 3), torch.inf),
    torch.tensor(1e300, dtype=torch.float64),
    torch.tensor(True),
    torch.zeros(2_000_000),
    torch.zeros(1, 1, 1, 1, dtype=torch.float16),
)


@pytest.mark.parametrize("task", ["2.1", "2.2"])
@pytest.mark.parametrize("shaped", [False, True])
def test_hostile_answers(task: str, shaped: bool) -> None:
    """shaped: as many tensors as there should be, of the right shapes, with such numbers in them."""
    start = time.perf_counter()
    for tensor in HOSTILE:
        asked = []
        for case in cases_of(task):
            wanted = [value for value in case.expected.values() if isinstance(value, Tensor)]
            fill = tensor.flatten()[0] if tensor.numel() else torch.tensor(0.0)
            tensors = tuple(fill.to(each.dtype).expand(each.shape).clone() for each in wanted) if shaped else (tensor,)
            asked.append(
                Asked(case, (Answer(Status.RETURNED, tensors),), judge(case, Answer(Status.RETURNED, tensors)))
            )
        for finder in (loss_formula, arguments, one_step, many_steps):
            mine = [each for each in asked if each.case.call.program in PROGRAMS[finder.__name__]]
            found: Mapping[str, Diagnosis] = finder(mine)
            assert set(found) <= {each.case.name for each in mine}
    assert all(each.outcome.verdict is not Verdict.RIGHT for each in asked if not shaped)
    assert time.perf_counter() - start < 60  # seconds; a loop that goes over all of an answer takes longer


PROGRAMS = {
    "loss_formula": ("kd_value", "kd_gradient", "kd_teacher", "kd_arguments"),
    "arguments": ("kd_teacher", "kd_arguments"),
    "one_step": ("distillation_step",),
    "many_steps": ("distillation_step", "distillation_steps"),
}

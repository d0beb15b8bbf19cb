"""How much may come back of a call: far less than what costs the grader anything, and no less than right answers and
known mistakes need."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from submissions import HIDDEN, REFERENCE
from torch import Tensor, nn

from autograder.jail.protocol import encode
from autograder.rubric import load_rubric
from autograder.tasks.table import cases
from hw7.checks.bounds import bound_of
from hw7.checks.calls.run import run_call
from hw7.checks.cases import Answer, Bound, Call, Case, Status, Task, Verdict
from hw7.checks.judges import judge
from hw7.checks.scoring import AnswerSheet
from hw7.solution import load_solution

TASKS = [task for task in load_rubric().tasks if task.has_cases]


def asked(task: Task) -> tuple[Case, ...]:
    return tuple(cases(task.id, task.check, {}, HIDDEN.derive("cases", task.id)))


def sent(answer: Answer) -> Bound:
    """What an answer takes up."""
    frame = encode(0, 0, "", {str(number): tensor for number, tensor in enumerate(answer.tensors)})
    return Bound(len(answer.tensors), len(frame))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_right_answers_are_within_half_of_the_bound(task: Task) -> None:
    solution = load_solution(REFERENCE)
    sheet = AnswerSheet(asked(task))
    calls = sheet.bounded(sheet.calls)
    halves = sheet.add(sheet.calls, answers := [run_call(solution, call) for call in calls])
    calls += [half.call for half in halves]
    answers += [run_call(solution, half.call) for half in halves]
    assert {answer.status for answer in answers} <= {Status.RETURNED, Status.VALUE_ERROR}
    for call, answer in zip(calls, answers, strict=True):
        assert call.most is not None
        assert 2 * sent(answer).tensors <= call.most.tensors
        assert 2 * sent(answer).size <= call.most.size
        assert call.most.size < 4 * 2**20


@pytest.mark.parametrize(
    "task",
    [pytest.param(t, id=t.id, marks=pytest.mark.slow if t.id in ("1.2", "1.3", "3.5") else ()) for t in TASKS],
)
def test_known_mistakes_are_within_the_bound(task: Task) -> None:
    """In the widest dtype, so that the mistake is named, not the size."""
    for case in asked(task):
        for change in case.mistakes.values():
            told = {**case.expected, **change}.values()
            assert 8 * sum(value.numel() for value in told if isinstance(value, Tensor)) <= bound_of([case]).size


@pytest.mark.parametrize(
    ("check", "tensors"),
    [
        ("quantize", (torch.zeros(9, dtype=torch.uint8), torch.tensor(1.0), torch.tensor(0.0), torch.zeros(9))),
        ("quantize", (torch.zeros(5),) * 2),
        ("compress", (torch.tensor(True), torch.zeros(50, dtype=torch.uint8), *[torch.zeros(2)] * 60)),
        ("compress", (torch.tensor(True),)),
    ],
)
def test_a_wrong_first_answer_gets_no_second_half(check: str, tensors: tuple[Tensor, ...]) -> None:
    sheet = AnswerSheet(cases(check, check, {}, b"bounds"))
    assert sheet.add(sheet.calls, [Answer(Status.RETURNED, tensors)] * len(sheet.calls)) == []
    assert sheet.verdicts == {Verdict.WRONG}


def test_a_large_network_is_told_by_its_shapes() -> None:
    """Its values are not sent, so it is named as what it is. One without values is no network."""
    case = next(each for each in cases("1.1", "depthwise_separable", {}, b"bounds") if each.judge == "layers")
    for device, got in (("cpu", "4,002,000 parameters in 2 tensors"), ("meta", "something else")):
        models = SimpleNamespace(depthwise_separable=partial(nn.Linear, 2000, 2000, device=device))
        answer = run_call(
            SimpleNamespace(models=models), Call(case.call.program, {**case.call.inputs, "arguments": ()})
        )
        assert sent(answer).size < 1000
        assert judge(case, answer).verdict is Verdict.WRONG
        assert judge(case, answer).got.startswith(got)


def test_the_limit_is_named() -> None:
    case = cases("quantize", "quantize", {}, b"bounds")[0]
    outcome = judge(case, Answer(Status.FLOOD, note="a secret", most=Bound(70, 1_050_000)))
    assert outcome.verdict is Verdict.OUTPUT
    assert outcome.expected == "at most 1,050,000 bytes in 70 tensors"
    assert "secret" not in f"{outcome.message} {outcome.expected} {outcome.got}"

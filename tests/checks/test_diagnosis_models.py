"""Where a network departs from the right one: what is found, what is not said, and answers that lie."""

import time
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from autograder.tasks.builder import Numbers
from autograder.tasks.models import cases as made
from hw7.checks.calls.recorder import recorded
from hw7.checks.cases import Answer, Case, Outcome, Status, Verdict
from hw7.checks.diagnosis.diagnose import diagnose
from hw7.checks.diagnosis.frame import Asked
from hw7.checks.diagnosis.models.departures import departures
from hw7.checks.diagnosis.models.layers import network_of
from hw7.checks.rows import MOST_ROWS, WIDTH, Row, decode, encode
from hw7.checks.scoring import AnswerSheet

from hw7.checks.calls.run import run_call  # isort: skip


class Solution:
    """A submission whose module `models` has this one function."""

    def __init__(self, name: str, builder: Callable[..., nn.Module]) -> None:
        self.models = type("models", (), {name: staticmethod(builder)})


def questions() -> list[Case]:
    return list(made.depthwise_separable(Numbers("1.1", b"a seed")))


def told(builder: Callable[..., nn.Module]) -> dict[str, Outcome]:
    """What is made of a `depthwise_separable`."""
    sheet, solution = AnswerSheet(questions()), Solution("depthwise_separable", builder)
    halves = sheet.add(sheet.calls, [run_call(solution, call) for call in sheet.calls])
    sheet.add_second(halves, [run_call(solution, half.call) for half in halves])
    return sheet.named()


def block(before: int, after: int, stride: int = 1, *more: nn.Module, **depthwise: object) -> nn.Sequential:
    settings = {"padding": 1, "groups": before, "bias": False} | depthwise
    return nn.Sequential(
        nn.Conv2d(before, before, 3, stride, **settings),  # type: ignore[arg-type]
        nn.BatchNorm2d(before),
        nn.ReLU(),
        nn.Conv2d(before, after, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        *more,
    )


def messages(outcomes: dict[str, Outcome]) -> set[str]:
    return {each.message for each in outcomes.values() if each.verdict is not Verdict.RIGHT}


def test_a_right_block_is_asked_for_no_layers() -> None:
    sheet, solution = AnswerSheet(questions()), Solution("depthwise_separable", block)
    assert sheet.add(sheet.calls, [run_call(solution, call) for call in sheet.calls]) == []


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        (lambda a, b, s=1: block(a, b, s, nn.Tanh()), "A tanh stands after the ReLU of the pointwise convolution"),
        (lambda a, b, s=1: block(a, b, s, dilation=2, padding=2), "The depthwise convolution has dilation 2 where 1"),
        (lambda a, b, s=1: block(a, b, s, padding=2), "The depthwise convolution has padding 2 where 1 belongs."),
        (lambda a, b, s=1: block(a, b, s)[:4], "The batch norm and ReLU are missing after the pointwise convolution."),
        (lambda a, b, s=1: block(a, b, s, nn.BatchNorm2d(b + 1)), "It stops with an exception"),
    ],
)
def test_what_differs_is_said(builder: Callable[..., nn.Module], words: str) -> None:
    assert any(words in message for message in messages(told(builder)))


def test_for_which_questions_it_is_right_is_said() -> None:
    outcomes = told(lambda a, b, stride=1: block(a, b, stride, *([nn.Tanh()] if stride == 3 else [])))
    (message,) = messages(outcomes)
    assert "A tanh stands" in message
    assert "It is right for: default stride" in message


class ByHand(nn.Module):
    """ReLU that is no ReLU for torch, and too small by a third."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x > 0) * (2 / 3)


def test_a_layer_that_may_be_written_by_hand_does_not_lack() -> None:
    def builder(before: int, after: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(*block(before, after, stride)[:5], ByHand())

    assert not any("missing" in message for message in messages(told(builder)))


def test_outputs_of_another_network_are_not_explained() -> None:
    """The second call shows other layers than those that were judged."""
    sheet = AnswerSheet(questions())
    wrong = Solution("depthwise_separable", lambda a, b, s=1: block(a, b, s, nn.Tanh()))
    other = Solution("depthwise_separable", lambda a, b, s=1: block(a, b, s, nn.Sigmoid()))
    halves = sheet.add(sheet.calls, [run_call(wrong, call) for call in sheet.calls])
    sheet.add_second(halves, [run_call(other, half.call) for half in halves])
    assert not any(each.mistake for each in sheet.named().values())


def test_other_ways_to_write_it_are_the_same_layers() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.linear = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4, 2, bias=False)
            self.bias = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.pad(x, (1, 1, 1, 1))
            x = self.convolution(x).clamp(min=0)
            return self.linear(x.mean(3).mean(2)) + self.bias

    class Flat(nn.Linear):
        pass

    plain = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    networks = []
    for network in (nn.Sequential(*plain, Flat(4, 2)), Functional()):
        rows = decode(recorded(network.eval(), torch.rand(2, 3, 8, 8))[0])
        assert rows is not None
        networks.append(network_of(rows))
    assert departures(networks[0], networks[1], "") == []
    assert networks[0].signature == networks[1].signature


# ---- answers that lie ----------------------------------------------------------------------------------------------


def lies() -> list[tuple[Tensor, ...]]:
    layer = encode([Row("convolution", (4, 4, 3, 3, 1, 1, 1, 1, 1, 1, 4, 0))])
    broken = [layer.clone() for _ in range(4)]
    for table, (column, value) in zip(broken, ((0, 99), (0, 0.5), (16, 7), (1, torch.nan)), strict=True):
        table[0, column] = value
    many = encode([Row("dropout", (0.5,), sources=(n - 1, -2)) for n in range(MOST_ROWS)])
    tables = [
        *broken, many, layer, torch.full((1, WIDTH), torch.inf), torch.zeros(0, WIDTH), torch.zeros(3),
        torch.zeros(MOST_ROWS + 1, WIDTH), torch.zeros(2, 2, dtype=torch.int64), torch.full((1, WIDTH), 1e30),
    ]  # fmt: skip
    output = torch.full((3, 4), torch.nan)
    return [(), (output,), *((table, output, table, output, table, output) for table in tables)]


@pytest.mark.parametrize("tensors", lies(), ids=range(14))
def test_lies_are_no_explanation_and_take_no_time(tensors: Sequence[Tensor]) -> None:
    wrong = torch.full((3, 4), torch.nan)
    start = time.perf_counter()
    for case in questions():
        if case.judge in ("layers", "outputs"):
            first = Answer(Status.RETURNED, (torch.zeros(1, 2, dtype=torch.int64), wrong, wrong, wrong))
            asked = Asked(case, (first, Answer(Status.RETURNED, tuple(tensors))), Outcome(Verdict.WRONG))
            for found in diagnose([asked]).values():
                assert len(found.message) < 1000
    assert time.perf_counter() - start < 5

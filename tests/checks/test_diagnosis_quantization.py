"""What is found out of wrong answers of chapter quantization: what must be found, and what must stay unsaid."""

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from submissions import HIDDEN, rubric
from torch import Tensor

from autograder.grading import hidden_cases
from hw7.checks.cases import Answer, Case, Outcome, Status, Verdict
from hw7.checks.diagnosis.diagnose import diagnose
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.quantization.entries import Entry, in_common
from hw7.checks.savable import Obstacle, in_words, obstacle_to
from hw7.checks.tensors import pack_names

WRONG = Outcome(Verdict.WRONG)


def cases(task: str, *parts: str) -> list[Case]:
    return [case for case in hidden_cases(rubric(), HIDDEN)[task] if case.part in parts]


def answers(
    case: Case, parts: int = 255, step: float = 1.0, shift: float = 0.0, back: float = -1.0
) -> tuple[Answer, ...]:
    """Those of a function that divides the range by `parts`, times `step`; counts levels from `shift`; and adds `back`
    zero points on the way back."""
    weight = case.expected["weight"]
    assert isinstance(weight, Tensor)
    low, high = weight.double().min(), weight.double().max()
    scale = step * (high - low) / parts
    zero = -low / scale
    q = (weight / scale + zero + shift).round().clamp(0, 255).to(torch.uint8)
    there = (scale * (q + back * zero)).float()
    return (
        Answer(Status.RETURNED, (q, scale, zero, weight)),
        Answer(Status.RETURNED, (there, q, scale, zero)),
    )


def told(**wrong: float) -> dict[str, Diagnosis]:
    some = [case for case in cases("4.1", "tensor") if case.expected["levels"] == 256]
    return diagnose([Asked(case, answers(case, **wrong), WRONG) for case in some])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"parts": 256}, "scale is (max - min) / 2^bits"),
        ({"parts": 127}, "scale is (max - min) / (2^(bits - 1) - 1)"),
        ({"shift": 2}, "q is shifted against scale and zero_point, by 2 everywhere"),
        ({"back": 1}, "dequantize gives scale · (q + zero_point)"),
        ({"back": 0}, "dequantize gives scale · q."),
    ],
)
def test_the_part_that_is_wrong_is_named(wrong: dict[str, float], says: str) -> None:
    found = told(**wrong)
    assert found
    assert all(says in each.message for each in found.values())


def test_two_faults_are_both_named() -> None:
    first = next(iter(told(parts=256, back=1).values()))
    assert "2^bits:" in first.message or "/ 2^bits." in first.message
    assert "scale · (q + zero_point)" in first.message


def test_right_answers_are_not_explained() -> None:
    assert not told()


def test_one_answer_alone_does_not_tell_a_range_from_another() -> None:
    """Where all entries are above 0, a range stretched to hold 0 is also that of the largest."""
    (case,) = (each for each in cases("4.1", "tensor") if each.name == "far from 0")
    weight = case.expected["weight"]
    assert isinstance(weight, Tensor)
    scale = weight.double().max() / 255
    q = (weight / scale).round().to(torch.uint8)
    pair = (q, scale, torch.zeros(()).double())
    there = Answer(Status.RETURNED, ((scale * q).float(), *pair))
    found = diagnose([Asked(case, (Answer(Status.RETURNED, (*pair, weight)), there), WRONG)])
    assert all(not each.message.startswith("scale is") or "smaller" in each.message for each in found.values())


def test_entries_that_two_kinds_would_explain_have_nothing_in_common() -> None:
    small, large = Entry("a", torch.zeros(3).half()), Entry("b", torch.zeros(2000))
    assert in_common([small], [large]) == ""  # of float16, or small?
    assert in_common([small], [large, Entry("c", torch.zeros(4))]) == "entries of float16"


HOSTILE: dict[str, tuple[Tensor, ...]] = {
    "empty": (),
    "one": (torch.zeros(0),),
    "names that are none": (torch.tensor([0, -1, -1]), torch.full((9,), 255).byte()),
    "other shapes": (torch.zeros(1, 2, 3), torch.zeros(7), torch.zeros(2, 2), torch.zeros(0)),
    "complex": (torch.zeros(3).cfloat(), torch.zeros(3).cfloat(), torch.zeros(1).cfloat(), torch.zeros(1)),
    "nan": (torch.full((40,), torch.nan), torch.tensor(torch.nan), torch.tensor(torch.inf), torch.zeros(3)),
    "huge": (torch.ones(2, 2).double() * 1e308, torch.ones(()).double() * 1e308, torch.tensor(-1e38), torch.ones(2)),
    "bools": (torch.tensor([True]), torch.tensor(True), torch.tensor(False), torch.tensor(True)),
}


@pytest.mark.parametrize("task", ["4.1", "4.2"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_answers_are_survived(task: str, kind: str) -> None:
    start = time.monotonic()
    for second in ((), HOSTILE[kind]):
        pair = tuple(Answer(Status.RETURNED, tensors) for tensors in (HOSTILE[kind], second))
        diagnose([Asked(case, pair, WRONG) for case in hidden_cases(rubric(), HIDDEN)[task]])
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e300, 0.0])
def test_extreme_numbers_of_the_right_shapes(value: float) -> None:
    asked = []
    for case in cases("4.1", "tensor", "channel", "constant", "bits"):
        weight = case.expected["weight"]
        assert isinstance(weight, Tensor)
        shape = [int(case.expected["channels"])] if case.expected["channels"] else []  # type: ignore[arg-type]
        q, scale = torch.zeros_like(weight).byte(), torch.full(shape, value, dtype=torch.float64)
        back = Answer(Status.RETURNED, (torch.full_like(weight, min(value, 1e38)), q, scale, scale))
        asked.append(Asked(case, (Answer(Status.RETURNED, (q, scale, scale, weight)), back), WRONG))
    diagnose(asked)


def test_many_names_do_not_take_long() -> None:
    start = time.monotonic()
    names = pack_names([f"{number}.weight" for number in range(3000)])
    file = Answer(Status.RETURNED, (torch.tensor([0, -1, -1]), names, *[torch.zeros(1)] * 3000))
    back = Answer(Status.RETURNED, (names, *[torch.zeros(1)] * 3000))
    some = cases("4.2", "names")
    asked = [Asked(replace(case), (_with_state(file, case), back), WRONG) for case in some]
    diagnose(asked)
    assert time.monotonic() - start < 10


def _with_state(file: Answer, case: Case) -> Answer:
    state = [value for name, value in case.expected.items() if isinstance(value, Tensor) and ":" not in name]
    return replace(file, tensors=(*file.tensors, *state))


SAVED: dict[str, tuple[object, Obstacle]] = {
    "fine": ({"a": torch.zeros(2)}, Obstacle.NONE),
    "a list": ([torch.zeros(2)], Obstacle.NO_MAPPING),
    "a number as name": ({1: torch.zeros(2)}, Obstacle.NAME),
    "nested": ({"a": {"b": torch.zeros(2)}}, Obstacle.NESTED),
    "a tuple": ({"a": (torch.zeros(2),)}, Obstacle.LIST),
    "text": ({"a": "b"}, Obstacle.TEXT),
    "a number": ({"a": 1.5}, Obstacle.NUMBER),
    "an array": ({"a": torch.zeros(2).numpy()}, Obstacle.NO_TENSOR),
    "metadata": ({"__metadata__": torch.zeros(2)}, Obstacle.RESERVED),
    "turned": ({"a": torch.zeros(2, 3).T}, Obstacle.LAYOUT),
    "complex": ({"a": torch.zeros(2).cfloat().to_sparse()}, Obstacle.KIND),
    "shared": ({"a": (both := torch.zeros(2)), "b": both}, Obstacle.SHARED),
}


@pytest.mark.parametrize("name", SAVED)
def test_what_keeps_a_dict_from_being_saved(name: str) -> None:
    made, obstacle = SAVED[name]
    found, *places = obstacle_to(made)
    assert found is obstacle
    assert places == ([1, 0] if name == "shared" else [-1, -1] if obstacle <= Obstacle.NO_DICT else [0, -1])
    if obstacle is not Obstacle.NONE:
        words: Mapping[int, str] = dict(enumerate(in_words(obstacle, ("entry 2", "entry 1"))))
        assert all(words.values())

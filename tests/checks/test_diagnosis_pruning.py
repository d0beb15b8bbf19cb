"""What is found out of wrong pruning: explanations that must be found, silence where two fit, and hostile answers."""

from collections.abc import Mapping, Sequence
from time import perf_counter

import pytest
import torch
from submissions import HIDDEN, answered, mutants, reference_files, rubric, with_code
from torch import Tensor

from autograder.grading import hidden_cases
from hw7.checks.cases import Answer, Case, Outcome, Status, Verdict
from hw7.checks.diagnosis.diagnose import diagnose
from hw7.checks.diagnosis.frame import Asked
from hw7.checks.diagnosis.pruning.answers import Explanation, entries_named, simplest, stages

Messages = Mapping[str, str]


def cases(task: str) -> Sequence[Case]:
    return hidden_cases(rubric(), HIDDEN)[task]


def found(task: str, code: str) -> Messages:
    """What a diagnosis alone, without the table, says of the cases of a task, by their names."""
    sheet = answered(with_code({"pruning.py": code}), cases(task))
    asked = [Asked(case, sheet._answers[case.name], sheet.outcomes[case.name]) for case in sheet.cases]
    return {name: each.message for name, each in diagnose(asked).items()}


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("bn.weight.abs() ** 3", "The importance is |scale|³."),
        ("torch.log1p(bn.weight.abs())", "log(1 + |scale|)"),
        ("bn.weight.abs() * bn.bias", "|scale| · shift"),
        ("bn.weight.abs() + bn.bias", "|scale| + shift"),
        ("bn.weight.clamp(min=0)", "0 where it is negative"),
        ("bn.weight.abs().sort(descending=True).values", "sorted in descending order"),
        ("0.5 * bn.weight.abs()", "|scale| · 0.5"),
        ("bn.weight.abs() - bn.weight.abs().min()", "less its smallest over the channels"),
        ("bn.weight.square() / bn.weight.square().sum()", "|scale|² / its sum"),
    ],
)
def test_the_formula_of_an_importance(formula: str, words: str) -> None:
    said = found("3.1", f"def channel_importance(bn):\n    return ({formula}).detach()")
    assert said
    assert all(words in message for message in said.values())


def test_an_importance_that_no_formula_gives() -> None:
    said = found(
        "3.1", "def channel_importance(bn):\n    return bn.weight.detach().abs() + 0.1 * torch.rand(len(bn.bias))"
    )
    assert said == {}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("ranking[1 : keep + 1].sort().values", "from the second most important on"),
        ("ranking[:keep].sort().values + 1", "each larger by 1"),
        ("ranking[-keep:].flip(0)", "keep least important channels in order of importance, the smallest first"),
    ],
)
def test_the_rule_of_a_choice(choice: str, words: str) -> None:
    code = f"""
def select_channels(importance, keep):
    if not 1 <= keep <= len(importance):
        raise ValueError("keep")
    ranking = torch.sort(importance, descending=True, stable=True).indices
    return {choice}
"""
    assert words in found("3.2", code)["distinct importances"]


def test_only_ties_are_wrong() -> None:
    code = """
def select_channels(importance, keep):
    if not 1 <= keep <= len(importance):
        raise ValueError("keep")
    ranking = torch.randperm(len(importance))
    return ranking[importance[ranking].sort(descending=True, stable=True).indices][:keep].sort().values
"""
    said = found("3.2", code)
    assert said
    assert all("ties" in message and "answers without ties" in message for message in said.values())


@pytest.mark.parametrize(
    ("width", "words"),
    [
        ("max(2, round(old * keep_rate ** (step + 1)))", ("(s + 1)", "nearest", "at least 2")),
        ("max(1, int(old * keep_rate) // 4 * 4)", ("· keep_rate,", "multiple of 4")),
        ("max(1, int(old * (1 - keep_rate ** step)))", ("(1 - keep_rate^s)",)),
    ],
)
def test_the_rule_of_a_schedule(width: str, words: Sequence[str]) -> None:
    code = f"""
def width_schedule(widths, keep_rate, steps):
    if not 0 < keep_rate < 1:
        raise ValueError("keep_rate")
    return [
        tuple({width} if stage in (3, 4, 5, 6) else old for stage, old in enumerate(widths))
        for step in range(1, steps + 1)
    ]
"""
    assert all(each in found("3.4", code)["the report's ladder at 0.975"] for each in words)


def test_a_schedule_that_no_rule_gives() -> None:
    code = """
def width_schedule(widths, keep_rate, steps):
    if not 0 < keep_rate < 1:
        raise ValueError("keep_rate")
    return [(*widths[:3], 1, 2, 3, max(1, widths[6] - step), widths[7]) for step in range(1, steps + 1)]
"""
    assert found("3.4", code) == {}


@pytest.mark.parametrize(
    "name",
    ["3.3-ranked-by-depthwise-weights", "3.3-variance-forgotten-and-first-columns", "3.5-two-chains", "3.5-backwards"],
)
def test_a_wrong_solution_without_the_table(name: str) -> None:
    (mutant,) = (each for each in mutants() if each.id == name)
    sheet = answered(mutant.files, cases(mutant.task))
    asked = [Asked(case, sheet._answers[case.name], sheet.outcomes[case.name]) for case in sheet.cases]
    part = "chain" if mutant.task == "3.5" else "channels"
    wrong = [each.case.name for each in asked if each.outcome.verdict is not Verdict.RIGHT and each.case.part == part]
    said = diagnose(asked)
    assert all(words in said[wrong[0]].message for words in mutant.says)


def test_nothing_is_said_where_two_explanations_cost_the_same() -> None:
    one, other, third = Explanation(1, "one"), Explanation(1, "other"), Explanation(2, "third")
    assert simplest([one, other, third]) is None
    assert simplest([other, third]) == other
    assert simplest([]) is None


def test_words() -> None:
    assert stages([3]) == "stage 3"
    assert stages([3, 4, 5]) == "stages 3 to 5"
    assert stages([6, 3]) == "stages 3 and 6"
    entries = ["stem.a", "stem.b", "blocks.0.a", "blocks.1.a", "blocks.0.b", "blocks.1.b", "fc.a"]
    assert entries_named(["stem.b", "stem.a", "blocks.1.a"], entries) == "`stem` and `a` of block 1"
    assert entries_named(["blocks.0.a", "blocks.0.b", "blocks.1.a", "blocks.1.b"], entries) == "blocks 0 and 1"
    assert entries_named(entries, entries) == "all tensors"


def _hostile(tensor: Tensor) -> list[Tensor]:
    return [
        torch.full(tensor.shape, torch.nan), torch.full(tensor.shape, 1e300, dtype=torch.float64), torch.empty(0),
        torch.full(tensor.shape, -1), torch.full(tensor.shape, 2**62), torch.zeros(tensor.shape, dtype=torch.bool),
        torch.zeros(3, *tensor.shape), torch.zeros(200_000), torch.zeros(tensor.shape, dtype=torch.complex64),
    ]  # fmt: skip


@pytest.mark.parametrize("task", ["3.1", "3.2", "3.3", "3.4", "3.5"])
def test_hostile_answers(task: str) -> None:
    sheet = answered(reference_files(), cases(task))
    kinds = len(_hostile(torch.zeros(1)))
    start = perf_counter()
    for kind in range(kinds):
        asked = []
        for case in sheet.cases:
            answer = sheet._answers[case.name][0]
            if answer.status is Status.RETURNED:
                tensors = tuple(_hostile(tensor)[kind] for tensor in answer.tensors)
                asked.append(Asked(case, (Answer(Status.RETURNED, tensors),), Outcome(Verdict.WRONG)))
        diagnose(asked)
        diagnose([each._replace(answers=(Answer(Status.RETURNED),)) for each in asked])
    assert perf_counter() - start < 10

"""What the programs of `hw7 check --show` lean on: a public case by its name, and the comparison that the tests make.

A program hands over what came back, by the names that the case gives it; `compare` prints what is expected beside it,
and last the word `right` or `wrong`, as the test would have it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from hw7.checks.calls.contract import Unfit, as_table, expect, plain, whole_numbers
from hw7.checks.calls.models import layer_table
from hw7.checks.cases import Answer, Outcome, Status, Verdict
from hw7.checks.compare import compared_names, listed_in, words
from hw7.checks.judges import judge
from hw7.checks.savable import obstacle_to
from hw7.checks.storage import load_cases
from hw7.checks.tensors import ROLES, bytes_of, pack_names, set_by_role

MANY = 10  # values; of more, those that are right are only counted, but for the first


class PublicCase:
    """A case of the public tests: `case["student"]` is one of its inputs."""

    def __init__(self, file: str, name: str) -> None:
        (self.case,) = (case for case in load_cases(Path(file)) if case.name == name)
        inputs = self.case.call.inputs.items()
        self.inputs = {name: value.clone() if isinstance(value, Tensor) else value for name, value in inputs}

    def __getitem__(self, name: str) -> Any:
        return self.inputs[name]

    def compare(self, got: Mapping[str, Any]) -> None:
        """Prints each of these values beside the one that is expected, and whether all are right.

        got: at least the values that this case looks at. Of others it is enough that they are tensors it knows.
        """
        expected, looked_at = self.case.expected, compared_names(self.case.expected)
        options = {name: value for name, value in expected.items() if not isinstance(value, Tensor) and name != "only"}
        wrong = [name for name in got if name not in expected or len(answer({name: got[name]}).tensors) != 1]
        for name in wrong:
            _write(f"{name}: {_words(got[name])} does not belong there")
        hidden = 0
        for number, name in enumerate(looked_at):
            if name in wrong:
                continue
            case = replace(self.case, judge="values", expected={**options, name: expected[name]}, mistakes={})
            outcome = judge(case, answer({name: got[name]} if name in got else {}))
            if outcome.verdict is not Verdict.RIGHT:
                wrong.append(name)
            elif number and len(looked_at) > MANY:
                hidden += 1
                continue
            another = "another value than " * (name in listed_in(expected, "moves"))
            _print(name, outcome, another + _words(expected[name]), _words(got.get(name)))
        if hidden:
            print(f"{hidden} other values are as expected")
        print("wrong" if wrong else "right")

    def compare_all(self, got: Iterable[Any]) -> None:
        """All that a call yields, in order."""
        _say(judge(self.case, answer(dict(enumerate(got)))))

    def compare_losses(self, got: Mapping[str, Any]) -> None:
        """Task 2.1: the loss, the loss of shifted logits, which is the same one, and that of other logits."""
        for name, loss in got.items():
            _write(f"{name}: {_words(loss)}")
        _say(judge(self.case, answer(got)))

    def compare_layers(self, network: Any) -> None:
        """Chapter 1: the roles and shapes of a network's parameters, in any order."""
        outcome = judge(self.case, answer({"layers": layer_table(network)}))
        rows = self.case.expected["layers"]
        assert isinstance(rows, Tensor)
        _write(f"expected  {outcome.expected or f'{len(rows)} tensors, of these roles and shapes'}")
        _write(f"got       {outcome.got or 'the same'}")
        _say(outcome)

    def compare_weight(self, made: Mapping[str, Any], back: Mapping[str, Any]) -> None:
        """Task 4.1: what `quantize` made and left of its weight, and what `dequantize` made and left of that."""
        outcome = judge(self.case, answer(made), answer(back))
        weight = self.case.expected["weight"]
        assert isinstance(weight, Tensor)
        _write(f"expected  {outcome.expected or words(weight)}")
        _write(f"got       {outcome.got or _words(next(iter(back.values())))}")
        _say(outcome)

    def compare_state_dict(
        self, made: Mapping[str, Any], left: Mapping[str, Tensor], back: Mapping[str, Any], file: Mapping[str, Tensor]
    ) -> None:
        """Task 4.2: what `compress` made and left of its state_dict, what `decompress` made and left of the file."""
        first = {"savable": torch.tensor(obstacle_to(made)), "names": pack_names(list(made))}
        first |= {f"made {name}": value for name, value in made.items()}
        first |= {f"left {name}": value for name, value in left.items()}
        second = {"names": pack_names(list(back))} | {f"back {name}": value for name, value in back.items()}
        if self.case.then is not None and self.case.then.inputs.get("held"):
            second |= {f"file {name}": bytes_of(value) for name, value in sorted(file.items())}
        outcome = judge(self.case, answer(first), answer(second))
        _write(f"expected  {outcome.expected or 'the state_dict'}")
        _write(f"got       {outcome.got or 'the same, or as near as it must be'}")
        _say(outcome)


def answer(got: Mapping[Any, Any]) -> Answer:
    """These values as the answer to a call; cut off at the first that is no tensor."""
    tensors: list[Tensor] = []
    try:
        for value in got.values():
            tensors.append(plain(value))
    except Unfit as error:
        return Answer(Status.RETURNED, tuple(tensors), str(error))
    return Answer(Status.RETURNED, tuple(tensors))


def fill(network: nn.Module, seed: int, pictures: Tensor) -> None:
    """Gives all tensors of one role and shape the same numbers, wherever the network keeps them, as the tests do."""
    if any(isinstance(parameter, UninitializedParameter) for parameter in network.parameters()):
        network.eval()(pictures)  # lazy layers find their sizes
    set_by_role(network, seed)


def print_layers(network: nn.Module) -> None:
    """Role and shape of each parameter, a line each, as the tests see them."""
    for role, *shape in layer_table(network).tolist():
        print(f"{ROLES[role]:18} {[size for size in shape if size >= 0]}")


def numbers(values: Any) -> Any:
    """Whole numbers, or rows of them, as a tensor; anything else as it is, which `compare` finds wrong."""
    try:
        rows = expect(Sequence, values)
        return as_table([whole_numbers(row) for row in rows] if _are_rows(rows) else whole_numbers(rows))
    except Unfit:
        return values


def _are_rows(values: Sequence[Any]) -> bool:
    return bool(values) and isinstance(values[0], Sequence)


def _words(value: Any) -> str:
    return words(plain(value)) if isinstance(value, Tensor) else repr(value)[:200]


def _print(name: str, outcome: Outcome, expected: str, got: str) -> None:
    """One value: where it is wrong, its entry that is furthest off."""
    _write(f"{name}:\n  expected  {outcome.expected or expected}\n  got       {outcome.got or got}")
    if outcome.message:
        _write(f"  {outcome.message}")


def _write(text: str) -> None:
    """In letters that every terminal has."""
    print(text.replace("…", "...").encode("ascii", "backslashreplace").decode())


def _say(outcome: Outcome) -> None:
    if outcome.message:
        _write(outcome.message)
    print("right" if outcome.verdict is Verdict.RIGHT else "wrong")

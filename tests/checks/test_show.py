"""`hw7 check TASK --show CASE`: every public case as a program that runs on its own and says what the test says."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from submissions import Entry, answered, mutants, one_in_many, reference_files, write
from torch import Tensor
from typer.testing import CliRunner

from hw7 import HW7Error
from hw7.checks import show
from hw7.checks.cases import Call, Case, Verdict
from hw7.checks.public import TESTS, Checks, format_task, next_step
from hw7.checks.show import program, quoted
from hw7.checks.storage import load_cases, save_cases
from hw7.cli import cli
from hw7.solution import PROJECT, select_solution

REFERENCE = PROJECT / "reference_solutions" / "hw7"
CHECKS = Checks.of(REFERENCE)
TASKS = [task.id for task in CHECKS.tasks if task.has_cases]


@cache
def cases(task: str) -> tuple[Case, ...]:
    return tuple(load_cases(TESTS / "cases" / f"{task}.safetensors"))


def ran(text: str, directory: Path) -> str:
    """What a program prints, in this process, and after it the exception that ended it."""
    path = list(sys.path)
    select_solution(directory)  # forgets the last one
    out = io.StringIO()
    with contextlib.redirect_stdout(out), torch.random.fork_rng():
        try:
            exec(compile(text, "case.py", "exec"), {"__name__": "__main__"})
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    sys.path[:] = path
    return out.getvalue()


def last(said: str) -> str:
    return said.splitlines()[-1]


@pytest.mark.parametrize("task", TASKS)
def test_every_case_of_the_reference_is_right_as_a_program(task: str) -> None:
    for case in cases(task):
        text = CHECKS.show(task, case.name)
        assert text.isascii()
        said = ran(text, REFERENCE)
        assert last(said) == "right", f"{case.name}:\n{text}\n{said}"
        assert "expected" in said
        assert said.isascii()


def disagreements(entry: Entry, directory: Path) -> list[str]:
    """The cases of which the program of a wrong solution says something else than the test."""
    checks = Checks.of(write(entry.files, None, directory))
    outcomes = answered(entry.files, cases(entry.task)).outcomes
    found = []
    for case in cases(entry.task):
        said = ran(checks.show(entry.task, case.name), directory)
        same = (last(said) == "right") == (outcomes[case.name].verdict is Verdict.RIGHT)
        if not same:  # a program asks nothing before its own question, which a submission may remember
            outcome = answered(entry.files, [case]).outcomes[case.name]
            same = (last(said) == "right") == (outcome.verdict is Verdict.RIGHT)
        if not same:
            found.append(f"{entry.id}, {case.name}: the test says {outcome}, the program\n{said}")
    return found


WRONG = [each for each in mutants() if each.task in TASKS]


@pytest.mark.parametrize("entry", one_in_many(WRONG))
def test_a_program_says_what_the_test_says(entry: Entry, tmp_path: Path) -> None:
    assert disagreements(entry, tmp_path) == []

"""The handout's examples are Python: with the reference solution they print the numbers that stand there."""

import doctest
import inspect
import re

import pytest
from submissions import imported, reference_files

from autograder.rubric import load_rubric
from hw7.solution import PROJECT

HANDOUT = (PROJECT / "docs" / "handout.md").read_text()
# Headings of functions: "### Task 2.1: `kd_loss(student_logits, …)`", several tasks' worth of text under each.
SECTIONS = dict(re.findall(r"^### Task (\d\.\d): (.*?)(?=^### |^## |\Z)", HANDOUT, re.DOTALL | re.MULTILINE))


def test_examples_print_what_stands_there() -> None:
    examples = doctest.DocTestParser().get_doctest(HANDOUT.replace("```", ""), {}, "handout.md", "docs/handout.md", 0)
    assert len(examples.examples) >= 25
    with imported(reference_files()):
        result = doctest.DocTestRunner(verbose=False).run(examples, clear_globs=True)
    assert result.failed == 0  # doctest prints what differs


def test_every_task_of_the_rubric_has_its_section() -> None:
    assert list(SECTIONS) == [task.id for task in load_rubric().tasks]


@pytest.mark.parametrize("task", SECTIONS)
def test_a_section_has_all_that_a_task_needs(task: str) -> None:
    for part in ("Goal", "Formula", "Example", "Pitfalls"):
        assert f"**{part}.**" in SECTIONS[task], part
    assert f"`pytest -m task_{task.replace('.', '_')}`" in SECTIONS[task]
    assert len(set(re.findall(r"\d+(?:[.,]\d+)*", SECTIONS[task]))) >= 3, "a worked example has numbers"


def test_signatures_are_those_of_the_solution() -> None:
    """What a heading says of a function: the names of its arguments in order, and their defaults."""
    with imported(reference_files()) as solution:
        modules = (solution.models, solution.losses, solution.pruning, solution.quantization)
        for text in SECTIONS.values():
            for name, arguments in re.findall(r"`(\w+)\(([^`]*)\)`", text.partition("\n")[0]):
                function = next(getattr(module, name) for module in modules if hasattr(module, name))
                parameters = inspect.signature(function).parameters.values()
                said = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
                assert arguments.split(", ") == said, name

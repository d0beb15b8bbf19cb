"""The plain tests: no right solution fails one, stubs fail all, most wrong ones some; the example is the handout's."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from plain import failures, plain_tests
from submissions import Entry, alternatives, mutants, reference_files, write

from autograder.course.plain_tests import filled_in, worked_example
from autograder.course.release import ASSIGNMENT, REFERENCE
from autograder.rubric import load_rubric
from hw7 import HW7Error
from hw7.checks.public import TESTS
from hw7.solution import PROJECT

FILES = {"{}.{}".format(*path.name.split("_")[1:3]): path for path in sorted(TESTS.glob("test_[0-9]*.py"))}
TASKS = list(FILES)
# Of the wrong solutions of all tasks, so many fail a plain test of their task; the rest is for the cases from files.
CAUGHT = 0.5
STUBS = {name: (PROJECT / ASSIGNMENT / name).read_bytes() for name in reference_files()}


def test_every_task_with_functions_has_some() -> None:
    """But for tasks of your own: theirs are as welcome."""
    tasks = [task.id for task in load_rubric().tasks if task.has_cases]
    assert set(TASKS) <= set(tasks)
    assert len(TASKS) >= 12


@pytest.mark.parametrize("task", TASKS)
def test_the_reference_passes_and_stubs_fail_each_with_their_own_words(task: str) -> None:
    assert failures(reference_files(), task) == {}
    stubbed = failures(STUBS, task)
    assert stubbed.keys() == plain_tests(task).keys()
    for said in stubbed.values():
        assert f"Task {task}: " in said
        assert "NotImplementedError" in said


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_the_example_and_two_properties_or_more(task: str) -> None:
    path = FILES[task]
    tree = ast.parse(path.read_text())
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert tests[0].name == "test_the_example_of_the_handout"
    assert len(tests) >= 3
    assert (ast.get_docstring(tree) or "").startswith(f"Task {task} in plain words: ")
    names = sorted(path.name for path in TESTS.glob("test_*.py"))  # as pytest takes them
    assert names.index(path.name) < names.index("test_tasks.py")


@pytest.mark.parametrize("task", TASKS)
def test_the_example_is_the_handouts_and_stands_there_for_students(task: str) -> None:
    path = FILES[task]
    text = path.read_text()
    assert f'EXAMPLE = """\n{worked_example(task)}"""\n' in text
    assert "autograder" not in text
    handout = (PROJECT / "docs" / "handout.md").read_text()
    for line in worked_example(task).splitlines():
        assert line == "..." or "import" in line or line in handout
    source = (PROJECT / REFERENCE / "tests" / path.name).read_text()
    assert f'EXAMPLE = worked_example("{task}")' in source, "it is written once, in the handout"
    assert filled_in(source) == text


def test_an_example_brings_what_it_leans_on_and_no_more() -> None:
    said = worked_example("3.5")
    assert "from solution.pruning import iterative_prune\n" in said
    assert "def count(network):" in said
    assert "import torch" not in said
    with pytest.raises(HW7Error, match=r"no worked example of task 9\.9"):
        worked_example("9.9")


RIGHT = [entry for entry in alternatives() if entry.task in ("", *TASKS)]


@pytest.mark.parametrize(
    "entry",
    [pytest.param(each, id=each.id, marks=pytest.mark.slow if n % 24 else ()) for n, each in enumerate(RIGHT)],
)
def test_no_right_solution_fails_one(entry: Entry) -> None:
    tasks = [entry.task] if entry.task else TASKS
    assert {task: failed for task in tasks if (failed := failures(entry.files, task))} == {}


@pytest.mark.slow
def test_most_wrong_solutions_fail_one() -> None:
    wrong = [mutant for mutant in mutants() if mutant.task in TASKS and "not-imported" not in mutant.mistakes]
    missed = [mutant.id for mutant in wrong if not failures(mutant.files, mutant.task)]
    assert len(missed) <= (1 - CAUGHT) * len(wrong), missed


# ---- as pytest runs them -----------------------------------------------------------------------------------------


def ran(files: Mapping[str, bytes], marks: str, tmp_path: Path) -> str:
    """What pytest says in the folder of a homework with these files."""
    folder = tmp_path / "hw7"
    shutil.copytree(PROJECT / ASSIGNMENT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    write(files, None, folder)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ("-v", "--tb=short", "--strict-markers", "-p", "no:cacheprovider", "-c", os.devnull)
    command = [sys.executable, "-m", "pytest", *options, f"--rootdir={folder}", "-m", marks, "tests"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


def test_they_come_first_and_a_stub_says_so(tmp_path: Path) -> None:
    said = ran({}, "task_2_1", tmp_path)
    order = re.findall(r"^tests/(\w+)\.py::", said, re.MULTILINE)
    plain = len(plain_tests("2.1"))
    assert order[:plain] == ["test_2_1_kd_loss"] * plain
    assert set(order[plain:]) == {"test_tasks"}
    assert " passed" not in said
    assert said.count("E   NotImplementedError: Task 2.1: kd_loss") == plain - 1  # the example has it in its own words
    assert "Failed example:" in said


def test_a_file_that_cannot_be_imported_fails_its_own_tests_and_says_where(tmp_path: Path) -> None:
    sources = reference_files()
    files = {
        "solution/losses.py": b"def kd_loss(:\n",
        "solution/pruning.py": sources["solution/pruning.py"].replace(b"def channel_importance", b"def importance"),
    }
    said = ran(files, "task_2_1 or task_3_1 or task_3_2", tmp_path)
    assert "error" not in said.splitlines()[-1], said  # none while the tests were collected
    assert "import solution.losses raised SyntaxError" in said
    assert "(losses.py, line 1)" in said
    assert "solution/pruning.py has no function channel_importance" in said
    for name in plain_tests("3.2"):
        assert f"::{name} PASSED" in said


def test_what_the_function_prints_does_not_make_the_example_wrong() -> None:
    code = reference_files()["solution/pruning.py"].replace(b"def select_channels(", b"def _own(")
    code += b"\n\ndef select_channels(importance, keep):\n    print('keep', keep)\n    return _own(importance, keep)\n"
    assert failures({**reference_files(), "solution/pruning.py": code}, "3.2") == {}

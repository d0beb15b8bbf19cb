"""`hw7-grade new-task`: its stubs are in every room, say what is to be done, and break nothing; bad input is refused.

A task that is filled in, and then graded, is made in test_docs from the page for instructors.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from project_copy import HW7_GRADE, copy_project, run_in
from typer.testing import CliRunner

from autograder.cli import cli
from autograder.course import new_task as scaffolding
from autograder.course.new_task import ROOMS, left_to_do
from autograder.rubric import load_rubric
from hw7.solution import MODULES

LAST = {task.id.partition(".")[0]: task.id for task in load_rubric().tasks}
# The next task of each chapter, and a name for it.
NEW = {
    f"{number}.{int(LAST[number].partition('.')[2]) + 1}": (f"{'the_longest_one_' * (number == '4')}new_one", chapter)
    for number, chapter in zip("1234", MODULES, strict=True)
}


def test_no_stub_of_a_new_task_is_left() -> None:
    if stubs := left_to_do():
        reason = "a new task is not finished: fill in what `hw7-grade new-task` wrote here"
        pytest.fail("\n".join([reason, *stubs]), pytrace=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A project with a new task in each chapter, and what the command said of each."""
    folder, said = copy_project(tmp_path_factory.mktemp("project")), {}
    for task, (name, chapter) in NEW.items():
        result = run_in(folder, "-c", HW7_GRADE, "new-task", task, f"{name}_{chapter}", "--chapter", chapter)
        assert (result.returncode, result.stderr) == (0, "")
        said[task] = result.stdout
    return folder, said


def test_every_room_has_its_stub_and_the_list_says_where(copy: tuple[Path, dict[str, str]]) -> None:
    folder, said = copy
    for task, (_, chapter) in NEW.items():
        found = re.findall(rf"^(\S+):(\d+): (TODO {task}: .+)$", said[task], re.MULTILINE)
        assert {name for name, _, _ in found} == {room.format(chapter=chapter, task=task) for room in ROOMS}
    name, number, text = found[-1]
    assert text in (folder / name).read_text().splitlines()[int(number) - 1]
    assert "hw7-grade release" in said[task]


def test_what_is_written_is_formatted_python_that_can_be_imported(copy: tuple[Path, dict[str, str]]) -> None:
    folder, _ = copy
    for words in (["check", "--output-format", "concise"], ["format", "--check"]):
        result = run_in(folder, "-m", "ruff", *words, ".")
        assert result.returncode == 0, result.stdout
    names = [f"{name}_{chapter}" for name, chapter in NEW.values()]
    code = f"""
import json
from importlib import import_module
from autograder.rubric import load_rubric
from hw7.checks.calls.run import PROGRAMS
from hw7.checks.mistakes.__main__ import as_page
from hw7.solution import MODULES, load_solution
rubric = load_rubric()
assert {set(names)} <= set(PROGRAMS)
assert [as_page()] == [open("docs/mistakes.md").read()]
solution = load_solution("reference_solutions/hw7")
for name, chapter in zip({names}, MODULES):
    assert callable(getattr(getattr(solution, chapter), name))
    assert callable(getattr(import_module(f"autograder.tasks.{{chapter}}.cases"), name))
print(json.dumps([task.id for task in rubric.tasks if task.out_of == 0]))
"""
    result = run_in(folder, "-c", code)
    assert (result.stderr, json.loads(result.stdout or "0")) == ("", list(NEW))


@pytest.mark.slow
def test_tests_and_commands_say_that_a_stub_is_left(copy: tuple[Path, dict[str, str]]) -> None:
    folder, said = copy
    test = "tests/project/test_new_task.py::test_no_stub_of_a_new_task_is_left"
    result = run_in(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    for task in NEW:
        for place in re.findall(rf"^\S+:\d+: TODO {task}: .+$", said[task], re.MULTILINE):
            assert place.partition(": ")[2] in result.stdout
    result = run_in(folder, "-c", HW7_GRADE, "release")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert f"task {next(iter(NEW))} is still a stub: fill in" in result.stderr


PRUNING = next(task for task, (_, chapter) in NEW.items() if chapter == "pruning")


@pytest.mark.parametrize(
    ("task", "name", "chapter", "reason"),
    [
        (LAST["3"], "penalty", "pruning", f"there is a task {LAST['3']} already"),
        ("4.9", "penalty", "pruning", f"the next one is {PRUNING}"),
        ("3.99", "penalty", "pruning", f"the next one is {PRUNING}"),
        ("three", "penalty", "pruning", f"the next one is {PRUNING}"),
        (PRUNING, "penalty", "final", "no chapter that can have a new task"),
        (PRUNING, "penalty", "../pruning", "no chapter that can have a new task"),
        (PRUNING, "slimming penalty", "pruning", "cannot be the name"),
        (PRUNING, "lambda", "pruning", "cannot be the name"),
        (PRUNING, "_penalty", "pruning", "cannot be the name"),
        (PRUNING, "p" * 37, "pruning", "cannot be the name"),
        (PRUNING, "select_channels", "pruning", "is the name of a check"),
        (PRUNING, "dequantize", "pruning", "is taken in reference_solutions/hw7/solution/quantization.py"),
        (PRUNING, "final_model", "pruning", "is taken in reference_solutions/hw7/solution/models.py"),
        (PRUNING, "kd_shift", "pruning", "is taken in hw7/checks/calls/losses.py"),
        (PRUNING, "slimmed", "pruning", "is taken in autograder/tasks/pruning/oracle.py"),
        (PRUNING, "size", "pruning", "is the name of a check"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    task: str, name: str, chapter: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses([task, name, "--chapter", chapter], reason, monkeypatch)


def test_a_tree_that_is_no_clone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hw7.solution.PROJECT", tmp_path)
    refuses([PRUNING, "penalty", "--chapter", "pruning"], "has no reference_solutions/hw7", monkeypatch)


def test_what_a_project_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [PRUNING, "penalty", "--chapter", "pruning"]
    monkeypatch.setattr(scaffolding, "ANSWERS", "docs/handout.md")
    refuses(words, "docs/handout.md is there already, without a task", monkeypatch)
    monkeypatch.setattr(scaffolding, "load_rubric", lambda: SimpleNamespace(tasks=()))
    refuses(words, "has no task of the chapter pruning", monkeypatch)


def refuses(words: list[str], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, data: bytes) -> None:
        raise AssertionError(f"{path} is written")

    monkeypatch.setattr(scaffolding, "write_file", write)
    error = CliRunner().invoke(cli, ["new-task", *words]).exception
    assert type(error).__name__ == "HW7Error"
    assert reason in str(error)
    assert "\n" not in str(error)

"""Loading a solution directory: its own code and no other's, and errors that name the student's file and line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hw7 import HW7Error, solution
from hw7.solution import MODULES, default_directory, load_solution, running


@pytest.fixture(autouse=True)
def _leave_nothing_loaded() -> Iterator[None]:
    """The modules of other test files must not find these solutions in place of theirs."""
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "solution"}
    path = list(sys.path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "solution"]:
        del sys.modules[name]
    sys.modules.update(modules)
    sys.path[:] = path


def write_solution(directory: Path, **modules: str) -> Path:
    """Four small modules that say where they are; `modules` gives others."""
    package = directory / "solution"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name in (*MODULES, *modules):
        (package / f"{name}.py").write_text(modules.get(name, f"WHERE = {directory.name!r}\n"))
    return directory


def test_each_solution_gives_its_own_code(tmp_path: Path) -> None:
    """The same names, twice over, a helper module that only one of them has and imports between modules."""
    helped = {"losses": "from solution.helper import WHERE\n", "pruning": "from .models import WHERE\n"}
    first = write_solution(tmp_path / "first", **helped, helper="WHERE = 'first'\n")
    second = write_solution(tmp_path / "second", **helped, helper="WHERE = 'second'\n")
    third = write_solution(tmp_path / "third", losses="from solution.helper import WHERE\n")
    for directory in (first, second, first):
        loaded = load_solution(directory)
        assert loaded.directory == directory
        assert [getattr(loaded, name).WHERE for name in MODULES] == [directory.name] * 4
        assert [entry for entry in sys.path if entry.startswith(str(tmp_path))] == [str(directory)]
    with pytest.raises(HW7Error, match=r"No module named 'solution\.helper'"):
        load_solution(third)


def test_modules_of_an_earlier_solution_go_on_working(tmp_path: Path) -> None:
    loaded = [load_solution(write_solution(tmp_path / name, models=f"def who(): return {name!r}")) for name in "ab"]
    assert [each.models.who() for each in loaded] == ["a", "b"]


def test_digest_changes_with_the_code_and_nothing_else(tmp_path: Path) -> None:
    directory = write_solution(tmp_path / "a")
    digest = load_solution(directory).digest
    (directory / "weights.safetensors").write_bytes(b"x")
    assert load_solution(directory).digest == digest
    assert load_solution(write_solution(tmp_path / "b" / "a")).digest == digest  # wherever it lies
    (directory / "solution" / "helper.py").write_text("")
    assert load_solution(directory).digest != digest


def test_digest_is_of_what_the_code_does(tmp_path: Path) -> None:
    """Results are kept when a comment is edited, and when Jupyter puts a copy of a file beside it."""
    directory = write_solution(tmp_path / "a", models="RATE = 1  # a rate\n", notes="not Python at all\n")
    digest = load_solution(directory).digest
    models = directory / "solution" / "models.py"
    models.write_text('"""The rate."""\n\nRATE = (1)\n')
    copies = directory / "solution" / ".ipynb_checkpoints"
    copies.mkdir()
    (copies / "models-checkpoint.py").write_text("RATE = 2\n")
    assert load_solution(directory).digest == digest
    models.write_text("RATE = 1.0\n")
    assert load_solution(directory).digest != digest


def test_code_that_was_edited_is_loaded_anew(tmp_path: Path) -> None:
    directory = write_solution(tmp_path / "a", models="ANSWER = 41\n")
    assert load_solution(directory).models.ANSWER == 41
    (directory / "solution" / "models.py").write_text("ANSWER = 40 + 2\n")  # of another length, so newer for sure
    assert load_solution(directory).models.ANSWER == 42


def test_missing_files_are_named(tmp_path: Path) -> None:
    directory = write_solution(tmp_path / "a")
    (directory / "solution" / "losses.py").unlink()
    (directory / "solution" / "__init__.py").unlink()
    with pytest.raises(HW7Error, match=r"lacks solution/__init__\.py, solution/losses\.py"):
        load_solution(directory)
    with pytest.raises(HW7Error, match="is not a solution directory"):
        load_solution(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("def kd_loss(:\n", ["SyntaxError", "losses.py", "line 1"]),
        ("import os\n\n1 / 0\n", ["ZeroDivisionError", "losses.py, line 3", "division by zero"]),
        ("import no_such_module\n", ["ModuleNotFoundError", "losses.py, line 1", "no_such_module"]),
        ("raise NotImplementedError('task 2.1')\n", ["not done yet", "task 2.1"]),
    ],
)
def test_code_that_does_not_import(tmp_path: Path, code: str, parts: list[str]) -> None:
    directory = write_solution(tmp_path / "a", losses=code)
    with pytest.raises(HW7Error) as caught:
        load_solution(directory)
    for part in ("import solution.losses", *parts):
        assert part in str(caught.value)


def test_a_broken_solution_does_not_stay(tmp_path: Path) -> None:
    with pytest.raises(HW7Error):
        load_solution(write_solution(tmp_path / "broken", quantization="1 / 0\n"))
    assert load_solution(write_solution(tmp_path / "whole")).models.WHERE == "whole"


def test_running_names_the_students_file_and_line(tmp_path: Path) -> None:
    code = "def prune(f):\n    x = 1\n    return f() / x\n"
    loaded = load_solution(write_solution(tmp_path / "a", pruning=code))

    def ours() -> float:
        raise ValueError("no such width")

    with (
        pytest.raises(HW7Error, match=r"task 3 raised ValueError at .*pruning\.py, line 3: no such width"),
        running("task 3", loaded.directory),
    ):
        loaded.pruning.prune(ours)  # raised below the student's line, which is the one to name


def test_running_says_what_is_not_done_yet(tmp_path: Path) -> None:
    loaded = load_solution(
        write_solution(tmp_path / "a", losses="def kd_loss():\n    raise NotImplementedError('task 2.1')\n")
    )
    with (
        pytest.raises(HW7Error, match=r"losses\.kd_loss: not done yet: task 2\.1"),
        running("losses.kd_loss", tmp_path),
    ):
        loaded.losses.kd_loss()


@pytest.mark.parametrize("error", [KeyError("ours"), HW7Error("the disk is full"), KeyboardInterrupt()])
def test_running_leaves_errors_that_are_not_the_students(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, running("task 3", tmp_path):
        raise error
    assert caught.value is error


def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference where there is one, else the student's own; an instructor's checkout has both."""
    monkeypatch.setattr(solution, "PROJECT", tmp_path)
    with pytest.raises(HW7Error, match="--solution DIR"):
        default_directory()
    assignment = write_solution(tmp_path / "assignments" / "hw7")
    assert default_directory() == assignment
    assert load_solution().directory == assignment
    reference = write_solution(tmp_path / "reference_solutions" / "hw7")
    assert default_directory() == reference
